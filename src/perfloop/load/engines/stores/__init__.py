"""Load on a database or cache itself: the same users and journeys, that ask by SQL or by Redis commands instead of HTTP. One driver a file."""
