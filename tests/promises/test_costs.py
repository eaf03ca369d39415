"""How often a command opens the database, lists the migrations and reads a file of them; by name and by function.

Python itself tells, in a process of its own: https://docs.python.org/3/library/audit_events.html
"""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import ROOT, ended, forked, in_process, write

from vmpilot.migrate import check, current, downgrade, history, migrate, redo, restore, schema, stamp, verify
from vmpilot.migrate.tools.verify import verify_on_copy

WHERE = ("-d", "app.db", "--migrations", "migrations")
HERE = ("app.db", "migrations")


class Cost(NamedTuple):
    """How often the database was opened and the directory listed, and the files that were read."""

    opened: int
    listed: int
    read: str


def cost(work: Callable[[], object]) -> Cost:
    """Return what some work costs, which must not read a file twice."""

    def watched() -> list[tuple[str, str]]:
        told: list[tuple[str, str]] = []

        def hear(event: str, arguments: tuple[Any, ...]) -> None:
            if event in ("open", "os.scandir", "os.listdir", "sqlite3.connect"):
                told.append((event, str(arguments[0])))

        sys.addaudithook(hear)
        work()
        return told

    code, told = ended(forked(watched))
    assert code == 0
    opened = [name for event, name in told if event == "sqlite3.connect" and database(name) == "app.db"]
    listed = [name for event, name in told if event in ("os.scandir", "os.listdir") and name == "migrations"]
    read = Counter(file(name) for event, name in told if event == "open" and name.endswith(".sql"))
    assert set(read.values()) <= {1}
    return Cost(len(opened), len(listed), " ".join(sorted(read)))


def database(name: str) -> str:
    """Return the path in the name of a database, which may be a URI."""
    return name.removeprefix("file:").partition("?")[0]


def file(path: str) -> str:
    """Return a file's name for short: 1up, 1down."""
    number, direction = path.removesuffix(".sql").split("/")[-1].split(".")
    return number.lstrip("0") + direction


@pytest.fixture(autouse=True)
def three(migrations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(migrations.parent)
    for number in (1, 2, 3):
        write(migrations, f"000{number}", f"CREATE TABLE t{number} (a);", f"DROP TABLE t{number};")


UPS = "1up 2up 3up"
ALL = "1down 1up 2down 2up 3down 3up"
PENDING = "1up 2down 2up 3down 3up"  # of what is applied already, only what tells whether it was edited

# At which version; the words, the function, and what each costs.
CASES = [
    ("base", "upgrade", lambda: migrate(*HERE), Cost(1, 1, ALL)),
    ("1", "upgrade", lambda: migrate(*HERE), Cost(1, 1, PENDING)),
    ("3", "upgrade", lambda: migrate(*HERE), Cost(1, 1, "")),
    ("1", "upgrade 1 --backup", lambda: migrate(*HERE, target="1", backup=True), Cost(1, 1, "")),
    ("1", "upgrade --backup", lambda: migrate(*HERE, backup=True), Cost(3, 1, PENDING)),
    ("3", "downgrade --no-backup", lambda: downgrade(*HERE, backup=False), Cost(1, 1, "2up 3down 3up")),
    ("3", "downgrade", lambda: downgrade(*HERE), Cost(3, 1, "2up 3down 3up")),
    ("3", "redo --no-backup", lambda: redo(*HERE, backup=False), Cost(3, 1, "1up 2up 3down 3up")),
    ("base", "downgrade base", lambda: downgrade(*HERE, target="base"), Cost(1, 1, "")),
    ("2", "current", lambda: current(*HERE), Cost(1, 1, "")),
    ("2", "history", lambda: history(*HERE), Cost(1, 1, "1down 1up 2down 2up 3down")),
    ("2", "heads", None, Cost(0, 1, "")),
    ("2", "stamp 3", lambda: stamp("3", *HERE), Cost(1, 1, UPS)),
    ("3", "stamp base", lambda: stamp("base", *HERE), Cost(1, 1, UPS)),
    ("2", "check", lambda: check(*HERE), Cost(1, 1, "1up 2up")),
    ("3", "check", lambda: check(*HERE), Cost(1, 1, UPS)),
    ("3", "check --wait 9", None, Cost(2, 2, UPS)),  # it looks whether to wait, and then
    ("2", "verify", lambda: verify("migrations"), Cost(0, 1, ALL)),
    ("2", "schema 2", lambda: schema("migrations", target="2"), Cost(0, 1, "1up 2up")),
    ("1", "verify --on-copy", lambda: verify_on_copy(*HERE), Cost(2, 1, PENDING)),
    ("3", "verify --on-copy", lambda: verify_on_copy(*HERE), Cost(1, 1, "")),
    ("1", "upgrade --dry-run", None, Cost(2, 1, PENDING)),
    ("3", "downgrade --dry-run", None, Cost(2, 1, "2up 3down 3up")),
    ("3", "upgrade --dry-run", None, Cost(1, 1, "")),
    ("1", "upgrade --sql", None, Cost(1, 1, PENDING)),
    ("3", "downgrade --sql", None, Cost(1, 1, "2up 3down 3up")),
    ("3", "upgrade --sql", None, Cost(1, 1, "")),
]


@pytest.mark.parametrize(
    ("at", "words", "function", "expected"), CASES, ids=[f"{at}-{words}" for at, words, *_ in CASES]
)
def test_a_command_costs_no_more_than_it_needs(
    at: str, words: str, function: Callable[[], object] | None, expected: Cost
) -> None:
    for work in (lambda: in_process(*words.split(), *WHERE), function):
        Path("app.db").unlink(missing_ok=True)
        stamp("base", *HERE)  # so that there is a database
        migrate(*HERE, target=at)
        assert work is None or cost(work) == expected


def test_a_restore_looks_at_the_database_and_replaces_it() -> None:
    migrate(*HERE, target="1")
    migrate(*HERE, backup=True)
    (backup,) = map(str, Path().glob("app.db.0001*.bak"))
    assert cost(lambda: in_process("restore", backup, *WHERE)) == Cost(4, 1, "1up")
    assert cost(lambda: restore(backup, *HERE)) == Cost(4, 1, "1up")


def upgraded(directory: Path, connect: Callable[[str], sqlite3.Connection]) -> None:
    migrate(f"{directory}.db", directory, connect=connect)


def proven(directory: Path, connect: Callable[[str], sqlite3.Connection]) -> None:
    assert verify(directory, connect=connect).ok


@pytest.mark.parametrize("work", [upgraded, proven])
def test_a_step_asks_for_the_keys_of_no_more_tables_where_there_are_more(
    work: Callable[[Path, Callable[[str], sqlite3.Connection]], None], migrations: Path
) -> None:
    def asked(tables: int, steps: int) -> int:
        directory = migrations / f"{tables}-{steps}"
        directory.mkdir()
        made = (f"CREATE TABLE c{n} (id INTEGER PRIMARY KEY, p REFERENCES c{n} (id));" for n in range(tables))
        write(directory, "0001", "".join(made), "".join(f"DROP TABLE c{n};" for n in range(tables)))
        for step in range(2, steps + 2):
            table = f"CREATE TABLE s{step} (id INTEGER PRIMARY KEY, p REFERENCES c0 (id));"
            write(directory, f"000{step}", f"{table} UPDATE c1 SET p = NULL;", f"DROP TABLE s{step};")
        told: list[str] = []

        def connect(path: str) -> sqlite3.Connection:
            connection = sqlite3.connect(path)
            connection.set_trace_callback(told.append)
            return connection

        work(directory, connect)
        return sum("foreign_key_list(" in text for text in told)

    few, many = (asked(tables, 4) - asked(tables, 2) for tables in (4, 12))
    assert few == many > 0


# --- steps


def small(migrations: Path, count: int) -> None:
    """Write so many small migrations in place of the three."""
    for path in migrations.iterdir():
        path.unlink()
    for number in range(1, count + 1):
        up = f"CREATE TABLE t{number} (a);\nINSERT INTO t{number} VALUES (1);"
        write(migrations, f"{number:04}", up, f"DROP TABLE t{number};")


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_two_hundred_small_migrations_wait_for_the_disk_a_few_times(migrations: Path) -> None:
    small(migrations, 200)
    counted = ("strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", "calls.txt", "--seccomp-bpf")
    program = "from vmpilot.migrate import migrate; print(len(migrate('app.db', 'migrations')))"
    done = subprocess.run(
        [*counted, sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    if done.returncode and not done.stdout:
        pytest.skip(f"strace may not trace here: {done.stderr}")
    assert (done.returncode, done.stdout) == (0, "200\n")
    assert 0 < Path("calls.txt").read_text().count("sync(") <= 60


OURS = (  # of a small step on the connection of a caller, besides its own
    "UPDATE main.alembic_version SET version_num = version_num WHERE 0",  # so that changes() is 0
    "SELECT name FROM pragma_database_list",  # a name may mean what is on the connection
    "UPDATE main.alembic_version SET version_num = ",
    "SELECT changes()",
    "INSERT INTO main.migration_log ",
    "RELEASE vmpilot_step",
)


def test_a_small_step_costs_few_statements_of_ours(migrations: Path) -> None:
    small(migrations, 20)
    said: list[str] = []
    with closing(sqlite3.connect("app.db", isolation_level=None)) as connection:
        migrate(connection, "migrations", target="1")
        connection.set_trace_callback(said.append)
        migrate(connection, "migrations")
    steps = "\n".join(said).partition("COMMIT")[0].split("SAVEPOINT vmpilot_step\n")[1:]
    assert steps
    for step in steps:
        lines = [
            line
            for line in step.splitlines()
            if not line.startswith(("CREATE TABLE t", "INSERT INTO t", "--"))
        ]
        assert [line for line, ours in zip(lines, OURS, strict=True) if not line.startswith(ours)] == []


READING = (
    "BEGIN",
    "PRAGMA main.user_version",
    "SELECT +sql FROM main.sqlite_master ",
    "SELECT +version_num, group_concat(",
)
READ = ("SELECT +type, +name, +tbl_name, +sql ", "SELECT +version_num FROM ", "SELECT +action, +version, ")
LOOKING = (  # with the lock, before the first step of a caller's connection
    "PRAGMA data_version",
    "SELECT 1 FROM main.sqlite_master ",  # whether there are keys, views or triggers
    "SELECT 1 FROM pragma_database_list ",
    *READ,  # again: another process may have been faster
    "CREATE TABLE IF NOT EXISTS alembic_version ",
    "CREATE TABLE IF NOT EXISTS migration_log ",
    "PRAGMA main.page_count",
    "PRAGMA main.page_size",
)


def test_a_run_looks_at_a_database_once_before_it_has_the_lock_and_once_with_it(migrations: Path) -> None:
    small(migrations, 3)
    said: list[str] = []
    with closing(sqlite3.connect("app.db", isolation_level=None)) as connection:
        migrate(connection, "migrations", target="1")
        connection.set_trace_callback(said.append)
        migrate(connection, "migrations")
    passed_over = ("--", "PRAGMA busy_timeout", "PRAGMA database_list")  # of a connection that is borrowed
    lines = [line for line in said if not line.startswith(passed_over)]
    locked, first = lines.index("BEGIN IMMEDIATE"), lines.index(OURS[0])
    keys = ("PRAGMA foreign_keys", "PRAGMA foreign_keys = OFF")
    for part, ours in (
        (lines[:locked], (*READING, *READ, "ROLLBACK", *keys)),
        (lines[locked + 1 : first], LOOKING),
    ):
        assert [line for line, one in zip(part, ours, strict=True) if not line.startswith(one)] == []
