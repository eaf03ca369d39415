"""What the tests of backups and of restoring share: two migrations, and a directory of databases."""

from pathlib import Path

import pytest
from support import write


@pytest.fixture
def place(migrations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two migrations, and the directory of the databases as the current one, for short messages."""
    chats = "CREATE TABLE IF NOT EXISTS chats (id INTEGER PRIMARY KEY, text TEXT);"
    costs = "CREATE TABLE costs (chat INTEGER, cost REAL); CREATE INDEX costs_by_chat ON costs (chat);"
    write(migrations, "0001_chats", chats, "DROP TABLE chats;")
    write(migrations, "0002_costs", costs, "DROP TABLE costs;")
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "data")
    return migrations
