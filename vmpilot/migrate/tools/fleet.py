"""Upgrading many databases at once, and going on after errors.

How one of them is upgraded is decided in `run`, and where that is done is up to an executor: the threads of
this process, other processes, other machines. All that crosses to them, and that comes back, can be pickled.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from functools import lru_cache
from queue import SimpleQueue
from typing import Any, NamedTuple

from ..database.connection import patience
from ..database.names import located, misnamed
from ..database.opening import SQLITE3, Connect
from ..errors import AccessError, MigrationError
from ..files import directory as directories
from ..files.directory import Directory
from ..files.plan import Step
from ..run import startup
from ..run.request import Request, Result

# How many databases are given ahead to an executor of the caller, whose size nobody knows: enough for many.
_MOST = 1000
_AHEAD = 2  # to each thread of our own: so the next one is there when it is free
_LATER = "a further run goes on from where it is"


class Outcome(NamedTuple):
    """What became of one database: the steps that were done, and the error that ended them, if one did."""

    database: str | os.PathLike[str]
    steps: tuple[Step, ...]
    error: MigrationError | None


class Finished(NamedTuple):
    """The same with more of it: the result, None after an error, and how long it took."""

    database: str | os.PathLike[str]
    result: Result | None
    error: MigrationError | None
    seconds: float


class Stop:
    """Whether work is to be given up: known to all threads of a process, and to no other process."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def __reduce__(self) -> tuple[type[Stop], tuple[()]]:
        return Stop, ()

    def set(self) -> None:
        """Have all who look give up."""
        self._event.set()

    def look(self, *_: Any) -> None:
        """Raise KeyboardInterrupt, as Ctrl-C does in the main thread, if work is to be given up."""
        if self._event.is_set():
            raise KeyboardInterrupt

    def rest(self, seconds: float) -> None:
        """Wait so long, but no longer than until work is to be given up."""
        self._event.wait(seconds)
        self.look()


class Files(NamedTuple):
    """The migrations that a call was given: what names them, and the directory that this is here.

    Another process finds and reads them itself, once in a call; `call` is a name that no other one has.
    """

    named: Any
    call: str
    directory: Directory

    def __reduce__(self) -> tuple[Callable[..., Files], tuple[Any, str]]:
        return _files, (self.named, self.call)


def files(named: Any) -> Files:
    """Return the migrations that are named; raises HistoryError if their names are wrong."""
    return _files(named, f"{os.getpid()} {time.time_ns()}")


@lru_cache(maxsize=1)
def _files(named: Any, call: str) -> Files:
    return Files(named, call, directories.listed(directories.located(named)))


def _silent(text: str) -> None:
    pass


class Work(NamedTuple):
    """What is to be done to each database; `say` is called, in any thread, with a line about a long wait."""

    files: Files
    target: str
    backup: bool
    timeout: float
    create: bool
    connect: Connect
    stop: Stop
    say: Callable[[str], None] = _silent


def migrate_all(
    databases: Iterable[str | os.PathLike[str]],
    migrations: str | os.PathLike[str] | directories.Entry | None = None,
    *,
    executor: Executor | None = None,
    target: str = "head",
    backup: bool = False,
    timeout: float = 30.0,
    create: bool = False,
    connect: Connect = SQLITE3,
) -> Generator[Outcome, None, None]:
    """Upgrade many databases to `target`; yield what became of each as soon as it is done, in no order.

    An error ends the work on its database and on no other. `executor` is anything with the interface of
    https://docs.python.org/3/library/concurrent.futures.html#executor-objects: threads of this process by
    default. It is given some names ahead and never all, and comes back open; for processes and for other
    machines, `connect` and names must mean the same there. A missing database is an error unless `create`
    says otherwise; `backup`, `timeout` (seconds) and `connect` are those of `migrate`.

    Whoever stops iterating, or is interrupted, stops the work: what waits is not begun, and in threads of
    this process the running steps are rolled back. Run again, it does what is left. Raises HistoryError at
    once if the names of the files are wrong, and TypeError for what is no path or no executor.

    >>> outcomes = list(migrate_all(["one.db", "two.db"], target="0001", create=True))
    >>> sorted((outcome.database, len(outcome.steps)) for outcome in outcomes)
    [('one.db', 1), ('two.db', 1)]
    >>> [str(outcome.error) for outcome in migrate_all(["three.db"])]
    ['three.db: no such file, expected a database; nothing was changed']
    """
    if isinstance(databases, str | os.PathLike):
        raise TypeError(f"databases: expected several paths, not one, {os.fspath(databases)!r}")
    _expect_executor(executor)
    work = Work(files(migrations), target, backup, timeout, create, connect, Stop())
    return _outcomes(each(databases, work, executor))


def _expect_executor(executor: object) -> None:
    """Raise TypeError for what would fail once for each database, such as the class of an executor."""
    name = executor.__name__ if isinstance(executor, type) else type(executor).__name__
    if isinstance(executor, type):
        raise TypeError(f"executor: expected an Executor, not the class {name}; pass {name}(...)")
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise TypeError(f"executor: expected an Executor, not {name}")


def _outcomes(found: Generator[Finished, None, None]) -> Generator[Outcome, None, None]:
    with closing(found):
        for database, result, error, _ in found:
            yield Outcome(database, result.steps if result else error.steps if error else (), error)


def each(
    databases: Iterable[str | os.PathLike[str]],
    work: Work,
    executor: Executor | None = None,
    threads: int | None = None,
) -> Generator[Finished, None, None]:
    """Yield what becomes of each database as soon as it is done; without an executor, in so many threads."""
    done: SimpleQueue[Future[Finished]] = SimpleQueue()
    waiting: dict[Future[Finished], str | os.PathLike[str]] = {}

    def next_one() -> Finished:
        future = done.get()
        return _finished(future, waiting.pop(future))

    ours = _ours(threads) if executor is None else nullcontext((executor, _MOST))
    with ours as (place, most), _given_up(work, waiting):
        for database in databases:
            waiting[_submitted(place, work, database)] = database
            next(reversed(waiting)).add_done_callback(done.put)
            while len(waiting) >= most or not done.empty():
                yield next_one()
        while waiting:
            yield next_one()


@contextmanager
def _given_up(work: Work, waiting: Iterable[Future[Finished]]) -> Iterator[None]:
    """Let no work begin behind the end of what is inside, however that ends."""
    try:
        yield
    finally:
        work.stop.set()
        for future in waiting:
            future.cancel()


@contextmanager
def _ours(threads: int | None) -> Iterator[tuple[Executor, int]]:
    """Yield threads of our own, and how many databases they are given ahead.

    No signal interrupts them: it is for the main thread, which it must wake.
    """
    count = threads or min(32, (os.cpu_count() or 1) + 4)
    everything = signal.valid_signals()
    with ThreadPoolExecutor(
        count, "fleet", initializer=signal.pthread_sigmask, initargs=(signal.SIG_BLOCK, everything)
    ) as executor:
        yield executor, count * _AHEAD


def _submitted(executor: Executor, work: Work, database: Any) -> Future[Finished]:
    if not isinstance(database, str | os.PathLike):
        raise misnamed(database, "databases: expected paths")
    try:
        return executor.submit(upgrade, work, database)
    except Exception as error:  # it is broken, or was shut down
        refused: Future[Finished] = Future()
        refused.set_exception(error)
        return refused


def _finished(future: Future[Finished], database: str | os.PathLike[str]) -> Finished:
    """Return what a future holds; what is no error of ours comes from the executor or the application."""
    try:
        return future.result()
    except Exception as error:
        path = os.fspath(database)
        told = f"{path}: {type(error).__name__}: {error}; {_LATER}"
        made = AccessError(told, database=path)
        made.__cause__ = error
        return Finished(database, None, made, 0.0)


def upgrade(work: Work, database: str | os.PathLike[str]) -> Finished:
    """Upgrade one database, wherever this runs."""
    started = time.monotonic()
    stop = work.stop
    try:
        stop.look()
        where = located(database, create=work.create)
        timeout = patience(work.timeout, work.say, stop.rest)

        def back_up(version: str) -> None:
            from .backup import take

            take(where, version, timeout=timeout, report=stop.look, connect=work.connect)

        prelude = back_up if work.backup else None
        request = Request("upgrade", work.files.directory, work.target)
        result = startup.run(
            request, where, timeout=timeout, report=stop.look, prelude=prelude, connect=work.connect
        )
    except MigrationError as error:
        return Finished(database, None, error, time.monotonic() - started)
    return Finished(database, result, None, time.monotonic() - started)
