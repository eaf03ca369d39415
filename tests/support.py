"""What tests of several rooms use: writing migrations, asking a database, running the command."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def write(directory: Path, stem: str, up: str, down: str | None = "") -> None:
    """Write one migration: its pair of files, or only the up file if `down` is None."""
    (directory / f"{stem}.up.sql").write_bytes(up.encode())
    if down is not None:
        (directory / f"{stem}.down.sql").write_bytes(down.encode())


def query(database: Path, sql: str) -> list[tuple[object, ...]]:
    """Return the rows of a query on a connection of its own."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()


def command(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m vmpilot.migrate` as a process and return what became of it."""
    return subprocess.run(
        [sys.executable, "-m", "vmpilot.migrate", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        timeout=60,
        check=False,
    )
