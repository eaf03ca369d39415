"""The commands there are, and what each takes: one table, from which the command line is read and helped."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

from ..typed import Any, NamedTuple

TARGET = "head, base, a version (0002 or 2), a revision, +N or -N"
OTHER_NAMES = {"status": "history", "revision": "create"}
_MOST = 1000
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


class Options(SimpleNamespace):
    """What is asked for: the command, and a field for each option and for what the command takes."""


class Option(NamedTuple):
    """One option: how it is written ("-d --database NAME"), what help says of it, how its value is read.

    `read` raises ValueError, with what it expected, for a value that makes no sense.
    """

    written: str
    help: str
    read: Callable[[str], Any] = str

    @property
    def names(self) -> list[str]:
        """Return its names, the long one last."""
        return [word for word in self.written.split() if word.startswith("-")]

    @property
    def value(self) -> str:
        """Return what help calls the value behind it, nothing if it takes none."""
        return self.written.partition(self.names[-1])[2].strip()

    @property
    def field(self) -> str:
        """Return the name under which its value is found."""
        return self.names[-1].removeprefix("--").removeprefix("no-").replace("-", "_")

    @property
    def switched(self) -> bool:
        """Return what an option without a value says: `--no-backup` says no."""
        return not self.names[-1].startswith("--no-")


class Command(NamedTuple):
    """One command: what it takes ("[TARGET]"), what it does, and its own options.

    `about` says what it takes, `default` stands where that is left out.
    """

    takes: str
    help: str
    options: tuple[Option, ...] = ()
    about: str = ""
    default: str | None = None

    @property
    def field(self) -> str:
        """Return the name under which what it takes is found."""
        return self.takes.strip("[].").lower()


def seconds(text: str) -> float:
    """Read a length of time."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise ValueError(f"expected a number of seconds, found {text!r}")
    return found


def switch(text: str) -> bool:
    """Read what an environment variable says to something that can be on or off."""
    if text.lower() not in (*YES, *NO):
        raise ValueError(f"expected one of {', '.join((*YES, *NO))}, found {text!r}")
    return text.lower() in YES


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise ValueError(f"expected a number from 1 to {_MOST}, found {text!r}")
    return int(text)


def _reference(text: str) -> str:
    module, _, function = text.partition(":")
    if not module or not function:
        raise ValueError(f"expected MODULE:FUNCTION, found {text!r}")
    return text


_BACKUP = Option("--backup", "back up first ($VMPILOT_MIGRATE_BACKUP)")
_NO_BACKUP = Option("--no-backup", "do not back up first ($VMPILOT_MIGRATE_BACKUP)")
_DRY_RUN = Option("--dry-run", "rehearse on a private copy")
_SQL = Option("--sql", "print a script for the sqlite3 shell, run nothing")
_OPENS = "the application's function that opens a path: with a key, extensions, SQL functions"

COMMON = (
    Option("-d --database NAME", "a path, sqlite:///PATH or file:PATH ($VMPILOT_DATABASE)"),
    Option("--migrations DIR", "the migration files ($VMPILOT_MIGRATIONS, else those that ship)"),
    Option("--timeout SECONDS", "how long to wait for a lock ($VMPILOT_MIGRATE_TIMEOUT, else 30)", seconds),
    Option("--existing", "refuse instead of creating a database"),
    Option("--connect MODULE:FUNCTION", _OPENS, _reference),
    Option("--json", "one JSON object on standard output; of fleet, one a line"),
    Option("-q --quiet", "print errors only"),
    Option("-v --verbose", "say on standard error what is used"),
    Option("-V --version", "show program's version number and exit"),
)
HELP = Option("-h --help", "show this help message and exit")
EXCLUSIVE = ("--dry-run", "--sql")

COMMANDS = {
    "upgrade": Command(
        "[TARGET]",
        "apply pending migrations up to TARGET (head)",
        (
            Option(
                "--follow",
                "where a newer release left the database ahead: downgrade to TARGET, after a backup",
            ),
            _DRY_RUN,
            _SQL,
            _BACKUP,
        ),
        f"{TARGET} (head)",
        "head",
    ),
    "downgrade": Command(
        "[TARGET]",
        "undo down to TARGET (-1), after a backup",
        (_DRY_RUN, _SQL, _NO_BACKUP),
        f"{TARGET} (-1)",
        "-1",
    ),
    "redo": Command(
        "", "undo the newest applied migration and apply it again, after a backup", (_NO_BACKUP,)
    ),
    "current": Command(
        "",
        "where the database is",
        (Option("--check-heads", "exit 1 unless the database is at head"),),
    ),
    "history": Command("", "every migration: state, version, name, when, how long (also: status)"),
    "heads": Command("", "the newest version"),
    "stamp": Command("TARGET", "record a version, run nothing", about=TARGET),
    "create": Command(
        "NAME...",
        "write the next numbered pair of files (also: revision -m NAME)",
        (
            Option("-m --message NAME", "the same, as Alembic takes it"),
            Option("--rebuild TABLE", "write SQLite's rebuild of a table as it is, to be edited"),
        ),
        "what the migration does, in a few words",
    ),
    "renumber": Command(
        "NAME",
        "give files that nobody has applied the next free number",
        about="a version, or the name of a file with or without its ending",
    ),
    "check": Command(
        "",
        "is the database at head and sound? exit 1 and every problem if not",
        (
            Option("--wait SECONDS", "wait until the database is at head", seconds),
            Option("--full", "the thorough and slow PRAGMA integrity_check"),
        ),
    ),
    "verify": Command(
        "",
        "prove the files: up, down, up again for each",
        (Option("--on-copy", "prove the pending ones on a copy of the database"),),
    ),
    "schema": Command(
        "[TARGET]",
        "the schema that the files make, as SQL or as a picture",
        (Option("--mermaid", "as a picture: an erDiagram for Markdown"),),
        f"{TARGET} (head)",
        "head",
    ),
    "restore": Command(
        "[BACKUP]",
        "put a backup back, after checking it; without a name list them",
        about="a file that a backup wrote; without, list them",
    ),
    "fleet": Command(
        "PATTERN...",
        "upgrade many databases at once, go on after errors",
        (
            Option("--jobs N", "how many at the same time (a few more than there are processors)", _number),
            _BACKUP,
        ),
        "paths, patterns like 'tenants/*.db', @FILE with a path a line, - for standard input",
    ),
    "completion": Command(
        "SHELL",
        "print what completes commands, options and versions in bash, zsh or fish",
        about="bash, zsh or fish",
    ),
}


def options_of(command: str) -> tuple[Option, ...]:
    """Return all options of a command."""
    return (HELP, *COMMANDS[command].options, *COMMON)


# A name takes a value, or none, whatever the command: so it is known which word is the command.
ALL_OPTIONS = {
    name: option for command in COMMANDS for option in options_of(command) for name in option.names
}
