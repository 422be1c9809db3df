"""Settings worth a race, by product: what an expert would try first, within the limits of the machine. Pure: facts in, proposals out.

Few candidates and every one with a reason; the race and the proof decide, not these rules. Settings that trade safety for speed (``fsync``,
``synchronous_commit``, persistence of Redis) are never among them.
"""

from perfloop.change.tuning.candidates import Facts, candidates_for

__all__ = ["Facts", "candidates_for"]
