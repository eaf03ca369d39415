"""Whole copies of a database: by SQLite's backup API, or VACUUM INTO in other modules; never a file copy.

What a copy is for (a backup, putting one back, trying things out) and its name are decided elsewhere.
"""

import fcntl
import os
import shutil
import stat
import sys
import tempfile
import time
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, NamedTuple

from .. import access
from ..database.connection import (
    LOCKED,
    UNCHANGED,
    Session,
    hold,
    in_transaction,
    is_full,
    is_held_up,
    is_input_output,
    is_lacking,
    is_sqlite3,
    is_there_already,
    is_told,
    note,
    rest,
    rollback,
    translated,
    wait,
)
from ..database.copies import among, path_now
from ..database.opening import SQLITE3, Connect, alike, reading
from ..database.soundness import damage, is_of_a_value
from ..errors import AccessError, MigrationError, is_of_the_caller, passed_over
from ..tokens import literal

Pages = Callable[[int, int], None]

_KEPT = 3
_PREFIX, _SUFFIX, _FILE, _ROWS = ".vmpilot.", ".tmp", "copy", "-rows"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_HANDLES = "/proc/self/fd"  # https://man7.org/linux/man-pages/man5/proc_pid_fd.5.html
_REPLACED = "another process has replaced what was copied"
_UNABLE = "this connection cannot copy its database"
ELSEWHERE = "; to have the copy elsewhere, set TMPDIR"
_BATCH_BYTES = 4 << 20
_RESTARTS = 3
_PAUSE = 0.01
# Each page is used once: mapping the file spares a copy of it, and there is no use in keeping it.
_ONCE = ("PRAGMA mmap_size = 1099511627776", "PRAGMA cache_size = 16")


class Copy(NamedTuple):
    """A private copy: its path, its descriptor, its size in bytes, and how long copying took."""

    path: str
    handle: int
    size: int
    seconds: float


class Private(NamedTuple):
    """A new file that only this user can reach: its path, its descriptor, and that of its directory."""

    path: str
    handle: int
    directory: int


@contextmanager
def private_copy(database: Any, timeout: float, connect: Connect = SQLITE3) -> Iterator[Copy]:
    """Copy a path or a caller's connection into a temporary file that only this user can read.

    `connect` is how the application opens a path. The original is only read, and others may write to it
    meanwhile. In the end the file is gone.
    """
    started = time.monotonic()
    with told("the directory for temporary files", ELSEWHERE):
        directory = tempfile.gettempdir()
    with temporary(directory, ELSEWHERE) as private:
        with reading(database, timeout, connect) as session:
            if size(session):
                copy(session, private, silent, ELSEWHERE)
        yield Copy(private.path, private.handle, os.fstat(private.handle).st_size, time.monotonic() - started)


def silent(done: int, total: int) -> None:
    """Report nothing of a copy."""


def refused(where: str, reason: str, advice: str = "") -> AccessError:
    """Return the error of a place where a copy cannot be made, read or put."""
    return AccessError(f"{where}: {reason}; {UNCHANGED}{advice}", database=where)


def separate(database: Any, timeout: float, connect: Connect = SQLITE3) -> AbstractContextManager[Session]:
    """Open a path or the file of a caller's connection for reading, on a connection of its own.

    Of another module it is the caller's own: a second one would need the key that this one was given.
    """
    if isinstance(database, str):
        return reading(database, timeout, connect)
    with reading(database, timeout) as session:
        path = session.database
    return reading(path if is_sqlite3(database) or path == ":memory:" else database, timeout)


@contextmanager
def temporary(parent: str, advice: str = "") -> Iterator[Private]:
    """Make an empty file in a directory of its own, which only this user can enter.

    So nobody can lay a file beside it that SQLite would write to. In the end the directory is gone; what
    a killed process left is removed by the next one: nobody holds its lock.
    """
    opened: list[int] = []
    directory = ""
    try:
        with told(parent, advice):
            _sweep(parent)
            while not opened:
                # Known before it is made: whatever a signal interrupts, it is removed.
                directory = os.path.join(parent, f"{_PREFIX}{os.urandom(8).hex()}{_SUFFIX}")
                os.mkdir(directory, 0o700)
                opened += _locked(directory)
            opened.append(os.open(_FILE, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600, dir_fd=opened[0]))
        yield Private(os.path.join(directory, _FILE), opened[1], opened[0])
    finally:
        try:
            _discard(directory, opened)
        except BaseException:  # a signal between two lines: it comes once
            _discard(directory, opened)
            raise


def _discard(directory: str, opened: list[int]) -> None:
    """Remove a private directory, and close what is open in it; called again where it was interrupted."""
    with passed_over(OSError):
        if opened:
            _empty(opened[0])
    with passed_over(OSError):
        os.rmdir(directory)
    while opened:
        os.close(opened.pop())


def place_of(path: str) -> str:
    """Return where the directory of a temporary file lies: what messages show of it."""
    return os.path.dirname(os.path.dirname(path)) or "."


def directory_of(path: str) -> str:
    """Return the directory in which a file lies."""
    return os.path.dirname(path) or "."


def _locked(directory: str) -> list[int]:
    """Open and lock a new directory; nothing if another process has swept it before it was locked."""
    with passed_over(FileNotFoundError):
        handle = os.open(directory, _DIRECTORY)
        try:
            with passed_over(OSError):  # a file system without locks: there nobody can sweep either
                fcntl.flock(handle, fcntl.LOCK_EX)
            if os.path.samestat(os.lstat(directory), os.fstat(handle)):
                return [handle]
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    return []


def _sweep(parent: str) -> None:
    """Remove the directories that killed processes of this user left behind."""
    with passed_over(OSError):  # one may be allowed to write to a directory but not to list it
        names = [name for name in os.listdir(parent) if name.startswith(_PREFIX) and name.endswith(_SUFFIX)]
        for name in names:
            with passed_over(OSError):
                _remove_if_left(os.path.join(parent, name))


def _remove_if_left(directory: str) -> None:
    """Remove a directory of this user that nobody has locked, and of its files only those made here."""
    handle = os.open(directory, _DIRECTORY)
    try:
        if os.fstat(handle).st_uid == os.geteuid():
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _empty(handle)
            os.rmdir(directory)
    finally:
        os.close(handle)


def _empty(directory: int) -> None:
    """Remove the file and SQLite's files beside it from a directory, by its descriptor."""
    for name in (_FILE, _FILE + _ROWS):
        for ending in ("", "-journal", "-wal", "-shm"):
            with passed_over(OSError):
                os.remove(name + ending, dir_fd=directory)


@contextmanager
def told(where: str, advice: str = "", rights: Iterable[str] = (access.WRITE,)) -> Iterator[None]:
    """Turn an error of the system into an AccessError that does not show a temporary name.

    `rights` are those that are needed to the directory or the file that is named instead.
    """
    try:
        yield
    except OSError as error:
        if is_of_the_caller(error):
            raise
        lack = access.reason(error, where, *rights)
        raise AccessError(access.told(lack, UNCHANGED) + advice, database=where) from error


def refuse_link_of_another(path: str) -> None:
    """Raise AccessError for a symbolic link of a user who owns neither this process nor what it leads to.

    Whoever can make links in a directory could have root copy, give away or overwrite what is not theirs.
    """
    with told(path), passed_over(FileNotFoundError):
        link = os.lstat(path)
        if stat.S_ISLNK(link.st_mode) and link.st_uid not in (0, os.geteuid(), os.stat(path).st_uid):
            raise refused(path, "a symbolic link of another user, expected a file or a link of yours")


def held(path: str) -> os.stat_result:
    """Return what this process has open under a path; raise AccessError if that is something else by now.

    Whoever can rename in a directory can put a link there at the moment at which SQLite opens a file, and
    take it away again: root would copy or overwrite what is not theirs.
    """
    refuse_link_of_another(path)
    with told(path):
        found = os.stat(path)
    if not _times_open(found):
        raise refused(path, "another process has replaced it")
    return found


def refuse_another(private: Private | Copy) -> None:
    """Raise AccessError if what was opened under the path of a private file is another one by now.

    Only its directory is private: in the one above, others may be able to exchange that for one of theirs.
    """
    if _times_open(os.fstat(private.handle)) == 1:  # by us alone
        raise refused(place_of(private.path), _REPLACED)


def _times_open(found: os.stat_result) -> int:
    """Return how often this process has a file open, -1 where the system does not tell."""
    try:
        handles = [int(name) for name in os.listdir(_HANDLES)]
    except OSError as error:
        if is_of_the_caller(error):
            raise
        return -1
    times = 0
    for handle in handles:
        with passed_over(OSError):  # closed since, as the one of the list itself
            times += os.path.samestat(os.fstat(handle), found)
    return times


def size(session: Session) -> int:
    """Return how many bytes the database has."""
    return int(asked(session, "PRAGMA page_count")) * int(asked(session, "PRAGMA page_size"))


def asked(session: Session, sql: str) -> Any:
    """Return the one value that a statement yields, however long its lock is held by others."""
    return wait(session, lambda: session.value(sql))


def copy(session: Session, private: Private, report: Pages, advice: str) -> None:
    """Copy the database of a session into a new private file."""
    path = private.path
    directory, needed = place_of(path), size(session)
    with told(directory, advice):
        free = shutil.disk_usage(directory).free
    room = f"a copy of {session.database} needs {needed} bytes"
    if free < needed:
        raise refused(directory, f"{room}, {free} are free", advice)
    try:
        if is_sqlite3(session.connection):
            _copy_pages(session, private, report)
        else:
            _copy_rows(session, path, report)
    except Exception as error:
        if is_of_the_caller(error):
            raise
        if is_full(error) or is_input_output(error):
            raise refused(directory, f"{room}: {error}", advice) from error
        if isinstance(error, MigrationError) or is_sqlite3(session.connection):
            raise
        raise refused(session.database, f"{_UNABLE}: {error}") from error


def _copy_pages(session: Session, private: Private, report: Pages) -> None:
    for sql in _ONCE if session.ours else ():
        session.run(sql)
    with closing(SQLITE3(private.path)) as target:
        refuse_another(private)
        for sql in ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", *_ONCE):
            target.execute(sql).fetchall()
        transfer(session, target, session, report)


def _copy_rows(session: Session, path: str, report: Pages) -> None:
    """Copy with what all modules have, and with the key of an encrypted database.

    Of one moment too, but writers wait: https://www.sqlite.org/lang_vacuum.html#vacuum_with_an_into_clause
    """
    report(0, 1)
    try:
        _vacuum(session, path)
    except session.failures as error:
        if not is_there_already(error):
            raise
        rows = f"{path}{_ROWS}"  # beside it: the empty file is open, and its name is for that file
        _vacuum(session, rows)
        shutil.copyfile(rows, path)
        os.remove(rows)
    report(1, 1)


def _vacuum(session: Session, path: str) -> None:
    wait(session, lambda: session.run(f"VACUUM INTO {literal(path)}"))


def is_readable(session: Session, path: str) -> bool:
    """Tell whether a copy can be read in the way that its session was opened: it can be encrypted."""
    try:
        with alike(session, path) as other:
            other.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except Exception as error:
        if is_of_the_caller(error):
            raise
        return False
    return True


def transfer(source: Session, target: Any, waiting: Session, report: Pages) -> None:
    """Run the backup API from `source` into `target`; `waiting` is the one whose lock others may hold.

    It goes in batches, so that signals are served. With a write-ahead log they all read one snapshot.
    Without, others can write between two batches; then SQLite begins again, and after the third time
    the read lock is kept and the writers wait. https://www.sqlite.org/c3ref/backup_finish.html
    """
    deadline, left, restarts, told = 0.0, sys.maxsize, 0, False

    def progress(status: int, remaining: int, total: int) -> None:
        nonlocal deadline, left, restarts, told
        if is_held_up(status):
            now = time.monotonic()
            deadline = deadline or now + waiting.timeout
            if now >= deadline:
                raise refused(waiting.database, f"{LOCKED} for {waiting.timeout:g} s")
            told = told or is_told(waiting, LOCKED, waiting.timeout - (deadline - now))
            rest(waiting, 0.0)  # SQLite itself has paused
            return
        deadline, told = 0.0, False
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
    except KeyboardInterrupt as stop:
        if deadline:
            note(stop, waiting, LOCKED)
        raise
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


def named(private: Private, database: str, name: str, like: os.stat_result) -> str:
    """Give a copy a name for good, `<database>.<name>.<UTC time>.bak`, and owner and mode of what was copied.

    These are `like` it. Nothing is ever replaced; of the copies with this name the newest three are kept.
    Returns the path.
    """
    directory = directory_of(database)
    with told(directory):
        whole = os.fstat(private.handle)
        if not (whole.st_size and os.path.samestat(whole, os.lstat(private.path))):
            raise refused(directory, _REPLACED)
        make_alike(private.handle, like)
        path = _linked(private, database, name)
        try:
            with passed_over(
                PermissionError
            ):  # one may be allowed to write to a directory but not to list it
                sync(directory)
        except OSError:
            os.remove(path)
            raise
    for old in copies(database, name)[_KEPT:]:
        with passed_over(OSError):
            os.remove(old)
    return path


def copies(database: str, name: str) -> list[str]:
    """Return the paths of the copies of a database with this name, newest first."""
    with passed_over(OSError):
        found = sorted(among(database, os.listdir(directory_of(database))), reverse=True)
        return [os.path.join(os.path.dirname(database), each.file) for each in found if each.name == name]
    return []


def make_alike(handle: int, like: os.stat_result) -> None:
    """Give an open file owner and mode of another: by its path, it could be another file by now.

    What may not get the group of the other gets no rights for a group.
    """
    mode = like.st_mode & 0o777
    try:
        os.fchown(handle, like.st_uid, like.st_gid)
    except PermissionError:  # only root gives files away
        try:
            os.fchown(handle, -1, like.st_gid)
        except PermissionError:
            mode &= ~0o070
    os.fchmod(handle, mode)


def _linked(private: Private, database: str, name: str) -> str:
    """Give a file a name that no other has, after the time; return it."""
    while True:
        path = path_now(database, name)
        if os.path.lexists(path):
            continue
        try:
            os.link(_FILE, path, src_dir_fd=private.directory)
        except FileExistsError:
            continue
        except OSError as error:  # a file system without links
            if is_of_the_caller(error):
                raise
            os.rename(_FILE, path, src_dir_fd=private.directory)
        return path


def check_sound(session: Session, database: str) -> str:
    """Raise AccessError if the database of a session is damaged; return what is doubtful, "" if nothing is.

    A value that its column should not hold is no damage: a copy has it, too. No CHECK is evaluated, because
    it may call a function that only the application has; where even an index needs something of the
    application, nothing is checked.
    """
    with translated(session._replace(database=database)):
        for sql in (*_ONCE, "PRAGMA ignore_check_constraints = ON"):
            session.run(sql)
        try:
            found = wait(session, lambda: damage(session, "quick_check"))
        except session.failures as error:
            if not is_lacking(error):
                raise
            return ""
    if damaged := [finding for finding in found if not is_of_a_value(finding)]:
        raise refused(database, f"quick_check found: {damaged[0]}")
    return f"quick_check found: {found[0]}" if found else ""
