"""A run on a private copy: what each step does to schema and rows, how long it takes, and what would fail.

The original is only read; how a step runs is decided in step, and how structures compare in structure.
"""

import shutil
import sys
import time
from typing import Any, NamedTuple

from ..database import contents, structure, tables
from ..database.connection import UNCHANGED, Session, interruptible, is_full, is_input_output, translated
from ..database.opening import SQLITE3, Connect, reading, refuse_unwritable, scratch
from ..errors import AccessError, MigrationError, passed_over
from ..files.plan import Progress, Report, Step
from ..files.script import Script
from ..run.group import perform
from ..run.planning import Plan, planned
from ..run.request import Request, mending
from ..run.status import version
from ..tokens import READING, SCHEMA, WRITING, folded, head, mentioned, quoted
from .copying import ELSEWHERE, place_of, private_copy, refuse_another

_MEMORY_PER_SECOND = 1 << 36  # bytes
_MOVES = {"drop", "rename", *WRITING, *READING}


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

    `before` is the version of the database. `error` is what the run on the database itself would raise,
    None if it would succeed.
    """

    database: str
    before: str
    size: int
    seconds: float
    steps: tuple[Rehearsed, ...]
    error: MigrationError | None


def rehearse(
    request: Request,
    database: Any,
    *,
    timeout: float,
    report: Report,
    connect: Connect = SQLITE3,
) -> Rehearsal:
    """Do on a private copy of a database what `request` asks; the database is only read.

    `connect` is how the application opens a path, the copy too. Raises MigrationError if the
    run could not even begin, or not be rehearsed.
    """
    with mending(request.directory.place), reading(database, timeout, connect) as session:
        name, plan = session.database, planned(request, session)
    before = version(plan.status)
    if not plan.tasks:
        return Rehearsal(name, before, 0, 0.0, (), None)
    refuse_unwritable(database)  # where the run itself could do nothing, there is nothing to rehearse
    # Under the name of the original, because the messages are about that.
    with (
        private_copy(database, timeout, connect) as copy,
        scratch(copy.path, name, timeout, connect) as session,
    ):
        refuse_another(copy)
        with translated(session):
            if tables.read(session) != plan.status.recorded:
                plan = planned(request, session)
        for pragma in ("synchronous = OFF", "mmap_size = 1099511627776"):
            session.run(f"PRAGMA {pragma}")
        done: list[Rehearsed] = []
        started, directory = time.monotonic(), place_of(copy.path)
        error = _run(session, request, plan, report, done) if plan.tasks else None
        if error and _lacks_room(session, error, directory, time.monotonic() - started):
            grown = f"{directory}: no room for the changed copy of {name}: {error.__cause__}"
            raise AccessError(f"{grown}; {UNCHANGED}{ELSEWHERE}", database=name) from error
    return Rehearsal(name, before, copy.size, copy.seconds, tuple(done), error)


def _lacks_room(session: Session, error: MigrationError, directory: str, seconds: float) -> bool:
    """Tell whether a run failed because the disk of its copy is full.

    SQLite says the same of an AUTOINCREMENT that has no number left, and then the run itself would fail too:
    https://www.sqlite.org/autoinc.html What was rolled back is free again, so free room alone tells nothing;
    but no disk fills faster than memory.
    """
    if not is_full(error.__cause__):
        return is_input_output(error.__cause__)
    with passed_over(*session.failures):  # there is such a table if there is an AUTOINCREMENT
        if session.rows("SELECT 1 FROM main.sqlite_sequence WHERE seq = ?", (sys.maxsize,)):
            return False
    return shutil.disk_usage(directory).free < seconds * _MEMORY_PER_SECOND


class _View(NamedTuple):
    """The structure and the rows of the tables that a step can touch; `moves`: also their rows."""

    tables: frozenset[str]
    moves: bool
    schema: structure.Schema
    rows: dict[str, int]


def _run(
    session: Session, request: Request, plan: Plan, report: Report, done: list[Rehearsed]
) -> MigrationError | None:
    """Do the steps, and look at the copy between them, in nobody's time; return what stopped them."""
    counted: dict[str, int] = {}
    scripts = [task.script for task in plan.tasks]
    before = _before(session, scripts[0], counted)

    def observe(progress: Progress) -> None:
        nonlocal before
        if progress.done:
            after = _after(session, before, counted)
            tables = sorted(before.rows.keys() | after.rows.keys())
            rows = tuple((table, before.rows.get(table), after.rows.get(table)) for table in tables)
            changes = structure.difference(before.schema, after.schema)
            done.append(Rehearsed(progress.step, rows, changes))
            if len(done) < len(scripts):
                before = _before(session, scripts[len(done)], counted)
        report(progress)

    try:
        perform(session, request, plan, observe, [], lasting=0.0)
    except MigrationError as error:
        return error
    return None


def _before(session: Session, script: Script, counted: dict[str, int]) -> _View:
    """Look at what a step can touch."""
    telling = _telling(script)
    reach = structure.reach(session, telling)
    if script.keys_on:
        reach = structure.with_actions(session, reach)
    return _view(session, reach, not _MOVES.isdisjoint(mentioned(telling)), counted)


def _after(session: Session, before: _View, counted: dict[str, int]) -> _View:
    """Look again at what a step has touched; tables are counted again if it handles rows."""
    for table in before.rows if before.moves else ():
        del counted[table]
    return _view(session, before.tables, before.moves, counted)


def _view(session: Session, tables: frozenset[str], moves: bool, counted: dict[str, int]) -> _View:
    with interruptible(session):
        facts = structure.snapshot(session, only=tables)
        new = frozenset(fact for fact in facts if fact.table not in counted)
        counted.update(contents.counts(session, new))
    rows = {fact.table: counted[fact.table] for fact in facts if fact.table in counted}
    return _View(tables, moves, facts, rows)


def _telling(script: Script) -> str:
    """Return what tells the tables that a script can touch: of a statement that handles rows, its target."""
    told = set()
    for start, end in zip(script.starts, script.ends, strict=True):
        row = head(script.text, start, end)
        # What is written into the schema by hand is named in the values.
        plain = row.verb in WRITING and row.name and folded(row.name) not in SCHEMA
        told.add(f"{row.verb} {quoted(row.name)}" if plain else script.text[start:end])
    return ";\n".join(told)
