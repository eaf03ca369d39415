"""What a run begins with: is there anything to do? A start-up nearly always finds that there is not.

Here is decided what is loaded when: until something is to be done, or is wrong, only what this module needs.
What follows is loaded in `run`: `planning` and `commands`, which load what does steps once there is one.
"""

from __future__ import annotations

from collections.abc import Callable

from ..database.connection import (
    Session,
    data_version,
    hold,
    in_transaction,
    interruptible,
    is_untouched,
    rollback,
    translated,
)
from ..database.opening import SQLITE3, Connect, opened
from ..database.settled import is_settled
from ..errors import AccessError
from ..files.plan import BASE, Report
from ..typed import TYPE_CHECKING, Any
from .request import Current, Request, Result, mend

if TYPE_CHECKING:
    from .planning import Plan


def run(
    request: Request,
    database: Any,
    *,
    timeout: float,
    report: Report,
    prelude: Callable[[str], None] | None = None,
    connect: Connect = SQLITE3,
) -> Result:
    """Take a database to where `request` asks.

    A request that is fulfilled already reads only, opens no migration file and waits for no writer.
    `prelude`, if there is one, is called with the current version before the first step, `connect` is how
    the application opens a path. Raises MigrationError; then the steps before stay, and the one that failed
    left nothing.
    """

    def fulfilled(plan: Plan, session: Session | None = None, seen: int | None = None) -> Result:
        from .commands import fulfil

        return fulfil(
            request,
            plan,
            database,
            timeout=timeout,
            report=report,
            prelude=prelude,
            connect=connect,
            session=session,
            seen=seen,
        )

    try:
        found = opened(database, timeout, connect)
        if not found:
            from .planning import planned_anew

            return fulfilled(planned_anew(request, database))
        with found as session:
            looked = _looked_at(request, session)
            if isinstance(looked, Current):
                return Result(looked.version or BASE, looked, ())
            plan, seen = looked
            if prelude is None and session.writable and is_untouched(session):
                return fulfilled(plan, session, seen)
        # Closed by now: the application's can keep the file to itself, and a backup lets others exchange it.
        return fulfilled(plan)
    except AccessError as error:  # as in `mending`, which would cost also where there is none
        mend(error, request.directory.place)
        raise


def _looked_at(request: Request, session: Session) -> Current | tuple[Plan, int | None]:
    """Return where a database is if it is to stay there, otherwise what `_planned` returns."""
    with interruptible(session):
        return _settled(request, session) or _planned(request, session)


def _planned(request: Request, session: Session) -> tuple[Plan, int | None]:
    """Return the plan, and the number that tells on this connection whether others have written since."""
    with translated(session):
        from .planning import planned_inside

        try:
            if not in_transaction(session):
                hold(session)
            plan = planned_inside(request, session)
            return plan, data_version(session) if session.writable else None
        finally:
            rollback(session)


def _settled(request: Request, session: Session) -> Current | None:
    """Return where a database is that has all these migrations and is to keep them, None for any other."""
    if request.target != "head":
        return None
    history = request.directory.history
    if not is_settled(session, [each.version for each in history], [each.name for each in history]):
        return None
    head = history[-1].version
    return Current(session.database, head, head, at_head=True, pending=0, known=True)
