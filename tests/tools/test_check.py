"""Proves `check` and its waiting form: each kind of problem with its whole message, no false alarm, no trace.

All on real files and real SQLite; what another process does meanwhile is done at a moment that is
known: inside a callback of the check itself.
"""

import hashlib
import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import (
    COMMAND,
    ROOT,
    Place,
    change,
    command,
    in_process,
    nobody,
    pasteable,
    query,
    running,
    write,
)

from vmpilot.migrate import Health, HistoryError, MigrationError, check, downgrade, migrate, stamp

RUN = "run: python3 -m vmpilot.migrate"
UPGRADE = f"{RUN} upgrade"
MEND = "mend it or put a backup back"
WHERE = ("-d", "app.db", "--migrations", "migrations")


@pytest.fixture(autouse=True)
def directory(migrations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work beside the database and its migrations, so that messages are short."""
    monkeypatch.chdir(tmp_path)


def said(health: Health, database: str | Path = "app.db") -> tuple[str, ...]:
    """Return the lines that tell what was found, under a short name: nothing, if all is well."""
    assert (health.database, health.ok) == (str(database), not health.problems)
    lines = [f"{problem.kind}: {problem.message}" for problem in health.problems]
    lines += [f"remark: {remark}" for remark in health.remarks]
    return tuple(line.replace(str(database), "app.db") for line in lines)


def kinds(lines: tuple[str, ...]) -> list[str]:
    return [line.partition(":")[0] for line in lines]


def checked(*, full: bool = False) -> tuple[str, ...]:
    """Check the database, and prove that the look left no trace."""
    before = prints()
    found = check("app.db", "migrations", full=full)
    assert prints() == before
    return said(found)


def prints() -> dict[str, str]:
    """Return a hash of each file of the database."""
    paths = [path for path in Path().glob("app.db*") if path.is_file()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def files(named: dict[str, str | None]) -> None:
    """Write up files with empty down files, or remove a pair."""
    for stem, up in named.items():
        if up is not None:
            write(Path("migrations"), stem, up)
        else:
            for direction in ("up", "down"):
                os.remove(f"migrations/{stem}.{direction}.sql")


CHATS = "CREATE TABLE chats (id INTEGER PRIMARY KEY, title TEXT)"
COSTS = "CREATE TABLE costs (chat REFERENCES chats, cost)"
TWO: dict[str, str | None] = {"0001_chats": CHATS, "0002_costs": COSTS}


@pytest.fixture
def two(migrations: Path) -> Path:
    """Two migrations, one table each."""
    write(migrations, "0001_chats", CHATS, "DROP TABLE chats")
    write(migrations, "0002_costs", COSTS, "DROP TABLE costs")
    return migrations


def words(pragma: str = "quick_check") -> str:
    """Return what SQLite itself says of the database; how, depends on its release."""
    return ", ".join(" ".join(str(row).split()) for (row,) in query(Path("app.db"), f"PRAGMA {pragma}"))


# --- every kind of problem


class Case(NamedTuple):
    """A way to make a database, and the lines that `check` says of it, none if all is well.

    `before` is done by hand, the files are applied up to `target` (None: no run at all; "stamp": no run,
    and stamped in the end), then `sql` is done by hand, and `later` are the files from then on.
    """

    files: dict[str, str | None]
    says: tuple[str, ...] = ()
    target: str | None = "head"
    before: tuple[str, ...] = ()
    sql: tuple[str, ...] = ()
    later: dict[str, str | None] = {}


MISSING = f"pending: app.db: does not exist, 2 migrations pending (0001_chats, 0002_costs); {UPGRADE}"
UNKNOWN = "but this code knows only base to 0002"
NEWER = (
    f"unknown: app.db is at 0007, {UNKNOWN}; it was upgraded by newer code; nothing was changed; "
    f"to take it back, {RUN} downgrade head"
)
TWO_ROWS = (
    "app.db: alembic_version holds 2 rows ('0002', '0001'), expected one text; nothing was changed; "
    f"to set the version, {RUN} stamp VERSION"
)
EDITED = "edited after it was applied; nothing was changed; write a new migration instead, or downgrade below it and upgrade again"
ACCEPT = f"{EDITED}, or accept the edit, {RUN} stamp 0002"
LATE = f"never applied, and app.db is already at 0009; nothing was changed; to give it the next free number, {RUN} renumber"
UNCOMPARED = "not_compared: app.db: schema not compared:"
DRIFT = "drift: app.db: schema is not as {} made it: {}; undo this by hand, or make it a migration"
MINE = "mend or delete these rows"
OTHERS = "remark: app.db: also holds what no applied migration made:"
NO_TRANSACTION = "-- vmpilot: no-transaction\n"

TABLES = {
    "chats": "CREATE TABLE chats (id TEXT PRIMARY KEY, title TEXT)",
    "costs": (
        "CREATE TABLE costs (a INT PRIMARY KEY, b TEXT NOT NULL DEFAULT 0 COLLATE NOCASE, "
        "c INT AS (a + 1) STORED, d REFERENCES chats ON DELETE CASCADE, CHECK (a > 0), UNIQUE (b))"
    ),
    "notes": "CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT UNIQUE ON CONFLICT IGNORE)",
    "pairs": "CREATE TABLE pairs (one INT, other ANY, PRIMARY KEY (one, other)) STRICT, WITHOUT ROWID",
}
REST = (
    "CREATE INDEX by_title ON chats (title)",
    "CREATE UNIQUE INDEX by_length ON chats (length(title) DESC) WHERE title IS NOT NULL",
    "CREATE VIEW titles AS SELECT title FROM chats",
    "CREATE TRIGGER keep BEFORE DELETE ON chats BEGIN SELECT RAISE(ABORT, 'no'); END",
    "CREATE TRIGGER put INSTEAD OF INSERT ON titles BEGIN INSERT INTO chats (title) VALUES (new.title); END",
    "CREATE VIRTUAL TABLE words USING fts5(word)",
)
EVERYTHING: dict[str, str | None] = {
    "0001_tables": ";\n".join(TABLES.values()),
    "0002_rest": ";\n".join(REST) + ";",
}

CASES = {
    "at head": Case(
        TWO, sql=("INSERT INTO chats VALUES (1, 'a')", "INSERT INTO costs VALUES (1, 2), (NULL, 3)")
    ),
    # the version
    "no file": Case(TWO, (MISSING,), target=None),
    "one pending": Case(TWO, (f"pending: app.db: 1 migration pending (0002_costs); {UPGRADE}",), target="1"),
    "of many pending migrations five are named": Case(
        {f"{number:04}" if number % 2 else f"{number:04}-x": "SELECT 1" for number in range(1, 9)},
        (f"pending: app.db: 8 migrations pending (0001, 0002_x, 0003, 0004_x, 0005 and 3 more); {UPGRADE}",),
        target=None,
        sql=("VACUUM",),
    ),
    "newer code": Case(
        TWO | {"0007_later": "CREATE TABLE later (a)"},
        (NEWER, f"{UNCOMPARED} no file for 0007_later"),
        later={"0007_later": None},
    ),
    "a revision of another project": Case(
        TWO,
        (
            f"unknown: app.db is at abc, {UNKNOWN}; nothing was changed; declare it in the up file with "
            "the same effect: -- vmpilot: revision abc",
            f"{UNCOMPARED} no file for abc",
        ),
        target=None,
        sql=(
            "CREATE TABLE alembic_version (version_num VARCHAR(32))",
            "INSERT INTO alembic_version VALUES ('abc')",
        ),
    ),
    "two versions do not hide the rest": Case(
        TWO,
        (
            f"unknown: {TWO_ROWS}",
            f"foreign_keys: app.db: 1 foreign key violation: row 1 of costs has no parent in chats; {MINE}",
        ),
        sql=("INSERT INTO alembic_version VALUES ('0001')", "INSERT INTO costs VALUES (7, 1)"),
    ),
    "applied, and without files": Case(
        TWO | {"0003_later": ""}, (f"{UNCOMPARED} no file for 0002_costs",), later={"0002_costs": None}
    ),
    # files that changed
    "edited": Case(
        TWO,
        (
            f"edited: migrations/0001_chats.up.sql: {ACCEPT}",
            f"edited: migrations/0002_costs.up.sql: {ACCEPT}",
        ),
        later={stem: str(up).replace("TABLE", "TABLE IF NOT EXISTS") for stem, up in TWO.items()},
    ),
    "letters beyond ASCII are letters as they are": Case(
        {"0001_a": "CREATE TABLE ÄRZTE (a)", "0002_b": "DROP TABLE ÄRZTE"},
        (DRIFT.format("0002", "+ table ÄRZTE"),),
        sql=("CREATE TABLE ÄRZTE (a)",),
    ),
    "rows that a file may leave": Case(
        {
            "0001_a": "CREATE TABLE p (i INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p);"
            "CREATE TABLE d (p REFERENCES p); INSERT INTO p VALUES (1); INSERT INTO c VALUES (1)",
            "0002_b": "-- vmpilot: unguarded old sins\nUPDATE c SET p = 2",
        },
        (
            f"foreign_keys: app.db: 1 foreign key violation: row 1 of d has no parent in p; {MINE}",
            "remark: app.db: 1 foreign key violation: row 1 of c has no parent in p; unguarded: old sins",
        ),
        sql=("INSERT INTO d VALUES (7)",),
    ),
    "an edit keeps from upgrading": Case(
        TWO,
        (
            "pending: app.db: 1 migration pending (0002_costs)",
            f"edited: migrations/0001_chats.up.sql: {EDITED}, or accept the edit, {RUN} stamp 0001",
        ),
        target="1",
        later={"0001_chats": "CREATE TABLE IF NOT EXISTS chats (id INTEGER PRIMARY KEY, title TEXT)"},
    ),
    "edited, at a version that only the log knows": Case(
        TWO | {"0007_later": ""},
        (NEWER, f"edited: migrations/0001_chats.up.sql: {EDITED}", f"{UNCOMPARED} no file for 0007_later"),
        later={"0007_later": None, "0001_chats": "CREATE TABLE chats (id)"},
    ),
    "edited, at a version that nobody knows": Case(
        TWO,
        (
            f"{NEWER.rpartition('; ')[0]}; to record 0002 and leave the rest as it is, {RUN} stamp 0002",
            f"edited: migrations/0001_chats.up.sql: {EDITED}",
            f"{UNCOMPARED} no file for 0007",
        ),
        sql=("UPDATE alembic_version SET version_num = '0007'",),
        later={"0001_chats": "CREATE TABLE chats (id)"},
    ),
    "edited, but only in looks": Case(
        TWO, later={"0002_costs": f"-- the same\n{COSTS.replace(' ', '  ')};;\r\n"}
    ),
    "another migration under an applied number": Case(
        {"0001_a": "CREATE TABLE a (x)", "0002_b": "CREATE TABLE b (x)"},
        (
            "other: migrations/0002_z.up.sql: 0002 is applied as b, but the files have 0002_z; nothing was "
            f"changed; put 0002_b back, and to give this one the next free number, {RUN} renumber 0002_z",
            DRIFT.format("0002", "- table z"),
            f"{OTHERS} table b",
        ),
        later={"0002_b": None, "0002_z": "CREATE TABLE z (x)"},
    ),
    "late": Case(
        {"0001_a": "", "0009_b": ""},
        (
            f"late: migrations/0003_c.up.sql: {LATE} 0003_c",
            f"late: migrations/0004.up.sql: {LATE} 0004",
        ),
        later={"0003_c": "CREATE TABLE c (a)", "0004": "CREATE TABLE d (a)"},
    ),
    # rows and pages
    "rows without a parent": Case(
        TWO,
        (
            "foreign_keys: app.db: 7 foreign key violations: "
            + ", ".join(f"row {row} of costs has no parent in chats" for row in range(1, 6))
            + f" and 2 more; {MINE}",
        ),
        sql=("INSERT INTO costs VALUES (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1)",),
    ),
    "a parent that is not unique": Case(
        {"0001": "CREATE TABLE a (b); CREATE TABLE c (d REFERENCES a (b))"},
        (
            "foreign_keys: app.db: 1 foreign key violation: "
            f'foreign key mismatch - "c" referencing "a"; {MINE}',
        ),
        target="stamp",
        sql=("CREATE TABLE a (b)", "CREATE TABLE c (d REFERENCES a (b))"),
    ),
    "a row that breaks a CHECK": Case(
        {"0001": "CREATE TABLE a (b CHECK (b > 0))"},
        (f"integrity: app.db: QUICK_CHECK; {MEND}",),
        sql=("PRAGMA ignore_check_constraints = ON", "INSERT INTO a VALUES (0)"),
    ),
    # SQLite 3.40.0 to 3.41.0 see NULL where there is none, and SQLite the number of an older row
    "a sound table WITHOUT ROWID": Case(
        {"0001": "CREATE TABLE m (u INTEGER, t TEXT, PRIMARY KEY (t, u)) WITHOUT ROWID"},
        sql=("INSERT INTO m VALUES (1, 'a'), (2, 'b')",),
    ),
    "a column with a default of the other type": Case(
        {
            "0001": "CREATE TABLE m (a)",
            "0002": "INSERT INTO m VALUES (1), (2); ALTER TABLE m ADD COLUMN flag TEXT NOT NULL DEFAULT true",
        },
    ),
    # what does not work any more
    "a foreign key without a parent": Case(
        {"0001": "CREATE TABLE team (id INTEGER PRIMARY KEY); CREATE TABLE player (a, b REFERENCES team)"},
        (DRIFT.format("0001", "- table team"), "broken: app.db: foreign key (b) of player has no table team"),
        sql=("INSERT INTO player VALUES (1, 1)", "DROP TABLE team"),
    ),
    "foreign keys of several columns without a parent": Case(
        {"0001": ""},
        (
            "broken: app.db: foreign key (x, y) of b has no table a",
            "broken: app.db: foreign key (z) of b has no table C",
            f"{OTHERS} table b",
        ),
        sql=(
            "CREATE TABLE b (x, y PRIMARY KEY, z REFERENCES C, w REFERENCES B, FOREIGN KEY (x, y) REFERENCES a)",
        ),
    ),
    "views and triggers that do not compile": Case(
        {"0001": "CREATE TABLE t (a); CREATE TABLE u (a)"},
        (
            DRIFT.format("0001", "+ trigger g on t"),
            DRIFT.format("0001", "+ trigger h on t"),
            "broken: app.db: w does not compile: no such table: main.gone",
            "broken: app.db: h does not compile: no such table: main.audits",
            f"{OTHERS} view v, view w",
        ),
        sql=(
            "CREATE VIEW v AS SELECT a FROM t",
            "CREATE VIEW w AS SELECT a FROM gone",
            "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO u VALUES (1); END",
            "CREATE TRIGGER h AFTER INSERT ON t BEGIN INSERT INTO audits VALUES (1); END",
        ),
    ),
    "a view of a virtual table": Case(
        {
            "0001": "CREATE TABLE docs_content (id INTEGER PRIMARY KEY, a);"
            "CREATE VIRTUAL TABLE docs USING fts4(content='docs_content', a);"
            "CREATE VIRTUAL TABLE own USING fts5(a); CREATE VIEW v AS SELECT a FROM docs JOIN own USING (a)"
        }
    ),
    "a schema that a migration wrote by hand": Case(
        {
            "0001": "CREATE TABLE t (a)",
            "0002": "PRAGMA writable_schema = ON;"
            "UPDATE sqlite_master SET sql = 'CREATE TABLE t (a INTEGER NOT NULL)' WHERE name = 't';"
            "PRAGMA writable_schema = OFF",
        }
    ),
    "what two migrations leave, with the reason of the first": Case(
        {
            "0001": "-- vmpilot: unguarded one\nCREATE VIEW v AS SELECT a FROM gone",
            "0002": "-- vmpilot: unguarded two\nCREATE TABLE t (a)",
        },
        ("remark: app.db: v does not compile: no such table: main.gone; unguarded: one",),
    ),
    "a wrong view of a virtual table that has its columns from a table": Case(
        {"0001": "CREATE TABLE t (a); CREATE VIRTUAL TABLE docs USING fts4(content='t')"},
        ("broken: app.db: v does not compile: no such column: b", f"{OTHERS} view v"),
        sql=("CREATE VIEW v AS SELECT b FROM docs",),
    ),
    "a view of a table that is gone, named like another": Case(
        {"0001": "CREATE TABLE Note (a)"},
        ("broken: app.db: v does not compile: no such table: main.Notes", f"{OTHERS} view v"),
        sql=("CREATE VIEW v AS SELECT a FROM Notes",),
    ),
    "a view of what only the application can make": Case(
        {"0001": "CREATE TABLE t (a)"},
        (f"{OTHERS} virtual table docs, view v",),
        sql=(
            "PRAGMA writable_schema = ON",
            "INSERT INTO sqlite_master (type, name, tbl_name, rootpage, sql) VALUES "
            "('table', 'docs', 'docs', 0, 'CREATE VIRTUAL TABLE docs USING ours (a)')",
            "PRAGMA writable_schema = RESET",
            "CREATE VIEW v AS SELECT a FROM docs",
        ),
    ),
    "a table with the name of a shadow": Case(
        {
            "0001": "CREATE VIRTUAL TABLE docs USING fts5(a, content='docs_content');"
            "CREATE TABLE docs_content (id INTEGER PRIMARY KEY, a)"
        },
        (DRIFT.format("0001", "+ column docs_content.b"),),
        sql=("ALTER TABLE docs_content ADD COLUMN b",),
    ),
    # drift, and what is none
    "the order of columns": Case(
        {"0001": "CREATE TABLE pay (debit INTEGER, credit INTEGER)"},
        (DRIFT.format("0001", "~ table pay columns in order (debit, credit) -> (credit, debit)"),),
        sql=("ALTER TABLE pay DROP COLUMN debit", "ALTER TABLE pay ADD COLUMN debit INTEGER"),
    ),
    "another spelling": Case(
        {
            "0001": "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (a REFERENCES p, b DEFAULT FALSE);"
            "CREATE INDEX i ON c (a) WHERE (b IS NULL)"
        },
        target="stamp",
        sql=(
            "CREATE TABLE p (id INTEGER NOT NULL PRIMARY KEY)",
            "CREATE TABLE c (a, b DEFAULT 0, FOREIGN KEY (a) REFERENCES p (id))",
            "CREATE INDEX i ON c (a COLLATE BINARY) WHERE b IS NULL",
        ),
    ),
    "what others made": Case(
        EVERYTHING,
        (
            f"{OTHERS} view their_view, virtual table their_words, table theirs, "
            "index theirs_by_a on theirs (a)",
        ),
        before=(
            "CREATE TABLE theirs (a)",
            "CREATE INDEX theirs_by_a ON theirs (a)",
            "CREATE VIEW their_view AS SELECT * FROM theirs",
            "CREATE VIRTUAL TABLE their_words USING fts5(word)",
        ),
        sql=("ANALYZE",),  # makes a table of SQLite's own
    ),
    "a table that a migration dropped": Case(
        EVERYTHING | {"0003_drop": "DROP TABLE pairs; ALTER TABLE notes RENAME TO memos; DROP TABLE memos"},
        tuple(DRIFT.format("0003", f"+ table {name}") for name in ("Memos", "Notes", "pairs")),
        sql=(TABLES["pairs"], "CREATE TABLE Notes (a)", "CREATE TABLE [Memos] (a)"),
    ),
    "at base every table is of others": Case(
        TWO,
        (
            f"pending: app.db: 2 migrations pending (0001_chats, 0002_costs); {UPGRADE}",
            f"{OTHERS} table chats",
        ),
        target=None,
        sql=("CREATE TABLE chats (id)",),
    ),
    "only what is applied is expected": Case(
        EVERYTHING,
        (
            f"pending: app.db: 1 migration pending (0002_rest); {UPGRADE}",
            DRIFT.format("0001", "- table pairs"),
        ),
        target="1",
        sql=("DROP TABLE pairs",),
    ),
    # A rebuilt table, a renamed one and one with another layout: other text, the same structure.
    "a schema that took another way": Case(
        TWO
        | {
            "0003_rebuild": """
            INSERT INTO chats VALUES (1, 'a'); INSERT INTO costs VALUES (1, 2);
            CREATE TABLE new (id INTEGER PRIMARY KEY, title TEXT NOT NULL);
            INSERT INTO new SELECT id, coalesce(title, '') FROM chats;
            DROP TABLE chats; ALTER TABLE new RENAME TO chats;
            ALTER TABLE costs ADD COLUMN note TEXT; ALTER TABLE costs DROP COLUMN cost;
            """
        },
        target="stamp",
        sql=(
            'CREATE TABLE "chats" ("id" integer primary key, -- the key\n [title] text not null)',
            "CREATE TABLE costs (chat REFERENCES chats,\n note TEXT)",
        ),
    ),
    # SQLite's way to change a constraint without a copy: https://www.sqlite.org/lang_altertable.html
    "a schema that a migration wrote itself": Case(
        TWO
        | {
            "0003_edit": "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = "
            "'CREATE TABLE chats (id INTEGER PRIMARY KEY, title TEXT DEFAULT 1)' WHERE name = 'chats'"
        }
    ),
    "settings and temporary tables of one file do not reach the next": Case(
        {
            "0001": "CREATE TABLE a (b PRIMARY KEY); CREATE TABLE c (d REFERENCES a)",
            "0002": "PRAGMA legacy_alter_table = ON; CREATE TEMP TABLE new (x); CREATE TABLE e (f)",
            "0003": "ALTER TABLE a RENAME TO g; CREATE TABLE new (y); INSERT INTO new (y) VALUES (1)",
        }
    ),
    "what SQLite refuses in a transaction": Case(
        TWO | {"0003": f"{NO_TRANSACTION}PRAGMA journal_mode = WAL; VACUUM; CREATE TABLE late (a)"}
    ),
    "what a file outside of a transaction made": Case(
        TWO | {"0003": f"{NO_TRANSACTION}VACUUM; CREATE TABLE late (a)"},
        (DRIFT.format("0003", "- table late"),),
        sql=("DROP TABLE late",),
    ),
    "a table that only the application makes": Case(
        {"0001": "CREATE VIEW v AS SELECT 1; ALTER TABLE theirs ADD COLUMN note"},
        (f"{UNCOMPARED} migrations/0001.up.sql:1: no such table: theirs",),
        before=("CREATE TABLE theirs (a)",),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_check_says(case: Case) -> None:
    files(case.files)
    if case.before:
        change("app.db", *case.before)
    if case.target and case.target != "stamp":
        migrate("app.db", "migrations", target=case.target)
    if case.sql:
        change("app.db", *case.sql)
    files(case.later)
    if case.target == "stamp":
        stamp("head", "app.db", "migrations")
    told = words() if os.path.exists("app.db") else ""
    says = tuple(pasteable(line.replace("QUICK_CHECK", told)) for line in case.says)
    assert checked() == says
    # The slow look and the command take the same way.
    assert kinds(checked(full=True)) == kinds(says)
    code, out, err = in_process("check", *WHERE)
    healthy = set(kinds(says)) <= {"remark"}
    lines = [*says, "app.db is at head and sound"] if healthy else [*says]
    assert (code, out.splitlines(), err) == (int(not healthy), lines, "")


def test_what_a_file_leaves_on_purpose_is_a_remark(migrations: Path) -> None:
    up = "-- vmpilot: unguarded 0002 makes it\nCREATE VIEW v AS SELECT a FROM later;"
    write(migrations, "0001", f"{up} CREATE TABLE c (a REFERENCES parent);")
    change("app.db", "CREATE VIEW v AS SELECT a FROM later", "CREATE TABLE c (a REFERENCES parent)")
    stamp("head", "app.db", migrations)
    reason = "unguarded: 0002 makes it"
    assert checked() == (
        f"remark: app.db: foreign key (a) of c has no table parent; {reason}",
        f"remark: app.db: v does not compile: no such table: main.later; {reason}",
    )


@pytest.mark.parametrize("full", [False, True])
def test_a_path_a_name_and_a_connection_mean_the_same(two: Path, database: Path, full: bool) -> None:
    migrate(database, two)
    with closing(sqlite3.connect(database)) as connection:
        for form in (database, str(database), f"sqlite:///{database}", connection):
            assert said(check(form, str(two), full=full), database) == ()


def test_five_are_named_and_of_more_the_rest_is_counted(migrations: Path, database: Path) -> None:
    for number in range(1, 6):
        write(migrations, f"000{number}", "")
    (problem,) = check(database, migrations).problems
    named = "0001, 0002, 0003, 0004, 0005"
    assert f"5 migrations pending ({named}); run" in problem.message
    write(migrations, "0006", "")
    (problem,) = check(database, migrations).problems
    assert f"6 migrations pending ({named} and 1 more); run" in problem.message


def test_the_directory_of_the_file_may_be_missing(two: Path) -> None:
    told = pasteable(MISSING, "none/app.db").replace("none/app.db", "app.db")
    assert said(check("none/app.db", two), "none/app.db") == (told,)
    assert not os.path.exists("none")


def test_what_the_messages_advise_mends(two: Path) -> None:
    write(two, "0009_last", "")
    migrate("app.db", two)
    write(two, "0003_late", "CREATE TABLE late (a)")
    assert kinds(checked()) == ["late"]
    for direction in ("up", "down"):
        os.rename(two / f"0003_late.{direction}.sql", two / f"0010_late.{direction}.sql")
    migrate("app.db", two)
    assert checked() == ()
    files({"0001_chats": CHATS.replace("TABLE", "TABLE IF NOT EXISTS"), "0002_costs": f"{COSTS} -- the same"})
    assert kinds(checked()) == ["edited"]
    stamp("head", "app.db", two)
    assert checked() == ()


def test_a_file_that_breaks_a_rule_is_an_error(two: Path) -> None:
    migrate("app.db", two)
    (two / "0001_chats.up.sql").write_text("SELECT 'a")
    with pytest.raises(HistoryError) as caught:
        check("app.db", "migrations")
    assert str(caught.value) == "migrations/0001_chats.up.sql:1: this string is never closed"


# --- a no-transaction file that was cut short


def cut_short() -> str:
    newest = "SELECT at FROM migration_log WHERE id = (SELECT max(id) FROM migration_log)"
    ((at,),) = query(Path("app.db"), newest)
    return f"began outside a transaction at {at} and was cut short; to run it again from its start"


def test_an_upgrade_that_was_cut_short_is_told(two: Path) -> None:
    write(two, "0003_vacuum", f"{NO_TRANSACTION}VACUUM; SELECT nothing;")
    with pytest.raises(MigrationError):
        migrate("app.db", two)
    assert checked() == (
        pasteable(f"pending: app.db: 1 migration pending (0003_vacuum); {UPGRADE}"),
        pasteable(f"unfinished: app.db: 0003_vacuum {cut_short()}, {UPGRADE}"),
    )
    write(two, "0003_vacuum", f"{NO_TRANSACTION}VACUUM;")
    migrate("app.db", two)
    assert checked() == ()


def test_a_note_is_stale_when_alembic_has_moved_on(two: Path) -> None:
    write(two, "0003_vacuum", f"{NO_TRANSACTION}SELECT nothing;")
    with pytest.raises(MigrationError):
        migrate("app.db", two)
    change("app.db", "UPDATE alembic_version SET version_num = '0003'")
    write(two, "0003_vacuum", f"{NO_TRANSACTION}VACUUM;")
    assert checked() == ()


@pytest.mark.parametrize(("number", "before"), [(1, "base"), (2, "0001")])
def test_a_downgrade_that_was_cut_short_is_told(migrations: Path, number: int, before: str) -> None:
    for each in range(1, number + 1):
        write(migrations, f"{each:04}", "", f"{NO_TRANSACTION}VACUUM; SELECT nothing;")
    migrate("app.db", migrations)
    with pytest.raises(MigrationError):
        downgrade("app.db", migrations, backup=False)
    assert checked() == (
        pasteable(f"unfinished: app.db: {number:04} {cut_short()}, {RUN} downgrade {before}"),
    )
    stamp("head", "app.db", migrations)
    assert checked() == ()


# --- damage, and what cannot be read


def test_only_the_full_check_looks_into_indexes(migrations: Path) -> None:
    index = "CREATE TABLE a (b); CREATE INDEX by_b ON a (b) WHERE b > {}"
    write(migrations, "0001", index.format(9))
    migrate("app.db", migrations)
    change("app.db", "INSERT INTO a VALUES (1)")
    change(
        "app.db",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = replace(sql, 9, 0) WHERE name = 'by_b'",
    )
    write(migrations, "0001", index.format(0))
    stamp("head", "app.db", migrations)
    assert checked() == ()
    message = pasteable(f"integrity: app.db: {words('integrity_check')}; {MEND}")
    assert checked(full=True) == (message,)
    said = in_process("check", *WHERE, "--full", "--wait", "0")
    assert said == (1, f"{message}\n", "")


def spoil(table: str, offset: int, data: bytes) -> None:
    """Overwrite bytes of the page at which a table starts; a negative offset counts from its end."""
    ((size,),) = query(Path("app.db"), "PRAGMA page_size")
    ((page,),) = query(Path("app.db"), f"SELECT rootpage FROM sqlite_master WHERE name = '{table}'")
    assert isinstance(size, int) and isinstance(page, int)
    with open("app.db", "r+b") as file:
        file.seek((page - 1) * size + offset % size)
        file.write(data)


MALFORMED = "database disk image is malformed"


def test_a_damaged_row_is_an_integrity_problem(two: Path) -> None:
    migrate("app.db", two)
    change("app.db", "INSERT INTO chats VALUES (1, 'a'), (2, 'a')")
    spoil("chats", -5, b"\x09")  # the key of the first row
    assert words() != "ok"
    assert checked() == (pasteable(f"integrity: app.db: {words()}; {MEND}"),)


def test_damage_that_stops_the_look_is_an_integrity_problem(two: Path) -> None:
    migrate("app.db", two)
    change("app.db", "INSERT INTO costs VALUES (1, 1)")
    spoil("chats", 0, b"\xff")
    unseen = f"remark: app.db: foreign keys not checked: {MALFORMED}"
    assert checked() == (pasteable(f"integrity: app.db: {MALFORMED}; {MEND}"), unseen)


def text() -> None:
    Path("app.db").write_text("hello " * 1000)


def first_page() -> None:
    with open("app.db", "r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 64)


def folder() -> None:
    os.remove("app.db")
    os.mkdir("app.db")


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (folder, "is a directory, expected a database file"),
        (text, "file is not a database"),
        (first_page, MALFORMED),
    ],
)
def test_what_is_no_database_is_unreadable(two: Path, harm: Callable[[], None], reason: str) -> None:
    migrate("app.db", two)
    harm()
    assert checked() == (f"unreadable: app.db: {reason}; nothing was changed",)


def test_a_locked_database_is_unreadable_after_the_timeout(two: Path) -> None:
    migrate("app.db", two)
    with closing(sqlite3.connect("app.db", isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        message = "unreadable: app.db: locked by another process for 0.1 s; nothing was changed"
        assert said(check("app.db", two, timeout=0.1)) == (message,)


def test_a_look_that_fails_is_unreadable(two: Path, database: Path) -> None:
    migrate(database, two)

    def stop() -> None:
        stops = [1]
        connection.set_progress_handler(lambda: stops.pop() if stops else 0, 1)

    with closing(traced(database, "quick_check", stop)) as connection:
        found = said(check(connection, two), database)
        assert found == ("unreadable: app.db: interrupted; nothing was changed",)


def test_an_open_transaction_of_the_caller_is_not_read(two: Path, database: Path) -> None:
    migrate(database, two)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("INSERT INTO chats VALUES (1, 'a')")
        found = "unreadable: app.db: the connection has an open transaction with changes"
        message = f"{found}; nothing was changed; commit or roll back first"
        assert said(check(connection, two), database) == (message,)
        assert connection.in_transaction


# --- drift


def rebuilt(table: str, old: str, new: str) -> tuple[str, str]:
    assert TABLES[table].count(old) == 1
    return f"DROP TABLE {table}", TABLES[table].replace(old, new)


DRIFTS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("DROP TABLE pairs",): ("- table pairs",),
    ("DROP TABLE words",): ("- virtual table words",),
    ("DROP TABLE words", "CREATE VIRTUAL TABLE words USING fts5(word, other)"): ("~ virtual table words",),
    ("DROP TABLE words", "CREATE TABLE words (word)"): ("- virtual table words", "+ table words"),
    ("ALTER TABLE chats ADD COLUMN note TEXT",): ("+ column chats.note TEXT",),
    ("ALTER TABLE pairs RENAME COLUMN other TO second",): (
        "~ table pairs PRIMARY KEY (one, other) STRICT WITHOUT ROWID -> "
        "PRIMARY KEY (one, second) STRICT WITHOUT ROWID",
        "- column pairs.other ANY NOT NULL",
        "+ column pairs.second ANY NOT NULL",
    ),
    rebuilt("costs", "b TEXT", "b BLOB"): (
        "~ column costs.b TEXT NOT NULL DEFAULT 0 COLLATE NOCASE -> BLOB NOT NULL DEFAULT 0 COLLATE NOCASE",
    ),
    rebuilt("costs", " NOT NULL", ""): (
        "~ column costs.b TEXT NOT NULL DEFAULT 0 COLLATE NOCASE -> TEXT DEFAULT 0 COLLATE NOCASE",
    ),
    rebuilt("costs", "DEFAULT 0", "DEFAULT 1"): (
        "~ column costs.b TEXT NOT NULL DEFAULT 0 COLLATE NOCASE -> TEXT NOT NULL DEFAULT 1 COLLATE NOCASE",
    ),
    rebuilt("costs", " COLLATE NOCASE", ""): (
        "~ column costs.b TEXT NOT NULL DEFAULT 0 COLLATE NOCASE -> TEXT NOT NULL DEFAULT 0",
    ),
    rebuilt("costs", " STORED", ""): (
        "~ column costs.c INT GENERATED ALWAYS AS (a + 1) STORED -> INT GENERATED ALWAYS AS (a + 1) VIRTUAL",
    ),
    rebuilt("costs", " ON DELETE CASCADE", ""): (
        "- foreign key costs (d) -> chats on delete cascade",
        "+ foreign key costs (d) -> chats",
    ),
    rebuilt("costs", "a > 0", "a >= 0"): ("- check on costs (a > 0)", "+ check on costs (a >= 0)"),
    rebuilt("costs", ", UNIQUE (b)", ""): ("- unique on costs (b)",),
    rebuilt("costs", "a INT PRIMARY KEY", "a INT"): ("~ table costs PRIMARY KEY (a) -> (none)",),
    rebuilt("notes", " AUTOINCREMENT", ""): (
        "~ table notes PRIMARY KEY (id) AUTOINCREMENT -> PRIMARY KEY (id)",
    ),
    rebuilt("notes", " ON CONFLICT IGNORE", ""): (
        "- conflict clause on notes UNIQUE (text) ON CONFLICT IGNORE",
    ),
    rebuilt("pairs", "STRICT, ", ""): (
        "~ table pairs PRIMARY KEY (one, other) STRICT WITHOUT ROWID -> "
        "PRIMARY KEY (one, other) WITHOUT ROWID",
    ),
    rebuilt("pairs", ", WITHOUT ROWID", ""): (
        "~ table pairs PRIMARY KEY (one, other) STRICT WITHOUT ROWID -> PRIMARY KEY (one, other) STRICT",
    ),
    ("DROP INDEX by_title",): ("- index by_title on chats (title)",),
    ("DROP INDEX by_title", "CREATE INDEX by_title ON chats (title DESC)"): (
        "~ index by_title on chats (title) -> (title DESC)",
    ),
    ("DROP INDEX by_length", "CREATE INDEX by_length ON chats (length(title))"): (
        "~ index by_length on chats UNIQUE (length(title) DESC) WHERE title IS NOT NULL -> (length(title))",
    ),
    ("CREATE INDEX mine ON costs (d)",): ("+ index mine on costs (d)",),
    ("DROP VIEW titles",): ("- view titles", "- trigger put on titles"),
    ("DROP TRIGGER put",): ("- trigger put on titles",),
    ("DROP TRIGGER keep", "CREATE TRIGGER keep BEFORE DELETE ON chats BEGIN SELECT 1; END"): (
        "~ trigger keep on chats",
    ),
    ("CREATE TRIGGER mine AFTER INSERT ON notes BEGIN SELECT 1; END",): ("+ trigger mine on notes",),
    ("DROP VIEW titles", "CREATE VIEW titles AS SELECT id FROM chats"): (
        "~ view titles",
        "- trigger put on titles",
    ),
}


# These do not touch one another.
INDEPENDENT = {changes[0]: lines[0] for changes, lines in DRIFTS.items() if len(changes) == len(lines) == 1}


def drifts(lines: tuple[str, ...]) -> list[str]:
    return sorted(DRIFT.format("0002", line) for line in lines)


@pytest.mark.parametrize("changes", DRIFTS)
def test_drift_is_told_object_by_object(migrations: Path, changes: tuple[str, ...]) -> None:
    files(EVERYTHING)
    migrate("app.db", "migrations")
    change("app.db", *changes)
    assert sorted(checked()) == drifts(DRIFTS[changes])


@given(st.sets(st.sampled_from(sorted(INDEPENDENT))))
def test_every_drift_is_told_whatever_else_has_drifted(picked: set[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        for stem, up in EVERYTHING.items():
            write(Path(place), stem, str(up))
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            migrate(connection, place)
            for statement in picked:
                connection.execute(statement)
            found = said(check(connection, place), ":memory:")
    assert sorted(found) == drifts(tuple(INDEPENDENT[statement] for statement in picked))


def test_at_no_position_is_there_a_false_alarm(migrations: Path) -> None:
    """Up to head and down to base, one step at a time."""
    tables = ";".join(f"DROP TABLE {table}" for table in reversed(TABLES))
    write(migrations, "0001_tables", ";\n".join(TABLES.values()), tables)
    rest = "DROP VIEW titles; DROP TRIGGER keep; DROP INDEX by_title; DROP INDEX by_length; DROP TABLE words"
    write(migrations, "0002_rest", ";\n".join(REST) + ";", rest)
    rename = "ALTER TABLE {} RENAME TO {}; ALTER TABLE costs RENAME COLUMN {} TO {}"
    write(
        migrations,
        "0003_rename",
        rename.format("notes", "memos", *"de"),
        rename.format("memos", "notes", *"ed"),
    )
    column = "ALTER TABLE pairs {} COLUMN third {}"
    write(migrations, "0004_column", column.format("ADD", "INT"), column.format("DROP", ""))
    for left, move in zip((3, 2, 1, 0, 1, 2, 3, 4), (*["+1"] * 4, *["-1"] * 4), strict=True):
        if move == "+1":
            migrate("app.db", migrations, target=move)
        else:
            downgrade("app.db", migrations, target=move, backup=False)
        assert kinds(checked()) == ["pending"] * bool(left)


# --- what only the application has


@contextmanager
def application() -> Iterator[sqlite3.Connection]:
    """Open the database as an application does that has a function and a collation of its own."""
    with closing(sqlite3.connect("app.db", isolation_level=None)) as connection:
        connection.create_function("weight", 1, len, deterministic=True)
        connection.create_collation("german", lambda a, b: (a > b) - (a < b))
        yield connection


@pytest.mark.parametrize(
    ("last", "lacks"),
    [
        ("CREATE INDEX i ON chats (weight(id))", "no such function: weight"),
        ("CREATE TABLE a (b, c AS (weight(b)))", "no such function: weight"),
        ("INSERT INTO chats SELECT 'a' FROM (SELECT weight('a') x) WHERE x > 0", "no such function: weight"),
        ("CREATE INDEX i ON chats (id COLLATE german)", "no such collation sequence: german"),
    ],
)
def test_what_the_replay_lacks_is_named_and_no_drift(
    migrations: Path, database: Path, last: str, lacks: str
) -> None:
    write(migrations, "0001", "CREATE TABLE chats (id TEXT PRIMARY KEY)")
    write(migrations, "0002", f"-- a comment\nSELECT 1;\n{last};\nSELECT 2")
    uncompared = f"{UNCOMPARED} migrations/0002.up.sql:3: {lacks}"
    with application() as connection:
        migrate(connection, "migrations")
        connection.execute("CREATE TABLE theirs (a)")
        assert said(check(connection, "migrations"), database) == (f"{OTHERS} table theirs",)
    assert uncompared in checked()
    assert set(kinds(checked())) == {"not_compared"}


def test_a_view_that_uses_a_function_of_the_application_is_compared(migrations: Path) -> None:
    write(migrations, "0001", "CREATE TABLE a (b); CREATE VIEW weights AS SELECT weight(b) FROM a")
    with application() as connection:
        migrate(connection, migrations)
    assert checked() == ()
    change("app.db", "DROP VIEW weights")
    assert checked() == (DRIFT.format("0001", "- view weights"),)


def test_what_the_look_lacks_is_not_compared(migrations: Path, database: Path) -> None:
    """Both need the collation; the violation is seen through the application's own connection only."""
    tables = "CREATE TABLE a (b TEXT PRIMARY KEY COLLATE german); CREATE TABLE c (d TEXT REFERENCES a)"
    write(migrations, "0001", tables)
    lacks = "no such collation sequence: german"
    uncompared = f"{UNCOMPARED} migrations/0001.up.sql:1: {lacks}"
    with application() as connection:
        migrate(connection, "migrations")
        connection.execute("INSERT INTO c VALUES ('x')")
        keys = f"foreign_keys: app.db: 1 foreign key violation: row 1 of c has no parent in a; {MINE}"
        assert said(check(connection, "migrations"), database) == (keys,)
    unseen = (f"not_compared: app.db: {what} not checked: {lacks}" for what in ("foreign keys", "pages"))
    assert checked() == (uncompared, *unseen)


class Total:
    """The application's own sum, and a count if it has no argument."""

    def __init__(self) -> None:
        self.total = 0.0

    def step(self, *values: float) -> None:
        self.total += sum(values) if values else 1

    def finalize(self) -> float:
        return self.total


def gifted(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Give a connection functions of every kind, also in place of one of SQLite's own."""
    connection.create_function("weight", 1, len, deterministic=True)
    connection.create_function("to be", 1, len)
    connection.create_function("either", -1, lambda *values: next(filter(None, values), None))
    connection.create_function("upper", 1, lambda text: text.swapcase(), deterministic=True)
    connection.create_aggregate("all_of", 1, Total)  # type: ignore[arg-type]
    connection.create_aggregate("how_many", -1, Total)  # type: ignore[arg-type]
    connection.create_collation("Ger man", lambda a, b: (a > b) - (a < b))
    return connection


GIFTS = """
CREATE TABLE t (a TEXT COLLATE "Ger man" UNIQUE, b AS (weight(a)));
CREATE INDEX i ON t (weight(a)) WHERE weight(a) > 1;
INSERT INTO t (a) VALUES ('b'), ('a'), ('cc');
CREATE TABLE found AS SELECT either(NULL, 0, a) AS first, all_of(b) AS b, how_many() AS c, how_many(1, 2) AS d,
  upper('aB') AS e FROM t ORDER BY a;
INSERT INTO found SELECT 'none', all_of(b), how_many(), how_many(1, 2), NULL FROM t WHERE b > 9;
CREATE TABLE k (v CHECK (v IN ('b', 'none', 4.0, 3.0, 9.0, 0.0, 'Ab')));
INSERT INTO k SELECT b FROM found UNION ALL SELECT c FROM found UNION ALL SELECT d FROM found;
INSERT INTO k SELECT "to be"('four') UNION ALL SELECT 8 + ('a' < 'b' COLLATE "Ger man") UNION ALL SELECT first FROM found UNION ALL SELECT e FROM found WHERE e IS NOT NULL;
"""


@pytest.mark.parametrize("factory", [str, bytes])
def test_a_replay_has_all_that_the_callers_connection_has(
    migrations: Path, database: Path, factory: type[str] | type[bytes]
) -> None:
    """Each value goes through a CHECK, on the connection and in the replay: so both have the same."""
    write(migrations, "0001", GIFTS)
    with closing(gifted(sqlite3.connect(database, detect_types=sqlite3.PARSE_DECLTYPES))) as connection:
        connection.text_factory = factory
        connection.row_factory = lambda cursor, row: dict(
            zip((name for name, *_ in cursor.description), row, strict=True)
        )
        migrate(connection, migrations)
        assert said(check(connection, migrations), database) == ()
        connection.execute("DROP INDEX i")
        drift = DRIFT.format("0001", "- index i on t (weight(a)) WHERE weight(a) > 1")
        assert said(check(connection, migrations), database) == (drift,)
    uncompared = f"{UNCOMPARED} migrations/0001.up.sql:2: no such collation sequence: Ger man"
    assert uncompared in checked()
    code, out, _ = in_process("check", *WHERE)
    assert (code, "sound" in out) == (1, False)


def test_a_schema_that_was_written_by_hand_is_read_anew(two: Path, database: Path) -> None:
    migrate(database, two)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("SELECT * FROM chats")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, 'title TEXT', 'title BLOB') WHERE name = 'chats'"
        )
        drift = DRIFT.format("0002", "~ column chats.title TEXT -> BLOB")
        assert said(check(connection, two), database) == (drift,)
        assert connection.execute("PRAGMA writable_schema").fetchone() == (1,)
        connection.execute("PRAGMA writable_schema = OFF")
        assert said(check(connection, two), database) == (drift,)
        assert connection.execute("PRAGMA writable_schema").fetchone() == (0,)


# --- databases of older releases and of Alembic

CHATS_0_5 = """CREATE TABLE chats (
    chat_id TEXT PRIMARY KEY, initial_request TEXT, project_root TEXT,
    messages TEXT NOT NULL, cache_info TEXT NOT NULL, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)"""
EXCHANGES_0_6 = """CREATE TABLE exchanges (
    exchange_id INTEGER PRIMARY KEY AUTOINCREMENT, chat_id TEXT NOT NULL, model TEXT NOT NULL, request TEXT,
    cost JSON, start TIMESTAMP DEFAULT CURRENT_TIMESTAMP, "end" TIMESTAMP DEFAULT CURRENT_TIMESTAMP)"""
ALEMBIC = (
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
    "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))",
    "INSERT INTO alembic_version VALUES ('57dc007f6d46')",
)
BUNDLED = ROOT / "migrations"


@pytest.mark.parametrize("release", [(CHATS_0_5,), (CHATS_0_5, EXCHANGES_0_6)], ids=["0.5", "0.6"])
def test_an_adopted_database_is_healthy(release: tuple[str, ...]) -> None:
    change("app.db", *release)
    migrate("app.db", BUNDLED)
    assert said(check("app.db", BUNDLED)) == ()


def test_a_database_of_alembic_is_compared_up_to_its_revision() -> None:
    change("app.db", CHATS_0_5, EXCHANGES_0_6, *ALEMBIC)
    told = f"pending: app.db: 1 migration pending (0002_index_exchanges_by_chat); {UPGRADE}"
    pending = pasteable(told, migrations=None)
    assert said(check("app.db", BUNDLED)) == (pending,)
    change("app.db", "ALTER TABLE chats DROP COLUMN project_root")
    drift = DRIFT.format("0001", "- column chats.project_root TEXT")
    assert said(check("app.db", BUNDLED)) == (pending, drift)


# --- one look, without a trace


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.parametrize("full", [False, True])
def test_a_check_changes_no_byte(two: Path, mode: str, full: bool) -> None:
    change("app.db", f"PRAGMA journal_mode = {mode}")
    migrate("app.db", two)
    assert checked(full=full) == ()
    with closing(sqlite3.connect("app.db", isolation_level=None)) as connection:
        connection.execute("INSERT INTO chats VALUES (1, 'a')")
        before = prints()
        assert len(before) == (3 if mode == "WAL" else 1)
        assert said(check("app.db", two, full=full)) == ()
        after = prints()
    before.pop("app.db-shm", None)  # holds the marks of readers, not data
    after.pop("app.db-shm", None)
    assert after == before


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_read_only_database_is_checked(two: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as place:  # not below tmp_path, which only its owner may enter
        shutil.copytree(two, Path(place) / "migrations")
        monkeypatch.chdir(place)
        change("app.db", f"PRAGMA journal_mode = {mode}")
        migrate("app.db", "migrations")
        os.chmod("app.db", 0o444)
        os.chmod(place, 0o555)
        try:
            with nobody():
                assert checked() == ()
        finally:
            os.chmod(place, 0o700)


def traced(database: Path, words: str, act: Callable[[], object]) -> sqlite3.Connection:
    """Open a database so that `act` is called once, right after a statement with these words began."""
    connection = sqlite3.connect(database, isolation_level=None)
    acts = [act]

    def trace(statement: str) -> None:
        if words in statement and acts:
            acts.pop()()

    connection.set_trace_callback(trace)
    return connection


def test_a_check_sees_one_moment(two: Path, database: Path) -> None:
    change(database, "PRAGMA journal_mode = WAL")
    migrate(database, two)
    away: list[object] = []

    def act() -> None:
        away.extend(downgrade(database, two, target="base", backup=False))
        change(database, "CREATE TABLE costs (chat REFERENCES nothing)", "INSERT INTO costs VALUES (1)")

    with closing(traced(database, "SELECT +version_num", act)) as connection:
        assert said(check(connection, two), database) == ()
    assert len(away) == 2
    assert not check(database, two).ok


def test_nobody_waits_while_the_files_are_read_and_replayed(two: Path) -> None:
    migrate("app.db", two)
    calls: list[str] = []

    def act(what: str) -> None:
        calls.append(what)
        with closing(sqlite3.connect("app.db", timeout=0, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")

    assert said(check("app.db", Place(two, act))) == ()
    assert calls == ["list", "read", "read"]


def test_the_callers_connection_comes_back_as_it_was(two: Path, database: Path) -> None:
    migrate(database, two)
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        assert said(check(connection, two), database) == ()
        assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1
        assert connection.row_factory is sqlite3.Row
        assert connection.isolation_level == ""
        assert not connection.in_transaction


def test_a_database_in_memory_is_checked(two: Path) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        assert not check(connection, two).ok
        migrate(connection, two)
        assert said(check(connection, two), ":memory:") == ()


@pytest.mark.parametrize("module", ["pysqlite3", "libsql", "turso"])
def test_a_connection_of_another_module_is_no_false_alarm(two: Path, database: Path, module: str) -> None:
    foreign = pytest.importorskip(module)
    migrate(database, two)
    lacks = "Parse error: Schema argument is not supported yet (got schema: 'main')"
    remarks = (f"{UNCOMPARED} {lacks}",) if module == "turso" else ()
    with closing(foreign.connect(str(database))) as connection:
        assert said(check(connection, two), database) == remarks
    change(database, "INSERT INTO costs VALUES (1, 2)")
    keys = f"foreign_keys: app.db: 1 foreign key violation: row 1 of costs has no parent in chats; {MINE}"
    with closing(foreign.connect(str(database))) as connection:
        assert said(check(connection, two), database) == (*remarks, keys)


# Ctrl-C comes when the process has worked for 0.3 s, however busy the machine is.
CHECKING = """
import signal
from vmpilot.migrate import check
signal.signal(signal.SIGPROF, signal.default_int_handler)
signal.setitimer(signal.ITIMER_PROF, 0.3)
try:
    print(check("app.db", "migrations"))
except KeyboardInterrupt:
    print("interrupted")
"""
ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c"
# A CHECK that takes its time lets quick_check take many minutes.
SLOW = "CREATE TABLE c (a CHECK (length(hex(zeroblob(100000 + a % 2))) > 9))"
ROWS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 400000) INSERT INTO c SELECT x FROM n"


@pytest.mark.parametrize(
    ("up", "sql"),
    [(ENDLESS, ()), (SLOW, (SLOW, "PRAGMA ignore_check_constraints = ON", ROWS))],
    ids=["replay", "look"],
)
def test_an_interrupt_ends_a_check(migrations: Path, up: str, sql: tuple[str, ...]) -> None:
    write(migrations, "0001", up)
    change("app.db", *sql)
    stamp("head", "app.db", migrations)
    before = prints()
    with running("-c", CHECKING) as process:
        assert process.communicate() == ("interrupted\n", "")
    assert prints() == before


# --- waiting

HEALTHY = (0, "app.db is at head and sound\n", "")


def waited(
    seconds: str, *options: str, told: Callable[[str], object] = lambda text: None
) -> tuple[int, str, str]:
    return in_process("check", *WHERE, "--wait", seconds, *options, told=told)


def test_what_is_at_head_is_not_waited_for(two: Path) -> None:
    migrate("app.db", two)
    assert waited("60") == HEALTHY
    assert waited("0") == HEALTHY
    change("app.db", "DROP TABLE costs")
    drift = DRIFT.format("0002", "- table costs")
    assert waited("60") == (1, f"{drift}\n", "")


def test_no_seconds_try_at_once(two: Path) -> None:
    assert waited("0") == (1, pasteable(f"{MISSING}\n"), "")
    assert not os.path.exists("app.db")


def test_another_process_is_waited_for(two: Path) -> None:
    """Each thing that is waited for is answered by a process that brings it about."""
    write(two, "0003_last", "CREATE TABLE last (a)")
    acts = [("stamp", "base"), ("upgrade", "+1"), ("upgrade", "+1"), ("upgrade", "head")]

    def told(text: str) -> None:
        assert command(*acts.pop(0), *WHERE).returncode == 0

    code, out, err = waited("60", told=told)
    assert (code, out) == HEALTHY[:2]
    assert err.splitlines() == [
        "waiting for 0003: app.db does not exist",
        "waiting for 0003: app.db is at base",
        "waiting for 0003: app.db is at 0001",
        "waiting for 0003: app.db is at 0002",
    ]


def test_a_lock_is_waited_for(two: Path) -> None:
    migrate("app.db", two)
    with closing(sqlite3.connect("app.db", isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        said = waited("60", told=lambda text: connection.execute("ROLLBACK"))
    locked = "waiting: app.db: locked by another process for 0.5 s; nothing was changed\n"
    assert said == (*HEALTHY[:2], locked)


def test_a_version_that_makes_no_sense_is_waited_for(two: Path) -> None:
    migrate("app.db", two)
    change("app.db", "INSERT INTO alembic_version VALUES ('7')")
    acts = [
        lambda: change(
            "app.db", "DELETE FROM alembic_version", "INSERT INTO alembic_version VALUES ('0008')"
        ),
        lambda: stamp("head", "app.db", two),
    ]
    code, out, err = waited("60", told=lambda text: acts.pop(0)())
    assert (code, out) == HEALTHY[:2]
    told = (
        "waiting: app.db: alembic_version holds 2 rows ('0002', '7'), expected one text; "
        f"nothing was changed; to set the version, {RUN} stamp VERSION"
    )
    assert err.splitlines() == [
        pasteable(told),
        "waiting for 0002: app.db is at 0008",
    ]


def test_when_time_is_up_the_problems_are_told(two: Path) -> None:
    assert waited("1") == (1, pasteable(f"{MISSING}\n"), "waiting for 0002: app.db does not exist\n")


def test_when_time_is_up_no_lock_is_waited_for(two: Path) -> None:
    migrate("app.db", two)
    with closing(sqlite3.connect("app.db", isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        message = "unreadable: app.db: locked by another process for 0 s; nothing was changed\n"
        assert waited("0") == (1, message, "")


def test_at_head_a_lock_is_waited_for_as_ever(two: Path) -> None:
    from vmpilot.migrate.tools.check import wait  # the command takes no directory that tells when it is read

    migrate("app.db", two)
    calls: list[str] = []
    with closing(sqlite3.connect("app.db", isolation_level=None)) as connection:

        def act(what: str) -> None:
            calls.append(what)
            if calls == ["list", "list"]:  # the database was found at head, and is checked now
                connection.execute("BEGIN EXCLUSIVE")

        message = "unreadable: app.db: locked by another process for 0.1 s; nothing was changed"
        found = wait("app.db", Place(two, act), seconds=60, timeout=0.1)
        assert said(found) == (message,)


def test_waiting_can_be_interrupted(two: Path) -> None:
    with running(*COMMAND, "check", *WHERE, "--wait", "600") as process:
        assert process.stderr
        assert process.stderr.readline() == "waiting for 0002: app.db does not exist\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate() == ("", "error: app.db: interrupted; nothing was changed\n")
        assert process.returncode == 130


def test_wrong_files_are_not_waited_for(two: Path) -> None:
    (two / "3_x.up..sql").touch()
    assert waited("60") == (1, "", "error: migrations/3_x.up..sql: expected a name like 0003_x.up.sql\n")


def answering(path: str | Path) -> sqlite3.Connection:
    """Open a path as an application with a function of its own does."""
    connection = sqlite3.connect(path)
    connection.create_function("answer", 1, lambda value: value, deterministic=True)
    return connection


def test_what_needs_a_function_of_the_application_is_compared_with_it(two: Path) -> None:
    write(two, "0003_answers", "CREATE TABLE answers (a, b AS (answer(a)));", "DROP TABLE answers;")
    with closing(answering("app.db")) as connection:
        migrate(connection, two)
        connection.execute("ALTER TABLE answers ADD COLUMN c")
    drift = check("app.db", two, connect=answering).problems
    assert [(problem.kind, "column answers.c" in problem.message) for problem in drift] == [("drift", True)]
    with closing(answering("app.db")) as connection:
        connection.execute("ALTER TABLE answers DROP COLUMN c")
    assert check("app.db", two, connect=answering) == Health("app.db", True, (), ())
