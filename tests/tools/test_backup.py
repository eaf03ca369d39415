"""A backup is whole or not there, whatever happens while it is made, and a restore gives its state back.

Real files, locks, processes and signals; a copy is compared with its database by `dump`.
"""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import ROOT, query, write

from vmpilot.migrate import (
    AccessError,
    MigrationError,
    VersionError,
    current,
    downgrade,
    migrate,
    restore,
)
from vmpilot.migrate.tools.backup import private_copy, take

MODES = ("delete", "wal")
KEPT = "app.db.before-restore.bak"


@pytest.fixture
def place(migrations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two migrations, and the directory of the databases as the current one, for short messages."""
    write(migrations, "0001_chats", CHATS, "DROP TABLE chats;")
    write(migrations, "0002_costs", COSTS, "DROP TABLE costs;")
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "data")
    return migrations


CHATS = "CREATE TABLE IF NOT EXISTS chats (id INTEGER PRIMARY KEY, text TEXT);"
COSTS = "CREATE TABLE costs (chat INTEGER, cost REAL); CREATE INDEX costs_by_chat ON costs (chat);"


def filled(place: Path, mode: str = "delete", rows: int = 20, name: str = "app.db") -> None:
    """Make a database at 0001 with rows of half a page."""
    with closing(sqlite3.connect(name, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
    migrate(name, place, target="1")
    with closing(sqlite3.connect(name)) as connection:
        connection.executemany("INSERT INTO chats (text) VALUES (?)", [("x" * 2000,)] * rows)
        connection.commit()


def dump(path: str) -> list[str]:
    """Return all that a database holds, and prove that it is sound."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return list(connection.iterdump())


def names() -> list[str]:
    """Return the files beside the database."""
    return sorted(os.listdir())


def mode_of(path: str) -> int:
    return os.stat(path).st_mode & 0o7777


@contextmanager
def child(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python code as a process that is spoken with through pipes; it is dead in the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


HOLDING = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(sys.argv[2])
connection.execute("SELECT count(*) FROM chats").fetchall()
print("holding", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
print("released", flush=True)
"""


@contextmanager
def held(begin: str) -> Iterator[subprocess.Popen[str]]:
    """Have another process hold a lock on app.db; a line on its standard input lets it go."""
    with child(HOLDING, "app.db", begin) as process:
        assert process.stdout
        assert process.stdout.readline() == "holding\n"
        yield process


# --- taking


@pytest.mark.parametrize("mode", MODES)
def test_a_backup_is_the_whole_database_and_all_that_is_left(place: Path, mode: str) -> None:
    filled(place, mode)
    with closing(sqlite3.connect("app.db")) as writer:
        writer.execute("INSERT INTO chats (text) VALUES ('committed, and in WAL mode only in the log')")
        writer.commit()
        writer.execute("INSERT INTO chats (text) VALUES ('not committed')")
        beside = names()
        seen: list[tuple[int, int]] = []
        assert (
            take("app.db", "0001", timeout=0, report=lambda *pages: seen.append(pages)) == "app.db.0001.bak"
        )
        assert names() == sorted([*beside, "app.db.0001.bak"])
        writer.rollback()
        assert dump("app.db.0001.bak") == list(writer.iterdump())
    assert seen[-1][0] == seen[-1][1] == os.path.getsize("app.db.0001.bak") // 4096


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("base", "app.db.base.bak"),
        ("57dc007f6d46", "app.db.57dc007f6d46.bak"),
        ("../../etc/x y\n", "app.db..._.._etc_x_y_.bak"),
        ("before-restore", "app.db.before_restore.bak"),
        ("é" * 300, f"app.db.{'_' * 64}.bak"),
    ],
)
def test_any_version_makes_a_file_name(place: Path, version: str, name: str) -> None:
    with closing(sqlite3.connect("app.db")) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num)")
        connection.execute("INSERT INTO alembic_version VALUES (?)", (version,))
        connection.commit()
    assert take("app.db", version, timeout=0) == name
    assert names() == ["app.db", name]


def test_a_backup_is_named_by_what_is_in_it(place: Path) -> None:
    filled(place)
    assert take("app.db", "0001", timeout=0) == "app.db.0001.bak"
    kept = Path("app.db.0001.bak").read_bytes()
    migrate("app.db", place)  # another process, after this one has read the version
    assert take("app.db", "0001", timeout=0) == "app.db.0002.bak"
    assert Path("app.db.0001.bak").read_bytes() == kept


def test_nothing_to_back_up(place: Path) -> None:
    assert take("app.db", "base", timeout=0) is None
    Path("app.db").touch()
    assert take("app.db", "base", timeout=0) is None
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE chats (id)")
        assert take(connection, "base", timeout=0) is None
    assert names() == ["app.db"]


def test_migrate_backs_up_only_if_something_is_pending(place: Path) -> None:
    filled(place)
    before = dump("app.db")
    assert migrate("app.db", place, target="1", backup=True) == ()
    assert names() == ["app.db"]
    assert len(migrate("app.db", place, backup=True)) == 1
    assert names() == ["app.db", "app.db.0001.bak"]
    assert dump("app.db.0001.bak") == before


def test_backups_of_one_version_replace_each_other(place: Path) -> None:
    filled(place)
    for number in range(4):
        with closing(sqlite3.connect("app.db")) as connection:
            connection.execute("INSERT INTO chats (text) VALUES (?)", (f"round {number}",))
            connection.commit()
        migrate("app.db", place, backup=True)
        downgrade("app.db", place)
    assert names() == ["app.db", "app.db.0001.bak", "app.db.0002.bak"]
    assert query(Path("app.db.0002.bak"), "SELECT text FROM chats ORDER BY id DESC LIMIT 1") == [("round 3",)]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
def test_a_backup_has_the_mode_of_its_database_and_never_a_wider_one(place: Path, mode: int) -> None:
    filled(place)
    os.chmod("app.db", mode)
    seen = set()

    def report(done: int, total: int) -> None:
        seen.update(mode_of(name) for name in names() if name != "app.db")

    umask = os.umask(0)
    try:
        take("app.db", "0001", timeout=0, report=report)
    finally:
        os.umask(umask)
    assert seen == {0o600}
    assert mode_of("app.db.0001.bak") == mode


def test_a_backup_belongs_to_the_owner_of_the_database(place: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    filled(place)
    os.chown("app.db", 1234, 5678)
    take("app.db", "0001", timeout=0)
    found = os.stat("app.db.0001.bak")
    assert (found.st_uid, found.st_gid) == (1234, 5678)


def test_a_connection_is_backed_up_through_another_one(place: Path) -> None:
    filled(place)
    with closing(sqlite3.connect("app.db")) as connection:
        connection.row_factory = sqlite3.Row
        seen: list[str] = []
        connection.set_trace_callback(seen.append)
        copy = take(connection, "0001", timeout=0)
        connection.set_trace_callback(None)
        assert copy == os.path.abspath("app.db.0001.bak")
        assert dump(copy) == dump("app.db")
        assert [sql for sql in seen if not sql.startswith("PRAGMA")] == []
        assert connection.isolation_level == ""


@pytest.mark.parametrize("mode", MODES)
def test_whoever_writes_all_the_time_gets_a_consistent_backup(place: Path, mode: str) -> None:
    filled(place, mode, rows=6000)  # three batches
    with closing(sqlite3.connect("app.db", timeout=0, isolation_level=None)) as writer:
        outcomes: list[str] = []

        def write_on(done: int, total: int) -> None:
            try:
                moved = f"moved {len(outcomes)}"
                writer.execute("UPDATE chats SET text = ? WHERE id IN (1, 6000)", (moved,))
                outcomes.append("written")
            except sqlite3.OperationalError as error:
                outcomes.append(str(error))

        assert take("app.db", "0001", timeout=0, report=write_on) == "app.db.0001.bak"
    ends = query(Path("app.db.0001.bak"), "SELECT substr(text, 1, 7) FROM chats WHERE id IN (1, 6000)")
    if mode == "wal":
        assert outcomes == ["written"] * 3
        assert ends == [("xxxxxxx",), ("xxxxxxx",)]
    else:
        # Begun again three times; then the read lock was kept to the end.
        assert outcomes == ["written"] * 3 + ["database is locked"] * 3
        assert ends == [("moved 2",), ("moved 2",)]
    dump("app.db.0001.bak")


TRANSFERS = """
import sqlite3, sys
connection = sqlite3.connect("app.db", timeout=60, isolation_level=None)
connection.execute("PRAGMA synchronous = OFF")
print("writing", flush=True)
while True:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE costs SET cost = cost - 1 WHERE chat = 1")
    connection.execute("UPDATE costs SET cost = cost + 1 WHERE chat = 2")
    connection.execute("COMMIT")
"""


@pytest.mark.parametrize("mode", MODES)
def test_another_process_that_never_stops_writing(place: Path, mode: str) -> None:
    filled(place, mode, rows=3000)
    migrate("app.db", place)
    with closing(sqlite3.connect("app.db")) as connection:
        connection.execute("INSERT INTO costs VALUES (1, 0), (2, 0)")
        connection.commit()
    with child(TRANSFERS) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == "writing\n"
        for _ in range(3):
            copy = take("app.db", "0002", timeout=30)
            assert copy
            dump(copy)
            assert query(Path(copy), "SELECT sum(cost) FROM costs") == [(0,)]
        assert writer.poll() is None
    assert query(Path("app.db"), "SELECT sum(cost), max(cost) > 0 FROM costs") == [(0, 1)]


def test_a_lock_is_waited_for_until_the_timeout(place: Path) -> None:
    filled(place)
    with held("BEGIN EXCLUSIVE") as process, pytest.raises(AccessError) as caught:
        take("app.db", "0001", timeout=0.2)
    assert str(caught.value) == "app.db: locked by another process for 0.2 s; nothing was changed"
    assert [name for name in names() if name != "app.db-journal"] == ["app.db"]
    assert process.wait()


def test_a_lock_that_comes_while_copying_is_waited_for_too(place: Path) -> None:
    filled(place, rows=4000)
    with closing(sqlite3.connect("app.db", timeout=0, isolation_level=None)) as other:

        def lock(done: int, total: int) -> None:
            if not other.in_transaction:
                other.execute("BEGIN EXCLUSIVE")

        started = time.monotonic()
        with pytest.raises(AccessError) as caught:
            take("app.db", "0001", timeout=0.2, report=lock)
        assert time.monotonic() - started >= 0.2
        other.execute("ROLLBACK")
    assert str(caught.value) == "app.db: locked by another process for 0.2 s; nothing was changed"
    assert names() == ["app.db"]


def damage(path: str, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def test_a_damaged_database_leaves_the_older_backup_alone(place: Path) -> None:
    filled(place)
    take("app.db", "0001", timeout=0)
    before = Path("app.db.0001.bak").read_bytes()
    page = query(Path("app.db"), "SELECT rootpage FROM sqlite_master WHERE name = 'chats'")[0][0]
    damage("app.db", (int(str(page)) - 1) * 4096, b"\xff" * 100)
    with pytest.raises(AccessError) as caught:
        migrate("app.db", place, backup=True)
    assert re.fullmatch("app.db: quick_check found: .*; nothing was changed", str(caught.value))
    assert names() == ["app.db", "app.db.0001.bak"]
    assert Path("app.db.0001.bak").read_bytes() == before


@pytest.mark.parametrize(
    "ddl", ["(text CHECK (sound(text)))", "(text COLLATE ours UNIQUE)", "(text, louder AS (sound(text)))"]
)
def test_a_database_that_needs_something_of_its_application(place: Path, ddl: str) -> None:
    with closing(sqlite3.connect("app.db")) as connection:
        connection.create_function("sound", 1, lambda value: 1, deterministic=True)
        connection.create_collation("ours", lambda one, other: (one > other) - (one < other))
        connection.execute(f"CREATE TABLE chats {ddl}")
        connection.execute("INSERT INTO chats VALUES ('x')")
        connection.commit()
        assert take("app.db", "base", timeout=0) == "app.db.base.bak"
        connection.execute("DELETE FROM chats")
        connection.commit()
        restore("app.db.base.bak", "app.db", place)
        assert connection.execute("SELECT text FROM chats").fetchall() == [("x",)]


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
from vmpilot.migrate import migrate
try:
    migrate("app.db", sys.argv[1], backup=True)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_no_room_for_the_backup(place: Path) -> None:
    filled(place)
    size, before = os.path.getsize("app.db"), Path("app.db").read_bytes()
    with child(FULL, str(place), str(size - 4096)) as process:
        said = process.communicate()[0]
    words = f"a copy of app.db needs {size} bytes: disk I/O error"
    assert said == f"AccessError .: {words}; nothing was changed\n"
    assert names() == ["app.db"]
    assert Path("app.db").read_bytes() == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_no_room_on_the_disk_is_known_before_anything_is_written(
    place: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_disk)
    filled(place, rows=35)
    size = os.path.getsize("app.db")
    facts = os.statvfs(".")
    free = facts.f_bavail * facts.f_frsize
    assert free < size
    with pytest.raises(AccessError) as caught:
        migrate("app.db", place, backup=True)
    words = f".: a copy of app.db needs {size} bytes, {free} are free; nothing was changed"
    assert str(caught.value) == words
    assert names() == ["app.db"]
    assert current("app.db", place).version == "0001"


def test_an_error_of_the_system_does_not_show_the_temporary_name(place: Path) -> None:
    name = "a" * 240
    filled(place, name=name)
    with pytest.raises(AccessError) as caught:
        take(name, "0001", timeout=0)
    assert str(caught.value) == ".: file name too long; nothing was changed"


# --- interrupted

TAKING = """
import os, sys
from vmpilot.migrate.tools.backup import take

def report(done, total):
    print("copying", flush=True)
    sys.stdin.readline()

try:
    take("app.db", "0001", timeout=0, report=report)
except KeyboardInterrupt:
    print("interrupted", sorted(os.listdir()))
"""


def test_ctrl_c_leaves_the_older_backup_and_nothing_else(place: Path) -> None:
    filled(place)
    Path("app.db.0001.bak").write_bytes(b"older")
    with child(TAKING) as process:
        assert process.stdout
        assert process.stdout.readline() == "copying\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted ['app.db', 'app.db.0001.bak']\n"
        assert process.wait() == 0
    assert Path("app.db.0001.bak").read_bytes() == b"older"


def test_a_kill_never_leaves_half_a_backup(place: Path) -> None:
    filled(place)
    Path("app.db.0001.bak").write_bytes(b"older")
    with child(TAKING) as process:
        assert process.stdout
        assert process.stdout.readline() == "copying\n"
        process.kill()
    assert Path("app.db.0001.bak").read_bytes() == b"older"
    assert take("app.db", "0001", timeout=0) == "app.db.0001.bak"
    assert dump("app.db.0001.bak") == dump("app.db")


class Alarm(BaseException):
    """What a signal handler raises in the sweep over all moments."""


# Between a call and the `with` that it stands in, Python itself leaves what was opened to the collector.
UNRAISABLE = "ignore::pytest.PytestUnraisableExceptionWarning"


@contextmanager
def alarm_after(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def swept(place: Path, moments: int) -> None:
    filled(place, rows=4000)
    expected, rung = dump("app.db"), 0
    started = time.monotonic()
    take("app.db", "0001", timeout=0)
    whole = 1.5 * (time.monotonic() - started)
    for moment in range(1, moments + 1):
        try:
            with alarm_after(whole * moment / moments):
                take("app.db", "0001", timeout=0)
        except Alarm:
            rung += 1
        assert set(names()) <= {"app.db", "app.db.0001.bak"}
        if "app.db.0001.bak" in names():
            assert dump("app.db.0001.bak") == expected
            os.remove("app.db.0001.bak")
    assert rung


@pytest.mark.filterwarnings(UNRAISABLE)
def test_a_signal_at_any_moment_of_a_backup(place: Path) -> None:
    swept(place, 30)


@pytest.mark.full
@pytest.mark.filterwarnings(UNRAISABLE)
def test_a_signal_at_any_moment_of_a_backup_thoroughly(place: Path) -> None:
    swept(place, 300)


# --- restoring


LOCKED = "app.db: locked by another process for 0.2 s; nothing was changed"


def said_at_refusal(backup: str, place: Path) -> str:
    try:
        restore(backup, "app.db", place, timeout=0.2)
    except MigrationError as error:  # not kept: on Python 3.11 it keeps a connection open
        return str(error)
    return "not refused"


def refusal(backup: str, place: Path) -> str:
    """Have a backup refused; return what was said, after a look that nothing was changed."""
    contents = {name: Path(name).read_bytes() for name in names() if os.path.isfile(name)}
    said = said_at_refusal(backup, place)
    assert {name: Path(name).read_bytes() for name in names() if os.path.isfile(name)} == contents
    return said


def test_a_restore_gives_the_state_back_and_keeps_the_one_before(place: Path) -> None:
    filled(place)
    migrate("app.db", place, backup=True)
    with closing(sqlite3.connect("app.db")) as connection:
        connection.execute("INSERT INTO costs VALUES (1, 0.5)")
        connection.commit()
    before = dump("app.db")
    done = restore("app.db.0001.bak", "app.db", place)
    assert done == ("app.db", "app.db.0001.bak", "0001", KEPT)
    assert dump("app.db") == dump("app.db.0001.bak")
    assert dump(KEPT) == before
    assert current("app.db", place).version == "0001"
    # The way back, whose backup is replaced while it is read.
    assert restore(KEPT, "app.db", place) == ("app.db", KEPT, "0002", KEPT)
    assert dump("app.db") == before
    assert dump(KEPT) == dump("app.db.0001.bak")
    assert names() == ["app.db", "app.db.0001.bak", KEPT]


def test_the_kept_state_has_the_mode_of_the_database_and_so_has_a_new_one(place: Path) -> None:
    filled(place)
    os.chmod("app.db", 0o640)
    take("app.db", "0001", timeout=0)
    assert restore("app.db.0001.bak", "app.db", place).kept == KEPT
    assert mode_of(KEPT) == mode_of("app.db") == 0o640
    assert restore("app.db.0001.bak", "new.db", place) == ("new.db", "app.db.0001.bak", "0001", None)
    assert mode_of("new.db") == 0o640
    assert dump("new.db") == dump("app.db")


def drop(path: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("DROP TABLE chats; CREATE TABLE rubbish (a); VACUUM;")


def forget_log(path: str) -> None:
    """Remove the file under its write-ahead log, as a careless clean-up does."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("DELETE FROM chats")
    with open(path + "-wal", "rb") as log:
        frames = log.read()
    connection.close()
    os.remove(path)
    Path(path + "-wal").write_bytes(frames)


DAMAGE = st.one_of(
    st.builds(
        lambda at, data: lambda path: damage(path, at, data), st.integers(0, 40000), st.binary(min_size=1)
    ),
    st.builds(lambda size: lambda path: os.truncate(path, size), st.integers(0, 40000)),
    st.builds(lambda data: lambda path: Path(path).write_bytes(data), st.binary()),
    st.sampled_from([drop, forget_log, os.remove]),
)


@contextmanager
def directory() -> Iterator[Path]:
    """Work in a directory of its own, beside migrations as those of `place`."""
    import tempfile

    before = os.getcwd()
    with tempfile.TemporaryDirectory() as name:
        migrations = Path(name) / "migrations"
        migrations.mkdir()
        write(migrations, "0001_chats", CHATS, "DROP TABLE chats;")
        write(migrations, "0002_costs", COSTS, "DROP TABLE costs;")
        (Path(name) / "data").mkdir()
        os.chdir(Path(name) / "data")
        try:
            yield migrations
        finally:
            os.chdir(before)


@settings(max_examples=settings().max_examples // 2)
@given(DAMAGE, st.sampled_from(MODES))
@example(drop, "wal")
@example(forget_log, "delete")
@example(os.remove, "wal")
@example(lambda path: os.truncate(path, 0), "wal")
@example(lambda path: os.truncate(path, 8192), "delete")
@example(lambda path: damage(path, 0, b"\xff" * 100), "delete")
@example(lambda path: damage(path, 100, b"\xff" * 4000), "wal")
def test_a_restore_heals_any_damage(harm: object, mode: str) -> None:
    assert callable(harm)
    with directory() as place:
        filled(place, mode, rows=12)
        backup = take("app.db", "0001", timeout=0)
        assert backup
        expected = dump(backup)
        harm("app.db")
        wrecked = Path("app.db").read_bytes() if os.path.exists("app.db") else b""
        done = restore(backup, "app.db", place, timeout=0)
        assert done.version == "0001"
        assert dump("app.db") == dump(backup) == expected
        # One byte is less than a database can have.
        assert (done.kept == KEPT) == os.path.exists(KEPT) == (len(wrecked) > 1)
        assert set(names()) <= {"app.db", backup, KEPT}
        assert len(migrate("app.db", place)) == 1


def test_a_wreck_is_kept_as_it_is(place: Path) -> None:
    filled(place)
    take("app.db", "0001", timeout=0)
    Path("app.db").write_bytes(b"no database " * 1000)
    os.chmod("app.db", 0o600)
    assert restore("app.db.0001.bak", "app.db", place).kept == KEPT
    assert Path(KEPT).read_bytes() == b"no database " * 1000
    assert mode_of(KEPT) == 0o600


def test_what_is_no_sound_backup_is_refused(place: Path) -> None:
    filled(place)
    take("app.db", "0001", timeout=0)
    whole = Path("app.db.0001.bak").read_bytes()
    assert refusal("no.bak", place) == "no.bak: no such file; nothing was changed"
    os.mkdir("dir.bak")
    words = "dir.bak: is a directory, expected a database file; nothing was changed"
    assert refusal("dir.bak", place) == words
    Path("empty.bak").touch()
    assert refusal("empty.bak", place) == "empty.bak: empty, expected a database; nothing was changed"
    Path("text.bak").write_text("x" * 5000)
    assert refusal("text.bak", place) == "text.bak: file is not a database; nothing was changed"
    Path("short.bak").write_bytes(whole[:-4097])
    assert refusal("short.bak", place) == "short.bak: database disk image is malformed; nothing was changed"
    Path("spoilt.bak").write_bytes(whole[:-4000] + b"\xff" * 4000)
    said = refusal("spoilt.bak", place)
    assert re.fullmatch("spoilt.bak: quick_check found: .*; nothing was changed", said)
    words = "app.db: the database itself, expected a backup of it; nothing was changed"
    assert refusal("app.db", place) == words
    os.symlink("app.db", "link.bak")
    assert refusal("link.bak", place) == words.replace("app.db", "link.bak")


def test_a_version_that_the_files_do_not_know_is_refused(place: Path) -> None:
    filled(place)
    write(place, "0003_more", "CREATE TABLE more (a);", "DROP TABLE more;")
    migrate("app.db", place)
    take("app.db", "0003", timeout=0)
    for name in os.listdir(place):
        if name.startswith("0003"):
            os.remove(place / name)
    downgrade("app.db", place, target="head", backup=False)
    said = "app.db.0003.bak is at 0003, but this code knows only base to 0002; nothing was changed"
    assert refusal("app.db.0003.bak", place) == said
    with closing(sqlite3.connect("alembic.bak")) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num)")
        connection.execute("INSERT INTO alembic_version VALUES ('57dc007f6d46')")
        connection.commit()
    said = "alembic.bak is at 57dc007f6d46, but this code knows only base to 0002; nothing was changed"
    assert refusal("alembic.bak", place) == said
    with pytest.raises(VersionError) as caught:
        restore("alembic.bak", "app.db", place)
    assert caught.value.version == "57dc007f6d46"


def test_a_database_of_another_project_is_refused(place: Path, tmp_path: Path) -> None:
    filled(place)
    with closing(sqlite3.connect("other.bak")) as connection:
        connection.executescript(
            "CREATE TABLE orders (a); CREATE TABLE items (a); INSERT INTO items VALUES (1);"
        )
    said = "other.bak: a database of another project, with the tables items, orders; nothing was changed"
    assert refusal("other.bak", place) == said
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    write(theirs, "0001_orders", "CREATE TABLE orders (a);", "DROP TABLE orders;")
    write(theirs, "0002_items", "CREATE TABLE items (a);", "DROP TABLE items;")
    migrate("their.db", theirs)
    words = "a database of another project, with the migrations 0001_orders, 0002_items; nothing was changed"
    assert refusal("their.db", place) == f"their.db: {words}"
    # Of ours is what has one statement or one name in common: a file may be edited or renamed.
    write(theirs, "0003_costs", COSTS, "DROP TABLE costs;")
    migrate("their.db", theirs)
    os.rename(place / "0002_costs.up.sql", place / "0003_renamed.up.sql")
    os.rename(place / "0002_costs.down.sql", place / "0003_renamed.down.sql")
    write(place, "0002_other", "CREATE TABLE other (a);")
    assert restore("their.db", "new.db", place).version == "0003"


def test_a_backup_from_before_the_first_migration(place: Path) -> None:
    with closing(sqlite3.connect("app.db")) as connection:
        connection.execute("CREATE TABLE Chats (id INTEGER PRIMARY KEY, text TEXT)")
        connection.commit()
    before = dump("app.db")
    migrate("app.db", place, backup=True)
    os.remove("app.db")  # nothing but the files can tell that the table is ours
    assert restore("app.db.base.bak", "app.db", place) == ("app.db", "app.db.base.bak", None, None)
    assert dump("app.db") == before


def test_a_backup_of_a_database_that_was_somebody_elses_too(place: Path) -> None:
    with closing(sqlite3.connect("app.db")) as connection:
        connection.execute("CREATE TABLE theirs (a)")
        connection.commit()
    before = dump("app.db")
    migrate("app.db", place, backup=True)
    assert restore("app.db.base.bak", "app.db", place).version is None
    assert dump("app.db") == before


def test_a_backup_from_base_after_a_downgrade(place: Path) -> None:
    filled(place)
    downgrade("app.db", place, target="base")
    before = dump("app.db")
    migrate("app.db", place, backup=True)
    assert restore("app.db.base.bak", "app.db", place).version is None
    assert dump("app.db") == before


@pytest.mark.parametrize("begin", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
@pytest.mark.parametrize("mode", MODES)
def test_a_writer_is_waited_for(place: Path, mode: str, begin: str) -> None:
    filled(place, mode)
    take("app.db", "0001", timeout=0)
    expected = dump("app.db")
    with held(begin) as process:
        assert said_at_refusal("app.db.0001.bak", place) == LOCKED
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
        assert restore("app.db.0001.bak", "app.db", place, timeout=30).version == "0001"
    assert dump("app.db") == expected


@pytest.mark.parametrize("mode", MODES)
def test_open_readers_see_one_state_or_the_other(place: Path, mode: str) -> None:
    filled(place, mode)
    take("app.db", "0001", timeout=0)
    with closing(sqlite3.connect("app.db")) as connection:
        connection.execute("DELETE FROM chats WHERE id > 5")
        connection.commit()
    with closing(sqlite3.connect("app.db", isolation_level=None)) as reader:
        count = "SELECT count(*) FROM chats"
        reader.execute("BEGIN")
        assert reader.execute(count).fetchone() == (5,)
        if mode == "wal":
            restore("app.db.0001.bak", "app.db", place, timeout=0)
        else:
            assert said_at_refusal("app.db.0001.bak", place) == LOCKED
        assert reader.execute(count).fetchone() == (5,)
        reader.execute("COMMIT")
        restore("app.db.0001.bak", "app.db", place, timeout=0)
        assert reader.execute(count).fetchone() == (20,)


READING = """
import sqlite3
connection = sqlite3.connect("app.db", isolation_level=None, timeout=60)
seen = set()
while 20 not in seen:
    connection.execute("BEGIN")
    seen.add(connection.execute("SELECT count(*) FROM chats").fetchone()[0])
    if len(seen) == 1:
        print("reading", flush=True)
    connection.execute("SELECT count(*) FROM range a, range b, range c").fetchall()  # some milliseconds
    connection.execute("COMMIT")
print(sorted(seen), flush=True)
"""


@pytest.mark.parametrize("mode", MODES)
def test_readers_that_leave_no_gap_do_not_keep_a_restore_waiting(place: Path, mode: str) -> None:
    filled(place, mode)
    with closing(sqlite3.connect("app.db")) as connection:
        connection.execute("CREATE TABLE range (number)")
        connection.executemany("INSERT INTO range VALUES (?)", [(number,) for number in range(60)])
        connection.commit()
        take("app.db", "0001", timeout=0)
        connection.execute("DELETE FROM chats WHERE id > 8")
        connection.commit()
    with child(READING) as one, child(READING) as two, child(READING) as three:
        outputs = [process.stdout for process in (one, two, three) if process.stdout]
        assert [output.readline() for output in outputs] == ["reading\n"] * 3
        restore("app.db.0001.bak", "app.db", place, timeout=10)
        assert {output.readlines()[-1] for output in outputs} == {"[8, 20]\n"}


@pytest.mark.parametrize(("live", "kept"), [("wal", "wal"), ("delete", "wal"), ("wal", "delete")])
def test_the_journal_mode_afterwards(place: Path, live: str, kept: str) -> None:
    filled(place, kept)
    take("app.db", "0001", timeout=0)
    with closing(sqlite3.connect("app.db")) as connection:
        connection.execute(f"PRAGMA journal_mode = {live}")
    restore("app.db.0001.bak", "app.db", place)
    assert query(Path("app.db"), "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sizes", [(512, 4096), (4096, 65536), (65536, 1024)])
def test_a_backup_with_another_page_size(place: Path, mode: str, sizes: tuple[int, int]) -> None:
    for name, size in zip(("old.db", "app.db"), sizes, strict=True):
        with closing(sqlite3.connect(name)) as connection:
            connection.execute(f"PRAGMA page_size = {size}")
            connection.execute("CREATE TABLE first (a)")
        filled(place, mode if name == "app.db" else "delete", name=name)
    backup = take("old.db", "0001", timeout=0)
    assert backup
    with closing(sqlite3.connect("app.db", isolation_level=None)) as other:
        other.execute("DELETE FROM chats")
        if mode == "wal":  # a log in use cannot change its page size
            assert said_at_refusal(backup, place) == LOCKED
            other.close()
        restore(backup, "app.db", place, timeout=0)
    assert dump("app.db") == dump("old.db")
    assert query(Path("app.db"), "PRAGMA page_size") == [(sizes[0],)]
    assert query(Path("app.db"), "PRAGMA journal_mode") == [(mode,)]


def test_a_connection_is_restored_and_stays_open(place: Path) -> None:
    filled(place)
    backup = take("app.db", "0001", timeout=0)
    assert backup
    for name in ("app.db", ":memory:"):
        with closing(sqlite3.connect(name)) as connection:
            connection.execute("DROP TABLE IF EXISTS chats")
            connection.commit()
            done = restore(backup, connection, place)
            shown = os.path.abspath(name) if name == "app.db" else name
            kept = os.path.abspath(KEPT) if name == "app.db" else None
            assert done == (shown, backup, "0001", kept)
            assert connection.execute("SELECT count(*) FROM chats").fetchone() == (20,)
            assert connection.isolation_level == ""


def test_a_restore_takes_a_path_or_a_connection_of_sqlite3(place: Path) -> None:
    with pytest.raises(TypeError) as caught:
        restore("app.db.0001.bak", 1, place)
    assert str(caught.value) == "database: expected a path or a connection of sqlite3, not int"


RESTORING = """
import signal, sys
from vmpilot.migrate import restore
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[2]))
restore("app.db.0001.bak", "app.db", sys.argv[1])
print("done")
"""


def texts(path: str) -> list[tuple[object, ...]]:
    """Return what tells the states of a large database apart, and prove that it is sound."""
    assert query(Path(path), "PRAGMA integrity_check") == [("ok",)]
    return query(Path(path), "SELECT typeof(text), length(text), count(*) FROM chats GROUP BY 1, 2")


def killed_while_restoring(place: Path, mode: str, moments: int) -> None:
    filled(place, mode, rows=4000)
    take("app.db", "0001", timeout=0)
    new = texts("app.db")
    with closing(sqlite3.connect("app.db")) as connection:
        connection.execute("UPDATE chats SET text = zeroblob(2500)")
        connection.commit()
    old = texts("app.db")
    left = Path("app.db").read_bytes()
    outcomes = []
    for moment in range(1, moments + 1):
        Path("app.db").write_bytes(left)
        with child(RESTORING, str(place), str(0.15 * moment / moments)) as process:
            outcomes.append(process.communicate()[0])
        found = texts("app.db")
        assert found in (old, new)
        assert outcomes[-1] == "" or found == new
        if os.path.exists(KEPT):
            assert texts(KEPT) == old
            os.remove(KEPT)
    assert "" in outcomes


@pytest.mark.parametrize("mode", MODES)
def test_a_kill_while_restoring_leaves_one_state_or_the_other(place: Path, mode: str) -> None:
    killed_while_restoring(place, mode, 6)


@pytest.mark.full
@pytest.mark.parametrize("mode", MODES)
def test_a_kill_while_restoring_thoroughly(place: Path, mode: str) -> None:
    killed_while_restoring(place, mode, 200)


# --- other modules


def test_an_unencrypted_database_is_backed_up_with_the_module_of_its_connection(place: Path) -> None:
    module = pytest.importorskip("pysqlite3")
    filled(place)
    with closing(module.connect("app.db")) as connection:
        assert take(connection, "0001", timeout=0) == os.path.abspath("app.db.0001.bak")
    assert dump("app.db.0001.bak") == dump("app.db")


def test_an_encrypted_database_is_refused(place: Path) -> None:
    module = pytest.importorskip("sqlcipher3")
    with closing(module.connect("app.db")) as connection:
        connection.execute("PRAGMA key = 'secret'")
        connection.execute(CHATS)
        connection.commit()
        with pytest.raises(AccessError) as caught:
            migrate(connection, place, backup=True)
        with pytest.raises(AccessError) as copying, private_copy(connection, 0):
            pass
        path = os.path.abspath("app.db")
        unable = "this connection cannot copy its database"
        advice = "to go on without a backup, pass backup=False"
        said = f"{path}: {unable}: file is not a database; nothing was changed; {advice}"
        assert str(caught.value) == said
        assert str(copying.value) == f"{path}: {unable}: SQL logic error; nothing was changed"
        assert len(migrate(connection, place)) == 2
    assert names() == ["app.db"]


@pytest.mark.parametrize("name", ["libsql", "turso"])
def test_a_module_without_backups_is_refused(place: Path, name: str) -> None:
    module = pytest.importorskip(name)
    with closing(module.connect("app.db")) as connection:
        connection.execute("CREATE TABLE chats (id)")
        connection.commit()
        with pytest.raises(AccessError) as caught:
            take(connection, "base", timeout=0)
    start = f"{os.path.abspath('app.db')}: this connection cannot copy its database: "
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith("; nothing was changed; to go on without a backup, pass backup=False")
    assert [name for name in names() if name.endswith((".bak", ".tmp"))] == []
