"""MongoDB from documents that somebody took out of it (system.profile, $indexStats, currentOp, or its log); untested against a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perfloop.model.evidence import Unavailable
from perfloop.model.target import PeerKind, Target
from perfloop.observe.base import Access, Nothing, Observation, talks_to
from perfloop.observe.mongo_documents import observed, read

ID = "mongodb"
NEEDS = "a file of MongoDB's documents in target.mongodb_documents"
COST = "reads one file"


class DocumentsSession:
    """Reads the file at the end of the window, so that what was written meanwhile is in it."""

    interval_s = None

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self) -> None:
        """Nothing yet."""

    def sample(self) -> None:
        """Nothing between."""

    def finish(self) -> Sequence[Observation]:
        """What the documents tell."""
        return (observed(read(self._path), self._path.name),)

    def close(self) -> None:
        """Nothing is held."""


def start(target: Target, access: Access) -> DocumentsSession | Nothing | Unavailable:
    """A session where a file is named."""
    if access.mongodb_documents:
        return DocumentsSession(Path(access.mongodb_documents))
    if not talks_to(target, PeerKind.MONGODB):
        return Nothing()
    return Unavailable(
        probe=ID,
        reason="no documents of MongoDB are configured",
        fix='db.setProfilingLevel(1), save system.profile as JSON, [target] mongodb_documents = "FILE"',
    )
