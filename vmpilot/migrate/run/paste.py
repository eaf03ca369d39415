"""How a message writes a command: pasted anywhere, it acts on the database that the message is about."""

from __future__ import annotations

import os
import sys
from itertools import pairwise

from ..access import quoted
from ..database import copies, names
from ..errors import MigrationError
from ..files import directory as directories
from ..files.directory import Place

_MODULE = "vmpilot.migrate"
_SCRIPTS = ("migrate.sh", "vmpilot-migrate")


def command(database: str, place: Place, words: str) -> str:
    """Return a command line for the shell, to be shown behind "run: ".

    The program is written as it was started; in an application, as the module that Python runs. `words` are
    the command and its arguments. The database and the place of the migrations are named, with their whole
    paths, unless they are the ones that a shell without any variable of ours would use.
    """
    import shlex  # needed by messages only

    options = []
    if database == ":memory:" or os.path.abspath(database) != _default():
        options += ["--database", database if database == ":memory:" else os.path.abspath(database)]
    if os.path.realpath(str(place)) != os.path.realpath(_bundled()):
        options += ["--migrations", os.path.abspath(str(place))]
    return " ".join([_quoted_program(), *map(shlex.quote, (*options, *_opener())), words])


def _opener() -> list[str]:
    """Return how this process was told to open databases: without it, an encrypted one is none."""
    arguments = sys.argv[1:] if _is_script(_started()) or _is_module() else []
    for word, following in pairwise([*arguments, ""]):
        if word == "--connect" or word.startswith("--connect="):
            return ["--connect", word.partition("=")[2] or following]
    return []


def _started() -> str:
    return sys.argv[0] if sys.argv else ""


def _is_module() -> bool:
    """Tell whether this process is Python with the module, and not an application that has imported it."""
    return os.path.basename(_started()) == "__main__.py" and _MODULE in sys.orig_argv


def put_back(database: str, place: Place, backup: str) -> str:
    """Return the advice to put a backup back, with the command."""
    restore = command(database, place, f"restore {quoted(os.path.abspath(backup))}")
    return f"to put its newest backup back, run: {restore}"


def put_back_or_key(database: str, place: Place, backup: str) -> str:
    """Return what helps where SQLite finds no database: a restore, which replaces no other file, or a key."""
    if not copies.is_plain(backup):
        return "if it is encrypted, its key is needed, which --connect gives"
    restore = command(database, place, f"restore {quoted(os.path.abspath(backup))}")
    return f"to put its newest backup back, move the file away first, and then run: {restore}"


def _default() -> str:
    try:
        return names.default()
    except MigrationError:  # a user without a home
        return ""


def _bundled() -> str:
    try:
        return str(directories.located(None))
    except (
        ImportError,
        OSError,
    ):  # what may not be read is nobody's default; the message is about another error
        return ""


def is_script() -> bool:
    """Tell whether this process was started as a script of ours, not as a module or by an application."""
    return bool(sys.argv) and _is_script(sys.argv[0])


def program() -> str:
    """Return what this process was started as, for a person: a script of ours, else the module."""
    started = _started()
    if not _is_script(started):
        return f"python3 -m {_MODULE}"
    return os.path.basename(started) if _is_on_path(started) else started


def _quoted_program() -> str:
    """Return the same for a shell, with the Python that runs the module if this is its process."""
    import shlex

    started = _started()
    if _is_module():
        words = sys.orig_argv[: sys.orig_argv.index(_MODULE) + 1]
        return shlex.join([sys.executable, *words[1:]] if _is_for_this_process_only() else words)
    if not _is_script(started):
        return program()
    if _is_on_path(started) and not _is_for_this_process_only():
        return os.path.basename(started)
    return shlex.quote(started) if os.access(started, os.X_OK) else f"sh {shlex.quote(started)}"


def _is_on_path(started: str) -> bool:
    """Tell whether a shell finds a program by its name alone."""
    import shutil

    return shutil.which(os.path.basename(started)) == started


def _is_for_this_process_only() -> bool:
    """Tell whether the PATH of this process is not that of the shell that is pasted into.

    `uvx` and `uv run` put an environment first on it: https://docs.astral.sh/uv/reference/environment/#uv
    """
    return "UV" in os.environ


def _is_script(started: str) -> bool:
    """Tell whether a path is that of a script of ours, or of a link to one."""
    return os.path.basename(os.path.realpath(started)) in _SCRIPTS or os.path.basename(started) in _SCRIPTS
