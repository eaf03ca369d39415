"""Proof that the files are right: each migration up, down and up again, on a private database.

Neither the database of the application nor its log is touched, and nothing is written outside of the
scratch database. How structure and rows are compared is decided in `structure` and in `contents`.

Values from the clock or from chance are no difference. The functions that make them are not replaced,
because SQLite would then allow them where it does not, and an interrupt inside of such a function would be
lost. Instead, only where a migration would fail for its rows, it is played a second time from the same
start, in a later second: a column that differs between the two runs does not depend on the migration
alone, and is left out.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any, NamedTuple

from ..database import contents, structure, tables
from ..database.connection import Session, failures, in_transaction, interruptible, is_damage
from ..database.connection import words as words_of
from ..database.contents import Contents
from ..database.names import located
from ..database.opening import SQLITE3, Connect, alike, reading, scratch
from ..database.settings import setting
from ..errors import HistoryError, StepError
from ..files import directory as directories
from ..files.directory import Directory, History, Migration, lack_of_down
from ..files.script import Script
from ..run import guards, keys
from ..run.ours import own_tables, refuse_changed
from ..run.planning import planned
from ..run.play import has_wal_after, kept_from_wal, play, stands_alone, transaction
from ..run.renames import Place
from ..run.request import Request, mending
from ..tokens import mentioned
from .copying import private_copy, refuse_another
from .replay import hinted

# https://www.sqlite.org/lang_datefunc.html
_CLOCK = frozenset(
    (
        *("current_date", "current_time", "current_timestamp", "date", "datetime", "julianday"),
        *("strftime", "time", "timediff", "unixepoch"),
    )
)
_MARKS = ("user_version", "application_id")  # https://www.sqlite.org/pragma.html#pragma_user_version
_CHANCE = frozenset(("random", "randomblob"))
_TRIES = 32
_PAGES = 4096  # copied between two looks at whether a signal has come


class Verdict(NamedTuple):
    """What was found of one migration.

    `remarks` are worth knowing and no failure. `rows` counts the rows of each table that the
    migration touches, before and after it; `loses` says which rows a later downgrade would cost.
    """

    version: str
    name: str
    ok: bool
    problems: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    rows: tuple[tuple[str, int, int], ...] = ()
    loses: tuple[str, ...] = ()


class Proof(NamedTuple):
    """What was found of all migrations."""

    ok: bool
    migrations: tuple[Verdict, ...]

    def raise_for_problems(self) -> None:
        """Raise HistoryError with every problem, if there is one: the one line of a test suite."""
        problems = [problem for verdict in self.migrations for problem in verdict.problems]
        if problems:
            raise HistoryError("; ".join(problems), file=problems[0].partition(":")[0])


def verify(
    migrations: "str | PathLike[str] | directories.Entry | None" = None,
    *,
    connect: Connect = SQLITE3,
) -> Proof:
    """Prove all migrations on an empty database in memory.

    A migration fails if its up or down fails; if after the down the structure is not what it was before the
    up, or a row that was there is changed or lost; if the second up does not lead where the first one led, in
    structure and rows; or if it leaves a foreign key without its parent table that no later one brings back.
    `connect` is how the application opens a path, for migrations that need its SQL functions. Raises
    HistoryError if the files themselves break a rule.

    >>> proof = verify()
    >>> proof.ok, proof.migrations[0].version
    (True, '0001')
    """
    directory = directories.listed(directories.located(migrations))
    with scratch(connect=connect) as session:
        return _proof(session, directory, directory.history)


def verify_on_copy(
    database: Any = None,
    migrations: "str | PathLike[str] | directories.Entry | None" = None,
    *,
    timeout: float = 30.0,
    create: bool = True,
    connect: Connect = SQLITE3,
) -> Proof:
    """Prove the pending migrations on a private copy of a database, with its rows; reads only.

    One that is not there counts as empty; with `create` False that is an AccessError.
    """
    directory, where = directories.listed(directories.located(migrations)), located(database, create=create)
    with mending(directory.place), reading(where, timeout, connect) as session:
        name, tasks = session.database, planned(Request("upgrade", directory, "head"), session).tasks
    steps = {task.step.version for task in tasks}
    pending = tuple(migration for migration in directory.history if migration.version in steps)
    if not pending:
        return Proof(True, ())
    with (
        private_copy(where, timeout, connect) as copy,
        scratch(copy.path, name, connect=connect) as session,
    ):
        refuse_another(copy)
        return _proof(session, directory, pending)


_Left = dict[Place, tuple[str, str]]  # a foreign key without its parent table: the file, and words


def _proof(session: Session, directory: Directory, pending: History) -> Proof:
    """Prove migrations one after the other on a scratch database that stands right before them."""
    verdicts: list[Verdict] = []
    failed = ""
    has_log = setting(session, "journal_mode") == "wal"
    tables.create(session)
    with interruptible(session):
        integrity = guards.at_start(session, None)
    lacking = known = _lacking(integrity, {}, "")
    pairs = [_pair(directory, migration) for migration in pending]
    for pair in pairs:
        migration = pair.migration
        if failed:
            problem = f"{pair.up.file}: not tried, because {failed} fails"
            verdicts.append(Verdict(migration.version, migration.name, False, (problem,)))
            continue
        verdict, first = _tried(session, pair, integrity)
        verdicts.append(verdict)
        integrity, failed = first.integrity, migration.version if first.problems else ""
        if not failed:
            _note(session, pair)
            if "table" in pair.up.words:
                lacking = _lacking(integrity, lacking, pair.up.file)
    left = {} if failed else {place: by for place, by in lacking.items() if place not in known}
    verdicts = [
        _with_lacking(_with(verdict, kept), pair.up, left)
        for verdict, pair, kept in zip(verdicts, pairs, _kept_from_wal(pairs, has_log), strict=True)
    ]
    return Proof(all(verdict.ok for verdict in verdicts), tuple(verdicts))


def _lacking(integrity: guards.Integrity, before: _Left, file: str) -> _Left:
    """Return the foreign keys whose parent table is missing, each with the file that left it so first."""
    found = integrity.keys.lacking.items()
    return {place: before.get(place, (file, keys.lack_words(lack.key))) for place, lack in found}


def _with_lacking(verdict: Verdict, up: Script, left: _Left) -> Verdict:
    """Add to a verdict the foreign keys that its migration left without a parent table for good."""
    of_this = () if up.unguarded else (words for file, words in left.values() if file == up.file)
    return _with(verdict, tuple(f"{up.file}: {words}" for words in of_this))


def _with(verdict: Verdict, problems: tuple[str, ...]) -> Verdict:
    new = tuple(problem for problem in problems if problem not in verdict.problems)
    return verdict._replace(ok=verdict.ok and not problems, problems=verdict.problems + new)


def _kept_from_wal(pairs: "Iterable[_Pair]", has_log: bool) -> Iterator[tuple[str, ...]]:
    """Yield for each migration what its transaction would keep from beginning a write-ahead log.

    That is no matter for a database in memory, on which it is proved, but for every file: the run says so.
    """
    for pair in pairs:
        scripts = [script for script in (pair.up, pair.down) if script]
        errors = [error for script in scripts if not has_log and (error := kept_from_wal(script))]
        yield tuple(str(error) for error in errors)
        has_log = has_wal_after(pair.up, has_log)


class _Pair(NamedTuple):
    """The scripts of a migration."""

    migration: Migration
    up: Script
    down: Script | None


def _pair(directory: Directory, migration: Migration) -> _Pair:
    down = directory.script(migration.down) if migration.down else None
    return _Pair(migration, directory.script(migration.up), down)


def _note(session: Session, pair: _Pair) -> None:
    """Record a migration as applied: the files of others may read that."""
    version = pair.migration.version
    tables.note(session, version, pair.migration.name, pair.up.revision or version)


class _State(NamedTuple):
    """A scratch database where a migration can change it, and what went wrong on the way there.

    `marks` are the numbers that an application gives to its file, `numbers` what AUTOINCREMENT gave last.
    """

    schema: structure.Schema
    contents: Contents
    rows: dict[str, int]
    marks: dict[str, int]
    numbers: dict[str, int]
    integrity: guards.Integrity
    problems: tuple[str, ...] = ()


class _Round(NamedTuple):
    """The states of a migration that is played up, down and up again."""

    before: _State
    first: _State
    undone: _State
    again: _State


def _tried(session: Session, pair: _Pair, integrity: guards.Integrity) -> tuple[Verdict, _State]:
    """Prove one migration; return what was found, and how its up leaves the database.

    That of damage only the end of a savepoint tells is the migration's too: a virtual table writes there what
    it has kept back, https://www.sqlite.org/vtab.html#the_xsavepoint_xrelease_and_xrollbackto_methods
    """
    _, up, down = pair
    with interruptible(session):
        reach = structure.reach(session, up.text, down.text if down else "")
        if up.keys_on or (down and down.keys_on):
            reach = structure.with_actions(session, reach)
    before = _look(session, reach, integrity)
    try:
        return _verdict(session, pair, reach, before)
    except failures(session.connection) as error:
        if not is_damage(error):
            raise
        problem = f"{up.file}: {words_of(error)}"
        verdict = Verdict(pair.migration.version, pair.migration.name, False, (problem,))
        return verdict, before._replace(problems=verdict.problems)


def _verdict(session: Session, pair: _Pair, reach: frozenset[str], before: _State) -> tuple[Verdict, _State]:
    migration, up, down = pair
    remarks: tuple[str, ...] = tuple(_remarks(pair))
    loses: tuple[str, ...] = ()
    unread = contents.unread(before.contents)
    with _moment(session, pair, "vmpilot_before") as back:
        first = _run(session, up, reach, before)
        problems = first.problems
        if problems:
            pass
        elif down is None:
            problems = (f"{up.file}: {lack_of_down(migration)}",)
        elif down.irreversible:
            gone = contents.given_up(before.contents, first.contents)
            remarks += tuple(f"not to be brought back: {words}" for words in gone)
        else:
            seen = _round(session, pair, reach, before, first)
            first = seen.first
            chance = _by_chance(session, pair, reach, seen, back)
            problems = tuple(_problems_of_down(up, down, chance))
            remarks += tuple(_left_behind(down, chance)) if not problems else ()
            loses = tuple(contents.lost(first.contents, seen.undone.contents).values())
            unread = contents.unread(*(state.contents for state in seen))
        remarks += tuple(f"rows of {table} not compared: they cannot be read to the end" for table in unread)
    rows = tuple((table, before.rows.get(table, 0), count) for table, count in sorted(first.rows.items()))
    verdict = Verdict(migration.version, migration.name, not problems, problems, remarks, rows, loses)
    return verdict, first


def _remarks(pair: _Pair) -> Iterator[str]:
    """Yield what the directives of a migration ask for that is worth knowing."""
    for script in (pair.up, pair.down):
        if script and not script.transactional:
            yield f"{script.file}: no-transaction: if it is cut short, it runs again from its start"
        if script and script.keys_on:
            yield f"{script.file}: foreign-keys-on: {script.keys_on}"
        if script and script.unguarded:
            yield f"{script.file}: unguarded: {script.unguarded}"
    if pair.down and pair.down.irreversible:
        yield f"irreversible: {pair.down.irreversible}"


def _round(session: Session, pair: _Pair, reach: frozenset[str], before: _State, first: _State) -> _Round:
    """Play the down and the up again, and leave the database as it was after the first up."""
    assert pair.down
    value = tables.current(session)
    with _moment(session, pair, "vmpilot_first") as back:
        _note(session, pair)
        undone = again = _run(session, pair.down, reach, first)
        tables.take_back(session, value)
        if not undone.problems:
            _number_again(session, before.numbers)
            again = _run(session, pair.up, reach, undone)
        # To go back makes SQLite read the whole schema again.
        if again._replace(integrity=first.integrity) == first:
            first = first._replace(integrity=again.integrity)
        elif not back():
            _run(session, pair.up, reach, before)
    return _Round(before, first, undone, again)


def _number_again(session: Session, numbers: dict[str, int]) -> None:
    """Let AUTOINCREMENT give the same numbers again: that it does not by itself is no fault of a migration.

    It never gives one that a row has: https://www.sqlite.org/autoinc.html
    """
    if _numbers(session) != numbers:
        session.run("DELETE FROM main.sqlite_sequence")
        for name, number in numbers.items():
            session.run("INSERT INTO main.sqlite_sequence (name, seq) VALUES (?, ?)", (name, number))


def _numbers(session: Session) -> dict[str, int]:
    """Return the number that each AUTOINCREMENT table gave last."""
    if not session.rows("PRAGMA main.table_info(sqlite_sequence)"):  # which looks through no schema
        return {}
    return dict(session.rows("SELECT name, seq FROM main.sqlite_sequence"))


# --- what is said of a round


def _problems_of_down(up: Script, down: Script, seen: _Round) -> Iterator[str]:
    before, first, undone, again = seen
    yield from undone.problems
    if undone.problems:
        return
    where = down.file if down.starts else f"{down.file}: no statement"
    if found := structure.difference(before.schema, undone.schema):
        yield f"{where}: after up and down the schema is not what it was before: {', '.join(found)}"
    lost = contents.lost(before.contents, undone.contents)
    stale = contents.stale(before.contents, undone.contents)
    marked = (
        f"{words}; put it back: PRAGMA {name} = {before.marks[name]}"
        for name, words in _marked(before, undone).items()
    )
    for words in (*lost.values(), *stale.values(), *marked):
        yield f"{where}: after up and down, {words}"
    yield from (f"{problem}; only after the down" for problem in again.problems)
    if again.problems:
        return
    if found := structure.difference(first.schema, again.schema):
        told = "after the second up the schema is not what it was after the first"
        yield f"{where}: {told}: {', '.join(found)}"
    for table, words in contents.changes(first.contents, again.contents).items():
        if table not in lost:
            yield f"{where}: after the second up the rows are not what they were after the first: {words}"
    if undone.marks == before.marks:
        for words in _marked(first, again).values():
            yield f"{where}: after the second up, {words}"


def _marked(one: _State, other: _State) -> dict[str, str]:
    """Say which number of the file is another one than it was."""
    return {
        name: f"{name} is {number} and was {one.marks[name]}"
        for name, number in other.marks.items()
        if number != one.marks[name]
    }


def _left_behind(down: Script, seen: _Round) -> Iterator[str]:
    for words in contents.added(seen.before.contents, seen.undone.contents).values():
        yield f"{down.file}: leaves rows behind: {words}"


# --- the clock and chance


def _by_chance(
    session: Session, pair: _Pair, reach: frozenset[str], seen: _Round, back: Callable[[], bool]
) -> _Round:
    """Leave out of a round what does not depend on the migration alone, if it shows a difference of rows.

    For that it is played again from `back`; see above. Where chance has few outcomes, two can be the same.
    """
    if not _differs(seen):
        return seen
    with interruptible(session):
        texts = [sql for (sql,) in session.rows("SELECT +sql FROM main.sqlite_schema WHERE sql IS NOT NULL")]
    words = set().union(*map(mentioned, (*texts, pair.up.text, pair.down.text if pair.down else "")))
    if not words.isdisjoint(_CLOCK):
        time.sleep(1.01 - time.time() % 1)  # to the next second
    left = seen
    for _ in range(1 if words.isdisjoint(_CHANCE) else _TRIES):
        if not _differs(left) or not back():
            break
        first = _run(session, pair.up, reach, seen.before)
        left = _shared(left, _round(session, pair, reach, seen.before, first))
    return left


def _differs(seen: _Round) -> bool:
    """Tell whether a round shows a difference of rows."""
    if seen.undone.problems:
        return False
    lost = contents.lost(seen.before.contents, seen.undone.contents)
    return bool(
        lost or (not seen.again.problems and contents.changes(seen.first.contents, seen.again.contents))
    )


def _shared(one: _Round, other: _Round) -> _Round:
    """Leave out of a round what is not the same in another one of the same migration from the same start."""
    first, undone, again = (
        contents.differing(state.contents, others.contents)
        for state, others in zip(one[1:], other[1:], strict=True)
    )
    return _Round(
        one.before._replace(contents=contents.without(one.before.contents, undone)),
        one.first._replace(contents=contents.without(one.first.contents, first, again)),
        one.undone._replace(contents=contents.without(one.undone.contents, undone)),
        one.again._replace(contents=contents.without(one.again.contents, first, again)),
    )


# --- playing


def _run(session: Session, script: Script, reach: frozenset[str], before: _State) -> _State:
    """Run a script as a step would, guards included."""
    with interruptible(session):
        known = guards.looked_at(session, script, before.integrity)
    try:
        own = own_tables(session, script, known)
        with _own_transaction(session, script):
            tables.change_nothing(session)
            play(session, script)
            with interruptible(session):
                refuse_changed(session, script, own, _untold)
                found, known, _ = guards.findings(session, script, known)
    except StepError as error:
        return before._replace(problems=(hinted(str(error)),))
    problems = tuple(f"{script.file}: {finding.words}" for finding in guards.refused(script, found))
    return _look(session, reach, known)._replace(problems=problems)


def _untold(done: int) -> str:
    """Say nothing of how the database is left: it is a scratch database."""
    return ""


def _look(session: Session, reach: frozenset[str], integrity: guards.Integrity) -> _State:
    with interruptible(session):
        found = structure.snapshot(session, only=reach)
        counts = contents.counts(session, found)
        rows, marks = contents.contents(session, found), {name: _mark(session, name) for name in _MARKS}
        return _State(found, rows, counts, marks, _numbers(session), integrity)


def _mark(session: Session, name: str) -> int:
    return int(session.value(f"PRAGMA main.{name}"))


@contextmanager
def _own_transaction(session: Session, script: Script) -> Iterator[None]:
    """Run what is inside in one transaction, unless there is one already or the script asks for none."""
    if in_transaction(session):
        yield
        return
    with transaction(session, script):
        yield


@contextmanager
def _moment(session: Session, pair: _Pair, name: str) -> Iterator[Callable[[], bool]]:
    """Yield what takes the database back to how it is now, and tells whether that is possible.

    That is a savepoint, or a copy where a script allows no transaction. A statement that ends the whole
    transaction ends the savepoint too.
    """
    if stands_alone(pair.up) or (pair.down and stands_alone(pair.down)):
        with alike(session, ":memory:") as copy:
            possible = _copy(session.connection, copy)
            yield lambda: possible and _copy(copy, session.connection)
        return

    def back() -> bool:
        if possible := in_transaction(session):
            session.run(f"ROLLBACK TO {name}")
        return possible

    session.run(f"SAVEPOINT {name}")
    yield back
    if in_transaction(session):
        session.run(f"RELEASE {name}")


def _copy(source: Any, target: Any) -> bool:
    """Copy a whole database; between two batches of pages a signal is served.

    Return whether that is possible: some modules cannot.
    """
    if not hasattr(source, "backup"):
        return False
    source.backup(target, pages=_PAGES, progress=lambda *_: None)
    return True
