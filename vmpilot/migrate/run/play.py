"""Running the statements of a script one by one: the one way to do so, wherever it is done.

A step plays a script on the database itself; `verify`, `check` and adoption play it on a scratch database,
with the same settings, interrupts and errors. What it means for the database is decided by the caller.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import takewhile

from ..database.connection import (
    Session,
    commit,
    in_transaction,
    interruptible,
    is_untouched,
    refused,
    rollback,
    runner,
    wait,
    words,
)
from ..database.permissions import denial
from ..database.settings import AT_LAST, read_anew, setting, settings_kept
from ..database.tables import note
from ..errors import MigrationError, StepError, is_of_the_caller, not_of_the_caller
from ..files.directory import Migration
from ..files.plan import Step
from ..files.script import Script, line, shortened, statement, statements
from ..tokens import Token, alone, head, mentioned, named, plain

_TICK_EACH = 64  # statements between two looks at the time: no more are run together
_FEW = 32  # statements of a script in which none are run together
_COMMANDS = ("go", "delimiter", "\\")
_TYPOGRAPHIC = set("\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb\u00b4")
_KEPT_FROM_WAL = "cannot change into wal mode from within a transaction"
_DIRECTIVE = 'to run this file outside a transaction, begin it with "-- vmpilot: no-transaction"'


def _silent(done: int) -> None:
    pass


def _untold(done: int) -> str:
    return ""


def _always(done: int) -> bool:
    return True


def play(
    session: Session,
    script: Script,
    *,
    tick: Callable[[int], None] = _silent,
    fate: Callable[[int], str] = _untold,
    go_on: Callable[[int], bool] = _always,
) -> None:
    """Run the statements of a script, in the caller's transaction if it is transactional.

    `tick` is called now and then with the number of statements that are done; what it raises comes out.
    `fate` tells for an error how the database is left when so many are done. A script that is not
    transactional stops where `go_on`, called with the same number, says so. INSERTs of many rows into one
    table are run as few statements where that makes no difference, see `rows`. Raises StepError with the
    line of the statement that fails or ends the transaction, AccessError if a lock is not released in time.
    """
    done, transactional, connection = 0, script.transactional, session.connection
    elsewhere, run = _elsewhere(session), runner(session)

    def ended(index: int) -> None:
        nonlocal done
        done = index

    texts = _texts(session, script, run, ended)
    is_wary = elsewhere or "alter" in script.words
    if not transactional:
        texts = takewhile(lambda _: go_on(done), texts)
        run = _waiting(session, run, lambda: fate(done))
    with (
        interruptible(session, lambda: tick(done)),
        settings_kept(session, script.words),
        _confined(session, script) as denied,
        _located(session, script, lambda: done, fate, denied),
    ):
        # A file can have millions of statements: what only some files need is not asked for each.
        for done, text in texts:
            if is_wary and (reason := _refusal(session, elsewhere, text)):
                raise failure(script, done, reason, fate)
            returned = run(text)
            if connection.in_transaction != transactional:
                _mend_transaction(session, script, done, fate)
            if returned and _is_kept_from_wal(session, script, text):
                raise failure(script, done, _KEPT_FROM_WAL, fate)
            done += 1
            if not done % _TICK_EACH:
                tick(done)
        if done == len(script.starts):  # otherwise the database is in the hands of another run
            _read_anew(session, script, fate)


def _texts(
    session: Session, script: Script, run: Callable[[str], bool], ended: Callable[[int], None]
) -> Iterator[tuple[int, str]]:
    """Return index and text of each statement that is run by itself; see `rows.apart`."""
    if len(script.starts) <= _FEW:
        return enumerate(statements(script))
    from .rows import apart

    return apart(session, script, run, ended, _TICK_EACH)


@contextmanager
def _located(
    session: Session,
    script: Script,
    done: Callable[[], int],
    fate: Callable[[int], str],
    denied: list[str],
) -> Iterator[None]:
    """Say of an error of the database which statement failed; what the caller raised comes out as it is."""
    try:
        yield
    except session.failures as error:
        if isinstance(error, MigrationError) or is_of_the_caller(error):
            raise
        raise _failed(session, script, done(), error, fate, denied) from error


def _elsewhere(session: Session) -> Callable[[str], str] | None:
    """Return what says why a statement would not mean the main database, None if there is no other."""
    if is_untouched(session):  # and a script leaves nothing
        return None
    from .hidden import elsewhere, others

    known = others(session)
    return partial(elsewhere, session, known) if known else None


def _confined(session: Session, script: Script) -> AbstractContextManager[list[str]]:
    """Keep a script that comes from a database to that database; return what is denied to it."""
    if not script.kept:
        return nullcontext([])
    from ..database.confined import confined

    return confined(session)


def _refusal(session: Session, elsewhere: Callable[[str], str] | None, text: str) -> str:
    """Say why a statement must not run, nothing if it may."""
    return (elsewhere(text) if elsewhere else "") or _compiles_too_much(session, text)


def _compiles_too_much(session: Session, text: str) -> str:
    """Say which view or trigger a statement would compile that stands for too much, nothing if none does.

    ALTER TABLE compiles all that there are, to rename in them or to see that a column is not missing there,
    and before SQLite 3.41 no signal is served meanwhile: https://www.sqlite.org/lang_altertable.html
    """
    if text[:1] not in "aA" or not {"rename", "drop"} & mentioned(text):
        return ""
    from ..database.expansion import MOST, overgrown

    sql = "SELECT +type, +name, +sql FROM main.sqlite_master WHERE type IN ('view', 'trigger')"
    found = sorted(name for _, name in overgrown(session.rows(sql)))
    return (
        f"{plain(found[0])} stands for more than {MOST} tokens, which ALTER TABLE would compile"
        if found
        else ""
    )


def follow(session: Session, migration: Migration | Step, script: Script) -> None:
    """Play the up script of a migration on a scratch database with the two tables, and record it there."""
    with transaction(session, script):
        play(session, script)
    note(session, migration.version, migration.name, script.revision or migration.version)


@contextmanager
def transaction(session: Session, script: Script) -> Iterator[None]:
    """Run what is inside in one transaction of a scratch database, unless the script asks for none."""
    if in_transaction(session):  # some modules begin one by themselves
        commit(session, _untold(0))
    with keys_as_asked(session, script):
        if script.transactional:
            session.run("BEGIN")
        try:
            yield
            if in_transaction(session):
                session.run("COMMIT")
        finally:
            rollback(session)


@contextmanager
def keys_as_asked(session: Session, script: Script) -> Iterator[None]:
    """Have foreign keys on inside if a script asks for that; they are off otherwise.

    Outside of a transaction, because inside of one they stay as they are:
    https://www.sqlite.org/pragma.html#pragma_foreign_keys And so may what else a script has changed, which
    is put back here too.
    """
    with settings_kept(session, script.words & AT_LAST):
        if not script.keys_on:
            yield
            return
        wait(session, lambda: session.run("PRAGMA foreign_keys = ON"))
        try:
            yield
        finally:
            wait(session, lambda: session.run("PRAGMA foreign_keys = OFF"))


def stands_alone(script: Script) -> bool:
    """Tell whether a script can share its transaction with no other: it has none, or needs keys to be on."""
    return not script.transactional or bool(script.keys_on)


def failure(
    script: Script, done: int, reason: str, fate: Callable[[int], str] = _untold, advice: str = ""
) -> StepError:
    """Return the error of the statement behind `done` others, or of the whole script behind the last.

    Its line is that of the token which SQLite names, where only one can be meant.
    """
    inside = done < len(script.starts)
    place = _place(statement(script, done), reason) if inside else None
    number = line(script, done, place.start if place else 0) if inside else 0
    where = f"{script.file}:{number}" if inside else script.file
    told = [f"{where}: {reason}", _explained(place), fate(done)]
    if script.transactional and ("within a transaction" in reason or "inside a transaction" in reason):
        told.append(_DIRECTIVE)
    told.append(advice)
    text = shortened(statement(script, done)) if inside else ""
    return StepError("; ".join(filter(None, told)), file=script.file, line=number, statement=text)


def _failed(
    session: Session,
    script: Script,
    done: int,
    error: Exception,
    fate: Callable[[int], str],
    denied: list[str],
) -> MigrationError:
    """Return the error of a statement that failed: of the script, unless the system keeps it from writing."""
    if denied:
        return failure(script, done, denied[0], fate)
    if denial(session.database, error):
        return refused(session.database, error, fate(done))
    return failure(script, done, words(error), fate)


def _waiting(session: Session, run: Callable[[str], bool], fate: Callable[[], str]) -> Callable[[str], bool]:
    """Return what runs a statement outside a transaction, where it needs a lock of its own."""
    return lambda text: wait(session, lambda: run(text), fate=fate())


def _read_anew(session: Session, script: Script, fate: Callable[[int], str]) -> None:
    """Let the guards and the next step see what a script has written into the schema by hand."""
    try:
        if "writable_schema" in script.words:
            read_anew(session)
    except session.failures as error:
        raise failure(script, len(script.starts), str(not_of_the_caller(error)), fate) from error


def _place(text: str, reason: str) -> Token | None:
    """Return the token of a statement that it failed at, None if that is not certain."""
    command = next(alone(text, *_COMMANDS), None) if reason.endswith("syntax error") else None
    return command or named(text, reason)


def _explained(place: Token | None) -> str:
    """Say of a token what one does not see, or what it is to others than SQLite."""
    if place is None:
        return ""
    if place.text.lower() in _COMMANDS:
        return f"{place.text} is a command of a client and no SQL"
    odd = [f"{mark} (U+{ord(mark):04X})" for mark in sorted(_TYPOGRAPHIC & set(place.text))]
    return f"{' and '.join(odd)}: no quotation mark of SQL" if odd else ""


def _mend_transaction(session: Session, script: Script, done: int, fate: Callable[[int], str]) -> None:
    """Commit what a module began on its own; raise StepError if the transaction of the script is gone."""
    if script.transactional:
        raise failure(script, done, "this statement ended the transaction that it ran in", fate)
    commit(session, fate(done))


def kept_from_wal(script: Script) -> StepError | None:
    """Return the error of the statement that asks for a write-ahead log inside of a transaction.

    It is none where the database has such a log already, or lies in memory.
    """
    if script.transactional and "journal_mode" in script.words:
        for done, text in enumerate(statements(script)):
            if _asked_mode(text) == "wal":
                return failure(script, done, _KEPT_FROM_WAL)
    return None


def has_wal_after(script: Script, before: bool) -> bool:
    """Tell whether a database has a write-ahead log behind a script, as far as that asks for it."""
    mode = "" if script.transactional else journal_mode(script)
    return mode == "wal" if mode else before


def lacks_wal(session: Session) -> bool:
    """Tell whether a database has no write-ahead log, but could have one."""
    return session.database != ":memory:" and setting(session, "journal_mode") != "wal"


def journal_mode(script: Script) -> str:
    """Return the journal mode for which a script asks last, nothing if it asks for none."""
    if "journal_mode" not in script.words:
        return ""
    return next(filter(None, map(_asked_mode, reversed(tuple(statements(script))))), "")


def _asked_mode(text: str) -> str:
    asked = head(text)
    is_mode = asked.verb == "pragma" and asked.name.lower() == "journal_mode"
    return asked.value.lower() if is_mode else ""


def _is_kept_from_wal(session: Session, script: Script, text: str) -> bool:
    """Tell whether the transaction kept a PRAGMA from beginning a write-ahead log.

    In a transaction that has written already, SQLite says nothing of it.
    """
    asks = script.transactional and "journal_mode" in script.words and _asked_mode(text) == "wal"
    return asks and lacks_wal(session)
