"""A plan as a script for the `sqlite3` shell, with the same effect as the run itself.

Reads only. What a script cannot do, the guards and the wait for a lock, is not in it.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from ..database import tables as ledger
from ..database.connection import SETTINGS, reading, setting
from ..database.tables import Record
from ..files.plan import Step
from ..files.script import Script, checksum, statements
from ..run.planning import Prepared, Wish, planned
from ..tokens import head, quoted, tokens

_NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"


def script(wish: Wish, database: Any, *, timeout: float) -> list[str]:
    """Return the lines of a script that takes `database` to where `wish` asks; reads only.

    It stops at the first error, and at once where the database is not at the version that it was
    made for. Raises MigrationError.
    """
    with reading(database, timeout) as session:
        plan = planned(wish, session)
        if plan is None:
            return [f"-- {session.database}: nothing to do"]
        missing = ledger.missing(session.cursor)
        words = frozenset().union(*(script.words for script in plan[0].scripts.values()))
        settings = {name: setting(session, name) for name in sorted(SETTINGS & words)}
    with closing(sqlite3.connect(":memory:")) as quoting:
        return list(_lines(plan[0], missing, settings, session.database, quoting))


def _lines(
    prepared: Prepared,
    missing: list[str],
    settings: dict[str, str],
    database: str,
    quoting: sqlite3.Connection,
) -> Iterator[str]:
    first, last = prepared.steps[0], prepared.steps[-1]
    yield f"-- {database!a}: from {first.before} to {last.after}; to run it: sqlite3 DATABASE < SCRIPT"
    yield ".bail on"
    value = prepared.value
    for step in prepared.steps:
        after = prepared.values[step.after]
        yield ""
        yield f"-- {step.action} {step.version} {step.name}".rstrip()
        yield "PRAGMA foreign_keys = OFF;"
        yield "BEGIN IMMEDIATE;"
        yield from (f"{ddl};" for ddl in missing)
        missing = []
        yield _expectation(value, quoting)
        yield from _step(step, prepared, value, after, quoting)
        yield "COMMIT;"
        yield from _put_back(prepared.scripts[step.version], settings)
        value = after


def _put_back(script: Script, settings: dict[str, str]) -> Iterator[str]:
    """Yield what undoes a step's settings and TEMP objects, so that the next one starts like the first."""
    yield from (f"PRAGMA {name} = {value};" for name, value in settings.items() if name in script.words)
    if script.words & {"temp", "temporary"}:
        made = (one for one in map(head, statements(script)) if one.verb == "create" and one.temporary)
        drops = ((one.kind.split()[-1], one.name) for one in made if one.kind != "index")
        yield from (f"DROP {kind.upper()} IF EXISTS temp.{quoted(name)};" for kind, name in drops)


def _step(
    step: Step, prepared: Prepared, value: str, after: str, quoting: sqlite3.Connection
) -> Iterator[str]:
    up_or_down, down = prepared.scripts[step.version], prepared.downs.get(step.version)
    if not up_or_down.transactional:
        yield _log(Record("start", step.version, step.name, value, after), None, quoting)
        yield "COMMIT;"
    yield from map(_terminated, statements(up_or_down))
    if not up_or_down.transactional:
        yield "BEGIN IMMEDIATE;"
        yield _expectation(value, quoting)
    yield "DELETE FROM alembic_version;"
    if after:
        yield f"INSERT INTO alembic_version (version_num) VALUES ({_literal(after, quoting)});"
    mark = checksum(up_or_down) if step.action == "upgrade" else ""
    yield _log(Record(step.action, step.version, step.name, value, after, mark), down, quoting)


def _expectation(value: str, quoting: sqlite3.Connection) -> str:
    """Return a statement that fails unless `value` is the only row of alembic_version, or at base none."""
    rows = "(SELECT group_concat(version_num) FROM alembic_version)"
    return (
        f"INSERT INTO alembic_version SELECT NULL WHERE coalesce({rows}, '') <> {_literal(value, quoting)};"
    )


def _log(record: Record, down: Script | None, quoting: sqlite3.Connection) -> str:
    values = [*record[:6], down.text if down else None, checksum(down) if down else None]
    literals = [*(_literal(value, quoting) for value in values), _NOW, "0"]
    return f"INSERT INTO migration_log ({', '.join(ledger.LOG_COLUMNS)}) VALUES ({', '.join(literals)});"


def _literal(value: str | None, quoting: sqlite3.Connection) -> str:
    if value and "\r" in value:  # the shell drops it from the end of a line
        return f"CAST(x'{value.encode().hex()}' AS TEXT)"
    literal: str = quoting.execute("SELECT quote(?)", (value,)).fetchone()[0]
    return literal


def _terminated(text: str) -> str:
    """Return a statement with its semicolon, which a last comment must not swallow.

    The shell drops the CR of a line's end, so one inside a string is spelled out.
    """
    if "\r\n" in text:
        text = "".join(_spelled_out(text))
    return text + ("\n;" if "--" in text.rpartition("\n")[2] else ";")


def _spelled_out(text: str) -> Iterator[str]:
    end = 0
    for token in tokens(text):
        if token.kind == "string" and "\r\n" in token.text:
            yield text[end : token.start]
            yield "(" + token.text.replace("\r\n", "' || char(13, 10) || '") + ")"
            end = token.start + len(token.text)
    yield text[end:]
