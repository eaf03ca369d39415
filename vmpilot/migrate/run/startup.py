"""What a run begins with: is there anything to do? A start-up nearly always finds that there is not.

Here is decided what is loaded when: until something is to be done, or is wrong, only what this module needs.
What follows is loaded in `run`: `planning` and `commands`, which load what does steps once there is one.
"""

from __future__ import annotations

from collections.abc import Callable

from ..database.connection import Session, snapshot
from ..database.opening import SQLITE3, Connect, reading
from ..database.settled import is_settled
from ..files.plan import BASE, Report
from ..typed import Any
from .request import Current, Request, Result, mending


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
        with reading(database, timeout, connect) as session, snapshot(session):
            if now := _settled(request, session):
                return Result(now.version or BASE, now, ())
            from .commands import fulfil
            from .planning import planned_inside

            plan = planned_inside(request, session)
        return fulfil(
            request, plan, database, timeout=timeout, report=report, prelude=prelude, connect=connect
        )


def _settled(request: Request, session: Session) -> Current | None:
    """Return where a database is that has all these migrations and is to keep them, None for any other."""
    if request.target != "head":
        return None
    history = request.directory.history
    if not is_settled(session, [each.version for each in history], [each.name for each in history]):
        return None
    head = history[-1].version
    return Current(session.database, head, head, at_head=True, pending=0, known=True)
