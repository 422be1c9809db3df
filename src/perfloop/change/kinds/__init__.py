"""The kinds of change, one file each; third parties add theirs by the entry point ``perfloop.changes``."""

BUILTIN = (
    "perfloop.change.kinds.postgres_index",
    "perfloop.change.kinds.app_setting",
    "perfloop.change.kinds.code",
    "perfloop.change.kinds.test_data",
)
