"""Proves that names never become SQL, that nothing is written or run where it was not asked for, and that
no message and no log line holds what is in the rows.
"""

import logging
import os
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
from support import LONGEST, OUTSIDE, ROOT, ended, forked, pasteable, query, write

from vmpilot.migrate import (
    HistoryError,
    MigrationError,
    StepError,
    VersionError,
    create,
    current,
    downgrade,
    history,
    migrate,
    stamp,
)
from vmpilot.migrate.cli.commands import main

INJECTION = "x'); DROP TABLE t; --\"`]["


class Recorder(sqlite3.Cursor):
    """A cursor that notes the statements, as they are before anything is bound."""

    seen: ClassVar[list[str]] = []

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        self.seen.append(sql)
        return super().execute(sql, *parameters)


class Connection(sqlite3.Connection):
    def cursor(self, factory: type[sqlite3.Cursor] = Recorder) -> sqlite3.Cursor:
        return super().cursor(factory)


# --- no SQL from names


def test_no_name_and_no_version_is_part_of_a_statement(migrations: Path, database: Path) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);")
    write(migrations, f"77310_{INJECTION}", "INSERT INTO t VALUES (1);", "DELETE FROM t;")
    write(migrations, "77320_revised", "-- vmpilot: revision fee1bad\nINSERT INTO t VALUES (2);")
    Recorder.seen.clear()
    with closing(sqlite3.connect(database, factory=Connection)) as connection:
        assert len(migrate(connection, migrations)) == 3
        assert [entry.name for entry in history(connection, migrations)] == ["t", INJECTION, "revised"]
        assert len(downgrade(connection, migrations, target="77310", backup=False)) == 1
        stamp("77320", connection, migrations)
        (migrations / f"77310_{INJECTION}.up.sql").unlink()
        (migrations / f"77310_{INJECTION}.down.sql").unlink()
        (migrations / "77320_revised.up.sql").unlink()
        (migrations / "77320_revised.down.sql").unlink()
        assert len(downgrade(connection, migrations, target="0001", backup=False)) == 2
    assert len(Recorder.seen) > 50
    own = {"INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)", "DELETE FROM t", "CREATE TABLE t (a)"}
    for statement in set(Recorder.seen) - own:
        assert not any(word in statement for word in (INJECTION, "7731", "7732", "fee1bad", "0001"))
    assert query(database, "SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize(
    "target", [INJECTION, "' OR 1=1", "0001; DROP TABLE t", "%", "_", "*", "\0", "０００１", "-١"]
)
def test_a_target_is_looked_up_and_not_executed(migrations: Path, database: Path, target: str) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);")
    migrate(database, migrations)
    before = database.read_bytes()
    requests: list[Callable[[], object]] = [
        lambda: migrate(database, migrations, target=target),
        lambda: downgrade(database, migrations, target=target, backup=False),
        lambda: stamp(target, database, migrations),
    ]
    for request in requests:
        with pytest.raises(VersionError) as caught:
            request()
        assert caught.value.version == target
        assert "\n" not in str(caught.value)
    assert database.read_bytes() == before


def test_a_version_in_the_database_is_compared_and_not_executed(migrations: Path, database: Path) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);")
    migrate(database, migrations)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (INJECTION,))
        connection.commit()
    before = database.read_bytes()
    with pytest.raises(VersionError) as caught:
        migrate(database, migrations)
    assert str(caught.value) == pasteable(
        f"{database} is at {INJECTION}, but this code knows only base to 0001; nothing was changed; "
        "to record another version, run: python3 -m vmpilot.migrate stamp VERSION",
        database,
        migrations,
    )
    assert database.read_bytes() == before
    stamp("0001", database, migrations)
    assert query(database, "SELECT * FROM alembic_version") == [("0001",)]
    assert query(database, "SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize(
    "name", ["a?mode=memory.db", "a#b.db", "a%41.db", "file:a.db", "a b'\"`;.db", "a&cache=shared.db"]
)
def test_a_path_is_a_path_and_no_address(migrations: Path, tmp_path: Path, name: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    write(migrations, "0001_t", "CREATE TABLE t (a);")
    migrate(place / name, migrations)
    assert os.listdir(place) == [name]
    assert migrate(place / name, migrations) == ()


def test_a_relative_path_is_a_path_and_no_address(
    migrations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    write(migrations, "0001_t", "CREATE TABLE t (a);")
    for name in ("./file:a.db", "-a.db", "a?mode=ro", "a:b.db"):
        migrate(name, migrations)
        assert current(name, migrations).version == "0001"
    assert sorted(os.listdir(place)) == ["-a.db", "a:b.db", "a?mode=ro", "file:a.db"]


def test_a_migration_cannot_load_code(migrations: Path, database: Path) -> None:
    write(migrations, "0001_load", "SELECT load_extension('anything');")
    with pytest.raises(StepError) as caught:
        migrate(database, migrations)
    assert str(caught.value) == (
        f"{migrations}/0001_load.up.sql:1: not authorized; rolled back, {database} is still at base"
    )


# --- what create writes

HOSTILE = [
    "../outside",
    "..",
    "/absolute",
    "a/b",
    "a\\b",
    "x\0y",
    "a\nb",
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "~root",
    "x.up.sql",
    "ünïcödé",
    "\u202egnp",
    "x" * 300,
    "",
    "   ",
    "___",
]


def tree(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


@pytest.mark.parametrize("name", HOSTILE)
def test_create_writes_nothing_for_a_hostile_name(migrations: Path, tmp_path: Path, name: str) -> None:
    before = tree(tmp_path)
    with pytest.raises(HistoryError) as caught:
        create(name, migrations)
    assert str(caught.value).isprintable()
    assert tree(tmp_path) == before


def test_the_command_create_writes_nothing_for_hostile_names(
    migrations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(tmp_path)
    for name in HOSTILE:
        assert (name, main(["--migrations", str(migrations), "create", "--", name])) == (name, 1)
        told = capsys.readouterr()
        assert (told.out, told.err.count("\n")) == ("", 1)
        assert told.err.startswith("error: ")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["-rf", "add title", "Add_Title-2", "drop table t"])
def test_create_stays_inside_its_directory(migrations: Path, tmp_path: Path, name: str) -> None:
    before = tree(tmp_path)
    paths = [Path(path) for path in create(name, migrations)]
    assert [path.parent for path in paths] == [migrations] * 2
    assert sorted({*tree(tmp_path)} - {*before}) == sorted(f"migrations/{path.name}" for path in paths)


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("trap", ["file", "link", "dangling link"])
def test_create_overwrites_nothing_that_appears_while_it_writes(
    migrations: Path, tmp_path: Path, direction: str, trap: str
) -> None:
    victim, place = tmp_path / "victim", migrations / f"0002_more.{direction}.sql"
    write(migrations, "0001_t", "SELECT 1;")
    if trap == "link":
        victim.write_text("kept")

    def lay(event: str, arguments: tuple[object, ...]) -> None:
        """Be faster than the one who opens this file, which a look before found missing."""
        if event == "open" and arguments[0] == str(place) and not os.path.lexists(place):
            os.mknod(place) if trap == "file" else place.symlink_to(victim)

    def trapped() -> str:
        sys.addaudithook(lay)  # for ever: so in a process of its own
        try:
            return str(create("more", migrations))
        except HistoryError as error:
            return str(error)

    assert ended(forked(trapped)) == (0, f"{place}: file exists")
    assert (victim.read_text() if victim.exists() else None) == ("kept" if trap == "link" else None)
    assert trap != "file" or place.read_bytes() == b""


def test_those_who_create_at_once_do_not_overwrite_each_other(migrations: Path) -> None:
    for _ in range(30):
        barrier = threading.Barrier(4)
        made: list[str] = []

        def work() -> None:
            barrier.wait(LONGEST)
            with suppress(HistoryError):
                made.extend(create("same", migrations))

        threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONGEST)
        assert len(made) >= 2
        assert len(made) == len({*made})


# --- the directory of migrations


def test_a_symlinked_directory_and_symlinked_files_work(
    migrations: Path, database: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write(elsewhere, "0001_t", "CREATE TABLE t (a);")
    for direction in ("up", "down"):
        (migrations / f"0001_t.{direction}.sql").symlink_to(elsewhere / f"0001_t.{direction}.sql")
    link = tmp_path / "link"
    link.symlink_to(migrations)
    assert [step.version for step in migrate(database, link)] == ["0001"]
    up, _ = create("more", link)
    assert up == str(link / "0002_more.up.sql")


def directory(path: Path) -> None:
    path.mkdir()


def linked_directory(path: Path) -> None:
    path.symlink_to(path.parent)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to(os.devnull)


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nothing")


def circle(path: Path) -> None:
    path.symlink_to(path)


def listening(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as opened:
        here = os.getcwd()
        os.chdir(path.parent)  # the path of a socket may not be long
        try:
            opened.bind(path.name)
        finally:
            os.chdir(here)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (directory, "a directory"),
        (linked_directory, "a directory"),
        (pipe, "a special file"),
        (device, "a special file"),
        (listening, "a special file"),
        (dangling, "a link to nothing"),
        (circle, "a link to nothing"),
    ],
)
@pytest.mark.parametrize("name", ["0002_x.up.sql", "0002_x.down.sql", "notes.SQL"])
def test_what_ends_in_sql_and_is_no_file_is_an_error(
    migrations: Path, database: Path, make: Callable[[Path], None], kind: str, name: str
) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);")
    make(migrations / name)
    with pytest.raises(HistoryError) as caught:
        migrate(database, migrations)
    assert str(caught.value) == f"{migrations / name}: {kind}, expected a file"
    assert caught.value.file == str(migrations / name)
    assert not database.exists()


# --- what messages and logs hold

SECRET = "hunter2"


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t SELECT * FROM t",
        "UPDATE t SET name = (SELECT name FROM t WHERE id = 1)",
        "CREATE TABLE s (a INTEGER) STRICT;\nINSERT INTO s SELECT name FROM t",
        "CREATE TABLE s (a CHECK (a < 5));\nINSERT INTO s SELECT name FROM t",
        "CREATE TABLE s (a INTEGER PRIMARY KEY);\nINSERT INTO s SELECT name FROM t",
        "SELECT json_extract(name, '$.x') FROM t",
        "SELECT abs(-9223372036854775808), name FROM t",
        "INSERT INTO child SELECT 1, name FROM t",
        "CREATE TABLE s (a NOT NULL);\nINSERT INTO s SELECT NULL FROM t WHERE name > ''",
        "CREATE UNIQUE INDEX u ON t (substr(name, 1, 3))",
    ],
)
def test_no_message_and_no_log_line_holds_what_is_in_the_rows(
    migrations: Path,
    database: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    statement: str,
) -> None:
    base = (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE);\n"
        "CREATE TABLE child (id, t TEXT REFERENCES t (name));"
    )
    write(migrations, "0001_base", base)
    migrate(database, migrations)
    with closing(sqlite3.connect(database)) as connection:
        connection.executemany(
            "INSERT INTO t (name) VALUES (?)", [(f"{SECRET} {number}",) for number in range(3)]
        )
        connection.commit()
    write(migrations, "0002_step", f"{statement};\nDELETE FROM t;")
    with caplog.at_level(logging.DEBUG), pytest.raises(MigrationError) as caught:
        migrate(database, migrations)
    told = [str(caught.value), repr(vars(caught.value)), caplog.text]
    assert not any(SECRET in words for words in told)
    assert main(["-d", str(database), "--migrations", str(migrations), "--verbose"]) == 1
    assert SECRET not in "".join(capsys.readouterr())


@pytest.mark.parametrize("kind", ["", OUTSIDE], ids=["inside", "outside"])
def test_rows_that_a_migration_returns_are_not_looked_at(migrations: Path, database: Path, kind: str) -> None:
    write(
        migrations,
        "0001_t",
        f"{kind}CREATE TABLE t (a TEXT);\n"
        f"INSERT INTO t VALUES (CAST(x'{SECRET.encode().hex()}ff' AS TEXT));\n"
        "SELECT a FROM t;\nUPDATE t SET a = a || 'x' RETURNING a;",
    )
    assert len(migrate(database, migrations)) == 1
    assert query(database, "SELECT hex(a) FROM t") == [(f"{SECRET.encode().hex()}ff78".upper(),)]


def test_rows_that_dangle_are_shown_by_number_only(migrations: Path, database: Path) -> None:
    write(
        migrations,
        "0001_t",
        "CREATE TABLE p (k TEXT PRIMARY KEY);\nCREATE TABLE c (k TEXT REFERENCES p, note);",
    )
    write(migrations, "0002_c", f"INSERT INTO c VALUES ('{SECRET}', '{SECRET}');")
    with pytest.raises(StepError) as caught:
        migrate(database, migrations)
    assert str(caught.value) == (
        f"{migrations}/0002_c.up.sql: 1 new foreign key violation: row 1 of c has no parent in p; "
        f"rolled back, {database} is still at 0001; ON DELETE and ON UPDATE actions do not run during a step; "
        'to leave that to a later file, begin the file with "-- vmpilot: unguarded REASON"'
    )


# --- modes of files


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o660])
def test_a_backup_has_the_mode_of_the_database(migrations: Path, database: Path, mode: int) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);")
    migrate(database, migrations)
    database.chmod(mode)
    write(migrations, "0002_u", "CREATE TABLE u (a);")
    migrate(database, migrations, backup=True)
    (backup,) = set(os.listdir(database.parent)) - {database.name, migrations.name}
    assert stat.S_IMODE((database.parent / backup).stat().st_mode) == mode
    assert stat.S_IMODE(database.stat().st_mode) == mode


# --- the current directory

TRAP = "import os\nopen(os.environ['TRAP'], 'a').write(__file__ + '\\n')\n"


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A directory with modules of the names that the migrator imports, each of which leaves a trace."""
    place = tmp_path / "trapped"
    (place / "vmpilot" / "migrate").mkdir(parents=True)
    names = [
        "argparse",
        "json",
        "os",
        "re",
        "sqlite3",
        "sitecustomize",
        "usercustomize",
        "hashlib",
        "logging",
        "signal",
    ]
    for name in [
        *names,
        "datetime",
        "contextlib",
        "typing",
        "vmpilot/__init__",
        "vmpilot/migrate/__init__",
        "vmpilot/migrate/__main__",
    ]:
        (place / f"{name}.py").write_text(TRAP)
    (place / "migrations").mkdir()
    write(place / "migrations", "0009_trap", "CREATE TABLE trap (a);")
    return place


@pytest.mark.parametrize("path", [None, "", ".", ":", "::/nowhere"])
@pytest.mark.parametrize("script", ["migrate.sh", "docker-entrypoint.sh"])
def test_the_scripts_run_nothing_from_the_current_directory(
    trapped: Path, database: Path, tmp_path: Path, path: str | None, script: str
) -> None:
    trap = tmp_path / "trap"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VMPILOT"))
    }
    environment |= {"TRAP": str(trap), "VMPILOT_DATABASE": str(database)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    if path is not None:
        environment["PYTHONPATH"] = path
    arguments = ["history"] if script == "migrate.sh" else ["true"]
    done = subprocess.run(
        [ROOT / "scripts" / script, *arguments],
        cwd=trapped,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST,
    )
    assert (done.returncode, trap.exists()) == (0, False)
    assert "trap" not in done.stdout + done.stderr
