"""What a caller may name a database by: a path, or one of the addresses that other programs use for a file.

Nothing is opened here. A name that is refused is never shown whole: it may hold a password.
"""

import os
from typing import Any

from ..errors import AccessError
from .connection import UNCHANGED

_EXPECTED = "expected a path, sqlite:///PATH, sqlite+DRIVER:///PATH or file:PATH"
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
_SCHEMES = ("file", "jdbc", "sqlite", "sqlite3")


def located(database: Any) -> Any:
    """Return the path that a caller means by None or a name; anything else, a connection, as it is.

    None is $VMPILOT_DATABASE, else `/app/data/vmpilot.db` where `/app/data` exists (a container),
    else `~/.vmpilot/vmpilot.db`. Raises AccessError for a name that is not that of a file.
    """
    if database is None:
        name = os.environ.get("VMPILOT_DATABASE")
        return _path(name) if name else default()
    if not isinstance(database, str | os.PathLike):
        return database
    name = os.fspath(database)
    return _path(os.fsdecode(name) if isinstance(name, bytes) else name)


def default() -> str:
    """Return the path of the database that nobody named; raises AccessError for a user without a home."""
    if os.path.isdir("/app/data"):
        return "/app/data/vmpilot.db"
    home = os.path.expanduser("~")
    if home == "~":
        raise AccessError(
            f"the default database: this user has no home directory, and HOME is not set; {UNCHANGED}; "
            "name a database with --database or VMPILOT_DATABASE"
        )
    return os.path.join(home, ".vmpilot", "vmpilot.db")


def _path(name: str) -> str:
    if "\r" in name or "\0" in name:
        character = "carriage return" if "\r" in name else "NUL"
        raise _refused(f"its name holds a {character}")
    scheme, colon, rest = name.partition(":")
    scheme = scheme.lower()
    if name == ":memory:":
        raise _refused("in memory, it ends with its connection; pass an open connection, or name a file")
    if not colon or not (scheme.partition("+")[0] in _SCHEMES or rest.startswith("//")):
        path = name
    elif scheme == "file":
        path = _file(rest)
    elif scheme.partition("+")[0] == "sqlite" and rest.startswith("///"):
        path = _address(rest[3:])
    elif scheme == "sqlite" and rest in ("", "//"):
        raise _refused("in memory, it ends with its connection; pass an open connection, or name a file")
    else:
        known = scheme if scheme.replace("+", "").isalnum() else "such a"
        raise _refused(f"{known}: names are not understood here, {_EXPECTED}")
    if not path:
        raise AccessError(f"the path of the database is empty; {UNCHANGED}")
    return path


def _address(rest: str) -> str:
    """Return the path in what stands behind `sqlite:///`."""
    path, _, options = rest.partition("?")
    settings = _settings(options)
    if path == ":memory:":
        raise _refused("in memory, it ends with its connection; pass an open connection, or name a file")
    if path.startswith("file:") and settings.get("uri", "").lower() in ("true", "1"):
        return _file(path.removeprefix("file:"))
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
    pairs = (option.partition("=") for option in options.split("&") if option)
    found = {name: value for name, _, value in pairs}
    if odd := found.keys() - _OF_A_CONNECTION:
        shown = [name for name in sorted(odd) if name.isidentifier() and len(name) < 40]
        raise _refused(f"the option {', '.join(shown) or 'behind the ?'} of its name is not understood here")
    if found.get("mode") == "memory":
        raise _refused("in memory, it ends with its connection; pass an open connection, or name a file")
    return found


def _refused(reason: str) -> AccessError:
    return AccessError(f"the database: {reason}; {UNCHANGED}")
