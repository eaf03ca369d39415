"""Proves that many databases are upgraded at once, wherever the work is done, and that errors stay with theirs."""

import os
import pickle
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import change, heard, held, query, ran, running, taken, write

from vmpilot.migrate import (
    AccessError,
    HistoryError,
    MigrationError,
    Outcome,
    StepError,
    VersionError,
    migrate,
    migrate_all,
)
from vmpilot.migrate.tools.fleet import Stop, Work, files

# Six ways in which a database can be broken, each with what is said of it.
BROKEN: dict[str, tuple[Callable[[str, Path], object], str]] = {
    "missing": (lambda name, place: None, "no such file, expected a database; nothing was changed"),
    "garbage": (
        lambda name, place: Path(name).write_bytes(b"no database at all" * 64),
        "file is not a database; nothing was changed",
    ),
    "directory": (
        lambda name, place: os.mkdir(name),
        "is a directory, expected a database file; nothing was changed",
    ),
    "newer": (
        lambda name, place: (
            migrate(name, place, target="1"),
            change(name, "UPDATE alembic_version SET version_num = '9'"),
        ),
        "is at 9, but this code knows only base to 0002; it was upgraded by newer code; nothing was changed",
    ),
    "in the way": (
        lambda name, place: (migrate(name, place, target="1"), change(name, "CREATE TABLE costs (x)")),
        "table costs already exists; rolled back, {} is still at 0001",
    ),
    "edited": (
        lambda name, place: (
            migrate(name, place, target="1"),
            change(name, "UPDATE migration_log SET checksum = 'other' WHERE action = 'upgrade'"),
        ),
        "0001_chats.up.sql: edited after it was applied; nothing was changed",
    ),
}


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The two migrations that all tests of tools share, and nothing in the current directory."""
    monkeypatch.setenv("VMPILOT_MIGRATIONS", str(place))
    return place


def fleet(place: Path, sound: int = 6) -> dict[str, str]:
    """Make databases that are at 0001 and one of each way to be broken; return what is said of these."""
    for number in range(sound):
        migrate(f"sound{number}.db", place, target="1")
    said = {}
    for way, (breaks, message) in BROKEN.items():
        breaks(f"{way}.db", place)
        said[f"{way}.db"] = message.format(f"{way}.db")
    return said


def by_name(outcomes: Iterator[Outcome]) -> dict[str, Outcome]:
    return {os.fspath(outcome.database): outcome for outcome in outcomes}


EXECUTORS: dict[str, Callable[[], Executor | None]] = {
    "threads of ours": lambda: None,
    "threads": lambda: ThreadPoolExecutor(3),
    "processes": lambda: ProcessPoolExecutor(2),
}


def expect_errors_to_stay_with_theirs(place: Path, executor: Executor | None) -> None:
    said = fleet(place)
    names = [*(f"sound{number}.db" for number in range(6)), *said]
    found = by_name(migrate_all(iter(names), place, executor=executor))
    assert found.keys() == {*names}
    for name, outcome in found.items():
        if name in said:
            assert isinstance(outcome.error, MigrationError)
            assert said[name] in str(outcome.error) and outcome.error.database == name
            assert outcome.steps == outcome.error.steps == ()
        else:
            assert (ran(outcome.steps), outcome.error) == (["0002"], None)
    step = found["in the way.db"].error
    assert isinstance(step, StepError) and (step.line, step.version) == (1, "0002")
    # Run again, it does what is left.
    os.rmdir("directory.db")
    shutil.copyfile("sound0.db", "directory.db")
    again = by_name(migrate_all(names, place, executor=executor))
    assert [name for name, outcome in again.items() if outcome.steps] == []
    assert {name for name, outcome in again.items() if outcome.error} == said.keys() - {"directory.db"}


@pytest.mark.parametrize("kind", EXECUTORS)
def test_errors_stay_with_their_databases(place: Path, kind: str) -> None:
    try:
        executor = EXECUTORS[kind]()
    except OSError as error:
        pytest.skip(f"the system has no semaphores for processes: {error}")
    try:
        expect_errors_to_stay_with_theirs(place, executor)
    finally:
        if executor:
            executor.shutdown()


# A cluster warns of its own ends, and leaves threads and sockets for the collector.
@pytest.mark.full
@pytest.mark.filterwarnings("default")
def test_errors_stay_with_their_databases_on_a_dask_cluster(place: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, dashboard_address=None, protocol="tcp"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        expect_errors_to_stay_with_theirs(place, client.get_executor())


def test_every_error_can_be_pickled_with_all_its_fields() -> None:
    errors: list[MigrationError] = [
        HistoryError("a file", file="a.up.sql", line=3),
        VersionError("a version", version="0003"),
        StepError("a step", file="a.up.sql", line=4, version="0004", statement="SELECT 1"),
        AccessError("a database", database="app.db"),
    ]
    for error in errors:
        error.database, error.steps = "app.db", migrate("app.db")
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error) and str(again) == str(error) and vars(again) == vars(error)


def test_a_process_lists_and_reads_the_files_once_in_a_call(place: Path) -> None:
    calls = [Work(files(place), "head", False, 1.0, True, sqlite3.connect, Stop()) for _ in range(2)]
    first, again, other = (pickle.loads(pickle.dumps(calls[number])) for number in (0, 0, 1))
    assert first.files.directory is again.files.directory is not other.files.directory
    assert first.files.directory[:2] == other.files.directory[:2] == calls[0].files.directory[:2]
    calls[0].stop.set()
    assert first[1:6] == calls[0][1:6] and first.stop.look() is None


def test_what_an_executor_or_the_application_does_wrong_is_told_of_the_database(place: Path) -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    (outcome,) = migrate_all(["one.db"], place, create=True, executor=executor)
    went_on = "a further run goes on from where it is"
    told = "RuntimeError: cannot schedule new futures after shutdown"
    assert str(outcome.error) == f"one.db: {told}; {went_on}"

    def connect(path: str) -> Any:
        raise KeyError(path)

    (outcome,) = migrate_all(["two.db"], place, create=True, connect=connect)
    assert str(outcome.error) == f"two.db: KeyError: 'two.db'; {went_on}"
    assert isinstance(outcome.error, AccessError) and outcome.error.database == "two.db"


@pytest.mark.parametrize(
    ("executor", "message"),
    [
        (4, "executor: expected an Executor, not int"),
        (
            ThreadPoolExecutor,
            "executor: expected an Executor, not the class ThreadPoolExecutor; pass ThreadPoolExecutor(...)",
        ),
    ],
)
def test_what_is_no_executor_is_the_programmers_error(place: Path, executor: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        migrate_all(["app.db"], place, executor=executor)
    assert str(caught.value) == message
    assert os.listdir(".") == []


@pytest.mark.parametrize(
    ("databases", "message"),
    [
        ("app.db", "databases: expected several paths, not one, 'app.db'"),
        (Path("app.db"), "databases: expected several paths, not one, 'app.db'"),
        ([None], "databases: expected paths, not NoneType"),
        ([7], "databases: expected paths, not int"),
    ],
)
def test_what_is_no_list_of_paths_is_the_programmers_error(place: Path, databases: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        list(migrate_all(databases, place))
    assert str(caught.value) == message
    assert os.listdir(".") == []


def test_wrong_files_are_told_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(HistoryError):
        migrate_all(["app.db"], tmp_path)  # not even iterated over


def test_the_options_are_those_of_migrate(place: Path) -> None:
    opened = []

    def connect(path: str) -> sqlite3.Connection:
        opened.append(path)
        return sqlite3.connect(path)

    names: list[Any] = [Path("one.db"), "two.db"]
    how: dict[str, Any] = {"connect": connect, "create": True}
    assert {len(outcome.steps) for outcome in migrate_all(names, place, target="1", **how)} == {1}
    assert {outcome.database for outcome in migrate_all(names, place, backup=True, **how)} == {*names}
    assert {*opened} > {"one.db", "two.db"}
    assert query(Path(taken("one.db.0001.bak")), "SELECT version_num FROM alembic_version") == [("0001",)]
    with held("one.db", "BEGIN EXCLUSIVE"):
        (outcome,) = migrate_all(["one.db"], place, timeout=0.01)
        assert str(outcome.error) == "one.db: locked by another process for 0.01 s; nothing was changed"


class Slow(Executor):
    """An executor that does nothing until it is told, and counts."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    def submit(self, work: Callable[..., Any], /, *values: Any, **named: Any) -> Future[Any]:
        self.futures.append(Future())
        if len(self.futures) == 1000:  # all that it is given ahead
            self.futures[0].set_exception(ValueError("the first"))
        return self.futures[-1]


def test_names_without_end_are_asked_for_one_by_one_and_what_waits_is_cancelled(place: Path) -> None:
    asked = []

    def names() -> Iterator[str]:
        while True:
            asked.append(len(asked))
            yield f"{len(asked)}.db"

    executor = Slow()
    outcomes = migrate_all(names(), place, executor=executor)
    assert str(next(outcomes).error).startswith("1.db: ValueError: the first; ")
    assert len(asked) == len(executor.futures) == 1000
    outcomes.close()
    assert [future.cancelled() for future in executor.futures] == [False] + [True] * 999


ENDLESS = "CREATE TABLE t (a);\nINSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT i FROM n;"
INTERRUPTED = """
import itertools, sys
from vmpilot.migrate import migrate_all

def names():
    for number in itertools.count():
        print(number, flush=True)
        yield f"{number}.db"

try:
    for outcome in migrate_all(names(), "endless", create=True):
        print(outcome)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("what", ["a statement", "a lock"])
def test_an_interrupt_ends_what_runs_and_begins_nothing_more(what: str) -> None:
    os.mkdir("endless")
    write(Path("endless"), "0001_endless", ENDLESS)
    change("0.db", "CREATE TABLE others (a)")
    change("1.db", "CREATE TABLE others (a)")
    held_by = "BEGIN IMMEDIATE" if what == "a lock" else "SELECT 1"
    with held("0.db", held_by), running("-c", INTERRUPTED) as process:
        while heard(process) != "1\n":
            pass
        process.send_signal(signal.SIGINT)
        said = process.communicate()
    assert said[0].splitlines()[-1] == "interrupted" and said[1] == "" and process.returncode == 0
    for name in ("0.db", "1.db"):
        assert query(Path(name), "SELECT name FROM sqlite_schema") == [("others",)]


def test_who_looks_no_further_stops_the_work(place: Path) -> None:
    outcomes = migrate_all((f"{number}.db" for number in range(10**9)), place, create=True)
    with closing(outcomes):
        assert ran(next(outcomes).steps) == ["0001", "0002"]
    assert sorted(outcomes) == []
    for name in os.listdir("."):
        if name.endswith(".db"):
            (count,) = query(Path(name), "SELECT count(*) FROM sqlite_schema WHERE name = 'chats'")[0]
            assert count in (0, 1)  # all of a step or nothing, and readable
    assert len(os.listdir(".")) < 1000
