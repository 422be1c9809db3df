"""Puts taps between the service and what it talks to, for experiments: each as a change through the journal and the watchdog, in the environment's policy."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from perfloop.change.kinds import tap as tap_kind
from perfloop.change.kinds import tap_redirect
from perfloop.context.discover import discover
from perfloop.errors import CannotMeasure, ChangeRefused
from perfloop.loop import plugins
from perfloop.loop.guard import Guard, GuardedChange
from perfloop.loop.prepare import Session
from perfloop.loop.resources import configured_pool
from perfloop.loop.tries import context_of
from perfloop.model.change import Change
from perfloop.model.finding import Proposal
from perfloop.model.taps import TapConfig
from perfloop.wire.client import Detached, TapCounters

DATABASES = ("postgresql", "mysql")


class OpenTap:
    """A tap that is in place, until its change is undone."""

    def __init__(self, change: GuardedChange, tap: Detached, pool_max: int | None) -> None:
        self._change, self._tap, self.pool_max = change, tap, pool_max

    def counters(self) -> TapCounters:
        """What went through so far."""
        return self._tap.counters()

    def set_delay(self, delay_ms: float) -> TapCounters:
        """Hold back each turn from now on; says to the watchdog that we are alive."""
        self._change.renew()
        return self._tap.set_delay(delay_ms)


class Taps:
    """The taps of one diagnosis: one at a time, left in for the next experiment on the same dependency, all undone at the end."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stack = ExitStack()
        self._open: tuple[TapConfig, OpenTap] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def planned(self, peer: str, address: str) -> TapConfig | None:
        """The configured place for a tap on such a dependency; where several speak the same, that whose address it is."""
        places = [one for one in self._session.config.target.taps if one.peer == peer]
        if len(places) <= 1:
            return places[0] if places else None
        return next((one for one in places if address and self._plan(one).params["old"] == address), None)

    def open(self, peer: str, address: str = "") -> OpenTap:
        """The tap on a dependency, put in where it is not. ``CannotMeasure`` where none is configured or allowed, or it could not be put in."""
        place = self.planned(peer, address)
        if place is None:
            raise CannotMeasure(f"no tap may be put before {peer}", why="the configuration names no place for it", fix="name its address: [[target.taps]]")
        if self._open and self._open[0] == place:
            return self._open[1]
        self._close()
        change = self._plan(place)
        if refusal := self._session.policy.refusal(change):
            raise CannotMeasure(f"no tap may be put before {peer} here", why=refusal, fix='set changes.allow = "safe"')
        session = self._session
        guard = Guard(session.journal, session.audit, plugins.load("change kind"), context_of(session), session.config)
        with ExitStack() as stack:
            stack.callback(self._look_again)
            opened = stack.enter_context(guard.open(change, run_id=session.result.run_id, target_url=session.meter.target.url))
            stack.callback(opened.undo, "the experiment is over")
            opened.apply()
            self._look_again()
            tap = OpenTap(opened, tap_kind.tap_of(change, guard.context), self._pool_max(peer))
            self._open = (place, tap)
            self._stack = stack.pop_all()
        return tap

    def _plan(self, place: TapConfig) -> Change:
        context = context_of(self._session)
        try:
            if place.redirect:
                return tap_redirect.plan(Proposal(kind=tap_redirect.ID, title="", params={"address": place.redirect, "peer": place.peer}), context)
            params = {"file": place.file, "key": place.key, "peer": place.peer}
            return tap_kind.plan(Proposal(kind=tap_kind.ID, title="", params=params), context)
        except ChangeRefused as error:
            raise CannotMeasure(error.what, why=error.why, fix=error.fix) from error

    def _pool_max(self, peer: str) -> int | None:
        size, _ = configured_pool(self._session) if peer in DATABASES else (None, "")
        return int(size) if size else None

    def _look_again(self) -> None:
        """After a restart the service has a new process."""
        self._session.meter.target = discover(self._session.config, self._session.base_dir)

    def _close(self) -> None:
        self._open = None
        self._stack.close()
