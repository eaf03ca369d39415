"""Whether a database is at head and sound: every problem, each with its remedy.

Only looks: nothing is created, repaired or printed here.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple

from ..database import soundness, structure, tables
from ..database.connection import Row, Session, interruptible, is_damage, is_of_the_application, snapshot
from ..database.copies import newest
from ..database.expansion import UNTRIED
from ..database.names import is_missing, located
from ..database.opening import SQLITE3, Connect, reading, scratch, scratch_like
from ..database.settings import setting
from ..database.structure import Schema
from ..database.tables import Recorded
from ..errors import AccessError, StepError, VersionError, counted, passed_over, printable, some
from ..files import directory as directories
from ..files.directory import Directory, Entry, Migration
from ..files.plan import BASE
from ..files.script import Script
from ..run import commands, guards, keys, status
from ..run.paste import put_back
from ..run.play import follow
from ..run.request import mending
from ..run.status import Status, full_name
from ..tokens import folded

_PAUSE = 0.1
_PATIENCE = 0.5
_OBJECTS = "SELECT +type, +name, +sql FROM main.sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid"


class Problem(NamedTuple):
    """One thing that is wrong, and what to do about it.

    `kind` is pending, unknown, other, edited, late, unfinished, drift, not_compared, foreign_keys, broken,
    integrity or unreadable.
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
    create: bool = True,
    connect: Connect = SQLITE3,
) -> Health:
    """Find all that keeps a database from being at head and sound; reads only, at one moment.

    `connect` is how the application opens a path, with its SQL functions. `full` takes SQLite's slow
    integrity_check instead of its quick_check. Raises HistoryError if the migration files are wrong; a
    database that cannot be read is a problem like others, and without `create` so is one that is not there.

    >>> _ = migrate("app.db")
    >>> check("app.db").ok
    True
    """
    directory, where = directories.listed(directories.located(migrations)), located(database)
    try:
        where = located(where, create=create)
        opened = reading(where, timeout, connect)
        with mending(directory.place), opened as session, _read_anew(session), snapshot(session):
            name = session.database
            seen = _look(session, directory, "integrity_check" if full else "quick_check")
    except AccessError as error:
        return _health(str(error.database), [Problem("unreadable", str(error))])
    # From here on, nobody who wants to write has to wait for us.
    found, passed = list[Problem](), dict[str, str]()
    if seen.recorded is not None:
        at = status.status(name, seen.recorded, directory)
        problems = [Problem(kind, str(error)) for kind, error in status.problems(at)]
        found += [*_pending(at, _exists(where), problems), *problems]
        found += _compared(at, seen.live, partial(_empty, where, timeout, connect), passed)
    found += [*seen.found, *_unparented(name, seen.violations, passed)]
    with _empty(where, timeout, connect) as empty:
        found += _broken(name, [*seen.parentless, *_uncompiled(empty, seen.objects)], passed)
    return _health(name, [*found, *seen.damage])


def wait(
    database: Any = None,
    migrations: str | os.PathLike[str] | Entry | None = None,
    *,
    seconds: float,
    full: bool = False,
    timeout: float = 30.0,
    create: bool = True,
    connect: Connect = SQLITE3,
    say: Callable[[str], None] = lambda text: None,
) -> Health:
    """Wait, at most so many seconds, until a database exists and is at head; check it then.

    Calls `say` with what is waited for, each time that this changes.
    """
    place, where = directories.located(migrations), located(database)
    deadline, told = time.monotonic() + seconds, ""
    while (lack := _lack(place, where, connect)) and (left := deadline - time.monotonic()) > 0:
        if lack != told:
            say(lack)
            told = lack
        time.sleep(min(left, _PAUSE))
    patience = 0.0 if lack else timeout
    return check(where, place, full=full, timeout=patience, create=create, connect=connect)


def _lack(place: directories.Place, where: Any, connect: Connect) -> str:
    """Return what keeps a database from being at head, nothing if it is there."""
    try:
        at = commands.current(directories.listed(place), where, timeout=_PATIENCE, connect=connect)
    except (AccessError, VersionError) as error:
        return f"waiting: {error}"
    if not _exists(where):
        return f"waiting for {at.head or BASE}: {at.database} does not exist"
    return "" if at.at_head else f"waiting for {at.head or BASE}: {at.database} is at {at.version or BASE}"


def _exists(where: Any) -> bool:
    return not isinstance(where, str) or not is_missing(where)


def _health(database: str, found: Sequence[Problem]) -> Health:
    shown = [Problem(problem.kind, printable(problem.message)) for problem in found]
    problems = tuple(problem for problem in shown if problem.kind != _REMARK)
    remarks = tuple(problem.message for problem in shown if problem.kind == _REMARK)
    return Health(database, not problems, problems, remarks)


class _Seen(NamedTuple):
    """All that is to be judged, read at one moment; None where it makes no sense, empty where it lacks."""

    recorded: Recorded | None
    live: Schema | None
    objects: list[Row]
    parentless: list[str]
    found: list[Problem]
    violations: list[keys.Violation]
    damage: list[Problem]


@contextmanager
def _read_anew(session: Session) -> Iterator[None]:
    """Have a caller's connection see the schema that was written into it by hand, and leave its setting."""
    before = "" if session.ours else setting(session, "writable_schema")
    if before:
        with passed_over(*session.failures):
            session.run("PRAGMA writable_schema = RESET")
    try:
        yield
    finally:
        if before == "1":
            with passed_over(*session.failures):
                session.run("PRAGMA writable_schema = ON")


@contextmanager
def _empty(where: Any, timeout: float, connect: Connect) -> Iterator[Session]:
    """Open a scratch database with what the application gives to its connections."""
    if isinstance(where, str):
        with scratch(connect=connect) as empty:
            yield empty
        return
    with reading(where, timeout) as session, scratch_like(session) as empty:
        yield empty


def _look(session: Session, directory: Directory, pragma: str) -> _Seen:
    """Read all that is to be judged; judge what needs no files."""
    recorded = live = None
    objects: list[Row] = []
    parentless: list[str] = []
    found: list[Problem] = []
    violations: list[keys.Violation] = []
    damage: list[Problem] = []

    def mend() -> str:
        backup = newest(session.database)
        advice = "mend it or put a backup back"
        return put_back(session.database, directory.place, backup) if backup else advice

    with interruptible(session):
        try:
            recorded = status.recorded(session, directory)
        except VersionError as error:
            found.append(Problem("unknown", str(error)))
        with _unless_lacking(session.database, "schema not compared", mend, found):
            live = structure.snapshot(session)
            objects, parentless = session.rows(_OBJECTS), _parentless(session)
        with _unless_lacking(session.database, "foreign keys not checked", mend, found):
            violations += keys.violations(session)
        with _unless_lacking(session.database, "pages not checked", mend, damage):
            damage += _damage(session, pragma, mend)
    return _Seen(recorded, live, objects, parentless, found, violations, damage)


@contextmanager
def _unless_lacking(
    database: str, what: str, mend: Callable[[], str], found: list[Problem]
) -> Iterator[None]:
    """Say what only the application's own connection can look at, and what is damaged."""
    try:
        yield
    except Exception as error:
        if is_damage(error):
            found.append(Problem("integrity", f"{database}: {error}; {mend()}"))
        elif is_of_the_application(str(error)):
            found.append(Problem("not_compared", f"{database}: {what}: {error}"))
        else:
            raise


def _unparented(database: str, found: list[keys.Violation], passed: Mapping[str, str]) -> Iterator[Problem]:
    """Yield the rows without a parent; what a file says that it may leave is a remark with its reason."""
    # Only a mismatch is the schema's own fault.
    errors = [one.words for one in found if not one.parent and not keys.is_mismatch(one.words)]
    rows = [one for one in found if one.words not in errors]
    violations = [one.words for one in rows if one.table not in passed]
    for table in sorted({one.table for one in rows} & passed.keys()):
        left = [one.words for one in rows if one.table == table]
        count = counted(len(left), "foreign key violation")
        yield Problem(_REMARK, f"{database}: {count}: {some(left)}; unguarded: {passed[table]}")
    if errors:
        lacking = any(map(is_of_the_application, errors))
        told = f"{database}: foreign keys not checked: {some(errors)}"
        yield Problem("not_compared" if lacking else _REMARK, told)
    if violations:
        count = counted(len(violations), "foreign key violation")
        told = f"{database}: {count}: {some(violations)}; mend or delete these rows"
        yield Problem("foreign_keys", told)


def _parentless(session: Session) -> list[str]:
    """Return in words the foreign keys whose parent table is missing."""
    return list(dict.fromkeys(map(keys.lack_words, keys.lacking_now(session))))


def _uncompiled(empty: Session, objects: Sequence[Row]) -> Iterator[str]:
    """Yield the views and triggers that do not compile, in words, from the same schema without rows.

    Virtual tables come first, because they make their own tables; those that need a table come last.
    """
    virtual = [sql for _, _, sql in objects if structure.is_virtual(sql)]
    others = {
        kind: [sql for each, _, sql in objects if each == kind] for kind in ("table", "view", "trigger")
    }
    for sql in (*virtual, *others["table"], *virtual, *others["view"], *others["trigger"]):
        with passed_over(*empty.failures):  # what is there already, or what only the application can make
            empty.run(sql)
    made = {folded(name) for _, name, _ in empty.rows(_OBJECTS)}
    lacking = [name for kind, name, _ in objects if kind != "index" and folded(name) not in made]
    with interruptible(empty):
        for (_, name), words in guards.not_compiling(empty).items():
            if not is_of_the_application(words) and not any(other in words for other in lacking):
                yield f"{name} does not compile: {words}"


def _broken(database: str, found: Iterable[str], passed: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what does not work; what a file says may be left is a remark with its reason."""
    untried = list[str]()
    for words in found:
        if words.endswith(UNTRIED):
            untried.append(words.removesuffix(f" does not compile: {UNTRIED}"))
        elif words in passed:
            yield Problem(_REMARK, f"{database}: {words}; unguarded: {passed[words]}")
        else:
            yield Problem("broken", f"{database}: {words}")
    if untried:
        yield Problem(_REMARK, f"{database}: too much to compile, so this was not tried: {some(untried)}")


def _damage(session: Session, pragma: str, mend: Callable[[], str]) -> Iterator[Problem]:
    if found := soundness.damage(session, pragma):
        yield Problem("integrity", f"{session.database}: {some(found)}; {mend()}")


def _pending(at: Status, exists: bool, problems: Sequence[Problem]) -> Iterator[Problem]:
    if not status.has_files(at):
        return
    lacks = [] if exists else ["does not exist"]
    if pending := [full_name(migration) for migration in status.pending(at)]:
        lacks.append(f"{counted(len(pending), 'migration')} pending ({some(pending)})")
    if lacks:
        told = f"{at.database}: {', '.join(lacks)}"
        if all(problem.kind == "unfinished" for problem in problems):  # all others keep it from being done
            told += f"; run: {status.command(at.database, at.directory, 'upgrade')}"
        yield Problem("pending", told)


def _compared(
    at: Status,
    live: Schema | None,
    opened: Callable[[], AbstractContextManager[Session]],
    passed: dict[str, str],
) -> Iterator[Problem]:
    """Yield how the live structure differs from the one that the applied migrations make in memory.

    Puts into `passed` what these leave broken on purpose, in words, with the reason.
    """
    if live is None:
        return
    applied = at.timeline[: at.position]
    absent = [full_name(migration) for migration in applied if not migration.up]
    scripts = {each: at.directory.script(each.up) for each in applied if each.up}
    try:
        if absent or not at.known:
            raise StepError(f"no file for {some(absent or [status.version(at)])}")
        with opened() as empty:
            made = _replayed(empty, scripts, passed)
    except StepError as error:
        yield Problem("not_compared", f"{at.database}: schema not compared: {error}")
        return
    yield from _drift(at, made, live, scripts.values())


def _drift(at: Status, made: Schema, live: Schema, scripts: Iterable[Script]) -> Iterator[Problem]:
    known = {fact.key[0] for fact in made}
    if not known.issuperset(fact.key[0] for fact in live):  # what a migration has dropped is known too
        for script in scripts:
            known.update(folded(name) for name in guards.tables(script, "create", "alter"))
    others = frozenset(fact for fact in live if fact.key[0] not in known)
    for change in structure.difference(made, live - others):
        told = f"{at.database}: schema is not as {status.version(at)} made it: {change}"
        yield Problem("drift", f"{told}; undo this by hand, or make it a migration")
    if changes := structure.difference(frozenset(), others):
        extra = ", ".join(change.removeprefix("+ ") for change in changes)
        yield Problem(_REMARK, f"{at.database}: also holds what no applied migration made: {extra}")


def _replayed(empty: Session, scripts: Mapping[Migration, Script], passed: dict[str, str]) -> Schema:
    """Return the structure that up scripts make in memory, and note what they leave broken on purpose.

    Raises StepError with the first statement that cannot run there: it needs functions, rows or
    tables that only the application has.
    """
    tables.create(empty)
    for migration, script in scripts.items():
        follow(empty, migration, script)
        if script.unguarded:
            left = [*_parentless(empty), *_uncompiled(empty, ())]
            left += guards.can_break(empty, script)
            passed |= {words: script.unguarded for words in left if words not in passed}
    empty.run("PRAGMA writable_schema = RESET")  # read anew what a script wrote into it
    with interruptible(empty):
        return structure.snapshot(empty)
