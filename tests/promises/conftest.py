"""What the tests of promises share: a place in memory, and connections beside the one that migrates."""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support import in_memory


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory in memory where there is one: no promise here is about the disk, and a disk is slow."""
    directory = Path(tempfile.mkdtemp(dir=in_memory()))
    yield directory
    shutil.rmtree(directory)


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
