"""The application's way to an open, migrated database."""

import os
import sqlite3
from typing import Any

from .migrate import Migrations, migrate
from .migrate.database.names import located


def connect(
    path: str | os.PathLike[str] | None = None, migrations: Migrations = None, **options: Any
) -> sqlite3.Connection:
    """Migrate the database at `path` to head and open it for the application.

    `path` may be any name of a database that `migrate` takes, or ":memory:"; None is the default path.
    `options` are those of `sqlite3.connect`. The connection has foreign keys on
    (https://www.sqlite.org/foreignkeys.html#fk_enable) and rows as `sqlite3.Row`. Raises
    MigrationError if the database cannot be brought to head.
    """
    if path == ":memory:":
        connection: sqlite3.Connection = sqlite3.connect(path, **options)
        migrate(connection, migrations)
    else:
        file = located(path)
        migrate(file, migrations)
        connection = sqlite3.connect(file, **options)
    _switch_keys_on(connection)
    connection.row_factory = sqlite3.Row
    return connection


def _switch_keys_on(connection: sqlite3.Connection) -> None:
    """Switch foreign keys on, also where a transaction is always open: there the pragma does nothing.

    https://docs.python.org/3/library/sqlite3.html#sqlite3.Connection.autocommit
    """
    always = getattr(connection, "autocommit", None) is False
    if always:
        connection.autocommit = True  # type: ignore[attr-defined, unused-ignore]
    connection.execute("PRAGMA foreign_keys = ON")
    if always:
        connection.autocommit = False  # type: ignore[attr-defined, unused-ignore]
