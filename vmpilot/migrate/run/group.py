"""The steps of a run in groups: one transaction for many small ones, each undone alone where it fails.

A COMMIT waits for the disk, and costs more than most steps. What a user sees is the same as with a
transaction for each step: where one fails those before it stay, and a step is told of when it is committed.
How a single step is done stands in `step`; a start-up with nothing to do does not load this.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import reduce

from ..database import tables
from ..database.connection import (
    Session,
    begin,
    comes_from_outside,
    commit,
    data_version,
    in_transaction,
    is_full,
    is_input_output,
    is_sqlite3,
    size_of,
    translated,
    undone,
)
from ..errors import AccessError, MigrationError, is_of_the_caller, printable
from ..files.plan import Progress, Report, Step
from ..files.script import Script
from ..typed import NamedTuple
from . import adoption, guards
from .planning import Plan, after, planned_again
from .play import keys_as_asked, stands_alone
from .request import Request
from .step import Again, State, take

_LASTING = 0.2  # seconds
_SAVEPOINT = "vmpilot_step"
# A savepoint keeps a copy of each page that is changed behind it, and nobody knows how many these will be.
_LARGEST = 1 << 26
# What a connection or a module holds beside the database, and may not take back to a savepoint.
_BESIDE = frozenset(("pragma", "temp", "temporary", "virtual"))


def perform(
    session: Session,
    request: Request,
    plan: Plan,
    report: Report,
    done: list[Step],
    *,
    lasting: float = _LASTING,
    seen: int | None = None,
) -> Plan:
    """Do the tasks of a plan, and put into `done` each step that is committed; return the last plan.

    A group is committed as soon as it has lasted so many seconds; with 0 each step is one of its own. What is
    left is planned again under the lock where others have written, because another process may be faster: the
    last plan has no tasks and says where the database is. `seen` is the data_version of this connection when
    the plan was made, None if it was made on another. Raises MigrationError; the steps in `done` stay.
    """
    run = _Run(State(plan), planned=seen)
    with ExitStack() as stack:
        while len(run.state.plan.tasks) > run.rest:
            still = f"{session.database} is at {done[-1].after}" if done else "nothing was changed"
            run, told = _transaction(session, request, run, stack, report, lasting, still)
            _tell(session.database, told, done, report)
    if run.stopped:
        try:
            raise run.stopped
        finally:
            del run  # of which the error would hold this frame, and the frame the error
    return run.state.plan


class _Run(NamedTuple):
    """Where a run is.

    `seen` is the database's data_version when it was last looked at, None if it must be looked at again, and
    `planned` what it was on this connection when the plan was made, None if that is not known. So
    many of the next steps are done `apart`, each in a transaction of its own. When only `rest` tasks are left
    the run ends, and raises what has `stopped` it: the steps before that may have to be done again first.
    """

    state: State
    seen: int | None = None
    planned: int | None = None
    apart: int = 0
    rest: int = 0
    stopped: BaseException | None = None


@contextmanager
def _begun(session: Session, still: str) -> Iterator[None]:
    """Run what is inside in a transaction that it commits, or that is rolled back."""
    begin(session, still)
    with undone(session, still):
        yield


def _transaction(
    session: Session,
    request: Request,
    begun: _Run,
    stack: ExitStack,
    report: Report,
    lasting: float,
    still: str,
) -> tuple[_Run, Sequence[Progress]]:
    """Do the next tasks in a transaction that is committed or rolled back; return what `_group` returns."""
    asked = begun.state.plan.tasks[0].script
    try:
        with keys_as_asked(session, asked), _begun(_hurried(session, begun.stopped), still):
            return _group(session, request, begun, stack, report, lasting)
    except AccessError as error:
        raise _first(begun.stopped, error)  # noqa: B904 - which it is in the context of


def _group(
    session: Session, request: Request, begun: _Run, stack: ExitStack, report: Report, lasting: float
) -> tuple[_Run, Sequence[Progress]]:
    """Do the next tasks in the open transaction and commit it; return where the run is, and what to tell.

    Where a step fails those before it are committed, or done once more if SQLite has ended their transaction:
    https://www.sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction
    """
    asked = begun.state.plan.tasks[0].script
    begun = _looked_at(session, request, begun, stack)
    tasks = begun.state.plan.tasks
    if len(tasks) <= begun.rest or bool(tasks[0].script.keys_on) != bool(asked.keys_on):
        return begun._replace(seen=None), ()
    end = time.monotonic() + lasting if _has_company(session, begun) else 0.0
    told = list[Progress]()
    again = begun._replace(seen=None)
    try:
        run = _steps(session, begun, told, end, report)
        has_company = len(told) > 1
    except BaseException as error:
        if not told:
            raise
        has_company = True
        if _wants_room(error):  # in the next transaction it comes first, and has all that there is
            again = again._replace(apart=len(told))
        else:
            again = again._replace(rest=len(tasks) - len(told), stopped=error)
        if not _is_taken_back(session):
            return again, ()
        left = reduce(lambda plan, _: after(plan), told, begun.state.plan)
        run = again._replace(state=begun.state._replace(plan=left), apart=0)
    try:
        return (_committed(session, run, told) if told else run), told
    except AccessError as error:
        if has_company and not in_transaction(session) and not is_of_the_caller(error):
            return again._replace(apart=len(told)), ()
        raise _first(run.stopped, error)  # noqa: B904 - which it is in the context of


def _looked_at(session: Session, request: Request, run: _Run, stack: ExitStack) -> _Run:
    """Plan again under the lock, and look at what is there, if others have written since the last time."""
    now = data_version(session)
    others_wrote = now is None or now != run.seen
    state = run.state
    if state.known is None or others_wrote:
        state = state._replace(known=guards.at_start(session, state.known))
    if not others_wrote and not state.uncertain:
        return run._replace(state=state)
    is_as_planned = now is not None and now == run.planned
    plan = state.plan if is_as_planned else planned_again(request, state.plan, session)
    is_elsewhere = plan.status.position != state.plan.status.position
    rest = len(plan.tasks) if run.stopped and is_elsewhere else run.rest
    state = state._replace(plan=plan)
    if len(plan.tasks) <= rest:
        return run._replace(state=state, rest=rest)
    tables.create(session)
    stack.close()
    compare = adoption.comparison(session, plan.status, stack)
    return run._replace(state=state._replace(compare=compare), seen=now, rest=rest)


def _has_company(session: Session, run: _Run) -> bool:
    """Tell whether the next step may share its transaction with those behind it.

    Not in a module other than sqlite3, of whose savepoints nothing is known; and not while steps are compared
    with what they make elsewhere, where nothing is undone alone.
    """
    state = run.state
    if run.apart or state.compare is not adoption.NONE or not is_sqlite3(session.connection):
        return False
    first, *others = state.plan.tasks
    return bool(others) and _shares(first.script) and size_of(session) <= _LARGEST


def _shares(script: Script) -> bool:
    """Tell whether a script can share its transaction with others."""
    return not stands_alone(script) and script.words.isdisjoint(_BESIDE)


def _steps(session: Session, run: _Run, told: list[Progress], end: float, report: Report) -> _Run:
    """Do tasks until it is time to end, and put into `told` what was done; return where the run is then."""
    state = run.state
    while not told or (
        len(state.plan.tasks) > run.rest and time.monotonic() < end and _shares(state.plan.tasks[0].script)
    ):
        with _nested(session, told):
            outcome = take(session, state, report if not run.stopped else _untold)
            if isinstance(outcome, Again) and told:
                session.run(f"ROLLBACK TO {_SAVEPOINT}")
        if isinstance(outcome, Again):
            uncertain = outcome is Again.UNCERTAIN
            seen = run.seen if uncertain else None
            return run._replace(state=state._replace(uncertain=uncertain), seen=seen)
        state, progress = outcome
        told.append(progress)
    return run._replace(state=state, apart=max(0, run.apart - 1))


@contextmanager
def _nested(session: Session, told: Sequence[Progress]) -> Iterator[None]:
    """Run what is inside in a savepoint, unless the transaction is its own: https://www.sqlite.org/lang_savepoint.html"""
    if not told:
        yield
        return
    session.run(f"SAVEPOINT {_SAVEPOINT}")
    with translated(session, f"rolled back, {session.database} is at {told[-1].step.after}"):
        yield
    session.run(f"RELEASE {_SAVEPOINT}")


def _untold(progress: Progress) -> None:
    """Say nothing of a step that is done once more: it was told that it begins."""


def _is_taken_back(session: Session) -> bool:
    """Undo what is behind the steps that are done, and tell whether these are still there.

    Where there is no savepoint, SQLite has ended the transaction, or what failed came between two steps.
    """
    try:
        session.run(f"ROLLBACK TO {_SAVEPOINT}")
    except session.failures as error:
        if is_of_the_caller(error):
            raise
        return False
    return True


def _committed(session: Session, run: _Run, told: Sequence[Progress]) -> _Run:
    """Commit a group, and return where the run is then: at its end, if a signal came when that was done."""
    try:
        still = f"rolled back, {session.database} is still at {told[0].step.before}"
        commit(_hurried(session, run.stopped), still)
    except BaseException as stop:
        is_refused = isinstance(stop, AccessError) and not is_of_the_caller(stop)
        if is_refused or in_transaction(session):
            raise
        return run._replace(stopped=run.stopped or stop, rest=len(run.state.plan.tasks))
    return run


def _hurried(session: Session, stopped: BaseException | None) -> Session:
    """Return a session that waits for no lock where a signal, or the caller, wants a run to end."""
    return session._replace(timeout=0.0) if stopped and comes_from_outside(stopped) else session


def _first(stopped: BaseException | None, error: AccessError) -> BaseException:
    """Return what comes out where steps before what has stopped a run cannot be committed."""
    return stopped if stopped and comes_from_outside(stopped) else error


def _wants_room(error: BaseException) -> bool:
    """Tell whether a step failed for want of room, which those before it in its transaction can have taken.

    What they have changed is kept twice until that ends: https://www.sqlite.org/tempfiles.html
    """
    cause = error.__cause__
    if not isinstance(error, MigrationError) or not isinstance(cause, Exception):
        return False
    return is_full(cause) or is_input_output(cause) or isinstance(cause, MemoryError)


def _tell(database: str, told: Sequence[Progress], done: list[Step], report: Report) -> None:
    """Tell of steps that are committed: all are, before the first is told of."""
    for progress in told:
        done.append(progress.step)
        _log(database, progress.step)
    for progress in told:
        report(progress)


def _log(database: str, step: Step) -> None:
    """Log a step, if anybody can be listening: nobody has configured a module that is not loaded."""
    if logging := sys.modules.get("logging"):
        logger = logging.getLogger("vmpilot.migrate")
        names = map(printable, (database, step.action, step.version, step.name))
        logger.info("%s: %s %s %s, %.3f s", *names, step.took)
