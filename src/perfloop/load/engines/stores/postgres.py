"""One connection to PostgreSQL: statements by the extended protocol, one at a time, limited in time, and read-only where writes were not allowed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psycopg

from perfloop.load.engines.stores.answers import Answer, StoreError
from perfloop.sql.connect import connection_options, hide


class Client:
    """Opened by ``connect``; of no more use where ``sound`` is False."""

    def __init__(self, dsn: str, statement_max_s: float, connect_max_s: float, writes_allowed: bool) -> None:
        self._dsn = dsn
        self._options = connection_options(dsn, statement_max_s, int(connect_max_s), "" if writes_allowed else "-c default_transaction_read_only=on")
        self._connection: psycopg.AsyncConnection[tuple[Any, ...]] | None = None
        self.sound = True

    async def connect(self) -> None:
        """Opens it; ``StoreError``."""
        try:
            self._connection = await psycopg.AsyncConnection.connect(**self._options, autocommit=True)
        except (psycopg.Error, OSError) as error:
            self.sound = False
            raise StoreError("connect", hide(" ".join(str(error).split())[-200:], self._dsn)) from error

    async def ask(self, text: str, values: Sequence[Any]) -> Answer:
        """The answer of one statement, fetched whole; ``StoreError``."""
        assert self._connection is not None
        try:
            # without values psycopg would use the simple protocol, which takes several statements; a prepared one is always one
            cursor = await self._connection.execute(text.encode(), values or None, prepare=None if values else True)
            if cursor.description is None:
                return Answer(cursor.rowcount)
            return Answer.of_rows([column.name for column in cursor.description], await cursor.fetchall())
        except psycopg.Error as error:
            raise self._failure(error) from error

    def abort(self) -> None:
        """Closes it at once, whatever it does."""
        self.sound = False
        if self._connection is not None:
            with suppress(Exception):
                self._connection.pgconn.finish()

    def _failure(self, error: psycopg.Error) -> StoreError:
        assert self._connection is not None
        state, detail = error.sqlstate or "", error.diag.message_primary or str(error).partition("\n")[0] or type(error).__name__
        if self._connection.closed or state.startswith(("57P", "08")):
            self.sound = False
            return StoreError("reset", detail)
        if state == "57014":
            return StoreError("timeout", detail)
        return StoreError("server_error", f"{state} {detail}") if state else StoreError("script", detail)
