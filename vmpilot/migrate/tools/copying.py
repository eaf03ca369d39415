"""Whole copies of a database, by SQLite's backup API: never a file copy.

What a copy is for (a backup, putting one back, trying things out) and its name are decided elsewhere.
"""

import fcntl
import os
import re
import shutil
import sqlite3
import sys
import tempfile
import time
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ..database.connection import (
    UNCHANGED,
    Session,
    hold,
    in_transaction,
    is_lacking,
    is_sqlite3,
    rollback,
    translated,
    wait,
)
from ..database.opening import alike, reading, reading_alike
from ..errors import AccessError, MigrationError

Pages = Callable[[int, int], None]

TIME = r"[0-9]{8}T[0-9]{6}\.[0-9]{3}Z"
_KEPT = 3
_ENDING = ".tmp"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
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
    """Yield the path of a new file in a directory of its own, which only this user can enter.

    So nobody can lay a file beside it that SQLite would write to. In the end the directory is gone; what
    a killed process left is removed by the next one: nobody holds its lock.
    """
    parent, name = os.path.split(prefix)
    parent = parent or "."
    with told(parent, advice):
        _sweep(parent, name)
        directory, lock = _claimed(parent, name)
    try:
        path = os.path.join(directory, "copy")
        with told(parent, advice):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield path
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def place_of(path: str) -> str:
    """Return where the directory of a temporary file lies: what messages show of it."""
    return os.path.dirname(os.path.dirname(path)) or "."


def _claimed(parent: str, name: str) -> tuple[str, int]:
    """Make a directory and lock it; return its path and the descriptor that holds the lock."""
    while True:
        directory = tempfile.mkdtemp(prefix=f".{name}.", suffix=_ENDING, dir=parent)
        lock = os.open(directory, _DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):  # another process may have swept it before it was locked
            if os.path.samestat(os.stat(directory), os.fstat(lock)):
                return directory, lock
        os.close(lock)


def _sweep(parent: str, name: str) -> None:
    """Remove the directories that killed processes of this user left behind."""
    with os.scandir(parent) as entries:
        left = [entry.path for entry in entries if entry.name.startswith(f".{name}.")]
    for directory in left:
        if directory.endswith(_ENDING):
            with suppress(OSError):
                _remove_if_left(directory)


def _remove_if_left(directory: str) -> None:
    lock = os.open(directory, _DIRECTORY)
    try:
        if os.fstat(lock).st_uid == os.geteuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory)
    finally:
        os.close(lock)


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
    directory, needed = place_of(path), size(session)
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
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
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
    with told(place_of(path)):
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
    """Give a copy owner and mode of its database and a name for good, `<database>.<name>.<UTC time>.bak`.

    Nothing is ever replaced; of the copies with this name the newest three are kept. Returns the path.
    """
    directory = os.path.dirname(database) or "."
    with told(directory):
        make_alike(path_of_copy, database)
        path = _linked(path_of_copy, f"{database}.{name}")
        try:
            sync(directory)
        except OSError:
            os.remove(path)
            raise
    for old in backups(database, name)[_KEPT:]:
        with suppress(OSError):
            os.remove(old)
    return path


def backups(database: str, name: str) -> list[str]:
    """Return the paths of the copies of a database with this name, newest first."""
    directory, file = os.path.split(database)
    fits = re.compile(rf"{re.escape(file)}\.{re.escape(name)}\.{TIME}\.bak").fullmatch
    with suppress(OSError):
        found = sorted(filter(fits, os.listdir(directory or ".")), reverse=True)
        return [os.path.join(directory, each) for each in found]
    return []


def make_alike(path: str, database: str) -> None:
    """Give a file owner and mode of a database, through its descriptor: its path could lead elsewhere by now.

    What may not get the group of the database gets no rights for a group.
    """
    like = os.stat(database)
    mode = like.st_mode & 0o777
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        try:
            os.fchown(handle, like.st_uid, like.st_gid)
        except PermissionError:  # only root gives files away
            try:
                os.fchown(handle, -1, like.st_gid)
            except PermissionError:
                mode &= ~0o070
        os.fchmod(handle, mode)
    finally:
        os.close(handle)


def _linked(path: str, stem: str) -> str:
    """Give a file a name that no other has, after the time; return it."""
    while True:
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
        name = f"{stem}.{now}Z.bak"
        try:
            os.link(path, name)
        except FileExistsError:
            continue
        except OSError:  # a file system without links
            if os.path.lexists(name):
                continue
            os.rename(path, name)
        return name


def check_sound(session: Session, database: str) -> None:
    """Raise AccessError if the database of a session is damaged.

    No CHECK is evaluated, because it may call a function that only the application has; where even an
    index needs something of the application, nothing is checked.
    """
    with translated(session._replace(database=database)):
        for sql in (*_ONCE, "PRAGMA ignore_check_constraints = ON"):
            session.run(sql)
        try:
            found = " ".join(asked(session, "PRAGMA quick_check(1)").split())
        except sqlite3.OperationalError as error:
            if not is_lacking(error):
                raise
            return
    if found != "ok":
        raise refused(database, f"quick_check found: {found}")
