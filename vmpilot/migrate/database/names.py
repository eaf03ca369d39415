"""What a caller may name a database by: a path, or one of the addresses that other programs use for a file.

Nothing is opened here. A name that is refused is never shown whole: it may hold a password.
"""

from __future__ import annotations

import os

from ..access import impossible, unlikely
from ..errors import AccessError, is_of_the_caller
from ..typed import Any
from .connection import UNCHANGED

_EXPECTED = "expected a path, sqlite:///PATH, sqlite+DRIVER:///PATH or file:PATH"
_IN_MEMORY = "in memory, it ends with its connection; pass an open connection, or name a file"
# What is said of a connection behind a "?", and means nothing for the file:
# https://docs.sqlalchemy.org/en/20/dialects/sqlite.html and https://www.sqlite.org/uri.html
_OF_A_CONNECTION = frozenset(
    (
        "autocommit",
        "cache",
        "cached_statements",
        "charset",
        "check_same_thread",
        "detect_types",
        "isolation_level",
        "mode",
        "timeout",
        "uri",
    )
)
# Before a ":", these are no part of a path: nobody names a file like that.
_OURS = ("file", "jdbc", "sqlite", "sqlite3")
_OTHERS = (
    "http",
    "https",
    "libsql",
    "mariadb",
    "mssql",
    "mysql",
    "oracle",
    "pgsql",
    "postgres",
    "postgresql",
)
_SCHEMES = frozenset((*_OURS, *_OTHERS, "duckdb", "s3", "sqlserver", "ws", "wss"))
# What stands in a list of settings as other drivers take it, which can hold a password.
_SETTINGS = ("data source=", "datasource=", "password=", "pwd=")


# What of an object of another package is a database here. The address of one in memory has no path.
_INSTEAD = {
    ("sqlite3", "Cursor"): "cursor.connection",
    ("sqlalchemy", "Engine"): "engine.url.database or engine.raw_connection().driver_connection",
    ("sqlalchemy", "URL"): "url.database",
    ("sqlalchemy", "Connection"): "connection.connection.driver_connection",
    ("sqlalchemy", "Session"): "session.connection().connection.driver_connection",
    ("sqlalchemy", "AsyncEngine"): "engine.url.database",
    ("sqlalchemy", "AsyncConnection"): "connection.engine.url.database",
    ("sqlalchemy", "AsyncSession"): "engine.url.database",
    ("aiosqlite", "Connection"): "the path of its file",
    ("django", "DatabaseWrapper"): 'connection.settings_dict["NAME"]',
    ("django", "ConnectionProxy"): 'connection.settings_dict["NAME"]',
    ("peewee", "Database"): "database.connection()",
    ("sqlite_utils", "Database"): "database.conn",
}
DEFAULT_NAME = "vmpilot.db"
# A path that begins like this means what it says.
_LITERAL = ("./", "/./")


def located(database: Any, *, create: bool = True) -> Any:
    """Return the path that a caller means by None or a name; anything else, a connection, as it is.

    None is $VMPILOT_DATABASE, else `/app/data/vmpilot.db` where `/app/data` exists (a container),
    else `~/.vmpilot/vmpilot.db`. `~/` in a path is the home directory. Raises AccessError for a name that
    is not that of a file, or that only a slip could make one; and, for who will not have a database made,
    where there is none.
    """
    if database is not None and not isinstance(database, str | os.PathLike):
        return database
    path = _named(database)
    if not create and is_missing(path):
        raise AccessError(f"{path}: no such file, expected a database; {UNCHANGED}", database=path)
    return path


def misnamed(database: Any, expected: str) -> TypeError:
    """Return the error for what is no database, which says what to pass in place of a known object."""
    kind = type(database)
    known = ((each.__module__.partition(".")[0], each.__name__) for each in kind.__mro__)
    instead = next((f"; pass {_INSTEAD[each]}" for each in known if each in _INSTEAD), "")
    return TypeError(f"{expected}, not {kind.__name__}{instead}")


def _named(database: str | os.PathLike[Any] | None) -> str:
    if database is None:
        name = os.environ.get("VMPILOT_DATABASE")
        return _path(name) if name else default()
    name = os.fsdecode(database)
    is_path = not isinstance(database, str) and "?" in name
    return _path(_plain(name) if is_path else name)


def is_missing(path: str) -> bool:
    """Tell whether there is surely no such file; what one may not even look for is no missing file."""
    try:
        os.stat(path)
    except (OSError, ValueError) as error:
        if is_of_the_caller(error):
            raise
        return isinstance(error, FileNotFoundError | NotADirectoryError)
    return False


def default() -> str:
    """Return the path of the database that nobody named; raises AccessError for a user without a home."""
    if os.path.isdir("/app/data"):
        return f"/app/data/{DEFAULT_NAME}"
    home = _expanded("~")
    if home == "~":
        raise AccessError(
            f"the default database: this user has no home directory, and HOME is not set; {UNCHANGED}; "
            "name a database with --database or VMPILOT_DATABASE"
        )
    return os.path.join(home, ".vmpilot", DEFAULT_NAME)


def _path(name: str) -> str:
    _check(name)
    scheme, colon, rest = name.partition(":")
    scheme = scheme.lower()
    kind = scheme.partition("+")[0]
    if not colon or not (kind in _SCHEMES or rest.startswith(("//", "\\"))):
        path = _without_options(name) if "?" in name else name
        path = _home(path) if path.startswith("~") else path
    elif scheme == "file":
        path = _file(rest)
    elif kind == "sqlite" and rest.startswith("///") and not scheme.endswith("+"):
        path = _address(rest[3:])
    elif scheme == "sqlite" and rest in ("", "//"):
        raise _refused(_IN_MEMORY)
    else:
        known = scheme if scheme.replace("+", "").isalnum() else "such a"
        raise _refused(f"{known}: names are not understood here, {_EXPECTED}")
    if not path:
        raise AccessError(f"the path of the database is empty; {UNCHANGED}")
    if path.lstrip("/").lower() == ":memory:":
        raise _refused(_IN_MEMORY)
    if path != name:
        path = _plain(path)
        _check(path)
    if path.endswith("/"):
        raise AccessError(f"{path}: is a directory, expected a database file; {UNCHANGED}", database=path)
    return path


def _check(name: str) -> None:
    """Raise AccessError for what a file of settings leaves around a name, and for what else is no name.

    A file in quotes can be named all the same: `./"app.db"`.
    """
    if odd := unlikely(name) or impossible(name):
        raise _refused(f"its name {odd}")
    if "=" in name and any(word in name.lower() for word in _SETTINGS):
        raise _refused(f"lists of settings are not understood here, {_EXPECTED}")


def _plain(path: str) -> str:
    """Return a path so that it means the same when it is read as a name once more, here or by SQLite."""
    if "?" in path and not path.startswith(_LITERAL):
        return f"/.{path}" if path.startswith("/") else f"./{path}"
    is_other = path[0] in "~\"'` " or path.partition(":")[0].lower().partition("+")[0] in _SCHEMES
    return f"./{path}" if is_other else path


def _expanded(path: str) -> str:
    """Do what `os.path.expanduser` does; but an empty HOME is none, and not the root directory."""
    own = path == "~" or path.startswith("~/")
    return path if own and os.environ.get("HOME") == "" else os.path.expanduser(path)


def _home(path: str) -> str:
    """Return a path with the home directory for `~` or `~user` before a slash, as a shell does.

    An environment file and `--database=~/app.db` do not reach one.
    """
    if path != "~" and "/" not in path:
        return path
    if (found := _expanded(path)) == path:
        user = path.partition("/")[0]
        raise _refused(f"{user} is no home directory here, ./{user} is a directory of that name")
    return found


def _without_options(path: str) -> str:
    """Return a path without what an address may have behind a "?".

    A file can be named like that as well: then it is that file. One that is still to be made can be called
    so with `./` before it, or "%3F" in an address.
    """
    before, _, options = path.rpartition("?")
    pairs = [option.partition("=") for option in options.split("&") if option]
    has_some = pairs and all(name.isidentifier() and sign for name, sign, _ in pairs)
    if not has_some or path.startswith(_LITERAL) or not is_missing(path):
        return path
    _settings(options)
    _check(before)
    return before


def _address(rest: str) -> str:
    """Return the path in what stands behind `sqlite:///`."""
    path, _, options = rest.partition("?")
    settings = _settings(options)
    if path.startswith("file:") and settings.get("uri", "").lower() in ("true", "1"):
        return _file(path.removeprefix("file:"))
    _check(path)
    return path


def _file(rest: str) -> str:
    """Return the path in what stands behind `file:`: https://www.sqlite.org/uri.html"""
    from urllib.parse import unquote

    path, _, options = rest.partition("#")[0].partition("?")
    _settings(options)
    if path.startswith("//"):
        host, slash, below = path[2:].partition("/")
        if host not in ("", "localhost"):
            raise _refused(f"file: names of other machines are not understood here, {_EXPECTED}")
        path = slash + below
    return unquote(path)


def _settings(options: str) -> dict[str, str]:
    """Return the options behind a "?"; raise AccessError unless each only concerns a connection."""
    pairs = [option.partition("=") for option in options.split("&") if option]
    found = {name: value for name, _, value in pairs}
    if odd := found.keys() - _OF_A_CONNECTION:
        shown = [name for name in sorted(odd) if name.isidentifier() and len(name) < 40]
        raise _refused(f"the option {', '.join(shown) or 'behind the ?'} of its name is not understood here")
    modes = {value.lower() for name, _, value in pairs if name == "mode"}
    if "memory" in modes:
        raise _refused(_IN_MEMORY)
    if modes - {"ro", "rw", "rwc"}:
        raise _refused("the option mode of its name is not understood here, expected ro, rw or rwc")
    return found


def _refused(reason: str) -> AccessError:
    return AccessError(f"the database: {reason}; {UNCHANGED}")
