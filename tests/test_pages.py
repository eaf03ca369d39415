"""The README's pages: their Python runs, and their migrations are applied, proved, undone and applied again.

What a page shows is what runs here: it is taken from the README, block by block.
"""

import asyncio
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from functools import cache
from io import StringIO
from pathlib import Path
from subprocess import PIPE
from typing import Any, NamedTuple

import pytest
from support import LONGEST, ROOT, query, timeless, write

from vmpilot.migrate import (
    HistoryError,
    StepError,
    VersionError,
    check,
    current,
    downgrade,
    migrate,
    stamp,
    verify,
)
from vmpilot.migrate.cli.options import COMMANDS
from vmpilot.migrate.files.directory import load
from vmpilot.migrate.files.script import statements
from vmpilot.migrate.tools.verify import verify_on_copy

PAGE = ROOT / "README.md"
if not PAGE.exists():
    pytest.skip("no README.md here", allow_module_level=True)

HEAD = max(path.name.partition("_")[0] for path in (ROOT / "migrations").glob("*.up.sql"))
BLOCK = re.compile(r"(?ms)^#+ (?P<heading>[^\n]*)$|^```(?P<language>\w+)\n(?P<text>.*?)^```$")

Names = dict[str, Any]


class Block(NamedTuple):
    """A block of code in the README: the heading above it, its first line there, and its text."""

    heading: str
    language: str
    line: int
    text: str


def blocks(language: str) -> dict[str, list[Block]]:
    """Return the README's blocks in one language, by the heading that they stand below."""
    found: dict[str, list[Block]] = {}
    for block in every_block():
        if block.language == language:
            found.setdefault(block.heading, []).append(block)
    return found


@cache
def every_block() -> tuple[Block, ...]:
    page, heading, found = PAGE.read_text(), "", []
    for match in BLOCK.finditer(page):
        heading = match["heading"] or heading
        if match["language"]:
            line = page.count("\n", 0, match.start("text")) + 1
            found.append(Block(heading, match["language"], line, match["text"]))
    return tuple(found)


def run(shown: list[Block]) -> Names:
    """Run blocks one after the other, as one program; return the names that it made."""
    names: Names = {"__name__": "shown"}
    for block in shown:
        exec(compile("\n" * (block.line - 1) + block.text, PAGE, "exec"), names)
    return names


# --- In an application

PYTHON = blocks("python")


# Migrations as dbmate and goose write them.
THEIRS = {
    "20260101000001_notes.sql": "-- migrate:up\nCREATE TABLE notes (id INTEGER);\n\n-- migrate:down\nDROP TABLE notes;\n",
    "20260101000002_touch.sql": """-- +goose Up
-- +goose StatementBegin
CREATE TRIGGER touch AFTER INSERT ON notes BEGIN
    UPDATE notes SET id = abs(id);
END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER touch;
""",
    "20260101000003_only_up.sql": "-- migrate:up\nINSERT INTO notes VALUES (-1);\n",
}


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand where the README's programs would: with a database from elsewhere and migrations."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "migrations", "migrations")
    Path("scripts").symlink_to(ROOT / "scripts")
    migrate("elsewhere.db")
    Path("db/migrations").mkdir(parents=True)
    for name, text in THEIRS.items():
        Path("db/migrations", name).write_text(text)


# What other packages will drop one day is no fault of a page.
deprecated = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")


@deprecated
@pytest.mark.usefixtures("surroundings")
@pytest.mark.parametrize("heading", PYTHON)
def test_the_python_of_a_page_runs(heading: str) -> None:
    try:
        names = run(PYTHON[heading])
    except ModuleNotFoundError as missing:
        pytest.skip(f"no {missing.name} here")
    try:
        USES.get(heading, passed)(names)
    finally:
        for value in names.values():
            leave(value)


def passed(names: Names) -> None:
    """Do nothing with a program that has done all by itself."""


def leave(value: object) -> None:
    """Close what a program would have had open to its end."""
    if isinstance(value, sqlite3.Connection):
        value.close()
    elif type(value).__name__ == "Engine":
        value.dispose()  # type: ignore[attr-defined]


def started(names: Names) -> None:
    assert current("vmpilot.db").at_head
    assert names["connection"].execute("PRAGMA foreign_keys").fetchone()[0] == 1
    assert names["steps"] == ()


def counted(names: Names) -> None:
    assert names["counts"] == [0] * 8


def served(names: Names) -> None:
    """Start the application as a server does: by ASGI's messages about its life."""
    said: list[str] = []
    messages = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, str]:
        return {"type": next(messages)}

    async def send(message: dict[str, str]) -> None:
        said.append(message["type"])
        assert current("app.db").at_head

    asyncio.run(names["application"]({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send))
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def mapped(names: Names) -> None:
    assert query(Path("app.db"), "SELECT chat_id FROM chats") == [("c1",)]
    with names["memory"].connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM chats").scalar() == 0
    with names["engine"].connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def awaited(names: Names) -> None:
    assert tuple(asyncio.run(names["main"]())) == (0,)

    async def keys() -> int:
        async with (
            names["opened"](":memory:") as connection,
            connection.execute("PRAGMA foreign_keys") as rows,
        ):
            with pytest.raises(
                TypeError, match=r"^database: expected a path, .*, not Connection; pass the path of its file$"
            ):
                migrate(connection)
            return int((await rows.fetchone())[0])

    assert asyncio.run(keys()) == 1


def requested(names: Names) -> None:
    client = names["create_app"]().test_client()
    assert [client.get("/").text for _ in range(2)] == ["0", "0"]


def proved(names: Names) -> None:
    names["test_migrations_are_reversible"]()


def careful(names: Names) -> None:
    assert names["health"].ok


def taken_apart(names: Names) -> None:
    ours = {path.name: path.read_text() for path in Path("migrations").glob("2026*")}
    assert ours == {
        "20260101000001_notes.up.sql": "CREATE TABLE notes (id INTEGER);\n\n",
        "20260101000001_notes.down.sql": "DROP TABLE notes;\n",
        "20260101000002_touch.up.sql": "CREATE TRIGGER touch AFTER INSERT ON notes BEGIN\n    UPDATE notes SET id = abs(id);\nEND;\n\n",
        "20260101000002_touch.down.sql": "DROP TRIGGER touch;\n",
        "20260101000003_only_up.up.sql": "INSERT INTO notes VALUES (-1);\n",
    }
    migrate("app.db", "migrations")
    assert query(Path("app.db"), "SELECT id FROM notes") == [(1,)]


USES: dict[str, Callable[[Names], None]] = {
    "In an application": started,
    "Threads and processes": counted,
    "FastAPI and Starlette": served,
    "SQLAlchemy and SQLModel": mapped,
    "aiosqlite": awaited,
    "Flask": requested,
    "In CI": proved,
    "Security": careful,
    "From and to other tools": taken_apart,
}


def test_what_a_program_of_the_readme_must_do_is_looked_at() -> None:
    assert USES.keys() - PYTHON.keys() == set()


# The fixtures that the README shows are those of the tests below.
SHOWN = run(PYTHON["pytest"])
template, copied, connection = (SHOWN[name] for name in ("template", "copied", "connection"))


def test_a_copied_template_is_a_database_of_its_own(template: Path, copied: Path) -> None:
    with closing(sqlite3.connect(copied)) as changed:
        changed.execute("DROP TABLE exchanges")
    assert current(template).at_head and current(copied).at_head
    assert query(template, "SELECT count(*) FROM exchanges") == [(0,)]


def test_a_database_in_memory_is_migrated_for_each_test(connection: sqlite3.Connection) -> None:
    assert current(connection).at_head


# --- In a container

# It writes a row; where it has a replica, after the first that is there, and until the row is there too.
APPLICATION = """
import glob, os, sqlite3, time

def replicated(more):
    while (replica := os.environ.get("REPLICA")) and len(glob.glob(f"{replica}/ltx/0/*.ltx")) < more:
        time.sleep(0.01)

replicated(1)
with sqlite3.connect("data/vmpilot.db") as database:
    database.execute("INSERT INTO chats (chat_id, messages, cache_info) SELECT count(*), '[]', '{}' FROM chats")
replicated(2)
print("running")
"""


class Image(NamedTuple):
    """What a Dockerfile makes: the directory of the application, its environment, what is started in it."""

    directory: Path
    environment: dict[str, str]
    entrypoint: list[str]
    command: list[str]

    def start(self, *words: str) -> "subprocess.Popen[str]":
        here = [word.replace("/app", str(self.directory)) for word in words]
        return subprocess.Popen(
            here, cwd=self.directory, env=self.environment, stdout=PIPE, stderr=PIPE, text=True
        )


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """Do what the README's Dockerfile says, but for its users and the compiling; /app is elsewhere."""
    [dockerfile] = blocks("dockerfile")["In a container"]
    lines = [line.split(" ", 1) for line in dockerfile.text.splitlines()]
    said: dict[str, list[str]] = {}
    for instruction, words in lines:
        said.setdefault(instruction, []).append(words)
    assert said["WORKDIR"] == ["/app"] and said["VOLUME"] == ["/app/data"]
    directory = tmp_path / "app"
    (directory / "data").mkdir(parents=True)
    (directory / "app.py").write_text(APPLICATION)
    for source, target in (words.split() for words in said["COPY"]):
        if source != "app.py":
            (directory / target).symlink_to(ROOT / source)
    environment = {
        name: value.replace("/app", str(directory))
        for name, _, value in (words.partition("=") for words in said["ENV"])
    }
    python = os.path.dirname(sys.executable)
    environment |= {
        "PATH": f"{python}:{os.environ['PATH']}",
        "VMPILOT_DATABASE": f"{directory}/data/vmpilot.db",
    }
    return Image(directory, environment, json.loads(*said["ENTRYPOINT"]), json.loads(*said["CMD"]))


def printed(heading: str, image: Image) -> str:
    """Return the output that the README shows, with the names that it has here."""
    [shown] = blocks("text")[heading]
    return shown.text.replace("/app", str(image.directory))


def test_the_entrypoint_of_the_dockerfile_migrates_and_starts_the_application(image: Image) -> None:
    with image.start(*image.entrypoint, *image.command) as process:
        out, err = process.communicate(timeout=LONGEST)
    assert (out, timeless(err)) == ("running\n", timeless(printed("In a container", image)))
    assert os.listdir(image.directory / "data") == ["vmpilot.db"]
    assert query(image.directory / "data/vmpilot.db", "SELECT chat_id FROM chats") == [("0",)]


def test_the_sidecar_of_the_compose_file_starts_when_the_database_is_migrated(image: Image) -> None:
    [compose] = blocks("yaml")["Beside it"]
    entrypoint, command = (
        json.loads(found.replace("$$", "$"))
        for found in re.findall(r"(?m)^    (?:entrypoint|command): (.*)$", compose.text)
    )
    assert command == ["python3", "worker.py"]
    with image.start(*entrypoint, "python3", "app.py") as sidecar:
        assert sidecar.stderr and sidecar.stdout
        said = sidecar.stderr.readline()
        migrate(image.directory / "data/vmpilot.db")
        assert said + sidecar.stdout.read() == printed("Beside it", image) + "running\n"
    assert sidecar.returncode == 0


def test_litestream_brings_back_what_a_lost_volume_held(image: Image, tmp_path: Path) -> None:
    beside = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    if not shutil.which("litestream", path=beside):
        pytest.skip("no litestream here")
    [script], [settings] = blocks("sh")["Litestream"], blocks("yaml")["Litestream"]
    volume, replica = image.directory / "data", tmp_path / "replica"
    quick = f"file://{replica}\n      sync-interval: 50ms\n    monitor-interval: 50ms"
    (tmp_path / "litestream.yml").write_text(
        settings.text.replace("/app", str(image.directory)).replace("s3://BUCKET/vmpilot", quick)
    )
    words = re.sub(r"litestream \w+", rf"\g<0> -config {tmp_path}/litestream.yml", script.text)
    image.environment["REPLICA"] = str(replica)
    for count in (1, 2):
        with image.start("sh", "-c", words) as process:
            assert "running\n" in process.communicate(timeout=LONGEST)[0]
        assert process.returncode == 0
        assert query(volume / "vmpilot.db", "SELECT count(*) FROM chats") == [(count,)]
        assert check(volume / "vmpilot.db").ok
        shutil.rmtree(volume)
        volume.mkdir()
        image.environment.pop("REPLICA", None)  # nobody looks for the row of the second start


# --- migrations of a page

FILES = {
    heading: [block for block in shown if block.text.startswith("-- 0")]
    for heading, shown in blocks("sql").items()
}
NAMED = re.compile(r"(?m)^-- (\d{4}_\w+\.(?:up|down)\.sql)\n")


def written(shown: list[Block], directory: Path) -> None:
    """Write the files of blocks: each begins with a line that names it."""
    for block in shown:
        nothing, *pieces = NAMED.split(block.text)
        assert not nothing
        for name, text in zip(pieces[::2], pieces[1::2], strict=True):
            (directory / name).write_text(text)


def everything(database: Path) -> list[tuple[object, ...]]:
    """Return all rows of all tables but the migrator's own, and the schema."""
    schema = query(
        database,
        "SELECT type, name, tbl_name FROM sqlite_schema WHERE name <> 'migration_log' ORDER BY type, name",
    )
    tables = [name for kind, name, _ in schema if kind == "table" and name != "sqlite_sequence"]
    return [*schema, *(row for table in tables for row in query(database, f'SELECT * FROM "{table}"'))]


@pytest.fixture
def bundled(migrations: Path) -> Path:
    """A copy of VMPilot's own migrations, on top of which the README writes."""
    shutil.copytree(ROOT / "migrations", migrations, dirs_exist_ok=True)
    return migrations


def test_the_write_ahead_log_is_a_migration(bundled: Path, database: Path) -> None:
    written(FILES["A write-ahead log or not"], bundled)
    verify(bundled).raise_for_problems()
    modes = []
    for move in (migrate, downgrade, migrate):
        assert [step.version for step in move(database, bundled)][-1] == "0003"
        modes += query(database, "PRAGMA journal_mode")
    assert modes == [("wal",), ("delete",), ("wal",)]


# --- How to

ROWS = """
INSERT INTO chats (chat_id, messages, cache_info) VALUES ('c1', '[]', '{}'), ('c2', '[]', '{}');
INSERT INTO exchanges (exchange_id, chat_id, model, cost) VALUES
    (1, 'c1', 'acme/small', '{"total": 0.5}'), (2, 'c1', 'large', NULL), (3, 'c2', 'acme/large/2', '{}'),
    (7, 'c2', '/odd', '{"total": 2}'), (9, 'c2', '', '{"total": 1.5}');
"""
LAST = "0009"


@pytest.fixture
def how_to(bundled: Path, database: Path) -> Path:
    """The migrations of the page, and a database with rows that is as VMPilot's own leave it."""
    for heading, shown in FILES.items():
        if heading != "A write-ahead log or not":
            written(shown, bundled)
    migrate(database, bundled, target=HEAD)
    with closing(sqlite3.connect(database)) as filled:
        filled.executescript(ROWS)
    return bundled


def test_the_migrations_of_a_page_are_reversible(how_to: Path, database: Path) -> None:
    versions = [migration.version for migration in verify(how_to).migrations]
    assert versions[-1] == LAST
    verify(how_to).raise_for_problems()
    verify_on_copy(database, how_to).raise_for_problems()
    before = everything(database)
    for version in versions[int(HEAD) :]:
        assert [step.version for step in migrate(database, how_to, target=version)] == [version]
        after = everything(database)
        assert migrate(database, how_to, target=version) == ()
        downgrade(database, how_to, backup=False)
        assert everything(database) == before
        migrate(database, how_to, target=version)
        before = everything(database)
        assert before == after
    assert check(database, how_to).ok


def test_rows_are_changed_as_a_page_says(how_to: Path, database: Path) -> None:
    migrate(database, how_to)
    assert query(database, "SELECT model, price FROM models") == [("acme/small", 0.25), ("acme/large", 3)]
    assert query(database, "SELECT exchange_id, total, vendor, model FROM exchanges") == [
        (1, 0.5, "acme", "small"),
        (2, None, None, "large"),
        (3, None, "acme", "large/2"),
        (7, 2, "", "odd"),
        (9, 1.5, None, ""),
    ]
    with pytest.raises(sqlite3.IntegrityError), closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE models SET price = -1")


def test_while_many_rows_are_changed_others_write_and_what_is_cut_short_goes_on(
    how_to: Path, database: Path
) -> None:
    migrate(database, how_to, target="5")
    others = []

    def write_as_another(statement: str) -> None:
        if statement.startswith("UPDATE exchanges"):
            with closing(sqlite3.connect(database, timeout=0)) as other, other:
                others.append(other.execute("UPDATE chats SET messages = '[1]'").rowcount)

    def cut_short(cost: str, path: str) -> object:
        if cost == '{"total": 2}':
            raise ValueError
        return json.loads(cost or "{}").get(path[2:])

    sqlite3.enable_callback_tracebacks(False)  # another package may have switched them on
    with closing(sqlite3.connect(database)) as connection:
        connection.set_trace_callback(write_as_another)
        connection.create_function("json_extract", 2, cut_short)
        with pytest.raises(StepError):
            migrate(connection, how_to, target="6")
    assert others == [2, 2, 2]
    filled = "SELECT exchange_id FROM exchanges WHERE total IS NOT NULL"
    assert query(database, filled) == [(1,)]
    assert [step.version for step in migrate(database, how_to, target="6")] == ["0006"]
    assert query(database, filled) == [(1,), (7,), (9,)]


def test_a_renamed_column_is_one_value_under_two_names_for_as_long_as_a_page_says(
    how_to: Path, database: Path
) -> None:
    migrate(database, how_to, target="8")
    names = "SELECT provider, vendor FROM exchanges WHERE exchange_id = 20"
    with closing(sqlite3.connect(database)) as older:
        for statement, value in [
            (
                "INSERT INTO exchanges (exchange_id, chat_id, model, provider) VALUES (20, 'c1', 'm', 'a')",
                "a",
            ),
            ("UPDATE exchanges SET provider = 'b' WHERE exchange_id = 20", "b"),
            ("UPDATE exchanges SET vendor = 'c' WHERE exchange_id = 20", "c"),
            ("UPDATE exchanges SET provider = NULL WHERE exchange_id = 20", None),
            ("REPLACE INTO exchanges (exchange_id, chat_id, model, vendor) VALUES (20, 'c1', 'm', 'd')", "d"),
        ]:
            older.execute(statement)
            assert older.execute(names).fetchall() == [(value, value)]


# --- From and to other tools


def test_the_commands_that_others_have_names_for_are_ours() -> None:
    table = PAGE.read_text().partition("| VMPilot |")[2].partition("\n\n")[0]
    named = set(re.findall(r"(?m)^\| `(\w+)", table))
    assert len(named) > 4
    assert named - COMMANDS.keys() == set()


def test_with_keys_on_a_rebuild_takes_the_children_along(how_to: Path, database: Path) -> None:
    migrate(database, how_to, target="3")
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.executescript(
            "CREATE TABLE uses (model TEXT REFERENCES models ON DELETE CASCADE);"
            "INSERT INTO uses VALUES ('acme/small');"
            "PRAGMA foreign_keys = ON; BEGIN; PRAGMA defer_foreign_keys = ON;"
        )
        for statement in statements(load(str(how_to), "0004_no_negative_price.up.sql")):
            connection.execute(statement)
        assert connection.execute("SELECT * FROM uses").fetchall() == []
        connection.execute("ROLLBACK")
    migrate(database, how_to, target="4")
    assert query(database, "SELECT * FROM uses") == [("acme/small",)]


ENVIRONMENT = """
from alembic import context
{function}
attributes = context.config.attributes
context.configure(
    connection=attributes["connection"], target_metadata=attributes["models"], include_name=include_name
)
with context.begin_transaction():
    context.run_migrations()
"""


@deprecated
@pytest.mark.parametrize("function", ["shown", "none"])
def test_alembic_sees_the_log_unless_it_is_told_not_to(function: str, database: Path, tmp_path: Path) -> None:
    command = pytest.importorskip("alembic.command")
    sqlalchemy = pytest.importorskip("sqlalchemy")
    [shown] = PYTHON["Alembic"]
    told = {"shown": shown.text, "none": "include_name = None"}[function]
    (tmp_path / "versions").mkdir()
    (tmp_path / "env.py").write_text(ENVIRONMENT.format(function=told))
    migrate(database)
    config = pytest.importorskip("alembic.config").Config()
    config.set_main_option("script_location", str(tmp_path))
    models = config.attributes["models"] = sqlalchemy.MetaData()
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    with engine.connect() as connection:
        models.reflect(connection, only=["chats", "exchanges"])
        connection.exec_driver_sql(
            "DELETE FROM alembic_version"
        )  # here are no scripts, so base is their head
        config.attributes["connection"] = connection
        if function == "shown":
            command.check(config)
        else:
            errors = pytest.importorskip("alembic.util").AutogenerateDiffsDetected
            with pytest.raises(errors, match=r"remove_table.*migration_log"):
                command.check(config)
    engine.dispose()


SCRIPT = """
from alembic import op
from sqlalchemy import Column, Integer
revision, down_revision = "57dc007f6d46", None
def upgrade():
    op.create_table("notes", Column("id", Integer))
"""
OFFLINE = """
from alembic import context
context.configure(dialect_name="sqlite")
context.run_migrations()
"""


@deprecated
def test_what_alembic_prints_is_no_migration(migrations: Path, database: Path, tmp_path: Path) -> None:
    command = pytest.importorskip("alembic.command")
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions/notes.py").write_text(SCRIPT)
    (tmp_path / "env.py").write_text(OFFLINE)
    printed = StringIO()
    config = pytest.importorskip("alembic.config").Config(output_buffer=printed)
    config.set_main_option("script_location", str(tmp_path))
    command.upgrade(config, "head", sql=True)
    up = migrations / "0001_notes.up.sql"
    up.write_text(printed.getvalue())
    told = "leave this line and 1 other out: the runner keeps alembic_version itself"
    with pytest.raises(HistoryError, match=f":1: {told}"):
        migrate(database, migrations)
    kept = [text for text in printed.getvalue().split(";") if "alembic_version" not in text]
    up.write_text("-- vmpilot: revision 57dc007f6d46\n" + ";".join(kept))
    assert [step.after for step in migrate(database, migrations)] == ["0001"]
    assert query(database, "SELECT version_num FROM alembic_version") == [("57dc007f6d46",)]


BRANCHES = {
    "a1": ("None", 'op.create_table("notes", Column("id", Integer))'),
    "b1": ("'a1'", 'op.add_column("notes", Column("text", Integer))'),
    "b2": ("'a1'", 'op.create_table("tags", Column("id", Integer))'),
}
BRANCH = """
from alembic import op
from sqlalchemy import Column, Integer
revision, down_revision = "{0}", {1}
def upgrade():
    {2}
"""
ONLINE = """
from alembic import context
attributes = context.config.attributes
context.configure(connection=attributes["connection"], version_table=attributes["version_table"])
with context.begin_transaction():
    context.run_migrations()
"""
# What the three scripts make.
NOTES = "CREATE TABLE notes (id INTEGER, text INTEGER); CREATE TABLE tags (id INTEGER);"


def upgraded_by_alembic(folder: Path, database: Path, version_table: str, *steps: tuple[str, ...]) -> None:
    """Run commands of Alembic, each with its arguments, on scripts with two heads."""
    command = pytest.importorskip("alembic.command")
    sqlalchemy = pytest.importorskip("sqlalchemy")
    (folder / "versions").mkdir(exist_ok=True)
    (folder / "env.py").write_text(ONLINE)
    (folder / "script.py.mako").write_text(
        "revision, down_revision = ${repr(up_revision)}, ${repr(down_revision)}\ndef upgrade():\n    pass\n"
    )
    for name, (before, does) in BRANCHES.items():
        (folder / f"versions/{name}.py").write_text(BRANCH.format(name, before, does))
    config = pytest.importorskip("alembic.config").Config(stdout=StringIO())
    config.set_main_option("script_location", str(folder))
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    with engine.connect() as connection:
        config.attributes.update(connection=connection, version_table=version_table)
        for name, *arguments in steps:
            getattr(command, name)(config, *arguments)
    engine.dispose()


@deprecated
def test_two_heads_of_alembic_are_refused_until_they_are_merged(
    migrations: Path, database: Path, tmp_path: Path
) -> None:
    upgraded_by_alembic(tmp_path, database, "alembic_version", ("upgrade", "heads"))
    write(migrations, "0001_notes", NOTES, "DROP TABLE tags; DROP TABLE notes;")
    with pytest.raises(VersionError, match=r": alembic_version holds 2 rows \("):
        migrate(database, migrations)
    upgraded_by_alembic(tmp_path, database, "alembic_version", ("merge", "heads"), ("upgrade", "head"))
    [(merged,)] = query(database, "SELECT version_num FROM alembic_version")
    write(
        migrations,
        "0001_notes",
        f"-- vmpilot: revision {merged}\n{NOTES}",
        "DROP TABLE tags; DROP TABLE notes;",
    )
    assert migrate(database, migrations) == ()
    assert check(database, migrations).ok


@deprecated
def test_a_database_with_another_version_table_is_stamped_once(
    migrations: Path, database: Path, tmp_path: Path
) -> None:
    upgraded_by_alembic(tmp_path, database, "versions_of_mine", ("upgrade", "heads"))
    write(migrations, "0001_notes", NOTES, "DROP TABLE tags; DROP TABLE notes;")
    with pytest.raises(StepError, match="table notes already exists"):
        migrate(database, migrations)
    stamp("1", database, migrations)
    assert migrate(database, migrations) == ()
    health = check(database, migrations)
    assert health.ok and any("versions_of_mine" in each for each in health.remarks)


@pytest.mark.usefixtures("surroundings")
def test_a_database_of_another_tool_is_stamped_and_published_as_a_page_says() -> None:
    if not shutil.which("sqlite3"):
        pytest.skip("no sqlite3 here")
    run(PYTHON["From and to other tools"])
    with closing(sqlite3.connect("app.db")) as theirs:
        theirs.executescript(
            "CREATE TABLE schema_migrations (version varchar(128) primary key);"
            "INSERT INTO schema_migrations VALUES ('20260101000001'), ('20260101000002');"
        )
    [stamping], [publishing] = (blocks("sh")[heading] for heading in ("From and to other tools", DATASETTE))
    python = os.path.dirname(sys.executable)
    environment = {
        "PATH": f"{python}:{os.environ['PATH']}",
        "VMPILOT_DATABASE": "app.db",
        "VMPILOT_MIGRATIONS": "migrations",
    }
    done = subprocess.run(
        ["sh", "-euc", stamping.text + publishing.text], env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("app.db is stamped 20260101000002\n", "")
    for name, tables in {"app.db": 1, "public.db": 0}.items():
        assert current(name, "migrations").version == "20260101000002"
        log = "SELECT count(*) FROM sqlite_schema WHERE name = 'migration_log'"
        assert query(Path(name), log) == [(tables,)]


DATASETTE = "Datasette, and whoever else shows all tables"


@deprecated
def test_datasette_shows_the_log_to_nobody_with_the_settings_of_a_page(database: Path) -> None:
    module = pytest.importorskip("datasette.app")
    [settings] = blocks("yaml")[DATASETTE]
    migrate(database)
    said = pytest.importorskip("yaml").safe_load(settings.text)
    given = "metadata" if pytest.importorskip("datasette").__version__.startswith("0.") else "config"

    async def asked(**options: object) -> list[int]:
        served = module.Datasette([str(database)], **options)
        await served.invoke_startup()
        paths = ("migration_log.json", "chats.json?_where=(select+1+from+migration_log)", "chats.json")
        return [(await served.client.get(f"/app/{path}")).status_code for path in paths]

    assert asyncio.run(asked()) == [200, 200, 200]
    assert asyncio.run(asked(**{given: said})) == [403, 403, 200]
