"""Whole copies of a database: taking a backup, putting one back, and a private copy to try things on.

Copies are made by SQLite's backup API; what is done to a copy is decided elsewhere.
"""

import os
import re
import shutil
import sqlite3
import sys
import tempfile
import time
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from typing import Any, NamedTuple

from ..database import connection as sessions
from ..database import tables as ledger
from ..database.connection import Session, located
from ..database.tables import State
from ..errors import AccessError, MigrationError, VersionError
from ..files import directory as files
from ..files import plan
from ..files.directory import History, Place
from ..files.plan import BASE
from ..files.script import checksum
from ..run import guards
from ..run.planning import Situation, look, shown

Pages = Callable[[int, int], None]

_BATCH_BYTES = 4 << 20
_RESTARTS = 3
_PAUSE = 0.01
# Each page is used once: mapping the file spares a copy of it, and there is no use in keeping it.
_ONCE = ("PRAGMA mmap_size = 1099511627776", "PRAGMA cache_size = 16")
_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite^_%' ESCAPE '^'"
_UNABLE = "this connection cannot copy its database"
ELSEWHERE = "; to have the copy elsewhere, set TMPDIR"


class Restored(NamedTuple):
    """What a restore did.

    `version` is where the database is now, None at base; `kept` is the copy of what it held before,
    None if it held nothing.
    """

    database: str
    backup: str
    version: str | None
    kept: str | None


class Copy(NamedTuple):
    """A private copy: its path, its size in bytes, and how long copying took."""

    path: str
    size: int
    seconds: float


def take(database: Any, version: str, *, timeout: float, report: Pages | None = None) -> str | None:
    """Back up a path or a caller's connection to `<database>.<version>.bak`; return that path.

    The backup is whole, checked and on the disk, or not there at all; it has the mode of the database
    and replaces an older one of its name. None if there is no database yet, or one in memory. Others
    may write meanwhile. `report` is called with the pages done and the pages of all. Raises AccessError.
    """
    with _separate(located(database), timeout) as session:
        if not _size(session):
            return None
        with _temporary(session.database) as copy:
            _copy(session, copy, report or _silent, "")
            with _synced(copy):
                found = _checked(copy, session.database)
            # Another process may have gone on since the version was read.
            name = re.sub("[^A-Za-z0-9_.]", "_", found or version)[:64]
            return _named(copy, session.database, name)


def restore(
    backup: str | os.PathLike[str],
    database: Any = None,
    migrations: "str | os.PathLike[str] | files.Entry | None" = None,
    *,
    timeout: float = 30.0,
) -> Restored:
    """Put a backup back, after keeping what the database holds now as `<database>.before-restore.bak`.

    Open connections see one state or the other. A database in WAL mode stays in it, any other gets the
    journal mode of the backup. Raises AccessError for what is no sound backup of this database, and
    VersionError for one of a version that the migration files do not know.
    """
    path, where, place = os.fsdecode(backup), located(database), files.located(migrations)
    if not isinstance(where, str | sqlite3.Connection):
        raise TypeError(f"database: expected a path or a connection of sqlite3, not {type(where).__name__}")
    if not os.path.exists(path):
        raise _refused(path, "no such file")
    if isinstance(where, str) and os.path.exists(where) and os.path.samefile(path, where):
        raise _refused(path, "the database itself, expected a backup of it")
    with sessions.reading(path, timeout) as source, sessions.snapshot(source):
        if not _size(source):
            raise _refused(path, "empty, expected a database")
        with sessions.interruptible(source, _nothing):
            _check_sound(source, path)
        version = _checked_version(source, place, where, timeout)
        kept = _keep(where, timeout)
        try:
            name = _put(source, where, timeout)
        except AccessError as error:
            if not _is_wreck(error):
                raise
            # SQLite writes to nothing but a database or an empty file; what this one held is kept.
            os.truncate(error.database, 0)
            name = _put(source, where, timeout)
    return Restored(name, path, None if version == BASE else version, kept)


@contextmanager
def private_copy(database: Any, timeout: float) -> Iterator[Copy]:
    """Copy a path or a caller's connection into a temporary file that only this user can read.

    The original is only read, and others may write to it meanwhile. In the end the file is gone.
    """
    started = time.monotonic()
    with _told("the directory for temporary files", ELSEWHERE):
        directory = tempfile.gettempdir()
    with _temporary(os.path.join(directory, "vmpilot"), ELSEWHERE) as path:
        with sessions.reading(database, timeout) as session:
            if _size(session):
                _copy(session, path, _silent, ELSEWHERE)
        yield Copy(path, os.path.getsize(path), time.monotonic() - started)


def _silent(done: int, total: int) -> None:
    pass


def _nothing() -> None:
    pass


def _refused(where: str, reason: str, advice: str = "") -> AccessError:
    return AccessError(f"{where}: {reason}; nothing was changed{advice}", database=where)


# --- copying


def _separate(database: Any, timeout: float) -> AbstractContextManager[Session]:
    """Open a path or the file of a caller's connection for reading, on a connection of its own."""
    if isinstance(database, str):
        return sessions.reading(database, timeout)
    with sessions.reading(database, timeout) as session:
        path = session.database
    if isinstance(database, sqlite3.Connection) or path == ":memory:":
        return sessions.reading(path, timeout)
    return _opened_alike(database, path, timeout)


@contextmanager
def _opened_alike(connection: Any, path: str, timeout: float) -> Iterator[Session]:
    """Open a file with the module of a connection to it: two SQLite libraries would drop each other's locks.

    https://www.sqlite.org/howtocorrupt.html#_multiple_copies_of_sqlite_linked_into_the_same_application
    """
    kind = type(connection)
    try:
        with closing(kind(path)) as other:
            other.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except Exception as error:
        raise _refused(
            path, f"{_UNABLE}: {error}", "; to go on without a backup, pass backup=False"
        ) from error
    with closing(kind(path)) as other, sessions.reading(other, timeout) as session:
        yield session


@contextmanager
def _temporary(prefix: str, advice: str = "") -> Iterator[str]:
    """Yield the path of a new file that only this user can read; in the end it is gone."""
    path = f"{prefix}.{os.urandom(8).hex()}.tmp"
    try:
        with _told(os.path.dirname(path) or ".", advice):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield path
    finally:
        for ending in ("", "-journal", "-wal", "-shm"):
            with suppress(OSError):
                os.remove(path + ending)


@contextmanager
def _told(where: str, advice: str = "") -> Iterator[None]:
    """Turn an error of the system into an AccessError that does not show a temporary name."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise _refused(where, reason[:1].lower() + reason[1:], advice) from error


def _size(session: Session) -> int:
    """Return how many bytes the database has."""
    return int(_asked(session, "PRAGMA page_count")) * int(_asked(session, "PRAGMA page_size"))


def _asked(session: Session, sql: str) -> Any:
    """Return the one value that a statement yields, and leave no statement open."""
    sessions.wait(session, sql)
    return session.cursor.fetchall()[0][0]


def _copy(session: Session, path: str, report: Pages, advice: str) -> None:
    """Copy the database of a session into the empty file at `path`."""
    directory, size = os.path.dirname(path) or ".", _size(session)
    with _told(directory, advice):
        free = shutil.disk_usage(directory).free
    room = f"a copy of {session.database} needs {size} bytes"
    if free < size:
        raise _refused(directory, f"{room}, {free} are free", advice)
    for sql in _ONCE if session.ours else ():
        session.cursor.execute(sql)
    known = isinstance(session.connection, sqlite3.Connection)
    connect = sqlite3.connect if known else type(session.connection)
    try:
        with closing(connect(path)) as target:
            for sql in ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", *_ONCE):
                target.execute(sql).fetchall()
            _transfer(session, target, session, report)
    except Exception as error:
        if "disk is full" in str(error) or "disk I/O" in str(error):
            raise _refused(directory, f"{room}: {error}", advice) from error
        if isinstance(error, MigrationError) or known:
            raise
        raise _refused(session.database, f"{_UNABLE}: {error}") from error


def _transfer(source: Session, target: Any, waiting: Session, report: Pages) -> None:
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
                raise _refused(waiting.database, f"locked by another process for {waiting.timeout:g} s")
            return
        deadline = 0.0
        if remaining >= left:
            restarts += 1
            if restarts == _RESTARTS:
                _hold(source)
        left = remaining
        report(total - remaining, total)

    held = sessions.in_transaction(source)
    if not held and _asked(source, "PRAGMA journal_mode") == "wal":
        _hold(source)
    pages = max(1, _BATCH_BYTES // int(_asked(source, "PRAGMA page_size")))
    try:
        source.connection.backup(target, pages=pages, progress=progress, sleep=_PAUSE)
    finally:
        if not held:
            sessions.rollback(source)


def _hold(session: Session) -> None:
    """Begin a transaction that holds the read lock."""
    session.cursor.execute("BEGIN")
    sessions.wait(session, "SELECT 1 FROM sqlite_master LIMIT 1")
    session.cursor.fetchall()


@contextmanager
def _synced(path: str) -> Iterator[None]:
    """Have a file written to the disk while the body runs; in a thread, because no signal ends an fsync."""
    errors: list[OSError] = []
    running = allocate_lock()

    def sync() -> None:
        try:
            _sync(path)
        except OSError as error:
            errors.append(error)
        finally:
            running.release()

    running.acquire()
    try:
        start_new_thread(sync, ())  # an object of threading.Thread can swallow a signal when it goes
    except RuntimeError:  # no more threads
        sync()
    yield
    running.acquire()
    with _told(os.path.dirname(path) or "."):
        for error in errors:
            raise error


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _named(copy: str, database: str, name: str) -> str:
    """Give a copy the mode of its database and its name for good; return its path."""
    path = f"{database}.{name}.bak"
    directory = os.path.dirname(path) or "."
    with _told(directory):
        like = os.stat(database)
        with suppress(PermissionError):  # only root gives files away
            os.chown(copy, like.st_uid, like.st_gid)
        os.chmod(copy, like.st_mode & 0o777)
        os.replace(copy, path)
        _sync(directory)
    return path


def _checked(copy: str, database: str) -> str:
    """Return what the log in a sound copy calls its version, empty if it does not tell."""
    with sessions.reading(copy, 0) as session, sessions.interruptible(session, _nothing):
        _check_sound(session, database)
        state = ledger.read(session.cursor, database)
    if not state.value:
        return BASE
    return next((record.version for record in state.log if record.to_version == state.value), "")


def _check_sound(session: Session, database: str) -> None:
    """Raise AccessError if the database of a session is damaged.

    No CHECK is evaluated, because it may call a function that only the application has; where even an
    index needs something of the application, nothing is checked.
    """
    with sessions.translated(session._replace(database=database)):
        for sql in (*_ONCE, "PRAGMA ignore_check_constraints = ON"):
            session.cursor.execute(sql)
        try:
            found = " ".join(_asked(session, "PRAGMA quick_check(1)").split())
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_ERROR:
                raise
            return
    if found != "ok":
        raise _refused(database, f"quick_check found: {found}")


# --- restoring


def _checked_version(source: Session, place: Place, where: Any, timeout: float) -> str:
    """Return the version of a backup; raise MigrationError if it is none of these migrations' databases."""
    history, path = files.discover(place), source.database
    state = ledger.read(source.cursor, path)
    situation = look(state, place, history)
    at, version = situation.position, shown(situation)
    if not situation.known or (at and not situation.timeline[at - 1].up):
        known = f"this code knows only {plan.known(history)}"
        raise VersionError(f"{path} is at {version}, but {known}; nothing was changed", version=version)
    if state == State("", ()):
        foreign = _foreign_tables(source, place, history, where, timeout)
    else:
        foreign = _foreign_migrations(situation, place)
    if foreign:
        raise _refused(path, f"a database of another project, with {foreign}")
    return version


def _foreign_tables(source: Session, place: Place, history: History, where: Any, timeout: float) -> str:
    """Name the tables of a database without a version if none is known here: it may be an old one of ours."""
    found = _tables(source)
    scripts = (files.load(place, migration.up) for migration in history)
    known = {table for script in scripts for table in guards.tables(script, "create")}
    with suppress(MigrationError), sessions.reading(where, timeout) as session:
        known |= _tables(session)
    if {name.lower() for name in known} & {name.lower() for name in found}:
        return ""
    return "the tables " + ", ".join(sorted(found)) if found else ""


def _tables(session: Session) -> set[str]:
    sessions.wait(session, _TABLES)
    return {name for (name,) in session.cursor.fetchall()} - ledger.TABLES.keys()


def _foreign_migrations(situation: Situation, place: Place) -> str:
    """Name the migrations that were applied if each has another name and other statements here."""
    names = []
    for migration in situation.timeline[: situation.position]:
        record = situation.applied.records.get(migration.number)
        if not record or not record.checksum or record.name == migration.name:
            return ""
        if record.checksum == checksum(files.load(place, migration.up)):
            return ""
        names.append(f"{record.version}_{record.name}")
    return "the migrations " + ", ".join(names) if names else ""


def _keep(database: Any, timeout: float) -> str | None:
    """Copy what a database holds, sound or not, to `<database>.before-restore.bak`; return that path."""
    try:
        with _separate(database, timeout) as session:
            if not _size(session):
                return None
            with _temporary(session.database) as copy:
                _copy(session, copy, _silent, "")
                return _kept(copy, session.database)
    except AccessError as error:
        if not _is_wreck(error):
            raise
        path = error.database
    with _temporary(path) as copy, _told(os.path.dirname(path) or "."):
        shutil.copyfile(path, copy)
        return _kept(copy, path)


def _kept(copy: str, database: str) -> str:
    with _synced(copy):
        pass
    return _named(copy, database, "before-restore")


def _is_wreck(error: AccessError) -> bool:
    """Tell whether SQLite refused a file because it is no database any more."""
    code = getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _put(source: Session, where: Any, timeout: float) -> str:
    """Replace what a database holds by what `source` holds, in one transaction; return its name."""
    created = isinstance(where, str) and not os.path.exists(where)
    with sessions.writing(where, timeout) as session, sessions.translated(session):
        if created:
            os.chmod(where, os.stat(source.database).st_mode & 0o777)
        # While SQLite itself waits for the last readers, it lets no new ones in.
        _asked(session, "PRAGMA busy_timeout = 100")
        _size(session)
        # A write-ahead log is bound to its page size.
        resized = _asked(session, "PRAGMA journal_mode") == "wal" and (
            _asked(session, "PRAGMA page_size") != _asked(source, "PRAGMA page_size")
        )
        if resized:
            _asked(session, "PRAGMA journal_mode = DELETE")
        try:
            _transfer(source, session.connection, session, _silent)
        finally:
            if resized:
                _asked(session, "PRAGMA journal_mode = WAL")
        return session.database
