"""What tests of several rooms use: writing migrations, asking a database, running the command."""

import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from vmpilot.migrate.cli.commands import main

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


class Answer(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def cli(*words: str | Path) -> Answer:
    """Run one command in this process."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([str(word) for word in words])
        except SystemExit as leaving:  # help and wrong usage
            code = int(leaving.code or 0)
    return Answer(code, out.getvalue(), err.getvalue())


def timeless(text: str) -> str:
    """Return what a command printed with `N ms` in place of every time that it took."""
    return re.sub(r"\b(?:\d+\.\d m?s|\d+ ms)\b", "N ms", text)


def everything(folder: Path) -> dict[str, bytes]:
    """Return what is in all files below a directory."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextmanager
def running(*words: str, stdout: int, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command as a process, which is dead in the end.

    It is also dead after a minute, so that whoever reads what never comes does not wait for ever.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "vmpilot.migrate", *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    with process:
        try:
            yield process
        finally:
            watchdog.cancel()
            watchdog.join()
            process.kill()
def change(database: str | Path, *statements: str) -> None:
    """Do to a database what no migration knows of."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()


@contextmanager
def without_permissions() -> Iterator[None]:
    """Be someone whom the permissions of a file concern, by the real user id too, which os.access() asks."""
    root = os.geteuid() == 0
    if root:
        os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        if root:
            os.setresuid(0, 0, 0)
