"""The keys of the audit log: one that seals its lines on this machine, and, where it was asked for, one that signs its head for others."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

from perfloop.errors import StorageError, UsageError
from perfloop.host.files import read_limited, storage_error, write_atomic

KEY_BYTES = 32
_KEY_MAX_BYTES = 4096


def key_file(root: Path) -> Path:
    """Where the sealing key is: ``PERFLOOP_AUDIT_KEY``, best a place that only the log's writer can read, else beside the log."""
    configured = os.environ.get("PERFLOOP_AUDIT_KEY", "")
    return Path(configured) if configured else root / "audit.key"


def mac_key(path: Path) -> bytes:
    """The sealing key, made where there is none; ``StorageError`` where it cannot be read or is too short."""
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return _made(path)
    except OSError as error:
        raise storage_error(error, path, "read") from None
    if len(key) < KEY_BYTES:
        raise StorageError(f"the key of the audit log is damaged: {path}", why=f"it has {len(key)} bytes, not {KEY_BYTES}", fix="put back the right one")
    return key


def _made(path: Path) -> bytes:
    """Linked into its place whole, so that of two that make one at the same time both use the same."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.new")
    try:
        write_atomic(temporary, secrets.token_bytes(KEY_BYTES), mode=0o600)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink(missing_ok=True)
        return path.read_bytes()
    except OSError as error:
        raise storage_error(error, path, "write") from None


def parsed(anchor: str) -> tuple[str, int, str]:
    """Key id, line and hash of an anchor; ``UsageError`` where it is none."""
    key, _, rest = anchor.partition(":")
    count, _, line_hash = rest.partition(":")
    if not count.isdigit() or len(line_hash) != 64:
        raise UsageError(f"{anchor[:80]!r} is no anchor of an audit log", why="it is KEY:LINES:HASH, as reports and perfloop log print it", fix="copy it whole")
    return key, int(count), line_hash


def make_signing_key(root: Path) -> str:
    """Makes the Ed25519 key that signs anchors, and returns the public key (PEM); ``UsageError`` where there is one, or ``cryptography`` is missing."""
    from perfloop.store import signing

    path = root / "audit-signing.pem"
    if path.exists():
        raise UsageError("there is a signing key already", why=str(path), fix="move it away first; what it signed stays valid by its public key")
    private, public = signing.new_key()
    write_atomic(path, private, mode=0o600)
    return public


def signed(root: Path, anchor: str) -> dict[str, str]:
    """The anchor, its signature and the public key; empty where no signing key was made."""
    path = root / "audit-signing.pem"
    if not path.exists():
        return {}
    from perfloop.store import signing

    signature, public = signing.sign(read_limited(path, _KEY_MAX_BYTES), anchor.encode())
    return {"anchor": anchor, "signature": base64.b64encode(signature).decode(), "public_key": public}


def check_signature(anchor: str, signature: str, public_key: str) -> bool:
    """True where that key signed that anchor."""
    from perfloop.store import signing

    return signing.valid(public_key.encode(), base64.b64decode(signature), anchor.encode())
