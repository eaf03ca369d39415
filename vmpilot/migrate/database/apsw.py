"""A connection of apsw with the interface of sqlite3, as far as it is used here.

apsw has one of its own, close to SQLite's: https://rogerbinns.github.io/apsw/ It is never imported here; who
passes such a connection has done so.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any


def adapted(connection: Any) -> Any:
    """Return a connection of apsw with sqlite3's interface, any other as it is."""
    kinds = type(connection).__mro__
    is_apsw = any((kind.__module__, kind.__name__) == ("apsw", "Connection") for kind in kinds)
    return Connection(connection) if is_apsw else connection


class Connection:
    """An open connection of apsw: always in autocommit mode, with rows as tuples and texts as text."""

    Error = sqlite3.Error

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    @property
    def in_transaction(self) -> bool:
        """Tell whether a transaction is open."""
        with _translated():
            return bool(self.inner.in_transaction)

    def cursor(self) -> "Cursor":
        """Return a cursor of its own."""
        with _translated():
            return Cursor(self.inner.cursor())

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> "Cursor":
        """Run a statement on a new cursor."""
        return self.cursor().execute(sql, parameters)

    def close(self) -> None:
        """Close the connection."""
        with _translated():
            self.inner.close()

    def set_progress_handler(self, handler: Callable[[], Any] | None, instructions: int) -> None:
        """Have a function called now and then; what it returns, or that it raises, ends the statement."""

        def stops() -> bool:
            assert handler
            try:
                return bool(handler())
            except Exception:  # apsw would raise it in place of its own error
                return True

        with _translated():
            self.inner.set_progress_handler(handler and stops, instructions)

    def set_authorizer(self, authorizer: Callable[..., int] | None) -> None:
        """Have a function asked what a statement may do."""
        with _translated():
            self.inner.set_authorizer(authorizer)

    def setlimit(self, category: int, limit: int) -> int:
        """Set a limit of the connection; return what it was."""
        with _translated():
            return int(self.inner.limit(category, limit))

    def backup(
        self,
        target: "Connection",
        *,
        pages: int = -1,
        progress: Callable[[int, int, int], None] | None = None,
        sleep: float = 0.25,
    ) -> None:
        """Copy the whole database: https://www.sqlite.org/c3ref/backup_finish.html"""
        with _translated(), target.inner.backup("main", self.inner, "main") as copy:
            while not copy.done:
                status = _step(copy, pages)
                if status != sqlite3.SQLITE_OK:
                    time.sleep(sleep)
                if progress:
                    progress(status, copy.remaining, copy.page_count)


def _step(copy: Any, pages: int) -> int:
    """Copy so many pages; return SQLite's code if a lock keeps it from going on."""
    try:
        with _translated():
            copy.step(pages)
    except sqlite3.Error as error:
        status = error.sqlite_errorcode & 0xFF
        if status not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise
        return status
    return sqlite3.SQLITE_OK


class Cursor:
    """A cursor of apsw that tells the columns of a statement also when it has no rows left."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.description: Sequence[Any] | None = None
        inner.row_trace = _as_it_is
        inner.exec_trace = self._begun

    def _begun(self, cursor: Any, sql: str, parameters: Any) -> bool:
        """Note the columns before the first row: apsw does not tell them after the last one."""
        self.description = cursor.get_description() or None
        return True

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> "Cursor":
        """Run a statement up to its first row."""
        self.description = None
        with _translated():
            self.inner.execute(sql, tuple(parameters))
        return self

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        with _translated():
            return list(self.inner)

    def fetchmany(self, count: int) -> list[Any]:
        """Return at most so many of the rows that are left."""
        with _translated():
            return list(islice(self.inner, count))

    def fetchone(self) -> Any:
        """Return the next row, None if there is none."""
        return next(iter(self.fetchmany(1)), None)

    def close(self) -> None:
        """Let go of the statement, whatever is left of it."""
        with _translated():
            self.inner.close(True)


def _as_it_is(cursor: Any, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Keep a row a tuple, whatever the application makes of its rows."""
    return row


@contextmanager
def _translated() -> Iterator[None]:
    """Raise the error of sqlite3 that means the same, with SQLite's code: https://www.sqlite.org/rescode.html"""
    try:
        yield
    except Exception as error:
        if type(error).__module__ != "apsw":
            raise
        if (code := getattr(error, "extendedresult", None)) is None:  # closed already, or none of SQLite's
            raise sqlite3.ProgrammingError(str(error)) from error
        made = sqlite3.OperationalError(str(error))
        made.sqlite_errorcode = code
        raise made from error
