"""What each exit code says; printed by ``perfloop --help`` and ``perfloop explain CODE``."""

from __future__ import annotations

FINE, NO, ASKED_WRONGLY, NOT_MEASURED, INCONCLUSIVE, STUCK, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

EXIT_CODES: dict[int, str] = {
    FINE: "Answered, and the answer is fine. improve: it ended safely and its goal was met, whatever it undid on the way. An inconclusive answer too, unless --strict.",
    NO: "Answered, and the answer is no: SLO missed, regression, goal not met, change refused, audit log damaged.",
    ASKED_WRONGLY: "Asked wrongly: a flag, the configuration, a bound, an unknown name. Nothing has run.",
    NOT_MEASURED: "Could not measure, or the measurement was invalid; also an unexpected error in perfloop itself, whose details are then in .perfloop/crash-*.txt.",
    INCONCLUSIVE: "A gate was inconclusive.",
    STUCK: "An undo failed: the system may be changed. The commands to run by hand are printed.",
    INTERRUPTED: "Interrupted by Ctrl-C or SIGTERM: what was changed is undone, partial results are kept.",
}
