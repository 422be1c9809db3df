"""Functions of PostgreSQL and MySQL by what they do: those that write, reach out or harm, and those that only compute."""

from __future__ import annotations

import re

# Name (or its beginning, with *) → what it does. Source: PostgreSQL 18 documentation, chapter 9.28 and the contrib modules; MySQL 8.4, chapter 14.
HARMFUL: dict[str, str] = {
    "pg_terminate_backend": "ends sessions",
    "pg_cancel_backend": "cancels queries",
    "pg_reload_conf": "reloads the server's configuration",
    "pg_rotate_logfile*": "rotates the server's log",
    "pg_log_*": "writes to the server's log",
    "pg_read_file*": "reads files of the server",
    "pg_read_binary_file": "reads files of the server",
    "pg_read_server_files": "reads files of the server",
    "pg_ls_*": "lists folders of the server",
    "pg_stat_file": "looks at files of the server",
    "pg_file_*": "changes files of the server",
    "lo_*": "writes large objects or files of the server",
    "lowrite": "writes large objects",
    "loread": "reads large objects through a descriptor that may write",
    "dblink*": "connects to another database",
    "postgres_fdw_disconnect*": "closes connections of the server",
    "setval": "sets a sequence",
    "nextval": "advances a sequence",
    "set_config": "changes a setting",
    "pg_advisory_*": "takes locks",
    "pg_try_advisory_*": "takes locks",
    "pg_notify": "sends notifications",
    "pg_export_snapshot": "writes a file of the server",
    "pg_switch_wal": "switches the write-ahead log",
    "pg_create_*": "creates restore points or replication slots",
    "pg_copy_*": "copies replication slots",
    "pg_drop_*": "drops replication slots",
    "pg_replication_*": "changes replication",
    "pg_logical_*": "writes to or consumes the write-ahead log",
    "pg_sync_replication_slots": "changes replication",
    "pg_backup_*": "starts or ends a backup",
    "pg_start_backup": "starts a backup",
    "pg_stop_backup": "ends a backup",
    "pg_promote": "promotes a standby",
    "pg_wal_replay_*": "pauses or resumes recovery",
    "pg_stat_reset*": "resets statistics",
    "pg_stat_statements_reset": "resets statistics",
    "pg_stat_clear_snapshot": "changes what the session sees",
    "pg_restore_*": "writes statistics",
    "pg_clear_*": "clears statistics",
    "pg_set_*": "writes catalogue data",
    "pg_import_system_collations": "writes the catalogue",
    "pg_extension_config_dump": "writes the catalogue",
    "pg_nextoid": "advances a counter",
    "pg_prewarm": "fills the buffer cache",
    "pg_buffercache_*": "evicts the buffer cache",
    "pg_truncate_visibility_map": "truncates a map of the server",
    "brin_summarize_*": "writes an index",
    "brin_desummarize_*": "writes an index",
    "gin_clean_pending_list": "writes an index",
    "autoprewarm_*": "starts a process of the server",
    "query_to_xml*": "runs another statement from text",
    "cursor_to_xml*": "runs another statement",
    "ts_stat": "runs another statement from text",
    "ts_rewrite": "may run another statement from text",
    "crosstab*": "runs another statement from text",
    "connectby": "runs another statement from text",
    "xpath_table": "runs another statement from text",
    "http_*": "connects to another server",
    "load_file": "reads files of the server",
    "load_extension": "loads code",
    "benchmark": "repeats an expression to burn time",
    "get_lock": "takes locks",
    "release_lock": "releases locks",
    "release_all_locks": "releases locks",
    "is_used_lock": "looks at locks of others",
    "master_pos_wait": "waits for replication",
    "source_pos_wait": "waits for replication",
    "wait_for_executed_gtid_set": "waits for replication",
    "last_insert_id": "may set the session's counter",
    "sys_exec": "runs programs on the server",
    "sys_eval": "runs programs on the server",
    "sys_set": "changes the server's environment",
    "keyring_*": "changes keys",
    "group_replication_*": "changes replication",
    "asynchronous_connection_failover_*": "changes replication",
}
SLEEPS = ("pg_sleep", "pg_sleep_for", "pg_sleep_until", "sleep")
SLEEP_MAX_S = 1.0
_EXACT = {name: what for name, what in HARMFUL.items() if not name.endswith("*")}
_BEGINNINGS = tuple((name[:-1], what) for name, what in HARMFUL.items() if name.endswith("*"))
_READING_LO = ("lo_get",)

# Functions that only compute or look, beside all those that the parser itself knows.
_KNOWN = re.compile(
    r"^(?:jsonb?_\w+|to_\w+|array_\w+|string_\w+|regexp_\w+|range_\w+|date_\w+|timezone|generate_\w+|has_\w+_privilege|obj_description|col_description|shobj_description|format_type"
    r"|pg_get_\w+|pg_\w*size\w*|pg_stat_get_\w+|pg_typeof|pg_is_\w+|pg_has_role|pg_table_is_visible|pg_backend_pid|pg_blocking_pids|pg_encoding_to_char|pg_relation_\w+|pg_indexes_size"
    r"|current_\w+|inet_\w+|txid_\w+|ts_\w+|\w*to_tsquery|to_tsvector|setweight|numnode|similarity|word_similarity|st_\w+|percentile_\w+|width_bucket|num_nulls|num_nonnulls"
    r"|xml\w*|xpath\w*|int[248]|float[48]|numeric|text|date|time\w*|bool|uuid\w*|gen_random_uuid|random\w*|setseed|clock_timestamp|statement_timestamp|transaction_timestamp|make_\w+|age|justify_\w+"
    r"|convert\w*|decode|encode|md5|sha\d+|digest|crc32\w*|format|quote_\w+|overlay|translate|initcap|btrim|octet_length|bit_length|get_bit|get_byte|host|network|masklen|family|broadcast|netmask"
    r"|isempty|lower_inc|upper_inc|row|row_to_json|unaccent|nullif|version|user|database|schema|found_rows|connection_id|row_count|bin_to_uuid|uuid_to_bin|format_bytes|find_in_set|field|elt|conv|hex|oct|bin|ord"
    r"|mask\w*|group_concat|any_value|bit_\w+|every|grouping|mode|corr|covar_\w+|regr_\w+|trunc|div|mod|scale|min_scale|trim_scale|factorial|gcd|lcm|cbrt|cardinality|unnest|hstore|akeys|avals|skeys|each|tablefunc|lo_get)$"
)


def harm_of(name: str) -> str:
    """What a function does that a load test must not; empty where nothing is known against it."""
    name = name.lower()
    if name in _READING_LO:
        return ""
    return _EXACT.get(name) or next((what for beginning, what in _BEGINNINGS if name.startswith(beginning)), "")


def known_harmless(name: str) -> bool:
    """True where the function is known to compute or look only."""
    return bool(_KNOWN.match(name.lower()))
