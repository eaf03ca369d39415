"""Whether SQLite finds the pages and values of a database damaged, and whether that is so.

Only reading lives here; what damage means for a command is decided there.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ..errors import passed_over
from ..tokens import quoted
from .connection import Session, limited, size_of

_ENOUGH = 100
_LONGEST = 1 << 24  # bytes of a value
_BOOLEANS = {"true": 1, "false": 0}
_VALUES = ("NULL value in ", "NUMERIC value in ")


class _Column(NamedTuple):
    table: str
    name: str
    default: str | None


def damage(session: Session, pragma: str) -> tuple[str, ...]:
    """Return what quick_check or integrity_check says of a database, less what is not so; () if it is sound.

    Raises what SQLite raises where it cannot go on. Two of its findings are looked at again in the rows:

    - "NULL value in t.c": SQLite 3.40.0 to 3.41.0 take the columns of a WITHOUT ROWID table in their
      declared order, not in that of its key. Fixed in https://www.sqlite.org/releaselog/3_41_1.html
    - "NUMERIC value in t.c": rows that are older than a column have its default, and that of
      `ADD COLUMN c TEXT DEFAULT true` is the number 1.
    """
    doubtful: set[str] = set()
    found: list[str] = []
    # What a CHECK or an index computes can be longer than the whole database; that is not looked at.
    with limited(session, length=max(_LONGEST, 2 * size_of(session))):
        # Without a limit of our own, a hundred findings that are not so would hide one that is.
        for chunk in session.chunks(f"PRAGMA {pragma}({(1 << 31) - 1})"):
            told = [" ".join(str(words).split()) for (words,) in chunk]
            doubtful.update(words for words in told if words.startswith(_VALUES))
            found += [words for words in told if words != "ok" and not words.startswith(_VALUES)]
            if len(found) >= _ENOUGH:
                break
    if doubtful:
        known = {f"{column.table}.{column.name}": column for column in _columns(session)}
        found += [told for told in sorted(doubtful) if not _is_refuted(session, told, known)]
    return tuple(found)


def is_of_a_value(finding: str) -> bool:
    """Tell whether a finding is of what a column should not hold; its pages and rows are whole."""
    return finding.split(" ")[1:3] == ["value", "in"]


def _columns(session: Session) -> Iterator[_Column]:
    sql = (
        "SELECT +t.name, c.name, c.dflt_value FROM main.sqlite_schema t, pragma_table_xinfo(t.name, 'main') c"
        " WHERE t.type = 'table'"
    )
    return (_Column(*row) for row in session.rows(sql))


def _is_refuted(session: Session, told: str, known: dict[str, _Column]) -> bool:
    """Tell whether no row is as a finding says."""
    kind, _, place = told.partition(" value in ")
    column = known.get(place)
    if column is None:
        return False
    # By type, because SQLite knows the answer to IS NULL for a column that is NOT NULL.
    value, rows = quoted(column.name), f"SELECT count(*) FROM main.{quoted(column.table)} NOT INDEXED WHERE"
    wrong = f"typeof({value}) = 'null'"
    if kind == "NUMERIC":
        number = _BOOLEANS.get((column.default or "").strip("( )").lower())
        if number is None:
            return False
        wrong = f"typeof({value}) IN ('integer', 'real') AND {value} IS NOT {number}"
    with passed_over(*session.failures):
        return not session.value(f"{rows} {wrong}")
    return False
