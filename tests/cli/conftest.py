"""What the tests of the command line share: a directory and three migrations."""

from pathlib import Path

import pytest
from support import write


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a directory of one's own, and name its database and migrations in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("VMPILOT_DATABASE", "app.db")
    monkeypatch.setenv("VMPILOT_MIGRATIONS", "migrations")
    for name in ("NO_COLOR", "TERM", "PYTHONIOENCODING"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def three(migrations: Path) -> Path:
    """Three migrations, of which the first declares a revision."""
    write(
        migrations,
        "0001_notes",
        "-- vmpilot: revision 57dc007f6d46\n"
        "CREATE TABLE notes (body TEXT);\nINSERT INTO notes VALUES ('one');",
        "DROP TABLE notes;",
    )
    write(migrations, "0002_at", "ALTER TABLE notes ADD at TEXT;", "ALTER TABLE notes DROP at;")
    write(migrations, "0003_index", "CREATE INDEX by_at ON notes (at);", "DROP INDEX by_at;")
    return migrations
