"""Proves that names never become SQL, that nothing is written or run where it was not asked for, that no
message and no log line holds what is in the rows, and that a database from anywhere is data and no program.
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
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
from support import (
    COMMAND,
    LONGEST,
    OUTSIDE,
    ROOT,
    change,
    ended,
    everything,
    forked,
    heard,
    in_process,
    pasteable,
    query,
    running,
    write,
)

from vmpilot.migrate import (
    AccessError,
    HistoryError,
    MigrationError,
    StepError,
    VersionError,
    check,
    create,
    current,
    downgrade,
    history,
    migrate,
    restore,
    stamp,
)
from vmpilot.migrate.cli.commands import main
from vmpilot.migrate.database.confined import confined
from vmpilot.migrate.database.expansion import overgrown
from vmpilot.migrate.database.opening import scratch
from vmpilot.migrate.files.script import checksum, parse
from vmpilot.migrate.tools.backup import take
from vmpilot.migrate.tools.verify import verify_on_copy

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
    for name in ("./file:a.db", "-a.db", "./a?mode=ro", "a?mode=ro", "a:b.db"):
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
        f"rolled back, {database} is still at 0001; "
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


# --- the two tables are data

ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
VALUE, LOG = "alembic_version", "migration_log"
ODD = [
    (f"CREATE VIEW {VALUE} AS {ENDLESS} SELECT i AS version_num FROM n", VALUE, "is a view"),
    (f"CREATE VIEW [Alembic_VERSION] AS {ENDLESS} SELECT i AS version_num FROM n", VALUE, "is a view"),
    (f"CREATE VIEW {LOG} AS {ENDLESS} SELECT i AS id FROM n", LOG, "is a view"),
    (f"CREATE VIRTUAL TABLE {VALUE} USING fts4(version_num)", VALUE, "is a virtual table"),
    (f"CREATE TABLE {VALUE} (version_num AS (hex(zeroblob(9))), x)", VALUE, "has a generated column"),
    (f"CREATE TABLE {VALUE} (version_num, x GENERATED ALWAYS AS (1))", VALUE, "has a generated column"),
    (f"CREATE TABLE {VALUE} (version_num CHECK (version_num <> ''))", VALUE, "has a CHECK"),
    (f"CREATE TABLE {VALUE} (version_num, x DEFAULT (abs(1)))", VALUE, "has a default that is computed"),
    (
        f"CREATE TABLE {VALUE} (version_num); CREATE INDEX i ON {VALUE} (hex(version_num))",
        VALUE,
        "has an index on an expression",
    ),
    (
        f"CREATE TABLE {VALUE} (version_num); CREATE INDEX i ON {VALUE} (version_num) WHERE 1",
        VALUE,
        "has an index on an expression",
    ),
    (
        f"CREATE TABLE {LOG} (id); CREATE TRIGGER t AFTER INSERT ON {LOG} BEGIN SELECT 1; END",
        LOG,
        "has a trigger",
    ),
]
HARMLESS = [
    f"CREATE TABLE {VALUE} (version_num TEXT)",
    "CREATE TABLE [Alembic_Version] ('version_num' VARCHAR(32) NOT NULL PRIMARY KEY, at DEFAULT 'AS (CHECK (')",
    f"CREATE TABLE {VALUE} (version_num); CREATE UNIQUE INDEX i ON {VALUE} (version_num COLLATE NOCASE DESC)",
]


@pytest.fixture
def one(migrations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand beside `app.db` and `migrations`, which holds one."""
    monkeypatch.chdir(migrations.parent)
    write(migrations, "0001_t", "CREATE TABLE t (a);", "DROP TABLE t;")


EVERY_COMMAND = [
    *("upgrade", "downgrade base --no-backup", "downgrade base", "current", "history", "stamp 1"),
    *("check", "upgrade --sql", "upgrade --dry-run", "upgrade --backup", "verify --on-copy"),
]


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize(("made", "table", "oddity"), ODD, ids=[made[:60] for made, *_ in ODD])
def test_what_is_more_than_a_plain_table_is_refused_before_it_is_read(
    made: str, table: str, oddity: str
) -> None:
    change(
        "app.db", *made.split("; CREATE", 1)[:1], *(f"CREATE{more}" for more in made.split("; CREATE")[1:])
    )
    before = everything(Path())
    told = f"app.db: {table} {oddity}, expected a plain table; nothing was changed"
    for words in EVERY_COMMAND:
        answer = in_process(*words.split(), "-d", "app.db", "--migrations", "migrations")
        if words == "check":
            assert (answer.code, answer.out) == (1, f"unreadable: {told}\n")
        else:
            assert (words, answer.code, answer.err) == (words, 1, f"error: {told}\n")
        assert everything(Path()) == before
    os.rename("app.db", "old.bak")
    with pytest.raises(AccessError) as caught:
        restore("old.bak", "app.db", "migrations")
    assert str(caught.value) == told.replace("app.db", "old.bak", 1)


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize("made", HARMLESS)
def test_a_table_of_another_text_is_as_good_if_it_computes_nothing(made: str) -> None:
    change("app.db", *made.replace("; ", ";;").split(";;"))
    assert [step.version for step in migrate("app.db", "migrations")] == ["0001"]
    assert migrate("app.db", "migrations") == ()


@pytest.mark.usefixtures("one")
def test_a_table_that_a_kept_script_replaces_by_a_view_is_not_read() -> None:
    hostile = (
        f"CREATE VIEW v AS {ENDLESS} SELECT i AS version_num FROM n;\nPRAGMA writable_schema = ON;\n"
        "UPDATE sqlite_schema SET type = 'view', name = 'alembic_' || 'version', tbl_name = 'alembic_' || "
        "'version', rootpage = 0, sql = replace(sql, 'VIEW v', 'VIEW alembic_' || 'version') WHERE name = 'v';"
    )
    keep(hostile)
    with pytest.raises(MigrationError):
        downgrade("app.db", "migrations", target="head", backup=False)
    assert query(Path("app.db"), "SELECT version_num FROM alembic_version") == [("0002",)]


@pytest.mark.usefixtures("one")
def test_a_command_that_reads_without_end_is_ended_by_a_signal() -> None:
    migrate("app.db", "migrations")
    change("app.db", f"CREATE VIEW src AS {ENDLESS} SELECT i AS rowid, i AS z FROM n")
    change("app.db", "CREATE TABLE p (a REFERENCES t (a), CHECK ((a) IN (1)))")
    write(Path("migrations"), "0002_long", f"{ENDLESS} SELECT count(*) FROM n;")
    with running(*COMMAND, "-d", "app.db", "--migrations", "migrations") as process:
        while not Path("app.db-journal").exists() and process.poll() is None:
            if query_fails("app.db"):
                break
        process.terminate()
        assert process.wait(LONGEST) == 143


def query_fails(database: str) -> bool:
    """Tell whether somebody holds the write lock of a database."""
    with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        return False


# --- what a database kept


def keep(script: str, name: str = "newer") -> None:
    """Be an older release, with a newer database that kept this down script, as a hostile hand can write it."""
    newer = Path("newer")
    newer.mkdir()
    for path in Path("migrations").iterdir():
        (newer / path.name).write_bytes(path.read_bytes())
    write(newer, "0002_newer", "CREATE TABLE n (a);", "SELECT 1;")
    migrate("app.db", "newer")
    try:
        mark = checksum(parse("", script.encode(), "down"))
    except HistoryError:
        mark = ""
    with closing(sqlite3.connect("app.db")) as connection:
        values = (script, mark, name)
        connection.execute(
            "UPDATE migration_log SET down_sql = ?, down_checksum = ?, name = ? WHERE id = 2", values
        )
        connection.commit()


KEPT = "a down script that the database kept may not do this"
BEYOND = [
    ("PRAGMA temp_store_directory = '/tmp'", 1, f"PRAGMA temp_store_directory: {KEPT}"),
    ("PRAGMA main . [Hard_Heap_Limit] (9)", 1, f"PRAGMA hard_heap_limit: {KEPT}"),
    ("SELECT 1;\nEXPLAIN QUERY PLAN PRAGMA key = 'x'", 2, f"PRAGMA key: {KEPT}"),
    ("SELECT /* x */ load_extension ('x')", 1, f"load_extension(): {KEPT}"),
    ("SELECT \"fts3_tokenizer\"('a', x'00')", 1, f"fts3_tokenizer(): {KEPT}"),
    ("CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT [Edit] (1); END", 1, f"edit(): {KEPT}"),
    (".shell touch hurt", 1, ".shell is not allowed here, it is a command of the sqlite3 shell and no SQL"),
    ("VACUUM INTO 'hurt'", 1, "VACUUM INTO is not allowed here, a migration has one database"),
    ("ATTACH 'hurt' AS h", 1, "ATTACH is not allowed here, a migration has one database"),
]


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize("way", ["", "--sql", "--dry-run"])
@pytest.mark.parametrize(("script", "line", "told"), BEYOND, ids=[script[:30] for script, *_ in BEYOND])
def test_a_kept_script_that_reaches_beyond_its_database_is_refused(
    script: str, line: int, told: str, way: str
) -> None:
    keep(script)
    before = everything(Path())
    words = ["downgrade", "head", *filter(None, [way]), "--no-backup"]
    answer = in_process(*words, "-d", "app.db", "--migrations", "migrations")
    place = f"migration_log/0002_newer.down.sql:{line}"
    assert answer.err == f"error: cannot downgrade 0002: {place}: {told}; nothing was changed\n"
    assert (answer.code, answer.out, everything(Path())) == (1, "", before)
    assert [entry.reversible for entry in history("app.db", "migrations")] == [True, False]


# What SQLite asks about, where a text would not tell it.
DENIED = [
    ("ATTACH 'hurt' AS h", "ATTACH or VACUUM INTO"),
    ("VACUUM INTO 'hurt'", "ATTACH or VACUUM INTO"),
    ("DETACH h", "DETACH"),
    ("SELECT load_extension('x')", "load_extension()"),
    ("PRAGMA temp_store_directory = '/tmp'", "PRAGMA temp_store_directory"),
]


@pytest.mark.parametrize(("sql", "told"), DENIED)
def test_sqlite_denies_what_a_text_would_not_tell(
    sql: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with scratch() as session:
        with confined(session) as denied, pytest.raises(sqlite3.Error):
            session.run(sql)
        assert denied == [f"{told}: {KEPT}"]
        session.run("ATTACH ':memory:' AS h")  # only inside
    assert os.listdir() == []


HONEST = [
    "DROP TABLE n;",
    "CREATE TABLE m (a, b);\nINSERT INTO m SELECT a, 1 FROM n;\nDROP TABLE n;\nALTER TABLE m RENAME TO n;",
    "ALTER TABLE n ADD COLUMN b;\nALTER TABLE n DROP COLUMN b;\nCREATE INDEX i ON n (json_extract(a, '$.x'));",
    "CREATE VIRTUAL TABLE f USING fts5(a);\nINSERT INTO f VALUES ('x');\nCREATE TRIGGER g AFTER INSERT ON n "
    "BEGIN INSERT INTO f SELECT value FROM json_each(new.a); END;\nINSERT INTO n VALUES ('[1]');\nDROP TABLE n;",
    "CREATE VIRTUAL TABLE r USING rtree(i, a, b);\nINSERT INTO r VALUES (1, 1, 2);\nDROP TABLE r;",
    "CREATE VIRTUAL TABLE f USING fts4(a);\nINSERT INTO f VALUES ('x');\n"
    "CREATE VIEW s AS SELECT snippet(f) FROM f WHERE f MATCH 'x';\nSELECT * FROM s;",
    "CREATE TABLE g (a, b AS (json_extract(a, '$')), pragma DEFAULT 1);\nINSERT INTO g (a) VALUES ('1');\n"
    "SELECT b, pragma FROM g;",
    "PRAGMA writable_schema = ON;\nUPDATE sqlite_schema SET sql = 'CREATE TABLE n (a NOT NULL)' WHERE name = 'n';",
    "PRAGMA user_version = 4;\nPRAGMA legacy_alter_table = ON;\nANALYZE;\nREINDEX;",
    f"{OUTSIDE}VACUUM;",
]


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize("script", HONEST)
def test_a_kept_script_that_changes_its_database_only_is_run(script: str) -> None:
    keep(script)
    done = in_process("downgrade", "head", "--dry-run", "-d", "app.db", "--migrations", "migrations")
    assert (done.code, done.err) == (0, "")
    assert [step.version for step in downgrade("app.db", "migrations", target="head", backup=False)] == [
        "0002"
    ]


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("x" * 255, True),
        ("a'b; --\u2028", True),
        ("x" * 256, False),
        ("a\n.shell touch hurt", False),
        ("a\x1b[31m", False),
        ("a\x7f", False),
    ],
)
def test_a_name_in_the_log_is_one_that_a_file_can_have(name: str, known: bool) -> None:
    keep("DROP TABLE n;", name)
    assert [entry.name for entry in history("app.db", "migrations")] == ["t", name if known else ""]
    for words in ("history", "check", "current", "downgrade head --sql"):
        answer = in_process(*words.split(), "-d", "app.db", "--migrations", "migrations")
        assert all(line.isprintable() for line in answer.err.splitlines())
        assert "\x1b" not in answer.out + answer.err


@pytest.mark.usefixtures("one")
def test_a_trigger_by_which_the_shell_would_run_a_command_is_no_part_of_a_script() -> None:
    migrate("app.db", "migrations")
    write(Path("migrations"), "0002_more", "INSERT INTO t VALUES (1);")
    change("app.db", "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT \"Edit\" ('x', 'touch hurt'); END")
    answer = in_process("upgrade", "--sql", "-d", "app.db", "--migrations", "migrations")
    told = "app.db: trigger g calls edit(), which the sqlite3 shell would run; nothing was changed"
    assert answer == (1, "", f"error: {told}\n")


@pytest.mark.usefixtures("one")
def test_a_kept_script_that_writes_the_schema_as_text_is_no_part_of_a_script() -> None:
    keep(HONEST[-3])
    answer = in_process("downgrade", "head", "--sql", "-d", "app.db", "--migrations", "migrations")
    what = f"PRAGMA writable_schema in the sqlite3 shell: {KEPT}"
    told = f"migration_log/0002_newer.down.sql: {what}; nothing was changed"
    assert answer == (1, "", f"error: {told}\n")


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize(
    ("script", "place"),
    [
        ("SELECT 1;\r\nSELECT 'a\tb\x0c\r\n\u202f', '\x1b[2J';", "3: U+001B"),
        ("SELECT /* \x9b2J */ 1;", "1: U+009B"),
        ("SELECT '\x7f';", "1: U+007F"),
        ("SELECT 'shown\rover';", "1: U+000D"),
        ("SELECT 1; -- \x1b[2J, which is no part of it\r\nSELECT\t'a\r\n\u202f';", ""),
    ],
)
def test_a_kept_script_that_a_terminal_would_obey_is_no_part_of_a_script(script: str, place: str) -> None:
    keep(script)
    for form in ((), ("--json",)):
        words = ("downgrade", "head", "--sql", "-d", "app.db", "--migrations", "migrations", *form)
        assert in_process(*words).code == bool(place)
    answer = in_process("downgrade", "head", "--sql", "-d", "app.db", "--migrations", "migrations")
    assert "\x1b" not in answer.out
    if place:
        number, _, character = place.partition(": ")
        what = f"the database kept {character} in this down script, which a terminal would obey"
        told = f"migration_log/0002_newer.down.sql:{number}: {what}; nothing was changed"
        assert answer == (1, "", f"error: {told}\n")
    assert in_process(*words[:2], "--no-backup", *words[3:]).code == 0


# --- another user of the same directory

# Exchanges what is not its own, as soon as it is there, for a way to what root alone may read.
SWAPPER = """
import os, sys
os.setgid(65534)
os.setuid(65534)
os.chdir(sys.argv[1])
print("swapping", flush=True)
number = 0
while True:
    for name in [*os.listdir("."), "app.db"] if sys.argv[2] == "database" else os.listdir("."):
        private = name.startswith(".vmpilot.")
        if private == (sys.argv[2] == "database"):
            continue
        number += 1
        try:
            if private:
                os.rename(name, f"moved{number}")
                os.mkdir(name)
                os.symlink("../../secret.db", f"{name}/copy")
            elif name == "app.db":
                os.rename(name, "own")
                os.symlink("../secret.db", name)
                os.remove(name)
                os.rename("own", name)
        except OSError:
            pass
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs files of two users, and only root can give them away")
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
@pytest.mark.parametrize("what", ["copy", "database"])
@pytest.mark.parametrize("rounds", [4, pytest.param(60, marks=pytest.mark.full)])
def test_what_another_user_swaps_in_a_directory_of_theirs_is_neither_read_nor_written(
    migrations: Path, tmp_path: Path, what: str, rounds: int
) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);")
    write(migrations, "0002_u", "CREATE TABLE u (a);", "DROP TABLE u;")
    place, secret = tmp_path / "theirs", tmp_path / "secret.db"
    place.mkdir()
    for path, text in ((secret, SECRET), (place / "app.db", "theirs"), (tmp_path / "old.bak", "theirs")):
        migrate(path, migrations, target="1")
        change(path, f"INSERT INTO t VALUES ('{text}')")
    secret.chmod(0o600)
    before = secret.read_bytes(), secret.stat().st_uid, secret.stat().st_mode
    for path in (tmp_path, place, place / "app.db"):
        path.chmod(0o755)
        os.chown(path, *((65534, 65534) if path != tmp_path else (-1, -1)))
    with running("-c", SWAPPER, place, what) as process:
        assert heard(process) == "swapping\n"
        for _ in range(rounds):
            for act in (
                lambda: take(place / "app.db", "0001", timeout=1),
                lambda: restore(tmp_path / "old.bak", place / "app.db", migrations),
            ):
                with suppress(MigrationError):
                    act()
    assert (secret.read_bytes(), secret.stat().st_uid, secret.stat().st_mode) == before
    readable = [path for path in place.rglob("*") if path.is_file() and path.stat().st_uid == 65534]
    assert [path.name for path in readable if SECRET.encode() in path.read_bytes()] == []


# --- work without end


def doubled(levels: int, text: str) -> list[tuple[str, str, str]]:
    views = [("view", "v0", "CREATE VIEW v0 AS SELECT 1 AS z")]
    for at in range(1, levels):
        views.append(("view", f"v{at}", f"CREATE VIEW v{at} AS {text.replace('?', f'v{at - 1}')}"))
    return views


def doubled_inside(levels: int) -> list[tuple[str, str, str]]:
    parts = ["c0 AS (SELECT 1 AS z)"]
    parts += [
        f"c{at} (z) AS NOT MATERIALIZED (SELECT a.z FROM c{at - 1} a, c{at - 1} b)" for at in range(1, levels)
    ]
    return [("view", "w", f"CREATE VIEW w AS WITH {', '.join(parts)} SELECT * FROM c{levels - 1}")]


TWICE = [
    "SELECT a.* FROM ? a, ? b",
    'SELECT z FROM main."?" UNION ALL SELECT z FROM `?`',
    "SELECT (SELECT z FROM ?) + (SELECT z FROM [?]) AS z",
    "WITH c AS (SELECT * FROM ?) SELECT a.z FROM c a, c b",
]


@pytest.mark.parametrize("text", TWICE)
def test_views_that_double_one_another_are_told_before_they_are_compiled(text: str) -> None:
    names = {name for _, name in overgrown(doubled(16, text))}
    assert {"v15", "v14", "v13"} <= names
    assert not {"v1", "v2", "v7"} & names
    trigger = ("trigger", "g", "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT * FROM v15; END")
    assert ("trigger", "g") in overgrown([*doubled(16, text), trigger])
    assert overgrown([*doubled(6, text), trigger]) == frozenset()


def test_names_behind_with_that_double_one_another_are_told_too() -> None:
    assert overgrown(doubled_inside(16)) == {("view", "w")}
    assert overgrown(doubled_inside(6)) == frozenset()


def test_what_only_looks_like_much_is_compiled() -> None:
    long = (
        "view",
        "a",
        "CREATE VIEW a AS SELECT " + ", ".join(f"a.a AS a{at}" for at in range(900)) + " FROM t a",
    )
    chain = [
        ("view", f"v{at}", f"CREATE VIEW v{at} AS SELECT v{at - 1}.* FROM v{at - 1}") for at in range(1, 900)
    ]
    circle = [
        ("view", "x", "CREATE VIEW x AS SELECT * FROM y, y"),
        ("view", "y", "CREATE VIEW y AS SELECT * FROM x, x"),
    ]
    for objects in ([long, ("view", "b", long[2])], chain, circle):
        assert overgrown(objects) == frozenset()


@pytest.mark.usefixtures("one")
def test_what_is_too_much_to_compile_is_a_remark_and_no_command_waits_for_it() -> None:
    change("app.db", *(sql for _, _, sql in doubled(16, TWICE[1])), "CREATE VIRTUAL TABLE f USING fts5(a)")
    assert [step.version for step in migrate("app.db", "migrations")] == ["0001"]
    health = check("app.db", "migrations")
    assert (health.ok, health.problems) == (True, ())
    (remark,) = [text for text in health.remarks if "compile" in text]
    assert remark.startswith("app.db: too much to compile, so this was not tried: v1")
    write(Path("migrations"), "0002_v", "CREATE VIEW v AS SELECT z FROM v15;", "DROP VIEW v;")
    with pytest.raises(StepError) as caught:
        migrate("app.db", "migrations")
    assert str(caught.value).startswith(
        "migrations/0002_v.up.sql: v does not compile: it stands for more than 20000 tokens, so this was not tried"
    )


KEYWORDS = "order group select table index from where join union insert update delete create drop view limit"


@pytest.mark.usefixtures("one")
def test_what_is_too_much_to_compile_can_have_names_that_are_keywords() -> None:
    migrate("app.db", "migrations")
    change("app.db", "CREATE TABLE s (z)")
    for last, name in pairwise(["s", *KEYWORDS.split()]):
        change("app.db", f'CREATE VIEW "{name}" AS SELECT z FROM "{last}" UNION ALL SELECT z FROM "{last}"')
    for step in (
        'CREATE VIEW v AS SELECT z FROM "limit"',
        'CREATE TRIGGER v AFTER INSERT ON s BEGIN INSERT INTO s SELECT z FROM "limit"; END',
    ):
        write(Path("migrations"), "0002_v", f"{step};")
        with pytest.raises(StepError) as caught:
            migrate("app.db", "migrations")
        told = "v does not compile: it stands for more than 20000 tokens, so this was not tried"
        assert str(caught.value).startswith(f"migrations/0002_v.up.sql: {told}")


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize(
    "step",
    ["ALTER TABLE s RENAME TO u;", "ALTER TABLE s RENAME COLUMN a TO c;", "ALTER TABLE s DROP COLUMN b;"],
)
def test_what_is_too_much_to_compile_is_not_compiled_by_alter_table_either(step: str) -> None:
    migrate("app.db", "migrations")
    change("app.db", "CREATE TABLE s (a, b)", *(sql for _, _, sql in doubled(16, TWICE[1])))
    write(Path("migrations"), "0002_s", "ALTER TABLE s ADD COLUMN d;")  # which compiles none
    assert [found.version for found in migrate("app.db", "migrations")] == ["0002"]
    write(Path("migrations"), "0003_s", step)
    with pytest.raises(StepError) as caught:
        migrate("app.db", "migrations")
    assert str(caught.value) == (
        "migrations/0003_s.up.sql:1: v11 stands for more than 20000 tokens, which ALTER TABLE would compile; "
        "rolled back, app.db is still at 0002"
    )


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize(
    ("down", "refused"),
    [
        ("SELECT length(hex(zeroblob(2000000)));", "string or blob too big"),
        ("SELECT 'x' LIKE hex(zeroblob(300));", "LIKE or GLOB pattern too complex"),
        ("CREATE TABLE copy AS SELECT * FROM big; DROP TABLE copy;", ""),
    ],
)
def test_a_kept_script_computes_no_value_that_is_longer_than_the_database(down: str, refused: str) -> None:
    """For one value is computed to its end, whatever signal comes; but what the database holds is copied."""
    write(Path("migrations"), "0002_big", "CREATE TABLE big (a);", f"{down} DROP TABLE big;")
    migrate("app.db", "migrations")
    change("app.db", "INSERT INTO big VALUES (zeroblob(3000000))" if not refused else "SELECT 1")
    for path in Path("migrations").glob("0002*"):
        path.unlink()
    if not refused:
        assert len(downgrade("app.db", "migrations", target="head", backup=False)) == 1
        return
    with pytest.raises(StepError) as caught:
        downgrade("app.db", "migrations", target="head", backup=False)
    told = f"migration_log/0002_big.down.sql:1: {refused}; rolled back, app.db is still at 0002"
    assert str(caught.value) == told


COMPUTED = [
    "a, b AS (printf('%.*c', 3000000, 'x'))",
    "a, b AS (zeroblob(900000000))",
    "a, b0 AS (a || a)" + "".join(f", b{at} AS (b{at - 1} || b{at - 1})" for at in range(1, 30)),
    "a" + "".join(f", b{at} AS (printf('%.*c', 500000, 'x'))" for at in range(1900)),
]


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize("columns", COMPUTED, ids=["text", "blob", "doubled", "wide"])
def test_what_is_computed_when_it_is_read_is_not_compared(columns: str) -> None:
    change("app.db", "CREATE TABLE u (a)", "INSERT INTO u VALUES (1)", "PRAGMA writable_schema = ON")
    with closing(sqlite3.connect("app.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = ? WHERE name = 'u'", (f"CREATE TABLE u ({columns})",)
        )
    write(Path("migrations"), "0002_u", "UPDATE u SET a = 2 WHERE 0;", "UPDATE u SET a = 1 WHERE 0;")
    assert [verdict.problems for verdict in verify_on_copy("app.db", "migrations").migrations] == [(), ()]


@pytest.mark.usefixtures("one")
def test_rows_without_end_are_not_read_to_the_end_and_this_is_said() -> None:
    change("app.db", f"CREATE VIEW src AS {ENDLESS} SELECT i AS rowid, i AS z FROM n")
    change("app.db", "CREATE VIRTUAL TABLE f USING fts5(z, content='src')")
    write(
        Path("migrations"),
        "0002_f",
        "INSERT INTO t SELECT 1 WHERE 0 AND 'f' = '' ;\nDELETE FROM f WHERE 0;",
        "SELECT 1;",
    )
    _, verdict = verify_on_copy("app.db", "migrations").migrations
    assert "rows of f not compared: they cannot be read to the end" in verdict.remarks


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize(
    "behind", ["(" * 30_000 + ")" * 30_000, "/**/--\n" * 9000, "a AS b " * 9000, "'" * 9001]
)
def test_what_stands_behind_an_object_in_the_schema_means_nothing(behind: str) -> None:
    migrate("app.db", "migrations")
    change("app.db", "CREATE TABLE u (a CHECK (a > 1))", "CREATE INDEX i ON u (a)")
    clean = check("app.db", "migrations")
    with closing(sqlite3.connect("app.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        told = f"; CHECK {behind}"
        connection.execute("UPDATE sqlite_schema SET sql = sql || ? WHERE name IN ('u', 'i')", (told,))
    assert check("app.db", "migrations") == clean


# --- the default database


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077, 0o000])
def test_the_default_database_is_for_its_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("VMPILOT_DATABASE", raising=False)
    place = tmp_path / ".vmpilot"
    before = os.umask(umask)
    try:
        with pytest.MonkeyPatch.context() as changed:
            changed.setattr(
                "os.path.isdir", lambda path, isdir=os.path.isdir: path != "/app/data" and isdir(path)
            )
            migrate()
            migrate(tmp_path / "named.db")
            assert modes(place, place / "vmpilot.db") == (0o700, 0o600)
            place.chmod(0o755)
            (place / "vmpilot.db").chmod(0o644)
            downgrade(target="base", backup=False)
            assert modes(place, place / "vmpilot.db") == (0o755, 0o644)
        assert modes(tmp_path / "named.db") == (0o644 & ~umask,)
        assert os.umask(umask) == umask
    finally:
        os.umask(before)


def modes(*paths: Path) -> tuple[int, ...]:
    return tuple(stat.S_IMODE(path.stat().st_mode) for path in paths)
