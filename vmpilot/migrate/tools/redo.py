"""The newest applied migration undone and applied again, with today's files: for one that is being written.

These are two runs, a downgrade and an upgrade; what would keep the second one from beginning is found before
the first one does.
"""

from collections.abc import Callable
from os import PathLike
from typing import Any

from ..database import tables
from ..database.connection import UNCHANGED, Session, snapshot
from ..database.names import located
from ..database.opening import SQLITE3, Connect, reading
from ..errors import MigrationError, VersionError
from ..files import directory as directories
from ..files.directory import Directory, Migration, shown
from ..files.plan import BASE, Progress, Report, Step, version
from ..run import startup, status
from ..run.planning import check_again
from ..run.request import Request, Result, mending
from ..run.status import Status


def redo(
    database: Any = None,
    migrations: "str | PathLike[str] | directories.Entry | None" = None,
    *,
    backup: bool = True,
    timeout: float = 30.0,
    create: bool = True,
    connect: Connect = SQLITE3,
    progress: Report | None = None,
) -> tuple[Step, ...]:
    """Undo the newest applied migration and apply it again; return both steps.

    What is undone is what was applied: where its up file was edited since, by the down script that the
    database kept. What is applied is today's file. `backup` copies the database first. Raises VersionError
    if nothing is applied, or if what was done last was to undo the migration above: that one is meant then,
    and wants an upgrade only. Raises what `downgrade` and `migrate` raise, too; where the second step fails,
    the first one stays, and the error's `steps` hold it.

    >>> _ = migrate("app.db", target="0002")
    >>> [(step.action, step.version) for step in redo("app.db")]
    [('downgrade', '0002'), ('upgrade', '0002')]
    """
    directory, where = directories.listed(directories.located(migrations)), located(database, create=create)

    def back_up(version: str) -> None:
        from .backup import take

        take(where, version, timeout=timeout, connect=connect)

    how: dict[str, Any] = {"timeout": timeout, "connect": connect, "prelude": back_up if backup else None}
    return run_again(directory, where, report=progress or _silent, **how).steps


def run_again(
    directory: Directory,
    database: Any,
    *,
    timeout: float,
    report: Report,
    prelude: Callable[[str], None] | None = None,
    connect: Connect = SQLITE3,
    say: Callable[[str], None] = lambda text: None,
) -> Result:
    """Do the same; `prelude`, if there is one, is called before anything is done.

    And `say` with what is good to know.
    """
    with mending(directory.place), reading(database, timeout, connect) as session, snapshot(session):
        at = status.read(session, directory)
        newest = _newest(at)
        below = version(at.timeline, at.position - 1)
        edited = _edited(at, newest, session)
    if edited:
        say(edited)
    how: dict[str, Any] = {"timeout": timeout, "report": report, "connect": connect}
    undone = startup.run(Request("downgrade", directory, below), database, prelude=prelude, **how)
    try:
        done = startup.run(Request("upgrade", directory, newest.version), database, **how)
    except MigrationError as error:
        error.steps = (*undone.steps, *error.steps)
        raise
    return Result(undone.before, done.now, (*undone.steps, *done.steps))


def _newest(at: Status) -> Migration:
    """Return the migration that was applied last; raise what would keep it from being applied again."""
    if at.known and not at.position:
        raise VersionError(
            f"{at.database} is at {BASE}: nothing to do again; {UNCHANGED}{_apply_next(at)}", version=BASE
        )
    status.refuse_upgrade(at)
    status.refuse_unfinished(at)
    newest = at.timeline[at.position - 1]
    _refuse_undone(at, newest)
    check_again(at)
    return newest


def _refuse_undone(at: Status, newest: Migration) -> None:
    """Raise VersionError where the migration that is being written was undone last, and not applied again.

    So it is where the second half of this command failed, or who writes it has undone it: the one below it
    may be an old one, with rows that nobody has asked to lose.
    """
    last = at.recorded.log[-1] if at.recorded.log else None
    pending = status.pending(at)
    if not last or last.action != "downgrade" or last.to_version != at.recorded.value or not pending:
        return
    if pending[0].number == int(last.version):
        undone, below = status.full_name(pending[0]), status.full_name(newest)
        told = f"{at.database}: {undone} was undone last, so {below} is not the one to do again"
        raise VersionError(f"{told}; {UNCHANGED}{_apply_next(at)}", version=newest.version)


def _apply_next(at: Status) -> str:
    pending = status.pending(at)
    if not pending:
        return ""
    command = status.command(at.database, at.directory, f"upgrade {pending[0].version}")
    return f"; to apply {status.full_name(pending[0])}, run: {command}"


def _edited(at: Status, migration: Migration, session: Session) -> str:
    """Say of a file that was edited what is undone."""
    if not status.is_edited(at, migration) or not tables.kept_down(session, migration.version):
        return ""
    file = shown(at.directory.place, migration.up)
    return f"{file}: edited after it was applied; what was applied is undone, by the down script kept then"


def _silent(progress: Progress) -> None:
    pass
