"""A restore gives the state of a backup back, keeps the one before, and refuses what is no backup of this database.

Real files, locks, processes and signals; a copy is compared with its database by `dump`.
"""

import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import (
    backed_up,
    change,
    denied,
    dump,
    filled,
    heard,
    held,
    in_process,
    mode_of,
    nobody,
    plain,
    query,
    running,
    taken,
    tell,
    write,
)

from vmpilot.migrate import (
    AccessError,
    MigrationError,
    VersionError,
    backups,
    current,
    downgrade,
    migrate,
    restore,
)

MODES = ("delete", "wal")
HEADER = b"SQLite format 3\0"  # https://www.sqlite.org/fileformat.html#magic_header_string
FOREIGN = "neither a database nor empty; nothing was changed; to have one there, move it away first"
BACKUP = "app.db.0001.bak"
KEPT = "app.db.before-restore.bak"
LOCKED = "app.db: locked by another process for 0.1 s; nothing was changed"


def names() -> list[str]:
    """Return the files beside the database, without the times of backups."""
    return sorted(map(plain, os.listdir()))


def said_at_refusal(backup: str, place: Path) -> str:
    try:
        restore(backup, "app.db", place, timeout=0.1)
    except MigrationError as error:  # not kept: on Python 3.11 it keeps a connection open
        return str(error)
    return "not refused"


def refusal(backup: str, place: Path) -> str:
    """Have a backup refused; return why, after a look that nothing was changed."""
    contents = {name: Path(name).read_bytes() for name in os.listdir() if os.path.isfile(name)}
    said = said_at_refusal(backup, place)
    assert {name: Path(name).read_bytes() for name in os.listdir() if os.path.isfile(name)} == contents
    return said.removesuffix("; nothing was changed")


# --- the state back


def test_a_restore_gives_the_state_back_and_keeps_the_one_before(place: Path) -> None:
    filled(place)
    backed_up(place)
    change("app.db", "INSERT INTO costs VALUES (1, 0.5)")
    before = dump("app.db")
    done = restore(taken(BACKUP), "app.db", place)
    assert done == ("app.db", taken(BACKUP), "0001", taken(KEPT))
    assert dump("app.db") == dump(taken(BACKUP))
    assert dump(taken(KEPT)) == before
    assert current("app.db", place).version == "0001"
    # The way back.
    assert restore(done.kept or "", "app.db", place).version == "0002"
    assert dump("app.db") == before == dump(done.kept or "")
    assert dump(taken(KEPT)) == dump(taken(BACKUP))
    assert names() == ["app.db", BACKUP, KEPT, KEPT]


def test_the_kept_state_has_the_mode_of_the_database_and_so_has_a_new_one(place: Path) -> None:
    filled(place)
    os.chmod("app.db", 0o640)
    backed_up(place)
    assert restore(taken(BACKUP), "app.db", place).kept == taken(KEPT)
    assert mode_of(taken(KEPT)) == mode_of("app.db") == 0o640
    assert restore(taken(BACKUP), "new.db", place) == ("new.db", taken(BACKUP), "0001", None)
    assert mode_of("new.db") == 0o640
    assert dump("new.db") == dump("app.db")


def harm(at: int, data: bytes) -> Callable[[str], None]:
    def act(path: str) -> None:
        with open(path, "r+b") as file:
            file.seek(at)
            file.write(data)

    return act


def cut(size: int) -> Callable[[str], None]:
    return lambda path: os.truncate(path, size)


def fill(data: bytes) -> Callable[[str], object]:
    return lambda path: Path(path).write_bytes(data)


def drop(path: str) -> None:
    change(path, "DROP TABLE chats", "CREATE TABLE rubbish (a)", "VACUUM")


def forget_log(path: str) -> None:
    """Remove the file under its write-ahead log, as a careless clean-up does."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("DELETE FROM chats")
    frames = Path(path + "-wal").read_bytes()
    connection.close()
    os.remove(path)
    Path(path + "-wal").write_bytes(frames)


DAMAGE = st.one_of(
    st.builds(harm, st.integers(0, 40000), st.binary(min_size=1)),
    st.builds(cut, st.integers(0, 40000)),
    st.builds(fill, st.binary()),
    st.sampled_from([drop, forget_log, os.remove]),
)


@settings(
    max_examples=settings().max_examples // 3,
    # The migrations are only read, and each example has a directory of its own.
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture],
)
@given(DAMAGE, st.sampled_from(MODES))
@example(drop, "wal")
@example(forget_log, "delete")
@example(os.remove, "wal")
@example(cut(0), "wal")
@example(cut(8192), "delete")
@example(harm(0, b"\xff" * 100), "delete")
@example(harm(16, b"\xff" * 84), "delete")
@example(harm(46, b"\x00\x05"), "delete")
@example(harm(100, b"\xff" * 4000), "wal")
def test_a_restore_heals_any_damage(place: Path, damage: Callable[[str], object], mode: str) -> None:
    before = os.getcwd()
    with tempfile.TemporaryDirectory(dir=before) as name:
        os.chdir(name)
        try:
            healed(place, damage, mode)
        finally:
            os.chdir(before)


def healed(place: Path, damage: Callable[[str], object], mode: str) -> None:
    filled(place, mode, rows=12)
    expected = dump("app.db")
    backed_up(place)
    damage("app.db")
    wrecked = os.path.exists("app.db") and os.path.getsize("app.db") > 1  # less than a database can have
    backup = taken(BACKUP)
    if wrecked and not Path("app.db").read_bytes().startswith(HEADER):
        assert refusal(backup, place) == f"app.db: {FOREIGN}"
        return
    done = restore(backup, "app.db", place, timeout=0)
    assert done == ("app.db", backup, "0001", taken(KEPT) if wrecked else None)
    assert dump("app.db") == dump(backup) == expected
    assert names() == ["app.db", BACKUP] + [KEPT] * wrecked
    assert len(migrate("app.db", place)) == 1


def test_a_wreck_is_kept_as_it_is(place: Path) -> None:
    filled(place)
    backed_up(place)
    wreck = HEADER + b"no database " * 1000
    Path("app.db").write_bytes(wreck)
    os.chmod("app.db", 0o600)
    assert restore(taken(BACKUP), "app.db", place).kept == taken(KEPT)
    assert Path(taken(KEPT)).read_bytes() == wreck
    assert mode_of(taken(KEPT)) == 0o600


@pytest.mark.parametrize(
    ("live", "kept", "after"), [("wal", "wal", "wal"), ("delete", "wal", "wal"), ("wal", "delete", "wal")]
)
def test_the_journal_mode_afterwards(place: Path, live: str, kept: str, after: str) -> None:
    filled(place, kept)
    backed_up(place)
    change("app.db", f"PRAGMA journal_mode = {live}")
    restore(taken(BACKUP), "app.db", place)
    assert query(Path("app.db"), "PRAGMA journal_mode") == [(after,)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sizes", [(512, 4096), (4096, 65536), (65536, 1024)])
def test_a_backup_with_another_page_size(place: Path, mode: str, sizes: tuple[int, int]) -> None:
    for name, size in zip(("old.db", "app.db"), sizes, strict=True):
        change(name, f"PRAGMA page_size = {size}", "CREATE TABLE first (a)")
        filled(place, mode if name == "app.db" else "delete", name=name)
    expected = dump("old.db")
    backup = backed_up(place, "old.db")
    with closing(sqlite3.connect("app.db", isolation_level=None)) as other:
        other.execute("DELETE FROM chats")
        if mode == "wal":  # a log in use cannot change its page size
            assert said_at_refusal(backup, place) == LOCKED
            other.close()
        restore(backup, "app.db", place, timeout=0)
    assert dump("app.db") == expected
    assert query(Path("app.db"), "PRAGMA page_size") == [(sizes[0],)]
    assert query(Path("app.db"), "PRAGMA journal_mode") == [(mode,)]


def test_a_connection_is_restored_and_stays_open(place: Path) -> None:
    filled(place)
    backed_up(place)
    for name in ("app.db", ":memory:"):
        with closing(sqlite3.connect(name)) as connection:
            connection.execute("DROP TABLE IF EXISTS chats")
            connection.commit()
            done = restore(taken(BACKUP), connection, place)
            shown, kept = (
                (os.path.abspath(name), os.path.abspath(taken(KEPT))) if name == "app.db" else (name, None)
            )
            assert done == (shown, taken(BACKUP), "0001", kept)
            assert connection.execute("SELECT count(*) FROM chats").fetchone() == (20,)
            assert connection.isolation_level == ""


# --- what is refused


def test_what_is_no_sound_backup_is_refused(place: Path) -> None:
    filled(place)
    backed_up(place)
    whole = Path(taken(BACKUP)).read_bytes()
    os.mkdir("dir.bak")
    os.symlink("app.db", "link.bak")
    contents = {
        "empty.bak": b"",
        "text.bak": b"x" * 5000,
        "short.bak": whole[:-4097],
        "spoilt.bak": whole[:-4000] + b"\xff" * 4000,
    }
    for name, content in contents.items():
        Path(name).write_bytes(content)
    itself = "the database itself, expected a backup of it"
    for name, reason in (
        ("no.bak", "no such file"),
        ("dir.bak", "is a directory, expected a database file"),
        ("empty.bak", "empty, expected a database"),
        ("text.bak", "file is not a database"),
        ("short.bak", "database disk image is malformed"),
        ("app.db", itself),
        ("link.bak", itself),
    ):
        assert refusal(name, place) == f"{name}: {reason}"
    # What is found is told in SQLite's own words.
    assert re.fullmatch("spoilt.bak: quick_check found: .+", refusal("spoilt.bak", place))


@pytest.mark.parametrize("ending", ["-journal", "-wal"])
def test_a_backup_with_a_journal_beside_it_is_refused(place: Path, ending: str) -> None:
    filled(place)
    backed_up(place)
    beside = Path(taken(BACKUP) + ending)
    beside.write_bytes(b"what SQLite would play back")
    assert refusal(taken(BACKUP), place) == (
        f"{taken(BACKUP)}: {beside} lies beside it, and beside a backup there is none"
    )
    beside.write_bytes(b"")  # as a reader leaves it that is killed
    assert restore(taken(BACKUP), "app.db", place).version == "0001"


@pytest.mark.parametrize("content", [b"my notes", b"x" * 5000, HEADER[:-1] + b"x" * 5000])
def test_a_target_that_is_neither_a_database_nor_empty_is_refused(place: Path, content: bytes) -> None:
    filled(place)
    backup = backed_up(place)
    Path("notes.txt").write_bytes(content)
    before = sorted(os.listdir())
    with pytest.raises(AccessError) as caught:
        restore(backup, "notes.txt", place)
    assert str(caught.value) == f"notes.txt: {FOREIGN}"
    assert (Path("notes.txt").read_bytes(), sorted(os.listdir())) == (content, before)


def test_a_target_that_is_no_file_is_refused(place: Path) -> None:
    filled(place)
    backup = backed_up(place)
    os.mkfifo("pipe.db")
    os.mkdir("directory.db")
    for name, reason in (
        ("pipe.db", "no regular file, expected a database"),
        ("directory.db", "is a directory, expected a database file"),
    ):
        with pytest.raises(AccessError) as caught:
            restore(backup, name, place)
        assert str(caught.value) == f"{name}: {reason}; nothing was changed"


def test_two_restores_in_a_row_lose_nothing(place: Path) -> None:
    filled(place)
    backup = backed_up(place)
    change("app.db", "INSERT INTO costs VALUES (1, 0.5)")
    first = dump("app.db")
    kept = restore(backup, "app.db", place).kept
    change("app.db", "DELETE FROM chats")
    second = dump("app.db")
    again = restore(backup, "app.db", place).kept
    assert kept and again and kept != again
    assert (dump(kept), dump(again)) == (first, second)


def test_a_backup_of_another_database_is_said_before_it_happens(place: Path) -> None:
    for name in ("app.db", "their.db"):
        filled(place, name=name)
        change(name, f"UPDATE migration_log SET at = '2026-01-02T03:04:05.{len(name):03}Z'")
    theirs, ours = backed_up(place, "their.db"), backed_up(place)
    said: list[str] = []

    def say(line: str) -> None:
        said.append(f"{line}, {current('app.db', place).version}")

    restore(ours, "app.db", place, say=say)
    assert said == []
    migrate("app.db", place)
    restore(theirs, "app.db", place, say=say)
    assert said == [f"{theirs} is a backup of another database: its log began elsewhere, 0002"]
    restore(ours, "new.db", place, say=say)  # there is nothing that it could be another of
    assert len(said) == 1
    answer = in_process("restore", ours, "-d", "app.db", "--migrations", place)
    assert answer.err == f"{ours} is a backup of another database: its log began elsewhere\n"


def test_the_backups_that_there_are_newest_first(place: Path) -> None:
    assert backups("app.db") == ()
    filled(place)
    first = backed_up(place)
    downgrade("app.db", place)
    second = taken("app.db.0002.bak")
    kept = restore(first, "app.db", place).kept
    found = backups("app.db")
    assert [(each.path, each.name) for each in found] == [
        (kept, "before-restore"),
        (second, "0002"),
        (first, "0001"),
    ]
    assert [each.bytes for each in found] == [os.path.getsize(each.path) for each in found]
    # What no backup of this database can be called is none.
    os.symlink("app.db", "app.db.0001.20260102T030405.678Z.bak")
    os.mkdir("app.db.0002.20260102T030405.678Z.bak")
    for name in (
        "app.db.0001.bak",
        "app.db.0001.20269999T999999.999Z.bak",
        "app.db.00\n01.20260102T030405.678Z.bak",
        "their.db.0001.20260102T030405.678Z.bak",
    ):
        Path(name).touch()
    assert backups("app.db") == found
    Path("app.db.0001.20260102T030405.678Z.bak").unlink()
    Path("app.db.0001.20260102T030405.678Z.bak").write_bytes(b"x")
    name = "app.db.0001.20260102T030405.678Z.bak"
    assert backups("app.db")[-1] == (name, "0001", "2026-01-02T03:04:05.678Z", 1)


# --- other users


def test_a_restored_file_keeps_its_owner_and_mode_and_a_new_one_gets_those_of_the_backup(place: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    filled(place)
    backup = backed_up(place)
    os.chown(backup, 1234, 5678)
    os.chmod(backup, 0o640)
    os.chown("app.db", 4321, 8765)
    os.chmod("app.db", 0o600)
    for name, expected in (("app.db", (4321, 8765, 0o600)), ("new.db", (1234, 5678, 0o640))):
        restore(backup, name, place)
        found = os.stat(name)
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == expected
    kept = os.stat(taken(KEPT))
    assert (kept.st_uid, kept.st_gid, kept.st_mode & 0o7777) == (4321, 8765, 0o600)


def test_a_link_is_followed_unless_another_user_made_it(place: Path) -> None:
    filled(place)
    backup = backed_up(place)
    os.mkdir("far")
    shutil.copyfile("app.db", "far/real.db")
    os.symlink("far/real.db", "link.db")
    assert restore(backup, "link.db", place).version == "0001"
    assert os.path.islink("link.db")
    assert dump("far/real.db") == dump(backup)
    if os.geteuid():
        pytest.skip("only root can make a link of another user")
    os.chown("link.db", 1234, 1234, follow_symlinks=False)
    words = (
        "link.db: a symbolic link of another user, expected a file or a link of yours; nothing was changed"
    )
    before = dump("far/real.db")
    for act in (
        lambda: restore(backup, "link.db", place),
        lambda: migrate("link.db", place, backup=True),
    ):
        with pytest.raises(AccessError) as caught:
            act()
        assert str(caught.value) == words
    assert dump("far/real.db") == before
    os.chown("far/real.db", 1234, 1234)  # what is theirs they may link to
    assert len(migrate("link.db", place, backup=True)) == 1


def test_a_backup_that_may_not_be_read_is_refused(place: Path) -> None:
    filled(place)
    backed_up(place)
    os.chmod(taken(BACKUP), 0)
    shutil.copytree(place, "migrations")  # what stands higher up only its owner may enter
    with nobody():
        said = said_at_refusal(taken(BACKUP), Path("migrations"))
        assert said == denied(taken(BACKUP), "read")
    assert names() == ["app.db", BACKUP, "migrations"]


def test_a_version_that_the_files_do_not_know_is_refused(place: Path) -> None:
    filled(place)
    write(place, "0003_more", "CREATE TABLE more (a);", "DROP TABLE more;")
    migrate("app.db", place)
    downgrade("app.db", place)  # takes a backup at 0003
    for direction in ("up", "down"):
        os.remove(place / f"0003_more.{direction}.sql")
    change(
        "alembic.bak",
        "CREATE TABLE alembic_version (version_num)",
        "INSERT INTO alembic_version VALUES ('57dc007f6d46')",
    )
    for name, version in ((taken("app.db.0003.bak"), "0003"), ("alembic.bak", "57dc007f6d46")):
        assert refusal(name, place) == f"{name} is at {version}, but this code knows only base to 0002"
        with pytest.raises(VersionError) as caught:
            restore(name, "app.db", place)
        assert caught.value.version == version


def test_a_database_of_another_project_is_refused(place: Path, tmp_path: Path) -> None:
    filled(place)
    change("other.bak", "CREATE TABLE orders (a)", "CREATE TABLE items (a)", "INSERT INTO items VALUES (1)")
    words = "a database of another project, with the"
    assert refusal("other.bak", place) == f"other.bak: {words} tables items, orders"
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    write(theirs, "0001_orders", "CREATE TABLE orders (a);")
    write(theirs, "0002_items", "CREATE TABLE items (a);")
    migrate("their.db", theirs)
    assert refusal("their.db", place) == f"their.db: {words} migrations 0001_orders, 0002_items"
    # Of ours is what has one statement or one name in common: a file may be edited or renamed.
    costs = (place / "0002_costs.up.sql").read_text()
    os.rename(place / "0002_costs.up.sql", place / "0002_items.up.sql")
    os.rename(place / "0002_costs.down.sql", place / "0002_items.down.sql")
    assert restore("their.db", "new.db", place).version == "0002"
    write(theirs, "0003_costs", costs)
    migrate("their.db", theirs)
    os.rename(place / "0002_items.up.sql", place / "0003_renamed.up.sql")
    os.rename(place / "0002_items.down.sql", place / "0003_renamed.down.sql")
    write(place, "0002_other", "CREATE TABLE other (a);")
    assert restore("their.db", "new.db", place).version == "0003"


@pytest.mark.parametrize("table", ["Chats (id INTEGER PRIMARY KEY, text TEXT)", "theirs (a)"])
def test_a_backup_from_before_the_first_migration(place: Path, table: str) -> None:
    """Nothing but the files can tell that the first table is ours, and nothing but app.db for the other."""
    change("app.db", f"CREATE TABLE {table}")
    before = dump("app.db")
    migrate("app.db", place, backup=True)
    if table.startswith("Chats"):
        os.remove("app.db")
    assert restore(taken("app.db.base.bak"), "app.db", place).version is None
    assert dump("app.db") == before


def test_a_backup_from_base_after_a_downgrade(place: Path) -> None:
    filled(place)
    downgrade("app.db", place, target="base")
    before = dump("app.db")
    migrate("app.db", place, backup=True)
    assert restore(taken("app.db.base.bak"), "app.db", place).version is None
    assert dump("app.db") == before


def test_a_restore_takes_a_path_or_a_connection_of_sqlite3(place: Path) -> None:
    with pytest.raises(TypeError) as caught:
        restore("app.db.bak", 1, place)
    assert str(caught.value) == "database: expected a path or a connection of sqlite3, not int"


# --- others at work


@pytest.mark.parametrize("begin", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
@pytest.mark.parametrize("mode", MODES)
def test_a_writer_is_waited_for(place: Path, mode: str, begin: str) -> None:
    filled(place, mode)
    expected = dump("app.db")
    backed_up(place)
    with held("app.db", begin) as process:
        assert said_at_refusal(taken(BACKUP), place) == LOCKED
        tell(process)
        assert restore(taken(BACKUP), "app.db", place, timeout=60).version == "0001"
    assert dump("app.db") == expected


@pytest.mark.parametrize("mode", MODES)
def test_open_readers_see_one_state_or_the_other(place: Path, mode: str) -> None:
    filled(place, mode)
    backed_up(place)
    change("app.db", "DELETE FROM chats WHERE id > 5")
    with closing(sqlite3.connect("app.db", isolation_level=None)) as reader:
        count = "SELECT count(*) FROM chats"
        reader.execute("BEGIN")
        assert reader.execute(count).fetchone() == (5,)
        assert said_at_refusal(taken(BACKUP), place) == (LOCKED if mode == "delete" else "not refused")
        assert reader.execute(count).fetchone() == (5,)
        reader.execute("COMMIT")
        restore(taken(BACKUP), "app.db", place, timeout=0)
        assert reader.execute(count).fetchone() == (20,)


READING = """
import sqlite3
connection = sqlite3.connect("app.db", isolation_level=None, timeout=60)
seen = set()
while 20 not in seen:
    connection.execute("BEGIN")
    rows, first = connection.execute("SELECT count(*) FROM chats").fetchone()[0], not seen
    seen.add(rows)
    if first:
        print("reading", flush=True)
    connection.execute("SELECT count(*) FROM range a, range b, range c").fetchall()  # some milliseconds
    connection.execute("COMMIT")
print(sorted(seen), flush=True)
"""


@pytest.mark.parametrize("mode", MODES)
def test_readers_that_leave_no_gap_do_not_keep_a_restore_waiting(place: Path, mode: str) -> None:
    filled(place, mode)
    numbers = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 60)"
    change("app.db", f"CREATE TABLE range AS {numbers} SELECT i FROM n")
    backed_up(place)
    change("app.db", "DELETE FROM chats WHERE id > 8")
    with running("-c", READING) as one, running("-c", READING) as two, running("-c", READING) as three:
        assert [heard(process) for process in (one, two, three)] == ["reading\n"] * 3
        restore(taken(BACKUP), "app.db", place, timeout=30)
        for process in (one, two, three):
            assert process.communicate() == ("[8, 20]\n", "")


RESTORING = """
import signal, sys
from vmpilot.migrate import restore
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[2]))
restore(sys.argv[3], "app.db", sys.argv[1])
signal.setitimer(signal.ITIMER_REAL, 0)
print("done")
"""


def texts(path: str) -> list[tuple[object, ...]]:
    """Return what tells the states of a large database apart, and prove that it is sound."""
    assert query(Path(path), "PRAGMA integrity_check") == [("ok",)]
    return query(Path(path), "SELECT typeof(text), length(text), count(*) FROM chats GROUP BY 1, 2")


def killed_while_restoring(place: Path, mode: str, factor: float) -> None:
    """Kill a restore after a thousandth of a second, and always later, until it is faster."""
    filled(place, mode, rows=4000)
    new = texts("app.db")
    backed_up(place)
    change("app.db", "UPDATE chats SET text = zeroblob(2500)")
    old, left = texts("app.db"), Path("app.db").read_bytes()
    seconds, outcomes = 0.001, [""]
    while outcomes[-1] == "":
        Path("app.db").write_bytes(left)
        with running("-c", RESTORING, place, str(seconds), taken(BACKUP)) as process:
            outcomes.append(process.communicate()[0])
        found = texts("app.db")
        assert found in (old, new)
        assert outcomes[-1] == "" or found == new
        if KEPT in names():
            assert texts(taken(KEPT)) == old
            os.remove(taken(KEPT))
        seconds *= factor
    assert outcomes[1] == ""


@pytest.mark.parametrize("mode", MODES)
def test_a_kill_while_restoring_leaves_one_state_or_the_other(place: Path, mode: str) -> None:
    killed_while_restoring(place, mode, 3)


@pytest.mark.full
@pytest.mark.parametrize("mode", MODES)
def test_a_kill_while_restoring_thoroughly(place: Path, mode: str) -> None:
    killed_while_restoring(place, mode, 1.03)
