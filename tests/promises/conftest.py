"""What the tests of promises share: connections beside the one that migrates."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest


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
