"""A rehearsal tells what the real run would do, and leaves no trace of itself: not a byte, not a file.

Each prediction is compared with the real run on the same database; the temporary directory is a test's own.
"""

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT, query, write

from vmpilot.migrate import (
    AccessError,
    HistoryError,
    MigrationError,
    Progress,
    StepError,
    VersionError,
    migrate,
)
from vmpilot.migrate.files import directory as files
from vmpilot.migrate.run import commands as runner
from vmpilot.migrate.run.planning import Wish
from vmpilot.migrate.tools.dry_run import Rehearsal, private_copy, rehearse

MODES = ("delete", "wal")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for temporary files, which is empty again after each test."""
    for name in ("temporary", "data"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(tmp_path / "data")
    yield tmp_path / "temporary"
    assert os.listdir(tmp_path / "temporary") == []


def silent(progress: Progress) -> None:
    pass


def wish(place: Path, action: str = "upgrade", target: str = "head") -> Wish:
    return Wish(action, str(place), files.discover(str(place)), target)


def rehearsed(
    place: Path, action: str = "upgrade", target: str = "head", database: str = "app.db"
) -> Rehearsal:
    return rehearse(wish(place, action, target), database, timeout=0, report=silent)


def traces() -> dict[str, str]:
    """Return the files beside the database, with what identifies their content."""
    return {name: hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in sorted(os.listdir())}


def chats(place: Path, mode: str = "delete") -> None:
    """Make a database at 0001 with three rows, and a second and a third migration."""
    with closing(sqlite3.connect("app.db", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
    write(place, "0001_chats", "CREATE TABLE chats (id INTEGER PRIMARY KEY, text);", "DROP TABLE chats;")
    migrate("app.db", place)
    with closing(sqlite3.connect("app.db")) as connection:
        connection.executemany("INSERT INTO chats (text) VALUES (?)", [("a",), ("b",), ("c",)])
        connection.commit()
    write(
        place,
        "0002_costs",
        "CREATE TABLE costs (chat INTEGER);"
        "INSERT INTO costs SELECT id FROM chats; DELETE FROM chats WHERE id = 3;",
        "DROP TABLE costs;",
    )
    write(
        place,
        "0003_title",
        "ALTER TABLE chats ADD COLUMN title TEXT;",
        "ALTER TABLE chats DROP COLUMN title;",
    )


def test_each_step_is_told_with_its_rows_and_its_changes(migrations: Path) -> None:
    chats(migrations)
    reports: list[Progress] = []
    outcome = rehearse(wish(migrations), "app.db", timeout=0, report=reports.append)
    assert outcome.error is None
    assert outcome.database == "app.db"
    assert outcome.size == os.path.getsize("app.db")
    assert outcome.seconds > 0
    assert [(done.step.action, done.step.version, done.rows, done.changes) for done in outcome.steps] == [
        ("upgrade", "0002", (("chats", 3, 2), ("costs", None, 3)), ("+ table costs",)),
        ("upgrade", "0003", (("chats", 2, 2),), ("+ column chats.title TEXT",)),
    ]
    assert [done.step for done in outcome.steps] == [progress.step for progress in reports if progress.done]
    assert all(done.step.took > 0 for done in outcome.steps)
    migrate("app.db", migrations)
    outcome = rehearsed(migrations, "downgrade", "1")
    assert [(done.step.action, done.step.version, done.rows, done.changes) for done in outcome.steps] == [
        ("downgrade", "0003", (("chats", 2, 2),), ("- column chats.title TEXT",)),
        ("downgrade", "0002", (("costs", 3, None),), ("- table costs",)),
    ]


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("INSERT OR IGNORE INTO main.plain VALUES (1)", [("plain", 1, 2)]),
        ('REPLACE INTO "main"."two words" VALUES (1)', [("two words", 1, 2)]),
        ("INSERT /* not so plain */ INTO [two words] VALUES (';')", [("two words", 1, 2)]),
        ("WITH two AS (SELECT 1 UNION SELECT 2) INSERT INTO plain SELECT * FROM two", [("plain", 1, 3)]),
        ('INSERT INTO "a""b" VALUES (1)', [('a"b', 1, 2)]),
        ("DELETE FROM plain", [("plain", 1, 0)]),
        ("DELETE FROM [two words] WHERE 1", [("two words", 1, 0)]),
        ("UPDATE OR REPLACE lone SET a = 1; INSERT INTO lone(a)VALUES (1)", [("lone", 1, 2)]),
        ("UPDATE plain SET a = a + 1", [("plain", 1, 1)]),
        ("INSERT INTO watched VALUES (1)", [("plain", 1, 2), ("watched", 1, 2)]),
        ("ALTER TABLE plain RENAME TO simple", [("plain", 1, None), ("simple", None, 1)]),
        ("CREATE TABLE copy AS SELECT * FROM plain", [("copy", None, 1), ("plain", 1, 1)]),
        (
            "CREATE TABLE new (a); INSERT INTO new SELECT a FROM lone; DROP TABLE lone;"
            "ALTER TABLE new RENAME TO lone",
            [("lone", 1, 1)],
        ),
    ],
)
def test_rows_are_counted_wherever_a_step_can_move_them(
    migrations: Path, sql: str, rows: list[tuple[str, int | None, int | None]]
) -> None:
    tables = [
        f"CREATE TABLE {name} (a); INSERT INTO {name} VALUES (0);"
        for name in ("plain", '"two words"', "watched", "lone", '"a""b"')
    ]
    trigger = "CREATE TRIGGER onto AFTER INSERT ON watched BEGIN INSERT INTO plain VALUES (new.a); END;"
    write(migrations, "0001_tables", "".join(tables) + trigger)
    migrate("app.db", migrations)
    write(migrations, "0002_moves", sql)
    outcome = rehearsed(migrations)
    assert outcome.error is None
    assert [row for row in outcome.steps[0].rows if row[0] in {name for name, *_ in rows}] == rows
    assert [row for row in outcome.steps[0].rows if row not in rows and row[1] != row[2]] == []


@pytest.mark.parametrize("mode", MODES)
def test_the_original_is_not_changed_by_a_byte(migrations: Path, mode: str) -> None:
    chats(migrations, mode)
    os.chmod("app.db", 0o444)
    before = traces()
    assert len(rehearsed(migrations).steps) == 2
    assert traces() == before
    assert set(before) == {"app.db"}
    with closing(sqlite3.connect("app.db", isolation_level=None)) as writer:
        writer.execute("INSERT INTO chats (text) VALUES ('committed')")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO chats (text) VALUES ('not committed')")
        before = traces()
        assert rehearsed(migrations).steps[0].rows[0] == ("chats", 4, 3)
        assert traces().keys() == before.keys()
        assert {name: seal for name, seal in traces().items() if not name.endswith("-shm")} == {
            name: seal for name, seal in before.items() if not name.endswith("-shm")
        }


@pytest.mark.parametrize("mode", MODES)
def test_a_disk_that_cannot_be_written_to(migrations: Path, tmp_path: Path, mode: str) -> None:
    chats(migrations, mode)
    with disk(tmp_path / "disk", "1m") as mounted:
        Path(mounted, "app.db").write_bytes(Path("app.db").read_bytes())
        subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
        outcome = rehearsed(migrations, database=f"{mounted}/app.db")
        assert outcome.error is None
        assert len(outcome.steps) == 2
        assert os.listdir(mounted) == ["app.db"]


@contextmanager
def disk(place: Path, size: str) -> Iterator[str]:
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount")
    try:
        yield str(place)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("mode", MODES)
def test_others_write_meanwhile(migrations: Path, mode: str) -> None:
    chats(migrations, mode)
    with closing(sqlite3.connect("app.db", timeout=0, isolation_level=None)) as writer:

        def report(progress: Progress) -> None:
            writer.execute("INSERT INTO chats (text) VALUES ('meanwhile')")

        outcome = rehearse(wish(migrations), "app.db", timeout=0, report=report)
    assert outcome.steps[0].rows[0] == ("chats", 3, 2)
    assert query(Path("app.db"), "SELECT count(*) FROM chats WHERE text = 'meanwhile'") == [(4,)]


def test_a_process_that_upgrades_between_plan_and_copy(
    migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chats(migrations)
    waited: list[str] = []
    original = tempfile.gettempdir

    def slow() -> str:
        if not waited:
            waited.extend(step.version for step in migrate("app.db", migrations, target="2"))
        return original()

    monkeypatch.setattr(tempfile, "gettempdir", slow)
    outcome = rehearsed(migrations)
    assert waited == ["0002"]
    assert [(done.step.version, done.rows, done.changes) for done in outcome.steps] == [
        ("0003", (("chats", 2, 2),), ("+ column chats.title TEXT",))
    ]


def test_with_nothing_to_do_nothing_is_copied(migrations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chats(migrations)
    monkeypatch.setenv("TMPDIR", "/nowhere")
    assert rehearsed(migrations, target="1") == Rehearsal("app.db", 0, 0.0, (), None)


def test_a_database_that_does_not_exist_is_not_made(migrations: Path) -> None:
    write(migrations, "0001_tables", "CREATE TABLE one (a);")
    outcome = rehearsed(migrations)
    assert outcome.size == 0
    assert outcome.steps[0].rows == (("one", None, 0),)
    assert os.listdir() == []


def test_what_the_run_would_refuse_is_refused(migrations: Path) -> None:
    chats(migrations)
    advice = "to go back, run: python -m vmpilot.migrate downgrade base"
    said = f"cannot upgrade to base: app.db is already at 0001; {advice}"
    with pytest.raises(VersionError) as version:
        rehearsed(migrations, target="base")
    assert str(version.value) == said
    write(migrations, "0004_broken", "COMMIT;")
    with pytest.raises(HistoryError) as history:
        rehearsed(migrations)
    rule = "COMMIT is not allowed here, the runner owns the transaction"
    assert str(history.value) == f"{migrations}/0004_broken.up.sql:1: {rule}; app.db was not touched"


def test_a_failing_step_is_told_in_the_words_of_the_real_run(migrations: Path) -> None:
    chats(migrations)
    write(migrations, "0004_typo", "CREATE TABLE four (a);\nCREATE TABEL five (a);")
    outcome = rehearsed(migrations)
    assert [done.step.version for done in outcome.steps] == ["0002", "0003"]
    assert isinstance(outcome.error, StepError)
    said = 'near "TABEL": syntax error; rolled back, app.db is still at 0003'
    assert str(outcome.error) == f"{migrations}/0004_typo.up.sql:2: {said}"
    with pytest.raises(StepError) as real:
        migrate("app.db", migrations)
    assert (str(real.value), vars(real.value)) == (str(outcome.error), vars(outcome.error))


def test_guards_and_adoption_speak_too(migrations: Path) -> None:
    write(migrations, "0001_tables", "CREATE TABLE IF NOT EXISTS one (a);")
    with closing(sqlite3.connect("app.db")) as connection:
        connection.execute("CREATE TABLE one (b)")
    outcome = rehearsed(migrations)
    found = "no column one.a; unexpected column one.b"
    said = f"{migrations}/0001_tables.up.sql: {found}; rolled back, app.db is still at base"
    assert str(outcome.error) == said


def test_files_that_ask_for_no_transaction(migrations: Path) -> None:
    chats(migrations)
    write(migrations, "0004_wal", "-- vmpilot: no-transaction\nPRAGMA journal_mode = WAL; VACUUM;")
    write(migrations, "0005_more", "INSERT INTO chats (text) VALUES ('in the log of the copy');")
    outcome = rehearsed(migrations)
    assert outcome.error is None
    assert outcome.steps[-1].rows == (("chats", 2, 3),)
    assert query(Path("app.db"), "PRAGMA journal_mode") == [("delete",)]


def test_an_upgrade_by_newer_code_is_taken_back_with_the_kept_scripts(migrations: Path) -> None:
    chats(migrations)
    migrate("app.db", migrations)
    for path in migrations.glob("000[23]*"):
        path.unlink()
    outcome = rehearsed(migrations, "downgrade", "head")
    assert outcome.error is None
    assert [done.changes for done in outcome.steps] == [("- column chats.title TEXT",), ("- table costs",)]


def test_a_database_in_memory_and_a_connection(migrations: Path) -> None:
    chats(migrations)
    with closing(sqlite3.connect("app.db")) as file, closing(sqlite3.connect(":memory:")) as memory:
        file.backup(memory)
        for connection in (file, memory):
            outcome = rehearse(wish(migrations), connection, timeout=0, report=silent)
            assert [done.rows for done in outcome.steps] == [
                (("chats", 3, 2), ("costs", None, 3)),
                (("chats", 2, 2),),
            ]
            assert connection.execute("SELECT count(*) FROM chats").fetchone() == (3,)


# --- the copy


def test_only_the_user_can_read_the_copy(migrations: Path, temporary: Path) -> None:
    chats(migrations, "wal")
    os.chmod("app.db", 0o666)
    seen = set()

    def report(progress: Progress) -> None:
        seen.update((path.suffix, path.stat().st_mode & 0o777) for path in temporary.iterdir())

    umask = os.umask(0)
    try:
        rehearse(wish(migrations), "app.db", timeout=0, report=report)
    finally:
        os.umask(umask)
    assert seen == {(".tmp", 0o600), (".tmp-wal", 0o600), (".tmp-shm", 0o600)}


def test_a_private_copy_tells_its_size_and_is_gone_after_an_error(migrations: Path, temporary: Path) -> None:
    chats(migrations)
    connection = None
    with pytest.raises(Alarm), private_copy("app.db", 0) as copy:
        assert os.listdir(temporary) == [os.path.basename(copy.path)]
        assert copy.size == os.path.getsize(copy.path) == os.path.getsize("app.db")
        rows = query(Path("app.db"), "SELECT * FROM chats")
        assert query(Path(copy.path), "SELECT * FROM chats") == rows
        connection = sqlite3.connect(copy.path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("DELETE FROM chats")
        assert len(os.listdir(temporary)) == 3
        raise Alarm
    assert os.listdir(temporary) == []
    assert connection
    connection.close()


def test_no_room_for_the_copy(migrations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chats(migrations)
    size = os.path.getsize("app.db")
    with disk(tmp_path / "disk", "8k") as mounted:
        monkeypatch.setattr(tempfile, "tempdir", mounted)
        with pytest.raises(AccessError) as caught:
            rehearsed(migrations)
        assert os.listdir(mounted) == []
    said = f"{mounted}: a copy of app.db needs {size} bytes, 8192 are free; nothing was changed"
    assert str(caught.value) == f"{said}; to have the copy elsewhere, set TMPDIR"


def test_no_room_for_what_the_copy_becomes(
    migrations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chats(migrations)
    write(migrations, "0004_blob", "INSERT INTO chats (text) VALUES (zeroblob(200000));")
    with disk(tmp_path / "disk", "100k") as mounted:
        monkeypatch.setattr(tempfile, "tempdir", mounted)
        with pytest.raises(AccessError) as caught:
            rehearsed(migrations)
        assert os.listdir(mounted) == []
    said = f"{mounted}: no room for the changed copy of app.db: database or disk is full; nothing was changed"
    assert str(caught.value) == f"{said}; to have the copy elsewhere, set TMPDIR"
    assert len(migrate("app.db", migrations)) == 3


LIMITED = """
import resource, sys
from vmpilot.migrate.files import directory as files
from vmpilot.migrate.run.planning import Wish
from vmpilot.migrate.tools.dry_run import rehearse
place = sys.argv[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    rehearse(Wish("upgrade", place, files.discover(place), "head"), "app.db", timeout=0, report=print)
except Exception as error:
    print(type(error).__name__, error)
"""


def process(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_file_system_that_takes_no_more(migrations: Path, temporary: Path) -> None:
    chats(migrations)
    size = os.path.getsize("app.db")
    with process(LIMITED, str(migrations)) as limited:
        said = limited.communicate()[0]
    words = f"{temporary}: a copy of app.db needs {size} bytes: disk I/O error; nothing was changed"
    assert said == f"AccessError {words}; to have the copy elsewhere, set TMPDIR\n"


@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM"])
def test_a_signal_during_a_long_statement(migrations: Path, signal_name: str) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n;"
    chats(migrations)
    write(migrations, "0004_endless", endless)
    before = traces()
    with process(REHEARSING, str(migrations)) as running:
        assert running.stdout
        assert running.stdout.readline() == "0004\n"
        started = time.monotonic()
        running.send_signal(getattr(signal, signal_name))
        assert running.stdout.readline() == f"{signal_name} []\n"
        assert time.monotonic() - started < 2  # a third of a second on a machine that has time
        assert running.wait() == 0
    assert traces() == before


REHEARSING = """
import os, signal, sys
from vmpilot.migrate.files import directory as files
from vmpilot.migrate.run.planning import Wish
from vmpilot.migrate.tools.dry_run import rehearse

class Terminated(KeyboardInterrupt):
    pass

def terminate(number, frame):
    raise Terminated

def report(progress):
    if progress.step.version == "0004" and progress.elapsed > 0:
        print("0004", flush=True)

signal.signal(signal.SIGTERM, terminate)
place = sys.argv[1]
try:
    rehearse(Wish("upgrade", place, files.discover(place), "head"), "app.db", timeout=0, report=report)
except KeyboardInterrupt as interrupt:
    name = "SIGTERM" if isinstance(interrupt, Terminated) else "SIGINT"
    print(name, os.listdir(os.environ["TMPDIR"]), flush=True)
"""


class Alarm(BaseException):
    """What a signal handler raises in the sweep over all moments."""


# Between a call and the `with` that it stands in, Python itself leaves what was opened to the collector.
UNRAISABLE = "ignore::pytest.PytestUnraisableExceptionWarning"


def swept(place: Path, temporary: Path, moments: int) -> None:
    chats(place)
    with closing(sqlite3.connect("app.db")) as connection:
        connection.executemany("INSERT INTO chats (text) VALUES (?)", [("x" * 2000,)] * 4000)
        connection.commit()
    before, rung = traces(), 0
    started = time.monotonic()
    rehearsed(place)
    whole = 1.5 * (time.monotonic() - started)

    def ring(number: int, frame: object) -> None:
        raise Alarm

    kept = signal.signal(signal.SIGALRM, ring)
    try:
        for moment in range(1, moments + 1):
            signal.setitimer(signal.ITIMER_REAL, whole * moment / moments)
            try:
                rehearsed(place)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Alarm:
                rung += 1
            assert os.listdir(temporary) == []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, kept)
    assert traces() == before
    assert rung


@pytest.mark.filterwarnings(UNRAISABLE)
def test_a_signal_at_any_moment(migrations: Path, temporary: Path) -> None:
    swept(migrations, temporary, 30)


@pytest.mark.full
@pytest.mark.filterwarnings(UNRAISABLE)
def test_a_signal_at_any_moment_thoroughly(migrations: Path, temporary: Path) -> None:
    swept(migrations, temporary, 300)


# --- predictions

STATEMENTS = st.sampled_from(
    [
        "CREATE TABLE {0} (a);",
        "CREATE TABLE {0} (a PRIMARY KEY, b REFERENCES {1});",
        "DROP TABLE {0};",
        "INSERT INTO {0} VALUES (1);",
        "INSERT INTO {0} (a) VALUES (2), (3);",
        "DELETE FROM {0} WHERE a = 2;",
        "UPDATE {0} SET a = 1;",
        "ALTER TABLE {0} ADD COLUMN c TEXT;",
        "ALTER TABLE {0} RENAME TO {1};",
        "CREATE INDEX {0}_by_a ON {0} (a);",
        "CREATE VIEW {1}_seen AS SELECT * FROM {0};",
        "CREATE TRIGGER {0}_copied AFTER INSERT ON {0} BEGIN INSERT INTO {1} (a) VALUES (new.a); END;",
        "SELECT * FROM {0};",
        "nonsense;",
    ]
)
TABLES = st.sampled_from(["one", "two"])
SCRIPTS = st.lists(st.builds(str.format, STATEMENTS, TABLES, TABLES), max_size=4).map("\n".join)
HISTORIES = st.lists(st.tuples(SCRIPTS, st.one_of(st.none(), SCRIPTS)), min_size=1, max_size=5)


def outcome_of_the_real_run(place: Path, action: str, target: str) -> tuple[object, ...]:
    reports: list[Progress] = []
    try:
        runner.run(
            wish(place, action, target),
            "app.db",
            timeout=0,
            report=reports.append,
            prelude=lambda version: None,
        )
        error: tuple[object, ...] = ()
    except MigrationError as raised:
        error = (type(raised), str(raised), vars(raised))
    return [progress.step._replace(took=0) for progress in reports if progress.done], error


def outcome_of_the_rehearsal(place: Path, action: str, target: str) -> tuple[object, ...]:
    steps: list[object] = []
    try:
        outcome = rehearsed(place, action, target)
        steps = [done.step._replace(took=0) for done in outcome.steps]
        raised = outcome.error
    except MigrationError as refused:
        raised = refused
    return steps, (type(raised), str(raised), vars(raised)) if raised else ()


def counts() -> dict[str, int]:
    names = [
        str(name) for (name,) in query(Path("app.db"), "SELECT name FROM sqlite_master WHERE type = 'table'")
    ]
    return {name: int(str(query(Path("app.db"), f'SELECT count(*) FROM "{name}"')[0][0])) for name in names}


@given(
    HISTORIES,
    st.integers(0, 4),
    st.sampled_from(["head", "+1", "1", "2"]),
    st.sampled_from(["-1", "base", "1"]),
)
def test_a_rehearsal_predicts_the_real_run(
    history: list[tuple[str, str | None]], start: int, up: str, down: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        before_directory = os.getcwd()
        place = Path(name) / "migrations"
        place.mkdir()
        os.chdir(name)
        try:
            for number, (script, undo) in enumerate(history, 1):
                write(place, f"{number:04}_x", script, undo)
            for action, target in (("upgrade", up), ("downgrade", down)):
                compare(place, action, target)
        finally:
            os.chdir(before_directory)


def compare(place: Path, action: str, target: str) -> None:
    before = traces_of_files()
    predicted = outcome_of_the_rehearsal(place, action, target)
    assert traces_of_files() == before
    rows = predicted_rows(place, action, target)
    assert outcome_of_the_real_run(place, action, target) == predicted
    assert rows is None or rows.items() <= counts().items()


def traces_of_files() -> dict[str, bytes]:
    return {name: Path(name).read_bytes() for name in os.listdir() if os.path.isfile(name)}


def predicted_rows(place: Path, action: str, target: str) -> dict[str, int] | None:
    """Return the rows of the tables that the rehearsed steps left behind, None if nothing was rehearsed."""
    try:
        outcome = rehearsed(place, action, target)
    except MigrationError:
        return None
    left: dict[str, int | None] = {}
    for done in outcome.steps:
        left |= {table: after for table, _, after in done.rows}
    return {table: after for table, after in left.items() if after is not None}
