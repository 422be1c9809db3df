"""Statistics of columns kept aside and put back, by PostgreSQL 18's own functions. What is kept holds values: a private before-image, deleted with the change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from perfloop.change.base import ChangeContext
from perfloop.change.postgres import Connection
from perfloop.host.files import read_limited, write_atomic
from perfloop.model.change import Change

RESTORES_FROM = 180_000
_FIELDS = {
    "null_frac": "real",
    "avg_width": "integer",
    "n_distinct": "real",
    "most_common_vals": "text",
    "most_common_freqs": "real[]",
    "histogram_bounds": "text",
    "correlation": "real",
    "most_common_elems": "text",
    "most_common_elem_freqs": "real[]",
    "elem_count_histogram": "real[]",
}
_READ = f"""
SELECT a.attname::text, {", ".join(f"s.{name}::text" for name in _FIELDS)} FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname AND NOT s.inherited
WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped AND (%s::text[] = '{{}}' OR a.attname = ANY (%s::text[]))"""  # noqa: S608 - our own names


def image_of(change: Change, context: ChangeContext) -> Path | None:
    """Where the statistics of before are kept while the change is open or kept."""
    return context.image_dir / f"{change.id}.statistics" if context.image_dir else None


def keep_aside(connection: Connection, change: Change, context: ChangeContext) -> bool:
    """Writes the statistics of the change's columns to the before-image (once); False where this server could not put them back."""
    image = image_of(change, context)
    if image is None or connection.info.server_version < RESTORES_FROM:
        return False
    if not image.exists():
        params = change.params
        rows = connection.execute(_READ.encode(), (params["schema"], params["table"], params["columns"], params["columns"])).fetchall()
        write_atomic(image, json.dumps([list(row) for row in rows]).encode(), mode=0o600)
    return True


def put_back(connection: Connection, change: Change, context: ChangeContext) -> bool:
    """Restores (or clears) them as they were; False where nothing was kept aside."""
    image = image_of(change, context)
    if image is None or not image.exists():
        return False
    params = change.params
    for attname, *values in json.loads(read_limited(image, 64 * 2**20)):
        given = [(name, value) for name, value in zip(_FIELDS, values, strict=True) if value is not None]
        where = "'schemaname', %s::text, 'relname', %s::text, 'attname', %s::text, 'inherited', false"
        identity: tuple[Any, ...] = (params["schema"], params["table"], attname)
        connection.execute(b"SELECT pg_catalog.pg_clear_attribute_stats(%s, %s, %s, false)", identity)
        if given:
            values_text = ", ".join(f"'{name}', %s::{_FIELDS[name]}" for name, _ in given)
            text = f"SELECT pg_catalog.pg_restore_attribute_stats({where}, {values_text})"
            connection.execute(text.encode(), (*identity, *(value for _, value in given)))
    return True


def present(connection: Connection, change: Change) -> dict[str, bool]:
    """Which of the change's columns have statistics now."""
    params = change.params
    return {
        row[0]: row[1] is not None
        for row in connection.execute(_READ.encode(), (params["schema"], params["table"], params["columns"], params["columns"])).fetchall()
    }
