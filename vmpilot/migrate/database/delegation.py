"""The functions and collations that an application has given to its connection, for another connection.

SQLite tells their names only, so each is called where it is: `SELECT name(...)` on that connection.
"""

from collections.abc import Callable
from typing import Any

from ..errors import passed_over
from ..tokens import quoted
from .connection import Row, Session

# https://www.sqlite.org/c3ref/c_deterministic.html
_DETERMINISTIC = 0x800
_MOST = 30_000  # parameters of one statement, a few less than https://www.sqlite.org/limits.html has
_FUNCTIONS = "SELECT name, type, narg, flags FROM pragma_function_list WHERE NOT builtin"
_COLLATIONS = "SELECT name FROM pragma_collation_list"


def delegate(source: Session, target: Session) -> None:
    """Give `target` all functions and collations that `source` has beyond it, also in place of SQLite's.

    Window functions become aggregate functions.
    """
    with passed_over(*source.failures):  # a module that does not list them
        for name, kind, count, flags in _beyond(source, target, _FUNCTIONS):
            if kind == "s":
                plain = _function(source, name)
                stable = bool(flags & _DETERMINISTIC)
                target.connection.create_function(name, count, plain, deterministic=stable)
            else:
                target.connection.create_aggregate(name, count, _aggregate(source, name, count))
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


def _aggregate(source: Session, name: str, count: int) -> type[Any]:
    class Collected:
        """All rows of a group, which go over when there are no more."""

        def __init__(self) -> None:
            self.rows: list[tuple[Any, ...]] = []

        def step(self, *values: Any) -> None:
            self.rows.append(values)
            if len(self.rows) * (len(values) + 1) > _MOST:
                raise OverflowError(f"{name}: too many rows")

        def finalize(self) -> Any:
            rows = self.rows or [(None,) * max(count, 0)]
            columns = ", ".join(f"column{number + 2}" for number in range(len(rows[0])))
            marks = ", ".join(f"({_marks((1, *values))})" for values in rows)
            given = [value for values in rows for value in (1, *values)]
            asked = f"SELECT {quoted(name)}({columns}) FROM (VALUES {marks}) WHERE {len(self.rows)}"
            return _value(source, asked, given)

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
