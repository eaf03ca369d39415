"""What a step can have broken is checked, and nothing else: as exact as a whole `PRAGMA foreign_key_check` before
and after it, and without a look at a table that the step cannot have touched.
"""

import re
import sqlite3
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import change, in_memory, write

from vmpilot.migrate import StepError, current, migrate

SCHEMA = """
CREATE TABLE p (id INTEGER PRIMARY KEY, code TEXT, title TEXT, UNIQUE (code));
CREATE TABLE "Big P" (a INTEGER, b TEXT, title, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE TABLE word (key TEXT PRIMARY KEY ON CONFLICT REPLACE, old TEXT UNIQUE ON CONFLICT REPLACE);
CREATE TABLE twin (base INTEGER, k INTEGER GENERATED ALWAYS AS (base + 0) STORED UNIQUE);
CREATE TABLE plain (k INTEGER, n);
CREATE UNIQUE INDEX plain_k ON plain (k);
CREATE TABLE c (id INTEGER PRIMARY KEY, p_id INTEGER REFERENCES P ON DELETE CASCADE, p_code TEXT
    REFERENCES p (code) DEFERRABLE INITIALLY DEFERRED, title TEXT);
CREATE TABLE d (x, y, title, FOREIGN KEY (x, y) REFERENCES "big p");
CREATE TABLE e (w TEXT REFERENCES word (key), v TEXT REFERENCES word (old), t INTEGER REFERENCES twin (k), n);
CREATE TABLE s (id INTEGER PRIMARY KEY, up INTEGER REFERENCES s, n);
CREATE TABLE o (k INTEGER REFERENCES plain (k), n);
CREATE TABLE top (id INTEGER PRIMARY KEY, replaced_by INTEGER /* ON CONFLICT REPLACE */);
CREATE TABLE middle (id INTEGER PRIMARY KEY, top INTEGER REFERENCES top, n UNIQUE, low AS (lower(n)));
CREATE TABLE low (middle INTEGER REFERENCES middle);
CREATE TABLE alone (id INTEGER PRIMARY KEY, n);
CREATE VIEW shown AS SELECT id, p_id, title FROM c;
INSERT INTO p VALUES (1, '1', 'a'), (2, '2', 'b'), (3, '3', 'c');
INSERT INTO "Big P" VALUES (1, '1', 'a'), (2, '2', 'b');
INSERT INTO word VALUES ('1', '1'), ('2', '2');
INSERT INTO twin (base) VALUES (1), (2);
INSERT INTO plain VALUES (1, 1), (2, 2);
INSERT INTO c VALUES (1, 1, '1', 'a'), (2, 2, '2', 'b'), (3, NULL, NULL, 'c');
INSERT INTO d VALUES (1, '1', 'a'), (2, NULL, 'b');
INSERT INTO e VALUES ('1', '1', 1, 1), ('2', '2', 2, 2);
INSERT INTO s VALUES (1, 1, 1), (2, 1, 2);
INSERT INTO o VALUES (1, 1), (2, 2);
INSERT INTO top VALUES (1, 1), (2, 2);
INSERT INTO middle VALUES (1, 1, 1), (2, 2, 2);
INSERT INTO low VALUES (1), (2);
INSERT INTO alone VALUES (1, 1);
"""
LEGACY = (
    "INSERT INTO c VALUES (7, 9, '9', 'x')",
    "INSERT INTO d VALUES (9, '9', 'x')",
    "INSERT INTO s VALUES (9, 8, 1)",
    "INSERT INTO e VALUES ('9', '9', 9, 1)",
    "DROP INDEX plain_k",
)
TRIGGERS = (
    "CREATE TRIGGER t1 AFTER UPDATE OF title ON p BEGIN UPDATE c SET p_id = 4 WHERE id = 1; END",
    "CREATE TRIGGER t2 AFTER INSERT ON alone BEGIN INSERT INTO c (p_id) VALUES (new.n); END",
    "CREATE TRIGGER t3 AFTER INSERT ON alone BEGIN SELECT CASE WHEN 1 THEN 2 END; UPDATE alone SET n = 5; END",
    "CREATE TRIGGER t4 AFTER UPDATE ON alone BEGIN DELETE FROM p WHERE id = new.n; END",
    "CREATE TRIGGER t5 INSTEAD OF INSERT ON shown BEGIN INSERT INTO c (p_id) VALUES (new.p_id); END",
    "CREATE TRIGGER t6 INSTEAD OF DELETE ON shown BEGIN DELETE FROM p WHERE id = old.p_id; END",
    "CREATE TRIGGER t8 AFTER INSERT ON alone BEGIN INSERT INTO p (code) VALUES (new.n); END",
    "CREATE TRIGGER t10 AFTER DELETE ON middle BEGIN DELETE FROM p WHERE id = old.id; END",
    "CREATE TRIGGER t11 AFTER UPDATE ON top BEGIN DELETE FROM p WHERE id = old.id; END",
    "CREATE TRIGGER t9 AFTER UPDATE ON alone BEGIN UPDATE p SET code = new.n WHERE title = 'a'; END",
    'CREATE TRIGGER t7 BEFORE DELETE ON o BEGIN UPDATE "Big P" SET [A] = 5 WHERE a = old.k; END',
)
STATEMENTS = (
    "INSERT INTO c (p_id) VALUES ({})",
    "insert into C(p_code) values ('{}')",
    "INSERT INTO main.[c] (p_id, p_code) SELECT {}, '{}'",
    "WITH n AS (SELECT {} AS i) INSERT INTO c (p_id) SELECT i FROM n",
    "INSERT INTO p VALUES ({}, '{}', 'z') ON CONFLICT DO UPDATE SET id = 6",
    "INSERT OR REPLACE INTO p VALUES ({}, '{}', 'z')",
    "REPLACE INTO p VALUES ({}, '{}', 'z')",
    "INSERT OR IGNORE INTO p VALUES ({}, '{}', 'z')",
    "INSERT INTO p VALUES ({}, '{}', 'z') ON CONFLICT (id) DO NOTHING",
    "INSERT INTO p VALUES ({}, '{}', 'z') ON CONFLICT (id) DO UPDATE SET title = 'y'",
    "UPDATE p SET title = replace(title, 'a', '{}')",
    "INSERT OR REPLACE INTO alone (n) VALUES ({})",
    "UPDATE OR REPLACE alone SET n = {}",
    "WITH replace AS (SELECT {} AS i) DELETE FROM p WHERE id IN (SELECT i FROM replace)",
    "INSERT /* ( */ INTO alone (n) VALUES ({}); INSERT /* ( */ INTO s (up) VALUES ({})",
    "DELETE FROM c WHERE p_id = {}",
    "DELETE FROM s WHERE up = {}",
    "INSERT INTO p (id) VALUES ({}); DELETE FROM p WHERE id = {}",
    "ALTER TABLE c ADD COLUMN low AS (lower(title)); UPDATE c SET title = '{}'",
    "ALTER TABLE alone ADD COLUMN s REFERENCES s",
    "ALTER TABLE alone ADD COLUMN t REFERENCES p (title)",
    "ALTER TABLE s RENAME COLUMN up TO above",
    "UPDATE p SET title = '{}'",
    "UPDATE p SET id = {} WHERE id = {}",
    "UPDATE p AS q SET rowid = {} WHERE q.id = {}",
    "UPDATE OR REPLACE p SET code = '{}' WHERE id = {}",
    "UPDATE p SET (title, code) = ('x', '{}') WHERE id = {}",
    "UPDATE c SET title = 'z'",
    "UPDATE c SET P_ID = {} WHERE id = {}",
    "UPDATE c SET p_id = p.id + 1 FROM p WHERE p.id = c.id AND p.id = {}",
    "DELETE FROM p WHERE id = {}",
    "WITH n AS (SELECT {} AS i) DELETE FROM p WHERE id IN (SELECT i FROM n)",
    "DELETE FROM c WHERE id = {}",
    "DELETE FROM `big p` WHERE a = {}",
    "UPDATE 'Big P' SET title = '{}'",
    "UPDATE \"big p\" SET b = '{}' WHERE a = {}",
    "INSERT INTO d VALUES ({}, '{}', 'z')",
    "UPDATE d SET y = '{}' WHERE x = {}",
    "INSERT INTO word VALUES ('{}', '{}')",
    "UPDATE word SET old = '{}' WHERE key = '{}'",
    "INSERT INTO e VALUES ('{}', '{}', NULL, 1)",
    "UPDATE twin SET base = {} WHERE base = {}",
    "UPDATE e SET t = {}, n = 3",
    "UPDATE e SET n = {}",
    "DELETE FROM s WHERE id = {}",
    "UPDATE s SET up = {} WHERE id = {}",
    "UPDATE s SET oid = {} WHERE id = {}",
    "INSERT INTO s VALUES ({}, {}, 1)",
    "UPDATE middle SET top = {} WHERE id = {}",
    "UPDATE middle SET id = {} WHERE id = {}",
    "UPDATE OR REPLACE middle SET n = {}",
    "INSERT INTO middle VALUES ({}, {}, {})",
    "INSERT INTO middle VALUES ({}, 1, 5) ON CONFLICT (id) DO UPDATE SET top = {}",
    "UPDATE middle SET top = {}; ALTER TABLE middle RENAME top TO above",
    "ALTER TABLE middle RENAME TO mid; UPDATE mid SET top = {} WHERE id = {}",
    "UPDATE middle SET top = {}; ALTER TABLE middle RENAME TO mid",
    "ALTER TABLE top RENAME TO peak; DELETE FROM peak WHERE id = {}",
    "ALTER TABLE top RENAME TO peak; CREATE TABLE top (id INTEGER PRIMARY KEY); INSERT INTO top VALUES ({})",
    "PRAGMA legacy_alter_table = ON; ALTER TABLE top RENAME TO peak; CREATE TABLE top (id INTEGER PRIMARY KEY);"
    " INSERT INTO top VALUES ({}), (9)",
    "DROP TABLE top; ALTER TABLE alone RENAME TO top",
    "DELETE FROM top WHERE id = {}; ALTER TABLE top RENAME TO peak",
    "CREATE TABLE more (id REFERENCES peak); INSERT INTO more VALUES ({}); ALTER TABLE top RENAME TO peak",
    "ALTER TABLE low RENAME TO lower; INSERT INTO lower VALUES ({})",
    "ALTER TABLE top RENAME replaced_by TO other; UPDATE middle SET n = {}",
    "DELETE FROM middle WHERE id = {}",
    "INSERT INTO low VALUES ({})",
    "UPDATE top SET replaced_by = {}",
    "PRAGMA recursive_triggers = ON; UPDATE OR REPLACE middle SET n = {}",
    "PRAGMA recursive_triggers = ON; REPLACE INTO middle VALUES ({}, {}, {})",
    "INSERT INTO top VALUES ({}, 1) ON CONFLICT DO UPDATE SET replaced_by = 3",
    "INSERT INTO alone (n) VALUES ({})",
    "UPDATE alone SET n = {}",
    "INSERT INTO shown (p_id) VALUES ({})",
    "DELETE FROM shown WHERE id = {}",
    "DELETE FROM o WHERE k = {}",
    "INSERT INTO o VALUES ({}, 1)",
    "UPDATE plain SET k = k + {}",
    "UPDATE plain SET n = {}",
    "DROP INDEX IF EXISTS plain_k",
    "CREATE UNIQUE INDEX IF NOT EXISTS plain_k2 ON plain (k)",
    "ALTER TABLE c ADD COLUMN more INTEGER REFERENCES p DEFAULT {}",
    "ALTER TABLE c ADD COLUMN note TEXT DEFAULT '{}'",
    "ALTER TABLE c RENAME COLUMN p_id TO parent_id",
    "ALTER TABLE alone RENAME TO lonely",
    "ALTER TABLE o DROP COLUMN n",
    "CREATE TABLE made (a REFERENCES p DEFAULT {}); INSERT INTO made DEFAULT VALUES",
    "CREATE TABLE copied AS SELECT * FROM c",
    "CREATE TABLE IF NOT EXISTS C (a REFERENCES nowhere); INSERT INTO c (p_id) VALUES ({})",
    "CREATE TABLE more (k INTEGER PRIMARY KEY, up REFERENCES MORE, p REFERENCES p); INSERT INTO more VALUES ({}, {}, {})",
    "ALTER TABLE more ADD s REFERENCES s; UPDATE more SET s = {}",
    "DROP TABLE IF EXISTS more",
    "DROP TABLE o; CREATE TABLE O (k INTEGER REFERENCES P); INSERT INTO o VALUES ({})",
    "ALTER TABLE c DROP COLUMN p_code",
    "ALTER TABLE p RENAME COLUMN id TO number",
    "DROP TABLE alone; CREATE TABLE alone (id INTEGER PRIMARY KEY, n REFERENCES p); INSERT INTO alone VALUES (1, {})",
    "CREATE TABLE p2 (id INTEGER PRIMARY KEY, code TEXT UNIQUE, title); INSERT INTO p2 SELECT * FROM p WHERE id > {};"
    " DROP TABLE p; ALTER TABLE p2 RENAME TO p",
    "CREATE TABLE c2 (id INTEGER PRIMARY KEY, p_id REFERENCES p); INSERT INTO c2 SELECT id, p_id + {} FROM c;"
    " DROP TABLE c; ALTER TABLE c2 RENAME TO c",
    "CREATE TRIGGER own AFTER INSERT ON alone BEGIN UPDATE p SET id = {} WHERE id = 1; END;"
    " INSERT INTO alone (n) VALUES (1); DROP TRIGGER own",
    "CREATE TEMP TRIGGER own AFTER INSERT ON alone BEGIN DELETE FROM p WHERE id = {}; END;"
    " INSERT INTO alone (n) VALUES (1); DROP TRIGGER own",
    "CREATE INDEX IF NOT EXISTS c_title ON c (title); CREATE VIEW IF NOT EXISTS v AS SELECT {}",
)
VALUES = st.sampled_from(["1", "2", "3", "4", "9", "NULL"])


@st.composite
def steps(draw: st.DrawFn) -> str:
    templates = draw(st.lists(st.sampled_from(STATEMENTS), min_size=1, max_size=3))
    return ";\n".join(
        re.sub(r"'?\{\}'?", lambda hole: filled(draw(VALUES), hole[0]), text) for text in templates
    )


def filled(value: str, hole: str) -> str:
    return f"'{value}'" if hole[0] == "'" and value != "NULL" else value


def violations(connection: sqlite3.Connection) -> Counter[tuple[object, ...]]:
    """Return how often which key with which values dangles, and which keys SQLite cannot check."""
    found: Counter[tuple[object, ...]] = Counter()
    names = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%REFERENCES%'"
    for (table,) in connection.execute(names).fetchall():
        listed = connection.execute(f'PRAGMA foreign_key_list("{table}")').fetchall()
        try:
            rows = connection.execute(f'PRAGMA foreign_key_check("{table}")').fetchall()
        except sqlite3.OperationalError as error:
            found[(table, "cannot be checked", str(error))] += 1
            continue
        for _, rowid, parent, number in rows:
            columns = ", ".join(f'"{row[3]}"' for row in listed if row[0] == number)
            values = connection.execute(f'SELECT {columns} FROM "{table}" WHERE rowid = {rowid}').fetchone()
            found[(table, parent.lower(), *values)] += 1
    return found


def outcome(database: Path, step: str) -> str:
    """Return what is right: that a step fails by itself, leaves what was not so before, or is good and stays."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        before = violations(connection)
        try:
            connection.executescript(f"BEGIN; {step};")
            after = violations(connection)
            # Of a key that could not be checked before, nobody knows what was there.
            unknown = {row[0] for row in before if row[1] == "cannot be checked"}
            if any(row[0] not in unknown for row in after - before):
                return "leaves"
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            return f"fails: {error}"
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    return "good"


def found(database: Path, migrations: Path) -> str:
    """Return what the run says of the same."""
    try:
        migrate(database, migrations)
    except StepError as error:
        told = str(error)
        return "leaves" if "foreign key violation" in told else f"fails: {error.__cause__}"
    return "good"


@given(
    legacy=st.sets(st.sampled_from(LEGACY)),
    triggers=st.sets(st.sampled_from(TRIGGERS)),
    each=st.lists(steps(), min_size=1, max_size=4),
    together=st.booleans(),
)
def test_what_is_found_is_what_a_whole_check_before_and_after_finds(
    legacy: set[str], triggers: set[str], each: list[str], together: bool
) -> None:
    """Also where the steps are of one run, which keeps what it knows of the schema from one to the next."""
    with TemporaryDirectory(dir=in_memory()) as folder:
        database, migrations, other = (
            Path(folder, "app.db"),
            Path(folder, "migrations"),
            Path(folder, "other.db"),
        )
        migrations.mkdir()
        write(migrations, "0001_base", ";\n".join([SCHEMA.rstrip().rstrip(";"), *sorted(triggers)]) + ";")
        migrate(database, migrations)
        change(database, *sorted(legacy))
        other.write_bytes(database.read_bytes())
        for number, step in enumerate(each, 2):
            right = outcome(other, step)
            write(migrations, f"{number:04}_step", step + ";")
            last = right != "good" or number == len(each) + 1
            if last or not together:
                assert found(database, migrations) == right, step
            if last:
                assert current(database, migrations).version == f"{number - (right != 'good'):04}"
                break


LOOKS = {
    # what cannot break a key is not looked at
    "CREATE TABLE more (a); INSERT INTO more VALUES (1); DROP TABLE more;": set(),
    "ALTER TABLE c ADD COLUMN note;": set(),
    "ALTER TABLE o DROP COLUMN n;": set(),
    "CREATE INDEX by_title ON c (title); CREATE VIEW v AS SELECT * FROM c; DROP INDEX by_title;": set(),
    "CREATE TRIGGER t AFTER INSERT ON alone BEGIN DELETE FROM p; END;": set(),
    "UPDATE p SET title = 'id' WHERE id = 1; UPDATE c SET title = 'x'; DELETE FROM c WHERE id = 1;": set(),
    "INSERT INTO p (code) VALUES ('7'); SELECT * FROM c;": set(),
    "WITH n AS (SELECT 1) UPDATE p SET title = 'x'; WITH n AS (SELECT 1) SELECT * FROM c;": set(),
    "ALTER TABLE alone ADD COLUMN p REFERENCES p; ALTER TABLE p ADD COLUMN up REFERENCES p;": set(),
    "CREATE TABLE more (a REFERENCES p); CREATE TABLE copy AS SELECT * FROM c;": set(),
    "CREATE TABLE IF NOT EXISTS p (a); ALTER TABLE c ADD COLUMN z DEFAULT 'references';": set(),
    "ALTER TABLE d RENAME COLUMN x TO z; ALTER TABLE p RENAME COLUMN title TO name;": set(),
    "UPDATE p SET title = replace(title, 'or replace', 'conflict');": set(),
    "INSERT INTO p VALUES (7, '7', 'replace') ON CONFLICT DO NOTHING;": set(),
    "INSERT INTO p VALUES (1, '1', 'x') ON CONFLICT DO UPDATE SET title = 'id' WHERE id > 0;": set(),
    "UPDATE middle SET n = 7; UPDATE top SET replaced_by = 1; INSERT INTO top VALUES (7, 7);": set(),
    "ALTER TABLE alone RENAME TO lone; UPDATE p SET title = 'x'; UPDATE c SET title = 'x';": set(),
    "ALTER TABLE top RENAME COLUMN replaced_by TO other; UPDATE middle SET n = 7;": set(),
    "ALTER TABLE alone ADD s INTEGER REFERENCES s ON DELETE SET DEFAULT DEFAULT NULL;": set(),
    "ALTER TABLE p RENAME TO q; ALTER TABLE c RENAME TO d2; ALTER TABLE s RENAME TO t;": set(),
    "DELETE FROM alone; CREATE TRIGGER t AFTER DELETE ON top BEGIN DELETE FROM p; END; INSERT INTO top VALUES (7, 7);": set(),
    # a child by what it gets, all children by what their parent loses
    "INSERT INTO c (p_id) VALUES (1);": {"c"},
    "UPDATE C SET P_ID = 1;": {"c"},
    "UPDATE p SET code = code;": {"c"},
    "UPDATE p SET (rowid) = (id);": {"c"},
    'DELETE FROM "big P" WHERE 0;': {"d"},
    "UPDATE twin SET base = base;": {"e"},
    "INSERT INTO word VALUES ('7', '7');": {"e"},
    "INSERT INTO p VALUES (1, '1', 'x') ON CONFLICT DO UPDATE SET id = id;": {"c"},
    "INSERT INTO p VALUES (1, '1', 'x') ON CONFLICT (id) DO UPDATE SET title = 'x'"
    " ON CONFLICT DO UPDATE SET id = 7;": {"c"},
    "REPLACE INTO p VALUES (1, '1', 'x');": {"c"},
    "INSERT INTO s VALUES (3, 1, 1);": {"s"},
    "DELETE FROM s WHERE 0;": {"s"},
    "WITH n AS (SELECT 1) UPDATE p SET code = code;": {"c"},
    "UPDATE middle SET top = 1;": {"middle"},
    "UPDATE middle SET id = id;": {"low"},
    "UPDATE c SET p_id = 1; ALTER TABLE c RENAME TO b; ALTER TABLE b RENAME TO a;": {"a"},
    "DELETE FROM p WHERE 0; ALTER TABLE p RENAME TO q;": {"c"},
    "DROP TABLE top; ALTER TABLE alone RENAME TO top;": {"middle"},
    "ALTER TABLE alone RENAME TO missing;": {"waiting"},
    "PRAGMA legacy_alter_table = ON; ALTER TABLE p RENAME TO q; CREATE TABLE p (id INTEGER PRIMARY KEY, code UNIQUE);": {
        "c"
    },
    "UPDATE OR REPLACE middle SET n = n;": {"low"},
    "UPDATE middle SET top = 1; ALTER TABLE middle RENAME COLUMN top TO above;": {"middle", "low"},
    "ALTER TABLE alone ADD s REFERENCES s ON DELETE SET DEFAULT DEFAULT 1;": {"alone"},
    "ALTER TABLE alone ADD COLUMN p REFERENCES p DEFAULT 7;": {"alone"},
    "ALTER TABLE alone ADD COLUMN rename REFERENCES p DEFAULT 7;": {"alone"},
    "ALTER TABLE alone ADD COLUMN p AS (n) REFERENCES p;": {"alone"},
    "CREATE TABLE more (a REFERENCES p); INSERT INTO more VALUES (1);": {"more"},
    "DROP TABLE o; CREATE TABLE o (a REFERENCES p);": {"o"},
    # through triggers and views
    "INSERT INTO shown (p_id) VALUES (1);": {"c"},
    "UPDATE alone SET n = 7;": {"c"},
    "ALTER TABLE alone RENAME TO lone; UPDATE lone SET n = 7;": {"c"},
    "INSERT INTO p (code) VALUES ('7'); CREATE TRIGGER t AFTER INSERT ON p BEGIN DELETE FROM s WHERE 0; END;"
    "INSERT INTO p (code) VALUES ('8');": {"s"},
    "CREATE TRIGGER t AFTER DELETE ON top BEGIN DELETE FROM p; END; REPLACE INTO top VALUES (7, 7);": {
        "c",
        "middle",
    },
    "CREATE TRIGGER t AFTER UPDATE ON top BEGIN DELETE FROM p; END;"
    "INSERT INTO top VALUES (1, 7) ON CONFLICT DO UPDATE SET replaced_by = 1;": {"c"},
    # all, where nobody can tell
    "PRAGMA writable_schema = ON; PRAGMA writable_schema = OFF;": {"c", "d", "e", "s", "o", "middle", "low"},
    "-- vmpilot: foreign-keys-on so\nSELECT 1;": {"c", "d", "e", "s", "o", "middle", "low"},
}


@pytest.mark.parametrize("step", LOOKS)
def test_what_is_looked_at(step: str, tmp_path: Path) -> None:
    write(tmp_path, "0001_base", ";\n".join([SCHEMA.rstrip().rstrip(";"), TRIGGERS[3], TRIGGERS[4]]) + ";")
    with closing(sqlite3.connect(":memory:")) as connection:
        migrate(connection, tmp_path)
        connection.execute("CREATE TABLE waiting (a REFERENCES missing)")
        asked: list[str] = []
        write(tmp_path, "0002_step", step)
        connection.set_trace_callback(asked.append)
        with suppress(StepError):
            migrate(connection, tmp_path)
    looked = (sql for sql in asked if "foreign_key_check" in sql)
    assert {sql.partition('("')[2].partition('"')[0] for sql in looked} == LOOKS[step]
