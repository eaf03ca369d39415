"""Proves that a place where something may not be read or written is named, with what is missing and the cure.

Every command ends there with one line, and leaves nothing behind. Who may do everything becomes another user
first, and a place that nobody can write to is mounted; where that is not allowed, the test is skipped.
"""

import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from support import (
    ROOT,
    Said,
    change,
    denied,
    disk,
    everything,
    in_process,
    laid,
    nobody,
    numbers,
    query,
    taken,
    unshared,
    user_name,
    write,
)

from vmpilot.db import connect
from vmpilot.migrate import AccessError, current, downgrade, migrate

OTHER = 54321  # a user that is neither root nor nobody
shlex.quote("")  # what a refusal loads, another user may not be allowed to load


@pytest.fixture
def shelf(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand there, with the two named by the environment."""
    monkeypatch.chdir(shelf)
    monkeypatch.setenv("VMPILOT_DATABASE", "place/app.db")
    monkeypatch.setenv("VMPILOT_MIGRATIONS", "migrations")
    return shelf


@pytest.fixture(params=["delete", "wal"])
def database(shelf: Path, request: pytest.FixtureRequest) -> Path:
    """A database at the second of three migrations, with a backup beside it."""
    for number in "123":
        write(
            Path("migrations"),
            f"000{number}_t{number}",
            f"CREATE TABLE t{number} (a);",
            f"DROP TABLE t{number};",
        )
    path = Path("place/app.db")
    laid(path, request.param)
    migrate(path, "migrations", target="1")
    migrate(path, "migrations", target="2", backup=True)
    return path


COMMANDS = {
    "upgrade": "upgrade",
    "backup": "upgrade --backup",
    "downgrade": "downgrade",
    "stamp": "stamp 1",
    "rehearse": "upgrade --dry-run",
    "restore": "restore BACKUP",
    "sql": "upgrade --sql",
    "current": "current",
    "history": "history",
    "check": "check",
    "on-copy": "verify --on-copy",
    "verify": "verify",
    "heads": "heads",
    "create": "create more",
    "backups": "restore",
    "redo": "redo",
    "renumber": "renumber 1",
}
WRITES = {"upgrade", "backup", "downgrade", "stamp", "rehearse", "restore", "redo"}
OPENS = WRITES | {"sql", "current", "history", "check", "on-copy", "renumber"}
READS_FILES = OPENS - {"current", "restore", "renumber"} | {"verify"}


class Closed(NamedTuple):
    """A place, its mode, what that takes away, which commands it stops, and what else the message says."""

    path: str
    mode: int
    right: str
    stops: set[str]
    purpose: str = ""


CLOSED = {
    "database": Closed("place/app.db", 0, "read", OPENS),
    "database to write": Closed("place/app.db", 0o444, "write to", WRITES),
    "its directory": Closed("place", 0o444, "search", OPENS | {"backups"}),
    "its directory to list": Closed("place", 0o333, "read", {"backups"}),
    "its directory to write": Closed(
        "place", 0o555, "write to", WRITES, ", where SQLite must create the journal of app.db"
    ),
    "backup": Closed("BACKUP", 0, "read", {"restore"}),
    "migration": Closed("migrations/0002_t2.up.sql", 0, "read", READS_FILES),
    "migrations": Closed("migrations", 0, "read", OPENS | {"verify", "heads", "create"}),
    "migrations to search": Closed(
        "migrations", 0o444, "search", READS_FILES | {"restore", "create", "renumber"}
    ),
    "migrations to write": Closed("migrations", 0o555, "write to", {"create"}),
}


def load(words: Sequence[str], before: dict[str, bytes]) -> None:
    """Have a command load what another user may not be allowed to load, and put everything back."""
    in_process(*words)
    for path in everything(Path()).keys() - before.keys():
        os.remove(path)
    for path, content in before.items():
        Path(path).write_bytes(content)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("closed", CLOSED.values(), ids=CLOSED)
def test_whoever_may_not_is_told_what_and_where(database: Path, closed: Closed, command: str) -> None:
    backup = taken("place/app.db.0001.bak")
    words = [word.replace("BACKUP", backup) for word in COMMANDS[command].split()]
    before = everything(Path())
    load(words, before)
    for opened, mode in (("place", 0o777), ("migrations", 0o777), (database, 0o666)):
        os.chmod(opened, mode)
    path = closed.path.replace("BACKUP", backup)
    os.chmod(path, closed.mode)
    with nobody():
        said = in_process(*words)
        fate = "" if command == "create" and closed.right != "read" else "nothing was changed"
        message = denied(path, closed.right, closed.purpose, fate)
    for opened in ("place", "migrations"):
        os.chmod(opened, 0o755)
    os.chmod(path, 0o755)
    if command in closed.stops or command not in WRITES | {"create"}:
        assert everything(Path()) == before
    if command not in closed.stops:
        assert "no permission" not in said.out + said.err
        return
    is_problem = command == "check" and closed.path.startswith("place")
    told = (f"unreadable: {message}\n", "") if is_problem else ("", f"error: {message}\n")
    assert said == Said(1, *told)


def refused(act: Callable[[], object]) -> str:
    """Return the message with which something is refused."""
    with pytest.raises(AccessError) as caught:
        act()
    return str(caught.value)


def with_owner(path: Path, owner: int, mode: int) -> str:
    """Let another user upgrade a database of a third one; return how the message goes on behind its mode."""
    if os.geteuid():
        pytest.skip("needs files of other users, and only root can give them away")
    path.parent.chmod(0o777)
    os.chown(path, owner, owner)
    path.chmod(mode)
    with nobody():
        said = refused(lambda: migrate(path, "migrations"))
    start, mode_shown, rest = said.partition(f"mode {mode:04o})")
    assert mode_shown
    assert (
        start == f"{path}: no permission to write to this file as nobody (it belongs to {user_name(owner)}, "
    )
    return rest


@pytest.mark.parametrize(
    ("owner", "mode", "cure"),
    [
        (65534, 0o444, "run: chmod u+w {}"),
        (0, 0o644, "to give it to this user, run as root: chown 65534 {}"),
        (0, 0o444, ""),
        (OTHER, 0o644, f"run this as {user_name(OTHER)}"),
        (OTHER, 0o444, ""),
    ],
)
def test_the_cure_is_told_if_there_is_just_one(database: Path, owner: int, mode: int, cure: str) -> None:
    cure = cure.format(os.path.abspath(database))
    assert with_owner(database, owner, mode) == "; ".join(["; nothing was changed", *filter(None, [cure])])


@pytest.mark.parametrize(
    ("owner", "mode", "cure"),
    [
        (65534, 0o444, "; run: chmod u+w {} {}"),
        (0, 0o644, ""),
        (OTHER, 0o644, f"; run this as {user_name(OTHER)}"),
    ],
)
def test_where_neither_the_file_nor_its_directory_may_be_written_both_are_told(
    database: Path, owner: int, mode: int, cure: str
) -> None:
    if os.geteuid():
        pytest.skip("needs files of other users, and only root can give them away")
    denials = []
    for path, each in ((database, mode), (database.parent, mode | 0o111)):
        os.chown(path, owner, owner)
        path.chmod(each)
        kind = "file" if path.is_file() else "directory"
        belongs = f"it belongs to {user_name(owner)}, mode {each:04o}"
        denials.append(f"{path}: no permission to write to this {kind} as nobody ({belongs})")
    with nobody():
        said = refused(lambda: migrate(database, "migrations"))
    purpose = f"where SQLite must create the journal of {database.name}; nothing was changed"
    cures = cure.format(os.path.abspath(database), os.path.abspath(database.parent))
    assert said == f"{denials[0]}, and {denials[1]}, {purpose}{cures}"


def test_a_pipe_is_no_database_and_is_not_waited_for(shelf: Path) -> None:
    write(Path("migrations"), "0001_one", "CREATE TABLE one (a);")
    os.mkfifo("place/pipe")
    told = "place/pipe: no regular file, expected a database; nothing was changed"
    for path in ("place/pipe", "/dev/null"):
        assert refused(lambda path=path: migrate(path, "migrations")) == told.replace("place/pipe", path)
        assert refused(lambda path=path: current(path, "migrations")) == told.replace("place/pipe", path)


def test_a_log_of_another_user_is_named(shelf: Path) -> None:
    write(Path("migrations"), "0001_one", "CREATE TABLE one (a);")
    laid(Path("place/app.db"), "wal")
    with closing(sqlite3.connect("place/app.db")) as connection:
        connection.execute("CREATE TABLE own (a)")
        for path in Path("place").iterdir():
            path.chmod(0o666)
        Path("place").chmod(0o777)
        Path("place/app.db-shm").chmod(0o444)
        with nobody():
            said = refused(lambda: migrate("place/app.db", "migrations"))
            assert said == denied("place/app.db-shm", "write to")


def test_a_connection_that_may_not_write_is_no_fault_of_a_migration(database: Path) -> None:
    name = str(database.absolute())
    log = query(database, "PRAGMA journal_mode") == [("wal",)]
    database.chmod(0o666)
    database.parent.chmod(0o555)
    with nobody(), closing(sqlite3.connect(database)) as connection:
        said = refused(lambda: migrate(connection, "migrations"))
        fate = "nothing was changed" if log else f"rolled back, {name} is still at 0002"
        purpose = ", where SQLite must create the journal of app.db"
        assert said == denied(os.path.dirname(name), "write to", purpose, fate)
    assert current(database, "migrations").version == "0002"


def test_where_nothing_can_be_put_back_is_named_wherever_the_backup_lies(database: Path) -> None:
    backup = shutil.copy(taken("place/app.db.0001.bak"), "migrations/app.bak")
    os.chmod(backup, 0o644)
    in_process("restore", backup)
    database.parent.chmod(0o444)
    with nobody():
        said = in_process("restore", backup)
        assert said == Said(1, "", f"error: {denied('place', 'search')}\n")


def test_a_link_does_not_hide_where_a_database_lies(database: Path) -> None:
    os.symlink("place/app.db", "link.db")
    database.chmod(0o666)
    database.parent.chmod(0o555)
    where = os.path.realpath(database.parent)
    with nobody():
        said = refused(lambda: migrate("link.db", "migrations"))
        assert said == denied(where, "write to", ", where SQLite must create the journal of app.db")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere/app.db", "nowhere/app.db: no such directory: nowhere"),
        ("place", "place: is a directory, expected a database file"),
    ],
)
def test_a_rehearsal_ends_like_the_run(shelf: Path, name: str, reason: str) -> None:
    write(Path("migrations"), "0001_one", "CREATE TABLE one (a);")
    run = in_process("upgrade", "-d", name)
    assert run == Said(1, "", f"error: {reason}; nothing was changed\n")
    assert in_process("upgrade", "--dry-run", "-d", name) == run


def test_a_directory_where_no_database_can_be_created_is_named(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(Path("migrations"), "0001_one", "CREATE TABLE one (a);")
    in_process("upgrade", "--dry-run", "-d", "load.db")
    monkeypatch.delenv("VMPILOT_DATABASE")
    home = shelf / "place"
    monkeypatch.setenv("HOME", str(home))
    home.chmod(0o555)
    with nobody():
        for words in (["-d", f"{home}/vmpilot.db"], []):
            message = denied(home, "write to", ", where vmpilot.db must be created")
            expected = Said(1, "", f"error: {message}\n")
            assert in_process("upgrade", "--dry-run", *words) == expected
            assert in_process("upgrade", *words) == expected
    assert os.listdir(home) == []


# --- what a killed process left


def left_in_the_middle(database: Path) -> None:
    """Leave a database as a process does that is killed in a transaction: with a journal to be played back."""
    away = Path("away")
    away.mkdir()
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("CREATE TABLE big (a)")
        connection.execute("BEGIN")
        connection.execute(f"INSERT INTO big {numbers(3000, 'hex(zeroblob(200))')}")
        if Path(f"{database}-wal").exists():
            connection.execute("COMMIT")
        for ending in ("", "-journal", "-wal"):
            if Path(f"{database}{ending}").exists():
                shutil.copy(f"{database}{ending}", away)
    for path in away.iterdir():
        shutil.copy(path, database.parent)


def test_a_journal_that_a_reader_may_not_play_back_is_named(database: Path) -> None:
    log = query(database, "PRAGMA journal_mode") == [("wal",)]
    left_in_the_middle(database)
    for path in database.parent.iterdir():
        path.chmod(0o666)
    database.parent.chmod(0o555)
    before = everything(database.parent)
    with nobody():
        if log:
            said = denied("place", "write to", ", where SQLite must create app.db-shm to read app.db-wal")
        else:
            told = ", where SQLite must create the journal of app.db, and app.db-journal, left by a killed process"
            said = denied("place", "write to", f"{told}, must be played back before a read")
            if os.getresuid()[2] == 0:
                said += "; to have it played back, run this as root"
        for act in (current, migrate, downgrade):
            assert refused(lambda act=act: act(database, "migrations")) == said
    after = everything(database.parent)
    assert after.keys() == before.keys()
    database.parent.chmod(0o755)
    assert current(database, "migrations").version == "0002"


def test_a_journal_of_another_user_is_named_with_all_that_keeps_it_from_being_played_back(
    database: Path,
) -> None:
    if os.geteuid():
        pytest.skip("needs files of other users, and only root can give them away")
    if query(database, "PRAGMA journal_mode") == [("wal",)]:
        pytest.skip("a write-ahead log is read where it lies")
    left_in_the_middle(database)
    for path in (database, Path(f"{database}-journal"), database.parent):
        os.chown(path, OTHER, OTHER)
        path.chmod(0o755 if path.is_dir() else 0o644)
    with nobody():
        own, journal, folder = (
            denied(path, "write to", fate="") for path in (database, f"{database}-journal", "place")
        )
        said = refused(lambda: current(database, "migrations"))
    assert said == (
        f"{own}, and {journal}, and {folder}, where SQLite must create the journal of app.db, and app.db-journal, "
        f"left by a killed process, must be played back before a read; nothing was changed; "
        f"to have it played back, run this as {user_name(OTHER)}"
    )


# --- file systems that nobody can write to


def mounted(database: Path) -> Callable[[Path], None]:
    """Return what puts all that belongs to a database on a disk, and lets nobody write to that any more."""

    def put(place: Path) -> None:
        for path in database.parent.iterdir():
            shutil.copy(path, place)
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)

    return put


@pytest.mark.parametrize("command", sorted(WRITES))
def test_a_read_only_file_system_is_called_that(database: Path, command: str, shelf: Path) -> None:
    backup = taken("place/app.db.0001.bak")
    with disk(shelf / "disk", "4m") as place:
        mounted(database)(place)
        words = [word.replace("BACKUP", backup) for word in COMMANDS[command].split()]
        said = in_process("-d", f"{place}/app.db", *words)
        assert said == Said(
            1, "", f"error: {place}/app.db: on a read-only file system; nothing was changed\n"
        )
        said = in_process("-d", f"{place}/new.db", "upgrade")
        words = [
            f"error: {place}: on a read-only file system, where new.db must be created; nothing was changed\n"
        ]
        assert said == Said(1, "", *words)


def test_a_journal_on_a_read_only_file_system_is_called_that(database: Path, shelf: Path) -> None:
    log = query(database, "PRAGMA journal_mode") == [("wal",)]
    left_in_the_middle(database)
    with disk(shelf / "disk", "4m") as place:
        mounted(database)(place)
        told = f"{place}: on a read-only file system, where SQLite must create app.db-shm to read app.db-wal"
        if not log:
            told = f"{place}/app.db: on a read-only file system, and app.db-journal, left by a killed process"
            told += ", must be played back before a read"
        cure = "" if log else "; mount it writable once"
        assert (
            refused(lambda: current(place / "app.db", "migrations")) == f"{told}; nothing was changed{cure}"
        )


def test_an_application_reads_on_a_read_only_file_system_or_is_told_why_not(
    database: Path, shelf: Path
) -> None:
    log = query(database, "PRAGMA journal_mode") == [("wal",)]
    migrate(database, "migrations")
    with disk(shelf / "disk", "4m") as place:
        mounted(database)(place)
        file = place / "app.db"
        if log:
            told = f"{file}: on a read-only file system, so a database with a write-ahead log cannot be read"
            assert refused(lambda: connect(file, "migrations")) == f"{told}; nothing was changed"
        else:
            with closing(connect(file, "migrations")) as connection:
                assert connection.execute("SELECT count(*) FROM t3").fetchone()[0] == 0


def test_an_application_reads_what_it_may_only_read(database: Path) -> None:
    migrate(database, "migrations")
    change(database, "PRAGMA journal_mode = DELETE")
    database.chmod(0o444)
    database.parent.chmod(0o555)
    with nobody(), closing(connect(database, "migrations")) as connection:
        assert connection.execute("SELECT count(*) FROM t3").fetchone()[0] == 0


# --- without a directory for temporary files

SORTS = f"CREATE TABLE t (a);\nINSERT INTO t {numbers(200_000, 'hex(randomblob(8))')};"
CLOSE = """
mount --bind "$PLACE" "$PLACE" && cd /tmp || exit 77
for directory in /tmp /var/tmp /usr/tmp; do
    if [ -d $directory ]; then mount --bind $directory $directory || exit 77; fi
done
mount --bind "$PLACE" "$PLACE" && mount --bind "$PACKAGE" "$PACKAGE" || exit 77
for directory in /tmp /var/tmp /usr/tmp; do
    if [ -d $directory ]; then mount -o remount,ro,bind $directory || exit 77; fi
done
cd /tmp && ! touch probe 2>&- || exit 77
exec "$@"
"""


def without_temporary_place(*words: str, place: Path) -> Said:
    """Run a command where no directory takes temporary files but that of the database."""
    namespace = (
        ["unshare", "--mount"] if not os.geteuid() else ["unshare", "--user", "--map-root-user", "--mount"]
    )
    variables = {name: value for name, value in os.environ.items() if "TMP" not in name and name != "TEMP"}
    variables |= {"PYTHONPATH": str(ROOT), "PLACE": str(place), "PACKAGE": str(ROOT)}
    variables |= {"VMPILOT_DATABASE": f"{place}/place/app.db", "VMPILOT_MIGRATIONS": f"{place}/migrations"}
    program = [sys.executable, "-m", "vmpilot.migrate", *words]
    return unshared([*namespace, "sh", "-c", CLOSE, "sh", *program], variables)


def test_a_migration_that_sorts_and_loads_needs_no_directory_for_temporary_files(shelf: Path) -> None:
    write(Path("migrations"), "0001_rows", SORTS, "DROP TABLE t;")
    migrate("place/app.db", "migrations")
    scattered = "".join(f"INSERT INTO t VALUES ('{number:02X}');\n" for number in range(256))
    write(
        Path("migrations"), "0002_index", f"CREATE INDEX sorted ON t (a);\n{scattered}", "DROP INDEX sorted;"
    )
    for words in (["upgrade", "--dry-run"], ["verify", "--on-copy"]):
        said = without_temporary_place(*words, place=shelf)
        assert (said.code, said.out) == (1, "")
        assert said.err.startswith(
            "error: the directory for temporary files: no usable temporary directory found in ["
        )
        assert said.err.endswith("; nothing was changed; to have the copy elsewhere, set TMPDIR\n")
    said = without_temporary_place("upgrade", "--backup", place=shelf)
    assert (said.code, said.err) == (0, "")
    assert current("place/app.db", "migrations").at_head
    assert sorted(os.listdir("place")) == ["app.db", os.path.basename(taken("place/app.db.0001.bak"))]
