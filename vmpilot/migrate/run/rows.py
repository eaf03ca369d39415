"""The INSERTs of a load in few statements: many rows said by one take less than half of the time.

Sound first. What is joined are consecutive statements that are alike up to their first value, in a script's
own transaction, into a table that takes the rows of one statement as it does those of many. Each is a whole
number of rows: what it begins with ends behind VALUES, outside of strings it has only literals and the
parentheses of rows, and where it ends SQLite's own rule has told. So what is joined has the same rows in the
same order, or is refused like one of the statements. The last of them is run by itself: what changes() and
last_insert_rowid() say belongs to it. And where SQLite takes back the whole transaction in the middle, as it
does when it cannot write (https://www.sqlite.org/lang_transaction.html), a function that is called for each
row has told which of them it was.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import accumulate, takewhile

from ..database.connection import Session, count_calls, in_transaction, is_interrupt, is_own_sqlite3
from ..errors import is_of_the_caller
from ..files.script import Script, statements
from ..tokens import are_literal, beginning, folded, head, row_count
from ..typed import NamedTuple

_LONGEST = 1 << 16  # characters
# Fewer do not pay for the question what table it is.
_LEAST = 32
_OBJECTS_EACH = 32  # of the schema, that are looked through in the time that is saved by one
_SAVEPOINT = "vmpilot_rows"
_COUNTED = "vmpilot_row"  # a function that counts the rows; it stays with the connection, which is ours
# With these a name can mean something else than what stands in the schema, or nothing can be taken back.
_UNCERTAIN = frozenset(("temp", "temporary", "writable_schema", "journal_mode"))
# No view, no virtual table, and without a trigger. What a conflict clause of a table leaves or ends differs
# (https://www.sqlite.org/lang_conflict.html), and so can what its defaults and CHECKs are told of the rows
# before. And SQLite keeps a copy of each page that a statement of many rows changes: with several indexes,
# which are written in no order, this costs more than is saved.
_TELLING = ("conflict", "changes", "last_insert_rowid")
_IS_PLAIN = f"""SELECT count(*) <= 2 AND min(CASE type WHEN 'index' THEN 1 WHEN 'table' THEN
    rootpage > 0 AND {" AND ".join(f"instr(lower(sql), '{word}') = 0" for word in _TELLING)} ELSE 0 END)
    FROM main.sqlite_master WHERE tbl_name = ? COLLATE NOCASE"""


class _Load(NamedTuple):
    """What is run and how, see `apart`, and what is found out meanwhile.

    `known` are beginnings of INSERTs, and whether their table is one into which rows may come together.
    `rows` counts those that SQLite has begun to insert, and the statements of many of them.
    """

    session: Session
    script: Script
    run: Callable[[str], bool]
    ended: Callable[[int], None]
    most: int
    known: dict[str, bool]
    rows: Iterator[int]


def apart(
    session: Session, script: Script, run: Callable[[str], bool], ended: Callable[[int], None], most: int
) -> Iterator[tuple[int, str]]:
    """Yield index and text of each statement that the caller runs by itself, in order.

    Those between two of them are run meanwhile by `run`, joined, at most so many. What fails there and leaves
    the transaction as it was is yielded after all; an interrupt, and what ends the transaction, comes out. In
    the latter case `ended` is called before with the index of the statement.
    """
    if not _is_certain(session, script):
        return enumerate(statements(script))
    return _apart(_Load(session, script, run, ended, most, {}, count_calls(session, _COUNTED)))


def _is_certain(session: Session, script: Script) -> bool:
    """Tell whether a name in a script means what the schema says, and a savepoint can be taken back to.

    With foreign keys on, a row may refer to a later one of its statement, but not of a later statement.
    """
    return (
        is_own_sqlite3(session)
        and script.transactional
        and not script.keys_on
        and not script.kept
        and script.words.isdisjoint(_UNCERTAIN)
    )


def _apart(load: _Load) -> Iterator[tuple[int, str]]:
    text, starts, ends = load.script.text, load.script.starts, load.script.ends
    at = 0
    while at < len(starts):
        left = _left(load, at)
        for index in left:
            yield index, text[starts[index] : ends[index]]
        at = left.stop


def _left(load: _Load, at: int) -> range:
    """Run what can be joined from a statement on; return what comes then and is run statement by statement.

    These are a few of other kinds, or INSERTs that cannot be joined, or the last of those that were: it is of
    the same kind, so it does not ask what those before it did.
    """
    script, known = load.script, load.known
    into, values = beginning(script.text, script.starts[at], script.ends[at])
    insert = into + values
    rows = _rows(load, at, insert) if insert else []
    alone = range(at, min(at + (len(rows) or _LEAST), len(script.starts)))
    if not rows:
        known.clear()  # what runs now can change the schema
        return alone
    first = rows[:-1]
    joined = ",(".join(first)
    if not (known.get(insert, True) and are_literal(joined) and are_literal(rows[-1])):
        return alone
    if insert not in known:
        known[insert] = _is_worth_a_look(load, at, insert) and _is_plain(load.session, insert)
    if not known[insert]:
        return alone
    sql = f"{into}SELECT * FROM ({values}{joined}) WHERE {_COUNTED}()"
    return alone[-1:] if _is_run(load, sql, lambda begun: at + _statement(first, begun)) else alone


def _rows(load: _Load, at: int, insert: str) -> list[str]:
    """Return what stands behind the beginning of a statement, and of those after it that have the same.

    Nothing if they are too few.
    """
    script, most = load.script, load.most
    text, ends = script.text, script.ends
    until = min(at - at % most + most, bisect_right(ends, script.starts[at] + _LONGEST, at))
    starts = script.starts[at:until]
    if len(starts) < _LEAST or not text.startswith(insert, starts[_LEAST - 1]):
        return []
    alike = list(takewhile(partial(text.startswith, insert), starts))
    if len(alike) < _LEAST:
        return []
    behind = len(insert)
    return [text[start + behind : end] for start, end in zip(alike, ends[at:until], strict=False)]


def _is_worth_a_look(load: _Load, at: int, insert: str) -> bool:
    """Tell whether enough INSERTs begin alike from here on to look through the schema, which can be large."""
    ahead, starts = _LEAST, load.script.starts
    while at + 2 * ahead <= len(starts) and load.script.text.startswith(insert, starts[at + 2 * ahead - 1]):
        ahead *= 2
    return int(load.session.value("SELECT max(rowid) FROM main.sqlite_master") or 0) <= ahead * _OBJECTS_EACH


def _is_plain(session: Session, insert: str) -> bool:
    target = head(insert)
    is_own = folded(target.schema) in ("", "main") and not folded(target.name).startswith("sqlite_")
    return is_own and session.value(_IS_PLAIN, (target.name,)) == 1


def _statement(texts: Iterable[str], begun: int) -> int:
    """Return which of some statements the last of so many rows belongs to."""
    return sum(before < begun for before in accumulate(map(row_count, texts)))


def _is_run(load: _Load, sql: str, statement: Callable[[int], int]) -> bool:
    """Run a statement of many rows; where it fails leave nothing of it, and tell so.

    A statement that fails takes its rows back by itself, but SQLite 3.36 not always: not for a value that is
    too big. `statement` returns for a number of rows that were begun the index of that of the last one.
    """
    session, run, first = load.session, load.run, next(load.rows)
    is_whole = True
    run(f"SAVEPOINT {_SAVEPOINT}")
    try:
        run(sql)
    except session.failures as error:
        if not in_transaction(session):
            load.ended(statement(next(load.rows) - first - 1))
            raise
        if is_of_the_caller(error) or is_interrupt(error):
            raise
        run(f"ROLLBACK TO {_SAVEPOINT}")
        is_whole = False
    run(f"RELEASE {_SAVEPOINT}")
    return is_whole
