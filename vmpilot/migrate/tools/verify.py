"""Proof that the files are right: each migration up, down and up again, on a private database.

Neither the database of the application nor its log is touched; how structure and rows are compared
is decided in schema.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from os import PathLike
from typing import Any, NamedTuple

from ..database import structure as schema
from ..database.connection import Session, located, reading, rollback, settings_kept
from ..errors import HistoryError
from ..files import directory as files
from ..files.directory import History, Migration, Place
from ..files.script import Script, line, statements
from ..run import guards
from ..run.planning import Wish, planned
from .dry_run import private_copy


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
    """A private database where a migration can change it, and what went wrong on the way there."""

    schema: schema.Schema
    contents: schema.Contents
    rows: dict[str, int]
    survey: guards.Survey | None
    problems: tuple[str, ...] = ()


def verify(migrations: "str | PathLike[str] | files.Entry | None" = None) -> Proof:
    """Prove all migrations on an empty database in memory.

    Of each is told whether its up or down fails, whether the schema after the down is what it was
    before the up, whether the second up leads where the first one led, and whether rows of earlier
    migrations are changed or lost. Raises HistoryError if the files themselves break a rule.
    """
    place = files.located(migrations)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        return prove(place, files.discover(place), connection)


def verify_on_copy(
    database: Any = None,
    migrations: "str | PathLike[str] | files.Entry | None" = None,
    *,
    timeout: float = 30.0,
) -> Proof:
    """Prove the pending migrations on a private copy of a database, with its rows; reads only."""
    place, where = files.located(migrations), located(database)
    wish = Wish("upgrade", place, files.discover(place), "head")
    with reading(where, timeout) as session:
        plan = planned(wish, session)
    steps = {step.version for step in plan[0].steps} if plan else set()
    pending = tuple(migration for migration in wish.history if migration.version in steps)
    if not pending:
        return Proof(True, ())
    with (
        private_copy(where, timeout) as copy,
        closing(sqlite3.connect(copy.path, isolation_level=None)) as connection,
    ):
        return prove(place, pending, connection)


def prove(place: Place, pending: History, connection: sqlite3.Connection) -> Proof:
    """Prove migrations one after the other on a private database that stands right before them."""
    session = Session(connection, connection.cursor(), "the proof", 0.0)
    verdicts: list[Verdict] = []
    survey: guards.Survey | None = None
    failed = ""
    for migration in pending:
        up = files.load(place, migration.up)
        down = files.load(place, migration.down) if migration.down else None
        if failed:
            problem = f"{up.file}: not tried, because {failed} fails"
            verdicts.append(Verdict(migration.version, migration.name, False, (problem,)))
            continue
        reach = schema.reach(session.cursor, up.text, down.text if down else "")
        before = _look(session, reach, survey)
        with _transaction(session, up):
            first = _run(session, up, reach, before)
        verdicts.append(_verdict(session, migration, up, down, reach, before, first))
        survey, failed = first.survey, migration.version if first.problems else ""
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
        loses = schema.lost(first.contents, undone.contents)
    return Verdict(migration.version, migration.name, not problems, problems, remarks, rows, loses)


def _problems_of_down(
    up: Script, down: Script, states: tuple[_State, _State, _State, _State]
) -> Iterator[str]:
    before, first, undone, again = states
    yield from undone.problems
    if undone.problems:
        return
    if changes := schema.difference(before.schema, undone.schema):
        yield f"{down.file}: after up and down the schema is not what it was before: {', '.join(changes)}"
    for words in schema.lost(before.contents, undone.contents):
        yield f"{down.file}: after up and down, {words}"
    yield from (f"{problem}; only after the down" for problem in again.problems)
    if not again.problems and (changes := schema.difference(first.schema, again.schema)):
        told = "after the second up the schema is not what it was after the first"
        yield f"{down.file}: {told}: {', '.join(changes)}"


def _run(session: Session, script: Script, reach: frozenset[str], before: _State) -> _State:
    """Run a script as a step would, guards included."""
    survey = guards.survey(session.cursor, script, before.survey)
    with settings_kept(session, script.words):
        for index, text in enumerate(statements(script)):
            try:
                session.cursor.execute(text).fetchall()
            except sqlite3.Error as error:
                where = f"{script.file}:{line(script, index)}"
                return before._replace(problems=(f"{where}: {error}",))
        found, survey = guards.findings(session.cursor, script, survey)
    problems = tuple(f"{script.file}: {finding}" for finding in found)
    return _look(session, reach, survey)._replace(problems=problems)


def _look(session: Session, reach: frozenset[str], survey: guards.Survey | None) -> _State:
    found = schema.snapshot(session.cursor, only=reach)
    rows = schema.rows(session.cursor, found)
    return _State(found, schema.contents(session.cursor, found), rows, survey)


@contextmanager
def _transaction(session: Session, script: Script) -> Iterator[None]:
    """Run what is inside in one transaction, unless the script asks for none."""
    if script.transactional:
        session.cursor.execute("BEGIN")
    yield
    if session.connection.in_transaction:
        session.cursor.execute("COMMIT")


@contextmanager
def _taken_back(session: Session, up: Script, down: Script) -> Iterator[list[bool]]:
    """Leave the database as it was: by rolling back, or from a copy where a script allows no transaction.

    What is put into the list says that it is the same anyway; that saves SQLite from reading the
    whole schema again, as it does after a rollback.
    """
    same: list[bool] = []
    if up.transactional and down.transactional:
        session.cursor.execute("BEGIN")
        yield same
        if same:
            session.cursor.execute("COMMIT")
        else:
            rollback(session)
        return
    with closing(sqlite3.connect(":memory:")) as copy:
        session.connection.backup(copy)
        yield same
        copy.backup(session.connection)
