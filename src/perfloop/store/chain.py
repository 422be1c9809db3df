"""The hash chain of the audit log: canonical JSON, the hash of a line, and the check of a sequence of lines."""

from __future__ import annotations

import hashlib
import json
from typing import Any

#: the hash before the first line
GENESIS = "0" * 64


def canonical(record: dict[str, Any]) -> bytes:
    """One JSON text per value: sorted keys, no spaces, UTF-8; the ``hash`` field itself is left out."""
    return json.dumps(
        {key: value for key, value in record.items() if key != "hash"}, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def line_hash(record: dict[str, Any]) -> str:
    """SHA-256 over the canonical JSON of a line, which contains the hash of the line before."""
    return hashlib.sha256(canonical(record)).hexdigest()


def check_line(text: str, sequence: int, previous_hash: str) -> tuple[dict[str, Any] | None, str]:
    """The line as a record (None where it is no JSON object), and what is wrong with it, empty where nothing is."""
    try:
        record = json.loads(text)
    except ValueError:
        return None, "is no JSON"
    if not isinstance(record, dict):
        return None, "is no JSON object"
    if record.get("hash") != line_hash(record):
        return record, "was edited: its content does not give its hash"
    if record.get("sequence") != sequence or record.get("previous_hash") != previous_hash:
        return record, f"does not follow the line before (sequence {record.get('sequence')}, expected {sequence}): a line was removed, inserted or moved"
    return record, ""
