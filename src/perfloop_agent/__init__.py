"""Counters inside a Python service, put in by ``perfloop run -- CMD``. Standard library only; imports nothing of perfloop, so that it fits any environment.

It counts database queries, cache calls and outgoing HTTP calls of each request, with file and line, and answers perfloop over a local socket. A failure in here is
swallowed and counted, and leaves the call that was being counted alone.
"""

VERSION = "1"
