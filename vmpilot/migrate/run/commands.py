"""One function per wish: run (upgrade, downgrade), stamp, current, history.

Brings the other modules together in the order that keeps the database valid; what each of them
decides is decided there, and nothing is printed.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..database import connection as sessions
from ..database import tables as ledger
from ..database.connection import Session
from ..database.tables import Record
from ..files import directory as files
from ..files.directory import History, Place
from ..files.plan import BASE, Report, Step, resolve
from .planning import (
    Situation,
    Wish,
    is_edited,
    is_reversible,
    look,
    passed,
    planned,
    revisions,
    shown,
)


class Current(NamedTuple):
    """Where a database is; `version` is None at base, `pending` a count.

    `known` tells whether these migrations have files for the version.
    """

    database: str
    version: str | None
    head: str | None
    at_head: bool
    pending: int
    known: bool


class Entry(NamedTuple):
    """One migration as seen from a database.

    `state` is applied, pending, edited, late or unknown; `applied_at` is UTC in ISO 8601;
    `took_ms` is in milliseconds.
    """

    version: str
    name: str
    state: str
    applied_at: str | None
    took_ms: float | None
    reversible: bool


def run(
    wish: Wish,
    database: Any,
    *,
    timeout: float,
    report: Report,
    prelude: Callable[[str], None],
) -> tuple[Step, ...]:
    """Take a database to where `wish` asks; return the steps that were done, none if it was there.

    A wish that is fulfilled already reads only, opens no migration file and waits for no writer.
    `prelude` is called with the current version before the first step. Raises MigrationError; then
    the steps before stay, and the one that failed left nothing.
    """
    with sessions.reading(database, timeout) as session:
        plan = planned(wish, session)
    if plan is None:
        return ()
    prelude(plan[0].steps[0].before)
    from .step import run_on  # with all that it needs, what a start-up with nothing to do need not load

    with sessions.writing(database, timeout) as session:
        return run_on(session, wish, *plan, report)


def stamp(place: Place, target: str, database: Any, *, timeout: float) -> Step:
    """Record that a database is at `target`, whatever it holds now, and run nothing.

    Files that were edited after they were applied count as accepted. Raises MigrationError.
    """
    from ..files.script import checksum

    history = files.discover(place)
    pairs = [(migration, files.load(place, migration.up)) for migration in history]
    with sessions.writing(database, timeout) as session:
        cursor, still = session.cursor, "nothing was changed"
        sessions.begin(session, still)
        with sessions.undone(session, still):
            ledger.create(cursor)
            situation = look(ledger.salvage(cursor, session.database), place, history)
            before = situation.state.value
            goal = resolve(
                target, history, passed(situation, history), revisions(place, history), session.database
            )
            version, name, value, mark = "", "", "", ""
            if goal:
                migration, script = pairs[goal - 1]
                version, name, mark = migration.version, migration.name, checksum(script)
                value = script.revision or version
            ledger.put(cursor, value)
            ledger.write(cursor, Record("stamp", version, name, before, value, mark))
            for migration, script in pairs[: max(goal - 1, 0)]:
                if is_edited(situation.applied, migration, script):
                    accepted = (migration.version, migration.name, value, value, checksum(script))
                    ledger.write(cursor, Record("accept", *accepted))
            sessions.commit(session, still)
    return Step("stamp", version or BASE, name, shown(situation), version or BASE)


def current(place: Place, database: Any, *, timeout: float) -> Current:
    """Return where a database is; reads only."""
    history = files.discover(place)
    with sessions.reading(database, timeout) as session, sessions.snapshot(session):
        return _current(look(ledger.read(session.cursor, session.database), place, history), history, session)


def history(place: Place, database: Any, *, timeout: float) -> tuple[Current, tuple[Entry, ...]]:
    """Return where a database is, and every migration as seen from it, oldest first; reads only."""
    known = files.discover(place)
    with sessions.reading(database, timeout) as session, sessions.snapshot(session):
        situation = look(ledger.read(session.cursor, session.database), place, known)
        entries = tuple(_entries(situation, place, known, session))
        return _current(situation, known, session), entries


def _current(situation: Situation, history: History, session: Session) -> Current:
    at = shown(situation)
    head = history[-1].version if history else None
    pending = len(history) - passed(situation, history)
    known = situation.known and at in (BASE, *(migration.version for migration in history))
    at_head = known and not pending and not situation.late
    return Current(session.database, None if at == BASE else at, head, at_head, pending, known)


def _entries(situation: Situation, place: Place, history: History, session: Session) -> Iterator[Entry]:
    late, applied = set(situation.late), passed(situation, situation.timeline)
    for migration in sorted({*history, *situation.timeline}):
        record = situation.applied.records.get(migration.number)
        state = "late" if migration in late else "pending"
        if not migration.up:
            state = "unknown"
        elif migration in situation.timeline[:applied]:
            script = files.load(place, migration.up)
            state = "edited" if is_edited(situation.applied, migration, script) else "applied"
        at, took = (record.at, record.took_ms) if record else (None, None)
        took = None if record and record.action == "stamp" else took
        yield Entry(
            migration.version, migration.name, state, at, took, is_reversible(migration, place, session)
        )
    if not situation.known:
        yield Entry(situation.state.value, "", "unknown", None, None, False)
