"""Bring a SQLite database to the schema that the running code needs.

At start-up, one line does it::

    from vmpilot.migrate import migrate

    migrate("vmpilot.db")

Every function that opens a database takes `database`: a path, a `sqlite:///` URL, None (the default path) or
an open connection of `sqlite3`, of a module with its interface or of `apsw`, which comes back open with its
settings unchanged; `migrations`: a directory, an `importlib.resources` Traversable or None (those that ship
with the package); `timeout`: how many seconds to wait for a lock; `create`: False refuses a database that is
not there, where it would be made or read as an empty one; and `connect`: how to open a path, with a key, with
extensions or with the application's own SQL functions. All errors are MigrationErrors.

What a SQL function or a progress handler of a caller's connection raises does not come out: Python's module
keeps it, and the statement fails with "user-defined function raised exception" or "interrupted".
https://docs.python.org/3/library/sqlite3.html#sqlite3.enable_callback_tracebacks
"""

from os import PathLike

from .database.names import located
from .database.opening import SQLITE3, Connect
from .errors import AccessError, HistoryError, MigrationError, StepError, VersionError
from .files import directory as directories
from .files.plan import BASE, Progress, Report, Step
from .run import startup
from .run.request import Current, Entry, Request
from .typed import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .tools.check import Health, Problem, check
    from .tools.create import create
    from .tools.fleet import Outcome, migrate_all
    from .tools.redo import redo
    from .tools.renumber import renumber
    from .tools.restore import Restored, Saved, backups, restore
    from .tools.schema import Schema, schema
    from .tools.verify import Proof, Verdict, verify

__all__ = [
    "AccessError",
    "Connect",
    "Current",
    "Entry",
    "Health",
    "HistoryError",
    "MigrationError",
    "Outcome",
    "Problem",
    "Progress",
    "Proof",
    "Report",
    "Restored",
    "Saved",
    "Schema",
    "Step",
    "StepError",
    "Verdict",
    "VersionError",
    "backups",
    "check",
    "create",
    "current",
    "downgrade",
    "history",
    "migrate",
    "migrate_all",
    "redo",
    "renumber",
    "restore",
    "schema",
    "stamp",
    "verify",
]

Database = Any
Migrations = str | PathLike[str] | directories.Entry | None

# What lies beyond the core is imported when it is asked for: a start-up does not pay for it.
_BEYOND = {
    "backups": "tools.restore",
    "restore": "tools.restore",
    "Restored": "tools.restore",
    "Saved": "tools.restore",
    "Proof": "tools.verify",
    "Verdict": "tools.verify",
    "check": "tools.check",
    "Health": "tools.check",
    "Problem": "tools.check",
    "verify": "tools.verify",
    "Outcome": "tools.fleet",
    "migrate_all": "tools.fleet",
    "create": "tools.create",
    "redo": "tools.redo",
    "renumber": "tools.renumber",
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
    connect: Connect = SQLITE3,
    progress: Report | None = None,
) -> tuple[Step, ...]:
    """Upgrade a database to `target`; return the steps that were done, () if there was nothing to do.

    With nothing to do, nothing is written, no migration file is opened and no lock is waited for.
    `backup` copies the database first, if there is something to do. `progress` is called with a
    Progress while a step runs and when it is committed, which small ones are together. Each step is all or
    nothing: after an error the earlier ones stay and the failed one left nothing.

    >>> migrate("app.db")[0].version
    '0001'
    >>> migrate("app.db")
    ()
    """
    how = _How(target, backup, timeout, create, connect, progress or _silent)
    return _run("upgrade", database, migrations, how)


def downgrade(
    database: Database = None,
    migrations: Migrations = None,
    *,
    target: str = "-1",
    backup: bool = True,
    timeout: float = 30.0,
    create: bool = True,
    connect: Connect = SQLITE3,
    progress: Report | None = None,
) -> tuple[Step, ...]:
    """Undo migrations down to `target`; return the steps that were done.

    Where a newer release left migrations that have no files here, the down scripts that it kept in
    the database are run. The other arguments are those of `migrate`.

    >>> _ = migrate("app.db", target="0002")
    >>> [(step.action, step.version) for step in downgrade("app.db")]
    [('downgrade', '0002')]
    """
    how = _How(target, backup, timeout, create, connect, progress or _silent)
    return _run("downgrade", database, migrations, how)


def stamp(
    target: str,
    database: Database = None,
    migrations: Migrations = None,
    *,
    timeout: float = 30.0,
    create: bool = True,
    connect: Connect = SQLITE3,
) -> Step:
    """Record that a database is at `target` and run nothing; works from any state.

    A directory without migrations will do for "base".

    >>> stamp("0001", "app.db").after
    '0001'
    """
    listed = directories.listed_even_if_empty if target == BASE else directories.listed
    directory = listed(directories.located(migrations))
    where = located(database, create=create)
    from .run import commands

    return commands.stamp(directory, target, where, timeout=timeout, connect=connect).steps[0]


def current(
    database: Database = None,
    migrations: Migrations = None,
    *,
    timeout: float = 30.0,
    create: bool = True,
    connect: Connect = SQLITE3,
) -> Current:
    """Return where a database is; reads only.

    >>> _ = migrate("app.db", target="0001")
    >>> at = current("app.db")
    >>> at.version, at.at_head
    ('0001', False)
    """
    directory, where = directories.listed(directories.located(migrations)), located(database, create=create)
    from .run import commands

    return commands.current(directory, where, timeout=timeout, connect=connect)


def history(
    database: Database = None,
    migrations: Migrations = None,
    *,
    timeout: float = 30.0,
    create: bool = True,
    connect: Connect = SQLITE3,
) -> tuple[Entry, ...]:
    """Return every migration as seen from a database, oldest first; reads only.

    >>> _ = migrate("app.db", target="0001")
    >>> [(entry.version, entry.state) for entry in history("app.db")][:2]
    [('0001', 'applied'), ('0002', 'pending')]
    """
    directory, where = directories.listed(directories.located(migrations)), located(database, create=create)
    from .run import commands

    return commands.history(directory, where, timeout=timeout, connect=connect)[1]


class _How(NamedTuple):
    """What is asked of a run beside its database and its files."""

    target: str
    backup: bool
    timeout: float
    create: bool
    connect: Connect
    report: Report


def _run(action: str, database: Database, migrations: Migrations, how: _How) -> tuple[Step, ...]:
    request = Request(action, directories.listed(directories.located(migrations)), how.target)
    where, timeout, connect = located(database, create=how.create), how.timeout, how.connect

    def back_up(version: str) -> None:
        from .tools.backup import take

        take(where, version, timeout=timeout, connect=connect)

    prelude = back_up if how.backup else None
    return startup.run(
        request, where, timeout=timeout, report=how.report, prelude=prelude, connect=connect
    ).steps


def _silent(progress: Progress) -> None:
    pass


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # for a checker, every mistyped name would be known

    def __getattr__(name: str) -> Any:
        if name not in _BEYOND:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f".{_BEYOND[name]}", __name__), name)
