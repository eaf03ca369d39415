"""What a run begins with: is there anything to do? A start-up nearly always finds that there is not.

Here is decided what is loaded when: until something is to be done, or is wrong, only what this module needs.
What follows is loaded in `run`: `planning` and `commands`, which load what does steps once there is one.
"""

from __future__ import annotations

from collections.abc import Callable

from ..database.connection import Session, hold, in_transaction
from ..database.opening import SQLITE3, Connect, looking, opened
from ..database.settled import is_settled
from ..files.plan import BASE, Report
from ..typed import TYPE_CHECKING, Any
from .request import Current, Request, Result, mending

if TYPE_CHECKING:
    from .planning import Plan


def run(
    request: Request,
    database: Any,
    *,
    timeout: float,
    report: Report,
    prelude: Callable[[str], None],
    connect: Connect = SQLITE3,
) -> Result:
    """Take a database to where `request` asks.

    A request that is fulfilled already reads only, opens no migration file and waits for no writer.
    `prelude` is called with the current version before the first step, `connect` is how the application
    opens a path. Raises MigrationError; then the steps before stay, and the one that failed left nothing.
    """
    with mending(request.directory.place):
        found = _looked_at(request, database, timeout, connect)
        if isinstance(found, Current):
            return Result(found.version or BASE, found, ())
        from .commands import fulfil

        return fulfil(
            request, found, database, timeout=timeout, report=report, prelude=prelude, connect=connect
        )


def _looked_at(request: Request, database: Any, timeout: float, connect: Connect) -> Current | Plan:
    """Return where a database is if it is to stay there, otherwise the plan."""
    found = opened(database, timeout, connect)
    if not found:
        from .planning import planned_anew

        return planned_anew(request, database)
    with found as session:
        if now := _settled(request, session):
            return now
        with looking(session):
            from .planning import planned_inside

            if not in_transaction(session):
                hold(session)
            return planned_inside(request, session)


def _settled(request: Request, session: Session) -> Current | None:
    """Return where a database is that has all these migrations and is to keep them, None for any other."""
    if request.target != "head":
        return None
    history = request.directory.history
    if not is_settled(session, [each.version for each in history], [each.name for each in history]):
        return None
    head = history[-1].version
    return Current(session.database, head, head, at_head=True, pending=0, known=True)
