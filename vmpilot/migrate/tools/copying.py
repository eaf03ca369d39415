"""Whole copies of a database, by SQLite's backup API: never a file copy.

What a copy is for (a backup, putting one back, trying things out) and its name are decided elsewhere.
"""

import os
import shutil
import sys
import tempfile
import time
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, NamedTuple

from ..database.connection import (
    UNCHANGED,
    Session,
    hold,
    in_transaction,
    is_held_up,
    is_lacking,
    is_sqlite3,
    rollback,
    translated,
    wait,
)
from ..database.opening import alike, reading, reading_alike
from ..database.soundness import damage
from ..errors import AccessError, MigrationError

Pages = Callable[[int, int], None]

_UNABLE = "this connection cannot copy its database"
ELSEWHERE = "; to have the copy elsewhere, set TMPDIR"
_BATCH_BYTES = 4 << 20
_RESTARTS = 3
_PAUSE = 0.01
# Each page is used once: mapping the file spares a copy of it, and there is no use in keeping it.
_ONCE = ("PRAGMA mmap_size = 1099511627776", "PRAGMA cache_size = 16")


class Copy(NamedTuple):
    """A private copy: its path, its size in bytes, and how long copying took."""

    path: str
    size: int
    seconds: float


@contextmanager
def private_copy(database: Any, timeout: float) -> Iterator[Copy]:
    """Copy a path or a caller's connection into a temporary file that only this user can read.

    The original is only read, and others may write to it meanwhile. In the end the file is gone.
    """
    started = time.monotonic()
    with told("the directory for temporary files", ELSEWHERE):
        directory = tempfile.gettempdir()
    with temporary(os.path.join(directory, "vmpilot"), ELSEWHERE) as path:
        with reading(database, timeout) as session:
            if size(session):
                copy(session, path, silent, ELSEWHERE)
        yield Copy(path, os.path.getsize(path), time.monotonic() - started)


def silent(done: int, total: int) -> None:
    """Report nothing of a copy."""


def refused(where: str, reason: str, advice: str = "") -> AccessError:
    """Return the error of a place where a copy cannot be made, read or put."""
    return AccessError(f"{where}: {reason}; {UNCHANGED}{advice}", database=where)


def separate(database: Any, timeout: float) -> AbstractContextManager[Session]:
    """Open a path or the file of a caller's connection for reading, on a connection of its own."""
    if isinstance(database, str):
        return reading(database, timeout)
    with reading(database, timeout) as session:
        path = session.database
    if is_sqlite3(database) or path == ":memory:":
        return reading(path, timeout)
    try:
        with alike(database, path) as other:
            other.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except Exception as error:
        advice = "; to go on without a backup, pass backup=False"
        raise refused(path, f"{_UNABLE}: {error}", advice) from error
    return reading_alike(database, path, timeout)


@contextmanager
def temporary(prefix: str, advice: str = "") -> Iterator[str]:
    """Yield the path of a new file that only this user can read; in the end it is gone."""
    path = f"{prefix}.{os.urandom(8).hex()}.tmp"
    try:
        with told(os.path.dirname(path) or ".", advice):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield path
    finally:
        for ending in ("", "-journal", "-wal", "-shm"):
            with suppress(OSError):
                os.remove(path + ending)


@contextmanager
def told(where: str, advice: str = "") -> Iterator[None]:
    """Turn an error of the system into an AccessError that does not show a temporary name."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise refused(where, reason[:1].lower() + reason[1:], advice) from error


def size(session: Session) -> int:
    """Return how many bytes the database has."""
    return int(asked(session, "PRAGMA page_count")) * int(asked(session, "PRAGMA page_size"))


def asked(session: Session, sql: str) -> Any:
    """Return the one value that a statement yields, however long its lock is held by others."""
    return wait(session, lambda: session.value(sql))


def copy(session: Session, path: str, report: Pages, advice: str) -> None:
    """Copy the database of a session into the empty file at `path`."""
    directory, needed = os.path.dirname(path) or ".", size(session)
    with told(directory, advice):
        free = shutil.disk_usage(directory).free
    room = f"a copy of {session.database} needs {needed} bytes"
    if free < needed:
        raise refused(directory, f"{room}, {free} are free", advice)
    for sql in _ONCE if session.ours else ():
        session.run(sql)
    try:
        with alike(session.connection, path) as target:
            for sql in ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", *_ONCE):
                target.execute(sql).fetchall()
            transfer(session, target, session, report)
    except Exception as error:
        if "disk is full" in str(error) or "disk I/O" in str(error):
            raise refused(directory, f"{room}: {error}", advice) from error
        if isinstance(error, MigrationError) or is_sqlite3(session.connection):
            raise
        raise refused(session.database, f"{_UNABLE}: {error}") from error


def transfer(source: Session, target: Any, waiting: Session, report: Pages) -> None:
    """Run the backup API from `source` into `target`; `waiting` is the one whose lock others may hold.

    It goes in batches, so that signals are served. With a write-ahead log they all read one snapshot.
    Without, others can write between two batches; then SQLite begins again, and after the third time
    the read lock is kept and the writers wait. https://www.sqlite.org/c3ref/backup_finish.html
    """
    deadline, left, restarts = 0.0, sys.maxsize, 0

    def progress(status: int, remaining: int, total: int) -> None:
        nonlocal deadline, left, restarts
        if is_held_up(status):
            deadline = deadline or time.monotonic() + waiting.timeout
            if time.monotonic() >= deadline:
                raise refused(waiting.database, f"locked by another process for {waiting.timeout:g} s")
            return
        deadline = 0.0
        if remaining >= left:
            restarts += 1
            if restarts == _RESTARTS:
                hold(source)
        left = remaining
        report(total - remaining, total)

    held = in_transaction(source)
    if not held and asked(source, "PRAGMA journal_mode") == "wal":
        hold(source)
    pages = max(1, _BATCH_BYTES // int(asked(source, "PRAGMA page_size")))
    try:
        source.connection.backup(target, pages=pages, progress=progress, sleep=_PAUSE)
    finally:
        if not held:
            rollback(source)


@contextmanager
def synced(path: str) -> Iterator[None]:
    """Have a file written to the disk while the body runs; in a thread, because no signal ends an fsync."""
    errors: list[OSError] = []
    running = allocate_lock()

    def work() -> None:
        try:
            sync(path)
        except OSError as error:
            errors.append(error)
        finally:
            running.release()

    running.acquire()
    try:
        start_new_thread(work, ())  # an object of threading.Thread can swallow a signal when it goes
    except RuntimeError:  # no more threads
        work()
    yield
    running.acquire()
    with told(os.path.dirname(path) or "."):
        for error in errors:
            raise error


def sync(path: str) -> None:
    """Have a file or a directory written to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def named(path_of_copy: str, database: str, name: str) -> str:
    """Give a copy the mode of its database and its name for good; return its path."""
    path = f"{database}.{name}.bak"
    directory = os.path.dirname(path) or "."
    with told(directory):
        like = os.stat(database)
        with suppress(PermissionError):  # only root gives files away
            os.chown(path_of_copy, like.st_uid, like.st_gid)
        os.chmod(path_of_copy, like.st_mode & 0o777)
        os.replace(path_of_copy, path)
        sync(directory)
    return path


def check_sound(session: Session, database: str) -> None:
    """Raise AccessError if the database of a session is damaged.

    No CHECK is evaluated, because it may call a function that only the application has; where even an
    index needs something of the application, nothing is checked.
    """
    with translated(session._replace(database=database)):
        for sql in (*_ONCE, "PRAGMA ignore_check_constraints = ON"):
            session.run(sql)
        try:
            found = wait(session, lambda: damage(session, "quick_check"))
        except session.failures as error:
            if not is_lacking(error):
                raise
            return
    if found:
        raise refused(database, f"quick_check found: {found[0]}")
