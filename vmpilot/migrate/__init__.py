"""Bring a SQLite database to the schema that the running code needs.

At start-up, one line does it::

    from vmpilot.migrate import migrate

    migrate("vmpilot.db")

Every function takes `database`: a path, a `sqlite:///` URL, None (the default path) or an open
connection of `sqlite3`, of a module with its interface or of `apsw`, which comes back open with its settings
unchanged; `migrations`: a directory, an `importlib.resources` Traversable or None (those that ship with
the package); `timeout`: how many seconds to wait for a lock; and `create`: False refuses a database that is
not there, where it would be made or read as an empty one. All errors are MigrationErrors.
"""

from os import PathLike

from .database.names import located
from .errors import AccessError, HistoryError, MigrationError, StepError, VersionError
from .files import directory as directories
from .files.plan import BASE, Progress, Report, Step
from .run import startup
from .run.request import Current, Request
from .typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .run.commands import Entry
    from .tools.check import Health, Problem, check
    from .tools.create import create
    from .tools.restore import Restored, Saved, backups, restore
    from .tools.schema import Schema, schema
    from .tools.verify import verify

__all__ = [
    "AccessError",
    "Current",
    "Entry",
    "Health",
    "HistoryError",
    "MigrationError",
    "Problem",
    "Progress",
    "Restored",
    "Saved",
    "Schema",
    "Step",
    "StepError",
    "VersionError",
    "backups",
    "check",
    "create",
    "current",
    "downgrade",
    "history",
    "migrate",
    "restore",
    "schema",
    "stamp",
    "verify",
]

Database = Any
Migrations = str | PathLike[str] | directories.Entry | None

# What lies beyond the core is imported when it is asked for: a start-up does not pay for it.
_BEYOND = {
    "Entry": "run.commands",
    "backups": "tools.restore",
    "restore": "tools.restore",
    "Restored": "tools.restore",
    "Saved": "tools.restore",
    "check": "tools.check",
    "Health": "tools.check",
    "Problem": "tools.check",
    "verify": "tools.verify",
    "create": "tools.create",
    "schema": "tools.schema",
    "Schema": "tools.schema",
}


def migrate(
    database: Database = None,
    migrations: Migrations = None,
    *,
    target: str = "head",
    backup: bool = False,
    timeout: float = 30.0,
    create: bool = True,
    progress: Report | None = None,
) -> tuple[Step, ...]:
    """Upgrade a database to `target`; return the steps that were done, () if there was nothing to do.

    With nothing to do, nothing is written, no migration file is opened and no lock is waited for.
    `backup` copies the database first, if there is something to do. `progress` is called with a
    Progress while a step runs and when it is committed. Each step is one transaction: after an error
    the earlier steps stay and the failed one left nothing.
    """
    return _run("upgrade", database, migrations, target, backup, timeout, create, progress)


def downgrade(
    database: Database = None,
    migrations: Migrations = None,
    *,
    target: str = "-1",
    backup: bool = True,
    timeout: float = 30.0,
    create: bool = True,
    progress: Report | None = None,
) -> tuple[Step, ...]:
    """Undo migrations down to `target`; return the steps that were done.

    Where a newer release left migrations that have no files here, the down scripts that it kept in
    the database are run. The other arguments are those of `migrate`.
    """
    return _run("downgrade", database, migrations, target, backup, timeout, create, progress)


def stamp(
    target: str,
    database: Database = None,
    migrations: Migrations = None,
    *,
    timeout: float = 30.0,
    create: bool = True,
) -> Step:
    """Record that a database is at `target` and run nothing; works from any state.

    A directory without migrations will do for "base".
    """
    listed = directories.listed_even_if_empty if target == BASE else directories.listed
    directory = listed(directories.located(migrations))
    where = located(database, create=create)
    from .run import commands

    return commands.stamp(directory, target, where, timeout=timeout).steps[0]


def current(
    database: Database = None, migrations: Migrations = None, *, timeout: float = 30.0, create: bool = True
) -> Current:
    """Return where a database is; reads only."""
    directory = directories.listed(directories.located(migrations))
    from .run import commands

    return commands.current(directory, located(database, create=create), timeout=timeout)


def history(
    database: Database = None, migrations: Migrations = None, *, timeout: float = 30.0, create: bool = True
) -> "tuple[Entry, ...]":
    """Return every migration as seen from a database, oldest first; reads only."""
    directory = directories.listed(directories.located(migrations))
    from .run import commands

    return commands.history(directory, located(database, create=create), timeout=timeout)[1]


def _run(
    action: str,
    database: Database,
    migrations: Migrations,
    target: str,
    backup: bool,
    timeout: float,
    create: bool,
    progress: Report | None,
) -> tuple[Step, ...]:
    request = Request(action, directories.listed(directories.located(migrations)), target)
    where = located(database, create=create)

    def prelude(version: str) -> None:
        if backup:
            from .tools.backup import take

            take(where, version, timeout=timeout)

    return startup.run(request, where, timeout=timeout, report=progress or _silent, prelude=prelude).steps


def _silent(progress: Progress) -> None:
    pass


def __getattr__(name: str) -> Any:
    if name not in _BEYOND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_BEYOND[name]}", __name__), name)
