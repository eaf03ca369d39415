"""Proves `verify`: correct downs pass in silence, and each wrong one is named, with what it does wrong."""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import command, query, write

from vmpilot.migrate import HistoryError, migrate, verify
from vmpilot.migrate.tools.verify import Verdict, verify_on_copy

CHANGED = "after up and down the schema is not what it was before"


class Pair(NamedTuple):
    """One migration, and wrong downs for it with what `verify` must say of each."""

    up: str
    down: str
    wrong: tuple[tuple[str, str], ...]


def pairs(number: int) -> list[Pair]:
    """Return migrations of several kinds that only touch the table of their own number and table `base`."""
    table = f"t{number}"
    rebuilt = (
        f"CREATE TABLE new_base (id INTEGER PRIMARY KEY, name TEXT, c{number} TEXT DEFAULT 'x');\n"
        "INSERT INTO new_base (id, name) SELECT id, name FROM base;\n"
    )
    return [
        Pair(
            f"CREATE TABLE {table} (a INTEGER, b TEXT DEFAULT 'x');\nINSERT INTO {table} VALUES (1, 'y');",
            f"DROP TABLE {table};",
            (
                ("SELECT 1;", f"{CHANGED}: + table {table}"),
                (
                    "DELETE FROM base;\n" + f"DROP TABLE {table};",
                    "after up and down, table base: 2 of 2 rows changed or lost",
                ),
                (f"DROP TABLE {table}s;", None),
            ),
        ),
        Pair(
            f"CREATE INDEX i{number} ON base (name);",
            f"DROP INDEX i{number};",
            (
                (
                    "SELECT 1;",
                    f"{CHANGED}: + index i{number} on base (name)",
                ),
                (
                    f"DROP INDEX i{number};\nUPDATE base SET name = 'z' WHERE id = 1;",
                    "after up and down, table base: 1 of 2 rows changed or lost",
                ),
            ),
        ),
        Pair(
            f"ALTER TABLE base ADD COLUMN c{number} TEXT;",
            f"ALTER TABLE base DROP COLUMN c{number};",
            (
                (
                    "SELECT 1;",
                    f"{CHANGED}: + column base.c{number} TEXT",
                ),
                (
                    rebuilt + "DROP TABLE base;\nALTER TABLE new_base RENAME TO base;",
                    f"{CHANGED}: + column base.c{number} TEXT DEFAULT 'x'",
                ),
            ),
        ),
    ]


def histories() -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, 2), min_size=1, max_size=5)


def written(directory: Path, kinds: list[int]) -> list[Pair]:
    write(
        directory,
        "0000_base",
        "CREATE TABLE base (id INTEGER PRIMARY KEY, name TEXT);\nINSERT INTO base (name) VALUES ('a'), ('b');",
        "DROP TABLE base;",
    )
    history = [pairs(number)[kind] for number, kind in enumerate(kinds, 1)]
    for number, pair in enumerate(history, 1):
        write(directory, f"{number:04}_m", pair.up, pair.down)
    return history


@given(histories())
def test_correct_downs_pass_in_silence(kinds: list[int]) -> None:
    with TemporaryDirectory() as name:
        written(Path(name), kinds)
        proof = verify(name)
        assert proof.ok
        assert [(v.version, v.problems, v.remarks) for v in proof.migrations] == [
            (f"{number:04}", (), ()) for number in range(len(kinds) + 1)
        ]


@given(st.data())
def test_each_corruption_of_a_down_names_exactly_that_migration(data: st.DataObject) -> None:
    with TemporaryDirectory() as name:
        directory = Path(name)
        history = written(directory, data.draw(histories()))
        at = data.draw(st.integers(1, len(history)))
        down, said = data.draw(st.sampled_from(history[at - 1].wrong))
        write(directory, f"{at:04}_m", history[at - 1].up, down)
        proof = verify(directory)
        assert [v.version for v in proof.migrations if not v.ok] == [f"{at:04}"]
        problem = proof.migrations[at].problems[0]
        file = f"{directory}/{at:04}_m.down.sql"
        expected = f"{file}: {said}" if said else f"{file}:1: no such table: t{at}s"
        if "DEFAULT 'x'" in expected:  # the rebuilt table also lacks the columns of others
            assert problem.startswith(f"{file}: {CHANGED}: ")
            assert f"+ column base.c{at} TEXT DEFAULT 'x'" in problem
        else:
            assert problem == expected


def verdict(directory: Path, version: str) -> Verdict:
    (found,) = (v for v in verify(directory).migrations if v.version == version)
    return found


@pytest.mark.parametrize(
    ("up", "down", "problem"),
    [
        ("CREATE TABEL t (a);", "DROP TABLE t;", 'up.sql:1: near "TABEL": syntax error'),
        ("CREATE TABLE t (a);", "SELECT 1;\nDROP TABLE u;", "down.sql:2: no such table: u"),
        ("CREATE TABLE t (a);", "", "down.sql: empty, but 0001_t.up.sql is not"),
        ("CREATE TABLE t (a);", "-- nothing\n", "down.sql: empty, but 0001_t.up.sql is not"),
        ("CREATE TABLE t (a);", None, "up.sql: no 0001_t.down.sql beside it"),
        (
            "CREATE TABLE IF NOT EXISTS t (a);\nINSERT INTO t SELECT 1 WHERE (SELECT count(*) FROM t) = 0;",
            "ALTER TABLE t RENAME TO u;",
            f"down.sql: {CHANGED}: + table u",
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, up REFERENCES t);",
            "INSERT INTO t VALUES (1, 7);\nDROP TABLE t;\nCREATE TABLE t (id INTEGER PRIMARY KEY, up REFERENCES t);\n"
            "INSERT INTO t VALUES (1, 7);",
            "down.sql: 1 new foreign key violation: row 1 of t has no parent in t",
        ),
    ],
)
def test_each_kind_of_problem_is_told_exactly(
    migrations: Path, up: str, down: str | None, problem: str
) -> None:
    write(migrations, "0001_t", up, down)
    found = verdict(migrations, "0001")
    assert not found.ok
    assert found.problems[0] == f"{migrations}/0001_t.{problem}"


def test_the_second_up_must_lead_where_the_first_led(migrations: Path) -> None:
    write(migrations, "0001_t", "CREATE TABLE IF NOT EXISTS t (a);", "SELECT 1;\nALTER TABLE t ADD COLUMN b;")
    told = "after the second up the schema is not what it was after the first: + column t.b"
    assert verdict(migrations, "0001").problems[-1] == f"{migrations}/0001_t.down.sql: {told}"


def test_a_second_up_that_fails_is_told(migrations: Path) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);", "SELECT 1;")
    problems = verdict(migrations, "0001").problems
    assert problems[-1] == f"{migrations}/0001_t.up.sql:1: table t already exists; only after the down"


def test_all_migrations_are_reported_and_what_cannot_be_tried_says_why(migrations: Path) -> None:
    write(migrations, "0001_a", "CREATE TABLE a (x);", "SELECT 1;")
    write(migrations, "0002_b", "CREATE TABLE b (x);", "DROP TABLE b;")
    write(migrations, "0003_c", "INSERT INTO nowhere VALUES (1);", "SELECT 1;")
    write(migrations, "0004_d", "CREATE TABLE d (x);", "DROP TABLE d;")
    proof = verify(migrations)
    assert [v.ok for v in proof.migrations] == [False, True, False, False]
    assert proof.migrations[3].problems == (f"{migrations}/0004_d.up.sql: not tried, because 0003 fails",)


def test_an_irreversible_down_is_a_remark_and_no_failure(migrations: Path) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);", "-- vmpilot: irreversible the rows are gone\n")
    found = verdict(migrations, "0001")
    assert found.ok
    assert found.remarks == ("irreversible: the rows are gone",)


def test_files_outside_a_transaction_are_proved_too(migrations: Path) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);\nINSERT INTO t VALUES (1);", "DROP TABLE t;")
    header = "-- vmpilot: no-transaction\n"
    write(migrations, "0002_v", f"{header}CREATE TABLE u (a);\nVACUUM;", f"{header}VACUUM;\nDROP TABLE u;")
    write(migrations, "0003_w", "CREATE TABLE w (a);", f"{header}VACUUM;")
    proof = verify(migrations)
    assert [v.ok for v in proof.migrations] == [True, True, False]
    told = f"{CHANGED}: + table w"
    assert proof.migrations[2].problems[0] == f"{migrations}/0003_w.down.sql: {told}"


def test_one_line_in_a_test_suite(migrations: Path) -> None:
    verify().raise_for_problems()
    write(migrations, "0001_a", "CREATE TABLE a (x);", "SELECT 1;")
    with pytest.raises(HistoryError) as caught:
        verify(migrations).raise_for_problems()
    told = f"{CHANGED}: + table a"
    again = f"{migrations}/0001_a.up.sql:1: table a already exists; only after the down"
    assert str(caught.value) == f"{migrations}/0001_a.down.sql: {told}; {again}"
    assert caught.value.file == f"{migrations}/0001_a.down.sql"


def test_on_copy_proves_the_pending_ones_with_the_rows(migrations: Path, database: Path) -> None:
    write(migrations, "0001_a", "CREATE TABLE a (x);", "DROP TABLE a;")
    migrate(database, migrations)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO a VALUES (1), (2), (NULL)")
    write(migrations, "0002_b", "CREATE TABLE b AS SELECT x FROM a;", "DROP TABLE b;")
    write(migrations, "0003_c", "DELETE FROM a WHERE x IS NULL;", "SELECT 1;")
    before = hashlib.sha256(database.read_bytes()).digest()
    proof = verify_on_copy(database, migrations)
    assert hashlib.sha256(database.read_bytes()).digest() == before
    assert [v.version for v in proof.migrations] == ["0002", "0003"]
    second, third = proof.migrations
    assert second.ok
    assert second.rows == (("a", 3, 3), ("b", 0, 3))
    assert second.loses == ("table b: 3 of 3 rows changed or lost",)
    assert third.problems == (
        f"{migrations}/0003_c.down.sql: after up and down, table a: 1 of 3 rows changed or lost",
    )
    assert query(database, "SELECT version_num FROM alembic_version") == [("0001",)]


def test_on_copy_with_nothing_pending_is_no_problem(migrations: Path, database: Path) -> None:
    write(migrations, "0001_a", "CREATE TABLE a (x);", "DROP TABLE a;")
    migrate(database, migrations)
    assert verify_on_copy(database, migrations) == (True, ())


def test_the_command_exits_with_1_and_names_every_problem(migrations: Path) -> None:
    write(migrations, "0001_a", "CREATE TABLE a (x);", "SELECT 1;")
    write(migrations, "0002_b", "CREATE TABLE b (x);", "DROP TABLE b;")
    done = command("--migrations", migrations, "verify")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        "FAIL  0001 a",
        f"      {migrations}/0001_a.down.sql: {CHANGED}: + table a",
        f"      {migrations}/0001_a.up.sql:1: table a already exists; only after the down",
        "ok    0002 b",
        "2 migrations, 1 with problems",
    ]
