"""The application's way to an open, migrated database."""

import os
import sqlite3

from .migrate import migrate
from .migrate.database.opening import located


def connect(path: str | os.PathLike[str] | None = None) -> sqlite3.Connection:
    """Migrate the database at `path` to head and open it for the application.

    `path` may be a `sqlite:///` URL; None is the default path. The connection has foreign keys on
    (https://www.sqlite.org/foreignkeys.html#fk_enable) and rows as `sqlite3.Row`. Raises
    MigrationError if the database cannot be brought to head.
    """
    database = located(path)
    migrate(database)
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.row_factory = sqlite3.Row
    return connection
