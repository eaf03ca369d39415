"""One function per command of the core: fulfil (upgrade, downgrade), stamp, current, history.

How a run goes, and where to read on:

1. `startup.run` looks without a lock whether all is done already, as a start-up nearly always finds it.
   Otherwise `planning.planned` finds out where the database is (`status`) and makes a plan: tasks in order,
   with every file on the way read and checked. Without tasks there is nothing to do, and the run ends here.
2. `group.perform` does the tasks, many small ones in one transaction: BEGIN IMMEDIATE, read the version
   again and plan again if another process was faster; then `step.take` for each: `play` runs the
   statements, `guards` (and `adoption`) look at what they left, version and log are written; COMMIT.
   Whatever fails is rolled back alone, and the error says what is kept.
3. The last plan says where the database is: that is the `Result`.

Nothing is printed here, and what each part decides is decided there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from ..database import tables
from ..database.connection import Session, begin, commit, snapshot, undone
from ..database.opening import SQLITE3, Connect, changing, reading, refuse_unwritable, writing
from ..database.tables import Record
from ..errors import MigrationError, called, is_of_the_caller
from ..files.directory import Directory, Migration
from ..files.plan import BASE, Report, Step, resolve
from ..typed import Any
from . import status
from .planning import Plan, is_reversible
from .request import Current, Entry, Request, Result, mending
from .status import Status, version


def fulfil(
    request: Request,
    plan: Plan,
    database: Any,
    *,
    timeout: float,
    report: Report,
    prelude: Callable[[str], None] | None,
    connect: Connect = SQLITE3,
    session: Session | None = None,
    seen: int | None = None,
) -> Result:
    """Do what a plan says: the rest of `startup.run`, which says more.

    `session` is the database if it is open still, and `seen` its data_version when the plan was made.
    """
    before = version(plan.status)
    if not plan.tasks:
        return Result(before, _current(plan.status), ())
    refuse_unwritable(database)  # before a backup is taken for nothing
    if prelude:
        prelude(before)
    from .group import perform  # with all that it needs, what tells of a database need not load

    done: list[Step] = []
    try:
        with _writing(database, timeout, connect, session) as to_change:
            last = perform(to_change, request, plan, partial(called, report), done, seen=seen)
    except MigrationError as error:
        if not is_of_the_caller(error):
            error.steps = tuple(done)
        raise
    return Result(before, _current(last.status), tuple(done))


@contextmanager
def _writing(database: Any, timeout: float, connect: Connect, session: Session | None) -> Iterator[Session]:
    """Open a database to change it, if it is not open still."""
    if session:
        with changing(session):
            yield session
    else:
        with writing(database, timeout, connect) as made:
            yield made


def stamp(
    directory: Directory, target: str, database: Any, *, timeout: float, connect: Connect = SQLITE3
) -> Result:
    """Record that a database is at `target`, whatever it holds now, and run nothing.

    Files that were edited after they were applied count as accepted. Raises MigrationError.
    """
    history = directory.history
    revisions = status.revisions(directory)
    refuse_unwritable(database)
    with mending(directory.place), writing(database, timeout, connect) as session:
        still = "nothing was changed"
        begin(session, still)
        with undone(session, still):
            tables.create(session)
            at = status.status(session.database, tables.salvage(session), directory)
            passed = len(history) - len(status.pending(at))
            goal = resolve(target, history, passed, revisions, session.database)
            name = _stamp(session, at, goal)
            now = _current(status.read(session, directory))
            commit(session, still)
    step = Step("stamp", now.version or BASE, name, version(at), now.version or BASE)
    return Result(version(at), now, (step,))


def _stamp(session: Session, at: Status, goal: int) -> str:
    """Write the version and the log for a stamp at this position; return the name of its migration."""
    directory = at.directory
    number, name, value, mark = "", "", "", ""
    passed = directory.history[:goal]
    if passed:
        script = directory.script(passed[-1].up)
        number, name, mark = passed[-1].version, passed[-1].name, directory.checksum(passed[-1].up)
        value = script.revision or number
    tables.put(session, value)
    tables.write(session, Record("stamp", number, name, at.recorded.value, value, mark))
    for migration in passed[:-1]:
        if status.is_edited(at, migration):
            accepted = directory.checksum(migration.up)
            tables.write(session, Record("accept", migration.version, migration.name, value, value, accepted))
    return name


def current(directory: Directory, database: Any, *, timeout: float, connect: Connect = SQLITE3) -> Current:
    """Return where a database is; reads only."""
    with mending(directory.place), reading(database, timeout, connect) as session, snapshot(session):
        return _current(status.read(session, directory))


def left(directory: Directory, database: Any, connect: Connect = SQLITE3) -> tuple[Current, str]:
    """Return where an interrupted run left a database, and the version that it left unfinished, if any.

    Waits for nobody; reads only.
    """
    with reading(database, 0.0, connect) as session, snapshot(session):
        at = status.read(session, directory)
        note = status.unfinished(at.recorded)
        return _current(at), note.version if note else ""


def history(
    directory: Directory, database: Any, *, timeout: float, connect: Connect = SQLITE3
) -> tuple[Current, tuple[Entry, ...]]:
    """Return where a database is, and every migration as seen from it, oldest first; reads only."""
    with mending(directory.place), reading(database, timeout, connect) as session, snapshot(session):
        at = status.read(session, directory)
        return _current(at), tuple(_entries(at, session))


def _current(at: Status) -> Current:
    here, history = version(at), at.directory.history
    head = history[-1].version if history else None
    known = status.has_files(at)
    pending = len(status.pending(at))
    return Current(at.database, None if here == BASE else here, head, status.is_at_head(at), pending, known)


def _entries(at: Status, session: Session) -> Iterator[Entry]:
    for migration in sorted({*at.directory.history, *at.timeline}):
        yield _entry(at, migration, session)
    if not at.known:
        yield Entry(at.recorded.value, "", "unknown", None, None, False)


def _entry(at: Status, migration: Migration, session: Session) -> Entry:
    record = at.applied.get(migration.number)
    took = record.took_ms if record and record.action != "stamp" else None
    if took is not None and not 0 <= took < float("inf"):
        took = None
    return Entry(
        migration.version,
        migration.name,
        status.state(at, migration),
        record.at if record else None,
        took,
        is_reversible(at, migration, session),
    )
