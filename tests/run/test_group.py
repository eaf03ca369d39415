"""Proves that many small steps share a transaction, and that nobody sees a difference but in time.

Wherever a step of a group fails, and however: those before it stay and are told, in order and once, and the
failed one left nothing.
"""

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import APART, OUTSIDE, ROOT, numbers, query, ran, unshared, write

from vmpilot.migrate import AccessError, MigrationError, Progress, StepError, current, downgrade, migrate

COUNT = 4
ALL = ["0001", "0002", "0003", "0004"]
ENDING = "INSERT OR ROLLBACK INTO once VALUES (1), (1);"
POSITIONS = pytest.mark.parametrize("at", [1, 2, 3, 4], ids=["first", "second", "third", "last"])


@pytest.fixture(autouse=True)
def small(migrations: Path, database: Path) -> None:
    """Write small migrations, each of which makes a table and says in another that it was run."""
    tables = "ran (step)", "once (a PRIMARY KEY)", "parent (id PRIMARY KEY)", "child (a REFERENCES parent)"
    write(migrations, "0000_before", "".join(f"CREATE TABLE {table};\n" for table in tables))
    migrate(database, migrations)
    for number in range(1, COUNT + 1):
        small_step(migrations, number)


def small_step(migrations: Path, number: int, kind: str = "", more: str = "", back: str = "") -> None:
    version = f"{number:04}"
    up = f"{kind}CREATE TABLE t{number} (a);\nINSERT INTO ran VALUES ({number});\n{more}"
    down = f"{kind}DELETE FROM ran WHERE step = {number};\nDROP TABLE t{number};\n{back}"
    write(migrations, f"{version}_step", up, down)


def commits(database: Path, act: Callable[[sqlite3.Connection], object]) -> int:
    """Return how many transactions something commits on a connection."""
    said: list[str] = []
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.set_trace_callback(said.append)
        act(connection)
        assert not connection.in_transaction
    return said.count("COMMIT")


def is_whole(database: Path, version: str) -> None:
    """Expect what a run that ended at this version leaves, each step done once."""
    done = [(number,) for number in range(1, int(version) + 1)]
    assert query(database, "SELECT step FROM ran ORDER BY rowid") == done
    names = "SELECT name FROM sqlite_master WHERE name GLOB 't[0-9]' ORDER BY name"
    assert query(database, names) == [(f"t{number}",) for (number,) in done]
    logged = query(database, "SELECT version FROM migration_log WHERE action = 'upgrade' ORDER BY id")
    assert logged[: len(done) + 1] == [(f"{number:04}",) for number in range(len(done) + 1)]
    assert current(database, migrations_of(database)).version == version
    assert query(database, "PRAGMA integrity_check") == [("ok",)]


def migrations_of(database: Path) -> Path:
    return database.parent / "migrations"


# --- how many transactions


def test_small_steps_share_one_transaction_in_both_directions(migrations: Path, database: Path) -> None:
    for number in range(COUNT + 1, 21):
        small_step(migrations, number)
    assert commits(database, lambda connection: migrate(connection, migrations)) < 20 // 2
    assert ran(migrate(database, migrations)) == []
    back = commits(database, lambda it: downgrade(it, migrations, target="0", backup=False))
    assert back < 20 // 2
    is_whole(database, "0000")


@pytest.mark.parametrize(
    "kind",
    [
        APART,
        "PRAGMA foreign_keys = OFF;\n",
        "CREATE TEMP TABLE own (a);\n",
        "CREATE VIRTUAL TABLE words USING fts5 (a);\nDROP TABLE words;\n",
        "-- vmpilot: foreign-keys-on so that rows follow\n",
        OUTSIDE,
    ],
)
def test_what_a_savepoint_does_not_take_back_has_a_transaction_of_its_own(
    migrations: Path, database: Path, kind: str
) -> None:
    small_step(migrations, 3, kind)
    if kind.startswith("-- vmpilot: foreign"):
        write(migrations, "0003_step", f"{kind}CREATE TABLE t3 (a);\nINSERT INTO ran VALUES (3);")
    told: list[tuple[str, bool]] = []

    def report(progress: Progress) -> None:
        if progress.done or not progress.statement:
            told.append((progress.step.version, progress.done))

    migrate(database, migrations, progress=report)
    first, second = [("0001", False), ("0001", True)], [("0002", False), ("0002", True)]
    together = [first[0], second[0], first[1], second[1]]
    if told[1] == second[0]:  # it may have lasted so long that the second had one of its own
        assert told[:4] == together
    assert told[4:] == [("0003", False), ("0003", True), ("0004", False), ("0004", True)]
    is_whole(database, "0004")


def test_in_a_large_database_each_step_has_a_transaction_of_its_own(migrations: Path) -> None:
    """A savepoint copies each page that is changed behind it, of which there can be many."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, migrations, target="0")
        connection.execute("CREATE TABLE large AS SELECT zeroblob(1 << 26) AS a")
        said: list[str] = []
        connection.set_trace_callback(said.append)
        migrate(connection, migrations)
        assert said.count("COMMIT") == COUNT


def test_a_group_ends_before_a_step_that_must_be_looked_at_first(migrations: Path, database: Path) -> None:
    """A view that did not compile before is found out behind the step that can have broken it."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE VIEW bad AS SELECT missing FROM t2")
    small_step(migrations, 3, more="ALTER TABLE t2 ADD COLUMN b;")
    assert ran(migrate(database, migrations)) == ALL
    is_whole(database, "0004")


# --- a step that fails

FAILING = {
    "a statement": ("oops;", 'near "oops": syntax error', True),
    "its transaction": (ENDING, "UNIQUE constraint failed: once.a", True),
    "a trigger's": (
        "CREATE TRIGGER no BEFORE INSERT ON once BEGIN SELECT RAISE(ROLLBACK, 'never'); END;\n"
        "INSERT INTO once VALUES (7);",
        "never",
        True,
    ),
    "a guard": ("INSERT INTO child VALUES (7);", "1 new foreign key violation: ", False),
}


@POSITIONS
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("failing", FAILING)
def test_where_a_step_of_a_group_fails_those_before_it_stay(
    migrations: Path, database: Path, failing: str, at: int, direction: str
) -> None:
    more, reason, has_line = FAILING[failing]
    if direction == "down":
        migrate(database, migrations)
    small_step(migrations, at, **{"more" if direction == "up" else "back": more})
    told: list[str] = []

    def report(progress: Progress) -> None:
        if progress.done:
            told.append(progress.step.version)

    with pytest.raises(StepError) as caught:
        if direction == "up":
            migrate(database, migrations, progress=report)
        else:
            downgrade(database, migrations, target="0", backup=False, progress=report)
    still = f"{at - 1 if direction == 'up' else at:04}"
    error = caught.value
    line = (3 + more.count("\n"),) if has_line else ()
    place = ":".join(map(str, (f"{migrations}/{at:04}_step.{direction}.sql", *line)))
    assert str(error).startswith(f"{place}: {reason}")
    assert f"; rolled back, {database} is still at {still}" in str(error)
    assert (error.database, error.version) == (str(database), f"{at:04}")
    expected = ALL[: at - 1] if direction == "up" else ALL[: at - 1 - COUNT : -1]
    assert (ran(error.steps), told) == (expected, expected)
    assert query(database, "SELECT count(*) FROM once") == [(0,)]
    is_whole(database, still)
    small_step(migrations, at)
    assert ran(migrate(database, migrations)) == ALL[int(still) :]
    is_whole(database, "0004")


def test_the_first_steps_of_a_new_database_stay(migrations: Path, tmp_path: Path) -> None:
    """With the runner's own tables, which the same transaction had made."""
    small_step(migrations, 3, more=ENDING)
    database = tmp_path / "new.db"
    with pytest.raises(StepError) as caught:
        migrate(database, migrations)
    assert ran(caught.value.steps) == ["0000", "0001", "0002"]
    is_whole(database, "0002")


@POSITIONS
def test_a_full_database_keeps_the_steps_before(migrations: Path, database: Path, at: int) -> None:
    small_step(migrations, at, more=f"INSERT INTO t{at} {numbers(1000, 'zeroblob(1000)')};")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA max_page_count = 100").fetchall()
        with pytest.raises(StepError) as caught:
            migrate(connection, migrations)
        assert not connection.in_transaction
    assert str(caught.value) == (
        f"{migrations}/{at:04}_step.up.sql:3: database or disk is full; rolled back, {database} is still at "
        f"{at - 1:04}"
    )
    assert ran(caught.value.steps) == ALL[: at - 1]
    is_whole(database, f"{at - 1:04}")


def test_an_interrupt_at_any_tick_of_a_group_leaves_whole_steps(tmp_path: Path, migrations: Path) -> None:
    for number in range(1, COUNT + 1):
        small_step(migrations, number, more=f"INSERT INTO t{number} {numbers(40)};")
    start = (tmp_path / "app.db").read_bytes()
    reached, tick, ended = set(), 1, False
    while not ended:
        database = tmp_path / "app.db"
        database.write_bytes(start)
        ticks = 0

        def handler(last: int = tick) -> bool:
            nonlocal ticks
            ticks += 1
            return ticks == last

        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.set_progress_handler(handler, 20)
            try:
                steps = migrate(connection, migrations)
            except MigrationError as error:
                # The latter while it compiles a statement once more, because the schema has changed.
                assert "interrupted" in str(error) or "database schema has changed" in str(error)
                steps = error.steps
            connection.set_progress_handler(None, 0)
            assert not connection.in_transaction
        ended = ticks < tick
        assert ran(steps) == ALL[: len(steps)]
        is_whole(database, f"{len(steps):04}")
        reached.add(len(steps))
        tick += 1 + tick // 10
    assert reached == {0, 1, 2, 3, 4}


# --- a callback that raises


class Enough(Exception):
    pass


@POSITIONS
@pytest.mark.parametrize("done", [False, True], ids=["when it begins", "when it is committed"])
@pytest.mark.parametrize("own", [True, False], ids=["path", "connection"])
def test_what_a_callback_raises_comes_out_and_whole_steps_stay(
    migrations: Path, database: Path, at: int, done: bool, own: bool
) -> None:
    error = Enough()
    told: list[str] = []

    def report(progress: Progress) -> None:
        if progress.done:
            told.append(progress.step.version)
        if (progress.done, progress.step.version) == (done, f"{at:04}"):
            raise error

    with closing(sqlite3.connect(database)) as connection:
        with pytest.raises(Enough) as caught:
            migrate(database if own else connection, migrations, progress=report)
        assert not connection.in_transaction
    assert caught.value is error
    assert told == ALL[: at if done else at - 1]
    version = current(database, migrations).version or ""
    assert version >= f"{at:04}" if done else version == f"{at - 1:04}"
    is_whole(database, version)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Enough()], ids=["KeyboardInterrupt", "Enough"])
def test_what_comes_during_a_statement_that_writes_keeps_the_steps_before(
    migrations: Path, database: Path, error: BaseException
) -> None:
    """SQLite rolls back all of the transaction then, so that those steps are done once more."""
    small_step(migrations, 3, more=f"INSERT INTO t3 {numbers(100_000_000)};")
    told: list[tuple[str, bool]] = []

    def report(progress: Progress) -> None:
        if progress.done or not progress.statement:
            told.append((progress.step.version, progress.done))
        if progress.step.version == "0003" and progress.elapsed:
            raise error

    with pytest.raises(type(error)) as caught:
        migrate(database, migrations, progress=report)
    assert caught.value is error
    assert told == [*((version, False) for version in ALL[:3]), ("0001", True), ("0002", True)]
    is_whole(database, "0002")


# --- others


def test_a_reader_that_keeps_a_group_from_its_commit(migrations: Path, database: Path) -> None:
    small_step(migrations, 4, more="oops;")
    with closing(sqlite3.connect(database, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM ran").fetchall()
        with pytest.raises(AccessError) as caught:
            migrate(database, migrations, timeout=0.05)
    assert str(caught.value) == (
        f"{database}: COMMIT kept waiting by a reader for 0.05 s; rolled back, {database} is still at 0000"
    )
    assert caught.value.steps == ()
    is_whole(database, "0000")
    small_step(migrations, 4)
    assert ran(migrate(database, migrations)) == ALL


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Enough()], ids=["KeyboardInterrupt", "Enough"])
@pytest.mark.parametrize(
    "more", ["", f"INSERT INTO t3 {numbers(100_000_000)};"], ids=["at once", "in the middle"]
)
def test_who_stops_a_run_is_kept_waiting_by_nobody(
    migrations: Path, database: Path, more: str, error: BaseException
) -> None:
    """Also where SQLite has rolled back the steps before, and another process is faster to begin one."""
    small_step(migrations, 3, more=more)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:

        def reported(progress: Progress) -> None:
            if progress.step.version == "0003" and bool(progress.elapsed) == bool(more):
                stopped.append(error)
                if not more:
                    other.execute("BEGIN")
                    other.execute("SELECT * FROM ran").fetchall()
                raise error

        def traced(sql: str) -> None:
            if sql == "BEGIN IMMEDIATE" and stopped:
                other.execute(sql)

        def connect(path: str) -> sqlite3.Connection:
            connection = sqlite3.connect(path)
            connection.set_trace_callback(traced)
            return connection

        stopped: list[BaseException] = []
        with pytest.raises(type(error)) as caught:
            migrate(database, migrations, progress=reported, connect=connect, timeout=30)
        assert caught.value is error
    is_whole(database, "0000")


def test_what_comes_when_a_group_is_committed_comes_out_when_that_is_told(
    migrations: Path, database: Path
) -> None:
    class Cursor(sqlite3.Cursor):
        def execute(self, sql: str, *parameters: Any) -> "Cursor":
            super().execute(sql, *parameters)
            if sql == "COMMIT":
                os.kill(os.getpid(), signal.SIGALRM)
            return self

    class Connection(sqlite3.Connection):
        def cursor(self, *how: Any) -> Any:
            return Cursor(self)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    told: list[str] = []
    before = signal.signal(signal.SIGALRM, stop)
    try:
        connection = sqlite3.connect(database, factory=Connection)
        with closing(connection), pytest.raises(KeyboardInterrupt):
            migrate(connection, migrations, progress=lambda it: told.extend([it.step.version] * it.done))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert told == ALL
    is_whole(database, "0004")


MOUNT = (
    'mount -t tmpfs -o size=8m tmpfs "$0" || exit 77; "$@" 0001 > "$0.first" && mount -o remount,size=%s "$0"'
    ' && "$@" head'
)


@pytest.mark.parametrize(("what", "count", "size"), [("disk", 300, "400k"), ("temp", 4000, "64k")])
def test_a_step_that_finds_no_room_beside_others_is_done_alone(
    tmp_path: Path, what: str, count: int, size: str
) -> None:
    """What others have changed in the same transaction is kept twice until it ends."""
    migrations, place = tmp_path / "room", tmp_path / "place"
    migrations.mkdir()
    place.mkdir()
    rows = numbers(count, "i, zeroblob(900)")
    write(migrations, "0001_table", f"CREATE TABLE t (a INTEGER PRIMARY KEY, b);\nINSERT INTO t {rows};")
    for at in range(6):
        which = f"a BETWEEN {50 * at} AND {50 * at + 50}" if what == "disk" else "a > 0"
        write(migrations, f"{at + 2:04}_step", f"UPDATE t SET b = zeroblob(89{at}) WHERE {which};")
    database = place / "app.db" if what == "disk" else tmp_path / "roomy.db"
    program = [sys.executable, "-m", "vmpilot.migrate", "-d", str(database), "--migrations", str(migrations)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "SQLITE_TMPDIR": str(place)}
    mounted = ["unshare", "--mount", "sh", "-c", MOUNT % size, str(place), *program, "upgrade"]
    said = unshared(mounted, variables)
    assert (said.code, said.err) == (0, ""), said
    assert said.out.endswith(f"{database} is at 0007 (head)\n")


def test_a_step_is_told_when_others_can_see_it(migrations: Path, database: Path) -> None:
    def report(progress: Progress) -> None:
        if progress.done:
            assert (current(database, migrations).version or "") >= progress.step.version
            with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")

    assert ran(migrate(database, migrations, progress=report)) == ALL
