"""The steps of a run: statements, guards, version and a row in the log, all or nothing for each.

Which steps there are is decided elsewhere; a start-up with nothing to do does not load this.
"""

import re
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import NamedTuple

from ..database import connection as sessions
from ..database import tables as ledger
from ..database.connection import Session
from ..database.tables import Record, State
from ..errors import MigrationError, StepError
from ..files.plan import Progress, Report, Step
from ..files.script import Script, checksum, line, shortened, statement, statements
from . import adoption, guards
from .guards import Survey
from .planning import Prepared, Wish, checked, prepare

_REPORT_EVERY = 0.1
_LOOK_EACH = 64
_TO_WAL = re.compile(r"pragma\s+(?:\w+\s*\.\s*)?journal_mode\s*[=(]\s*['\"]?wal\b", re.IGNORECASE)
_DIRECTIVE = 'to run this file outside a transaction, begin it with "-- vmpilot: no-transaction"'


class _Work(NamedTuple):
    """A step with all that doing it needs.

    `down` is the script to keep in the log; `value_before` and `value_after` are what
    alembic_version holds; `known` is what was true after the step before, and `twin` the empty
    database of an adoption.
    """

    step: Step
    script: Script
    down: Script | None
    value_before: str
    value_after: str
    known: Survey | None
    twin: Session | None
    report: Report


def run_on(session: Session, wish: Wish, prepared: Prepared, number: int, report: Report) -> tuple[Step, ...]:
    """Do the steps one by one, each planned again under its lock: another process may be faster."""
    done: list[Step] = []
    known: Survey | None = None
    writes: int | None = None
    twin: Session | None = None
    with ExitStack() as stack:
        while prepared.at < len(prepared.steps):
            still = f"{session.database} is at {done[-1].after}" if done else "nothing was changed"
            sessions.begin(session, still)
            with sessions.undone(session, still):
                seen = sessions.writes(session)
                if seen is None or seen != writes:  # others have written since the step before
                    known, writes = None, seen
                    prepared = _planned_again(session, wish, prepared, number)
                if prepared.at == len(prepared.steps):
                    break
                if known is None:
                    ledger.create(session.cursor)
                    stack.close()
                    twin = _twin(session, prepared, stack)
                outcome = _perform(session, _work(prepared, known, twin, report))
            if outcome is None:
                writes = None
                continue
            step, known = outcome
            done.append(step)
            prepared = prepared._replace(at=prepared.at + 1, value=prepared.values[step.after])
            _log(session.database, step)
            report(Progress(step, 0, 0, step.took, True))
    return tuple(done)


def _twin(session: Session, prepared: Prepared, stack: ExitStack) -> Session | None:
    """Return the twin of a database that is adopted, and note in the log that it is; None for any other.

    The note makes a later run compare too: what was refused once must not pass the second time.
    """
    if prepared.state == State("", ()) and adoption.has_tables(session.cursor):
        ledger.write(session.cursor, Record("adopt", "", "", "", ""))
    elif not any(record.action == "adopt" for record in prepared.state.log):
        return None
    twin = adoption.begin(prepared.applied)
    stack.enter_context(closing(twin.connection))
    return twin


def _log(database: str, step: Step) -> None:
    """Log a step, if anybody can be listening: nobody has configured a module that is not loaded."""
    if logging := sys.modules.get("logging"):
        logger = logging.getLogger("vmpilot.migrate")
        logger.info("%s: %s %s %s, %.3f s", database, step.action, step.version, step.name, step.took)


def _planned_again(session: Session, wish: Wish, prepared: Prepared, number: int) -> Prepared:
    """Return `prepared` if the database is as it was then; otherwise what is left to do now."""
    state = ledger.read(session.cursor, session.database)
    if state == prepared.state:
        return prepared
    return prepare(wish, checked(wish, state, session.database), number, session)


def _work(prepared: Prepared, known: Survey | None, twin: Session | None, report: Report) -> _Work:
    step = prepared.steps[prepared.at]
    return _Work(
        step,
        prepared.scripts[step.version],
        prepared.downs.get(step.version),
        prepared.value,
        prepared.values[step.after],
        known,
        twin,
        report,
    )


def _perform(session: Session, work: _Work) -> tuple[Step, Survey] | None:
    """Do one step in the open transaction and commit it.

    Returns the step with its seconds, and what is true now; None if another process recorded the
    step while its statements ran outside a transaction. On any error nothing is committed.
    """
    started = time.monotonic()
    done, tick = _pulse(work, started)
    with sessions.interruptible(session, tick):
        before = guards.survey(session.cursor, work.script, work.known)
        if not work.script.transactional:
            _leave_transaction(session, work)
        work.report(Progress(work.step, 0, len(work.script.starts), 0.0, False))
        with sessions.settings_kept(session, work.script.words):
            _execute(session, work, done, tick)
        if not work.script.transactional:
            sessions.begin(session, _fate(session, work, len(work.script.starts)))
            if _is_overtaken(session, work):
                sessions.rollback(session)
                return None
        found, now = guards.findings(session.cursor, work.script, before)
        if work.twin is not None:
            found += adoption.differences(session.cursor, work.script, work.twin)
    if found:
        raise _error(session, work, len(work.script.starts), "; ".join(found))
    took = time.monotonic() - started
    _record(session, work, took)
    sessions.commit(session, f"rolled back, {session.database} is still at {work.step.before}")
    return work.step._replace(took=took), now


def _pulse(work: _Work, started: float) -> tuple[list[int], Callable[[], None]]:
    """Return where to keep the number of statements done, and what to call now and then to report it."""
    done, total, last = [0], len(work.script.starts), started

    def tick() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _REPORT_EVERY:
            last = now
            work.report(Progress(work.step, done[0], total, now - started, False))

    return done, tick


def _execute(session: Session, work: _Work, done: list[int], tick: Callable[[], None]) -> None:
    """Run the statements one by one; raise StepError at the first that fails or ends the transaction."""
    cursor, connection, script = session.cursor, session.connection, work.script
    for index, text in enumerate(statements(script)):
        try:
            if script.transactional:
                cursor.execute(text)
            elif not _execute_alone(session, work, index, text):
                return
            if cursor.description is not None:
                sessions.read_to_the_end(session)
                _check_journal(session, script, text)
        except MigrationError:
            raise
        except Exception as error:
            raise _error(session, work, index, str(error)) from error
        if connection.in_transaction != script.transactional:
            _mend_transaction(session, work, index)
        done[0] = index + 1
        if not index % _LOOK_EACH:
            tick()


def _check_journal(session: Session, script: Script, text: str) -> None:
    """Raise if the transaction kept a PRAGMA from beginning a write-ahead log.

    In a transaction that has written already, SQLite says nothing of it.
    """
    asked = script.transactional and "journal_mode" in script.words and _TO_WAL.match(text)
    if asked and sessions.setting(session, "journal_mode") not in ("wal", "memory"):
        raise ValueError("cannot change into wal mode from within a transaction")


def _execute_alone(session: Session, work: _Work, index: int, text: str) -> bool:
    """Execute a statement outside a transaction, where it needs a lock of its own.

    Returns False instead if another process has recorded the step: what comes after the step may
    have begun, and the file is safe to run again only before that.
    """
    fate = _fate(session, work, index)
    with sessions.snapshot(session, fate):
        if _is_overtaken(session, work):
            return False
    sessions.wait(session, text, fate=fate)
    return True


def _is_overtaken(session: Session, work: _Work) -> bool:
    return ledger.current(session.cursor, session.database) != work.value_before


def _mend_transaction(session: Session, work: _Work, index: int) -> None:
    """Commit what a module began on its own; raise StepError if the runner's transaction is gone."""
    if work.script.transactional:
        raise _error(session, work, index, "this statement ended the transaction that it ran in")
    sessions.commit(session, _fate(session, work, index))


def _leave_transaction(session: Session, work: _Work) -> None:
    """Note in the log that a no-transaction file begins: the only trace if it is cut short."""
    step = work.step
    note = Record("start", step.version, step.name, work.value_before, work.value_after)
    ledger.write(session.cursor, note)
    sessions.commit(session, f"rolled back, {session.database} is still at {step.before}")


def _record(session: Session, work: _Work, took: float) -> None:
    step, down = work.step, work.down
    ledger.move(session.cursor, work.value_before, work.value_after, session.database)
    up_mark = checksum(work.script) if step.action == "upgrade" else ""
    record = Record(
        step.action, step.version, step.name, work.value_before, work.value_after, up_mark, "", 1000 * took
    )
    ledger.write(session.cursor, record, down.text if down else None, checksum(down) if down else None)


def _error(session: Session, work: _Work, index: int, reason: str) -> StepError:
    """Return the error of the statement at `index`, or of the whole step if that is behind the last."""
    script = work.script
    inside = index < len(script.starts)
    number = line(script, index) if inside else 0
    where = f"{script.file}:{number}" if inside else script.file
    hint = ""
    if script.transactional and ("within a transaction" in reason or "inside a transaction" in reason):
        hint = f"; {_DIRECTIVE}"
    return StepError(
        f"{where}: {reason}; {_fate(session, work, index)}{hint}",
        file=script.file,
        line=number,
        version=work.step.version,
        statement=shortened(statement(script, index)) if inside else "",
    )


def _fate(session: Session, work: _Work, index: int) -> str:
    """Return how the database is left when the statement at `index` fails."""
    still = f"{session.database} is still at {work.step.before}"
    if work.script.transactional:
        return f"rolled back, {still}"
    if not index:
        return f"no statement has taken effect, {still}"
    script = work.script
    lines = (
        f"line {line(script, 0)}" if index == 1 else f"lines {line(script, 0)} to {line(script, index - 1)}"
    )
    which = f"statement 1 ({lines}) has" if index == 1 else f"statements 1 to {index} ({lines}) have"
    return f"{which} taken effect already, {still}, and the file will run again from its start"
