"""The application's way to an open, migrated database."""

import os
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any

from .migrate import Migrations, migrate
from .migrate.access import told
from .migrate.database.connection import UNCHANGED
from .migrate.database.names import located
from .migrate.database.opening import SQLITE3, Connect
from .migrate.database.permissions import denial, unwritable
from .migrate.errors import AccessError


def connect(
    path: str | os.PathLike[str] | None = None,
    migrations: Migrations = None,
    *,
    create: bool = True,
    connect: Connect = SQLITE3,
    **options: Any,
) -> sqlite3.Connection:
    """Migrate the database at `path` to head and open it for the application.

    `path` may be any name of a database that `migrate` takes, or ":memory:"; None is the default path.
    `create` False refuses a file that is not there. `connect` opens a path, with the application's own SQL
    functions say, and `options` are its other arguments: those of `sqlite3.connect`. The connection has
    foreign keys on (https://www.sqlite.org/foreignkeys.html#fk_enable) and rows as `sqlite3.Row`. Raises
    MigrationError if the database cannot be brought to head, or not be read where it may not be written.

    >>> connection = connect("app.db")
    >>> connection.execute("SELECT count(*) FROM chats").fetchone()[0]
    0
    >>> connection.close()
    """
    opened: Callable[..., sqlite3.Connection] = connect
    if path == ":memory:":
        connection = opened(path, **options)
        make_ready: Callable[[], object] = partial(migrate, connection, migrations)
    else:
        file = located(path, create=create)
        migrate(file, migrations, connect=connect)
        connection = opened(file, **options)
        make_ready = partial(_refuse_unreadable, connection, file)
    try:
        make_ready()
        _switch_keys_on(connection)
    except BaseException:
        connection.close()
        raise
    connection.row_factory = sqlite3.Row
    return connection


def _refuse_unreadable(connection: sqlite3.Connection, file: str) -> None:
    """Raise AccessError now, and not at the first query, where a database cannot be read for want of a right.

    To migrate is to read one with a write-ahead log even where nothing can be written, but for a moment only:
    for as long as an application reads, others may change it.
    https://www.sqlite.org/wal.html#read_only_databases
    """
    if not (lack := unwritable(file)):
        return
    try:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except sqlite3.Error as error:
        if not denial(file, error):
            return
        what = f"{lack.what}, so a database with a write-ahead log cannot be read"
        raise AccessError(told(lack._replace(what=what), UNCHANGED), database=file) from error


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
