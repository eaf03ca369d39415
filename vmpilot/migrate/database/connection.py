"""The one door to SQLite: statements, waiting for locks, transactions, interrupts.

What modules with sqlite3's interface do differently (libsql, turso, sqlcipher, pysqlite) is told here and
where they are opened, in `opening`, and nowhere else; how apsw gets that interface, in `apsw`. What is done
to a database is decided elsewhere.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count

from ..access import told
from ..errors import AccessError, MigrationError, is_of_the_caller, passed_over
from ..typed import Any, NamedTuple, TypeVar
from .permissions import denial

UNCHANGED = "nothing was changed"
_BUSY, _PROTOCOL, _LOCKED_SHAREDCACHE, _NO_PLACE = 5, 15, 262, 6410
# What only the application's own connection has, or what a module with sqlite3's interface cannot do.
_OF_THE_APPLICATION = (
    *("no such function", "no such collation", "no such module", "no such tokenizer"),
    *("unknown function", "not supported"),
)
# A number of the header is read before the schema, which would have a lock and a look of its own otherwise.
SNAPSHOT = ("BEGIN", "PRAGMA main.user_version")
_LONGEST_PAUSE = 0.05
LOCKED = "locked by another process"
_WAITING = "interrupted while waiting, "
_SILENT = 1.0  # seconds of a wait that are not worth a word
# Between two of them a signal waits: few, because one can compute a long value, but each costs a call.
_INSTRUCTIONS_PER_TICK = 10_000
_CHUNK = 256
_MOST_INSTRUCTIONS = 1_000_000

Row = tuple[Any, ...]
_T = TypeVar("_T")


class Patience(float):
    """How many seconds to wait for a lock, for a caller who wants to be told of a wait that lasts.

    A number like any other `timeout`; `say` is called with a line once a wait has lasted a second, and `rest`
    with the seconds between two tries: what it raises ends the wait.
    """

    say: Callable[[str], None]
    rest: Callable[[float], None]


def patience(
    seconds: float, say: Callable[[str], None], rest: Callable[[float], None] = time.sleep
) -> Patience:
    """Return a timeout that tells."""
    made = Patience(seconds)
    made.say, made.rest = say, rest
    return made


class Session(NamedTuple):
    """An open connection in autocommit mode; `timeout` is how many seconds to wait for a lock.

    `ours` tells that the connection was opened here, so that its progress handler is free to use, and
    `converts` that the application opened it, who can have registered converters for what it reads.
    `handlers` are the progress handlers that are set, the last one is in force: Python cannot read it.
    `opens` opens another file in the same way. `parents` is what `references` knows of a table and its text.
    `writable` tells that a path was opened so that what is there can be changed, too.
    """

    connection: Any
    cursor: Any
    database: str
    timeout: float
    ours: bool = True
    converts: bool = False
    handlers: list[Callable[[], int]] | None = None
    opens: Callable[[str], Any] = sqlite3.connect
    parents: dict[str, tuple[bytes, list[str]]] | None = None
    writable: bool = False

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """Return the errors that mean that a statement failed.

        Nothing else: what a signal handler or a callback of the caller raises is passed on as it is.
        """
        own = getattr(self.connection, "Error", None)
        if not own:
            return (Exception,)
        return (sqlite3.Error, sqlite3.Warning, MemoryError, OverflowError, UnicodeDecodeError, own)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Return all rows of a statement, as tuples.

        To the last one, because libsql keeps a statement open, and tables locked, until then; and where
        there are none, it has None for them.
        """
        self.cursor.execute(sql, parameters)
        return [tuple(row) for row in self.cursor.fetchall() or ()]

    def value(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """Return the first value of a statement's first row, None if it has no row."""
        found = self.rows(sql, parameters)
        return found[0][0] if found else None

    def chunks(self, sql: str, most: int = _CHUNK) -> Iterator[list[Row]]:
        """Yield the rows of a query piece by piece, at most so many at once: they may be many."""
        self.cursor.execute(sql)
        while chunk := self.cursor.fetchmany(most):
            yield chunk

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> bool:
        """Run a statement to its end, and tell whether it returned rows; these are not read.

        Their texts come as bytes: what nobody reads need not be UTF-8, nor appear in an error. For what a
        migration says, see `unread`.
        """
        if is_sqlite3(self.connection):  # which fetches no row before it is asked for one, as others do
            self.cursor.execute(sql, parameters)
            return self.cursor.description is not None and _passed_over(self)
        with _as_bytes(self):
            self.cursor.execute(sql, parameters)
            return self.cursor.description is not None and _passed_over(self)


def _passed_over(session: Session) -> bool:
    """Fetch the rows of the last statement, for nobody."""
    with _as_bytes(session):
        while session.cursor.fetchmany(_CHUNK):
            pass
    return True


@contextmanager
def _as_bytes(session: Session) -> Iterator[None]:
    """Let texts come as bytes, where a module knows anything else."""
    texts = getattr(session.connection, "text_factory", None)
    try:
        if texts is not None:
            session.connection.text_factory = bytes
        yield
    finally:
        if texts is not None:
            session.connection.text_factory = texts


def runner(session: Session) -> Callable[[str], bool]:
    """Return what runs the statements of a migration, of which a file can have millions, like `unread`."""
    if session.converts or not is_sqlite3(session.connection):
        return partial(unread, session)
    cursor, execute = session.cursor, session.cursor.execute

    def run(sql: str) -> bool:
        execute(sql)
        return cursor.description is not None and _passed_over(session)

    return run


def unread(session: Session, sql: str) -> bool:
    """Run a statement of a migration like `Session.run`, past the converters of the application.

    These go by the declared types and the names of the columns, and only the first part of a compound query
    gives it these: https://docs.python.org/3/library/sqlite3.html#sqlite3.PARSE_DECLTYPES
    What RETURNING gives need not be read, all is done before the first row: https://www.sqlite.org/lang_returning.html
    """
    if not session.converts:
        return session.run(sql)
    from ..tokens import READING, WRITING  # not loaded by a start-up that runs no statement

    verb = sql[:10].lower()
    if verb.startswith((*READING, "with")) and (number := _columns_of_query(session, sql)):
        return session.run(f"SELECT {', '.join(['NULL'] * number)} WHERE 0 UNION ALL SELECT * FROM ({sql}\n)")
    if not verb.startswith((*WRITING, "with")) or "returning" not in sql.lower():
        return session.run(sql)
    return _first_row_unread(session, sql)


def _first_row_unread(session: Session, sql: str) -> bool:
    """Run a statement up to its first row, and tell whether it has one."""
    alone = not in_transaction(session)
    if alone:  # otherwise nobody would hear that the commit at its end failed
        session.run("BEGIN IMMEDIATE")
    try:
        with _as_bytes(session):
            session.cursor.execute(sql)
            returns = session.cursor.description is not None
            session.run("COMMIT" if alone else "SELECT 1")
        return returns
    finally:
        if alone:
            rollback(session)


def _columns_of_query(session: Session, sql: str) -> int:
    """Return how many columns a query has, 0 if it is none; it is not run."""
    wrapped = f"EXPLAIN SELECT * FROM ({sql}\n) -- {time.perf_counter_ns()}"
    with passed_over(*session.failures):
        return max((int(row[3]) for row in session.rows(wrapped) if row[1] == "ResultRow"), default=0)
    return 0


# --- what a module may lack


def rows_if_known(session: Session, pragma: str) -> list[Row] | None:
    """Return the rows of a PRAGMA, None where the module does not know it (turso says nothing then)."""
    found = session.rows(pragma)
    return found if session.cursor.description else None


def references(session: Session) -> list[tuple[str, str]]:
    """Return the child and the parent table of each foreign key.

    SQLite is asked table by table: turso does not know the pragma as a table, and what fails there ends the
    transaction. Of a table whose text is as it was, not again: a run can ask often, and a schema be large.
    """
    from ..tokens import quoted  # not loaded by a start-up that runs no statement

    tables = "SELECT +name, CAST(sql AS BLOB) FROM main.sqlite_master WHERE type = 'table'"
    known = {} if session.parents is None else session.parents
    pairs = []
    for name, text in session.rows(tables):
        if b"references" not in text.lower():
            continue
        if known.get(name, (b"",))[0] != text:
            keys = session.rows(f"PRAGMA main.foreign_key_list({quoted(name)})")
            known[name] = text, [row[2] for row in keys if row[1] == 0]
        pairs += [(name, parent) for parent in known[name][1]]
    return pairs


def changes(session: Session) -> int:
    """Return how many rows the last statement changed, an INSERT, UPDATE or DELETE.

    Python's module asks SQLite for that too. Not the cursor of others, or of a caller: libsql counts all
    rows since it was opened, and count_changes spoils it. Nor the sum of all changes: a full-text index
    writes what it has kept back with whatever statement comes next.
    https://docs.python.org/3/library/sqlite3.html#sqlite3.Cursor.rowcount
    """
    if is_own_sqlite3(session):
        return int(session.cursor.rowcount)
    return int(session.value("SELECT changes()"))


def count_calls(session: Session, name: str) -> Iterator[int]:
    """Give a connection of ours a function that is true, and return what counts its calls, one ahead.

    https://docs.python.org/3/library/sqlite3.html#sqlite3.Connection.create_function
    """
    calls = count(1)
    session.connection.create_function(name, 0, calls.__next__)
    return calls


def size_of(session: Session) -> int:
    """Return how many bytes the pages of a database are."""
    return int(session.value("PRAGMA main.page_count")) * int(session.value("PRAGMA main.page_size"))


def data_version(session: Session) -> int | None:
    """Return a number that changes when another connection writes; None where there is no such number.

    https://www.sqlite.org/pragma.html#pragma_data_version
    """
    found = session.value("PRAGMA data_version")
    return None if found is None else int(found)


def refusal(session: Session, sql: str) -> str:
    """Return SQLite's words if it cannot compile a statement, else nothing; it is not run.

    Never the same text twice: a module keeps what it compiled, and EXPLAIN does not notice that the
    schema has changed since (SQLite 3.40 even crashes on it).
    What takes too many instructions is refused too.
    """
    try:
        with limited(session, instructions=_MOST_INSTRUCTIONS):
            session.cursor.execute(f"EXPLAIN {sql} -- {time.perf_counter_ns()}")
            with passed_over(*session.failures):
                session.cursor.fetchall()
        session.run("SELECT 1")  # until the next query libsql keeps what it explained open, and tables locked
    except session.failures as error:
        if is_of_the_caller(error):
            raise
        return words(error)
    return ""


@contextmanager
def limited(session: Session, *, instructions: int = 0, length: int = 0, pattern: int = 0) -> Iterator[None]:
    """Let SQLite compile to no more instructions, make no longer value and match no longer pattern; 0: any.

    A generated column that names others stands for all that these stand for, and a value that is computed
    can be as long as SQLite lets it. It says then that it has no memory, or that a value is too big:
    https://www.sqlite.org/c3ref/c_limit_attached.html Some modules know no limits.
    """
    set_limit: Any = getattr(session.connection, "setlimit", None)
    asked = {
        sqlite3.SQLITE_LIMIT_VDBE_OP: instructions,
        sqlite3.SQLITE_LIMIT_LENGTH: length,
        sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: pattern,
    }
    before = {name: set_limit(name, most) for name, most in asked.items() if set_limit and most}
    try:
        yield
    finally:
        with suppress(sqlite3.ProgrammingError):  # closed already, as in `interruptible`
            for name, most in before.items():
                set_limit(name, most)


def is_connection(thing: Any) -> bool:
    """Tell whether something is an open connection of sqlite3 or of a module with its interface.

    One that is to be awaited has the names, but answers nothing in this thread. A
    class has them too, and an ORM's database, where both are methods.
    """
    if hasattr(thing, "__await__") or isinstance(thing, type):
        return False
    return hasattr(thing, "cursor") and not callable(getattr(thing, "in_transaction", callable))


def is_of_a_database(error: BaseException) -> bool:
    """Tell whether an error is one that a database module raises: https://peps.python.org/pep-0249/#exceptions"""
    return any(kind.__name__ == "Error" for kind in type(error).__mro__)


def is_untouched(session: Session) -> bool:
    """Tell whether nobody else has had a connection: what is beside the main database, a script has made."""
    return session.ours and not session.converts


def is_own_sqlite3(session: Session) -> bool:
    """Tell whether a connection is one of Python's own module, and nobody else has had it."""
    return is_untouched(session) and is_sqlite3(session.connection)


def is_sqlite3(connection: Any) -> bool:
    """Tell whether a connection is one of Python's own module, which has the backup API."""
    return isinstance(connection, sqlite3.Connection)


# --- waiting


def wait(
    session: Session,
    action: Callable[[], _T],
    reason: str = LOCKED,
    fate: str = UNCHANGED,
) -> _T:
    """Do `action`, again and again while another connection holds a lock that it needs; return its value.

    The pauses are ours, not SQLite's, because a signal is served between them. Raises AccessError
    with `reason` and `fate` when the timeout, counted from the first refusal, is over. What a signal
    raises meanwhile comes out with a note that says what was waited for.
    """
    waited: list[float] = []  # when each try was refused
    try:
        return _again_and_again(session, action, reason, fate, waited)
    except BaseException as stop:
        # A try that is refused is short: one that lasts has the lock, and waits no more.
        if waited and time.monotonic() - waited[-1] < 2 * _LONGEST_PAUSE and comes_from_outside(stop):
            note(stop, session, reason)
        raise


def _again_and_again(
    session: Session, action: Callable[[], _T], reason: str, fate: str, waited: list[float]
) -> _T:
    """Do `action` until it is not refused; keep when it was."""
    pause, told = 0.001, False
    while True:
        try:
            return action()
        except Exception as error:
            if not is_busy(error) or is_of_the_caller(error):
                raise
            now = time.monotonic()
            waited.append(now)
            left = waited[0] + session.timeout - now
            if left <= 0:
                message = f"{session.database}: {reason} for {session.timeout:g} s; {fate}"
                raise AccessError(message, database=session.database) from error
        told = told or is_told(session, reason, session.timeout - left)
        rest(session, min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE)


def rest(session: Session, seconds: float) -> None:
    """Pause between two tries, as whoever waits wants to."""
    if isinstance(session.timeout, Patience):
        session.timeout.rest(seconds)
    else:
        time.sleep(seconds)


def comes_from_outside(stop: BaseException) -> bool:
    """Tell whether a signal or the caller ended something, and no failure of it."""
    return not isinstance(stop, Exception) or is_of_the_caller(stop)


def is_told(session: Session, reason: str, waited: float) -> bool:
    """Tell whoever wants to know of a wait that has lasted a second; return whether that was so."""
    if waited < _SILENT:
        return False
    if isinstance(session.timeout, Patience):
        session.timeout.say(f"{session.database}: {reason}; waiting for up to {session.timeout:g} s")
    return True


def note(stop: BaseException, session: Session, reason: str) -> None:
    """Add to what a signal raised what was waited for: https://peps.python.org/pep-0678/"""
    stop.add_note(f"{session.database}: {_WAITING}{reason}")


def waited_for(stop: BaseException) -> str:
    """Return of what a signal raised what was waited for then, with the database; nothing if nothing was."""
    notes = [note for note in getattr(stop, "__notes__", ()) if _WAITING in note]
    return notes[-1] if notes else ""


def is_busy(error: Exception) -> bool:
    """Tell whether another connection's lock is the reason.

    SQLITE_LOCKED alone is a conflict inside the connection, which no waiting ends. In a shared cache every
    statement is refused, even a PRAGMA, while another connection has not committed what it created.
    """
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in (_BUSY, _PROTOCOL) or code == _LOCKED_SHAREDCACHE
    return "is locked" in str(error) or "locking protocol" in str(error)


def is_held_up(status: int) -> bool:
    """Tell whether a status that the backup API reports says that a lock keeps it from going on.

    https://www.sqlite.org/c3ref/backup_finish.html#sqlite3backupstep
    """
    return status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _tells(error: BaseException | None, words: str, *codes: int) -> bool:
    """Tell whether an error is of one of these kinds: by its code, or by words where a module has none.

    https://www.sqlite.org/rescode.html
    """
    code = getattr(error, "sqlite_errorcode", None)
    return words in str(error) if code is None else code & 0xFF in codes


def is_lacking(error: Exception) -> bool:
    """Tell whether SQLite misses something that only the application has: a function, a collation."""
    return _tells(error, "no such", sqlite3.SQLITE_ERROR)


def is_wreck(error: BaseException | None) -> bool:
    """Tell whether SQLite refused a file because it is no database any more.

    Not even the text of a damaged schema need be whole, and the number of its format has no code of its own.
    """
    if isinstance(error, UnicodeDecodeError) or "unsupported file format" in str(error):
        return True
    return _tells(error, "not a database", sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_foreign(error: BaseException | None) -> bool:
    """Tell whether SQLite holds a file to be none of its own: so is an encrypted one without its key."""
    return _tells(error, "not a database", sqlite3.SQLITE_NOTADB)


def is_damage(error: Exception) -> bool:
    """Tell whether SQLite or Python found bytes in a database that make no sense.

    What cannot be parsed in a schema has another code, that of its own fault.
    """
    return is_wreck(error) or is_undecodable(error) or "malformed" in str(error)


def is_read_only(error: BaseException | None) -> bool:
    """Tell whether SQLite holds a database to be one that is only read."""
    return _tells(error, "readonly database", sqlite3.SQLITE_READONLY)


def is_undecodable(error: Exception) -> bool:
    """Tell whether a text that SQLite returned is not UTF-8; Python has no code for that."""
    return "Could not decode to UTF-8" in str(error)


def is_full(error: BaseException | None) -> bool:
    """Tell whether SQLite could not write more: the disk is full, or an AUTOINCREMENT has no number left."""
    return _tells(error, "disk is full", sqlite3.SQLITE_FULL)


def is_interrupt(error: BaseException | None) -> bool:
    """Tell whether a statement was ended from outside, by what a progress handler raised."""
    return _tells(error, "interrupted", sqlite3.SQLITE_INTERRUPT)


def is_there_already(error: BaseException) -> bool:
    """Tell whether a module takes an empty file, into which VACUUM INTO may write, for one that has a use."""
    return "already exists" in str(error)


def is_input_output(error: BaseException | None) -> bool:
    """Tell whether the system failed SQLite in reading or writing."""
    return _tells(error, "disk I/O", sqlite3.SQLITE_IOERR)


def is_of_the_application(told: str) -> bool:
    """Tell from what SQLite or a module says that it misses something that only the application has."""
    return any(words in told for words in _OF_THE_APPLICATION)


# --- transactions


def begin(session: Session, fate: str) -> None:
    """Begin a transaction that holds the write lock from its start.

    A deferred one that reads first and writes later fails at once, whatever the timeout:
    https://www.sqlite.org/lang_transaction.html
    """
    with translated(session, fate):
        wait(session, lambda: session.run("BEGIN IMMEDIATE"), fate=fate)


def commit(session: Session, fate: str) -> None:
    """Commit; without a write-ahead log a reader can keep COMMIT waiting, and a second try works."""
    with translated(session, fate):
        wait(session, lambda: session.run("COMMIT"), "COMMIT kept waiting by a reader", fate)


def hold(session: Session, fate: str = UNCHANGED) -> None:
    """Begin a transaction that sees the database at one moment, and lets others write after it."""
    for sql in SNAPSHOT:
        wait(session, partial(session.run, sql), fate=fate)


@contextmanager
def snapshot(session: Session, fate: str = UNCHANGED) -> Iterator[None]:
    """Let all reads inside see the database at one moment."""
    try:
        hold(session, fate)
        yield
    finally:
        rollback(session)


@contextmanager
def undone(session: Session, still: str) -> Iterator[None]:
    """Leave no transaction open, and say of every error how the database is left."""
    try:
        with translated(session, f"rolled back, {still}"):
            yield
    finally:
        rollback(session)


def rollback(session: Session) -> None:
    """End the open transaction, if the error that led here has not ended it already."""
    try:
        _rollback(session)
    except BaseException:  # a signal, which can come before it has begun
        _rollback(session)
        raise


def _rollback(session: Session) -> None:
    # What led here is what the user must hear of; closing the connection rolls back as well.
    with passed_over(*failures(session.connection)):
        if in_transaction(session):
            session.run("ROLLBACK")


def put_back(session: Session, steps: Iterator[Callable[[], object]]) -> None:
    """Take all steps, whatever fails: what led here is what the caller must hear of.

    A step in which a signal raises is taken again, and then its error comes out; so who calls this calls it
    twice, the second time with what is left of the steps.
    """
    passed = passed_over(AccessError, *failures(session.connection))
    step: Callable[[], object] = nothing
    try:
        for step in steps:
            with passed:
                step()
    except BaseException:
        with passed:
            step()
        raise


def in_transaction(session: Session) -> bool:
    """Tell whether a transaction is open."""
    return bool(session.connection.in_transaction)


# --- errors and interrupts


class translated:
    """Turn an error of the database module or the system into an AccessError that tells the fate.

    An error of ours passes, and knows from then on which database it is about. One of the caller's passes
    as it is.
    """

    def __init__(self, session: Session, fate: str = UNCHANGED) -> None:
        self.session, self.fate = session, fate

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        database = self.session.database
        if isinstance(error, MigrationError):
            error.database = error.database or database
        elif isinstance(error, failures(self.session.connection)) and not is_of_the_caller(error):
            raise refused(database, error, self.fate) from error


def refused(database: str, error: Exception, fate: str) -> AccessError:
    """Return the AccessError of what a module or the system refused: which right is missing, if one is."""
    lack = denial(database, error)
    message = told(lack, fate) if lack else f"{database}: {words(error)}; {fate}"
    found = AccessError(message, database=database)
    if is_damage(error):
        from .copies import newest  # needed by messages only

        found.backup = newest(database)
    return found


def words(error: Exception) -> str:
    """Return what a module says of an error; without words is only that memory has run out.

    What SQLite says can quote bytes that are no UTF-8; then Python has an error of its own, which holds them.
    """
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8: {error.object.decode(errors='backslashreplace')}"
    if getattr(error, "sqlite_errorcode", 0) == _NO_PLACE:
        return f"{error}: SQLite has no directory for temporary files, expected one in SQLITE_TMPDIR"
    return str(error) or "out of memory"


def failures(connection: Any) -> tuple[type[Exception], ...]:
    """Return the errors that can come with a connection: https://peps.python.org/pep-0249/#optional-db-api-extensions

    Out of file descriptors, even an import fails.
    """
    own = getattr(connection, "Error", None)
    known = (sqlite3.Error, OSError, ImportError, MemoryError, UnicodeDecodeError)
    return (*known, own) if own else (Exception,)


def nothing() -> None:
    """Do nothing during a long statement; that it is called lets Ctrl-C arrive."""


class interruptible:
    """Let signals and `tick` run during long statements; what they raise ends the statement and comes out.

    Without a progress handler Python serves no signal before a statement ends; with one, what a
    signal raises is swallowed: https://docs.python.org/3/library/sqlite3.html#sqlite3.Connection.set_progress_handler
    A caller's connection is left alone: its own handler could not be put back. Inside of another such
    context its handler is in force, and the outer one again behind it.
    """

    def __init__(self, session: Session, tick: Callable[[], None] = nothing) -> None:
        self.session = session
        self.handlers = [] if session.handlers is None else session.handlers
        self.outside = len(self.handlers)
        self.caught: list[BaseException] = []
        self.watch = _watch(tick, self.caught)

    def __enter__(self) -> None:
        if not self.session.ours:
            return
        try:
            next(self.watch, None)
            self.handlers.append(self.watch.__next__)
            self.session.connection.set_progress_handler(self.watch.__next__, _INSTRUCTIONS_PER_TICK)
            if self.caught:  # by a signal that came before it was in force
                raise self.caught[0]
        except BaseException:
            self._leave()
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self.session.ours:
            self._leave()
        if self.caught and (error is None or isinstance(error, Exception)):
            raise self.caught[0]

    def _leave(self) -> None:
        del self.handlers[self.outside :]
        before = self.handlers[-1] if self.handlers else None
        # Closed already, where a signal kept this from being left at its end.
        with suppress(sqlite3.ProgrammingError):
            self.session.connection.set_progress_handler(before, _INSTRUCTIONS_PER_TICK)
        # Here and not by the collector, in which what a signal raises would be lost.
        self.watch.close()


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
