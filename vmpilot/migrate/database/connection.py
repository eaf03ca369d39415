"""Opening a database, waiting for locks, transactions, and connection settings.

What is done to the database is decided elsewhere: no migration and no version enters here.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any, NamedTuple

from ..errors import AccessError, MigrationError

# Settings of a connection that a statement can change and that neither COMMIT nor ROLLBACK puts back:
# https://www.sqlite.org/pragma.html
SETTINGS = frozenset(
    (
        "analysis_limit",
        "automatic_index",
        "busy_timeout",
        "cache_size",
        "cache_spill",
        "case_sensitive_like",
        "cell_size_check",
        "checkpoint_fullfsync",
        "count_changes",
        "defer_foreign_keys",
        "empty_result_callbacks",
        "foreign_keys",
        "full_column_names",
        "fullfsync",
        "ignore_check_constraints",
        "journal_mode",
        "journal_size_limit",
        "legacy_alter_table",
        "locking_mode",
        "max_page_count",
        "mmap_size",
        "query_only",
        "read_uncommitted",
        "recursive_triggers",
        "reverse_unordered_selects",
        "secure_delete",
        "short_column_names",
        "synchronous",
        "temp_store",
        "threads",
        "trusted_schema",
        "wal_autocheckpoint",
        "writable_schema",
    )
)
_BUSY, _PROTOCOL, _LOCKED_SHAREDCACHE = 5, 15, 262
_UNCHANGED = "nothing was changed"
_LONGEST_PAUSE = 0.05
_INSTRUCTIONS_PER_TICK = 50_000
_ROWS = 64


class Session(NamedTuple):
    """An open connection in autocommit mode; `timeout` is how many seconds to wait for a lock.

    `ours` tells that the connection was opened here, so that its progress handler is free to use.
    """

    connection: Any
    cursor: Any
    database: str
    timeout: float
    ours: bool = True


def located(database: Any) -> Any:
    """Return the path that a caller means by None, a path or a `sqlite:///` URL; a connection as it is.

    None is $VMPILOT_DATABASE, else `/app/data/vmpilot.db` where `/app/data` exists (a container),
    else `~/.vmpilot/vmpilot.db`.
    """
    if database is None:
        return located(os.environ.get("VMPILOT_DATABASE") or _default())
    if not isinstance(database, str | os.PathLike):
        return database
    path = os.fspath(database)
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    path = path.removeprefix("sqlite:///")
    if not path:
        raise AccessError("the path of the database is empty; nothing was changed")
    return path


def _default() -> str:
    if os.path.isdir("/app/data"):
        return "/app/data/vmpilot.db"
    return os.path.join(os.path.expanduser("~"), ".vmpilot", "vmpilot.db")


@contextmanager
def reading(database: Any, timeout: float) -> Iterator[Session]:
    """Open a path or a caller's connection to look at it.

    Never writes and never creates: a missing file reads as an empty database. Raises AccessError.
    """
    opened = _reader(database, timeout) if isinstance(database, str) else _borrowed(database, timeout)
    with opened as session, translated(session):
        yield session


@contextmanager
def snapshot(session: Session, fate: str = _UNCHANGED) -> Iterator[None]:
    """Let all reads inside see the database at one moment."""
    session.cursor.execute("BEGIN")
    try:
        wait(session, "SELECT 1 FROM sqlite_master LIMIT 1", fate=fate)
        session.cursor.fetchall()
        yield
    finally:
        rollback(session)


@contextmanager
def writing(database: Any, timeout: float) -> Iterator[Session]:
    """Open a path (creating the file) or a caller's connection, with foreign keys off.

    With foreign keys on, the DROP TABLE of a table rebuild deletes the rows that refer to it, and
    inside a transaction they cannot be switched: https://www.sqlite.org/pragma.html#pragma_foreign_keys
    Raises AccessError.
    """
    opened = _writer(database, timeout) if isinstance(database, str) else _borrowed(database, timeout)
    with opened as session:
        with translated(session):
            keys = setting(session, "foreign_keys")
        try:
            with translated(session):
                session.cursor.execute("PRAGMA foreign_keys = OFF")
            yield session
        finally:
            rollback(session)  # an interrupted BEGIN may have begun one all the same
            if keys == "1":
                with suppress(*_failures(session.connection)):
                    session.cursor.execute("PRAGMA foreign_keys = ON")


def wait(
    session: Session, sql: str, reason: str = "locked by another process", fate: str = _UNCHANGED
) -> None:
    """Execute `sql`, again and again while another connection holds a lock that it needs.

    The pauses are ours, not SQLite's, because a signal is served between them. Raises AccessError
    with `reason` and `fate` when the timeout, counted from the first refusal, is over.
    """
    deadline, pause = 0.0, 0.001
    while True:
        try:
            session.cursor.execute(sql)
            return
        except Exception as error:
            if not is_busy(error):
                raise
            now = time.monotonic()
            deadline = deadline or now + session.timeout
            if now >= deadline:
                message = f"{session.database}: {reason} for {session.timeout:g} s; {fate}"
                raise AccessError(message, database=session.database) from error
        time.sleep(min(pause, deadline - now))
        pause = min(2 * pause, _LONGEST_PAUSE)


def begin(session: Session, fate: str) -> None:
    """Begin a transaction that holds the write lock from its start.

    A deferred one that reads first and writes later fails at once, whatever the timeout:
    https://www.sqlite.org/lang_transaction.html
    """
    with translated(session, fate):
        wait(session, "BEGIN IMMEDIATE", fate=fate)


def commit(session: Session, fate: str) -> None:
    """Commit; without a write-ahead log a reader can keep COMMIT waiting, and a second try works."""
    with translated(session, fate):
        wait(session, "COMMIT", "COMMIT kept waiting by a reader", fate)


@contextmanager
def undone(session: Session, still: str) -> Iterator[None]:
    """Leave no transaction open, and say of every error how the database is left."""
    try:
        with translated(session, f"rolled back, {still}"):
            yield
    finally:
        rollback(session)


def is_busy(error: Exception) -> bool:
    """Tell whether another connection's lock is the reason.

    By SQLite's code, where a module tells it: https://www.sqlite.org/rescode.html
    SQLITE_LOCKED alone is a conflict inside the connection, which no waiting ends.
    """
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in (_BUSY, _PROTOCOL) or code == _LOCKED_SHAREDCACHE
    return "is locked" in str(error) or "locking protocol" in str(error)


def rollback(session: Session) -> None:
    """End the open transaction, if the error that led here has not ended it already."""
    # What led here is what the user must hear of; closing the connection rolls back as well.
    with suppress(*_failures(session.connection)):
        if in_transaction(session):
            session.cursor.execute("ROLLBACK")


def in_transaction(session: Session) -> bool:
    """Tell whether a transaction is open."""
    return bool(session.connection.in_transaction)


def writes(session: Session) -> int | None:
    """Return a number that changes when another connection writes; None where there is no such number.

    https://www.sqlite.org/pragma.html#pragma_data_version
    """
    session.cursor.execute("PRAGMA data_version")
    found = session.cursor.fetchall() or ()  # all, because libsql keeps a statement open until its last row
    return int(found[0][0]) if found else None


def setting(session: Session, name: str) -> str:
    """Return a setting of the connection as text that sets it, empty if this SQLite has no such setting."""
    if name == "case_sensitive_like":  # can be written only, so its effect is looked at
        session.cursor.execute("SELECT 'a' NOT LIKE 'A'")
    else:
        session.cursor.execute(f"PRAGMA {name}")
    found = session.cursor.fetchall()  # all, because libsql keeps a statement open until its last row
    value = str(found[0][0]) if found else ""
    return "fast" if name == "secure_delete" and value == "2" else value


@contextmanager
def settings_kept(session: Session, words: frozenset[str]) -> Iterator[None]:
    """Put back what statements made of these words change in the connection's settings and TEMP objects."""
    before = {name: setting(session, name) for name in sorted(SETTINGS & words)}
    temporary = _temporary(session) if words & {"temp", "temporary"} else None

    def put_back() -> None:
        for name, value in before.items():
            now = setting(session, name)
            # A write-ahead log is a property of the file, all other journals are of the connection.
            if now != value and not (name == "journal_mode" and now == "wal"):
                _execute(session, f"PRAGMA {name} = {'delete' if value == 'wal' else value}")
        if temporary is not None:
            _drop_temporary(session, temporary)

    try:
        yield
    except BaseException:
        with suppress(Exception):  # the first error is the one to hear of
            put_back()
        raise
    put_back()


def read_to_the_end(session: Session) -> None:
    """Run a statement that returns rows to its end, without reading them.

    Their texts come as bytes: what nobody reads need not be UTF-8, nor appear in an error.
    """
    connection = session.connection
    texts = getattr(connection, "text_factory", None)
    try:
        if texts is not None:
            connection.text_factory = bytes
        while session.cursor.fetchmany(_ROWS):
            pass
    finally:
        if texts is not None:
            connection.text_factory = texts


@contextmanager
def interruptible(session: Session, tick: Callable[[], None]) -> Iterator[None]:
    """Let signals and `tick` run during long statements; what they raise ends the statement and comes out.

    Without a progress handler Python serves no signal before a statement ends; with one, what a
    signal raises is swallowed: https://docs.python.org/3/library/sqlite3.html#sqlite3.Connection.set_progress_handler
    A caller's connection is left alone: its own handler could not be put back.
    """
    if not session.ours:
        yield
        return
    caught: list[BaseException] = []
    watch = _watch(tick, caught)
    try:
        next(watch, None)
        if not caught:
            session.connection.set_progress_handler(watch.__next__, _INSTRUCTIONS_PER_TICK)
            yield
    except Exception:
        if not caught:
            raise
    finally:
        # Closed already, where a signal kept this from being left at its end.
        with suppress(sqlite3.ProgrammingError):
            session.connection.set_progress_handler(None, 0)
        # Here and not by the collector, in which what a signal raises would be lost.
        watch.close()
    if caught:
        raise caught[0]


def _watch(tick: Callable[[], None], caught: list[BaseException]) -> Generator[int, None, None]:
    """Call `tick` at each turn and keep what is raised.

    A generator, because it is entered inside its `try`: so nothing that a signal raises escapes.
    """
    try:
        while True:
            yield 0
            tick()
    except GeneratorExit:
        return
    except BaseException as error:
        caught.append(error)


@contextmanager
def translated(session: Session, fate: str = _UNCHANGED) -> Iterator[None]:
    """Turn an error of the database module or the system into an AccessError that tells the fate."""
    try:
        yield
    except MigrationError:
        raise
    except _failures(session.connection) as error:
        reason = str(error) or "out of memory"  # the only one without words
        raise AccessError(f"{session.database}: {reason}; {fate}", database=session.database) from error


def _failures(connection: Any) -> tuple[type[Exception], ...]:
    """Return the errors that can come with a connection: https://peps.python.org/pep-0249/#optional-db-api-extensions

    Out of file descriptors, even an import fails.
    """
    own = getattr(connection, "Error", None)
    return (sqlite3.Error, OSError, ImportError, MemoryError, own) if own else (Exception,)


def _connect(path: str, mode: str) -> sqlite3.Connection:
    """Open a file with the parameters of a URI: https://www.sqlite.org/uri.html"""
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    start = "file://" if path.startswith("/") else "file:"
    name = ":memory:" if path == ":memory:" else f"{start}{quoted}?mode={mode}"
    try:
        return sqlite3.connect(name, uri=True, timeout=0, isolation_level=None)
    except (sqlite3.Error, ValueError) as error:
        parent = os.path.dirname(path) or "."
        reason = str(error)
        if os.path.isdir(path):
            reason = "is a directory, expected a database file"
        elif not os.path.isdir(parent):
            reason = f"no such directory: {parent}"
        raise AccessError(f"{path}: {reason}; nothing was changed", database=path) from error


@contextmanager
def _closed(connection: sqlite3.Connection) -> Iterator[tuple[sqlite3.Connection, sqlite3.Cursor]]:
    """Close a connection and its cursor: a cursor that an error keeps alive keeps the file's locks."""
    with closing(connection), closing(connection.cursor()) as cursor:
        yield connection, cursor


@contextmanager
def _writer(path: str, timeout: float) -> Iterator[Session]:
    if path == _default():
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        except OSError as error:
            raise AccessError(f"{path}: {error.strerror}; {_UNCHANGED}", database=path) from error
    with _closed(_connect(path, "rwc")) as (connection, cursor):
        yield Session(connection, cursor, path, timeout)


@contextmanager
def _reader(path: str, timeout: float) -> Iterator[Session]:
    """Open a file so that looking at it leaves no trace; where there is none, an empty database."""
    opened = _connect(":memory:", "memory") if _is_missing(path) else _connect(path, _reading_mode(path))
    with _closed(opened) as (connection, cursor):
        yield Session(connection, cursor, path, timeout)


def _is_missing(path: str) -> bool:
    """Tell whether there is surely no such file; what one may not even look for is no missing file."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _reading_mode(path: str) -> str:
    """Return the URI parameters with which looking at a file leaves no trace.

    Where there is a write-ahead log, a connection that may write would empty it on closing; where
    there is none, one that may not write would leave a new one behind, and needs to write to a
    directory to do so: https://www.sqlite.org/wal.html#read_only_databases
    """
    if _has_log(path):
        return "ro"
    directory = os.path.dirname(path) or "."
    if os.path.isfile(path) and not (os.access(directory, os.W_OK) and os.access(path, os.W_OK)):
        with open(path, "rb") as file:
            if file.read(20)[18:] == b"\x02\x02":
                return "ro&immutable=1"
    return "rw"


def _has_log(path: str) -> bool:
    try:
        return os.stat(path + "-wal").st_size > 0
    except OSError:  # none, or another process has just removed it
        return False


@contextmanager
def _borrowed(connection: Any, timeout: float) -> Iterator[Session]:
    """Put a caller's connection into autocommit mode, and everything back as it was at the end."""
    session = Session(connection, None, "the connection", timeout, False)
    with translated(session):
        usable = hasattr(connection, "cursor") and hasattr(connection, "in_transaction")
    if not usable:
        kind = type(connection).__name__
        raise TypeError(f"database: expected a path, a sqlite:///PATH URL or an open connection, not {kind}")
    with translated(session):
        files = _files(connection)
        session = session._replace(database=files["main"] or ":memory:", cursor=_tuples(connection))
        patience = setting(session, "busy_timeout")
        kept: dict[str, Any] = {}
    try:
        with translated(session):
            _execute(session, "PRAGMA busy_timeout = 0")
            _leave_transaction(session, files)
            kept |= _plain(connection)
        yield session
    finally:
        if kept:
            rollback(session)
        # Each on its own: what led here is what the caller must hear of.
        with suppress(*_failures(connection)):
            _execute(session, f"PRAGMA busy_timeout = {patience or 0}")
        for name, value in kept.items():
            with suppress(*_failures(connection)):
                setattr(connection, name, value)


def _execute(session: Session, sql: str) -> None:
    session.cursor.execute(sql)
    session.cursor.fetchall()  # libsql keeps a statement open, and tables locked, until its last row


def _tuples(connection: Any) -> Any:
    """Return a cursor whose rows are tuples, whatever they are for the caller."""
    cursor = connection.cursor()
    if hasattr(cursor, "row_factory"):
        cursor.row_factory = None
    return cursor


def _files(connection: Any) -> dict[str, str]:
    """Return the file of each database of a connection, empty for one in memory."""
    texts = getattr(connection, "text_factory", str)
    try:
        if texts is not str:
            connection.text_factory = str
        cursor = _tuples(connection)
        cursor.execute("PRAGMA database_list")
        return {row[1]: row[2] or "" for row in cursor.fetchall()}
    finally:
        if texts is not str:
            connection.text_factory = texts


def _leave_transaction(session: Session, files: Iterable[str]) -> None:
    """End an open transaction that changed nothing; raise AccessError if it may have changed something."""
    connection = session.connection
    if not connection.in_transaction:
        return
    if not isinstance(connection, sqlite3.Connection) or any(_has_changes(session, name) for name in files):
        raise AccessError(
            f"{session.database}: the connection has an open transaction with changes; nothing was changed; "
            "commit or roll back first",
            database=session.database,
        )
    connection.rollback()


def _has_changes(session: Session, name: str) -> bool:
    """Tell whether the open transaction has written: then the backup API finds the source busy.

    So it does while another connection keeps readers out; that is waited for first.
    https://www.sqlite.org/c3ref/backup_finish.html
    """
    codes: list[int] = []

    def stop(code: int, remaining: int, total: int) -> None:
        codes.append(code)
        raise InterruptedError

    wait(session, f'SELECT 1 FROM "{name}".sqlite_master LIMIT 1')
    session.cursor.fetchall()
    with closing(sqlite3.connect(":memory:")) as copy, suppress(InterruptedError):
        session.connection.backup(copy, pages=1, progress=stop, name=name)
    return bool({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED} & set(codes))


def _plain(connection: Any) -> dict[str, Any]:
    """Switch off what a module does on its own; return the attributes to put back."""
    kept: dict[str, Any] = {}
    plain: dict[str, Any] = {"text_factory": str, "isolation_level": None}
    if getattr(connection, "autocommit", None) in (True, False):
        plain = {"text_factory": str, "autocommit": True}  # Python 3.12 and newer
    for name, value in plain.items():
        # Some modules lack an attribute or do not let it be set; our own BEGIN serves there too.
        with suppress(AttributeError):
            before = getattr(connection, name)
            setattr(connection, name, value)
            kept[name] = before
    return kept


def _temporary(session: Session) -> list[tuple[str, str]]:
    """Return name and kind of each TEMP object, virtual tables first: they take others with them."""
    order = "ORDER BY sql LIKE 'CREATE VIRTUAL%' DESC"
    session.cursor.execute(f"SELECT name, type FROM sqlite_temp_master WHERE type <> 'index' {order}")
    return [(name, kind) for name, kind in session.cursor.fetchall() or ()]


def _drop_temporary(session: Session, kept: list[tuple[str, str]]) -> None:
    for name, kind in _temporary(session):
        if (name, kind) not in kept and not name.startswith("sqlite_"):
            quoted = name.replace('"', '""')
            session.cursor.execute(f'DROP {kind} IF EXISTS temp."{quoted}"')
