"""Whether a database that has tables but no version has the tables that the migrations would have made.

`CREATE TABLE IF NOT EXISTS` over a table of another shape does nothing and says nothing. So each step
also runs on a scratch database, and the tables that it creates are compared; nothing else is.
"""

import re
from collections.abc import Callable, Iterable

from ..database.connection import Session
from ..errors import MigrationError
from ..files.script import Script
from .guards import tables
from .play import play, transaction

Comparison = Callable[[Session, Script], tuple[str, ...]]

_COLUMNS = 'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?)'
_KIND = "SELECT type FROM sqlite_master WHERE name = ? COLLATE NOCASE AND type <> 'trigger'"


def comparison(empty: Session, applied: Iterable[Script]) -> Comparison:
    """Return what tells how the tables that a step creates differ from those that it makes elsewhere.

    `empty` is a scratch database, on which the scripts in `applied` run first. A step that cannot run
    there, because it needs the application's own functions or rows, ends the comparison: what the
    steps after it would build there is not what they build elsewhere.
    """
    comparable = all(_follow(empty, script) for script in applied)

    def differences(session: Session, script: Script) -> tuple[str, ...]:
        nonlocal comparable
        comparable = comparable and _follow(empty, script)
        names = tables(script, "create") if comparable else ()
        return tuple(line for name in names for line in _difference(session, empty, name))

    return differences


def no_comparison(session: Session, script: Script) -> tuple[str, ...]:
    """Find no difference: the tables of a database that has a version are its own affair."""
    return ()


def _follow(empty: Session, script: Script) -> bool:
    try:
        with transaction(empty, script):
            play(empty, script)
    except MigrationError:
        return False
    return True


def _difference(session: Session, empty: Session, table: str) -> list[str]:
    expected, found = _columns(empty, table), _columns(session, table)
    if not expected:  # created and dropped again by the same step
        return []
    kind, wanted = _kind(session, table), _kind(empty, table)
    if kind != wanted:
        return [f"{table} is a {kind}, expected a {wanted}"]
    lines = [f"no column {table}.{declared}" for key, declared in expected.items() if key not in found]
    for key, declared in found.items():
        if key not in expected:
            lines.append(f"unexpected column {table}.{declared}")
        elif _folded(declared) != _folded(expected[key]):
            lines.append(f"column {table}.{declared}, expected {expected[key]}")
    return lines


def _kind(session: Session, name: str) -> str:
    return session.value(_KIND, (name,)) or "missing table"


def _columns(session: Session, table: str) -> dict[str, str]:
    """Return the columns of a table with type, NOT NULL, default and place in the primary key."""
    return {name.lower(): _declared(name, *facts) for name, *facts in session.rows(_COLUMNS, (table,))}


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
