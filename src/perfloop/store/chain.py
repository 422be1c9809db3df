"""The hash chain of the audit log: canonical JSON, the hash of a line, and the check of a sequence of lines."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

#: the hash before the first line
GENESIS = "0" * 64


def canonical(record: dict[str, Any]) -> bytes:
    """One JSON text per value: sorted keys, no spaces, UTF-8; ``hash`` and ``mac`` themselves are left out."""
    return json.dumps(
        {key: value for key, value in record.items() if key not in ("hash", "mac")}, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def line_hash(record: dict[str, Any]) -> str:
    """SHA-256 over the canonical JSON of a line, which contains the hash of the line before."""
    return hashlib.sha256(canonical(record)).hexdigest()


def keyed(key: bytes, text: str) -> str:
    """HMAC-SHA-256 of a text: what nobody can make without the key. A keyless chain can be written anew from any line on; this cannot."""
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def key_id(key: bytes) -> str:
    """Names a key without telling it."""
    return keyed(key, "perfloop audit key")[:12]


def check_line(text: str, sequence: int, previous_hash: str, key: bytes | None) -> tuple[dict[str, Any] | None, str]:
    """The line as a record (None where it is no JSON object), and what is wrong with it, empty where nothing is. ``key`` None: from before there was one."""
    try:
        record = json.loads(text)
    except ValueError:
        return None, "is no JSON"
    if not isinstance(record, dict):
        return None, "is no JSON object"
    if record.get("hash") != line_hash(record):
        return record, "was edited: its content does not give its hash"
    if key is not None and not hmac.compare_digest(str(record.get("mac", "")), keyed(key, str(record["hash"]))):
        return record, "was written without the log's key"
    if record.get("sequence") != sequence or record.get("previous_hash") != previous_hash:
        return record, f"does not follow the line before (sequence {record.get('sequence')}, expected {sequence}): a line was removed, inserted or moved"
    return record, ""
