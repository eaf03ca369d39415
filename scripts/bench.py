#!/usr/bin/env python3
"""Time the migrator next to the least that the same work can cost.

    scripts/bench.py [--sizes 10 100 1000] [--megabytes 40] [--rounds 5] [--only CASE ...]

Needs python3 (3.11 or newer) and nothing else. Ours and its floor run in turn, in the same run, and of
each the least of all rounds is shown: what else the machine does only ever adds. Absolute times belong
to the machine, ratios to the code. Files go to a temporary directory ($TMPDIR) that is removed.
"""

import argparse
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
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vmpilot.migrate import check, migrate, verify  # noqa: E402
from vmpilot.migrate.files.directory import listed  # noqa: E402
from vmpilot.migrate.run.request import Request  # noqa: E402
from vmpilot.migrate.tools.backup import take  # noqa: E402
from vmpilot.migrate.tools.dry_run import rehearse  # noqa: E402

MEBIBYTE = 1 << 20


class Row(NamedTuple):
    """One line of the table; `limit` is what the ratio may be at most, 0 if nothing was promised."""

    case: str
    size: str
    ours: float
    floor: float
    limit: float
    against: str
    unit: str = "ms"


class Bench(NamedTuple):
    """What every case is given."""

    folder: Path
    sizes: list[int]
    megabytes: int
    rounds: int


# --- what is measured


def write_migrations(folder: Path, count: int) -> Path:
    """Write `count` migrations of one table with 5 columns, one index and 10 INSERTs each."""
    directory = folder / f"migrations-{count}"
    if directory.exists():
        return directory
    directory.mkdir()
    for number in range(1, count + 1):
        table = f"notes_{number}"
        lines = [
            f"-- Notes of kind {number} need a place of their own.",
            f"CREATE TABLE {table} (",
            "    id INTEGER PRIMARY KEY,",
            "    title TEXT NOT NULL,",
            "    body TEXT,",
            "    cost REAL DEFAULT 0,",
            "    at TIMESTAMP DEFAULT CURRENT_TIMESTAMP",
            ");",
            f"CREATE INDEX {table}_by_title ON {table} (title);",
        ]
        lines += [
            f"INSERT INTO {table} (title, body) VALUES ('note {row}', 'it''s; row {row}');"
            for row in range(10)
        ]
        stem = directory / f"{number:04}_add_{table}"
        stem.with_suffix(".up.sql").write_text("\n".join(lines) + "\n")
        stem.with_suffix(".down.sql").write_text(f"DROP TABLE {table};\n")
    return directory


def write_load(folder: Path, megabytes: int) -> Path:
    """Write one migration of single-row INSERTs, `megabytes` long."""
    directory = folder / f"load-{megabytes}"
    if directory.exists():
        return directory
    directory.mkdir()
    row = 0
    with open(directory / "0001_load.up.sql", "w") as file:
        file.write("CREATE TABLE load (id INTEGER PRIMARY KEY, name TEXT, body TEXT, cost REAL);\n")
        while file.tell() < megabytes * MEBIBYTE:
            file.writelines(
                f"INSERT INTO load VALUES ({number}, 'name {number}', 'body {number}; and ''more''', 0.5);\n"
                for number in range(row, row + 1000)
            )
            row += 1000
    (directory / "0001_load.down.sql").write_text("DROP TABLE load;\n")
    return directory


def bare_listing(directory: str) -> list[str]:
    """List the up files in the order of their numbers."""
    names = [name for name in os.listdir(directory) if name.endswith(".up.sql")]
    return sorted(names, key=lambda name: int(name.partition("_")[0]))


def bare_loop(connection: sqlite3.Connection, directory: str) -> None:
    """List the files, compare one row, and run each newer file in a transaction of its own."""
    connection.execute("CREATE TABLE IF NOT EXISTS version (version_num TEXT)")
    rows = connection.execute("SELECT version_num FROM version").fetchall()
    if not rows:
        connection.execute("INSERT INTO version VALUES ('')")
    for name in bare_listing(directory):
        version = name.partition("_")[0]
        if not rows or version > rows[0][0]:
            script = Path(directory, name).read_text()
            update = f"UPDATE version SET version_num = '{version}'"
            connection.executescript(f"BEGIN IMMEDIATE;\n{script}\n;{update};\nCOMMIT;")


def bare_apply(database: str, directory: str) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        bare_loop(connection, directory)


def bare_look(database: str, directory: str) -> None:
    """Find out that there is nothing to do."""
    names = bare_listing(directory)
    with closing(sqlite3.connect(database)) as connection:
        ((version,),) = connection.execute("SELECT version_num FROM alembic_version")
    if names[-1].partition("_")[0] != version:
        raise SystemExit("the floor of the no-op has something to do")


def borrowed_apply(database: str, directory: str) -> None:
    """Migrate through a caller's connection, whose progress handler is left alone."""
    with closing(sqlite3.connect(database)) as connection:
        migrate(connection, directory)


JOBS = {"ours": migrate, "bare": bare_apply}


# --- how it is measured

Clock = Callable[[], float]


def in_turn(rounds: int, *contenders: Callable[[], float]) -> list[float]:
    """Return the least that each contender reports in `rounds` rounds, in which they alternate."""
    results = [[contender() for contender in contenders] for _ in range(rounds)]
    return [min(column) for column in zip(*results, strict=True)]


def seconds(function: Callable[..., object], *arguments: object, clock: Clock = time.perf_counter) -> float:
    started = clock()
    function(*arguments)
    return clock() - started


def on_new_file(
    bench: Bench, function: Callable[..., object], directory: Path, clock: Clock = time.perf_counter
) -> float:
    """Return the seconds that `function` takes from a database that does not exist yet."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        return seconds(function, os.path.join(folder, "app.db"), str(directory), clock=clock)


def in_memory(function: Callable[..., object], directory: Path) -> float:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        return seconds(function, connection, str(directory))


def in_child(bench: Bench, job: str, directory: Path) -> tuple[float, int]:
    """Return the seconds and the peak memory in bytes of a job in a process of its own."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        code = f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r}); import bench; bench.child()"
        words = [sys.executable, "-c", code, job, os.path.join(folder, "app.db"), directory]
        answer = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    return float(answer[0]), int(answer[1])


def child() -> None:
    job, database, directory = sys.argv[1:]
    took = seconds(JOBS[job], database, directory)
    print(took, peak_memory())


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


# --- the cases


def no_op(bench: Bench) -> Iterator[Row]:
    """Start up with nothing to do, in a process that has done so before."""
    for size in bench.sizes:
        directory, database = at_head(bench, size)
        ours, floor = in_turn(
            20 * bench.rounds,
            partial(seconds, migrate, database, directory),
            partial(seconds, bare_look, database, directory),
        )
        yield Row("no-op, warm process", str(size), ours, floor, 1.5, "list, open, select")


def at_head(bench: Bench, size: int) -> tuple[str, str]:
    directory, database = write_migrations(bench.folder, size), bench.folder / f"head-{size}.db"
    migrate(database, directory)
    return str(directory), str(database)


STUB = """
import argparse
import sqlite3

parser = argparse.ArgumentParser(prog="stub", description="Open and select.", allow_abbrev=False)
add = parser.add_argument
add("command", nargs="?", default="upgrade", help="the command")
add("target", nargs="?", default="head", help="the target")
add("--dry-run", action="store_true", help="rehearse on a private copy")
add("--sql", action="store_true", help="print a script")
add("--backup", action="store_true", help="back up first")
add("-d", "--database", metavar="PATH", help="the database file")
add("--migrations", metavar="DIR", help="the migration files")
add("--timeout", metavar="SECONDS", type=float, default=30.0, help="how long to wait for a lock")
add("--json", action="store_true", help="one JSON object on standard output")
add("--quiet", action="store_true", help="print errors only")
add("--verbose", action="store_true", help="say what is used")
add("--version", action="version", version="1")
options = parser.parse_args()
connection = sqlite3.connect(options.database)
print(connection.execute("SELECT version_num FROM alembic_version").fetchall())
connection.close()
"""
ONE_LINE = (
    "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1]);"
    "print(connection.execute('SELECT version_num FROM alembic_version').fetchall())"
)


def no_op_process(bench: Bench) -> Iterator[Row]:
    """Start up with nothing to do, as a process in a clean virtual environment."""
    (bench.folder / "stub.py").write_text(STUB)
    venv.create(bench.folder / "venv", symlinks=True)
    python = str(bench.folder / "venv/bin/python")
    paths = os.pathsep.join((str(ROOT), str(bench.folder)))

    def process(*words: str) -> float:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": paths}
        run = subprocess.run
        return seconds(lambda: run((python, *words), env=environment, capture_output=True, check=True))

    for size in bench.sizes:
        directory, database = at_head(bench, size)
        options = ("--database", database, "--migrations", directory)
        ours, stub, one_line = in_turn(
            4 * bench.rounds,
            partial(process, "-m", "vmpilot.migrate", *options),
            partial(process, "-m", "stub", *options),
            partial(process, "-c", ONE_LINE, database),
        )
        yield Row("no-op, as a process", str(size), ours, stub, 1.2, "argparse, open, select")
        yield Row("no-op, as a process", str(size), ours, one_line, 0, "python -c: open, select")


def apply(bench: Bench) -> Iterator[Row]:
    """Apply all migrations from an empty file."""
    each: list[float] = []
    for size in bench.sizes:
        directory = write_migrations(bench.folder, size)
        ours, floor = in_turn(
            bench.rounds,
            partial(on_new_file, bench, migrate, directory),
            partial(on_new_file, bench, bare_apply, directory),
        )
        each.append(ours / size)
        yield Row("apply all", str(size), ours, floor, 1.15, "a bare loop")
    if len(each) > 1:
        yield Row("apply one of", str(bench.sizes[-1]), each[-1], each[0], 0, f"one of {bench.sizes[0]}")


def memory(bench: Bench) -> Iterator[Row]:
    """Apply all migrations and look at the peak memory."""
    for size in bench.sizes:
        directory = write_migrations(bench.folder, size)
        ours, floor = (in_child(bench, job, directory)[1] for job in ("ours", "bare"))
        yield Row("apply all, peak memory", str(size), ours, floor, 0, "a bare loop", "MiB")


def file(bench: Bench) -> Iterator[Row]:
    """Apply one big file."""
    directory = write_load(bench.folder, bench.megabytes)
    size = f"{bench.megabytes} MB"
    peaks: list[int] = []

    def ours() -> float:
        took, peak = in_child(bench, "ours", directory)
        peaks.append(peak)
        return took

    contenders = [ours, lambda: in_child(bench, "bare", directory)[0]]
    names = ["executescript"]
    if shutil.which("sqlite3"):
        contenders.append(partial(on_new_file, bench, shell_apply, directory))
        names.append("the sqlite3 shell")
    least, *floors = in_turn(max(2, bench.rounds // 2), *contenders)
    for name, floor in zip(names, floors, strict=True):
        yield Row("one big file", size, least, floor, 1.5, name)
    length = (directory / "0001_load.up.sql").stat().st_size
    limit = 4 * (bench.megabytes >= 40)  # below that, the interpreter itself is most of it
    yield Row("one big file, peak memory", size, max(peaks), length, limit, "the file's size", "MiB")


def shell_apply(database: str, directory: str) -> None:
    script = f"BEGIN;\n.read {directory}/0001_load.up.sql\nCOMMIT;\n"
    subprocess.run(["sqlite3", "-bail", database], input=script, text=True, check=True)


def interrupts(bench: Bench) -> Iterator[Row]:
    """Run one long statement so that Ctrl-C can stop it."""
    directory = bench.folder / "long"
    directory.mkdir()
    (directory / "0001_count.up.sql").write_text(
        "CREATE TABLE count AS WITH RECURSIVE counter (n) AS"
        " (SELECT 1 UNION ALL SELECT n + 1 FROM counter WHERE n < 2000000) SELECT max(n) FROM counter;"
    )
    # In processor time, because what else the machine does is more than the two percent looked for.
    ours, floor = in_turn(
        2 * bench.rounds,
        partial(on_new_file, bench, migrate, directory, time.process_time),
        partial(on_new_file, bench, borrowed_apply, directory, time.process_time),
    )
    yield Row("one long statement", "1", ours, floor, 1.02, "no progress handler")


def proofs(bench: Bench) -> Iterator[Row]:
    """Prove all files."""
    for size in bench.sizes:
        directory = write_migrations(bench.folder, size)
        ours, floor = in_turn(
            bench.rounds,
            partial(seconds, verify, directory),
            partial(in_memory, bare_loop, directory),
        )
        yield Row("verify", str(size), ours, floor, 12 * (size == 1000), "a bare loop in memory")


def checks(bench: Bench) -> Iterator[Row]:
    """Look at the health of a database at head."""
    for size in bench.sizes:
        directory, database = at_head(bench, size)
        ours, floor = in_turn(
            bench.rounds,
            partial(seconds, check, database, directory),
            partial(in_memory, bare_loop, Path(directory)),
        )
        yield Row("check", str(size), ours, floor, 3 * (size == 1000), "a bare loop in memory")


def backups(bench: Bench) -> Iterator[Row]:
    """Back a big database up."""
    database, copy = big(bench), bench.folder / "copy.db"
    ours, floor = in_turn(
        bench.rounds,
        partial(seconds, partial(take, database, "0001", timeout=1)),
        partial(seconds, bare_backup, database, copy),
    )
    yield Row("backup", f"{bench.megabytes} MB", ours, floor, 1 / 0.8, ".backup")


def rehearsals(bench: Bench) -> Iterator[Row]:
    """Rehearse one migration of a big database."""
    database, copy = big(bench), str(bench.folder / "copy.db")
    directory = bench.folder / "pending"
    shutil.copytree(write_load(bench.folder, bench.megabytes), directory)
    (directory / "0002_index.up.sql").write_text("CREATE INDEX load_by_name ON load (name);\n")
    (directory / "0002_index.down.sql").write_text("DROP INDEX load_by_name;\n")
    request = Request("upgrade", listed(str(directory)), "head")

    def copy_and_run() -> None:
        bare_backup(database, copy)
        migrate(copy, directory)
        os.unlink(copy)

    ours, floor = in_turn(
        bench.rounds,
        partial(seconds, partial(rehearse, request, database, timeout=1, report=id)),
        partial(seconds, copy_and_run),
    )
    yield Row("rehearsal", f"{bench.megabytes} MB", ours, floor, 1.3, "copy and run")


def big(bench: Bench) -> str:
    """Return the path of a database that one big file has filled."""
    database = str(bench.folder / "big.db")
    migrate(database, write_load(bench.folder, bench.megabytes))
    return database


def bare_backup(database: str, copy: str | Path) -> None:
    """Copy a database with the shell's .backup or, without a shell, with the same calls of SQLite."""
    if shutil.which("sqlite3"):
        subprocess.run(["sqlite3", database, f".backup '{copy}'"], check=True)
        return
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target, pages=100)


CASES = {
    "no-op": no_op,
    "process": no_op_process,
    "apply": apply,
    "memory": memory,
    "file": file,
    "interrupts": interrupts,
    "verify": proofs,
    "check": checks,
    "backup": backups,
    "rehearsal": rehearsals,
}


# --- the table


def main() -> None:
    options = arguments()
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} processors")
    print(line("case", "size", "ours", "floor", "ratio", "at most", "floor is"))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(Path(folder), sorted(options.sizes), options.megabytes, options.rounds)
        for name in options.only:
            for row in CASES[name](bench):
                print(shown(row), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", metavar="N", default=[10, 100, 1000], help="how many migrations")
    add("--megabytes", type=int, metavar="N", default=40, help="how long the big file is")
    add("--rounds", type=int, metavar="N", default=5, help="how often; quick cases run a multiple of it")
    add("--only", nargs="+", metavar="CASE", choices=CASES, default=list(CASES), help=", ".join(CASES))
    return parser.parse_args()


def shown(row: Row) -> str:
    ratio = row.ours / row.floor
    limit = f"{row.limit:.2f}" if row.limit else ""
    over = " MISSED" if row.limit and ratio > row.limit else ""
    scale = 1000 if row.unit == "ms" else 1 / MEBIBYTE
    ours, floor = (f"{scale * value:.2f} {row.unit}" for value in (row.ours, row.floor))
    return line(row.case, row.size, ours, floor, f"{ratio:.2f}", limit, row.against + over)


def line(case: str, size: str, ours: str, floor: str, ratio: str, limit: str, against: str) -> str:
    return f"{case:26} {size:>6} {ours:>12} {floor:>12} {ratio:>6} {limit:>8}  {against}"


if __name__ == "__main__":
    main()
