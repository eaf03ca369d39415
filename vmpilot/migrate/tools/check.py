"""Whether a database is at head and sound: every problem, each with its remedy.

Only looks: nothing is created, repaired or printed here.
"""

import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from ..database import structure, tables
from ..database.connection import Session, interruptible, snapshot
from ..database.opening import Connect, located, reading, scratch
from ..database.structure import Schema
from ..database.tables import Recorded
from ..errors import AccessError, StepError, VersionError
from ..files import directory as directories
from ..files.directory import Entry
from ..files.plan import BASE
from ..files.script import Script
from ..run import commands, guards, keys, status
from ..run.play import play, transaction
from ..run.status import Status, full_name

_RUN = "run: python -m vmpilot.migrate"
_MEND = f"mend it or put a backup back, {_RUN} restore BACKUP"
_SHOWN = 5
_PAUSE = 0.1
_PATIENCE = 0.5
# What only the application's own connection has, or what a module with sqlite3's interface cannot do.
_LACKING = re.compile("no such (?:function|collation|module|tokenizer)|unknown function|not supported")


class Problem(NamedTuple):
    """One thing that is wrong, and what to do about it.

    `kind` is pending, unknown, other, edited, late, unfinished, drift, foreign_keys, integrity or
    unreadable.
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
    connect: Connect = sqlite3.connect,
) -> Health:
    """Find all that keeps a database from being at head and sound; reads only, at one moment.

    `connect` is how the application opens a path, with its SQL functions. `full` takes SQLite's slow
    integrity_check instead of its quick_check. Raises HistoryError if the migration files are wrong; a
    database that cannot be read is a problem like others.
    """
    directory, where = directories.listed(directories.located(migrations)), located(database)
    try:
        with reading(where, timeout, connect) as session, snapshot(session):
            name = session.database
            recorded, live, found = _look(session, "integrity_check" if full else "quick_check")
    except AccessError as error:
        return _health(str(error.database), [Problem("unreadable", str(error))])
    # From here on, nobody who wants to write has to wait for us.
    if recorded is not None:
        at = status.status(name, recorded, directory)
        found = [
            *_pending(at, _exists(where)),
            *(Problem(kind, str(error)) for kind, error in status.problems(at)),
            *_drift(at, live, connect),
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
    connect: Connect = sqlite3.connect,
    say: Callable[[str], None] = lambda text: None,
) -> Health:
    """Wait, at most so many seconds, until a database exists and is at head; check it then.

    Calls `say` with what is waited for, each time that this changes.
    """
    place, where = directories.located(migrations), located(database)
    deadline, told = time.monotonic() + seconds, ""
    while (lack := _lack(place, where)) and (left := deadline - time.monotonic()) > 0:
        if lack != told:
            say(lack)
            told = lack
        time.sleep(min(left, _PAUSE))
    return check(where, place, full=full, timeout=0.0 if lack else timeout, connect=connect)


def _lack(place: directories.Place, where: Any) -> str:
    """Return what keeps a database from being at head, nothing if it is there."""
    try:
        at = commands.current(directories.listed(place), where, timeout=_PATIENCE)
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


def _look(session: Session, pragma: str) -> tuple[Recorded | None, Schema | None, list[Problem]]:
    """Read all that is to be judged, None where it makes no sense; judge what needs no files."""
    found: list[Problem] = []
    recorded = live = None
    with interruptible(session):
        try:
            recorded = tables.read(session)
        except VersionError as error:
            found.append(Problem("unknown", str(error)))
        with _unless_lacking(session.database, "schema not compared", found):
            live = structure.snapshot(session)
        with _unless_lacking(session.database, "foreign keys not checked", found):
            found += _dangling(session)
        with _unless_lacking(session.database, "pages not checked", found):
            found += _damage(session, pragma)
    return recorded, live, found


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


def _dangling(session: Session) -> Iterator[Problem]:
    rows = list(keys.dangling(session))
    # An error identifies itself; only a mismatch is the schema's own fault.
    errors = [words for identity, words in rows if identity[-1] == words and "mismatch" not in words]
    violations = [words for _, words in rows if words not in errors]
    if errors:
        yield Problem(_REMARK, f"{session.database}: foreign keys not checked: {_some(errors)}")
    if violations:
        count = _count(violations, "foreign key violation")
        told = f"{session.database}: {count}: {_some(violations)}; mend or delete these rows"
        yield Problem("foreign_keys", told)


def _damage(session: Session, pragma: str) -> Iterator[Problem]:
    rows = [" ".join(str(row[0]).split()) for row in session.rows(f"PRAGMA {pragma}")]
    if rows != ["ok"]:
        yield Problem("integrity", f"{session.database}: {_some(rows)}; {_MEND}")


def _pending(at: Status, exists: bool) -> Iterator[Problem]:
    if not status.has_files(at):
        return
    lacks = [] if exists else ["does not exist"]
    if pending := [full_name(migration) for migration in status.pending(at)]:
        lacks.append(f"{_count(pending, 'migration')} pending ({_some(pending)})")
    if lacks:
        yield Problem("pending", f"{at.database}: {', '.join(lacks)}; {_RUN} upgrade")


def _drift(at: Status, live: Schema | None, connect: Connect) -> Iterator[Problem]:
    """Yield how the live structure differs from the one that the applied migrations make in memory."""
    if live is None:
        return
    version, remedy = status.version(at), "undo this by hand, or make it a migration"
    applied = at.timeline[: at.position]
    absent = [full_name(migration) for migration in applied if not migration.up]
    scripts = [at.directory.script(migration.up) for migration in applied if migration.up]
    try:
        if absent or not at.known:
            raise StepError(f"no file for {_some(absent or [version])}")
        made = _replayed(scripts, connect)
    except StepError as error:
        yield Problem(_REMARK, f"{at.database}: schema not compared: {error}")
        return
    known = {fact.key[0] for fact in made}
    if not known.issuperset(fact.key[0] for fact in live):  # what a migration has dropped is known too
        for script in scripts:
            known.update(name.lower() for name in guards.tables(script, "create", "alter"))
    others = frozenset(fact for fact in live if fact.key[0] not in known)
    for change in structure.difference(made, live - others):
        told = f"{at.database}: schema is not as {version} made it: {change}; {remedy}"
        yield Problem("drift", told)
    if changes := structure.difference(frozenset(), others):
        extra = ", ".join(change.removeprefix("+ ") for change in changes)
        yield Problem(_REMARK, f"{at.database}: also holds what no applied migration made: {extra}")


def _replayed(scripts: Iterable[Script], connect: Connect) -> Schema:
    """Return the structure that scripts make in memory.

    Raises StepError with the first statement that cannot run there: it needs functions, rows or
    tables that only the application has.
    """
    with scratch(connect=connect) as session:
        for script in scripts:
            with transaction(session, script):
                play(session, script)
        session.run("PRAGMA writable_schema = RESET")  # read anew what a script wrote into it
        with interruptible(session):
            return structure.snapshot(session)


def _count(found: Sequence[str], noun: str) -> str:
    return f"{len(found)} {noun}" + "s" * (len(found) != 1)


def _some(found: Sequence[str]) -> str:
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more
