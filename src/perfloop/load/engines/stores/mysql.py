"""One connection to MySQL or MariaDB, by aiomysql: one statement at a time, limited in time, and read-only where writes were not allowed."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

import aiomysql
import pymysql

from perfloop.load.engines.stores.answers import Answer, StoreError
from perfloop.sql.mysql import connect_words, limits_of, mysql_text

_LOST = frozenset((0, 2006, 2013, 2014, 2055, 1053, 1927, 4031))
_TIMED_OUT = frozenset((1969, 3024, 1317))


class Client:
    """Opened by ``connect``; of no more use where ``sound`` is False."""

    def __init__(self, dsn: str, statement_max_s: float, connect_max_s: float, writes_allowed: bool) -> None:
        self._words = {**connect_words(dsn), "connect_timeout": connect_max_s, "autocommit": True}
        self._words["db"] = self._words.pop("database")
        ca_file = self._words.pop("ssl")
        self._words["ssl"] = ssl.create_default_context(cafile=ca_file) if ca_file else None
        self._statement_max_s, self._writes_allowed = statement_max_s, writes_allowed
        self._connection: Any = None
        self.sound = True

    async def connect(self) -> None:
        """Opens it and sets its limits; ``StoreError``."""
        try:
            self._connection = await aiomysql.connect(**self._words)
            async with self._connection.cursor() as cursor:
                for text in limits_of(self._connection.get_server_info(), self._statement_max_s, self._writes_allowed):
                    await cursor.execute(text)
        except (pymysql.MySQLError, OSError) as error:
            self.abort()
            raise StoreError("connect", mysql_text(error)) from error

    async def ask(self, text: str, values: Sequence[Any]) -> Answer:
        """The answer of one statement, fetched whole; ``StoreError``."""
        try:
            async with self._connection.cursor() as cursor:
                count = await cursor.execute(text, tuple(values) or None)
                if cursor.description is None:
                    return Answer(count)
                return Answer.of_rows([column[0] for column in cursor.description], await cursor.fetchall())
        except (pymysql.MySQLError, OSError) as error:
            raise self._failure(error) from error
        except (TypeError, ValueError) as error:  # the text and the values do not fit, or a value cannot be sent
            raise StoreError("script", str(error)) from error

    def abort(self) -> None:
        """Closes it at once, whatever it does."""
        self.sound = False
        if self._connection is not None:
            self._connection.close()

    def _failure(self, error: Exception) -> StoreError:
        code = error.args[0] if error.args and isinstance(error.args[0], int) else None
        if isinstance(error, OSError | pymysql.err.InterfaceError) or code in _LOST:
            self.abort()
            return StoreError("reset", mysql_text(error))
        if code in _TIMED_OUT:
            return StoreError("timeout", mysql_text(error))
        return StoreError("server_error", f"{code} {mysql_text(error)}") if code is not None else StoreError("script", mysql_text(error))
