"""Whether a database is at head and sound: every problem, each with its remedy.

Only looks: nothing is created, repaired or printed here.
"""

import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from ..database import connection as sessions
from ..database import structure as schema
from ..database import tables as ledger
from ..database.connection import Session
from ..database.structure import Schema
from ..database.tables import Record, State
from ..errors import AccessError, StepError, VersionError
from ..files import directory as files
from ..files.directory import Entry, History, Migration, Place
from ..files.plan import BASE
from ..files.script import Script, line, statements
from ..run import commands as runner
from ..run import guards
from ..run import planning as prepare
from ..run.planning import Situation

_RUN = "run: python -m vmpilot.migrate"
_MEND = f"mend it or put a backup back, {_RUN} restore BACKUP"
_SHOWN = 5
_PAUSE = 0.1
_PATIENCE = 0.5
# What only the application's own connection has, or what a module with sqlite3's interface cannot do.
_LACKING = re.compile("no such (?:function|collation|module|tokenizer)|unknown function|not supported")


class Problem(NamedTuple):
    """One thing that is wrong, and what to do about it.

    `kind` is pending, unknown, edited, late, drift, foreign_keys, integrity or unreadable.
    """

    kind: str
    message: str


class Health(NamedTuple):
    """What was found; `remarks` are no problems, but good to know."""

    database: str
    ok: bool
    problems: tuple[Problem, ...]
    remarks: tuple[str, ...]


# Wherever problems are collected, a remark is one of this kind.
_REMARK = ""


def check(
    database: Any = None,
    migrations: str | os.PathLike[str] | Entry | None = None,
    *,
    full: bool = False,
    timeout: float = 30.0,
) -> Health:
    """Find all that keeps a database from being at head and sound; reads only, at one moment.

    `full` takes SQLite's slow integrity_check instead of its quick_check. Raises HistoryError if the
    migration files are wrong; a database that cannot be read is a problem like others.
    """
    place, where = files.located(migrations), sessions.located(database)
    history = files.discover(place)
    try:
        with sessions.reading(where, timeout) as session, sessions.snapshot(session):
            name = session.database
            state, live, found = _look(session, "integrity_check" if full else "quick_check")
    except AccessError as error:
        return _health(error.database, [Problem("unreadable", str(error))])
    # From here on, nobody who wants to write has to wait for us.
    if state is not None:
        situation = prepare.look(state, place, history)
        applied = situation.timeline[: situation.position]
        scripts = {migration: files.load(place, migration.up) for migration in applied if migration.up}
        found = [
            *_standing(name, situation, history, _exists(where)),
            *_edited(situation, scripts),
            *_late(name, situation, place, history),
            *_drift(name, situation, scripts, live),
            *found,
        ]
    return _health(name, found)


def wait(
    database: Any = None,
    migrations: str | os.PathLike[str] | Entry | None = None,
    *,
    seconds: float,
    full: bool = False,
    timeout: float = 30.0,
    say: Callable[[str], None] = lambda text: None,
) -> Health:
    """Wait, at most so many seconds, until a database exists and is at head; check it then.

    Calls `say` with what is waited for, each time that this changes.
    """
    place, where = files.located(migrations), sessions.located(database)
    deadline, told = time.monotonic() + seconds, ""
    while (lack := _lack(place, where)) and (left := deadline - time.monotonic()) > 0:
        if lack != told:
            say(lack)
            told = lack
        time.sleep(min(left, _PAUSE))
    return check(where, place, full=full, timeout=0.0 if lack else timeout)


def _lack(place: Place, where: Any) -> str:
    """Return what keeps a database from being at head, nothing if it is there."""
    try:
        at = runner.current(place, where, timeout=_PATIENCE)
    except (AccessError, VersionError) as error:
        return f"waiting: {error}"
    if not _exists(where):
        return f"waiting for {at.head or BASE}: {at.database} does not exist"
    return "" if at.at_head else f"waiting for {at.head or BASE}: {at.database} is at {at.version or BASE}"


def _exists(where: Any) -> bool:
    return not isinstance(where, str) or os.path.exists(where)


def _health(database: str, found: Sequence[Problem]) -> Health:
    problems = tuple(problem for problem in found if problem.kind != _REMARK)
    remarks = tuple(problem.message for problem in found if problem.kind == _REMARK)
    return Health(database, not problems, problems, remarks)


def _look(session: Session, pragma: str) -> tuple[State | None, Schema | None, list[Problem]]:
    """Read all that is to be judged, None where it makes no sense; judge what needs no files."""
    cursor, database = session.cursor, session.database
    found: list[Problem] = []
    state = live = None
    with sessions.interruptible(session, _nothing):
        try:
            state = ledger.read(cursor, database)
        except VersionError as error:
            found.append(Problem("unknown", str(error)))
        with _unless_lacking(database, "schema not compared", found):
            live = schema.snapshot(cursor)
        with _unless_lacking(database, "foreign keys not checked", found):
            found += _dangling(cursor, database)
        with _unless_lacking(database, "pages not checked", found):
            found += _damage(cursor, database, pragma)
    return state, live, found


def _nothing() -> None:
    """Do nothing during a long statement; that it is called lets Ctrl-C arrive."""


@contextmanager
def _unless_lacking(database: str, what: str, found: list[Problem]) -> Iterator[None]:
    """Make a remark of what only the application's own connection can look at, and a problem of damage."""
    try:
        yield
    except Exception as error:
        if "malformed" in str(error):
            found.append(Problem("integrity", f"{database}: {error}; {_MEND}"))
        elif _LACKING.search(str(error)):
            found.append(Problem(_REMARK, f"{database}: {what}: {error}"))
        else:
            raise


def _dangling(cursor: Any, database: str) -> Iterator[Problem]:
    rows = list(guards.dangling(cursor))
    # An error identifies itself; only a mismatch is the schema's own fault.
    errors = [words for identity, words in rows if identity[-1] == words and "mismatch" not in words]
    violations = [words for _, words in rows if words not in errors]
    if errors:
        yield Problem(_REMARK, f"{database}: foreign keys not checked: {_some(errors)}")
    if violations:
        count = _count(violations, "foreign key violation")
        yield Problem("foreign_keys", f"{database}: {count}: {_some(violations)}; mend or delete these rows")


def _damage(cursor: Any, database: str, pragma: str) -> Iterator[Problem]:
    cursor.execute(f"PRAGMA {pragma}")
    rows = [" ".join(str(row[0]).split()) for row in cursor.fetchall()]
    if rows != ["ok"]:
        yield Problem("integrity", f"{database}: {_some(rows)}; {_MEND}")


def _standing(database: str, situation: Situation, history: History, exists: bool) -> Iterator[Problem]:
    """Yield what the version says: unknown, pending, or left half-way."""
    at, position = prepare.shown(situation), situation.position
    if not _is_known(situation):
        yield Problem("unknown", str(prepare.unknown(at, history, database)))
        return
    lacks = [] if exists else ["does not exist"]
    if pending := [_name(migration) for migration in history if migration.number > situation.reached]:
        lacks.append(f"{_count(pending, 'migration')} pending ({_some(pending)})")
    if lacks:
        yield Problem("pending", f"{database}: {', '.join(lacks)}; {_RUN} upgrade")
    note = ledger.unfinished(situation.state.log)
    if note and note.from_version == situation.state.value:
        before = situation.timeline[position - 2].version if position > 1 else BASE
        remedy = "upgrade" if int(note.version) > situation.reached else f"downgrade {before}"
        what = f"{_name(note)} began outside a transaction at {note.at} and was cut short"
        yield Problem("pending", f"{database}: {what}; to run it again from its start, {_RUN} {remedy}")


def _is_known(situation: Situation) -> bool:
    """Tell whether the current version is base or that of a migration with files."""
    at = situation.position
    return situation.known and (not at or bool(situation.timeline[at - 1].up))


def _edited(situation: Situation, scripts: Mapping[Migration, Script]) -> Iterator[Problem]:
    at = prepare.shown(situation)
    accept = f", or accept the edit, {_RUN} stamp {at}" if _is_known(situation) else ""
    for migration, script in scripts.items():
        if prepare.is_edited(situation.applied, migration, script):
            yield Problem(
                "edited",
                f"{script.file}: edited after it was applied; write a new migration instead, or downgrade "
                f"below it and upgrade again{accept}",
            )


def _late(database: str, situation: Situation, place: Place, history: History) -> Iterator[Problem]:
    free = files.number_after(history)
    for further, migration in enumerate(situation.late):
        name = _name(migration._replace(version=str(int(free) + further).zfill(len(free))))
        yield Problem(
            "late",
            f"{files.shown(place, migration.up)}: never applied, and {database} is already at "
            f"{prepare.shown(situation)}; to apply it, rename its files to {name}.up.sql and {name}.down.sql",
        )


def _drift(
    database: str, situation: Situation, scripts: Mapping[Migration, Script], live: Schema | None
) -> Iterator[Problem]:
    """Yield how the live structure differs from the one that the applied migrations make in memory."""
    if live is None:
        return
    at, remedy = prepare.shown(situation), "undo this by hand, or make it a migration"
    absent = [_name(migration) for migration in situation.timeline[: situation.position] if not migration.up]
    try:
        if absent or not situation.known:
            raise StepError(f"no file for {_some(absent or [at])}")
        made = _replayed(scripts.values())
    except StepError as error:
        yield Problem(_REMARK, f"{database}: schema not compared: {error}")
        return
    known = {fact.key[0] for fact in made}
    if not known.issuperset(fact.key[0] for fact in live):  # what a migration has dropped is known too
        for script in scripts.values():
            known.update(name.lower() for name in guards.tables(script, "create", "alter"))
    others = frozenset(fact for fact in live if fact.key[0] not in known)
    for change in schema.difference(made, live - others):
        yield Problem("drift", f"{database}: schema is not as {at} made it: {change}; {remedy}")
    if changes := schema.difference(frozenset(), others):
        extra = ", ".join(change.removeprefix("+ ") for change in changes)
        yield Problem(_REMARK, f"{database}: also holds what no applied migration made: {extra}")


def _replayed(scripts: Iterable[Script]) -> Schema:
    """Return the structure that scripts make in memory.

    Raises StepError with the first statement that cannot run there: it needs functions, rows or
    tables that only the application has.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        twin = Session(connection, connection.cursor(), ":memory:", 0.0)
        twin.cursor.execute("PRAGMA foreign_keys = OFF")  # as in a run; some builds begin with ON
        with sessions.interruptible(twin, _nothing):
            for script in scripts:
                with sessions.settings_kept(twin, script.words):
                    _replay(twin.cursor, script)
            twin.cursor.execute("PRAGMA writable_schema = RESET")  # read anew what a script wrote into it
            return schema.snapshot(twin.cursor)


def _replay(cursor: Any, script: Script) -> None:
    if script.transactional:
        cursor.execute("BEGIN")
    for index, text in enumerate(statements(script)):
        try:
            cursor.execute(text)
        except sqlite3.Error as error:
            raise StepError(f"{script.file}:{line(script, index)}: {error}") from error
    if script.transactional:
        cursor.execute("COMMIT")


def _name(migration: Migration | Record) -> str:
    return f"{migration.version}_{migration.name}" if migration.name else migration.version


def _count(found: Sequence[str], noun: str) -> str:
    return f"{len(found)} {noun}" + "s" * (len(found) != 1)


def _some(found: Sequence[str]) -> str:
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more
