"""Proves `verify`: correct downs pass in silence, and each wrong one is named, with what it does wrong."""

import os
import signal
import sqlite3
from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import change, ever_later, heard, in_process, query, running, unraisable, write

from vmpilot.migrate import AccessError, HistoryError, StepError, check, migrate, verify
from vmpilot.migrate.tools.verify import verify_on_copy

CHANGED = "after up and down the schema is not what it was before"
AGAIN = "after the second up the schema is not what it was after the first"
ROWS = "after the second up the rows are not what they were after the first"
NO_TRANSACTION = "-- vmpilot: no-transaction\n"
CONNECT = "for what only the application has: --connect MODULE:FUNCTION"
ALONE = "sql: no-transaction: if it is cut short, it runs again from its start"


@pytest.fixture(autouse=True)
def directory(migrations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work beside the migrations, so that messages are short."""
    monkeypatch.chdir(tmp_path)


# --- every kind of verdict

T = "CREATE TABLE t (a);"
SELF = "CREATE TABLE t (id INTEGER PRIMARY KEY, up REFERENCES t);"

# name: the pairs of files as version, up and down (None: there is none); then what is said of each.
CASES: dict[str, tuple[tuple[tuple[str, str, str | None], ...], tuple[str, ...]]] = {
    "right": ((("1", T, "DROP TABLE t;"),), ("ok    1",)),
    "nothing but comments": ((("1", "-- later\n", "-- nothing\n"), ("2", "", "")), ("ok    1", "ok    2")),
    "a write-ahead log in a transaction": (
        (
            ("1", f"{T}\nPRAGMA journal_mode = WAL;", "DROP TABLE t;"),
            (
                "2",
                f"{NO_TRANSACTION}PRAGMA main.journal_mode = wal;",
                f"{NO_TRANSACTION}PRAGMA journal_mode = DELETE;",
            ),
            ("3", "PRAGMA journal_mode('WAL');", "-- nothing\n"),
        ),
        (
            "FAIL  1",
            "up.sql:2: cannot change into wal mode from within a transaction; to run this file outside a"
            ' transaction, begin it with "-- vmpilot: no-transaction"',
            "ok    2",
            f"up.{ALONE}",
            f"down.{ALONE}",
            "ok    3",
        ),
    ),
    "where TEMP objects are kept": (
        (
            (
                "1",
                "PRAGMA temp_store = MEMORY;\nCREATE VIEW v AS SELECT 1;",
                "PRAGMA temp_store = FILE;\nDROP VIEW v;",
            ),
        ),
        ("ok    1",),
    ),
    "an up that fails": (
        (("1", "CREATE TABEL t (a);", "DROP TABLE t;"),),
        ("FAIL  1", 'up.sql:1: near "TABEL": syntax error'),
    ),
    "a down that fails": (
        (("1", T, "SELECT 1;\nDROP TABLE u;"),),
        ("FAIL  1", "down.sql:2: no such table: u"),
    ),
    "an empty down": (
        (("1", T, ""),),
        (
            "FAIL  1",
            f"down.sql: no statement: {CHANGED}: + table t",
            "up.sql:1: table t already exists; only after the down",
        ),
    ),
    "a down with nothing but comments": (
        (("1", "CREATE TABLE IF NOT EXISTS t (a);", "-- nothing\n"),),
        ("FAIL  1", f"down.sql: no statement: {CHANGED}: + table t"),
    ),
    "an empty down of what changes nothing": (
        (("1", T, "DROP TABLE t;"), ("2", "UPDATE t SET a = 1;", "-- nothing\n"), ("3", "SELECT 1;", "")),
        ("ok    1", "ok    2", "ok    3"),
    ),
    "an empty down of what changes a row": (
        (("1", f"{T} INSERT INTO t VALUES (0);", "DROP TABLE t;"), ("2", "UPDATE t SET a = 1;", "--")),
        (
            "ok    1",
            "FAIL  2",
            "down.sql: no statement: after up and down, table t: 1 of 1 rows changed or lost",
        ),
    ),
    "no down": ((("1", T, None),), ("FAIL  1", "up.sql: no 1.down.sql beside it")),
    "a down that leaves a table": (
        (
            (
                "1",
                "CREATE TABLE IF NOT EXISTS t (a);\nINSERT INTO t SELECT 1 WHERE (SELECT count(*) FROM t) = 0;",
                "ALTER TABLE t RENAME TO u;",
            ),
        ),
        ("FAIL  1", f"down.sql: {CHANGED}: + table u", f"down.sql: {AGAIN}: + table u"),
    ),
    "a down that leaves dangling rows": (
        (("1", SELF, f"INSERT INTO t VALUES (1, 7);\nDROP TABLE t;\n{SELF}\nINSERT INTO t VALUES (1, 7);"),),
        ("FAIL  1", "down.sql: 1 new foreign key violation: row 1 of t has no parent in t"),
    ),
    "a second up that leads elsewhere": (
        (("1", "CREATE TABLE IF NOT EXISTS t (a);", "SELECT 1;\nALTER TABLE t ADD COLUMN b;"),),
        ("FAIL  1", f"down.sql: {CHANGED}: + table t", f"down.sql: {AGAIN}: + column t.b"),
    ),
    "a second up that fails": (
        (("1", T, "SELECT 1;"),),
        (
            "FAIL  1",
            f"down.sql: {CHANGED}: + table t",
            "up.sql:1: table t already exists; only after the down",
        ),
    ),
    "an irreversible down": (
        (("1", T, "-- vmpilot: irreversible the rows are gone\n"),),
        ("ok    1", "irreversible: the rows are gone"),
    ),
    # What comes after a wrong down is tried as if the down had never been.
    "one wrong down makes no other fail": (
        (
            ("1", T, "SELECT 1;"),
            ("2", "ALTER TABLE t ADD COLUMN b;", "DELETE FROM t;\nALTER TABLE t DROP COLUMN b;"),
            ("3", "INSERT INTO t VALUES (1, 2);", "DELETE FROM t;"),
            ("4", "CREATE TABLE u (a);", "DROP TABLE u;\nDELETE FROM t;"),
            ("5", "CREATE INDEX i ON t (b);\nUPDATE t SET b = 3;", "DROP INDEX i;\nUPDATE t SET b = 2;"),
            ("6", f"{NO_TRANSACTION}CREATE TABLE v (a);", f"{NO_TRANSACTION}DELETE FROM t;\nDROP TABLE v;"),
            ("7", "CREATE TABLE w (a);", "DROP TABLE w;\nDELETE FROM t;"),
            ("8", "UPDATE t SET b = 4;", "UPDATE t SET b = 3;"),
        ),
        (
            "FAIL  1",
            f"down.sql: {CHANGED}: + table t",
            "up.sql:1: table t already exists; only after the down",
            "ok    2",
            "ok    3",
            "FAIL  4",
            "down.sql: after up and down, table t: 1 of 1 rows changed or lost",
            "ok    5",
            "FAIL  6",
            "down.sql: after up and down, table t: 1 of 1 rows changed or lost",
            f"up.{ALONE}",
            f"down.{ALONE}",
            "FAIL  7",
            "down.sql: after up and down, table t: 1 of 1 rows changed or lost",
            "ok    8",
        ),
    ),
    "a row that a down leaves is there once for the next": (
        (
            ("1", T, "DROP TABLE t;"),
            ("2", "INSERT INTO t VALUES (1);", "SELECT 1;"),
            ("3", "CREATE UNIQUE INDEX i ON t (a);", "DROP INDEX i;"),
        ),
        ("ok    1", "FAIL  2", f"down.sql: {ROWS}: table t: 1 row more than 1", "ok    3"),
    ),
    "settings of one file do not reach the next": (
        (
            ("1", f"{T}\nCREATE VIEW v AS SELECT a FROM t;", "DROP VIEW v;\nDROP TABLE t;"),
            ("2", "PRAGMA legacy_alter_table = ON;\nCREATE TABLE u (a);", "DROP TABLE u;"),
            ("3", "ALTER TABLE t RENAME TO w;", "ALTER TABLE w RENAME TO t;"),
        ),
        ("ok    1", "ok    2", "ok    3"),
    ),
    "an up that fails, and what stands on it": (
        (
            ("1", "CREATE TABLE a (x);", "SELECT 1;"),
            ("2", "CREATE TABLE b (x);", "DROP TABLE b;"),
            ("3", "INSERT INTO nowhere VALUES (1);", "SELECT 1;"),
            ("4", "CREATE TABLE d (x);", "DROP TABLE d;"),
        ),
        (
            "FAIL  1",
            f"down.sql: {CHANGED}: + table a",
            "up.sql:1: table a already exists; only after the down",
            "ok    2",
            "FAIL  3",
            "up.sql:1: no such table: nowhere",
            "FAIL  4",
            "up.sql: not tried, because 3 fails",
        ),
    ),
    "outside a transaction": (
        (
            ("1", "CREATE TABLE t (a);\nINSERT INTO t VALUES (1);", "DROP TABLE t;"),
            ("2", f"{NO_TRANSACTION}CREATE TABLE u (a);\nVACUUM;", f"{NO_TRANSACTION}VACUUM;\nDROP TABLE u;"),
            ("3", "CREATE TABLE w (a);", f"{NO_TRANSACTION}VACUUM;"),
        ),
        (
            "ok    1",
            "ok    2",
            f"up.{ALONE}",
            f"down.{ALONE}",
            "FAIL  3",
            f"down.sql: {CHANGED}: + table w",
            "up.sql:1: table w already exists; only after the down",
            f"down.{ALONE}",
        ),
    ),
}


@pytest.mark.parametrize(("files", "said"), CASES.values(), ids=CASES)
def test_verify_says(
    migrations: Path, files: tuple[tuple[str, str, str | None], ...], said: tuple[str, ...]
) -> None:
    for version, up, down in files:
        write(migrations, version, up, down)
    lines, version, failed = [], "", 0
    for line in said:
        if line.startswith(("ok    ", "FAIL  ")):
            version = line[6:]
            failed += line.startswith("FAIL")
            lines.append(line)
        else:
            place = f"migrations/{version}." if line.startswith(("up.", "down.")) else ""
            lines.append(f"      {place}{line}")
    total = f"{len(files)} {'migration' if len(files) == 1 else 'migrations'}, {failed} with problems"
    code, out, err = in_process("verify", "--migrations", "migrations")
    assert (code, out.splitlines(), err) == (int(failed > 0), [*lines, total], "")
    proof = verify("migrations")
    told = {text for verdict in proof.migrations for text in (*verdict.problems, *verdict.remarks)}
    assert told == {line.strip() for line in lines if line.startswith(" ")}
    assert (proof.ok, [verdict.ok for verdict in proof.migrations].count(False)) == (not failed, failed)


PAY = "CREATE TABLE pay (debit INTEGER, credit INTEGER);\nINSERT INTO pay VALUES (5, 7);"
REBUILT = (
    "CREATE TABLE n ({0});\nINSERT INTO n SELECT {1} FROM {2};\nDROP TABLE {2};\nALTER TABLE n RENAME TO {2};"
)
SEED = "CREATE TABLE seed (id INTEGER PRIMARY KEY, word TEXT UNIQUE, n);"
MORE = "down.sql: leaves rows behind: table seed:"
TEAM = "CREATE TABLE team (id INTEGER PRIMARY KEY);\nCREATE TABLE player (team_id REFERENCES team);"
GONE = "foreign key (team_id) of player has no table team"

# name: as above; the first migration is right and comes first.
FILLED = "INSERT INTO docs (docs) VALUES ('rebuild');"
INDEXED = (
    "CREATE TABLE t (b);\nINSERT INTO t VALUES ('one two');\nCREATE VIRTUAL TABLE docs USING fts5(b, content=t);\n"
    "INSERT INTO docs (rowid, b) VALUES (1, 'one two');"
)
ROW_CASES: dict[str, tuple[tuple[tuple[str, str], ...], tuple[str, ...]]] = {
    "columns that change places": (
        (
            (PAY, "DROP TABLE pay;"),
            (
                REBUILT.format("debit INTEGER, credit INTEGER, note", "*, NULL", "pay"),
                REBUILT.format("credit INTEGER, debit INTEGER", "credit, debit", "pay"),
            ),
        ),
        (
            "down.sql: after up and down the schema is not what it was before: "
            "~ table pay columns in order (debit, credit) -> (credit, debit)",
            f"down.sql: {ROWS}: table pay: 1 of 1 row changed in debit, credit",
        ),
    ),
    "columns by name, in another order inside": (
        (
            (PAY, "DROP TABLE pay;"),
            (
                REBUILT.format("debit INTEGER, credit INTEGER, note", "debit, credit, NULL", "pay"),
                REBUILT.format("debit INTEGER, credit INTEGER", "debit, credit", "pay"),
            ),
        ),
        (),
    ),
    "seeds that a down forgets": (
        ((SEED, "DROP TABLE seed;"), ("INSERT INTO seed (n) VALUES (1), (2);", "SELECT 1;")),
        (f"down.sql: {ROWS}: table seed: 2 rows more than 2",),
    ),
    "seeds that a down leaves and that do no harm": (
        (
            (SEED, "DROP TABLE seed;"),
            ("INSERT OR IGNORE INTO seed (word) VALUES ('a'), ('b');", "SELECT 1;"),
        ),
        (f"{MORE} 2 rows more",),
    ),
    "a second up that takes a row": (
        (
            (SEED, "DROP TABLE seed;"),
            (
                "INSERT OR IGNORE INTO seed VALUES (1, 'a', 0);\nUPDATE seed SET n = n + 1;\nDELETE FROM seed WHERE n > 1;",
                "SELECT 1;",
            ),
        ),
        (f"down.sql: {ROWS}: table seed: 1 of 1 row lost",),
    ),
    "a row whose value comes back as another": (
        (
            ("CREATE TABLE t (ok INTEGER DEFAULT 1, name);", "DROP TABLE t;"),
            (
                "INSERT INTO t (name) SELECT 'x' WHERE NOT EXISTS (SELECT 1 FROM t);\nUPDATE t SET ok = ok - 1;",
                "UPDATE t SET ok = ok + 2;",
            ),
        ),
        (f"down.sql: {ROWS}: table t: 1 of 1 row changed in ok",),
    ),
    "numbers of AUTOINCREMENT": (
        (
            (
                "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, n); INSERT INTO t (n) VALUES (1);",
                "DROP TABLE t;",
            ),
            ("INSERT INTO t (n) VALUES (2), (3);", "DELETE FROM t WHERE n > 1;"),
            ("INSERT INTO t (n) VALUES (4);", "DELETE FROM t WHERE n = 4;"),
        ),
        (),
    ),
    "the clock": (
        (
            (
                "CREATE TABLE t (id INTEGER PRIMARY KEY, at DEFAULT CURRENT_TIMESTAMP);\nINSERT INTO t (id) VALUES (1);",
                "DROP TABLE t;",
            ),
            (
                "INSERT INTO t (id) VALUES (2);\nUPDATE t SET at = datetime('now');",
                "DELETE FROM t WHERE id = 2;",
            ),
            (
                "CREATE TABLE u AS SELECT strftime('%s', 'now') a, julianday('now') b, strftime('%f', 'now') c;",
                "DROP TABLE u;",
            ),
        ),
        (),
    ),
    "chance": (
        (
            (
                "CREATE TABLE t (id INTEGER PRIMARY KEY, token UNIQUE DEFAULT (lower(hex(randomblob(16)))));\nINSERT INTO t DEFAULT VALUES;",
                "DROP TABLE t;",
            ),
            ("INSERT INTO t (id) VALUES (5), (6);", "DELETE FROM t WHERE id > 4;"),
            ("CREATE TABLE u AS SELECT random() AS a, id FROM t;", "DROP TABLE u;"),
            (
                "CREATE TABLE v (a);\nWITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000)\n"
                "INSERT INTO v SELECT 1 FROM n WHERE random() % 2;",
                "DROP TABLE v;",
            ),
        ),
        (),
    ),
    "the clock in a down": (
        (
            ("CREATE TABLE t (id, at);\nINSERT INTO t VALUES (1, 0);", "DROP TABLE t;"),
            ("UPDATE t SET at = 1;", "UPDATE t SET at = strftime('%s', 'now');"),
        ),
        (),
    ),
    "as many rows as the clock says": (
        (
            (
                "CREATE TABLE t (a);\nWITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000)\n"
                "INSERT INTO t SELECT i FROM n WHERE i <= 20000 * (strftime('%f', 'now') - strftime('%S', 'now'));",
                "DROP TABLE t;",
            ),
        ),
        (),
    ),
    "the clock in a default of an earlier file": (
        (
            (
                "CREATE TABLE t (id, at DEFAULT CURRENT_TIMESTAMP);\nINSERT INTO t VALUES (1, 0);",
                "DROP TABLE t;",
            ),
            ("DELETE FROM t;", "INSERT INTO t (id) VALUES (1);"),
        ),
        (),
    ),
    "chance that has few outcomes": (
        (
            (
                "CREATE TABLE t AS SELECT "
                + ", ".join(f"randomblob(1) < x'80' AS c{at}" for at in range(40)),
                "DROP TABLE t;",
            ),
        ),
        (),
    ),
    "chance beside what is wrong": (
        (
            ("CREATE TABLE t (id INTEGER, token DEFAULT (randomblob(16)), n DEFAULT 1);", "DROP TABLE t;"),
            (
                "UPDATE t SET n = n + 1;\nINSERT INTO t (id) SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM t);\n"
                "UPDATE t SET token = randomblob(16);",
                "SELECT 1;",
            ),
        ),
        (f"down.sql: {ROWS}: table t: 1 of 1 row changed in n",),
    ),
    "chance in the only column, and a row too many": (
        (
            ("CREATE TABLE t (token DEFAULT (randomblob(16)));", "DROP TABLE t;"),
            ("INSERT INTO t DEFAULT VALUES;", "SELECT 1;"),
        ),
        (f"down.sql: {ROWS}: table t: 1 row more than 1",),
    ),
    "a down that brings back another row": (
        (
            (f"{SEED}\nINSERT INTO seed VALUES (1, 'a', 1), (2, 'b', 2);", "DROP TABLE seed;"),
            ("DELETE FROM seed WHERE id = 2;", "INSERT INTO seed VALUES (2, 'b', '2');"),
        ),
        ("down.sql: after up and down, table seed: 1 of 2 rows changed or lost",),
    ),
    "a down that ends the transaction": (
        (
            (f"{SEED}\nINSERT INTO seed VALUES (1, 'a', 1);", "DROP TABLE seed;"),
            ("CREATE TABLE t (a);", "INSERT OR ROLLBACK INTO seed VALUES (1, 'a', 1);"),
            ("INSERT INTO t VALUES (1);", "DELETE FROM t;"),
        ),
        ("2", "down.sql:1: UNIQUE constraint failed: seed.id"),
    ),
    "a parent that is gone at head": (
        (
            (TEAM, "DROP TABLE player;\nDROP TABLE team;"),
            ("DROP TABLE team;", "CREATE TABLE team (id INTEGER PRIMARY KEY);"),
        ),
        (f"up.sql: {GONE}",),
    ),
    "a parent that is gone, and files that did not take it": (
        (
            (TEAM, "DROP TABLE player;\nDROP TABLE team;"),
            ("DROP TABLE team;", "CREATE TABLE team (id INTEGER PRIMARY KEY);"),
            ("CREATE TABLE more (a);", "DROP TABLE more;"),
        ),
        ("2", f"up.sql: {GONE}"),
    ),
    "a parent that comes back": (
        (
            (TEAM, "DROP TABLE player;\nDROP TABLE team;"),
            ("DROP TABLE team;", "CREATE TABLE team (id INTEGER PRIMARY KEY);"),
            ("CREATE TABLE team (id INTEGER PRIMARY KEY);", "DROP TABLE team;"),
        ),
        (),
    ),
    "a parent that never was": (
        (
            (
                'CREATE TABLE player (team_id REFERENCES team, "a b" REFERENCES [no team]);',
                "DROP TABLE player;",
            ),
        ),
        ("1", "up.sql: foreign key (a b) of player has no table `no team`", f"up.sql: {GONE}"),
    ),
    "a parent that an unguarded file takes": (
        (
            (TEAM, "DROP TABLE player;\nDROP TABLE team;"),
            (
                "-- vmpilot: unguarded nobody plays\nDROP TABLE team;",
                "CREATE TABLE team (id INTEGER PRIMARY KEY);",
            ),
        ),
        ("up.sql: unguarded: nobody plays",),
    ),
    "rows that go with their parent": (
        (
            (
                "CREATE TABLE team (id INTEGER PRIMARY KEY);\n"
                "CREATE TABLE player (team_id REFERENCES team ON DELETE CASCADE);",
                "DROP TABLE player;\nDROP TABLE team;",
            ),
            (
                "INSERT INTO team VALUES (1), (2);\nINSERT INTO player VALUES (1), (2);",
                "DELETE FROM player;\nDELETE FROM team;",
            ),
            (
                "-- vmpilot: foreign-keys-on the players go too\nDELETE FROM team WHERE id = 2;",
                "INSERT INTO team VALUES (2);\nINSERT INTO player VALUES (2);",
            ),
        ),
        ("up.sql: foreign-keys-on: the players go too",),
    ),
    **{
        f"the words of a full-text index of rows elsewhere, {down or 'forgotten'}": (
            (
                (INDEXED, "DROP TABLE docs;\nDROP TABLE t;"),
                (f"UPDATE t SET b = b || ' three';\n{FILLED}", f"UPDATE t SET b = 'one two';\n{down}"),
            ),
            () if down else ("down.sql: after up and down, table docs (its index): 1 row more",),
        )
        for down in ("", FILLED)
    },
    "the words of a full-text index without rows": (
        (
            (INDEXED.replace("content=t", "content=''"), "DROP TABLE docs;\nDROP TABLE t;"),
            (
                "INSERT INTO docs (docs, rowid, b) VALUES ('delete', 1, 'one two');\nINSERT INTO docs (rowid, b) VALUES (1, 'six');",
                "INSERT INTO docs (docs, rowid, b) VALUES ('delete', 1, 'six');\nINSERT INTO docs (rowid, b) VALUES (1, 'two one');",
            ),
        ),
        ("down.sql: after up and down, table docs (its index): 2 of 2 rows changed or lost",),
    ),
    "the words of an older full-text index": (
        (
            (INDEXED.replace("fts5", "fts4"), "DROP TABLE docs;\nDROP TABLE t;"),
            (f"UPDATE t SET b = 'six';\n{FILLED}", "UPDATE t SET b = 'one two';"),
        ),
        ("down.sql: after up and down, table docs (its index): 4 of 4 rows changed or lost",),
    ),
    "the numbers of the file": (
        (
            ("PRAGMA user_version = 1;\nPRAGMA application_id = 2;", "PRAGMA user_version = 0;"),
            ("PRAGMA user_version = 3;", "PRAGMA user_version = 1;"),
        ),
        (
            "1",
            "down.sql: after up and down, application_id is 2 and was 0; put it back: PRAGMA application_id = 0",
        ),
    ),
    "numbers of the file that the second up makes": (
        (
            ("CREATE TABLE t (a);\nPRAGMA user_version = 1;", "DROP TABLE t;\nPRAGMA user_version = 0;"),
            ("PRAGMA user_version = 3;", "PRAGMA user_version = 1;"),
        ),
        (),
    ),
    "what only the application has": (
        (("SELECT 1;\nCREATE TABLE t AS SELECT app_now() AS a;", "DROP TABLE t;"),),
        ("1", f"up.sql:2: no such function: app_now; {CONNECT}"),
    ),
}


@pytest.mark.parametrize(("files", "said"), ROW_CASES.values(), ids=ROW_CASES)
def test_rows_and_keys_are_compared(
    migrations: Path, files: tuple[tuple[str, str], ...], said: tuple[str, ...]
) -> None:
    """What is said is of the last migration, or of the one whose number comes first."""
    for number, (up, down) in enumerate(files, 1):
        write(migrations, str(number), up, down)
    number, *lines = said if said and said[0].isdigit() else (str(len(files)), *said)
    proof = verify("migrations")
    told = {verdict.version: [*verdict.problems, *verdict.remarks] for verdict in proof.migrations}
    expected = {str(other): [] for other in range(1, len(files) + 1)}
    expected[number] = [f"migrations/{number}.{line}" for line in lines]
    assert told == expected
    remark = ("leaves rows behind", "unguarded", "foreign-keys-on")
    assert proof.ok == all(any(words in line for words in remark) for line in lines)


def test_a_virtual_table_that_cannot_be_left_is_a_problem_of_its_file(migrations: Path) -> None:
    """An FTS5 table that was written by hand without its rows tells its damage only at the end of a savepoint."""
    columns = ("data(id INTEGER PRIMARY KEY, block)", "docsize(id INTEGER PRIMARY KEY, sz)")
    keyed = ("idx(segid, term, pgno, PRIMARY KEY (segid, term))", "config(k PRIMARY KEY, v)")
    shadows = [
        f"CREATE TABLE f_{table}" for table in (*columns, *(f"{table} WITHOUT ROWID" for table in keyed))
    ]
    row = "('table', 'f', 'f', 0, 'CREATE VIRTUAL TABLE f USING fts5(a, content=t)')"
    by_hand = ("PRAGMA writable_schema = ON", f"INSERT INTO sqlite_schema VALUES {row}", *shadows)
    up = ";\n".join(("CREATE TABLE t (a)", *by_hand, "INSERT INTO f_config VALUES ('version', 4)"))
    write(migrations, "1", f"{up};\nPRAGMA writable_schema = OFF;", "DROP TABLE f;\nDROP TABLE t;")
    write(migrations, "2", "CREATE TABLE u (a);", "DROP TABLE u;")
    damage = "migrations/1.up.sql: database disk image is malformed"
    told = [problem for verdict in verify("migrations").migrations for problem in verdict.problems]
    # A newer SQLite tells it to who reads the table, and at the end of a savepoint nothing.
    assert told in ([], [damage, "migrations/2.up.sql: not tried, because 1 fails"])


def test_one_line_in_a_test_suite(migrations: Path) -> None:
    verify().raise_for_problems()
    write(migrations, "0001_a", "CREATE TABLE a (x);", "SELECT 1;")
    with pytest.raises(HistoryError) as caught:
        verify("migrations").raise_for_problems()
    again = "migrations/0001_a.up.sql:1: table a already exists; only after the down"
    assert str(caught.value) == f"migrations/0001_a.down.sql: {CHANGED}: + table a; {again}"
    assert caught.value.file == "migrations/0001_a.down.sql"


# --- on a copy of a database

ON_COPY = ("verify", "--on-copy", "-d", "app.db", "--migrations", "migrations")


def test_on_copy_proves_the_pending_ones_with_the_rows(migrations: Path, database: Path) -> None:
    write(migrations, "0001_a", "CREATE TABLE a (x);", "DROP TABLE a;")
    migrate("app.db", migrations)
    change("app.db", "INSERT INTO a VALUES (1), (2), (NULL)")
    write(migrations, "0002_b", "CREATE TABLE b AS SELECT x FROM a;", "DROP TABLE b;")
    write(migrations, "0003_c", "DELETE FROM a WHERE x IS NULL;", "SELECT 1;")
    before = database.read_bytes()
    code, out, err = in_process(*ON_COPY)
    assert (code, out.splitlines(), err) == (
        1,
        [
            "ok    0002 b",
            "      rows of a: 3 -> 3",
            "      rows of b: 0 -> 3",
            "      a downgrade would cost: table b: 3 of 3 rows changed or lost",
            "FAIL  0003 c",
            "      migrations/0003_c.down.sql: after up and down, table a: 1 of 3 rows changed or lost",
            "      rows of a: 3 -> 2",
            "2 migrations, 1 with problems",
        ],
        "",
    )
    assert database.read_bytes() == before
    assert query(database, "SELECT version_num FROM alembic_version") == [("0001",)]
    assert {path.name for path in Path().iterdir()} == {"app.db", "migrations"}


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_on_copy_finds_what_only_the_rows_show(migrations: Path, mode: str) -> None:
    """On an empty database both pass; with rows one cannot go up, and is told as the run would tell it."""
    write(migrations, "0001_a", "CREATE TABLE a (x);", "DROP TABLE a;")
    change("app.db", f"PRAGMA journal_mode = {mode}")
    migrate("app.db", migrations)
    change("app.db", "INSERT INTO a VALUES (1), (1)")
    write(migrations, "0002_b", "CREATE INDEX one ON a (x);", "DROP INDEX one;")
    write(migrations, "0003_c", "SELECT 1;\nCREATE UNIQUE INDEX two ON a (x);", "DROP INDEX two;")
    assert verify("migrations").ok
    reason = "migrations/0003_c.up.sql:2: UNIQUE constraint failed: a.x"
    code, out, _ = in_process(*ON_COPY)
    assert (code, [line for line in out.splitlines() if not line.startswith("      rows")]) == (
        1,
        ["ok    0002 b", "FAIL  0003 c", f"      {reason}", "2 migrations, 1 with problems"],
    )
    said = in_process("upgrade", "-d", "app.db", "--migrations", "migrations")
    assert said.err == f"error: {reason}; rolled back, app.db is still at 0002\n"


def test_on_copy_a_log_that_a_transaction_keeps_from_beginning_is_named_once(migrations: Path) -> None:
    write(migrations, "1", "CREATE TABLE t (a);")
    migrate("app.db", "migrations")
    for version, up in (
        ("2", "PRAGMA journal_mode = WAL;"),
        ("3", "CREATE TABLE u (a);\nPRAGMA journal_mode = WAL;"),
    ):
        write(migrations, version, up, "DROP TABLE IF EXISTS u;")
    words = "cannot change into wal mode from within a transaction; to run this file outside a transaction"
    told = [
        problem
        for verdict in verify_on_copy("app.db", "migrations").migrations
        for problem in verdict.problems
    ]
    assert [problem.partition(", begin")[0] for problem in told] == [
        f"migrations/2.up.sql:1: {words}",
        "migrations/3.up.sql: not tried, because 2 fails",
        f"migrations/3.up.sql:2: {words}",
    ]
    change("app.db", "PRAGMA journal_mode = WAL")
    assert verify_on_copy("app.db", "migrations").ok


def test_on_copy_with_nothing_pending_is_no_problem(migrations: Path) -> None:
    write(migrations, "0001_a", "CREATE TABLE a (x);", "SELECT 1;")
    migrate("app.db", migrations)
    assert in_process(*ON_COPY) == (0, "0 migrations, 0 with problems\n", "")


@pytest.mark.parametrize(
    ("up", "down"),
    [
        ("ALTER TABLE a RENAME TO b;", "ALTER TABLE b RENAME TO a;"),
        ("ALTER TABLE a RENAME COLUMN x TO z;", "ALTER TABLE a RENAME COLUMN z TO x;"),
        (
            "ALTER TABLE a RENAME TO b;\nALTER TABLE b RENAME COLUMN x TO z;",
            "ALTER TABLE b RENAME COLUMN z TO x;\nALTER TABLE b RENAME TO a;",
        ),
        ("ALTER TABLE a ADD COLUMN z;", "ALTER TABLE a DROP COLUMN z;"),
        (
            "ALTER TABLE a RENAME TO b;\nALTER TABLE b ADD COLUMN z;",
            "ALTER TABLE b DROP COLUMN z;\nALTER TABLE b RENAME TO a;",
        ),
        (
            "CREATE TABLE b (n, z);\nINSERT INTO b SELECT y, x FROM a;\nDROP TABLE a;",
            "CREATE TABLE a (x, y);\nINSERT INTO a SELECT z, n FROM b;\nDROP TABLE b;",
        ),
        ("CREATE TABLE empty (x);", "DROP TABLE empty;"),
    ],
)
def test_on_copy_a_rename_costs_nothing(migrations: Path, up: str, down: str) -> None:
    write(migrations, "0001_a", "CREATE TABLE a (x, y);", "DROP TABLE a;")
    migrate("app.db", migrations)
    change("app.db", "INSERT INTO a VALUES (1, 2), (3, 4)")
    write(migrations, "0002_b", up, down)
    (verdict,) = verify_on_copy("app.db", "migrations").migrations
    assert (verdict.ok, verdict.problems, verdict.remarks, verdict.loses) == (True, (), (), ())


@pytest.mark.parametrize(
    ("up", "down", "lines"),
    [
        (
            "ALTER TABLE a DROP COLUMN y;",
            "ALTER TABLE a ADD COLUMN y;",
            ["migrations/0002_b.down.sql: after up and down, table a: 2 of 2 rows changed or lost"],
        ),
        (
            "ALTER TABLE a DROP COLUMN y;",
            "-- vmpilot: irreversible y is history\n",
            ["irreversible: y is history", "not to be brought back: column a.y: 2 values"],
        ),
        (
            "DROP TABLE a;",
            "CREATE TABLE a (x, y);",
            ["migrations/0002_b.down.sql: after up and down, table a: 2 of 2 rows changed or lost"],
        ),
        (
            "DROP TABLE a;",
            "-- vmpilot: irreversible a is history\nCREATE TABLE a (x, y);",
            ["irreversible: a is history", "not to be brought back: table a: 2 of 2 rows changed or lost"],
        ),
        (
            "ALTER TABLE a RENAME TO b;",
            "-- vmpilot: irreversible b is better\n",
            ["irreversible: b is better"],
        ),
        (
            "CREATE TABLE b AS SELECT y AS x, 5 AS y FROM a;\nDROP TABLE a;",
            "-- vmpilot: irreversible b is better\n",
            ["irreversible: b is better", "not to be brought back: table a: 2 of 2 rows changed or lost"],
        ),
        (
            "ALTER TABLE a RENAME TO b;\nALTER TABLE b DROP COLUMN y;",
            "-- vmpilot: irreversible y is history\n",
            ["irreversible: y is history", "not to be brought back: column a.y: 2 values"],
        ),
    ],
)
def test_on_copy_an_intended_loss_is_accepted_where_the_down_says_so(
    migrations: Path, up: str, down: str, lines: list[str]
) -> None:
    write(migrations, "0001_a", "CREATE TABLE a (x, y);", "DROP TABLE a;")
    migrate("app.db", migrations)
    change("app.db", "INSERT INTO a VALUES (1, 2), (3, 4)")
    write(migrations, "0002_b", up, down)
    (verdict,) = verify_on_copy("app.db", "migrations").migrations
    assert [*verdict.problems, *verdict.remarks] == lines
    assert verdict.ok == ("irreversible" in down)


def test_on_copy_a_key_that_had_no_parent_before_is_no_problem(migrations: Path) -> None:
    write(migrations, "0001_a", "CREATE TABLE a (x REFERENCES team);", "DROP TABLE a;")
    change("app.db", "CREATE TABLE legacy (y REFERENCES nobody)")
    write(migrations, "0002_b", "CREATE TABLE team (id INTEGER PRIMARY KEY);", "DROP TABLE team;")
    assert [verdict.problems for verdict in verify_on_copy("app.db", "migrations").migrations] == [(), ()]


# --- the runner's two tables

READING = (
    (
        "0001_seen",
        "-- vmpilot: revision first\nCREATE TABLE seen (a NOT NULL);\nCREATE VIEW log AS SELECT * FROM migration_log;",
        "DROP VIEW log;\nDROP TABLE seen;",
    ),
    (
        "0002_reads",
        "INSERT INTO seen SELECT version FROM log;\nINSERT INTO seen VALUES ((SELECT * FROM alembic_version));",
        "DELETE FROM seen;\nCREATE TABLE seen2 (a CHECK (a = '0002'));\n"
        "INSERT INTO seen2 SELECT * FROM alembic_version;\nDROP TABLE seen2;",
    ),
    (
        "0003_again",
        "CREATE TABLE held (a NOT NULL);\nINSERT INTO held VALUES ((SELECT a FROM seen));",
        "DROP TABLE held;",
    ),
)


def test_a_file_may_read_what_a_run_has_recorded_by_then(migrations: Path, database: Path) -> None:
    for stem, up, down in READING:
        write(migrations, stem, up, down)
    assert verify(migrations).ok
    migrate(database, migrations)
    assert query(database, "SELECT a FROM seen") == [("0001",), ("first",)]
    assert check(database, migrations).problems == ()


def test_what_is_taken_over_may_read_it_too(migrations: Path, database: Path) -> None:
    change(database, "CREATE TABLE other (a)")
    for stem, up, down in READING:
        write(migrations, stem, up, down)
    change(database, "CREATE TABLE held (b)")
    write(
        migrations,
        "0003_again",
        READING[2][1].replace("TABLE held", "TABLE IF NOT EXISTS held").replace("INSERT", "-- INSERT"),
    )
    with pytest.raises(StepError, match=r"is not as this file makes it: - column held\.a NOT NULL"):
        migrate(database, migrations)


def test_a_change_of_the_runners_tables_fails_in_verify_as_in_a_run(migrations: Path) -> None:
    trigger = "CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM migration_log; END"
    by_hand = f"INSERT INTO sqlite_schema VALUES ('trigger', 'g', 't', 0, '{trigger}');"
    write(
        migrations,
        "0001_hidden",
        f"CREATE TABLE t (a);\nPRAGMA writable_schema = ON;\n{by_hand}",
        "DROP TABLE t;",
    )
    write(migrations, "0002_fires", "INSERT INTO t VALUES (1);")
    told = verify(migrations).migrations[1].problems
    assert told == (
        f"{migrations}/0002_fires.up.sql: changes migration_log, which only the runner may change",
    )


# --- the application's own connection


def counting(path: str) -> sqlite3.Connection:
    """Open a path with a clock that goes on by a day at each look, and with the application's functions."""
    connection = sqlite3.connect(path)
    days = count()
    for name in ("datetime", "strftime", "current_timestamp"):
        connection.create_function(name, -1, lambda *_: f"2026-01-01 + {next(days)} days")
    connection.create_function("answer", 0, lambda: 42)
    return connection


def test_a_clock_that_goes_on_makes_nothing_fail(migrations: Path) -> None:
    """So it is at the turn of a second, whichever of the looks it comes between."""
    rows = "INSERT INTO t (id) VALUES (1), (2);"
    write(migrations, "1", f"CREATE TABLE t (id, at DEFAULT CURRENT_TIMESTAMP);\n{rows}", "DROP TABLE t;")
    write(migrations, "2", "UPDATE t SET at = datetime('now');", "-- nothing\n")
    proof = verify("migrations", connect=counting)
    assert [(verdict.problems, verdict.remarks) for verdict in proof.migrations] == [((), ())] * 2


def test_what_is_wrong_beside_the_clock_is_found(migrations: Path) -> None:
    table = "CREATE TABLE t (id, at DEFAULT CURRENT_TIMESTAMP);"
    write(migrations, "1", table, "DROP TABLE t;")
    write(migrations, "2", "INSERT INTO t (id) VALUES (1);", "SELECT 1;")
    found = [verdict.problems for verdict in verify("migrations", connect=counting).migrations]
    assert found == [(), (f"migrations/2.down.sql: {ROWS}: table t: 1 row more than 1",)]


def test_the_application_brings_its_functions(migrations: Path, database: Path) -> None:
    write(migrations, "0001_a", "CREATE TABLE a AS SELECT answer() AS x;", "DROP TABLE a;")
    opened: list[str] = []

    def connect(path: str) -> sqlite3.Connection:
        opened.append(path)
        connection = counting(path)
        connection.row_factory = sqlite3.Row
        connection.text_factory = bytes
        return connection

    assert verify("migrations", connect=connect).ok
    assert verify_on_copy("app.db", "migrations", connect=connect).ok
    assert opened[0] == ":memory:"
    assert len(opened) == 2
    assert not database.exists()
    proof = verify("migrations")
    assert [verdict.problems for verdict in proof.migrations] == [
        (f"migrations/0001_a.up.sql:1: no such function: answer; {CONNECT}",)
    ]


def test_what_opens_another_database_is_refused(migrations: Path, database: Path) -> None:
    """An application that opens its own file whatever it is asked for must not have that one tried on."""
    write(migrations, "0001_a", "CREATE TABLE a (x);", "DROP TABLE a;")
    change("app.db", "CREATE TABLE chats (x)")
    before = database.read_bytes()
    own = os.path.realpath("app.db")
    cases: list[tuple[Callable[[], object], str]] = [
        (
            lambda: verify("migrations", connect=lambda path: sqlite3.connect("app.db")),
            f"{own}: connect opened this, not what it was asked for; nothing was changed",
        ),
        (
            lambda: verify_on_copy("app.db", "migrations", connect=lambda path: sqlite3.connect("app.db")),
            f"{own}: connect opened this, not what it was asked for; nothing was changed",
        ),
        (
            lambda: verify("migrations", connect=filled),
            ":memory:: connect opened a database with chats in it, expected an empty one; "
            "nothing was changed",
        ),
        (lambda: verify("migrations", connect=refusing), ":memory:: unable; nothing was changed"),
    ]
    for act, message in cases:
        with pytest.raises(AccessError) as caught:
            act()
        assert str(caught.value) == message
    with pytest.raises(TypeError, match=r"^connect: expected an open connection, not NoneType$"):
        verify("migrations", connect=lambda path: None)
    assert database.read_bytes() == before


def filled(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE chats (x)")
    return connection


def refusing(path: str) -> sqlite3.Connection:
    raise sqlite3.OperationalError("unable")


# --- interrupted

ENDLESS = (
    "SELECT begun();\nWITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max({}) FROM n;"
)
VERIFYING = """
import os, sqlite3, sys
from functools import partial
from vmpilot.migrate.cli.commands import main

def connect(path):
    connection = sqlite3.connect(path)
    # Not in Python: what a signal raises in there, SQLite takes for an error of the function.
    connection.create_function("begun", 0, partial(os.write, 1, b"begun\\n"))
    return connection

sys.exit(main(["verify", "--migrations", "migrations", "--connect", "__main__:connect"]))
"""


@pytest.mark.parametrize(
    ("up", "down"),
    [
        (ENDLESS.format("i"), ""),
        (ENDLESS.format("random()"), ""),
        ("SELECT 1;", ENDLESS.format("datetime('now')")),
        (f"{NO_TRANSACTION}{ENDLESS.format('i')}", ""),
    ],
)
def test_a_signal_during_a_long_statement(migrations: Path, up: str, down: str) -> None:
    write(migrations, "0001_a", up, down)
    with running("-c", VERIFYING) as process:
        assert heard(process) == "begun\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err.startswith("error: ")) == (130, "", True)


@unraisable
def test_a_signal_at_any_moment(migrations: Path) -> None:
    seeds = "INSERT INTO t SELECT value, randomblob(9) FROM json_each('[1,2,3]');"
    write(migrations, "1", f"CREATE TABLE t (a, b);\n{seeds}", "DROP TABLE t;")
    write(migrations, "2", f"{NO_TRANSACTION}CREATE TABLE u (a);\nVACUUM;", f"{NO_TRANSACTION}DROP TABLE u;")
    write(migrations, "3", "UPDATE t SET b = random() % 2;", "UPDATE t SET b = randomblob(9);")
    proof = verify("migrations")
    for _ in ever_later(lambda: verify("migrations"), 1.3):
        pass
    assert [verdict.ok for verdict in verify("migrations").migrations] == [
        verdict.ok for verdict in proof.migrations
    ]


# --- all kinds together


class Pair(NamedTuple):
    """One migration, and wrong downs for it with what `verify` must say of each."""

    up: str
    down: str
    wrong: tuple[tuple[str, str], ...]


def pairs(number: int) -> list[Pair]:
    """Return migrations of several kinds that only touch the table of their own number and table `base`."""
    table, down = f"t{number}", f"migrations/{number:04}_m.down.sql:"
    rebuilt = (
        f"CREATE TABLE new_base (id INTEGER PRIMARY KEY, name TEXT, c{number} TEXT DEFAULT 'x');\n"
        "INSERT INTO new_base (id, name) SELECT id, name FROM base;\n"
        "DROP TABLE base;\nALTER TABLE new_base RENAME TO base;"
    )
    lost = f"{down} after up and down, table base:"
    return [
        Pair(
            f"CREATE TABLE {table} (a INTEGER, b TEXT DEFAULT 'x');\nINSERT INTO {table} VALUES (1, 'y');",
            f"DROP TABLE {table};",
            (
                ("SELECT 1;", f"{down} {CHANGED}: + table {table}"),
                (f"DELETE FROM base;\nDROP TABLE {table};", f"{lost} 2 of 2 rows changed or lost"),
                (f"DROP TABLE {table}s;", f"{down}1: no such table: {table}s"),
            ),
        ),
        Pair(
            f"CREATE INDEX i{number} ON base (name);",
            f"DROP INDEX i{number};",
            (
                ("SELECT 1;", f"{down} {CHANGED}: + index i{number} on base (name)"),
                (
                    f"DROP INDEX i{number};\nUPDATE base SET name = 'z' WHERE id = 1;",
                    f"{lost} 1 of 2 rows changed or lost",
                ),
            ),
        ),
        Pair(
            f"ALTER TABLE base ADD COLUMN c{number} TEXT;",
            f"ALTER TABLE base DROP COLUMN c{number};",
            (
                ("SELECT 1;", f"{down} {CHANGED}: + column base.c{number} TEXT"),
                # The rebuilt table also lacks the columns of others.
                (rebuilt, f"+ column base.c{number} TEXT DEFAULT 'x'"),
            ),
        ),
    ]


BASE = "CREATE TABLE base (id INTEGER PRIMARY KEY, name TEXT);\nINSERT INTO base (name) VALUES ('a'), ('b');"
KINDS = st.lists(st.integers(0, 2), min_size=1, max_size=5)


def written(directory: Path, kinds: list[int]) -> list[Pair]:
    write(directory, "0000_base", BASE, "DROP TABLE base;")
    history = [pairs(number)[kind] for number, kind in enumerate(kinds, 1)]
    for number, pair in enumerate(history, 1):
        write(directory, f"{number:04}_m", pair.up, pair.down)
    return history


@given(KINDS, st.data())
def test_right_downs_pass_in_silence_and_each_wrong_one_is_named_alone(
    kinds: list[int], data: st.DataObject
) -> None:
    with TemporaryDirectory() as name:
        history = written(Path(name), kinds)
        said = [(verdict.version, verdict.problems, verdict.remarks) for verdict in verify(name).migrations]
        assert said == [(f"{number:04}", (), ()) for number in range(len(kinds) + 1)]
        at = data.draw(st.integers(1, len(history)))
        down, problem = data.draw(st.sampled_from(history[at - 1].wrong))
        write(Path(name), f"{at:04}_m", history[at - 1].up, down)
        wrong = [verdict for verdict in verify(name).migrations if not verdict.ok]
        assert [verdict.version for verdict in wrong] == [f"{at:04}"]
        told = wrong[0].problems[0].replace(name, "migrations")
        assert told == problem or (down.startswith("CREATE TABLE new_base") and problem in told)


# --- any table, any rows

VALUES = ["NULL", "0", "1", "1.0", "'1'", "x'31'", "''", "x''", "'a'", "'A'", "-1.5"]
COLUMNS = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=4, unique=True)
DECLARED = st.sampled_from(["{}", "{} BLOB", "{} DEFAULT 1", "{} DEFAULT 'x'", "{} CHECK ({} <> 'never')"])
UPS = st.lists(
    st.sampled_from(
        [
            "ALTER TABLE t ADD COLUMN z DEFAULT 7;",
            "ALTER TABLE t RENAME COLUMN {0} TO y;",
            "UPDATE t SET {0} = {1};",
            "UPDATE t SET {0} = {1} WHERE rowid = 1;",
            "UPDATE t SET {0} = random();",
            "DELETE FROM t WHERE rowid = 2;",
            "INSERT INTO t ({0}) VALUES ({1});",
            "CREATE INDEX i ON t ({0});",
            "ALTER TABLE t RENAME TO u;\nCREATE TABLE t AS SELECT * FROM u;\nDROP TABLE u;",
        ]
    ),
    max_size=3,
    unique=True,
)
Rows = list[tuple[str, ...]]


class Drawn(NamedTuple):
    """A table with its rows, and a migration of it."""

    create: str
    columns: tuple[str, ...]
    rows: Rows
    up: str


@st.composite
def tables(draw: st.DrawFn) -> Drawn:
    columns = tuple(draw(COLUMNS))
    create = ", ".join(draw(DECLARED).replace("{}", name) for name in columns)
    row = st.tuples(*[st.sampled_from(VALUES)] * len(columns))
    rows = draw(st.lists(row, max_size=4))
    up = [text.format(columns[0], draw(st.sampled_from(VALUES))) for text in draw(UPS)]
    if "rename" in "".join(up).lower():  # moves out of the way of what names the column
        up.sort(key=lambda text: "RENAME" in text)
    return Drawn(f"CREATE TABLE t ({create});", columns, rows, "\n".join(up))


def put_back(table: Drawn, rows: Rows) -> str:
    """Return a down that makes the table anew, with these rows."""
    lines = [f"INSERT INTO t ({', '.join(table.columns)}) VALUES ({', '.join(row)});" for row in rows]
    return "\n".join(["DROP TABLE t;", table.create, *lines])


@given(tables(), st.data())
def test_of_any_table_a_right_down_passes_and_a_wrong_one_is_found(table: Drawn, data: st.DataObject) -> None:
    with TemporaryDirectory() as name:
        first = put_back(table, table.rows).removeprefix("DROP TABLE t;\n")
        write(Path(name), "1", first, "DROP TABLE t;")
        write(Path(name), "2", table.up, put_back(table, table.rows))
        assert [verdict.problems for verdict in verify(name).migrations] == [(), ()]
        rows = list(table.rows)
        kinds = ["more", "structure", *(["less", "value"] if rows else [])]
        kind = data.draw(st.sampled_from(kinds))
        down = put_back(table, rows)
        if kind == "more":
            down = put_back(table, [*rows, tuple("'more'" for _ in table.columns)])
        elif kind == "structure":
            down += "\n" + data.draw(
                st.sampled_from(["CREATE INDEX j ON t (rowid);", "ALTER TABLE t ADD q;"])
            )
        elif kind == "less":
            down = put_back(table, rows[1:])
        else:
            other = data.draw(st.sampled_from([value for value in VALUES if value != rows[0][0]]))
            rows[0] = (other, *rows[0][1:])
            down = put_back(table, rows)
        write(Path(name), "2", table.up, down.replace("(rowid)", f"({table.columns[0]})"))
        one, two = verify(name).migrations
        assert one.ok
        assert two.problems or (kind == "more" and two.remarks)


def test_what_foreign_key_actions_delete_is_seen() -> None:
    keys_on = "-- vmpilot: foreign-keys-on so it is meant\n"
    Path("migrations").mkdir(exist_ok=True)
    base = (
        "CREATE TABLE p (i INTEGER PRIMARY KEY); CREATE TABLE q (i INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE);"
        "CREATE TABLE r (q REFERENCES q ON DELETE SET NULL); CREATE TABLE s (n);"
        "CREATE TRIGGER g AFTER DELETE ON q BEGIN DELETE FROM s; END;"
        "INSERT INTO p VALUES (1), (2); INSERT INTO q VALUES (1, 1), (2, 2); INSERT INTO r VALUES (1), (2);"
        "INSERT INTO s VALUES (1);"
    )
    write(Path("migrations"), "0001_base", base, "DROP TABLE r; DROP TABLE q; DROP TABLE p; DROP TABLE s;")
    write(
        Path("migrations"), "0002_less", f"{keys_on}DELETE FROM p WHERE i = 1;", "INSERT INTO p VALUES (1);"
    )
    found = verify("migrations").migrations[1]
    assert not found.ok
    told = " ".join(found.problems)
    assert all(f"table {name}: " in told for name in "qrs")
    migrate("app.db", "migrations", target="1")
    said = in_process("upgrade", "--dry-run", "-d", "app.db", "--migrations", "migrations").out
    assert all(f"rows of {name}: " in said for name in "pqs")


def test_the_schema_is_read_whole_once_and_not_for_each_migration() -> None:
    asked: list[str] = []

    def traced(path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(path)
        connection.set_trace_callback(asked.append)
        return connection

    Path("migrations").mkdir(exist_ok=True)
    for number in range(1, 9):
        up = f"CREATE TABLE t{number} (i INTEGER PRIMARY KEY, p REFERENCES t{number - 1 or 1});"
        down = f"DROP VIEW v{number};\nDROP TABLE t{number};"
        write(
            Path("migrations"),
            f"000{number}",
            f"{up}\nCREATE VIEW v{number} AS SELECT i FROM t{number};",
            down,
        )
    assert verify("migrations", connect=traced).ok
    assert sum("rootpage = 0 FROM main.sqlite_master" in sql for sql in asked) == 2
