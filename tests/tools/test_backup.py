"""A backup is whole or not there, whatever happens while it is made.

Real files, locks, processes and signals; a copy is compared with its database by `dump`. What happens
in the middle of a copy is done where the command line tells on a terminal how far it is.
"""

import fcntl
import json
import os
import re
import shutil
import signal
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support import (
    Place,
    Said,
    add,
    backed_up,
    change,
    disk,
    dump,
    ever_later,
    filled,
    heard,
    in_process,
    mode_of,
    nobody,
    plain,
    query,
    running,
    taken,
    unraisable,
    write,
)

from vmpilot.migrate import AccessError, VersionError, current, downgrade, migrate, restore, stamp
from vmpilot.migrate.tools.backup import take

MODES = ("delete", "wal")
LOCKED = "app.db: locked by another process for {} s; nothing was changed"


TIME = r"\.20\d{6}T\d{6}\.\d{3}Z(?=\.bak)"
OLDER = "app.db.0001.20250102T030405.678Z.bak"


def names() -> list[str]:
    """Return the files beside the database, without the times of backups."""
    return sorted(map(plain, os.listdir()))


def upgraded(place: Path, copying: Callable[[], object], timeout: str = "0") -> Said:
    """Upgrade with a backup on a terminal; `copying` is called whenever a part of it is copied."""

    def live(text: str) -> None:
        if "backup: " in text:
            copying()

    arguments = ("-d", "app.db", "--migrations", place, "--timeout", timeout)
    return in_process("upgrade", "--backup", *arguments, live=live)


# --- what is backed up, and when


@pytest.mark.parametrize("mode", MODES)
def test_a_backup_is_the_whole_database_and_all_that_is_left(place: Path, mode: str) -> None:
    filled(place, mode)
    with closing(sqlite3.connect("app.db", isolation_level=None)) as writer:
        writer.execute("INSERT INTO chats (text) VALUES ('committed, and in WAL mode only in the log')")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO chats (text) VALUES ('not committed')")
        beside = names()
        with pytest.raises(AccessError) as caught:  # for the upgrade itself the writer is in the way
            migrate("app.db", place, backup=True, timeout=0)
        assert str(caught.value) == LOCKED.format(0)
        assert names() == sorted([*beside, "app.db.0001.bak"])
        writer.execute("ROLLBACK")
        assert dump(taken("app.db.0001.bak")) == list(writer.iterdump())


def test_nothing_to_back_up(place: Path) -> None:
    assert len(migrate("missing.db", place, backup=True)) == 2
    Path("empty.db").touch()
    assert len(migrate("empty.db", place, backup=True)) == 2
    with closing(sqlite3.connect(":memory:")) as connection:
        migrate(connection, place, target="1")
        assert len(migrate(connection, place, backup=True)) == 1
    assert names() == ["empty.db", "missing.db"]


def test_a_backup_is_taken_only_if_something_is_to_be_done(place: Path) -> None:
    filled(place)
    before = dump("app.db")
    assert migrate("app.db", place, target="1", backup=True) == ()
    assert downgrade("app.db", place, target="1") == ()
    assert names() == ["app.db"]
    assert dump(backed_up(place)) == before
    assert names() == ["app.db", "app.db.0001.bak"]


def test_a_backup_is_named_by_what_is_in_it(place: Path) -> None:
    filled(place, "wal")
    Path(OLDER).write_bytes(b"older")

    def act(what: str) -> None:
        if what == "read":  # after this process has read the version
            migrate("app.db", place)

    assert migrate("app.db", Place(place, act), backup=True) == ()
    assert names() == ["app.db", "app.db.0001.bak", "app.db.0002.bak"]
    assert Path(OLDER).read_bytes() == b"older"
    assert dump(taken("app.db.0002.bak")) == dump("app.db")


@pytest.mark.parametrize("version", ["base", "0", "7" * 32])
def test_any_version_makes_a_file_name(
    migrations: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(migrations.parent)
    change("app.db", "CREATE TABLE others (a)")
    if version != "base":
        write(migrations, version, "CREATE TABLE a (b);")
        migrate("app.db", migrations)
    write(migrations, "8" * 32, "CREATE TABLE c (d);")
    migrate("app.db", migrations, backup=True)
    assert names() == ["app.db", f"app.db.{version}.bak", "migrations"]


def test_the_newest_three_backups_of_a_version_are_kept_and_none_is_replaced(place: Path) -> None:
    filled(place)
    listed = []
    for number in range(5):
        change("app.db", f"INSERT INTO chats (text) VALUES ('round {number}')")
        migrate("app.db", place, backup=True)
        downgrade("app.db", place)
        listed.append({name: Path(name).read_bytes() for name in os.listdir()})
    assert names() == ["app.db", *["app.db.0001.bak"] * 3, *["app.db.0002.bak"] * 3]
    for before, after in pairwise(listed):
        assert [name for name in before.keys() & after.keys() if before[name] != after[name]] == ["app.db"]
    for version in ("0001", "0002"):
        newest = sorted(Path().glob(f"app.db.{version}.*.bak"))
        last = "SELECT text FROM chats ORDER BY id DESC LIMIT 1"
        assert [query(path, last) for path in newest] == [[(f"round {number}",)] for number in (2, 3, 4)]


def test_a_restart_loop_does_not_replace_the_state_before_it(place: Path) -> None:
    filled(place)
    migrate("app.db", place)
    before = dump("app.db")
    statements = "DELETE FROM chats;\nSELECT nowhere;"
    write(place, "0003_loop", f"-- vmpilot: no-transaction\n{statements}")
    shown = []
    for _ in range(5):
        with running("-c", STARTS, place, VMPILOT_MIGRATE_BACKUP="1") as process:
            out, err = process.communicate()
        shown.append((re.sub(TIME, "", out.strip()), process.returncode, names()))
        assert "no such column: nowhere" in err
        assert dump(taken("app.db.0002.bak")) == before
    listed = ["app.db", "app.db.0002.bak"]
    again = "0003 is unfinished: no new backup, app.db.0002.bak is kept"
    assert shown == [("backed up to app.db.0002.bak", 1, listed)] + [(again, 1, listed)] * 4


def test_a_backup_is_named_by_what_the_log_says(place: Path) -> None:
    def name(guess: str = "guess") -> str:
        backup = take("app.db", guess, timeout=0)
        assert backup
        return plain(backup.path)

    filled(place)
    assert name() == "app.db.0001.bak"
    stamp("0002", "app.db", place)
    assert name() == "app.db.0002.bak"
    write(place, "0003_more", "-- vmpilot: revision 57dc007f6d46\nCREATE TABLE more (a);", "DROP TABLE more;")
    migrate("app.db", place)
    for direction in ("up", "down"):
        (place / f"0003_more.{direction}.sql").rename(place / f"0004_more.{direction}.sql")
    stamp("0004", "app.db", place)
    assert name() == "app.db.0004.bak"
    stamp("base", "app.db", place)
    assert name() == "app.db.base.bak"
    change("app.db", "INSERT INTO alembic_version VALUES ('of nobody')")
    assert name("../:" + 100 * "x") == f"app.db...__{60 * 'x'}.bak"


def test_a_backup_is_named_by_what_it_holds(place: Path) -> None:
    filled(place, rows=2500)  # more than are copied at once
    others = iter([lambda: migrate("app.db", place)])
    backup = take("app.db", "0001", timeout=0, report=lambda *_: next(others, lambda: None)() and None)
    assert backup
    assert plain(backup.path) == "app.db.0002.bak"
    assert current(backup.path, place).version == "0002"


def test_a_database_that_was_exchanged_while_it_was_copied_is_planned_again(place: Path) -> None:
    filled(place, rows=2500)
    write(place, "0003_more", "CREATE TABLE more (a);")
    shutil.copy("app.db", "new.db")
    migrate("new.db", place, target="0002")
    others = iter([lambda: os.replace("new.db", "app.db")])
    answer = upgraded(place, lambda: next(others, lambda: None)())
    assert (answer.code, "applied 0003" in answer.out, "applied 0002" in answer.out) == (0, True, False)
    assert current("app.db", place).version == "0003"


def test_what_became_wrong_while_it_was_copied_is_told_of_the_database(place: Path) -> None:
    filled(place, rows=2500)
    others = iter([lambda: change("app.db", "INSERT INTO alembic_version VALUES ('another')")])
    with pytest.raises(VersionError) as caught:
        take("app.db", "0001", timeout=0, report=lambda *_: next(others, lambda: None)())
    assert str(caught.value).startswith("app.db: ")
    assert names() == ["app.db"]


def test_of_several_backups_the_newest_is_the_one_that_is_kept(place: Path) -> None:
    filled(place)
    migrate("app.db", place)
    Path("app.db.0002.20250102T030405.678Z.bak").write_bytes(b"older")
    write(place, "0003_loop", "-- vmpilot: no-transaction\nDELETE FROM chats;\nSELECT nowhere;")
    for _ in range(2):
        with running("-c", STARTS, place, VMPILOT_MIGRATE_BACKUP="1") as process:
            out, _ = process.communicate()
        _, newest = sorted(Path().glob("app.db.0002.*.bak"))
    assert out == f"0003 is unfinished: no new backup, {newest} is kept\n"


STARTS = """
import sys
from vmpilot.migrate.cli.commands import main
sys.exit(main(["-d", "app.db", "--migrations", sys.argv[1]]))
"""


def test_each_backup_has_the_right_version_after_a_stamp_and_two_downgrades(place: Path) -> None:
    write(place, "0003_more", "CREATE TABLE more (a);", "DROP TABLE more;")
    filled(place)
    migrate("app.db", place)
    assert in_process("stamp", "0003", "-d", "app.db", "--migrations", place).code == 0
    for version in ("0003", "0002"):
        change("app.db", f"INSERT INTO chats (text) VALUES ('newest at {version}')")
        downgrade("app.db", place)
    assert names() == ["app.db", "app.db.0002.bak", "app.db.0003.bak"]
    for version in ("0003", "0002"):
        backup = taken(f"app.db.{version}.bak")
        assert current(backup, place).version == version
        newest = query(Path(backup), "SELECT text FROM chats ORDER BY id DESC LIMIT 1")
        assert newest == [(f"newest at {version}",)]


def test_what_a_killed_process_left_is_swept_and_what_is_at_work_is_not(place: Path) -> None:
    filled(place)
    for name in ("left", "work"):
        os.mkdir(f".vmpilot.{name}.tmp", 0o700)
        Path(f".vmpilot.{name}.tmp/copy").write_bytes(b"rows")
    Path(".vmpilot.left.tmp/copy-journal").write_bytes(b"rows")
    at_work = os.open(".vmpilot.work.tmp", os.O_RDONLY)
    try:
        fcntl.flock(at_work, fcntl.LOCK_EX)
        backed_up(place)
        assert names() == [".vmpilot.work.tmp", "app.db", "app.db.0001.bak"]
        assert Path(".vmpilot.work.tmp/copy").read_bytes() == b"rows"
    finally:
        os.close(at_work)
    os.mkdir(".vmpilot.theirs.tmp")
    Path(".vmpilot.theirs.tmp/notes.txt").touch()  # of what lies there only a copy is removed
    downgrade("app.db", place)
    assert os.listdir(".vmpilot.theirs.tmp") == ["notes.txt"]
    assert not os.path.exists(".vmpilot.work.tmp")


def test_another_user_cannot_lay_a_journal_beside_a_copy(place: Path) -> None:
    if os.geteuid():
        pytest.skip("needs a second user, and only root can become one")
    filled(place)
    add(4000)
    os.chmod("app.db", 0o600)
    os.chmod(".", 0o1777)
    refused = []

    def lay() -> None:
        (directory,) = Path().glob(".vmpilot.*.tmp")
        with nobody():
            for ending in ("-journal", "-wal"):
                try:
                    (directory / f"copy{ending}").touch()
                except OSError as error:
                    refused.append(type(error))

    assert upgraded(place, lay).code == 0
    assert set(refused) == {PermissionError}
    assert names() == ["app.db", "app.db.0001.bak"]


def modes() -> list[int]:
    """Return the modes of the directory in which a copy is made, and of what is in it."""
    (directory,) = Path().glob(".vmpilot.*.tmp")
    return [mode_of(str(path)) for path in (directory, *directory.iterdir())]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_a_backup_has_the_mode_of_its_database_and_never_a_wider_one(place: Path, mode: int) -> None:
    filled(place)
    os.chmod("app.db", mode)
    seen = set()
    umask = os.umask(0)
    try:
        said = upgraded(place, lambda: seen.update(modes()))
    finally:
        os.umask(umask)
    assert (said.code, seen) == (0, {0o700, 0o600})
    assert mode_of(taken("app.db.0001.bak")) == mode


def test_a_backup_belongs_to_the_owner_of_the_database(place: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    filled(place)
    os.chown("app.db", 1234, 5678)
    found = os.stat(backed_up(place))
    assert (found.st_uid, found.st_gid) == (1234, 5678)


def test_a_connection_is_backed_up_through_another_one(place: Path) -> None:
    filled(place)
    before = dump("app.db")
    with closing(sqlite3.connect("app.db")) as connection:
        connection.row_factory = sqlite3.Row
        seen: list[str] = []

        def trace(sql: str) -> None:
            if names() == ["app.db"]:
                seen.append(sql)

        connection.set_trace_callback(trace)
        os.chmod("app.db", 0o444)  # of a database that nobody could open for writing
        assert len(migrate(connection, place, backup=True)) == 1
        assert connection.isolation_level == ""
    assert dump(taken("app.db.0001.bak")) == before
    assert mode_of(taken("app.db.0001.bak")) == 0o444
    assert {sql.split()[0] for sql in seen} <= {"PRAGMA", "SELECT", "BEGIN", "ROLLBACK"}


# --- others at work


@pytest.mark.parametrize("mode", MODES)
def test_whoever_writes_all_the_time_gets_a_consistent_backup(place: Path, mode: str) -> None:
    filled(place, mode, rows=6000)  # three batches
    with closing(sqlite3.connect("app.db", timeout=0, isolation_level=None)) as writer:
        outcomes: list[str] = []

        def write_on() -> None:
            try:
                if len(outcomes) < 20:  # or it would never end, were it begun again each time
                    moved = f"moved {len(outcomes)}"
                    writer.execute("UPDATE chats SET text = ? WHERE id IN (1, 6000)", (moved,))
                    outcomes.append("written")
            except sqlite3.OperationalError as error:
                outcomes.append(str(error))

        assert upgraded(place, write_on).code == 0
    ends = query(Path(taken("app.db.0001.bak")), "SELECT substr(text, 1, 7) FROM chats WHERE id IN (1, 6000)")
    if mode == "wal":
        assert outcomes == ["written"] * 3
        assert ends == [("xxxxxxx",), ("xxxxxxx",)]
    else:
        # Begun again three times; then the read lock was kept to the end.
        assert outcomes == ["written"] * 3 + ["database is locked"] * 3
        assert ends == [("moved 2",), ("moved 2",)]
    dump(taken("app.db.0001.bak"))


# Ends when the backup is there: with two who never stop, one might never get the lock.
TRANSFERS = """
import glob, sqlite3
connection = sqlite3.connect("app.db", timeout=60, isolation_level=None)
connection.execute("PRAGMA synchronous = OFF")
told = False
while not glob.glob("app.db.0002.*.bak"):
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE costs SET cost = cost - 1 WHERE chat = 1")
    connection.execute("UPDATE costs SET cost = cost + 1 WHERE chat = 2")
    connection.execute("COMMIT")
    if not told:
        print("writing", flush=True)
        told = True
"""


@pytest.mark.parametrize("mode", MODES)
def test_another_process_that_never_stops_writing(place: Path, mode: str) -> None:
    filled(place, mode, rows=3000)
    backed_up(place)
    write(place, "0003_more", "", "")
    change("app.db", "INSERT INTO costs VALUES (1, 0), (2, 0)")
    for _ in range(3):
        with running("-c", TRANSFERS) as writer:
            assert heard(writer) == "writing\n"
            assert len(migrate("app.db", place, backup=True)) == 1
            assert writer.wait() == 0
        dump(taken("app.db.0002.bak"))
        for name in ("app.db", taken("app.db.0002.bak")):
            assert query(Path(name), "SELECT sum(cost), max(cost) > 0 FROM costs") == [(0, 1)]
        os.remove(taken("app.db.0002.bak"))
        downgrade("app.db", place, backup=False)


@pytest.mark.parametrize("released", [False, True])
def test_a_lock_that_comes_while_copying_is_waited_for(place: Path, released: bool) -> None:
    filled(place, rows=4000)
    timers: list[threading.Timer] = []
    with closing(sqlite3.connect("app.db", isolation_level=None, check_same_thread=False)) as other:

        def lock() -> None:
            if not timers:
                other.execute("BEGIN EXCLUSIVE")
                timers.append(threading.Timer(0.2, other.rollback))
                if released:
                    timers[0].start()

        said = upgraded(place, lock, "60" if released else "0.1")
        if released:
            timers[0].join()
    assert said.code == int(not released)
    assert said.err == "" if released else f"error: {LOCKED.format(0.1)}\n"
    assert names() == ["app.db"] + ["app.db.0001.bak"] * released


# --- what cannot be backed up


def test_a_damaged_database_leaves_the_older_backup_alone(place: Path) -> None:
    filled(place)
    Path(OLDER).write_bytes(b"older")
    ((page,),) = query(Path("app.db"), "SELECT rootpage FROM sqlite_master WHERE name = 'chats'")
    with open("app.db", "r+b") as file:
        file.seek((int(str(page)) - 1) * 4096)
        file.write(b"\xff" * 100)
    with pytest.raises(AccessError) as caught:
        migrate("app.db", place, backup=True)
    words = "(quick_check found: .*|database disk image is malformed)"  # by SQLite's release
    # Where SQLite itself has found it. The place of the migrations is named whole, too.
    advice = f"(; to put its newest backup back, run: .* restore {os.path.abspath(OLDER)})?"
    assert re.fullmatch(f"app.db: {words}; nothing was changed{advice}", str(caught.value))
    assert names() == ["app.db", "app.db.0001.bak"]
    assert Path(OLDER).read_bytes() == b"older"


@pytest.mark.parametrize(
    "ddl",
    [
        "(text CHECK (sound(text)))",
        "(text COLLATE ours UNIQUE)",
        "(text, louder AS (sound(text)))",
        "(text CHECK (text > 'y'))",  # which the row breaks
    ],
)
def test_what_needs_its_application_or_breaks_a_check_is_backed_up(place: Path, ddl: str) -> None:
    write(place, "0001_chats", f"CREATE TABLE chats {ddl};")
    with closing(sqlite3.connect("app.db", isolation_level=None)) as connection:
        connection.create_function("sound", 1, lambda value: 1, deterministic=True)
        connection.create_collation("ours", lambda one, other: (one > other) - (one < other))
        migrate(connection, place, target="1")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("INSERT INTO chats VALUES ('x')")
        assert len(migrate(connection, place, backup=True)) == 1
        connection.execute("DELETE FROM chats")
        restore(taken("app.db.0001.bak"), "app.db", place)
        assert connection.execute("SELECT text FROM chats").fetchall() == [("x",)]


FAILING = """
import os, resource, stat, sys
from vmpilot.migrate import migrate
if sys.argv[2].isdecimal():
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
else:  # a disk that fails at the very end
    def failing(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode) == (sys.argv[2] == "name"):
            raise OSError(5, os.strerror(5))
        fsync(handle)
    fsync, os.fsync = os.fsync, failing
try:
    migrate("app.db", sys.argv[1], backup=True)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("failing", ["write", "file", "name"])
def test_a_disk_that_fails_leaves_no_backup(place: Path, failing: str, older: bool) -> None:
    filled(place)
    if older:
        Path(OLDER).write_bytes(b"older")
    size, before = os.path.getsize("app.db"), {name: Path(name).read_bytes() for name in os.listdir()}
    limit = failing == "write"
    with running("-c", FAILING, place, str(size - 4096) if limit else failing) as process:
        out, err = process.communicate()
    words = f"a copy of app.db needs {size} bytes: disk I/O error" if limit else "input/output error"
    assert (out, err) == (f"AccessError .: {words}; nothing was changed\n", "")
    assert {name: Path(name).read_bytes() for name in os.listdir()} == before


def test_the_pages_that_are_done_are_told(place: Path) -> None:
    filled(place, rows=2500)  # more than are copied at once
    told: list[tuple[int, int]] = []
    take("app.db", "0001", timeout=0, report=lambda done, total: told.append((done, total)))
    ((pages,),) = query(Path("app.db"), "PRAGMA page_count")
    assert told == sorted(told)
    assert len(told) > 1
    assert told[-1] == (pages, pages)


SYNCED = """
import glob, os, sys
from vmpilot.migrate import migrate, restore
synced, fsync, handles = [], os.fsync, len(os.listdir("/proc/self/fd"))
def watched(handle):
    synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")).rpartition(".")[2])
    fsync(handle)
os.fsync = watched
migrate("app.db", sys.argv[1], backup=True)
(backup,) = glob.glob("app.db.0001.*.bak")
restore(backup, "app.db", sys.argv[1])
print(*synced, len(os.listdir("/proc/self/fd")) - handles)
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_copy_and_then_its_name_are_on_the_disk(place: Path) -> None:
    filled(place)
    with running("-c", SYNCED, place) as process:
        assert process.communicate() == ("copy data copy data 0\n", "")


def test_who_may_not_give_files_away_has_a_backup_all_the_same(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Away from the directory of all tests, which is closed to others.
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(place, f"{folder}/migrations")
        monkeypatch.chdir(folder)
        filled(Path("migrations"))
        for name in (".", "app.db"):
            os.chmod(name, 0o777)
        with nobody():
            assert plain(backed_up(Path("migrations"))) == "app.db.0001.bak"
        assert os.path.exists(taken("app.db.0001.bak"))


def test_no_room_on_the_disk_is_known_before_anything_is_written(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with disk(tmp_path / "disk", "128k") as mounted:
        monkeypatch.chdir(mounted)
        filled(place, rows=35)
        size, facts = os.path.getsize("app.db"), os.statvfs(".")
        free = facts.f_bavail * facts.f_frsize
        assert free < size
        with pytest.raises(AccessError) as caught:
            migrate("app.db", place, backup=True)
        words = f".: a copy of app.db needs {size} bytes, {free} are free; nothing was changed"
        assert str(caught.value) == words
        assert names() == ["app.db"]
        assert current("app.db", place).version == "0001"
        monkeypatch.chdir(tmp_path)


def test_an_error_of_the_system_does_not_show_the_temporary_name(place: Path) -> None:
    name = "a" * 240
    filled(place, name=name)
    with pytest.raises(AccessError) as caught:
        migrate(name, place, backup=True)
    assert str(caught.value) == ".: file name too long; nothing was changed"


# --- interrupted

# What a shell starts in the background ignores Ctrl-C, and so would this process.
TAKING = """
import signal, sys
from watched import Watched
from vmpilot.migrate.cli.commands import main

def live(text):
    if "backup: " in text:
        sys.__stdout__.write("copying\\n")
        sys.__stdout__.flush()
        sys.stdin.readline()

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.stdout = Watched(live, True)
sys.exit(main(["upgrade", "--backup", "-d", "app.db", "--migrations", sys.argv[1]]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_who_is_interrupted_leaves_the_older_backup_alone(place: Path, number: int) -> None:
    filled(place)
    expected = dump("app.db")
    Path(OLDER).write_bytes(b"older")
    with running("-c", TAKING, place, TERM="xterm") as process:
        assert heard(process) == "copying\n"
        process.send_signal(number)
        out, err = process.communicate()
    if number == signal.SIGINT:
        said = "error: app.db: interrupted; nothing was changed\n"
        assert (process.returncode, out, err) == (130, "", said)
        assert names() == ["app.db", "app.db.0001.bak"]
    assert Path(OLDER).read_bytes() == b"older"
    assert dump("app.db") == expected
    assert dump(backed_up(place)) == expected


def swept(place: Path, factor: float) -> None:
    """Interrupt a run that takes a backup and then fails, so that all that it leaves is the backup."""
    filled(place)
    add(4000)
    write(place, "0002_costs", "SELECT nowhere;")
    expected, found = dump("app.db"), 0
    words = "no such column: nowhere; rolled back, app.db is still at 0001"

    def act() -> None:
        answer = in_process("upgrade", "--backup", "--json", "-d", "app.db", "--migrations", place)
        error = json.loads(answer.out)["error"]
        assert error["message"] == f"{place}/0002_costs.up.sql:1: {words}"

    for _ in ever_later(act, factor):
        assert set(names()) <= {"app.db", "app.db.0001.bak"}
        if "app.db.0001.bak" in names():
            assert dump(taken("app.db.0001.bak")) == expected
            os.remove(taken("app.db.0001.bak"))
            found += 1
    assert found
    assert dump("app.db") == expected


@unraisable
def test_a_signal_at_any_moment_of_a_backup(place: Path) -> None:
    swept(place, 1.15)


@pytest.mark.full
@unraisable
def test_a_signal_at_any_moment_of_a_backup_thoroughly(place: Path) -> None:
    swept(place, 1.01)


# --- other modules


def test_an_unencrypted_database_is_backed_up_with_the_module_of_its_connection(place: Path) -> None:
    module = pytest.importorskip("pysqlite3")
    filled(place)
    before = dump("app.db")
    with closing(module.connect("app.db")) as connection:
        assert len(migrate(connection, place, backup=True)) == 1
    assert dump(taken("app.db.0001.bak")) == before


def test_an_encrypted_database_is_backed_up_encrypted_through_the_connection_that_has_the_key(
    place: Path,
) -> None:
    module = pytest.importorskip("sqlcipher3")

    def rows(name: str) -> list[Any]:
        with closing(module.connect(name)) as connection:
            connection.execute("PRAGMA key = 'secret'")
            return [tuple(row) for row in connection.execute("SELECT name FROM sqlite_schema ORDER BY 1")]

    with closing(module.connect("app.db")) as connection:
        connection.execute("PRAGMA key = 'secret'")
        migrate(connection, place, target="1")
        before = rows("app.db")
        assert len(migrate(connection, place, backup=True)) == 1
    backup = taken(f"{os.path.abspath('app.db')}.0001.bak")
    assert not Path(backup).read_bytes().startswith(b"SQLite format 3")
    assert rows(backup) == before
    assert rows("app.db") != before


@pytest.mark.parametrize("name", ["apsw", "libsql", "turso"])
def test_a_module_without_the_backup_api_writes_a_copy(place: Path, name: str) -> None:
    module = pytest.importorskip(name)
    filled(place)
    before = query(Path("app.db"), "SELECT * FROM chats")
    connect = module.Connection if name == "apsw" else module.connect
    with closing(connect("app.db")) as connection:
        assert len(migrate(connection, place, backup=True)) == 1
    assert query(Path(taken("app.db.0001.bak")), "SELECT * FROM chats") == before
    assert [name for name in names() if name.endswith(".tmp")] == []
