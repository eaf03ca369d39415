"""Proof that the files are right: each migration up, down and up again, on a private database.

Neither the database of the application nor its log is touched; how structure and rows are compared
is decided in schema.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any, NamedTuple

from ..database import structure
from ..database.connection import Session, in_transaction, interruptible, rollback
from ..database.opening import located, reading, scratch
from ..errors import HistoryError, StepError
from ..files import directory as directories
from ..files.directory import Directory, History, Migration
from ..files.script import Script
from ..run import guards
from ..run.planning import Request, planned
from ..run.play import play, transaction
from .copying import private_copy


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


class _State(NamedTuple):
    """A scratch database where a migration can change it, and what went wrong on the way there."""

    schema: structure.Schema
    contents: structure.Contents
    rows: dict[str, int]
    integrity: guards.Integrity | None
    problems: tuple[str, ...] = ()


def verify(migrations: "str | PathLike[str] | directories.Entry | None" = None) -> Proof:
    """Prove all migrations on an empty database in memory.

    Of each is told whether its up or down fails, whether the schema after the down is what it was
    before the up, whether the second up leads where the first one led, and whether rows of earlier
    migrations are changed or lost. Raises HistoryError if the files themselves break a rule.
    """
    directory = directories.listed(directories.located(migrations))
    with scratch() as session:
        return _proof(session, directory, directory.history)


def verify_on_copy(
    database: Any = None,
    migrations: "str | PathLike[str] | directories.Entry | None" = None,
    *,
    timeout: float = 30.0,
) -> Proof:
    """Prove the pending migrations on a private copy of a database, with its rows; reads only."""
    directory, where = directories.listed(directories.located(migrations)), located(database)
    with reading(where, timeout) as session:
        tasks = planned(Request("upgrade", directory, "head"), session).tasks
    steps = {task.step.version for task in tasks}
    pending = tuple(migration for migration in directory.history if migration.version in steps)
    if not pending:
        return Proof(True, ())
    with private_copy(where, timeout) as copy, scratch(copy.path) as session:
        return _proof(session, directory, pending)


def _proof(session: Session, directory: Directory, pending: History) -> Proof:
    """Prove migrations one after the other on a scratch database that stands right before them."""
    verdicts: list[Verdict] = []
    integrity: guards.Integrity | None = None
    failed = ""
    for migration in pending:
        up = directory.script(migration.up)
        down = directory.script(migration.down) if migration.down else None
        if failed:
            problem = f"{up.file}: not tried, because {failed} fails"
            verdicts.append(Verdict(migration.version, migration.name, False, (problem,)))
            continue
        reach = structure.reach(session, up.text, down.text if down else "")
        before = _look(session, reach, integrity)
        first = _run(session, up, reach, before)
        verdicts.append(_verdict(session, migration, up, down, reach, before, first))
        integrity, failed = first.integrity, migration.version if first.problems else ""
    return Proof(all(verdict.ok for verdict in verdicts), tuple(verdicts))


def _verdict(
    session: Session,
    migration: Migration,
    up: Script,
    down: Script | None,
    reach: frozenset[str],
    before: _State,
    first: _State,
) -> Verdict:
    problems = first.problems
    remarks: tuple[str, ...] = ()
    loses: tuple[str, ...] = ()
    rows = tuple((table, before.rows.get(table, 0), count) for table, count in sorted(first.rows.items()))
    if first.problems:
        pass
    elif down is None:
        problems = (f"{up.file}: no {migration.up[:-7]}.down.sql beside it",)
    elif down.irreversible:
        remarks = (f"irreversible: {down.irreversible}",)
    elif up.starts and not down.starts:
        problems = (f"{down.file}: empty, but {migration.up} is not",)
    else:
        with _taken_back(session, up, down) as same:
            undone = _run(session, down, reach, first)
            again = undone if undone.problems else _run(session, up, reach, undone)
            problems = tuple(_problems_of_down(up, down, (before, first, undone, again)))
            same += [True] if not problems and again.contents == first.contents else []
        loses = structure.lost(first.contents, undone.contents)
    return Verdict(migration.version, migration.name, not problems, problems, remarks, rows, loses)


def _problems_of_down(
    up: Script, down: Script, states: tuple[_State, _State, _State, _State]
) -> Iterator[str]:
    before, first, undone, again = states
    yield from undone.problems
    if undone.problems:
        return
    if changes := structure.difference(before.schema, undone.schema):
        yield f"{down.file}: after up and down the schema is not what it was before: {', '.join(changes)}"
    for words in structure.lost(before.contents, undone.contents):
        yield f"{down.file}: after up and down, {words}"
    yield from (f"{problem}; only after the down" for problem in again.problems)
    if not again.problems and (changes := structure.difference(first.schema, again.schema)):
        told = "after the second up the schema is not what it was after the first"
        yield f"{down.file}: {told}: {', '.join(changes)}"


def _run(session: Session, script: Script, reach: frozenset[str], before: _State) -> _State:
    """Run a script as a step would, guards included."""
    with interruptible(session):
        integrity = guards.integrity(session, script, before.integrity)
    try:
        with _own_transaction(session, script):
            play(session, script)
            with interruptible(session):
                found, integrity = guards.findings(session, script, integrity)
    except StepError as error:
        return before._replace(problems=(str(error),))
    problems = tuple(f"{script.file}: {finding.words}" for finding in guards.refused(script, found))
    return _look(session, reach, integrity)._replace(problems=problems)


def _look(session: Session, reach: frozenset[str], integrity: guards.Integrity | None) -> _State:
    with interruptible(session):
        found = structure.snapshot(session, only=reach)
        rows = structure.rows(session, found)
        return _State(found, structure.contents(session, found), rows, integrity)


@contextmanager
def _own_transaction(session: Session, script: Script) -> Iterator[None]:
    """Run what is inside in one transaction, unless there is one already or the script asks for none."""
    if in_transaction(session):
        yield
        return
    with transaction(session, script):
        yield


@contextmanager
def _taken_back(session: Session, up: Script, down: Script) -> Iterator[list[bool]]:
    """Leave the database as it was: by rolling back, or from a copy where a script allows no transaction.

    What is put into the list says that it is the same anyway; that saves SQLite from reading the
    whole schema again, as it does after a rollback.
    """
    same: list[bool] = []
    if up.transactional and down.transactional:
        session.run("BEGIN")
        yield same
        if same:
            session.run("COMMIT")
        else:
            rollback(session)
        return
    with scratch() as copy:
        session.connection.backup(copy.connection)
        yield same
        copy.connection.backup(session.connection)
