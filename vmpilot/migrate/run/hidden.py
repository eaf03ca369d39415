"""Names that do not mean the main database: what a TEMP object hides, or only an attached database has.

A connection that has neither costs one look. https://www.sqlite.org/lang_naming.html
"""

import time

from ..database.connection import Row, Session, wait
from ..database.settings import has_temporary
from ..errors import not_of_the_caller
from ..tokens import READING, WRITING, Head, folded, head, mentioned, plain, quoted, tokens, unquoted
from ..typed import NamedTuple

# Not what is only written: a statement names that itself, and what a TEMP trigger writes is the caller's.
_OPENS = ("OpenRead", "ReopenIdx")
_ROWS = (*WRITING, *READING)
_ANY = ("analyze", "reindex")  # what these name is no column
_WHOLE = ("analyze", "reindex", "vacuum")  # what these name can be a database
# Pragmas, and whether they are set, that without a schema mean all databases.
_EVERYWHERE = {("journal_mode", True), ("optimize", False), ("optimize", True)}
_ONE = "a migration has one database"


class Others(NamedTuple):
    """What else is on a connection: names, folded, each with the root pages of its table and indexes.

    `temporary` changes while a script makes and drops TEMP objects of its own; `schemas` are the names of
    the attached databases. Triggers, which only DROP TRIGGER looks up, stand apart: `fired` are TEMP ones,
    `beside` those of attached databases.
    """

    temporary: dict[str, frozenset[int]]
    attached: dict[str, frozenset[int]]
    schemas: frozenset[str]
    fired: frozenset[str]
    beside: frozenset[str]


def others(session: Session) -> Others | None:
    """Return what else than the main database is on a connection, None if nothing is."""
    # Not the pragma, which also tells the paths: these need not be UTF-8.
    listed = wait(session, lambda: session.rows("SELECT name FROM pragma_database_list"))
    schemas = [name for (name,) in listed if name != "main"]
    if not schemas:
        return None
    found = {schema: _objects(session, schema) for schema in schemas}
    temporary = found.pop("temp", {})
    attached = {name: roots for names in found.values() for name, roots in names.items()}
    triggers = {schema: _triggers(session, schema) for schema in schemas}
    fired = triggers.pop("temp", frozenset())
    if not temporary and not found and not fired:
        return None
    beside = frozenset[str]().union(*triggers.values())
    return Others(temporary, attached, frozenset(folded(schema) for schema in found), fired, beside)


def elsewhere(session: Session, known: Others, text: str) -> str:
    """Return why a statement would not mean the main database, or nothing."""
    one = head(text)
    if one.temporary:
        if one.verb in ("create", "drop"):  # from here on it is the script's own
            known.temporary.pop(folded(one.name), None)
        return ""
    if folded(one.schema) in known.schemas:
        return f"{plain(one.schema)} is an attached database, {_ONE}"
    if known.schemas and (words := _at_large(one, known.schemas, text)):
        return words
    if (one.verb, one.kind) == ("drop", "trigger"):
        return _dropped(session, known, folded(one.name)) if not one.schema else ""
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


def _at_large(one: Head, schemas: frozenset[str], text: str) -> str:
    """Say what a statement does to attached databases that it names as a whole, or does to all there are.

    https://www.sqlite.org/lang_analyze.html and https://www.sqlite.org/pragma.html#pragma_journal_mode
    """
    if one.verb in _WHOLE:
        said = [name for token in tokens(text) if (name := folded(unquoted(token.text)))][1:]
        if said and said[0] in schemas:
            return f"{plain(said[0])} is an attached database, {_ONE}"
        everywhere = "" if said or one.verb == "vacuum" else one.verb.upper()
        own = "ANALYZE main" if one.verb == "analyze" else ""
    else:
        sets = one.verb == "pragma" and not one.schema and (folded(one.name), bool(one.value)) in _EVERYWHERE
        everywhere, own = (f"PRAGMA {one.name}", f"PRAGMA main.{one.name}") if sets else ("", "")
    if not everywhere:
        return ""
    advice = f"; to mean the database's own, write {own}" if own else ""
    others = ", ".join(map(plain, sorted(schemas)))
    return f"{everywhere} would also change the attached {others}, and {_ONE}{advice}"


def _target(one: Head) -> str:
    """Return the name that a statement looks up; what it creates is looked up nowhere."""
    if one.schema:
        return ""
    return folded(one.table if one.verb == "create" else one.name)


def _dropped(session: Session, known: Others, trigger: str) -> str:
    if trigger in known.fired:
        return _hides(trigger)
    return _outside(session, trigger) if trigger in known.beside else ""


def _words(session: Session, known: Others, name: str) -> str:
    return _hides(name) if name in known.temporary else _outside(session, name)


def _hides(name: str) -> str:
    own = f"to mean the database's own, write main.{plain(name)}"
    return f"{plain(name)} is a TEMP object of the connection, {own}"


def _outside(session: Session, name: str) -> str:
    """Say that only an attached database has a name, or nothing."""
    here = ["main.sqlite_master", *["sqlite_temp_master"] * has_temporary(session)]
    found = any(session.rows(f"SELECT 1 FROM {place} WHERE lower(name) = ?", (name,)) for place in here)
    return "" if found else f"only an attached database has {plain(name)}, and {_ONE}"


def _read(session: Session, known: Others, names: set[str], text: str) -> str:
    """Say what a statement reads or writes elsewhere, as SQLite compiles it: a name can be a column's."""
    try:
        # Never the same text twice, as in `refusal`.
        program = session.rows(f"EXPLAIN {text}\n-- {time.perf_counter_ns()}")
    except session.failures as error:  # running it will tell
        not_of_the_caller(error)
        return ""
    opened = {(row[4], row[3]) for row in program if row[1] in _OPENS}
    virtual = any(row[1] == "VOpen" for row in program)
    outside = any(place > 1 for place, _ in opened)
    for name in sorted(names):
        roots = known.temporary.get(name)
        if roots is not None and (not roots or any((1, root) in opened for root in roots)):
            return _words(session, known, name)
        roots = known.attached.get(name)
        read = roots is not None and (outside or (virtual and not roots))
        if read and (words := _words(session, known, name)):
            return words
    return ""


def _triggers(session: Session, schema: str) -> frozenset[str]:
    found = session.rows(f"SELECT +name FROM {_table(schema)} WHERE type = 'trigger'")
    return frozenset(folded(name) for (name,) in found)


def _objects(session: Session, schema: str) -> dict[str, frozenset[int]]:
    """Return the objects of a database; what is no table, or a virtual one, has no root page."""
    asked = f"SELECT +name, +tbl_name, +rootpage FROM {_table(schema)} WHERE type <> 'trigger'"
    rows: list[Row] = session.rows(asked)
    names = {name for name, _, _ in rows}
    return {
        folded(name): frozenset(root for own, of, root in rows if root and name in (own, of))
        for name in names
    }


def _table(schema: str) -> str:
    return "sqlite_temp_master" if schema == "temp" else f"{quoted(schema)}.sqlite_master"
