"""Running the statements of a script one by one: the one way to do so, wherever it is done.

A step plays a script on the database itself; `verify`, `check` and adoption play it on a scratch database,
with the same settings, interrupts and errors. What it means for the database is decided by the caller.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..database.connection import (
    Session,
    commit,
    in_transaction,
    interruptible,
    rollback,
    wait,
    words,
)
from ..database.settings import setting, settings_kept
from ..errors import StepError
from ..files.script import Script, line, shortened, statement, statements
from ..tokens import head

_TICK_EACH = 64
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
    transactional stops where `go_on`, called with the same number, says so. Raises StepError with the
    line of the statement that fails or ends the transaction, AccessError if a lock is not released in time.
    """
    done = 0
    failures = session.failures
    with interruptible(session, lambda: tick(done)), settings_kept(session, script.words):
        for text in statements(script):
            try:
                if script.transactional:
                    returned = session.run(text)
                elif not go_on(done):
                    return
                else:
                    returned = _run_alone(session, text, fate(done))
            except failures as error:
                raise failure(script, done, words(error), fate) from error
            if in_transaction(session) != script.transactional:
                _mend_transaction(session, script, done, fate)
            if returned and _kept_from_wal(session, script, text):
                raise failure(script, done, "cannot change into wal mode from within a transaction", fate)
            done += 1
            if not done % _TICK_EACH:
                tick(done)


@contextmanager
def transaction(session: Session, script: Script) -> Iterator[None]:
    """Run what is inside in one transaction of a scratch database, unless the script asks for none."""
    if script.transactional:
        session.run("BEGIN")
    try:
        yield
        if in_transaction(session):
            session.run("COMMIT")
    finally:
        rollback(session)


def failure(script: Script, done: int, reason: str, fate: Callable[[int], str] = _untold) -> StepError:
    """Return the error of the statement behind `done` others, or of the whole script behind the last."""
    inside = done < len(script.starts)
    number = line(script, done) if inside else 0
    where = f"{script.file}:{number}" if inside else script.file
    told = [f"{where}: {reason}", fate(done)]
    if script.transactional and ("within a transaction" in reason or "inside a transaction" in reason):
        told.append(_DIRECTIVE)
    text = shortened(statement(script, done)) if inside else ""
    return StepError("; ".join(filter(None, told)), file=script.file, line=number, statement=text)


def _run_alone(session: Session, text: str, fate: str) -> bool:
    """Run a statement outside a transaction, where it needs a lock of its own."""
    return wait(session, lambda: session.run(text), fate=fate)


def _mend_transaction(session: Session, script: Script, done: int, fate: Callable[[int], str]) -> None:
    """Commit what a module began on its own; raise StepError if the transaction of the script is gone."""
    if script.transactional:
        raise failure(script, done, "this statement ended the transaction that it ran in", fate)
    commit(session, fate(done))


def _kept_from_wal(session: Session, script: Script, text: str) -> bool:
    """Tell whether the transaction kept a PRAGMA from beginning a write-ahead log.

    In a transaction that has written already, SQLite says nothing of it.
    """
    if not script.transactional or "journal_mode" not in script.words:
        return False
    asked = head(text)
    if asked.verb != "pragma" or asked.name.lower() != "journal_mode" or asked.value.lower() != "wal":
        return False
    return setting(session, "journal_mode") not in ("wal", "memory")
