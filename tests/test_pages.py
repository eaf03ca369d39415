"""The README's pages: their Python runs, and their migrations are applied, proved, undone and applied again.

What a page shows is what runs here: it is taken from the README, block by block.
"""

import asyncio
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import ROOT, query

from vmpilot.migrate import current, downgrade, migrate, verify

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


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand where the README's programs would: with a database from elsewhere and migrations."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "migrations", "migrations")
    migrate("elsewhere.db")


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
            return int((await rows.fetchone())[0])

    assert asyncio.run(keys()) == 1


def requested(names: Names) -> None:
    client = names["create_app"]().test_client()
    assert [client.get("/").text for _ in range(2)] == ["0", "0"]


def proved(names: Names) -> None:
    names["test_migrations_are_reversible"]()


def careful(names: Names) -> None:
    assert names["health"].ok


USES: dict[str, Callable[[Names], None]] = {
    "In an application": started,
    "Threads and processes": counted,
    "FastAPI and Starlette": served,
    "SQLAlchemy and SQLModel": mapped,
    "aiosqlite": awaited,
    "Flask": requested,
    "In CI": proved,
    "Security": careful,
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
