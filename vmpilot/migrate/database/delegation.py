"""The functions and collations that an application has given to its connection, for another connection.

SQLite tells their names only, so each is called where it is: `SELECT name(...)` on that connection.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..tokens import quoted
from .connection import Row, Session

# https://www.sqlite.org/c3ref/c_deterministic.html
_DETERMINISTIC = 0x800
_MOST = 30_000  # parameters of one statement, a few less than https://www.sqlite.org/limits.html has
_FUNCTIONS = "SELECT name, type, narg, flags FROM pragma_function_list WHERE NOT builtin"
_COLLATIONS = "SELECT name FROM pragma_collation_list"


def delegate(source: Session, target: Session) -> None:
    """Give `target` all functions and collations that `source` has beyond it, its own versions of SQLite's too.

    Window functions become aggregate functions.
    """
    with suppress(*source.failures):  # a module that does not list them
        for name, kind, count, flags in _beyond(source, target, _FUNCTIONS):
            if kind == "s":
                plain = _function(source, name)
                stable = bool(flags & _DETERMINISTIC)
                target.connection.create_function(name, count, plain, deterministic=stable)
            else:
                target.connection.create_aggregate(name, count, _aggregate(source, name))
        for (name,) in _beyond(source, target, _COLLATIONS):
            target.connection.create_collation(name, _collation(source, name))


def _beyond(source: Session, target: Session, sql: str) -> list[Row]:
    known = set(target.rows(sql))
    return [row for row in dict.fromkeys(source.rows(sql)) if row not in known]


def _function(source: Session, name: str) -> Callable[..., Any]:
    def call(*values: Any) -> Any:
        return _value(source, f"SELECT {quoted(name)}({_marks(values)})", values)

    return call


def _collation(source: Session, name: str) -> Callable[[str, str], int]:
    order = f"SELECT (? > ? COLLATE {quoted(name)}) - (? < ? COLLATE {quoted(name)})"

    def compare(one: str, other: str) -> int:
        return int(_value(source, order, (one, other, one, other)))

    return compare


def _aggregate(source: Session, name: str) -> type[Any]:
    class Collected:
        """All rows of a group, which go over when there are no more."""

        def __init__(self) -> None:
            self.rows: list[tuple[Any, ...]] = []

        def step(self, *values: Any) -> None:
            self.rows.append(values)
            if len(self.rows) * len(values) > _MOST:
                raise OverflowError(f"{name}: too many rows")

        def finalize(self) -> Any:
            width = len(self.rows[0]) if self.rows else 0
            if not width:  # without arguments, or without rows
                rows = f"WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {len(self.rows)})"
                return _value(source, f"{rows} SELECT {quoted(name)}() FROM n WHERE {len(self.rows)}", ())
            columns = ", ".join(f"column{number}" for number in range(1, width + 1))
            rows = ", ".join(f"({_marks(values)})" for values in self.rows)
            given = [value for values in self.rows for value in values]
            return _value(source, f"SELECT {quoted(name)}({columns}) FROM (VALUES {rows})", given)

    return Collected


def _marks(values: Any) -> str:
    return ", ".join("?" * len(values))


def _value(source: Session, sql: str, values: Any) -> Any:
    """Ask on a cursor of its own: the one of the session may be in the middle of something."""
    cursor = source.connection.cursor()
    if hasattr(cursor, "row_factory"):
        cursor.row_factory = None
    try:
        return cursor.execute(sql, values).fetchone()[0]
    finally:
        cursor.close()
