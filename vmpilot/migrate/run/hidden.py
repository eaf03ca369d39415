"""Names that do not mean the main database: what a TEMP object hides, or only an attached database has.

A connection that has neither costs one look. https://www.sqlite.org/lang_naming.html
"""

import time
from typing import NamedTuple

from ..database.connection import Row, Session
from ..tokens import Head, folded, head, mentioned, plain, quoted

_OPENS = ("OpenRead", "OpenWrite", "ReopenIdx")
_ROWS = ("insert", "replace", "update", "delete", "select", "values", "with")
_ANY = ("analyze", "reindex")  # what these name is no column
_ONE = "a migration has one database"


class Others(NamedTuple):
    """What else is on a connection: names, folded, each with the root page of its table, 0 where it has none.

    `temporary` changes while a script makes and drops TEMP objects of its own; `schemas` are the names of
    the attached databases.
    """

    temporary: dict[str, int]
    attached: dict[str, int]
    schemas: frozenset[str]


def others(session: Session) -> Others | None:
    """Return what else than the main database is on a connection, None if nothing is."""
    schemas = [row[1] for row in session.rows("PRAGMA database_list") if row[1] != "main"]
    if not schemas:
        return None
    found = {schema: _objects(session, schema) for schema in schemas}
    temporary = found.pop("temp", {})
    attached = {name: root for names in found.values() for name, root in names.items()}
    if not temporary and not found:
        return None
    return Others(temporary, attached, frozenset(folded(schema) for schema in found))


def elsewhere(session: Session, known: Others, text: str) -> str:
    """Return why a statement would not mean the main database, or nothing."""
    one = head(text)
    if one.temporary:
        if one.verb in ("create", "drop"):  # from here on it is the script's own
            known.temporary.pop(folded(one.name), None)
        return ""
    if folded(one.schema) in known.schemas:
        return f"{plain(one.schema)} is an attached database, {_ONE}"
    names = mentioned(text) & (known.temporary.keys() | known.attached.keys())
    if not names:
        return ""
    if (target := _target(one)) in names and (words := _words(session, known, target)):
        return words
    if one.verb in _ANY:
        return next(filter(None, (_words(session, known, name) for name in sorted(names))), "")
    if one.verb in _ROWS or (one.verb == "create" and one.kind == "table"):
        return _read(session, known, names, text)
    return ""


def _target(one: Head) -> str:
    """Return the name that a statement looks up; what it creates is looked up nowhere."""
    if one.schema:
        return ""
    return folded(one.table if one.verb == "create" else one.name)


def _words(session: Session, known: Others, name: str) -> str:
    if name in known.temporary:
        own = f"to mean the database's own, write main.{plain(name)}"
        return f"{plain(name)} is a TEMP object of the connection, {own}"
    here = ("main.sqlite_master", "sqlite_temp_master")
    found = any(session.rows(f"SELECT 1 FROM {place} WHERE lower(name) = ?", (name,)) for place in here)
    return "" if found else f"only an attached database has {plain(name)}, and {_ONE}"


def _read(session: Session, known: Others, names: set[str], text: str) -> str:
    """Say what a statement reads or writes elsewhere, as SQLite compiles it: a name can be a column's."""
    try:
        # Never the same text twice, as in `refusal`.
        program = session.rows(f"EXPLAIN {text}\n-- {time.perf_counter_ns()}")
    except session.failures:  # running it will tell
        return ""
    opened = {(row[3], row[4]) for row in program if row[1] in _OPENS}
    virtual = any(row[1] == "VOpen" for row in program)
    for name in sorted(names):
        root = known.temporary.get(name)
        if root is not None and ((root, 1) in opened or not root):
            return _words(session, known, name)
        root = known.attached.get(name)
        if root is not None and (any(place > 1 for _, place in opened) or (virtual and not root)):
            return _words(session, known, name) or f"{plain(name)} is read from an attached database, {_ONE}"
    return ""


def _objects(session: Session, schema: str) -> dict[str, int]:
    table = "sqlite_temp_master" if schema == "temp" else f"{quoted(schema)}.sqlite_master"
    rows: list[Row] = session.rows(f"SELECT +name, +rootpage FROM {table} WHERE type <> 'trigger'")
    return {folded(name): root or 0 for name, root in rows}
