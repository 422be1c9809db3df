"""Where answers go: data to stdout or a file, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from perfloop.errors import UsageError
from perfloop.host.files import write_atomic
from perfloop.report.text import printable


@dataclass(frozen=True)
class Output:
    """How this command answers. ``color`` is for stdout; messages and progress go to stderr."""

    json: bool = False
    path: str = ""
    quiet: bool = False
    verbose: bool = False
    color: bool = False
    no_input: bool = False
    progress: str = "auto"  # or jsonl, or none

    @classmethod
    def opened(cls, shared: dict[str, Any]) -> Output:
        """From the options of every verb; ``UsageError`` at once where the output file cannot be written, not after minutes of measuring."""
        path = shared.get("output") or ""
        if path:
            folder = Path(path).resolve().parent
            if not folder.is_dir() or not os.access(folder, os.W_OK) or Path(path).is_dir():
                raise UsageError(
                    f"cannot write {path}", why=f"{folder} is no folder that you may write to, or {path} is one", fix="name a file in an existing folder"
                )
        return cls(
            json=shared["as_json"],
            path=path,
            quiet=shared["quiet"],
            verbose=shared["verbose"],
            color=not path and not shared["no_color"] and wants_color(sys.stdout),
            no_input=shared["no_input"],
            progress=shared["progress"],
        )

    def answer(self, text: str, data: BaseModel | dict[str, Any]) -> None:
        """The answer once: as one JSON object with ``--json``, else as text."""
        self.document(as_json(data) if self.json else text)

    def document(self, text: str) -> None:
        """A finished document, unchanged, to the file or to stdout."""
        text = text if text.endswith("\n") else text + "\n"
        if self.path:
            write_atomic(Path(self.path), text.encode())
            self.tell(f"written: {self.path}")
        else:
            sys.stdout.write(text)

    def tell(self, text: str) -> None:
        """A message beside the answer, to stderr."""
        if not self.quiet:
            sys.stderr.write(printable(text) + "\n")
            sys.stderr.flush()


def as_json(data: BaseModel | dict[str, Any]) -> str:
    """One object, with ``ok`` first."""
    body = data.model_dump(mode="json") if isinstance(data, BaseModel) else data
    return json.dumps({"ok": body.get("ok", True), **body}, ensure_ascii=False, indent=2)


def wants_color(stream: Any) -> bool:
    """Colour is for a terminal that can show it: NO_COLOR and TERM=dumb switch it off, CLICOLOR_FORCE on."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return bool(stream.isatty()) and os.environ.get("TERM", "") != "dumb"
