"""A growing history and a database that is taken to and fro: what it holds depends on where it is alone.

The model is a list of files, one position and what was recorded at each. The first look at each position is
remembered, and every later one must find the same schema and rows: round trip and path independence in one
line. A command that is refused changed nothing, there is at most one version row, and the file is sound. The
second machine adds what can go wrong on a bad day: death at any statement, a full disk, an interrupt, and
another process that is faster.
"""

import os
import shutil
import signal
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support import in_memory

from vmpilot.migrate import (
    AccessError,
    HistoryError,
    MigrationError,
    StepError,
    VersionError,
    current,
    downgrade,
    history,
    migrate,
    stamp,
)

OURS = ("alembic_version", "migration_log")


class Migration(NamedTuple):
    """A migration of the model; `ups` are the statements of its up file as it is now, edits included.

    An irreversible one lacks its down file; by hand it can be undone all the same.
    """

    number: int
    version: str
    name: str
    revision: str
    header: str
    ups: tuple[str, ...]
    downs: tuple[str, ...]
    reversible: bool = True


class Break(NamedTuple):
    """The one file that is broken: whose and which, at which statement, and by what."""

    at: int
    direction: str
    place: int
    statement: str


def base() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the statements of the first migration, which makes the tables that others change."""
    ups = (
        'CREATE TABLE "stem" (id INTEGER PRIMARY KEY, n INTEGER NOT NULL);',
        'CREATE TABLE leaf (id INTEGER PRIMARY KEY, stem REFERENCES "stem" (id) ON DELETE CASCADE, note);',
        "INSERT INTO stem VALUES (1, 10), (2, 20);",
        "INSERT INTO leaf VALUES (1, 1, 'a;b'), (2, 2, '--'), (3, 2, NULL);",
        "CREATE TABLE wide (id INTEGER PRIMARY KEY, name TEXT UNIQUE);",
        "INSERT INTO wide (name) VALUES ('one'), ('two');",
    )
    return ups, ("DROP TABLE leaf;", "DROP TABLE stem;", "DROP TABLE wide;")


def table(n: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    ups = (
        f"CREATE TABLE t{n} (id INTEGER PRIMARY KEY, stem REFERENCES stem (id) ON DELETE CASCADE, x TEXT);",
        f"INSERT INTO t{n} VALUES (1, 1, hex(zeroblob({2000 * n}))), (2, NULL, 'it''s; {n}');",
        f"CREATE INDEX t{n}_x ON t{n} (x) WHERE x IS NOT NULL;",
    )
    return ups, (f"DROP TABLE t{n};",)


def column(n: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    ups = (
        f"ALTER TABLE wide ADD COLUMN c{n} TEXT NOT NULL DEFAULT '{n}';",
        f"UPDATE wide SET c{n} = name || {n};",
    )
    return ups, (f"ALTER TABLE wide DROP COLUMN c{n};",)


def rebuilt(by: str) -> tuple[str, ...]:
    """Return a table rebuild, whose DROP TABLE takes the leaves along where foreign keys are on."""
    return (
        "CREATE TABLE new (id INTEGER PRIMARY KEY, n INTEGER NOT NULL);",
        f"INSERT INTO new SELECT id, n {by} FROM stem;",
        "DROP TABLE stem;",
        "ALTER TABLE new RENAME TO stem;",
    )


def rebuild(n: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return rebuilt(f"+ {n}"), rebuilt(f"- {n}")


def view(n: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    ups = (
        f"CREATE VIEW v{n} AS SELECT id, CASE WHEN id > 1 THEN name END AS name FROM wide;",
        f"CREATE TRIGGER g{n} AFTER UPDATE ON leaf BEGIN\nSELECT CASE new.id WHEN 1 THEN 2 END;\nEND;",
    )
    return ups, (f"DROP TRIGGER g{n};", f"DROP VIEW v{n};")


def rows(n: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    ups = (
        f"INSERT INTO leaf VALUES ({100 + n}, 1, 'row {n}');",
        f"UPDATE wide SET name = name || '{n}.';",
    )
    downs = (
        f"DELETE FROM leaf WHERE id = {100 + n};",
        f"UPDATE wide SET name = substr(name, 1, length(name) - {len(str(n)) + 1});",
    )
    return ups, downs


def scratch(n: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return a migration that leaves behind what must not reach the next one."""
    ups = (
        "CREATE TEMP TABLE scratch AS SELECT id FROM stem;",
        f"CREATE TABLE s{n} AS SELECT id FROM scratch;",
        "PRAGMA legacy_alter_table = ON;",
        "PRAGMA recursive_triggers = ON;",
    )
    return ups, ("CREATE TEMP TABLE scratch (a);", f"DROP TABLE s{n};")


def nothing(n: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (), ()


KINDS = (table, column, rebuild, view, rows, scratch, nothing)
UNTRANSACTED = "-- vmpilot: no-transaction\n"


def rendered(migration: Migration, direction: str, broken: Break | None, at: int) -> str:
    """Return the text of a file as it is now, with the statement that breaks it."""
    lines = list(migration.ups if direction == "up" else migration.downs)
    if broken and (broken.at, broken.direction) == (at, direction):
        lines.insert(broken.place, broken.statement)
    directive = f"-- vmpilot: revision {migration.revision}\n" if migration.revision else ""
    if migration.header == UNTRANSACTED:
        return UNTRANSACTED + directive * (direction == "up") + "\n".join([*lines, "VACUUM;"])
    if migration.header:
        lines = ["PRAGMA foreign_keys = OFF;", "BEGIN;", *lines, "COMMIT;", "PRAGMA foreign_keys = ON;"]
    return directive * (direction == "up") + "\n".join(lines)


class Histories(RuleBasedStateMachine):
    """Commands in any order, each with its outcome known beforehand."""

    headers = ("", "", "wrapped", UNTRANSACTED)

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(dir=in_memory())
        self.place = Path(self.folder, "migrations")
        self.place.mkdir()
        self.path = os.path.join(self.folder, "app.db")
        self.database: Any = self.path
        self.migrations: list[Migration] = []
        self.recorded: dict[int, tuple[str, ...]] = {}
        self.kept_broken: set[int] = set()
        self.floor = -1
        self.position = 0
        self.broken: Break | None = None
        self.seen: dict[int, object] = {}

    def teardown(self) -> None:
        self.close()
        shutil.rmtree(self.folder)

    # Files

    @initialize()
    def begin_a_history(self) -> None:
        self.append(Migration(1, "0001", "base", "", "", *base()))
        self.append(Migration(2, "0002", "table", "", "", *table(2)))
        self.append(Migration(3, "0003", "rebuild", "abc", "", *rebuild(3)))

    @precondition(lambda self: len(self.migrations) < 9)
    @rule(
        kind=st.sampled_from(KINDS),
        gap=st.integers(1, 3),
        width=st.sampled_from([0, 4, 6]),
        header=st.integers(0, 3),
        reversible=st.sampled_from([True, True, True, False]),
        declared=st.booleans(),
    )
    def add_a_migration(
        self,
        kind: Callable[[int], tuple[tuple[str, ...], tuple[str, ...]]],
        gap: int,
        width: int,
        header: int,
        reversible: bool,
        declared: bool,
    ) -> None:
        number = self.migrations[-1].number + gap
        ups, downs = kind(number)
        wrapping = self.headers[header]
        if wrapping == UNTRANSACTED:  # safe to run again
            ups, downs = (
                (f"CREATE TABLE IF NOT EXISTS n{number} (a);",),
                (f"DROP TABLE IF EXISTS n{number};",),
            )
        version, revision = str(number).zfill(width), f"r{number}x" if declared else ""
        self.append(Migration(number, version, kind.__name__, revision, wrapping, ups, downs, reversible))

    def append(self, migration: Migration) -> None:
        self.migrations.append(migration)
        self.write(len(self.migrations) - 1)

    def write(self, at: int) -> None:
        for direction in ("up", "down"):
            path = self.file(at, direction)
            if direction == "up" or self.migrations[at].reversible:
                path.write_text(rendered(self.migrations[at], direction, self.broken, at), newline="")

    def file(self, at: int, direction: str) -> Path:
        return self.place / f"{self.migrations[at].version}_{self.migrations[at].name}.{direction}.sql"

    # Of what is edited, another down script may be run than the one in the file: that has tests of its own.
    @precondition(lambda self: self.broken is None and not self.edited())
    @rule(data=st.data(), statement=st.sampled_from(["BROKEN;", "COMMIT;"]))
    def break_a_file(self, data: st.DataObject, statement: str) -> None:
        downs = [(at, "down") for at, it in enumerate(self.migrations) if it.reversible]
        ups = [(at, "up") for at in range(self.position, len(self.migrations))]
        choices = [it for it in ups + downs if self.migrations[it[0]].header != UNTRANSACTED]
        at, direction = data.draw(st.sampled_from(choices))
        lines = self.migrations[at].ups if direction == "up" else self.migrations[at].downs
        self.broken = Break(at, direction, data.draw(st.integers(0, len(lines))), statement)
        self.write(at)

    @precondition(lambda self: self.broken is not None)
    @rule()
    def mend_it(self) -> None:
        assert self.broken
        at, self.broken = self.broken.at, None
        self.write(at)

    @precondition(lambda self: self.broken is None)
    @rule(data=st.data())
    def edit_a_file(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.migrations) - 1))
        if at in self.kept_broken:
            return
        self.migrations[at] = self.migrations[at]._replace(
            ups=(*self.migrations[at].ups, "SELECT 'an edit';")
        )
        self.write(at)

    @precondition(lambda self: self.broken is None)
    @rule(data=st.data())
    def edit_the_looks_of_a_file(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.migrations) - 1))
        text = rendered(self.migrations[at], "up", None, at)
        self.file(at, "up").write_text("\ufeff" + text.replace("\n", "\r\n") + "\r\n-- why", newline="")

    # Commands

    @rule(data=st.data())
    def upgrade(self, data: st.DataObject) -> None:
        goal = data.draw(st.integers(self.position, len(self.migrations)))
        target = data.draw(self.targets(goal))
        kind, message = self.foreseen_upgrade(goal)
        self.run(lambda: migrate(self.database, self.place, target=target), goal, kind, message)

    @rule(data=st.data())
    def downgrade(self, data: st.DataObject) -> None:
        goal = data.draw(st.integers(0, self.position))
        target = data.draw(self.targets(goal))
        kind, message = self.foreseen_downgrade(goal)
        self.run(
            lambda: downgrade(self.database, self.place, target=target, backup=False), goal, kind, message
        )

    @rule()
    def upgrade_to_where_it_is(self) -> None:
        before = Path(self.path).read_bytes() if os.path.exists(self.path) else None
        assert migrate(self.database, self.place, target=self.version(self.position)) == ()
        assert (Path(self.path).read_bytes() if os.path.exists(self.path) else None) == before

    @rule(data=st.data())
    def ask_for_the_impossible(self, data: st.DataObject) -> None:
        beyond = len(self.migrations) - self.position + 1
        wrong = [
            (migrate, f"+{beyond}"),
            (migrate, "none"),
            (downgrade, f"-{self.position + 1}"),
            (downgrade, "00"),
        ]
        if self.position:
            wrong.append((migrate, self.version(self.position - 1)))
        if self.position < len(self.migrations):
            wrong.append((downgrade, self.version(self.position + 1)))
        command, target = data.draw(st.sampled_from(wrong))
        options = {"backup": False} if command is downgrade else {}
        if self.broken and self.broken.statement == "COMMIT;" and target in ("none", "00"):
            return  # to tell that it is no revision either, every file is read
        self.refused(lambda: command(self.database, self.place, target=target, **options), VersionError)

    @precondition(lambda self: self.broken is None)
    @rule(data=st.data())
    def change_the_schema_by_hand_and_stamp(self, data: st.DataObject) -> None:
        goal = data.draw(st.integers(0, len(self.migrations)))
        ups = [(at, "up") for at in range(self.position, goal)]
        downs = [(at, "down") for at in range(self.position - 1, goal - 1, -1)]
        for at, direction in ups + downs:
            with closing(sqlite3.connect(self.path)) as connection:
                connection.executescript(rendered(self.migrations[at], direction, None, at))
        self.stamp(goal)
        self.position = goal

    @precondition(lambda self: self.broken is None)
    @rule(data=st.data())
    def stamp_away_and_back(self, data: st.DataObject) -> None:
        self.stamp(data.draw(st.integers(0, len(self.migrations))))
        self.stamp(self.position)

    def stamp(self, goal: int) -> None:
        step = stamp(self.version(goal), self.database, self.place)
        assert (step.action, step.after) == ("stamp", self.version(goal))
        self.recorded = {at: self.migrations[at].ups for at in self.recorded if at < goal}
        if goal:
            self.recorded[goal - 1] = self.migrations[goal - 1].ups
        self.floor = self.migrations[goal - 1].number if goal else -1

    @precondition(lambda self: self.broken is None)
    @rule(data=st.data())
    def add_a_file_too_late(self, data: st.DataObject) -> None:
        taken = {migration.number for migration in self.migrations}
        reached = self.migrations[self.position - 1].number if self.position else 0
        free = [number for number in range(max(self.floor + 1, 0), reached) if number not in taken]
        if not free:
            return
        late = self.place / f"{data.draw(st.sampled_from(free))}_late.up.sql"
        late.write_text("CREATE TABLE late (a);")
        error = self.refused(lambda: migrate(self.database, self.place), HistoryError)
        assert (error.file, "never applied" in str(error)) == (str(late), True)
        assert not current(self.database, self.place).at_head
        assert [entry.version for entry in history(self.database, self.place) if entry.state == "late"] == [
            late.name.partition("_")[0]
        ]
        late.unlink()

    @rule(
        how=st.sampled_from(["path", "url", "connection", "autocommit", "in a transaction"]),
        journal=st.sampled_from(["wal", "delete"]),
    )
    def reopen(self, how: str, journal: str) -> None:
        self.close()
        if os.path.exists(self.path):
            with closing(sqlite3.connect(self.path)) as connection:
                connection.execute(f"PRAGMA journal_mode = {journal}")
        self.database = self.path if how == "path" else f"sqlite:///{self.path}"
        if how not in ("path", "url"):
            self.database = self.connect()
            self.database.isolation_level = None if how == "autocommit" else "IMMEDIATE"
        if how == "in a transaction":
            self.database.execute("BEGIN")

    def connect(self) -> sqlite3.Connection:
        """Open a connection as an application does."""
        connection = sqlite3.connect(self.path)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.row_factory = sqlite3.Row
        return connection

    def close(self) -> None:
        if isinstance(self.database, sqlite3.Connection):
            self.database.close()
        self.database = self.path

    # What the model foretells

    def version(self, position: int) -> str:
        return self.migrations[position - 1].version if position else "base"

    def targets(self, goal: int) -> st.SearchStrategy[str]:
        """Return all names of a position; a revision's only where every file can be read."""
        names = [self.version(goal), f"{goal - self.position:+}"]
        if goal == len(self.migrations):
            names.append("head")
        if goal:
            names.append(str(self.migrations[goal - 1].number))
            revision = self.migrations[goal - 1].revision
            names += [revision] if revision and not self.broken else []
        return st.sampled_from(names)

    def edited(self) -> list[int]:
        return [at for at, ups in self.recorded.items() if ups != self.migrations[at].ups]

    def foreseen_upgrade(self, goal: int) -> tuple[type[MigrationError] | None, str]:
        """Return the error that an upgrade ends with, if any, and its message."""
        if goal == self.position:
            return None, ""
        pending = range(self.position, goal)
        if self.breaks("COMMIT;", "up", pending):
            return HistoryError, self.breakage()
        if self.edited():
            return HistoryError, "edited after it was applied"
        if self.breaks("COMMIT;", "down", pending):
            return HistoryError, self.breakage()
        return (StepError, self.breakage()) if self.breaks("BROKEN;", "up", pending) else (None, "")

    def foreseen_downgrade(self, goal: int) -> tuple[type[MigrationError] | None, str]:
        undone = range(self.position - 1, goal - 1, -1)
        edited = self.edited()  # is undone with the down file as it was when it was applied
        by_file = [at for at in undone if at not in edited]
        for at in undone:
            if not self.migrations[at].reversible:
                return VersionError, "beside it; nothing was changed"
            if at in by_file and self.breaks("COMMIT;", "down", [at]):
                return HistoryError, self.breakage()
        return (StepError, self.breakage()) if self.breaks("BROKEN;", "down", by_file) else (None, "")

    def breaks(self, statement: str, direction: str, among: Collection[int]) -> bool:
        broken = self.broken
        return bool(broken) and broken[1::2] == (direction, statement) and broken.at in among

    def breakage(self) -> str:
        """Return the message about the broken file."""
        assert self.broken
        at, direction, _, statement = self.broken
        file = self.file(at, direction)
        number = file.read_text().partition(statement)[0].count("\n") + 1
        if statement == "COMMIT;":
            what = "COMMIT is not allowed here, the runner owns the transaction"
            return f"{file}:{number}: {what}; {self.path} was not touched"
        before = self.version(at if direction == "up" else at + 1)
        return f'{file}:{number}: near "BROKEN": syntax error; rolled back, {self.path} is still at {before}'

    def run(
        self,
        command: Callable[[], tuple[Any, ...]],
        goal: int,
        kind: type[MigrationError] | None,
        message: str,
    ) -> None:
        """Run a command that leads to `goal`, or to an error that is foreseen."""
        if kind is StepError:
            assert self.broken
            with pytest.raises(StepError) as caught:
                command()
            assert str(caught.value) == message
            at = self.broken.at
            assert (caught.value.version, caught.value.statement) == (self.migrations[at].version, "BROKEN")
            self.moved(at if self.broken.direction == "up" else at + 1)
        elif kind:
            assert message in str(self.refused(command, kind))
        else:
            steps = command()
            assert len(steps) == abs(goal - self.position)
            assert [step.before for step in steps[:1]] == [self.version(self.position) for _ in steps[:1]]
            assert [step.after for step in steps[-1:]] == [self.version(goal) for _ in steps[-1:]]
            self.moved(goal)

    def moved(self, position: int) -> None:
        """Follow the database to where its own steps took it."""
        for at in range(self.position, position):
            self.recorded[at] = self.migrations[at].ups
            self.kept_broken.discard(at)
            self.kept_broken |= {at} if self.breaks("BROKEN;", "down", [at]) else set()
        for at in range(self.position - 1, position - 1, -1):
            self.recorded.pop(at, None)
            self.floor = min(self.floor, self.migrations[at].number - 1)
        self.position = position

    def refused(self, command: Callable[[], object], kind: type[MigrationError]) -> Any:
        """Return the error of a command that changes nothing."""
        before = content(self.path)
        with pytest.raises(MigrationError) as caught:
            command()
        assert type(caught.value) is kind
        assert content(self.path) == before
        return caught.value

    # What must hold at any time

    @invariant()
    def schema_and_rows_depend_on_the_position_alone(self) -> None:
        found = content(self.path)
        snapshot = [entry for entry in found if entry[0] not in OURS]
        assert self.seen.setdefault(self.position, snapshot) == snapshot
        at = self.migrations[self.position - 1] if self.position else None
        values = [entry[1] for entry in found if entry[0] == "alembic_version" and len(entry) == 2]
        assert values == ([at.revision or at.version] if at else [])

    @invariant()
    def the_file_is_sound(self) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []

    @invariant()
    def current_is_what_the_model_says(self) -> None:
        if self.migrations:
            at, head = self.version(self.position), self.migrations[-1].version
            pending = len(self.migrations) - self.position
            found = current(self.database, self.place)
            assert found[1:] == (None if at == "base" else at, head, not pending, pending, True)
            if isinstance(self.database, sqlite3.Connection):
                assert not self.database.in_transaction

    @invariant()
    def history_is_what_the_model_says(self) -> None:
        broken_down = self.broken and self.broken[1::2] == ("down", "COMMIT;")
        if broken_down and self.broken.at not in self.edited():
            error = self.refused(lambda: history(self.database, self.place), HistoryError)
            assert error.file == str(self.file(self.broken.at, "down"))
            return
        edited, expected = self.edited(), []
        for at, migration in enumerate(self.migrations):
            state = "applied" if at < self.position else "pending"
            state = "edited" if at in edited else state
            expected.append((migration.version, migration.name, state, migration.reversible))
        found = history(self.database, self.place)
        assert [(it.version, it.name, it.state, it.reversible) for it in found] == expected
        assert [at for at, it in enumerate(found) if it.applied_at] == sorted(self.recorded)

    @invariant()
    def a_connection_comes_back_as_it_was(self) -> None:
        if isinstance(self.database, sqlite3.Connection):
            assert self.database.row_factory is sqlite3.Row
            assert self.database.isolation_level in (None, "IMMEDIATE")
            assert tuple(self.database.execute("PRAGMA foreign_keys").fetchone()) == (1,)
            assert tuple(self.database.execute("PRAGMA legacy_alter_table").fetchone()) == (0,)
            assert self.database.execute("SELECT * FROM sqlite_temp_master").fetchall() == []


def content(path: str) -> list[tuple[Any, ...]]:
    """Return all that a database holds, each object and each row behind the name of its table."""
    with closing(sqlite3.connect(path)) as connection:
        schema = "SELECT tbl_name, type, name, sql FROM sqlite_master ORDER BY type, name"
        found: list[tuple[Any, ...]] = connection.execute(schema).fetchall()
        for name in [name for _, kind, name, _ in found if kind == "table"]:
            found += [(name, *row) for row in connection.execute(f'SELECT * FROM "{name}" ORDER BY rowid')]
        return found


SIZE = settings(max_examples=settings().max_examples // 3, stateful_step_count=24)


def test_any_history_of_commands() -> None:
    run_state_machine_as_test(Histories, settings=SIZE)


# A bad day


class Disasters(Histories):
    """The same commands, with something that goes wrong in the middle: all or nothing of every step."""

    headers = ("", "", "wrapped", "")  # what runs outside a transaction can be cut short
    happened: ClassVar[Counter[str]] = Counter()  # a disaster that never strikes proves nothing
    break_a_file = mend_it = edit_a_file = edit_the_looks_of_a_file = None  # type: ignore[assignment]

    @rule(data=st.data(), last=st.integers(1, 60), killed=st.booleans())
    def die_at_a_statement(self, data: st.DataObject, last: int, killed: bool) -> None:
        goal = self.draw_goal(data)
        self.close()
        child = os.fork()
        if not child:
            try:
                self.command(doomed(self.connect(), last, killed), goal)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        outcome = os.waitstatus_to_exitcode(status)
        assert outcome in (0, -signal.SIGKILL if killed else 77)
        if outcome:
            self.happened["killed" if killed else "exited"] += 1
        self.settle(goal, outcome == 0)

    @rule(data=st.data(), pages=st.integers(0, 5))
    def fill_the_disk(self, data: st.DataObject, pages: int) -> None:
        connection = self.connect()
        connection.execute("VACUUM")  # so that there is no free page left
        (count,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {count + pages}")
        self.attempt(connection, self.draw_goal(data), "full", ("database or disk is full",))

    @rule(data=st.data(), last=st.integers(1, 200))
    def interrupt_at_a_tick(self, data: st.DataObject, last: int) -> None:
        connection, ticks = self.connect(), iter(range(last))
        connection.set_progress_handler(lambda: next(ticks, last) == last - 1, 10)
        # The second is what SQLite says when the tick falls into its reading of the schema.
        words = ("interrupted", "database schema has changed")
        self.attempt(connection, self.draw_goal(data), "interrupted", words)

    @rule(data=st.data())
    def let_another_process_be_faster(self, data: st.DataObject) -> None:
        goal, theirs = self.draw_goal(data), self.draw_goal(data)
        if goal == self.position:
            return
        last = max(goal, theirs) if goal > self.position else min(goal, theirs)
        if not all(self.migrations[at].reversible for at in range(last, theirs)):
            return  # nobody comes back from there
        taken = []

        def take_turns(statement: str) -> None:
            if statement.startswith("BEGIN IMMEDIATE") and not taken:
                taken.append(statement)
                self.command(self.path, theirs)

        with closing(self.connect()) as connection:
            connection.set_trace_callback(take_turns)
            steps = self.command(connection, goal)
        assert taken == ["BEGIN IMMEDIATE"]
        self.happened["overtaken"] += 1
        self.moved(theirs)
        assert len(steps) == abs(last - theirs)
        self.moved(last)

    def draw_goal(self, data: st.DataObject) -> int:
        """Return a position that can be reached when nothing goes wrong."""
        irreversible = [at for at in range(self.position) if not self.migrations[at].reversible]
        lowest = max(irreversible, default=-1) + 1
        goals = {*range(lowest, len(self.migrations) + 1)} - {self.position}
        return data.draw(st.sampled_from(sorted(goals) or [self.position]))

    def command(self, database: Any, goal: int) -> tuple[Any, ...]:
        at = current(database, self.place).version
        position = next((n for n, it in enumerate(self.migrations, 1) if it.version == at), 0)
        if goal >= position:
            return migrate(database, self.place, target=self.version(goal))
        return downgrade(database, self.place, target=self.version(goal), backup=False)

    def attempt(
        self, connection: sqlite3.Connection, goal: int, disaster: str, words: tuple[str, ...]
    ) -> None:
        """Run a command that may end with an error that says one of these things."""
        with closing(connection):
            try:
                self.command(connection, goal)
            except MigrationError as error:
                assert type(error) in (StepError, AccessError)
                assert any(it in str(error) for it in words)
                assert not connection.in_transaction
                self.happened[disaster] += 1
                self.settle(goal, False)
            else:
                self.settle(goal, True)

    def settle(self, goal: int, done: bool) -> None:
        """Follow the database to where it is, which must lie on the way."""
        at = current(self.path, self.place).version
        position = next((n for n, it in enumerate(self.migrations, 1) if it.version == at), 0)
        assert min(goal, self.position) <= position <= max(goal, self.position)
        assert position == goal or not done
        self.moved(position)


def doomed(connection: sqlite3.Connection, last: int, killed: bool) -> sqlite3.Connection:
    """Return a connection whose process ends when it comes to a certain statement."""
    statements = iter(range(last))

    def die(statement: str) -> None:
        if next(statements, last) == last - 1:
            if killed:
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(77)

    connection.set_trace_callback(die)
    return connection


def test_any_history_of_disasters() -> None:
    Disasters.happened.clear()
    missing = {"killed", "exited", "full", "interrupted", "overtaken"}
    for _ in range(10):  # by chance, one may strike in no history of a round
        run_state_machine_as_test(Disasters, settings=SIZE)
        missing -= set(Disasters.happened)
        if not missing:
            break
    assert missing == set()
