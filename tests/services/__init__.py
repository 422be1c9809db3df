"""Real servers for tests and benches: each started privately on free ports in a folder of its own, and ended by its process id.

``with mariadb(folder) as server:`` and so on; the fixtures of the same names (``services/fixtures.py``) are there in every test.
The programs come from the distribution: ``make services`` installs them and starts no daemon.
"""

from services.mariadb import MariaDb, mariadb
from services.memcached import memcached
from services.nginx import nginx
from services.pgbouncer import pgbouncer
from services.postgres import Postgres, postgres
from services.redis import redis_server
from services.server import Server, free_port, started

__all__ = ["MariaDb", "Postgres", "Server", "free_port", "mariadb", "memcached", "nginx", "pgbouncer", "postgres", "redis_server", "started"]
