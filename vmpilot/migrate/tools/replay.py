"""The migrations played on a scratch database, one after the other and without looking back."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ..database import tables
from ..database.connection import Session, is_of_the_application
from ..database.opening import SQLITE3, Connect, scratch
from ..errors import StepError
from ..files.directory import Directory, Migration
from ..run.play import follow

_CONNECT = "for what only the application has: --connect MODULE:FUNCTION"


@contextmanager
def replayed(
    directory: Directory, migrations: Iterable[Migration], connect: Connect = SQLITE3
) -> Iterator[Session]:
    """Open an empty database in memory on which the ups of these migrations have run.

    `connect` is how the application opens a path. Raises StepError with the first statement that cannot run
    there: it needs rows, or what only the application has.
    """
    with scratch(connect=connect) as session:
        tables.create(session)
        for migration in migrations:
            script = directory.script(migration.up)
            try:
                follow(session, migration, script)
            except StepError as error:
                raise StepError(
                    hinted(str(error)),
                    file=error.file,
                    line=error.line,
                    version=migration.version,
                    statement=error.statement,
                ) from error
        yield session


def hinted(problem: str) -> str:
    """Say how to have the application's functions, if that is what a problem is about."""
    return f"{problem}; {_CONNECT}" if is_of_the_application(problem) else problem
