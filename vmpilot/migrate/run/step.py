"""The steps of a run: statements, guards, version and a row in the log, all or nothing for each.

Which steps there are is decided in `planning`; a start-up with nothing to do does not load this.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from functools import partial
from typing import NamedTuple

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
from ..errors import StepError, printable
from ..files.plan import Progress, Report, Step
from ..files.script import Script, checksum, line
from . import adoption, guards
from .adoption import Comparison
from .guards import Integrity
from .ours import own_tables, refuse_changed, refuse_changed_outside
from .planning import Plan, Request, Task, after, end, planned_again, start
from .play import failure, keys_as_asked, play

_REPORT_EVERY = 0.1


def perform(session: Session, request: Request, plan: Plan, report: Report, done: list[Step]) -> Plan:
    """Do the tasks of a plan, and put into `done` each step that is committed; return the last plan.

    What is left is planned again under the lock where others have written, because another process may be
    faster: the last plan has no tasks and says where the database is. Raises MigrationError; the steps in
    `done` stay.
    """
    state = _State(plan)
    with ExitStack() as stack:
        while state.plan.tasks:
            still = f"{session.database} is at {done[-1].after}" if done else "nothing was changed"
            with keys_as_asked(session, state.plan.tasks[0].script), _begun(session, still):
                state, progress = _next(session, request, state, stack, report)
            if progress:
                done.append(progress.step)
                _log(session.database, progress.step)
                report(progress)
    return state.plan


class _Again(Enum):
    """Why a task is begun again: what was true before must be looked at, or another process has done it."""

    UNCERTAIN = 1
    OVERTAKEN = 2


class _State(NamedTuple):
    """Where a run is: what is left of the plan, and what is known of the database.

    `seen` is its data_version when it was last looked at, None if it must be looked at again. `uncertain`
    tells that the next task was undone because what was true before it must be looked at first.
    """

    plan: Plan
    known: Integrity | None = None
    seen: int | None = None
    compare: Comparison = adoption.NONE
    uncertain: bool = False


def _next(
    session: Session, request: Request, state: _State, stack: ExitStack, report: Report
) -> tuple[_State, Progress | None]:
    """Do the next task and commit the open transaction, if it is still to be done; return what is left."""
    asked = state.plan.tasks[0].script
    state = _looked_at(session, request, state, stack)
    if not state.plan.tasks or bool(state.plan.tasks[0].script.keys_on) != bool(asked.keys_on):
        return state._replace(seen=None), None
    outcome = _perform(session, state, report)
    if isinstance(outcome, _Again):
        uncertain = outcome is _Again.UNCERTAIN
        return state._replace(uncertain=uncertain, seen=state.seen if uncertain else None), None
    progress, known = outcome
    return state._replace(plan=after(state.plan), known=known, uncertain=False), progress


def _looked_at(session: Session, request: Request, state: _State, stack: ExitStack) -> _State:
    """Plan again under the lock, and look at what is there, if others have written since the last time."""
    now = data_version(session)
    others_wrote = now is None or now != state.seen
    known = state.known
    if known is None or others_wrote:
        known = guards.at_start(session, known)
    if not others_wrote and not state.uncertain:
        return state._replace(known=known)
    plan = planned_again(request, state.plan, session)
    if not plan.tasks:
        return state._replace(plan=plan)
    tables.create(session)
    stack.close()
    return _State(plan, known, now, adoption.comparison(session, plan.status, stack), state.uncertain)


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


def _perform(session: Session, state: _State, report: Report) -> tuple[Progress, Integrity] | _Again:
    """Do the first task of a plan in the open transaction and commit it.

    Returns the step with its seconds, and what is known now; else nothing is committed: what the step may
    have broken was perhaps so before, or another process recorded the step while its statements ran outside
    a transaction. On any error nothing is committed either.
    """
    plan = state.plan
    task = plan.tasks[0]
    script, total = task.script, len(task.script.starts)
    started = time.monotonic()
    tick = _ticker(task, started, report)
    try:
        with interruptible(session, lambda: tick(0)):
            before = _before(session, state)
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
        if differences := state.compare.differences(session, task):
            told = f"{session.database} is not as this file makes it: {', '.join(differences)}"
            raise failure(
                script, total, told, partial(_fate, session, task), adoption.remedy(plan.status, task.step)
            )
    except StepError as error:
        error.version = task.step.version
        raise
    took = time.monotonic() - started
    _record(session, task, took)
    adoption.ended(session, state.compare, task.step, task.value_after)
    commit(session, f"rolled back, {session.database} is still at {task.step.before}")
    return Progress(task.step._replace(took=took), total, total, took, True), now


def _before(session: Session, state: _State) -> Integrity:
    """Return what is known before the next task: all that it can break, where nobody could tell later."""
    script = state.plan.tasks[0].script
    known = state.known or guards.at_start(session, None)
    return guards.looked_at(session, script, known) if state.uncertain or not script.transactional else known


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
    tables.write(session, start(task))
    commit(session, f"rolled back, {session.database} is still at {task.step.before}")


def _record(session: Session, task: Task, took: float) -> None:
    down = task.down
    tables.move(session, task.value_before, task.value_after)
    tables.write(session, end(task, took), down.text if down else None, checksum(down) if down else None)


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
