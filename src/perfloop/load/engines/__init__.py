"""Engines that send load. Each module has ``ID``, ``available()`` and ``run(workload)``; sockets and processes are opened here."""

#: Built-in engines, by module; others come in by the entry-point group ``perfloop.engines``.
BUILTIN: tuple[str, ...] = ("perfloop.load.engines.http", "perfloop.load.engines.database", "perfloop.load.engines.locust", "perfloop.load.engines.k6")
