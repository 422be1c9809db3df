"""Approvals that were given once and are remembered: by target and kind of change, listed and revocable, in the machine's state directory."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from pydantic import TypeAdapter

from perfloop.errors import StorageError, UsageError
from perfloop.host.files import read_limited, write_atomic
from perfloop.model.base import utc_now
from perfloop.model.change import Approval
from perfloop.store import locks
from perfloop.store.journal import same_target
from perfloop.store.paths import state_dir

APPROVALS_MAX = 1_000
_MAX_BYTES = 2**20
_LIST = TypeAdapter(tuple[Approval, ...])


class Approvals:
    """What may be done without asking again."""

    def __init__(self, root: Path | None = None) -> None:
        self._path = state_dir(root) / "approvals.json"

    def all(self) -> tuple[Approval, ...]:
        """Every approval, oldest first; ``StorageError`` where the file is damaged: nothing is approved then."""
        if not self._path.exists():
            return ()
        try:
            return _LIST.validate_json(read_limited(self._path, _MAX_BYTES))
        except ValueError as error:
            raise StorageError(f"the approvals cannot be read: {self._path}", why=str(error)[:200], fix=f"give them again: rm {self._path}") from None

    def kinds(self, target_url: str, environment: str) -> dict[str, Approval]:
        """The approved kinds of change of a target in an environment."""
        return {one.kind: one for one in self.all() if same_target(one.target_url) == same_target(target_url) and one.environment == environment}

    def give(self, target_url: str, kind: str, environment: str, by: str, ticket: str = "") -> Approval:
        """Remembers one; giving it again replaces it."""
        made = Approval(
            id=f"apr-{secrets.token_hex(4)}",
            target_url=same_target(target_url),
            kind=kind,
            environment=environment,
            approved_by=by,
            ticket=ticket,
            given_at=utc_now(),
        )
        with locks.held(self._path.with_suffix(".lock"), what="the approvals"):
            others = [one for one in self.all() if (one.target_url, one.kind, one.environment) != (made.target_url, kind, environment)]
            if len(others) >= APPROVALS_MAX:
                raise UsageError(f"there are {APPROVALS_MAX} approvals already", fix="revoke some: perfloop approvals --revoke ID")
            self._save((*others, made))
        return made

    def revoke(self, approval_id: str) -> Approval:
        """Forgets one; ``UsageError`` where there is none of that id."""
        with locks.held(self._path.with_suffix(".lock"), what="the approvals"):
            known = self.all()
            gone = next((one for one in known if one.id == approval_id), None)
            if gone is None:
                raise UsageError(
                    f"there is no approval {approval_id}", why=f"there are {', '.join(one.id for one in known) or 'none'}", fix="perfloop approvals"
                )
            self._save(tuple(one for one in known if one.id != approval_id))
        return gone

    def _save(self, approvals: tuple[Approval, ...]) -> None:
        write_atomic(self._path, json.dumps(_LIST.dump_python(approvals, mode="json"), indent=1).encode(), mode=0o600)
