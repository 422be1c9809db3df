"""Secrets: resolved from references at the moment of use, and taken out of every text that is shown or stored."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from perfloop.errors import UsageError

HIDDEN = "***"
SECRET_MAX_BYTES = 64 * 1024
_REFERENCE = re.compile(r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$")
_NAMES = r"(?:[A-Za-z0-9_.-]{0,60}(?:passw(?:or)?d|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential|signature|session[_-]?id|authorization)[A-Za-z0-9_-]{0,60}|pwd|pass|auth|sig|jwt|sid|code)"
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S), HIDDEN),
    # scheme://user:password@host; the password may hold an @ that nobody escaped, so up to the last one before the path
    (re.compile(r"([a-z][a-z0-9+.-]{1,30}://[^\s:/@?#'\"]{0,200}):[^\s/'\"]{1,500}@", re.I), rf"\1:{HIDDEN}@"),
    # a password that itself holds a slash: still hidden, up to the last @ of the word
    (re.compile(r"([a-z][a-z0-9+.-]{1,30}://[^\s:/@?#'\"]{1,200}):(?!\d{1,5}(?:[/?#\s]|$))(?!\*\*\*@)[^\s'\"]{1,500}@", re.I), rf"\1:{HIDDEN}@"),
    (re.compile(r"\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key|x-auth-token)(['\"]?\s*[:=]\s*['\"]?)[^\r\n'\"]+", re.I), rf"\1\2{HIDDEN}"),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.I), rf"\1 {HIDDEN}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)?"), HIDDEN),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[pousr]_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{20,}|\bxox[baprs]-[A-Za-z0-9-]{10,}"), HIDDEN),
    # name=value: in key-value DSNs, query strings, environments, options
    (re.compile(rf"((?<![A-Za-z0-9_.-])(?:--?)?{_NAMES}(['\"]?)\s*[=:]\s*)(?:(['\"])(?:(?!\3)[^\\]|\\.)*\3|[^\s&;,'\"#)}}\]]+)", re.I), rf"\1\3{HIDDEN}\3"),
    (re.compile(r"([?&][A-Za-z0-9_.-]{1,60}=)[^\s&#'\"@%]{1,64}(?:@|%40)[^\s&#'\"]{1,120}"), rf"\1{HIDDEN}"),  # an e-mail address in a query string
)
_SECRET_OPTION = re.compile(rf"^--?{_NAMES}$", re.I)


def resolve(reference: str, base_dir: str | Path | None = None) -> str:
    """The secret behind ``env:NAME`` or ``file:PATH`` (relative to ``base_dir``), without the line end; UsageError names the reference, never the value."""
    if not _REFERENCE.match(reference):
        raise UsageError(
            "a credential must be a reference, not the credential itself",
            "what stands there is neither env:NAME nor file:PATH",
            "put the value into an environment variable and write env:NAME, or into a file (mode 0600) and write file:PATH",
        )
    scheme, _, name = reference.partition(":")
    if scheme == "env":
        value = os.environ.get(name, "")
        if not value:
            raise UsageError(
                f"the credential {reference} is not set",
                f"the environment variable {name} is {'empty' if name in os.environ else 'missing'}",
                f"export {name}=…",
            )
        return value
    path = Path(base_dir or ".") / Path(name).expanduser()
    try:
        with path.open("rb") as file:
            data = file.read(SECRET_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"the credential {reference} cannot be read", error.strerror or type(error).__name__, f"put it into {path}, mode 0600") from None
    if len(data) > SECRET_MAX_BYTES:
        raise UsageError(
            f"the credential {reference} cannot be read", f"the file is larger than {SECRET_MAX_BYTES} bytes", "name the file that holds the credential alone"
        )
    try:
        value = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise UsageError(f"the credential {reference} cannot be read", "the file is not UTF-8 text", "write the credential as text") from None
    if not value:
        raise UsageError(f"the credential {reference} is empty", f"{path} has no content", "write the credential into it")
    return value


def redact(text: str) -> str:
    """The text with passwords of DSNs and URLs, tokens, authorisation and cookie headers, keys, and secrets and e-mail addresses of query strings replaced by ``***``."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact_argv(argv: Sequence[str]) -> tuple[str, ...]:
    """A command line with its secrets hidden, also where the value is the argument after its option (``--password hunter2``)."""
    shown: list[str] = []
    hide = False
    for argument in argv:
        shown.append(HIDDEN if hide and not argument.startswith("-") else redact(argument))
        hide = bool(_SECRET_OPTION.match(argument))
    return tuple(shown)
