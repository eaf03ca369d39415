"""One step of a run: statements, guards, version and a row in the log, in the transaction of its `group`.

Which steps there are is decided in `planning`.
"""

import time
from collections.abc import Callable
from enum import Enum
from functools import partial

from ..database import tables
from ..database.connection import (
    Session,
    begin,
    commit,
    interruptible,
    rollback,
    snapshot,
)
from ..errors import StepError
from ..files.plan import Progress, Report
from ..files.script import Script, line
from ..typed import NamedTuple
from . import adoption, guards
from .adoption import Comparison
from .guards import Integrity
from .ours import own_tables, refuse_changed, refuse_changed_outside
from .planning import Plan, Task, after, end, start
from .play import failure, play

_REPORT_EVERY = 0.1


class State(NamedTuple):
    """What a step begins with: what is left of the plan, and what is known of the database.

    `uncertain` tells that it was undone because what was true before it must be looked at first.
    """

    plan: Plan
    known: Integrity | None = None
    compare: Comparison = adoption.NONE
    uncertain: bool = False


class Again(Enum):
    """Why a task is begun again: what was true before must be looked at, or another process has done it."""

    UNCERTAIN = 1
    OVERTAKEN = 2


def take(session: Session, state: State, report: Report) -> tuple[State, Progress] | Again:
    """Do the first task of a plan in the open transaction, which the caller commits.

    Returns what the next step begins with, and the step with its seconds; else what was done is to be undone:
    what the step may have broken was perhaps so before, or another process recorded the step while its
    statements ran outside a transaction. So it is after any error.
    """
    plan = state.plan
    task = plan.tasks[0]
    script, total = task.script, len(task.script.starts)
    started = time.monotonic()
    done, tick = 0, _ticker(task, started, report)
    try:
        with interruptible(session, lambda: tick(done)):
            before = _before(session, state)
            if not _played(session, task, before, tick, report):
                return Again.OVERTAKEN
            done = total
            found, now, certain = guards.findings(session, script, before)
            if len(plan.tasks) == 1:
                found += guards.unparented(now)
            found = guards.refused(script, found)
        if not certain:
            return Again.UNCERTAIN
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
    following = State(after(plan), now, state.compare)
    return following, Progress(task.step._replace(took=took), total, total, took, True)


def _before(session: Session, state: State) -> Integrity:
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
    own = own_tables(session, script, before)
    if not script.transactional:
        _leave_transaction(session, task)
        own = own and tables.content(session)
    else:
        tables.change_nothing(session)
    report(Progress(task.step, 0, total, 0.0, False))
    play(
        session,
        script,
        tick=tick,
        fate=fate,
        go_on=lambda done: not _is_overtaken(session, task, done, own),
    )
    if not script.transactional:
        refuse_changed_outside(session, script, total, own, task.value_before, fate)
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
    fate = partial(_fate, session, task)
    refuse_changed_outside(session, task.script, done, own, task.value_before, fate)
    with snapshot(session, _fate(session, task, done)):
        return tables.current(session) != task.value_before


def _leave_transaction(session: Session, task: Task) -> None:
    """Note in the log that a no-transaction file begins: the only trace if it is cut short."""
    tables.write(session, start(task))
    commit(session, f"rolled back, {session.database} is still at {task.step.before}")


def _record(session: Session, task: Task, took: float) -> None:
    down = task.down
    tables.move(session, task.value_before, task.value_after)
    tables.write(session, end(task, took), down.text if down else None, task.down_checksum)


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
