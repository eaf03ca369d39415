"""What the tests of promises share: connections beside the one that migrates, and a place for other users."""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support import in_memory


@pytest.fixture
def connection(database: Path) -> Iterator[sqlite3.Connection]:
    """The connection of a caller, open, which does not wait for the disk."""
    with closing(sqlite3.connect(database, isolation_level=None, check_same_thread=False)) as opened:
        opened.execute("PRAGMA synchronous = OFF")
        yield opened


@pytest.fixture
def other(database: Path) -> Iterator[sqlite3.Connection]:
    """The connection of somebody else, which waits for nothing."""
    with closing(sqlite3.connect(database, isolation_level=None, timeout=0)) as opened:
        yield opened


@pytest.fixture
def shelf() -> Iterator[Path]:
    """A directory that other users can enter, with `migrations` in it, and `place` for a database."""
    directory = Path(tempfile.mkdtemp(dir=in_memory()))
    directory.chmod(0o755)
    inside = [directory / name for name in ("migrations", "place")]
    for each in inside:
        each.mkdir()
    yield directory
    for each in inside:
        each.chmod(0o755)
    shutil.rmtree(directory)
