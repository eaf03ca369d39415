"""A run on a private copy: what each step does to schema and rows, how long it takes, and what would fail.

The original is only read; how a step runs is decided in step, and how structures compare in schema.
"""

import os
import sqlite3
from contextlib import closing
from typing import Any, NamedTuple

from ..database import connection as sessions
from ..database import structure as schema
from ..database import tables as ledger
from ..database.connection import Session
from ..errors import AccessError, MigrationError
from ..files.plan import Progress, Report, Step
from ..files.script import Script
from ..run.planning import Prepared, Wish, planned
from ..run.step import run_on
from ..tokens import head, mentioned, quoted
from .backup import ELSEWHERE, Copy, private_copy

__all__ = ["Copy", "Rehearsal", "Rehearsed", "private_copy", "rehearse"]

_WRITES = {"insert", "replace", "update", "delete"}
_MOVES = _WRITES | {"drop", "rename", "select", "values"}


class Rehearsed(NamedTuple):
    """One step as it went on the copy.

    `rows` counts the rows of each table that the step can have touched, before and after, None where
    there is no such table; `changes` are the lines of the schema difference. The time of the step does
    not count what a disk needs to keep it: a copy need not outlive a power cut.
    """

    step: Step
    rows: tuple[tuple[str, int | None, int | None], ...]
    changes: tuple[str, ...]


class Rehearsal(NamedTuple):
    """A run on a copy of `size` bytes that took `seconds` to make; none is made if nothing is to do.

    `error` is what the run on the database itself would raise, None if it would succeed.
    """

    database: str
    size: int
    seconds: float
    steps: tuple[Rehearsed, ...]
    error: MigrationError | None


def rehearse(wish: Wish, database: Any, *, timeout: float, report: Report) -> Rehearsal:
    """Do on a private copy of a database what `wish` asks; the database is only read.

    Raises MigrationError if the run could not even begin, or not be rehearsed.
    """
    with sessions.reading(database, timeout) as session:
        name, plan = session.database, planned(wish, session)
    if plan is None:
        return Rehearsal(name, 0, 0.0, (), None)
    with private_copy(database, timeout) as copy, closing(sqlite3.connect(copy.path)) as connection:
        connection.isolation_level = None
        # Under the name of the original, because the messages are about that.
        session = Session(connection, connection.cursor(), name, timeout)
        with sessions.translated(session):
            if ledger.read(session.cursor, name) != plan[0].state:
                plan = planned(wish, session)
        for pragma in ("synchronous = OFF", "mmap_size = 1099511627776"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        done: list[Rehearsed] = []
        error = _run(session, wish, *plan, report, done) if plan else None
    if error and ("disk is full" in str(error) or "disk I/O" in str(error)):
        grown = f"{os.path.dirname(copy.path)}: no room for the changed copy of {name}: {error.__cause__}"
        raise AccessError(f"{grown}; nothing was changed{ELSEWHERE}", database=name) from error
    return Rehearsal(name, copy.size, copy.seconds, tuple(done), error)


class _View(NamedTuple):
    """The structure and the rows of the tables that a step can touch; `moves`: also their rows."""

    tables: frozenset[str]
    moves: bool
    schema: schema.Schema
    rows: dict[str, int]


def _run(
    session: Session, wish: Wish, prepared: Prepared, number: int, report: Report, done: list[Rehearsed]
) -> MigrationError | None:
    """Do the steps, and look at the copy between them, in nobody's time; return what stopped them."""
    counted: dict[str, int] = {}
    before = _before(session, prepared, 0, counted)

    def observe(progress: Progress) -> None:
        nonlocal before
        if progress.done:
            after = _after(session, before, counted)
            tables = sorted(before.rows.keys() | after.rows.keys())
            rows = tuple((table, before.rows.get(table), after.rows.get(table)) for table in tables)
            done.append(Rehearsed(progress.step, rows, schema.difference(before.schema, after.schema)))
            if len(done) < len(prepared.steps):
                before = _before(session, prepared, len(done), counted)
        report(progress)

    try:
        run_on(session, wish, prepared, number, observe)
    except MigrationError as error:
        return error
    return None


def _before(session: Session, prepared: Prepared, at: int, counted: dict[str, int]) -> _View:
    """Look at what the step at this place can touch."""
    telling = _telling(prepared.scripts[prepared.steps[at].version])
    tables = schema.reach(session.cursor, telling)
    return _view(session, tables, not _MOVES.isdisjoint(mentioned(telling)), counted)


def _after(session: Session, before: _View, counted: dict[str, int]) -> _View:
    """Look again at what a step has touched; tables are counted again if it handles rows."""
    for table in before.rows if before.moves else ():
        del counted[table]
    return _view(session, before.tables, before.moves, counted)


def _view(session: Session, tables: frozenset[str], moves: bool, counted: dict[str, int]) -> _View:
    with sessions.interruptible(session, lambda: None):
        facts = schema.snapshot(session.cursor, only=tables)
        new = frozenset(fact for fact in facts if fact.table not in counted)
        counted.update(schema.rows(session.cursor, new))
    rows = {fact.table: counted[fact.table] for fact in facts if fact.table in counted}
    return _View(tables, moves, facts, rows)


def _telling(script: Script) -> str:
    """Return what tells the tables that a script can touch: of a statement that handles rows, its target."""
    told = set()
    for start, end in zip(script.starts, script.ends, strict=True):
        row = head(script.text, start, end)
        plain = row.verb in _WRITES and row.name
        told.add(f"{row.verb} {quoted(row.name)}" if plain else script.text[start:end])
    return ";\n".join(told)
