"""From what a caller names to an open connection, and everything back as it was at the end.

A path is opened here; a caller's connection is borrowed: put into autocommit mode, with plain rows and
texts, whatever module it is of.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from functools import partial

from .. import access
from ..access import WRITE
from ..errors import AccessError, is_of_the_caller, passed_over
from ..typed import Any
from .connection import (
    UNCHANGED,
    Session,
    in_transaction,
    interruptible,
    is_connection,
    is_held_up,
    is_of_a_database,
    is_sqlite3,
    put_back,
    refused,
    rollback,
    translated,
    wait,
)
from .names import DEFAULT_NAME, default, is_missing, misnamed
from .permissions import denial, has_temporary_place, is_place, led_to, unwritable
from .settings import setting

Connect = Callable[[str], Any]
SQLITE3: Connect = sqlite3.connect
# What is switched while a connection is borrowed, where its module has it.
_SWITCHED = ("text_factory", "isolation_level", "autocommit")


@contextmanager
def reading(database: Any, timeout: float, connect: Connect = SQLITE3) -> Iterator[Session]:
    """Open a path or a caller's connection to look at it.

    Never writes and never creates: a missing file reads as an empty database. `connect` is how the
    application opens a path; what that itself leaves behind is its own. Raises AccessError.
    """
    found = opened(database, timeout, connect) or _own(database, "memory", timeout, ":memory:")
    with found as session, interruptible(session), translated(session):
        yield session


def opened(database: Any, timeout: float, connect: Connect) -> AbstractContextManager[Session] | None:
    """Open a path or a caller's connection so that looking at it leaves no trace; None for a missing file.

    At its end no transaction is left open; signals and errors are left to the caller.
    """
    if not isinstance(database, str):
        return _borrowed(database, timeout)
    kind = _kind(database)
    if kind == "nothing" or (kind == "other" and is_missing(database)):
        return None
    if connect is not SQLITE3:
        return _connected(database, database, timeout, connect)
    if kind == "file":  # nearly always, and with this nothing is asked twice
        return _own(database, _reading_mode(database), timeout)
    _refuse_special(database)
    return _own(database, _reading_mode(led_to(database)), timeout)


@contextmanager
def writing(database: Any, timeout: float, connect: Connect = SQLITE3) -> Iterator[Session]:
    """Open a path (creating the file) or a caller's connection, with foreign keys off.

    Whether this process may write there is asked before, by `refuse_unwritable`. `connect` is how the
    application opens a path. With foreign keys on, the DROP TABLE of a table rebuild
    deletes the rows that refer to it, and inside a transaction they cannot be switched:
    https://www.sqlite.org/pragma.html#pragma_foreign_keys Raises AccessError.
    """
    made = _writer(database, timeout, connect) if isinstance(database, str) else _borrowed(database, timeout)
    with made as session, changing(session):
        yield session


@contextmanager
def changing(session: Session) -> Iterator[None]:
    """Do what `writing` does with a database that is open already."""
    if session.writable and not has_temporary_place():
        _sort_beside(session)
    with interruptible(session), _without_keys(session):
        try:
            yield
        finally:
            rollback(session)  # an interrupted BEGIN may have begun one all the same


@contextmanager
def _without_keys(session: Session) -> Iterator[None]:
    """Switch foreign keys off inside, and on again behind it if they were; ours is closed then."""
    with translated(session):
        keys = "" if session.ours else wait(session, lambda: setting(session, "foreign_keys"))
    on = partial(wait, session, lambda: session.run("PRAGMA foreign_keys = ON"))
    left = iter([on] if keys == "1" else [])
    try:
        try:
            with translated(session):
                wait(session, lambda: session.run("PRAGMA foreign_keys = OFF"))
            yield
        finally:
            put_back(session, left)
    finally:
        put_back(session, left)


@contextmanager
def scratch(
    path: str = ":memory:",
    database: str = ":memory:",
    timeout: float = 0.0,
    connect: Connect = SQLITE3,
) -> Iterator[Session]:
    """Open a private database on which migrations are played: an empty one in memory, or a copy at `path`.

    `database` is what messages call it. `connect` is how the application opens a path: with its own SQL
    functions, collations and extensions. Foreign keys are off, as in a run. Raises AccessError if what
    `connect` opens is another database, because nothing may be written to that.
    """
    with _connected(path, database, timeout, connect) as session, interruptible(session):
        _check_empty(session, path)
        with translated(session):
            session.run("PRAGMA foreign_keys = OFF")
            if not has_temporary_place():
                session.run("PRAGMA temp_store = MEMORY")
            yield session


@contextmanager
def _connected(path: str, database: str, timeout: float, connect: Connect) -> Iterator[Session]:
    """Open a path as the application does; `database` is what messages call it.

    Raises AccessError if that is another database: nobody has asked to look at it, or to change it.
    """
    try:
        connection = connect(path)
        usable = is_connection(connection)  # of a closed one, an error of its module
    except AccessError as error:  # in the name of what it was called with, which can be that of a copy
        told = str(error) if database == ":memory:" else f"{database}: {error}"
        raise AccessError(told, database=None if database == ":memory:" else database) from error
    except Exception as error:
        if not is_of_a_database(error) or is_of_the_caller(error):
            raise
        raise refused(database, error, UNCHANGED) from error
    if not usable:
        raise misnamed(connection, "connect: expected an open connection")
    with closing(connection), _borrowed(connection, timeout, database) as session:
        file = session.database
        if os.path.realpath(file) != os.path.realpath(path):
            told = f"{file}: connect opened this, not what it was asked for; {UNCHANGED}"
            raise AccessError(told, database=file)
        ours, converts = hasattr(connection, "set_progress_handler"), connect is not SQLITE3
        made = session._replace(database=database, ours=ours, converts=converts)
        yield made._replace(handlers=[], opens=connect, writable=True)


def _check_empty(session: Session, path: str) -> None:
    """Raise AccessError if a scratch database in memory has something in it."""
    from ..tokens import plain  # not loaded by a start-up that runs no statement

    if path == ":memory:" and (found := session.value("SELECT +name FROM sqlite_master")):
        told = f"connect opened a database with {plain(found)} in it, expected an empty one"
        raise AccessError(f"{path}: {told}; {UNCHANGED}", database=path)


@contextmanager
def scratch_like(session: Session) -> Iterator[Session]:
    """Open an empty private database in memory that has the functions and collations of a connection.

    They are called where they are, on that connection, for which it must be at hand meanwhile. What only a
    module of the application knows (a virtual table, a tokenizer, a window function) lacks here too.
    """
    from .delegation import delegate

    with scratch() as empty:
        delegate(session, empty)
        yield empty


@contextmanager
def alike(session: Session, path: str) -> Iterator[Any]:
    """Open a file in the way of a session: two SQLite libraries would drop each other's locks.

    https://www.sqlite.org/howtocorrupt.html#_multiple_copies_of_sqlite_linked_into_the_same_application
    """
    from .apsw import adapted  # needed by copies only

    with closing(adapted(session.opens(path))) as other:
        yield other


def _connect(path: str, mode: str) -> sqlite3.Connection:
    """Open a file with the parameters of a URI: https://www.sqlite.org/uri.html"""
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    start = "file://" if path.startswith("/") else "file:"
    name = ":memory:" if path == ":memory:" else f"{start}{quoted}?mode={mode}"
    try:
        # No statement is kept for the next time: hardly one is run twice before the schema has changed.
        return sqlite3.connect(name, uri=True, timeout=0, isolation_level=None, cached_statements=0)
    except sqlite3.Error as error:
        if is_of_the_caller(error):
            raise
        if not denial(path, error) and (odd := _misplaced(path)):
            raise AccessError(f"{path}: {odd}; {UNCHANGED}", database=path) from error
        raise refused(path, error, UNCHANGED) from error


def _kind(path: str) -> str:
    """Return whether a path is that of a file, of nothing, or other: that can be a link to either."""
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        if is_of_the_caller(error):
            raise
        return "nothing" if isinstance(error, FileNotFoundError | NotADirectoryError) else "other"
    return "file" if stat.S_ISREG(mode) else "other"


def _refuse_special(path: str) -> None:
    """Raise AccessError for a pipe and the like: SQLite would wait for it, through every signal."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:  # there is none
        if is_of_the_caller(error):
            raise
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise AccessError(f"{path}: no regular file, expected a database; {UNCHANGED}", database=path)


def _misplaced(path: str) -> str:
    """Return why no database can be where a path leads, nothing if one can."""
    parent = os.path.dirname(path) or "."
    if os.path.isdir(path):
        return "is a directory, expected a database file"
    return "" if os.path.isdir(parent) else f"no such directory: {parent}"


class _own:
    """Open a file and close it again, its cursor too: one that an error keeps alive keeps the file's locks.

    `name` is what is opened in its place, if not itself.
    """

    def __init__(self, path: str, mode: str, timeout: float, name: str = "") -> None:
        self.path, self.mode, self.timeout, self.name = path, mode, timeout, name

    def __enter__(self) -> Session:
        self.connection = connection = _connect(self.name or self.path, self.mode)
        self.cursor = cursor = connection.cursor()
        can_write = self.mode[:2] == "rw"
        return Session(
            connection, cursor, self.path, self.timeout, handlers=[], parents={}, writable=can_write
        )

    def __exit__(self, *error: object) -> None:
        try:
            self.cursor.close()
        finally:
            self.connection.close()


@contextmanager
def _writer(path: str, timeout: float, connect: Connect) -> Iterator[Session]:
    if _is_default(path):
        _make_private(path)
    if connect is SQLITE3:
        _refuse_special(path)
        made: AbstractContextManager[Session] = _own(path, "rwc", timeout)
    else:
        made = _connected(path, path, timeout, connect)
    with made as session:
        yield session


def _make_private(path: str) -> None:
    """Make the default database, and its directory, for this user alone; what is there keeps its mode.

    Chats are private, and SQLite gives what it creates the mode that the umask leaves, to a log and a journal
    that of the database: https://www.sqlite.org/src/file/src/os_unix.c The umask is of the whole process, in
    which other threads create files. Not opened, because closing it would drop the locks that another thread
    may have by then: https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks
    """
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    except OSError as error:
        if is_of_the_caller(error):
            raise
        lack = access.reason(error, os.path.dirname(path), WRITE)
        raise AccessError(access.told(lack, UNCHANGED), database=path) from error
    with passed_over(OSError):  # it is there; or SQLite will tell what is wrong
        os.mknod(path, stat.S_IFREG | 0o600)


def _sort_beside(session: Session) -> None:
    """Have SQLite put temporary files beside the database, or in memory where it cannot be told a directory.

    A sort, a VACUUM and a long statement need them. The directory counts for all connections of the process,
    which have none either; so it is set once, and never changed while others may look at it:
    https://www.sqlite.org/pragma.html#pragma_temp_store_directory
    """
    directory = os.path.dirname(os.path.realpath(session.database))
    with passed_over(*session.failures):  # a SQLite without what is deprecated, or no directory for it
        if not session.value("PRAGMA temp_store_directory"):
            from ..tokens import literal  # not loaded by a start-up, which sorts nothing

            session.run(f"PRAGMA temp_store_directory = {literal(directory)}")
    if not is_place(session.value("PRAGMA temp_store_directory") or ""):
        session.run("PRAGMA temp_store = MEMORY")


def refuse_unwritable(database: Any) -> None:
    """Raise AccessError for a path that this process may not write to, before anything is done.

    A caller's connection is left to SQLite: it may have been opened by one who may.
    """
    if not isinstance(database, str):
        return
    if (odd := _misplaced(database)) and not access.lacking(database) and not _is_default(database):
        raise AccessError(f"{database}: {odd}; {UNCHANGED}", database=database)
    if lack := unwritable(database):
        raise AccessError(access.told(lack, UNCHANGED), database=database)


def _is_default(path: str) -> bool:
    if os.path.basename(path) != DEFAULT_NAME:  # nearly always, and much quicker
        return False
    try:
        return path == default()
    except AccessError:
        return False


def _reading_mode(path: str) -> str:
    """Return the URI parameters with which looking at a file leaves no trace.

    Where there is a write-ahead log, a connection that may write would empty it on closing; where
    there is none, one that may not write would leave a new one behind, and needs to write to a
    directory to do so: https://www.sqlite.org/wal.html#read_only_databases
    """
    if _has_log(path):
        return "ro"
    directory = path[: path.rfind("/") + 1] or os.curdir
    if not (access.may(directory, WRITE) and access.may(path, WRITE)) and os.path.isfile(path):
        if os.path.lexists(path + "-shm"):  # others have it open: it can change
            return "ro"
        # What may not be read, SQLite itself will refuse.
        with passed_over(OSError), open(path, "rb") as file:
            if file.read(20)[18:] == b"\x02\x02":
                return "ro&immutable=1"
    return "rw"


def _has_log(path: str) -> bool:
    try:
        return access.may(path + "-wal") and os.stat(path + "-wal").st_size > 0
    except OSError as error:  # none, or just removed by another
        if is_of_the_caller(error):
            raise
        return False


@contextmanager
def _borrowed(connection: Any, timeout: float, called: str = "the connection") -> Iterator[Session]:
    """Put a caller's connection into autocommit mode, and everything back as it was at the end.

    `called` is what messages call it before its file is known.
    """
    from .apsw import adapted  # not loaded by a start-up that names a path

    opens = SQLITE3 if is_sqlite3(connection) else type(connection)
    connection = adapted(connection)
    session = Session(connection, None, called, timeout, ours=False, converts=True, opens=opens, parents={})
    with translated(session):
        usable = is_connection(connection)
    if not usable:
        raise misnamed(connection, "database: expected a path, a sqlite:///PATH URL or an open connection")
    with translated(session):
        files = wait(session, lambda: _files(session))
        session = session._replace(database=files["main"] or ":memory:", cursor=_tuples(connection))
        patience = wait(session, lambda: setting(session, "busy_timeout"))
        kept = {name: getattr(connection, name) for name in _SWITCHED if hasattr(connection, name)}
    steps: list[Callable[[], object]] = [
        lambda: wait(session, lambda: session.run(f"PRAGMA busy_timeout = {patience or 0}")),
        session.cursor.close,  # until then libsql keeps the last statement open
        *(partial(_switch, connection, name, value) for name, value in kept.items()),
    ]
    left = iter(steps)
    try:
        try:
            with translated(session):
                wait(session, lambda: session.run("PRAGMA busy_timeout = 0"))
                _leave_transaction(session, files)
                steps.insert(0, partial(rollback, session))  # from now on it can only be one of ours
                _make_plain(connection, kept)
            yield session
        finally:
            put_back(session, left)
    finally:
        put_back(session, left)


def _tuples(connection: Any) -> Any:
    """Return a cursor whose rows are tuples, whatever they are for the caller."""
    cursor = connection.cursor()
    if hasattr(cursor, "row_factory"):
        cursor.row_factory = None
    return cursor


def _files(session: Session) -> dict[str, str]:
    """Return the file of each database of a connection, empty for one in memory."""
    connection = session.connection
    texts = getattr(connection, "text_factory", str)
    try:
        if texts is not str:
            connection.text_factory = str
        found = session._replace(cursor=_tuples(connection)).rows("PRAGMA database_list")
        return {name: file or "" for _, name, file in found}
    finally:
        if texts is not str:
            connection.text_factory = texts


def _leave_transaction(session: Session, files: Iterable[str]) -> None:
    """End an open transaction that changed nothing; raise AccessError if it may have changed something."""
    if not in_transaction(session):
        return
    if not is_sqlite3(session.connection) or any(_has_changes(session, name) for name in files):
        raise AccessError(
            f"{session.database}: the connection has an open transaction with changes; {UNCHANGED}; "
            "commit or roll back first",
            database=session.database,
        )
    session.connection.rollback()


def _has_changes(session: Session, name: str) -> bool:
    """Tell whether the open transaction has written: then the backup API finds the source busy.

    So it does while another connection keeps readers out; that is waited for first.
    https://www.sqlite.org/c3ref/backup_finish.html
    """
    from ..tokens import quoted  # not loaded by a start-up that runs no statement

    codes: list[int] = []

    def stop(code: int, remaining: int, total: int) -> None:
        codes.append(code)
        raise InterruptedError

    wait(session, lambda: session.run(f"SELECT 1 FROM {quoted(name)}.sqlite_master LIMIT 1"))
    with closing(sqlite3.connect(":memory:")) as copy, suppress(InterruptedError):
        session.connection.backup(copy, pages=1, progress=stop, name=name)
    return any(map(is_held_up, codes))


def _make_plain(connection: Any, kept: dict[str, Any]) -> None:
    """Switch off what a module does on its own."""
    plain: dict[str, Any] = {"text_factory": str, "isolation_level": None}
    if kept.get("autocommit") in (True, False):
        plain = {"text_factory": str, "autocommit": True}  # Python 3.12 and newer
    for name, value in plain.items():
        # Some modules lack an attribute or do not let it be set; our own BEGIN serves there too.
        with passed_over(AttributeError):
            _switch(connection, name, value)


def _switch(connection: Any, name: str, value: Any) -> None:
    """Set an attribute if it is another: Python 3.11 commits when an isolation level is set to None."""
    if getattr(connection, name) != value:
        setattr(connection, name, value)
