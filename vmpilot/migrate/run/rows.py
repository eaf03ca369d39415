"""The INSERTs of a load in few statements: many rows said by one take less than half of the time.

Sound first. What is joined are consecutive statements that are alike up to their first value, in a script's
own transaction, into a table that takes the rows of one statement as it does those of many. Each is a whole
number of rows: what it begins with ends behind VALUES, outside of strings it has only literals and the
parentheses of rows, and where it ends SQLite's own rule has told. So what is joined has the same rows in the
same order, or is refused like one of the statements. The last of them is run by itself: what changes() and
last_insert_rowid() say belongs to it.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import takewhile

from ..database.connection import Session, in_transaction, is_interrupt, is_own_sqlite3
from ..errors import is_of_the_caller
from ..files.script import Script, statements
from ..tokens import are_literal, beginning, folded, head

TICK_EACH = 64  # statements between two looks at the time: no more are joined
_LONGEST = 1 << 16  # characters
# Fewer do not pay for the question what table it is.
_LEAST = 32
_OBJECTS_EACH = 32  # of the schema, that are looked through in the time that is saved by one
_SAVEPOINT = "vmpilot_rows"
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


def apart(session: Session, script: Script, run: Callable[[str], bool]) -> Iterator[tuple[int, str]]:
    """Yield index and text of each statement that the caller runs by itself, in order.

    Those between two of them are run meanwhile by `run`, joined. What fails there and leaves the transaction
    as it was is yielded after all; an interrupt, and what ends the transaction, comes out.
    """
    return _apart(session, script, run) if _is_certain(session, script) else enumerate(statements(script))


def _is_certain(session: Session, script: Script) -> bool:
    """Tell whether a name in a script means what the schema says, and a savepoint can be taken back to.

    With foreign keys on, a row may refer to a later one of its statement, but not of a later statement.
    """
    return (
        len(script.starts) > _LEAST
        and is_own_sqlite3(session)
        and script.transactional
        and not script.keys_on
        and not script.kept
        and script.words.isdisjoint(_UNCERTAIN)
    )


def _apart(session: Session, script: Script, run: Callable[[str], bool]) -> Iterator[tuple[int, str]]:
    text, starts, ends = script.text, script.starts, script.ends
    at, known = 0, dict[str, bool]()
    while at < len(starts):
        left = _left(session, script, run, at, known)
        for index in left:
            yield index, text[starts[index] : ends[index]]
        at = left.stop


def _left(
    session: Session, script: Script, run: Callable[[str], bool], at: int, known: dict[str, bool]
) -> range:
    """Run what can be joined from a statement on; return what comes then and is run statement by statement.

    These are a few of other kinds, or INSERTs that cannot be joined, or the last of those that were: it is of
    the same kind, so it does not ask what those before it did. `known` are beginnings of INSERTs, and whether
    their table is one into which rows may come together.
    """
    insert = beginning(script.text, script.starts[at], script.ends[at])
    rows = _rows(script, at, insert) if insert else []
    alone = range(at, min(at + (len(rows) or _LEAST), len(script.starts)))
    if not rows:
        known.clear()  # what runs now can change the schema
        return alone
    joined = ",(".join(rows[:-1])
    if not (known.get(insert, True) and are_literal(joined) and are_literal(rows[-1])):
        return alone
    if insert not in known:
        known[insert] = _is_worth_a_look(session, script, at, insert) and _is_plain(session, insert)
    return alone[-1:] if known[insert] and _is_run(session, run, insert + joined) else alone


def _rows(script: Script, at: int, insert: str) -> list[str]:
    """Return what stands behind the beginning of a statement, and of those after it that have the same.

    Nothing if they are too few.
    """
    from bisect import bisect_right  # not loaded by a run of short scripts

    text, ends = script.text, script.ends
    until = min(at - at % TICK_EACH + TICK_EACH, bisect_right(ends, script.starts[at] + _LONGEST, at))
    starts = script.starts[at:until]
    if len(starts) < _LEAST or not text.startswith(insert, starts[_LEAST - 1]):
        return []
    alike = list(takewhile(partial(text.startswith, insert), starts))
    if len(alike) < _LEAST:
        return []
    behind = len(insert)
    return [text[start + behind : end] for start, end in zip(alike, ends[at:until], strict=False)]


def _is_worth_a_look(session: Session, script: Script, at: int, insert: str) -> bool:
    """Tell whether enough INSERTs begin alike from here on to look through the schema, which can be large."""
    ahead, starts = _LEAST, script.starts
    while at + 2 * ahead <= len(starts) and script.text.startswith(insert, starts[at + 2 * ahead - 1]):
        ahead *= 2
    return int(session.value("SELECT max(rowid) FROM main.sqlite_master") or 0) <= ahead * _OBJECTS_EACH


def _is_plain(session: Session, insert: str) -> bool:
    target = head(insert)
    is_own = folded(target.schema) in ("", "main") and not folded(target.name).startswith("sqlite_")
    return is_own and session.value(_IS_PLAIN, (target.name,)) == 1


def _is_run(session: Session, run: Callable[[str], bool], sql: str) -> bool:
    """Run a statement of many rows; where it fails leave nothing of it, and tell so.

    A statement that fails takes its rows back by itself, but not always: not for a type that a STRICT table
    refuses, nor for a value that is too big.
    """
    is_whole = True
    run(f"SAVEPOINT {_SAVEPOINT}")
    try:
        run(sql)
    except session.failures as error:
        if is_of_the_caller(error) or is_interrupt(error) or not in_transaction(session):
            raise
        run(f"ROLLBACK TO {_SAVEPOINT}")
        is_whole = False
    run(f"RELEASE {_SAVEPOINT}")
    return is_whole
