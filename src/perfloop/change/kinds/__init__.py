"""The kinds of change, one file each; third parties add theirs by the entry point ``perfloop.changes``."""

BUILTIN = (
    "perfloop.change.kinds.postgres_index",
    "perfloop.change.kinds.postgres_index_definition",
    "perfloop.change.kinds.postgres_analyze",
    "perfloop.change.kinds.postgres_statistics",
    "perfloop.change.kinds.postgres_vacuum",
    "perfloop.change.kinds.postgres_setting",
    "perfloop.change.kinds.postgres_database_setting",
    "perfloop.change.kinds.postgres_table_options",
    "perfloop.change.kinds.app_setting",
    "perfloop.change.kinds.config_file",
    "perfloop.change.kinds.mysql_setting",
    "perfloop.change.kinds.redis_setting",
    "perfloop.change.kinds.nginx_setting",
    "perfloop.change.kinds.workers",
    "perfloop.change.kinds.sysctl",
    "perfloop.change.kinds.cgroup_limit",
    "perfloop.change.kinds.code",
    "perfloop.change.kinds.test_data",
)
