#!/usr/bin/env python3
"""Time the migrator next to the least that the same work can cost.

    scripts/bench.py [--sizes 10 100 1000] [--rows 1200000] [--megabytes 40] [--databases 1000]
                     [--rounds 3] [--only CASE ...]

Needs python3 (3.11 or newer) and nothing else; strace counts the fsyncs where it is there. Ours and its
floor (see bare.py) run in turn, in the same run, and of each the least of all rounds is shown: what else the
machine does only ever adds. Absolute times belong to the machine; what ours may take at most follows from the
floor. Files go to a temporary directory ($TMPDIR, to be on a disk) that is removed, and to /dev/shm.
"""

import argparse
import gc
import os
import platform
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import bare  # noqa: E402

from vmpilot.migrate import check, current, history, migrate, verify  # noqa: E402
from vmpilot.migrate.files.directory import listed  # noqa: E402
from vmpilot.migrate.run.request import Request  # noqa: E402
from vmpilot.migrate.tools.backup import take  # noqa: E402
from vmpilot.migrate.tools.dry_run import rehearse  # noqa: E402

MEBIBYTE = 1 << 20


class Row(NamedTuple):
    """One line of the table: seconds, bytes or a count; `most` is what ours may be, 0 for no promise."""

    case: str
    size: str
    ours: float
    floor: float
    most: float
    rule: str
    unit: str = "ms"


class Bench(NamedTuple):
    """What every case is given."""

    folder: Path
    sizes: tuple[int, ...]
    rows: int
    megabytes: int
    databases: int
    rounds: int


Job = Callable[[], float]
Work = Callable[..., object]


def against(case: str, size: object, ours: float, floor: float, limit: float, floor_is: str) -> Row:
    """Return a row for what may be at most `limit` times its floor; 0 is no limit."""
    rule = f"{limit:g} x {floor_is}" if limit else f"({floor_is})"
    return Row(case, str(size), ours, floor, limit * floor, rule)


# --- what is measured


def written(directory: Path, number: int, name: str, up: str, down: str = "") -> None:
    stem = directory / f"{number:05}_{name}"
    stem.with_suffix(".up.sql").write_text(up)
    stem.with_suffix(".down.sql").write_text(down)


@cache
def small_migrations(folder: Path, count: int) -> Path:
    """Write `count` migrations of one table with 5 columns, one index and 10 INSERTs each."""
    directory = folder / f"small-{count}"
    directory.mkdir()
    for number in range(1, count + 1):
        table = f"notes_{number}"
        columns = "id INTEGER PRIMARY KEY, title TEXT NOT NULL, body TEXT, cost REAL DEFAULT 0, at TIMESTAMP"
        rows = (f"INSERT INTO {table} (title, body) VALUES ('note {n}', 'it''s; {n}');\n" for n in range(10))
        index = f"CREATE INDEX {table}_by_title ON {table} (title);\n"
        up = f"-- Notes of kind {number}.\nCREATE TABLE {table} ({columns});\n{index}{''.join(rows)}"
        written(directory, number, f"add_{table}", up, f"DROP TABLE {table};\n")
    return directory


@cache
def load(folder: Path, megabytes: int) -> Path:
    """Write one migration of single-row INSERTs, `megabytes` long."""
    directory = folder / f"load-{megabytes}"
    directory.mkdir()
    table = "CREATE TABLE load (id INTEGER PRIMARY KEY, name TEXT, body TEXT, cost REAL);\n"
    row = "INSERT INTO load VALUES ({0}, 'name {0}', 'body {0}; and ''more''', 0.5);\n"
    count = megabytes * MEBIBYTE // len(row.format(1000000))
    written(directory, 1, "load", table + "".join(map(row.format, range(count))), "DROP TABLE load;\n")
    return directory


PARENTS = 20_000
BIG = f"""
CREATE TABLE chats (id INTEGER PRIMARY KEY, title TEXT);
CREATE TABLE exchanges (id INTEGER PRIMARY KEY, chat_id INTEGER NOT NULL REFERENCES chats (id), body TEXT);
CREATE INDEX exchanges_by_chat ON exchanges (chat_id);
CREATE TABLE tags (id INTEGER PRIMARY KEY, chat_id INTEGER REFERENCES chats (id), tag TEXT);
WITH n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {PARENTS})
INSERT INTO chats SELECT i, 'chat ' || i FROM n;
WITH n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ROWS)
INSERT INTO exchanges SELECT i, 1 + i % {PARENTS}, 'body ' || i FROM n;
INSERT INTO tags SELECT id, id, 'tag' FROM chats WHERE id <= 100;
"""
NEW_TABLES = [f"CREATE TABLE other_{n} (id INTEGER PRIMARY KEY, a TEXT);" for n in range(5)]
NEW_PARTS = [
    "ALTER TABLE exchanges ADD COLUMN model TEXT;",
    "CREATE VIEW titles AS SELECT id, title FROM chats;",
    "ALTER TABLE chats ADD COLUMN pinned INTEGER;",
    "CREATE INDEX tags_by_tag ON tags (tag);",
]
FEW_ROWS = [
    "UPDATE chats SET title = 'other' WHERE id = 7;",
    "INSERT INTO tags (chat_id, tag) VALUES (1, 'a'), (2, 'b');",
    "UPDATE exchanges SET body = 'other' WHERE id = 7;",
]
ONE_KEY = ["UPDATE exchanges SET chat_id = 8 WHERE id = 7;"]


@cache
def big(bench: Bench) -> str:
    """Return a database at its first version, with many rows that refer to a parent."""
    directory, database = bench.folder / "big", str(bench.folder / "big.db")
    directory.mkdir()
    written(directory, 1, "chats", BIG.replace("ROWS", str(bench.rows)))
    migrate(database, directory)
    return database


def further(bench: Bench, name: str, *steps: str) -> str:
    """Return the directory of the big database's first migration and of some more."""
    big(bench)
    directory = bench.folder / f"big-{name}"
    shutil.copytree(bench.folder / "big", directory, dirs_exist_ok=True)
    for number, step in enumerate(steps, 2):
        written(directory, number, "step", step)
    return str(directory)


@cache
def at_head(bench: Bench, size: int) -> tuple[str, str]:
    """Return a database to which all of some small migrations were applied, and their directory."""
    directory, database = small_migrations(bench.folder, size), str(bench.folder / f"head-{size}.db")
    migrate(database, directory)
    return database, str(directory)


# --- the floors


def bare_in_memory(directory: str) -> None:
    bare.each(":memory:", directory)


def bare_copy(database: str, copy: str) -> None:
    """Copy a database with the shell's .backup or, without a shell, with the same calls of SQLite."""
    if shutil.which("sqlite3"):
        subprocess.run(["sqlite3", database, f".backup '{copy}'"], check=True)
        return
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target, pages=100)


def one_check(database: str, table: str = "") -> float:
    """Return what SQLite takes to check all foreign keys, or those of a table."""
    with closing(sqlite3.connect(database)) as connection:
        return seconds(lambda: connection.execute(f"PRAGMA foreign_key_check{table}").fetchall())


# --- how it is measured


def in_turn(rounds: int, *contenders: Job) -> list[float]:
    """Return the least that each contender reports in `rounds` rounds, in which they alternate."""
    gc.collect()
    gc.freeze()  # what the cases before have left is not theirs to look through
    results = [[contender() for contender in contenders] for _ in range(rounds)]
    return [min(column) for column in zip(*results, strict=True)]


def seconds(work: Work, *arguments: object, clock: Job = time.perf_counter) -> float:
    started = clock()
    work(*arguments)
    return clock() - started


def on_a_copy(database: str, work: Work, directory: str) -> float:
    """Return the seconds that some work takes on a copy of a database, which is made before."""
    copy = f"{database}.copy"
    shutil.copy(database, copy)
    took = seconds(work, copy, directory)
    os.unlink(copy)
    return took


def on_a_new_file(folder: Path, work: Work, directory: Path, clock: Job = time.perf_counter) -> float:
    """Return the seconds that some work takes from a database that does not exist yet."""
    with tempfile.TemporaryDirectory(dir=folder) as new:
        return seconds(work, os.path.join(new, "app.db"), str(directory), clock=clock)


@cache
def python(bench: Bench) -> str:
    """Return the python of a clean virtual environment: what is installed here would be loaded too."""
    venv.create(bench.folder / "venv", symlinks=True)
    return str(bench.folder / "venv/bin/python")


def command(bench: Bench, work: str, database: str, directory: str) -> list[str]:
    """Return the command line of a whole process: of ours, or of a function of the floors."""
    if work == "ours":
        options = ["--quiet", "--database", database, "--migrations", directory]
        return [python(bench), "-m", "vmpilot.migrate", *options]
    return [python(bench), "-c", f"import bare; bare.{work}({database!r}, {directory!r})"]


def process(bench: Bench, work: str, database: str, directory: str, *before: str) -> None:
    paths = os.pathsep.join((str(ROOT), str(ROOT / "scripts")))
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": paths}
    words = [*before, *command(bench, work, database, directory)]
    subprocess.run(words, env=environment, capture_output=True, check=True)


def whole_process(bench: Bench, work: str, database: str, directory: str) -> Job:
    return partial(seconds, process, bench, work, database, directory)


def new_process(bench: Bench, work: str, directory: Path) -> Job:
    return partial(on_a_new_file, bench.folder, partial(process, bench, work), directory)


def peak_memory() -> int:
    """Return the most memory that this process has held, in bytes.

    Not ru_maxrss where it can be helped: it also counts what the parent held when it made this process.
    https://man7.org/linux/man-pages/man2/getrusage.2.html
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_in_child(bench: Bench, job: str, directory: Path) -> int:
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r}); import bench; bench.child()"
    with tempfile.TemporaryDirectory(dir=bench.folder) as new:
        words = [sys.executable, "-c", code, job, os.path.join(new, "app.db"), directory]
        return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def child() -> None:
    job, database, directory = sys.argv[1:]
    (migrate if job == "ours" else bare.each)(database, directory)
    print(peak_memory())


# --- the cases


def guards(bench: Bench) -> Iterator[Row]:
    """Take steps on a database with many rows that refer to a parent."""
    database = big(bench)
    whole, one = one_check(database), one_check(database, "(exchanges)")
    for name, steps, checks, unit, said in (
        ("5 new tables", NEW_TABLES, 0.3, whole, "check of all keys"),
        ("columns, a view, an index", NEW_PARTS, 0.3, whole, "check of all keys"),
        ("4 rows, no key", FEW_ROWS, 1, whole, "check of all keys"),
        ("one child's key", ONE_KEY, 2, one, "check of its table"),
    ):
        directory = further(bench, name.replace(" ", "-"), *steps)
        ours, floor = in_turn(
            bench.rounds,
            partial(on_a_copy, database, migrate, directory),
            partial(on_a_copy, database, bare.each, directory),
        )
        rule = f"a bare loop + {checks:g} x one {said}"
        yield Row(name, f"{bench.rows} rows", ours, floor, floor + checks * unit, rule)


def apply(bench: Bench) -> Iterator[Row]:
    """Apply all migrations from an empty file on the disk, as a process."""
    for size in bench.sizes:
        directory = small_migrations(bench.folder, size)
        works = ("each", "once", "together", "ours")
        each, once, together, ours = in_turn(
            bench.rounds, *(new_process(bench, work, directory) for work in works)
        )
        yield against(
            "apply all", size, ours, each, 0.5 if size >= 1000 else 0, "a bare loop, each committed"
        )
        yield against("apply all", size, ours, once, 1.8, "a bare loop, committed once")
        yield against("apply all", size, ours, together, 0, "all as one script, committed once")


def syncs(bench: Bench) -> Iterator[Row]:
    """Count how often the disk is waited for."""
    if not shutil.which("strace"):
        return
    directory = str(small_migrations(bench.folder, 200))

    def count(work: str) -> float:
        with tempfile.TemporaryDirectory(dir=bench.folder) as new:
            told = f"{new}/trace"
            traced = ("strace", "-f", "-o", told, "-e", "trace=fsync,fdatasync")
            process(bench, work, f"{new}/app.db", directory, *traced)
            return Path(told).read_text().count("sync(")

    yield Row("fsyncs", "200", count("ours"), count("each"), 60, "60; (a bare loop, each committed)", "")


def processor(bench: Bench) -> Iterator[Row]:
    """Apply all migrations, in processor time for each."""
    size, folder = bench.sizes[-1], memory_folder(bench)
    timed = partial(
        on_a_new_file, folder, directory=small_migrations(bench.folder, size), clock=time.process_time
    )
    ours, floor = (
        took / size
        for took in in_turn(bench.rounds, *(partial(timed, work) for work in (migrate, bare.together)))
    )
    yield Row("processor time for each", str(size), ours, floor, floor + 0.00015, "one script + 0.15 ms")


def no_op_process(bench: Bench) -> Iterator[Row]:
    """Start up with nothing to do, as a process."""
    for size in bench.sizes:
        found = at_head(bench, size)
        ours, floor = in_turn(
            7 * bench.rounds, *(whole_process(bench, work, *found) for work in ("ours", "look"))
        )
        yield against("no-op, as a process", size, ours, floor, 1.5, "a process that lists, opens, selects")


def no_op(bench: Bench) -> Iterator[Row]:
    """Start up with nothing to do, in a process that has done so before."""
    for size in bench.sizes:
        found = at_head(bench, size)
        ours, floor = in_turn(
            50 * bench.rounds, *(partial(seconds, work, *found) for work in (migrate, bare.look))
        )
        yield against("no-op, warm process", size, ours, floor, 1.4, "list, open, select")


def file(bench: Bench) -> Iterator[Row]:
    """Apply one big file."""
    directory, size = load(bench.folder, bench.megabytes), f"{bench.megabytes} MB"
    ours, floor = in_turn(bench.rounds, *(new_process(bench, work, directory) for work in ("ours", "each")))
    yield against("one big file", size, ours, floor, 1.5, "executescript")
    length, peak = (directory / "00001_load.up.sql").stat().st_size, peak_in_child(bench, "ours", directory)
    limit = 4 * (bench.megabytes >= 40)  # below that, the interpreter itself is most of it
    yield against("one big file, memory", size, peak, length, limit, "the file's size")._replace(unit="MiB")


def many(bench: Bench) -> Iterator[Row]:
    """Upgrade many small databases in memory, by two steps each: new ones, and such as have one already."""
    one, two, three = (str(small_migrations(bench.folder, count)) for count in (1, 2, 3))

    def all_of(work: Work, directory: str, *before: str) -> float:
        with tempfile.TemporaryDirectory(dir=memory_folder(bench)) as new:
            paths = [os.path.join(new, f"{number}.db") for number in range(bench.databases)]
            for path, first in product(paths, before):
                work(path, first)
            return seconds(lambda: [work(path, directory) for path in paths])

    for case, limit, directories in (
        ("many new databases, 2 steps", 1.7, (two,)),
        ("many databases, 2 more steps", 0, (three, one)),
    ):
        jobs = (partial(all_of, work, *directories) for work in (migrate, bare.each))
        ours, floor = in_turn(bench.rounds, *jobs)
        yield against(case, bench.databases, ours, floor, limit, "a bare loop, each committed")


def memory_folder(bench: Bench) -> Path:
    """Return a directory in memory, if there is one."""
    return Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else bench.folder


def interrupts(bench: Bench) -> Iterator[Row]:
    """Run one long statement so that Ctrl-C can stop it."""
    directory = bench.folder / "long"
    directory.mkdir()
    counter = "(SELECT 1 UNION ALL SELECT n + 1 FROM counter WHERE n < 2000000)"
    count = f"CREATE TABLE count AS WITH RECURSIVE counter (n) AS {counter} SELECT max(n) FROM counter;"
    written(directory, 1, "count", count)
    # In processor time, because what else the machine does is more than the few percent looked for.
    ours, floor = in_turn(
        2 * bench.rounds,
        *(
            partial(on_a_new_file, bench.folder, work, directory, time.process_time)
            for work in (migrate, bare.each)
        ),
    )
    yield against("one long statement", 1, ours, floor, 1.05, "executescript, which cannot be stopped")


def proofs(bench: Bench) -> Iterator[Row]:
    """Prove all files, and compare a database with what they make."""
    for case, limits in (("verify", 12), ("check", 3)):
        each: list[float] = []
        for size in bench.sizes:
            database, directory = at_head(bench, size)
            work = partial(verify, directory) if case == "verify" else partial(check, database, directory)
            rounds = max(1, min(bench.rounds, 300 // size))
            ours, floor = in_turn(rounds, partial(seconds, work), partial(seconds, bare_in_memory, directory))
            each.append(ours / size)
            yield against(case, size, ours, floor, limits * (size >= 1000), "a bare loop in memory")
        if len(each) > 1:
            rule = f"one of {bench.sizes[-2]}"
            yield against(f"{case}, for each", bench.sizes[-1], each[-1], each[-2], 3, rule)


def of_many(
    bench: Bench, name: str, size: int, write: Callable[[Path, int], None], works: dict[str, Work]
) -> Iterator[tuple[str, float, float]]:
    """Yield each work by its name, with what it takes for each of so many and for each of a quarter of them.

    `write` puts the files of so many into a directory, and the works are called with a database and that, one
    after the other.
    """
    each: dict[str, list[float]] = {}
    for count in (size // 4, size):
        directory, database = bench.folder / f"{name}-{count}", str(bench.folder / f"{name}-{count}.db")
        directory.mkdir()
        write(directory, count)
        for case, work in works.items():
            each.setdefault(case, []).append(seconds(work, database, directory) / count)
    yield from ((case, more, few) for case, (few, more) in each.items())


def proven(database: str, directory: Path) -> None:
    verify(directory)


def wide(bench: Bench) -> Iterator[Row]:
    """Compare and prove one migration of many tables."""

    def write(directory: Path, count: int) -> None:
        tables = (
            f"CREATE TABLE t{n} (id INTEGER PRIMARY KEY, t REFERENCES t{n} (id));\n" for n in range(count)
        )
        written(directory, 1, "tables", "".join(tables), "".join(f"DROP TABLE t{n};\n" for n in range(count)))

    works = {"apply": migrate, "verify": proven, "check": check}
    for case, more, few in of_many(bench, "wide", 1000, write, works):
        yield against(f"{case}, for each table", 1000, more, few, 2, "one of 250")


def keyed(bench: Bench) -> Iterator[Row]:
    """Take many steps of which each adds a table with a key."""

    def write(directory: Path, count: int) -> None:
        for number in range(1, count + 1):
            columns = f"id INTEGER PRIMARY KEY, t REFERENCES t{max(1, number - 1)} (id)"
            up = f"CREATE TABLE t{number} ({columns});\nINSERT INTO t{number} VALUES (1, 1);\n"
            written(directory, number, "table", up, f"DROP TABLE t{number};\n")

    works = {"apply": migrate, "check": check, "verify": proven}
    for case, more, few in of_many(bench, "keyed", 1000, write, works):
        yield against(f"{case} with keys, for each", 1000, more, few, 1.5, "one of 250")


def long_histories(bench: Bench) -> Iterator[Row]:
    """Apply many migrations, and tell of them."""

    def write(directory: Path, count: int) -> None:
        for number in range(1, count + 1):
            written(directory, number, "step", "SELECT 1;", "SELECT 1;")

    works = {"apply": migrate, "history": history, "current": current}
    for case, more, few in of_many(bench, "long", 5000, write, works):
        yield against(f"{case}, for each", 5000, more, few, 1.5, "one of 1250")


def copies(bench: Bench) -> Iterator[Row]:
    """Back a big database up, and rehearse a small step of it."""
    database, copy = big(bench), str(bench.folder / "copy.db")
    directory = further(bench, "rehearsal", NEW_PARTS[0])
    request = Request("upgrade", listed(directory), "head")

    def copy_and_run() -> None:
        bare_copy(database, copy)
        bare.each(copy, directory)
        os.unlink(copy)

    def backed_up() -> None:
        backup = take(database, "00001", timeout=1)
        if backup:
            os.unlink(backup.path)

    kept, floor = in_turn(
        bench.rounds, partial(seconds, backed_up), partial(seconds, bare_copy, database, copy)
    )
    yield against("backup", f"{bench.rows} rows", kept, floor, 0, ".backup; ours is checked too")
    os.unlink(copy)
    rehearsal = partial(rehearse, request, database, timeout=1, report=id)
    ours, floor = in_turn(bench.rounds, partial(seconds, rehearsal), partial(seconds, copy_and_run))
    yield against("dry run", f"{bench.rows} rows", ours, floor, 1.3, "a copy and a bare loop")


CASES = {
    "guards": guards,
    "apply": apply,
    "fsyncs": syncs,
    "processor": processor,
    "process": no_op_process,
    "no-op": no_op,
    "file": file,
    "many": many,
    "interrupts": interrupts,
    "verify": proofs,
    "wide": wide,
    "keyed": keyed,
    "long": long_histories,
    "copies": copies,
}


# --- the table


def main() -> None:
    options = arguments()
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores")
    print(line("case", "size", "ours", "floor", "ratio", "at most", "that is"))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        numbers = (options.rows, options.megabytes, options.databases, options.rounds)
        bench = Bench(Path(folder), tuple(sorted(options.sizes)), *numbers)
        for name in options.only:
            for row in CASES[name](bench):
                print(shown(row), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    add = partial(parser.add_argument, type=int, metavar="N")
    add("--sizes", nargs="+", default=[10, 100, 1000], help="how many migrations")
    add("--rows", default=1_200_000, help="how many rows of the big database refer to a parent")
    add("--megabytes", default=40, help="how long the big file is")
    add("--databases", default=1000, help="how many small databases")
    add("--rounds", default=3, help="how often; quick cases run a multiple of it")
    add("--only", type=str, nargs="+", choices=CASES, default=list(CASES), help=", ".join(CASES))
    return parser.parse_args()


def shown(row: Row) -> str:
    scale = {"ms": 1000, "MiB": 1 / MEBIBYTE, "": 1}[row.unit]
    digits = 0 if row.unit == "" else 2
    ours, floor, most = (
        f"{scale * value:.{digits}f} {row.unit}".rstrip() for value in (row.ours, row.floor, row.most)
    )
    missed = " MISSED" if row.most and row.ours > row.most else ""
    return line(
        row.case,
        row.size,
        ours,
        floor,
        f"{row.ours / row.floor:.2f}",
        most * bool(row.most),
        row.rule + missed,
    )


def line(case: str, size: str, ours: str, floor: str, ratio: str, most: str, rule: str) -> str:
    return f"{case:28} {size:>12} {ours:>11} {floor:>11} {ratio:>6} {most:>11}  {rule}".rstrip()


if __name__ == "__main__":
    main()
