"""Whether a database that has tables but no version has the tables that the migrations would have made.

`CREATE TABLE IF NOT EXISTS` over a table of another shape does nothing and says nothing. So each step
also runs on an empty database in memory, the twin, and the tables that it creates are compared; nothing
else is.
"""

import re
import sqlite3
from collections.abc import Iterable
from typing import Any

from ..database.connection import Session, interruptible, settings_kept
from ..database.tables import TABLES
from ..files.script import Script, statements
from .guards import tables

_COLUMNS = 'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?)'


def has_tables(cursor: Any) -> bool:
    """Tell whether a database has tables of its own."""
    cursor.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite^_%' ESCAPE '^'"
    )
    return not {name for (name,) in cursor.fetchall() or ()} <= TABLES.keys()


def begin(applied: Iterable[Script]) -> Session:
    """Return a database in memory on which these scripts have run."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    twin = Session(connection, connection.cursor(), ":memory:", 0.0)
    for script in applied:
        follow(twin, script)
    return twin


def follow(twin: Session, script: Script) -> None:
    """Run a step on the twin too.

    A step that cannot run there, because it needs the application's own functions or rows, ends the
    comparison: what the steps after it would build there is not what they build elsewhere.
    """
    try:
        with interruptible(twin, _nothing), settings_kept(twin, script.words):
            for text in statements(script):
                twin.cursor.execute(text).fetchall()
    except sqlite3.Error:
        twin.connection.close()


def _nothing() -> None:
    pass


def differences(cursor: Any, script: Script, twin: Session) -> tuple[str, ...]:
    """Run a step on the twin too, and return how the tables that it creates differ from the real ones."""
    follow(twin, script)
    try:
        names = tables(script, "create")
        return tuple(line for name in names for line in _difference(cursor, twin.cursor, name))
    except sqlite3.ProgrammingError:  # the twin is closed
        return ()


def _difference(cursor: Any, twin: Any, table: str) -> list[str]:
    expected, found = _columns(twin, table), _columns(cursor, table)
    if not expected:  # created and dropped again by the same step
        return []
    kind, wanted = _kind(cursor, table), _kind(twin, table)
    if kind != wanted:
        return [f"{table} is a {kind}, expected a {wanted}"]
    lines = [f"no column {table}.{declared}" for key, declared in expected.items() if key not in found]
    for key, declared in found.items():
        if key not in expected:
            lines.append(f"unexpected column {table}.{declared}")
        elif _folded(declared) != _folded(expected[key]):
            lines.append(f"column {table}.{declared}, expected {expected[key]}")
    return lines


def _kind(cursor: Any, name: str) -> str:
    cursor.execute(
        "SELECT type FROM sqlite_master WHERE name = ? COLLATE NOCASE AND type <> 'trigger'", (name,)
    )
    found = cursor.fetchone()
    return str(found[0]) if found else "missing table"


def _columns(cursor: Any, table: str) -> dict[str, str]:
    """Return the columns of a table with type, NOT NULL, default and place in the primary key."""
    cursor.execute(_COLUMNS, (table,))
    return {name.lower(): _declared(name, *facts) for name, *facts in cursor.fetchall() or ()}


def _declared(name: str, kind: str, required: int, default: str | None, key: int, hidden: int) -> str:
    parts = [name, " ".join(kind.split())]
    parts += ["NOT NULL"] if required else []
    parts += [f"DEFAULT {default}"] if default is not None else []
    parts += [f"PRIMARY KEY ({key})" if key > 1 else "PRIMARY KEY"] if key else []
    parts += ["GENERATED"] if hidden else []
    return " ".join(filter(None, parts))


def _folded(declared: str) -> str:
    """Return a column's declaration without the letter case of all that is not text."""
    return re.sub(r"'[^']*'|[^']+", lambda part: part[0] if part[0][0] == "'" else part[0].lower(), declared)
