"""What it means: rules judge saved evidence, and the runner ranks what they found by the time it would win back."""

#: Modules of the built-in rules, in the order in which they are listed.
BUILTIN = (
    "perfloop.diagnose.rules.database.missing_index",
    "perfloop.diagnose.rules.database.postgres_health",
    "perfloop.diagnose.rules.database.mysql_health",
    "perfloop.diagnose.rules.app.n_plus_one",
    "perfloop.diagnose.rules.app.pool_exhausted",
    "perfloop.diagnose.rules.app.event_loop_blocked",
    "perfloop.diagnose.rules.app.superlinear",
    "perfloop.diagnose.rules.app.cpu_hot_spot",
    "perfloop.diagnose.rules.app.lock_contention",
    "perfloop.diagnose.rules.app.slow_downstream",
    "perfloop.diagnose.rules.app.memory_leak",
    "perfloop.diagnose.rules.cache.cache_ineffective",
    "perfloop.diagnose.rules.cache.redis_health",
    "perfloop.diagnose.rules.cache.memcached_health",
    "perfloop.diagnose.rules.os.cpu_saturated",
    "perfloop.diagnose.rules.network.retransmits",
)
