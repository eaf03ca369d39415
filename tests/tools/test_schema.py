"""Proves that the schema as SQL makes the same schema and depends on nothing else, and that its picture is true.

The picture is read back by the rules of Mermaid's grammar, as far as they matter here.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT, in_memory, write

from vmpilot.migrate import StepError, VersionError, schema
from vmpilot.migrate.database import structure
from vmpilot.migrate.database.connection import Session
from vmpilot.migrate.files import directory as directories
from vmpilot.migrate.tools.replay import replayed


def made(sql: str) -> structure.Schema:
    """Return the structure that SQL makes."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(sql)
        return structure.snapshot(Session(connection, connection.cursor(), ":memory:", 0.0))


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Any]:
    """Return what tells the schema of SQL, each part of which is a migration."""
    folders = (tmp_path / str(number) for number in range(100))

    def tell(*scripts: str) -> str:
        folder = next(folders)
        folder.mkdir()
        for number, script in enumerate(scripts, 1):
            write(folder, f"{number:04}", script)
        found = schema(folder)
        with replayed(listed := directories.listed(str(folder)), listed.history) as session:
            expected = structure.snapshot(session)
        assert structure.difference(expected, made(found.sql)) == ()
        return found.sql

    yield tell


def table(*lines: str, behind: str = "") -> str:
    inside = ",\n".join(f"    {line}" for line in lines)
    return f"CREATE TABLE t (\n{inside}\n){behind};\n"


P = "CREATE TABLE p (\n    id INTEGER PRIMARY KEY,\n    q,\n    UNIQUE (id, q)\n);\n\n"
P_SQL = "CREATE TABLE p (id INTEGER PRIMARY KEY, q, UNIQUE (id, q)); "

# What a migration says of a table, and how the schema says it.
TABLES = {
    "nothing but names": ("CREATE TABLE t(a,b)", table("a", "b")),
    "types": (
        "create table t (a varchar ( 32 ), b DECIMAL(10,2), c double /* c */ precision, d 'odd')",
        table("a varchar(32)", "b DECIMAL(10, 2)", "c double precision", "d 'odd'"),
    ),
    "names that need quotes": (
        'CREATE TABLE "t" ([a b], `group`, "c""d", \'e\', "F", größe)',
        table('"a b"', '"group"', '"c""d"', "e", "F", '"größe"'),
    ),
    "rules in one order": (
        "CREATE TABLE t (a TEXT CHECK (a <> '') COLLATE nocase DEFAULT ('x') UNIQUE NOT NULL)",
        table("a TEXT NOT NULL UNIQUE DEFAULT 'x' COLLATE NOCASE CHECK (a <> '')"),
    ),
    "what says nothing": (
        "CREATE TABLE t (a TEXT NULL DEFAULT NULL COLLATE BINARY PRIMARY KEY ASC ON CONFLICT ABORT)",
        table("a TEXT PRIMARY KEY"),
    ),
    "a rule of the table about one column": (
        "CREATE TABLE t (a, b, CHECK (b > 0), UNIQUE (b), PRIMARY KEY (A))",
        table("a PRIMARY KEY", "b UNIQUE CHECK (b > 0)"),
    ),
    "a rule of a column about two": (
        "CREATE TABLE t (a CHECK (a < b), b CHECK (1), UNIQUE (b DESC, a COLLATE NOCASE ASC))",
        table("a", "b", "UNIQUE (b DESC, a COLLATE NOCASE)", "CHECK (1)", "CHECK (a < b)"),
    ),
    "a key that counts": (
        "CREATE TABLE t (a INTEGER, PRIMARY KEY (a AUTOINCREMENT))",
        table("a INTEGER PRIMARY KEY AUTOINCREMENT"),
    ),
    "a key that does not count": (
        "CREATE TABLE t (a INTEGER PRIMARY KEY DESC, b)",
        table("a INTEGER PRIMARY KEY DESC", "b"),
    ),
    "a key of two columns, and options": (
        "CREATE TABLE t (b TEXT, a INT, PRIMARY KEY (b, 'a') ON CONFLICT REPLACE) WITHOUT ROWID, STRICT",
        table("b TEXT", "a INT", "PRIMARY KEY (b, a) ON CONFLICT REPLACE", behind=" STRICT, WITHOUT ROWID"),
    ),
    "names of constraints": (
        'CREATE TABLE t (a CONSTRAINT "is" NOT NULL, b, CONSTRAINT one UNIQUE (a, b) CONSTRAINT two CHECK (b))',
        table('a CONSTRAINT "is" NOT NULL', "b CONSTRAINT two CHECK (b)", "CONSTRAINT one UNIQUE (a, b)"),
    ),
    "computed columns": (
        'CREATE TABLE t (a INT, b AS ("a" + 1), c INT GENERATED ALWAYS AS (a || "x") STORED)',
        table(
            "a INT", "b GENERATED ALWAYS AS (a + 1) VIRTUAL", 'c INT GENERATED ALWAYS AS (a || "x") STORED'
        ),
    ),
    "defaults": (
        "CREATE TABLE t (a DEFAULT -1, b DEFAULT (1 + 2), c DEFAULT current_timestamp, d DEFAULT true, e DEFAULT x)",
        table(
            "a DEFAULT -1",
            "b DEFAULT (1 + 2)",
            "c DEFAULT CURRENT_TIMESTAMP",
            "d DEFAULT TRUE",
            "e DEFAULT x",
        ),
    ),
    "references": (
        P_SQL
        + 'CREATE TABLE t (a REFERENCES "P" ON UPDATE NO ACTION ON DELETE SET NULL MATCH FULL, b INT, c INT, '
        "FOREIGN KEY (B) REFERENCES p (ID) DEFERRABLE INITIALLY DEFERRED, FOREIGN KEY (b, c) REFERENCES p (id, q) "
        "ON DELETE CASCADE ON UPDATE SET DEFAULT NOT DEFERRABLE INITIALLY DEFERRED)",
        P
        + table(
            "a REFERENCES p (id) ON DELETE SET NULL",
            "b INT REFERENCES p (id) DEFERRABLE INITIALLY DEFERRED",
            "c INT",
            "FOREIGN KEY (b, c) REFERENCES p (id, q) ON DELETE CASCADE ON UPDATE SET DEFAULT",
        ),
    ),
    "references to what is not there, and to itself": (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, up REFERENCES t, x REFERENCES missing NOT NULL DEFERRABLE)",
        table("id INTEGER PRIMARY KEY", "up REFERENCES t (id)", "x NOT NULL REFERENCES missing"),
    ),
    "indexes by name": (
        'CREATE TABLE t (a, b); CREATE UNIQUE INDEX z ON t ("a" ASC, b COLLATE NOCASE DESC) WHERE "b" = "x"; '
        'CREATE INDEX "key" ON t (lower(a))',
        table("a", "b")
        + 'CREATE INDEX "key" ON t (lower(a));\nCREATE UNIQUE INDEX z ON t (a, b COLLATE NOCASE DESC) '
        'WHERE b = "x";\n',
    ),
    "views and triggers as they are written": (
        'CREATE TABLE t (a); CREATE VIEW "v" AS\n  SELECT "a", "x" -- why\n  FROM [t] -- end\n;'
        'CREATE TRIGGER two INSTEAD OF INSERT ON "v" BEGIN\n  SELECT 1; -- what\nEND;'
        'CREATE TRIGGER one AFTER UPDATE OF a ON "t" WHEN new.a BEGIN DELETE FROM "t" WHERE "t".a = "y"; END',
        table("a")
        + 'CREATE TRIGGER one AFTER UPDATE OF a ON t WHEN new.a BEGIN DELETE FROM t WHERE t.a = "y"; END;\n\n'
        'CREATE VIEW v AS\n  SELECT "a", "x" -- why\n  FROM t;\n'
        "CREATE TRIGGER two INSTEAD OF INSERT ON v BEGIN\n  SELECT 1; -- what\nEND;\n",
    ),
    "tables, then virtual tables, then views": (
        "CREATE VIEW a AS SELECT 1; CREATE VIRTUAL TABLE b USING fts5(x, content=''); CREATE TABLE t (a)",
        table("a") + "\nCREATE VIRTUAL TABLE b USING fts5(x, content='');\n\nCREATE VIEW a AS SELECT 1;\n",
    ),
    "rules of which the last one counts": (
        "CREATE TABLE t (a DEFAULT 2 DEFAULT 1, b COLLATE nocase COLLATE binary NOT NULL NOT DEFERRABLE)",
        table("a DEFAULT 1", "b NOT NULL"),
    ),
    "a string in double quotes": (
        'CREATE TABLE t (a); CREATE VIEW v AS SELECT a IS DISTINCT FROM "abc", upper("d", "e") FROM t',
        table("a") + '\nCREATE VIEW v AS SELECT a IS DISTINCT FROM "abc", upper("d", "e") FROM t;\n',
    ),
    "a table of a query": ("CREATE TABLE t AS SELECT 1 AS a, 'x' AS \"b c\"", table("a", '"b c"')),
}


@pytest.mark.parametrize(("said", "expected"), TABLES.values(), ids=TABLES)
def test_a_schema_is_told_in_one_way_and_makes_the_same(told: Any, said: str, expected: str) -> None:
    assert told(f"{said};") == expected


# A migration, and what follows it; both end with the same schema.
WAYS = {
    "the order of tables": (
        "CREATE TABLE a (x); CREATE TABLE b (y);",
        "CREATE TABLE b (y); CREATE TABLE a (x);",
    ),
    "a column that was added": (
        "CREATE TABLE a (x INT, CHECK (x > 0)); ALTER TABLE a ADD y TEXT REFERENCES a (x) ;",
        "CREATE TABLE a (x INT, y TEXT, FOREIGN KEY (y) REFERENCES a (x), CHECK (x > 0));",
    ),
    "a column that was dropped": (
        "CREATE TABLE a (x, y, z); ALTER TABLE a DROP y;",
        "CREATE TABLE a (x, z);",
    ),
    "a table that was renamed": (
        "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p INT REFERENCES p, CHECK (p > 0)); "
        "CREATE INDEX i ON p (id); CREATE VIEW v AS SELECT p.id FROM p JOIN c ON c.p = p.id; "
        "CREATE TRIGGER t AFTER INSERT ON p BEGIN UPDATE p SET id = 1 WHERE p.id = 2; END; "
        "ALTER TABLE p RENAME TO parents;",
        "CREATE TABLE c (p INT, CHECK (p > 0), FOREIGN KEY (p) REFERENCES parents (id)); "
        "CREATE TABLE parents (id INTEGER, PRIMARY KEY (id)); CREATE INDEX i ON parents (id); "
        "CREATE VIEW v AS SELECT parents.id FROM parents JOIN c ON c.p = parents.id; "
        "CREATE TRIGGER t AFTER INSERT ON parents BEGIN UPDATE parents SET id = 1 WHERE parents.id = 2; END;",
    ),
    "a table that was renamed in every place": (
        "CREATE TABLE p (x); CREATE TABLE q (x); CREATE VIEW v AS SELECT q.x FROM q, p, (q AS r JOIN p s ON r.x = s.x) "
        "WHERE q.x IN (SELECT x FROM (p)); "
        "CREATE TRIGGER t AFTER UPDATE OF x ON p BEGIN UPDATE OR IGNORE p SET x = 1; DELETE FROM p; "
        "REPLACE INTO p VALUES (2); END; ALTER TABLE p RENAME TO parents;",
        "CREATE TABLE parents (x); CREATE TABLE q (x); CREATE VIEW v AS SELECT q.x FROM q, parents, (q AS r JOIN parents s ON r.x = s.x) "
        "WHERE q.x IN (SELECT x FROM (parents)); "
        "CREATE TRIGGER t AFTER UPDATE OF x ON parents BEGIN UPDATE OR IGNORE parents SET x = 1; DELETE FROM parents; "
        "REPLACE INTO parents VALUES (2); END;",
    ),
    "a column that was renamed": (
        'CREATE TABLE a (x INT CHECK (x > 0)); CREATE INDEX i ON a (x); ALTER TABLE a RENAME x TO "y";',
        "CREATE TABLE a (y INT CHECK (y > 0)); CREATE INDEX i ON a (y);",
    ),
    "a table that was rebuilt": (
        "CREATE TABLE a (x); CREATE TABLE new (x, y); DROP TABLE a; ALTER TABLE new RENAME TO a;",
        "CREATE TABLE a (x); ALTER TABLE a ADD COLUMN y;",
    ),
}


@pytest.mark.parametrize("scripts", WAYS.values(), ids=WAYS)
def test_the_way_there_leaves_no_trace(told: Any, scripts: tuple[str, str]) -> None:
    one, other = map(told, scripts)
    assert one == other


COLUMNS = st.sampled_from(
    ["INTEGER NOT NULL DEFAULT 0", "TEXT COLLATE NOCASE", "", "REFERENCES a", "CHECK (1)"]
)


@given(st.lists(st.tuples(st.sampled_from("abc"), COLUMNS), max_size=6), st.randoms())
def test_tables_that_are_altered_and_tables_that_are_made_at_once_are_told_alike(
    added: list[tuple[str, str]], chance: Any
) -> None:
    columns = {
        name: [f"{name}{at} {what}" for at, (each, what) in enumerate(added) if each == name]
        for name in "abc"
    }
    key = "id INTEGER PRIMARY KEY"
    altered = [f"CREATE TABLE {name} ({key})" for name in "abc"]
    altered += [f"ALTER TABLE {name} ADD {column}" for name in "abc" for column in columns[name]]
    at_once = [f"CREATE TABLE {name} ({', '.join([key, *columns[name]])})" for name in "abc"]
    chance.shuffle(at_once)
    with TemporaryDirectory(dir=in_memory()) as name:
        folder = Path(name)
        write(folder, "0001", ";".join(altered))
        one = schema(folder).sql
        write(folder, "0001", ";".join(at_once))
        assert schema(folder).sql == one
    assert structure.difference(made(";".join(at_once)), made(one)) == ()


# --- which schema


@pytest.fixture
def two(migrations: Path) -> Path:
    write(migrations, "0001_a", "-- vmpilot: revision 57dc007f6d46\nCREATE TABLE a (x);", "DROP TABLE a;")
    write(
        migrations,
        "0002_b",
        "CREATE TABLE b (y); INSERT INTO b SELECT 1 FROM alembic_version;",
        "DROP TABLE b;",
    )
    return migrations


A, B = "CREATE TABLE a (\n    x\n);\n", "CREATE TABLE b (\n    y\n);\n"


@pytest.mark.parametrize(
    ("target", "version", "sql"),
    [
        ("head", "0002", f"{A}\n{B}"),
        ("2", "0002", f"{A}\n{B}"),
        ("-1", "0001", A),
        ("57dc007f6d46", "0001", A),
        ("base", None, ""),
    ],
)
def test_a_schema_is_that_at_a_target(two: Path, target: str, version: str | None, sql: str) -> None:
    found = schema(two, target=target)
    assert (found.version, found.sql) == (version, sql)


def test_a_file_above_the_target_need_not_be_whole(two: Path) -> None:
    write(two, "0003_c", "CREATE TABEL c;", None)
    assert schema(two, target="0002").sql == f"{A}\n{B}"
    with pytest.raises(StepError) as caught:
        schema(two)
    assert (caught.value.line, caught.value.version) == (1, "0003")
    assert str(caught.value) == f'{two}/0003_c.up.sql:1: near "TABEL": syntax error'


@pytest.mark.parametrize("target", ["9", "x"])
def test_a_target_that_the_files_do_not_have_is_refused(two: Path, target: str) -> None:
    with pytest.raises(VersionError) as caught:
        schema(two, target=target)
    told = f'"{target}" is not a version that {two} can be asked to have: expected base to 0002; nothing was changed'
    assert str(caught.value) == told


def test_what_only_the_application_has_comes_with_its_connection(two: Path) -> None:
    write(two, "0003_c", "CREATE TABLE c (z CHECK (answer(z)));")

    def connect(path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(path)
        connection.create_function("answer", 1, lambda value: 42, deterministic=True)
        return connection

    assert schema(two, connect=connect).sql.endswith("CREATE TABLE c (\n    z CHECK (answer(z))\n);\n")
    with pytest.raises(StepError) as caught:
        schema(two)
    assert str(caught.value) == (
        f"{two}/0003_c.up.sql:1: no such function: answer; "
        "for what only the application has: --connect MODULE:FUNCTION"
    )


# --- the picture


class Picture(NamedTuple):
    """What Mermaid reads of an erDiagram: of each table its columns, and what references what."""

    tables: dict[str, list[tuple[str, ...]]]
    references: list[tuple[str, str, str, str]]


# https://github.com/mermaid-js/mermaid/blob/develop/packages/mermaid/src/diagrams/er/parser/erDiagram.jison
ENTITY = r'"([^"%\r\n\v\b\\]+)"'
WORD = r"(?!(?:pk|fk|uk)\b)[A-Za-z_][A-Za-z0-9_\-\[\]()]*"
COLUMN = re.compile(
    rf'        ({WORD}) ({WORD})((?: (?:PK|FK|UK)(?:, (?:PK|FK|UK))*)?)(?: "([^"]*)")?', re.IGNORECASE
)
REFERENCE = re.compile(rf"    {ENTITY} (\|\||\|o)--(o\||o\{{) {ENTITY} : {ENTITY}")


def parsed(picture: str) -> Picture:
    first, *lines = picture.splitlines()
    assert first == "erDiagram" and picture.endswith("\n")
    found = Picture({}, [])
    name = ""
    for line in lines:
        if beginning := re.fullmatch(rf"    {ENTITY} \{{", line):
            name = beginning[1]
            assert name not in found.tables
            found.tables[name] = []
        elif column := COLUMN.fullmatch(line):
            found.tables[name].append((column[1], column[4] or column[2], column[3].strip()))
        elif reference := REFERENCE.fullmatch(line):
            parent, one, many, child, label = reference.groups()
            found.references.append((parent, child, label, f"{one}--{many}"))
        else:
            assert line == "    }", line
    return found


def test_the_picture_shows_tables_columns_keys_and_how_many_rows_reference_how_many(migrations: Path) -> None:
    write(
        migrations,
        "0001",
        "CREATE TABLE people (id INTEGER PRIMARY KEY, mail VARCHAR(99) UNIQUE, boss INT REFERENCES people);"
        "CREATE TABLE desks (owner INTEGER PRIMARY KEY REFERENCES people, room TEXT NOT NULL REFERENCES rooms (name));"
        "CREATE TABLE rooms (name TEXT, floor DECIMAL(3, 1), size, [a b] INT);"
        "CREATE UNIQUE INDEX of_rooms ON rooms (name);"
        "CREATE UNIQUE INDEX of_some ON rooms (floor) WHERE floor > 1;"
        "CREATE UNIQUE INDEX of_terms ON rooms (abs(size));"
        'CREATE TABLE "at work" (person INT, room TEXT, pk INT NOT NULL, "100%" INT, PRIMARY KEY (person, room), '
        "FOREIGN KEY (room, pk) REFERENCES rooms (name, size), FOREIGN KEY (person) REFERENCES people) WITHOUT ROWID;",
    )
    found = parsed(schema(migrations).mermaid)
    assert found.tables == {
        "at work": [
            ("INT", "person", "PK, FK"),
            ("TEXT", "room", "PK, FK"),
            ("INT", "pk", "FK"),
            ("INT", "100_", ""),
        ],
        "desks": [("INTEGER", "owner", "PK, FK"), ("TEXT", "room", "FK")],
        "people": [("INTEGER", "id", "PK"), ("VARCHAR(99)", "mail", "UK"), ("INT", "boss", "FK")],
        "rooms": [
            ("TEXT", "name", "UK"),
            ("DECIMAL(3_1)", "floor", ""),
            ("ANY", "size", ""),
            ("INT", "a b", ""),
        ],
    }
    assert found.references == [
        ("people", "at work", "person", "||--o{"),
        ("rooms", "at work", "room, pk", "||--o{"),
        ("people", "desks", "owner", "||--o|"),
        ("rooms", "desks", "room", "||--o{"),
        ("people", "people", "boss", "|o--o{"),
    ]


def test_the_picture_draws_tables_apart_that_it_would_call_alike(migrations: Path) -> None:
    write(
        migrations,
        "0001",
        'CREATE TABLE "a%b" (x INT); CREATE TABLE "a\\b" (y INT); CREATE TABLE a_b (z INT); CREATE TABLE "" (w INT);'
        'CREATE TABLE "c""d" (x REFERENCES "A%b", y REFERENCES "a\\b", z REFERENCES a_b, v REFERENCES "c\'d");',
    )
    found = parsed(schema(migrations).mermaid)
    assert {name: [column for _, column, _ in columns] for name, columns in found.tables.items()} == {
        "_": ["w"],
        "a_b": ["x"],
        "a_b_": ["y"],
        "a_b__": ["z"],
        "c'd": ["x", "y", "z", "v"],
    }
    assert {(parent, column) for parent, _, column, _ in found.references} == {
        ("a_b", "x"),
        ("a_b_", "y"),
        ("a_b__", "z"),
        ("c'd_", "v"),
    }


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)


@given(NAMES.filter(lambda name: not name.lower().startswith("sqlite_")), NAMES, NAMES)
def test_whatever_names_there_are_the_sql_runs_and_the_picture_is_read(
    name: str, column: str, kind: str
) -> None:
    name, column, kind = (f'"{each.replace(chr(34), chr(34) * 2)}"' for each in (name, column, kind))
    sql = f"CREATE TABLE {name} ({column} {kind} REFERENCES {name}, UNIQUE ({column}));"
    with TemporaryDirectory(dir=in_memory()) as folder:
        write(Path(folder), "0001", sql)
        found = schema(folder)
    assert structure.difference(made(sql), made(found.sql)) == ()
    picture = parsed(found.mermaid)
    assert len(picture.tables) == len(picture.references) == 1


def test_the_readme_shows_the_picture_of_the_schema_that_ships() -> None:
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("no README.md here")
    assert re.findall(r"(?ms)^```mermaid\n(.*?)^```$", readme.read_text()) == [
        schema(ROOT / "migrations").mermaid
    ]
