"""Proves that a database is called damaged only where its pages or values are.

What SQLite itself says depends on its release, so only what is left of that is compared.
"""

from pathlib import Path

import pytest
from support import in_process, write
from test_structure import built

from vmpilot.migrate.database.soundness import damage
from vmpilot.migrate.tools.copying import check_sound

WITHOUT_ROWID = (
    "CREATE TABLE member (user_id INTEGER, team TEXT, PRIMARY KEY (team, user_id)) WITHOUT ROWID",
    "WITH n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 300) INSERT INTO member SELECT x, 'a' FROM n",
)
GENERATED = (
    "CREATE TABLE made (a INTEGER, b TEXT NOT NULL AS (c || 'x') STORED, c TEXT, PRIMARY KEY (c, a)) WITHOUT ROWID",
    "INSERT INTO made VALUES (1, 'a')",
)
LATE_COLUMN = (
    "CREATE TABLE t (a)",
    "INSERT INTO t VALUES (1), (2)",
    "ALTER TABLE t ADD COLUMN flag TEXT NOT NULL DEFAULT true",
    'ALTER TABLE t ADD COLUMN "fl.ag" TEXT DEFAULT (False)',
    "ALTER TABLE t ADD COLUMN again TEXT DEFAULT ((true))",
    "INSERT INTO t (a) VALUES (3)",
)


def rewritten(before: str, after: str, value: str) -> tuple[str, ...]:
    """Return what puts a value into a table that was declared otherwise when it came."""
    edit = "UPDATE sqlite_schema SET sql = '{}' WHERE name = 't'"
    return (
        f"CREATE TABLE t {after}",
        "PRAGMA writable_schema = ON",
        edit.format(f"CREATE TABLE t {before}"),
        "PRAGMA writable_schema = RESET",
        f"INSERT INTO t VALUES ({value})",
        "PRAGMA writable_schema = ON",
        edit.format(f"CREATE TABLE t {after}"),
        "PRAGMA writable_schema = RESET",
    )


CHECKED = (
    "CREATE TABLE c (a CHECK (a > 1))",
    "PRAGMA ignore_check_constraints = ON",
    "INSERT INTO c VALUES (0)",
    "PRAGMA ignore_check_constraints = OFF",
)
OLDER = (
    "CREATE TABLE t (a CHECK (a < 1000))",
    "PRAGMA ignore_check_constraints = ON",
    "WITH n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 600) INSERT INTO t SELECT x FROM n",
    "ALTER TABLE t ADD COLUMN flag TEXT DEFAULT true",
    "INSERT INTO t VALUES (1000, 'x')",
    "PRAGMA ignore_check_constraints = OFF",
)
SOUND = {
    "nothing": (),
    "a key in another order": WITHOUT_ROWID,
    "a column that is generated, and a key in another order": GENERATED,
    "a default of another type": LATE_COLUMN,
    "both": (*WITHOUT_ROWID, *LATE_COLUMN),
}
DAMAGED = {
    "a NULL": rewritten("(a)", "(a NOT NULL)", "NULL"),
    "a CHECK, behind more than a hundred rows that are sound": (*WITHOUT_ROWID, *CHECKED),
    "a CHECK alone": CHECKED,
    "a CHECK, behind hundreds of older rows of its table": OLDER,
}


@pytest.mark.parametrize("pragma", ["quick_check", "integrity_check"])
@pytest.mark.parametrize("statements", SOUND.values(), ids=SOUND)
def test_what_is_sound_is_called_sound(statements: tuple[str, ...], pragma: str) -> None:
    with built(*statements) as session:
        assert damage(session, pragma) == ()
        check_sound(session, "app.db")


@pytest.mark.parametrize("pragma", ["quick_check", "integrity_check"])
@pytest.mark.parametrize("statements", DAMAGED.values(), ids=DAMAGED)
def test_what_is_damaged_is_called_damaged(statements: tuple[str, ...], pragma: str) -> None:
    with built(*statements) as session:
        found = damage(session, pragma)
        assert len(found) == 1
        said = {" ".join(str(words).split()) for (words,) in session.rows(f"PRAGMA {pragma}(10000)")}
        assert set(found) <= said


def test_all_damage_is_told_however_much_that_is_none_lies_between() -> None:
    first, *others = OLDER
    with built(first, OLDER[1], "INSERT INTO t VALUES (1001)", *others) as session:
        assert len(damage(session, "quick_check")) == 2


def test_a_copy_with_a_value_that_its_column_should_not_hold_is_taken_and_the_doubt_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path(), "1", "CREATE TABLE u (a);", "DROP TABLE u;")
    with built(*DAMAGED["a NULL"], at=tmp_path / "app.db") as session:
        (told,) = damage(session, "quick_check")
        assert check_sound(session, "app.db") == f"quick_check found: {told}"
    arguments = ("--database", "app.db", "--migrations", ".")
    backed_up = in_process(*arguments, "upgrade", "--backup")
    (copy,) = tmp_path.glob("*.bak")
    line = f"backed up to {copy.name}; quick_check found: {told}"
    assert (backed_up.code, backed_up.out.splitlines()[0]) == (0, line)
    restored = in_process(*arguments, "restore", copy.name)
    assert (restored.code, restored.err) == (0, f"{copy.name}: quick_check found: {told}\n")


def test_a_number_in_a_text_column_is_damage_unless_it_is_the_default_of_an_older_row() -> None:
    """SQLite tells it from 3.38 on."""
    with built(*rewritten("(a)", "(a TEXT DEFAULT true)", "7")) as session:
        said = {words for (words,) in session.rows("PRAGMA quick_check")} - {"ok"}
        assert set(damage(session, "quick_check")) == said
