"""The steps of a run: statements, guards, version and a row in the log, all or nothing for each.

Which steps there are is decided in `planning`; a start-up with nothing to do does not load this.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from functools import partial

from ..database import tables
from ..database.connection import (
    Session,
    begin,
    commit,
    data_version,
    interruptible,
    rollback,
    snapshot,
    undone,
)
from ..database.tables import Record
from ..errors import StepError, printable
from ..files.plan import Progress, Report, Step
from ..files.script import Script, checksum, line
from . import adoption, guards
from .adoption import Comparison
from .guards import Integrity
from .ours import own_tables, refuse_changed, refuse_changed_outside
from .planning import Plan, Request, Task, after, planned_again
from .play import failure, keys_as_asked, play

_REPORT_EVERY = 0.1


def perform(session: Session, request: Request, plan: Plan, report: Report, done: list[Step]) -> Plan:
    """Do the tasks of a plan, and put into `done` each step that is committed; return the last plan.

    Each task is planned again under its lock, because another process may be faster: the last plan has
    no tasks and says where the database is. Raises MigrationError; the steps in `done` stay.
    """
    known: Integrity | None = None
    seen: int | None = None
    uncertain = False
    with ExitStack() as stack:
        compare = adoption.NONE
        while plan.tasks:
            still = f"{session.database} is at {done[-1].after}" if done else "nothing was changed"
            script = plan.tasks[0].script
            with keys_as_asked(session, script), _begun(session, still):
                now = data_version(session)
                others_wrote = now is None or now != seen
                if known is None or others_wrote:
                    known = guards.at_start(session, known)
                if others_wrote or uncertain:
                    seen = now
                    plan = planned_again(request, plan, session)
                    if not plan.tasks:
                        break
                    tables.create(session)
                    stack.close()
                    compare = adoption.comparison(session, plan.status, stack)
                if bool(plan.tasks[0].script.keys_on) != bool(script.keys_on):
                    seen = None
                    continue
                look = partial(_look, session, plan, known, uncertain)
                outcome = _perform(session, plan, look, compare, report)
            uncertain = outcome is _Again.UNCERTAIN
            if isinstance(outcome, _Again):
                seen = seen if uncertain else None
                continue
            step, known = outcome
            total = len(plan.tasks[0].script.starts)
            plan = after(plan)
            done.append(step)
            _log(session.database, step)
            report(Progress(step, total, total, step.took, True))
    return plan


class _Again(Enum):
    """Why a task is begun again: what was true before must be looked at, or another process has done it."""

    UNCERTAIN = 1
    OVERTAKEN = 2


def _look(session: Session, plan: Plan, known: Integrity, uncertain: bool) -> Integrity:
    """Return what is known before the next task: all that it can break, where nobody could tell later."""
    script = plan.tasks[0].script
    if uncertain or not script.transactional:
        return guards.looked_at(session, script, known)
    return known


@contextmanager
def _begun(session: Session, still: str) -> Iterator[None]:
    """Run what is inside in a transaction that it commits, or that is rolled back."""
    begin(session, still)
    with undone(session, still):
        yield


def _log(database: str, step: Step) -> None:
    """Log a step, if anybody can be listening: nobody has configured a module that is not loaded."""
    if logging := sys.modules.get("logging"):
        logger = logging.getLogger("vmpilot.migrate")
        names = map(printable, (database, step.action, step.version, step.name))
        logger.info("%s: %s %s %s, %.3f s", *names, step.took)


def _perform(
    session: Session, plan: Plan, look: Callable[[], Integrity], compare: Comparison, report: Report
) -> tuple[Step, Integrity] | _Again:
    """Do the first task of a plan in the open transaction and commit it.

    `look` tells what is known before it. Returns the step with its seconds, and what is known now; else
    nothing is committed: what the step may have broken was perhaps so before, or another process recorded the
    step while its statements ran outside a transaction. On any error nothing is committed either.
    """
    task = plan.tasks[0]
    script, total = task.script, len(task.script.starts)
    started = time.monotonic()
    tick = _ticker(task, started, report)
    try:
        with interruptible(session, lambda: tick(0)):
            before = look()
        if not _played(session, task, before, tick, report):
            return _Again.OVERTAKEN
        with interruptible(session, lambda: tick(total)):
            found, now, certain = guards.findings(session, script, before)
            if not plan.tasks[1:]:
                found += guards.unparented(now)
            found = guards.refused(script, found)
        if not certain:
            return _Again.UNCERTAIN
        if found:
            told, advice = "; ".join(finding.words for finding in found), guards.advice(script, found)
            raise failure(script, total, told, partial(_fate, session, task), advice)
        if differences := compare.differences(session, script):
            told = f"{session.database} is not as this file makes it: {', '.join(differences)}"
            raise failure(
                script, total, told, partial(_fate, session, task), adoption.remedy(plan.status, task.step)
            )
    except StepError as error:
        error.version = task.step.version
        raise
    took = time.monotonic() - started
    _record(session, task, took)
    adoption.ended(session, compare, task.step, task.value_after)
    commit(session, f"rolled back, {session.database} is still at {task.step.before}")
    return task.step._replace(took=took), now


def _played(
    session: Session, task: Task, before: Integrity, tick: Callable[[int], None], report: Report
) -> bool:
    """Run the statements of a task, and tell whether it is still this run that does it."""
    script, total = task.script, len(task.script.starts)
    fate = partial(_fate, session, task)
    own = own_tables(session, script, before, fate)
    if not script.transactional:
        _leave_transaction(session, task)
        own = own and tables.content(session)
    report(Progress(task.step, 0, total, 0.0, False))
    play(
        session,
        script,
        tick=tick,
        fate=fate,
        go_on=lambda done: not _is_overtaken(session, task, done, own),
    )
    if not script.transactional:
        refuse_changed_outside(session, script, total, own, fate)
        begin(session, fate(total))
        if tables.current(session) != task.value_before:
            rollback(session)
            return False
    refuse_changed(session, script, own, fate)
    return True


def _ticker(task: Task, started: float, report: Report) -> Callable[[int], None]:
    """Return what reports now and then how far a task is."""
    last = started

    def tick(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _REPORT_EVERY:
            last = now
            report(Progress(task.step, done, len(task.script.starts), now - started, False))

    return tick


def _is_overtaken(session: Session, task: Task, done: int, own: tables.Content | None) -> bool:
    """Tell whether another process has recorded a step whose statements run outside a transaction.

    What comes after the step may have begun, and the file is safe to run again only before that.
    """
    refuse_changed_outside(session, task.script, done, own, partial(_fate, session, task))
    with snapshot(session, _fate(session, task, done)):
        return tables.current(session) != task.value_before


def _leave_transaction(session: Session, task: Task) -> None:
    """Note in the log that a no-transaction file begins: the only trace if it is cut short."""
    step = task.step
    note = Record("start", step.version, step.name, task.value_before, task.value_after)
    tables.write(session, note)
    commit(session, f"rolled back, {session.database} is still at {step.before}")


def _record(session: Session, task: Task, took: float) -> None:
    step, down = task.step, task.down
    tables.move(session, task.value_before, task.value_after)
    up_mark = checksum(task.script) if step.action == "upgrade" else ""
    record = Record(
        step.action, step.version, step.name, task.value_before, task.value_after, up_mark, "", 1000 * took
    )
    tables.write(session, record, down.text if down else None, checksum(down) if down else None)


def _fate(session: Session, task: Task, done: int) -> str:
    """Return how the database is left when a task fails behind so many statements."""
    still, script = f"{session.database} is still at {task.step.before}", task.script
    if script.transactional:
        return f"rolled back, {still}"
    if not done:
        return f"no statement has taken effect, {still}"
    return (
        f"{_effect(script, done)} taken effect already, {still}, and the file will run again from its start"
    )


def _effect(script: Script, done: int) -> str:
    first = line(script, 0)
    if done == 1:
        return f"statement 1 (line {first}) has"
    return f"statements 1 to {done} (lines {first} to {line(script, done - 1)}) have"
