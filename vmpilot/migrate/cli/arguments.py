"""From the words on the command line to options: the commands there are, what each takes, its help.

Wrong usage, help and the version end here, as SystemExit; nothing is opened and nothing else is printed.
"""

import argparse
from collections.abc import Callable
from typing import NamedTuple

from ... import __version__

_PROGRAM = "python -m vmpilot.migrate"
_TARGET = "head, base, a version (0002 or 2), a revision, +N or -N"
_DESCRIPTION = """Bring a SQLite database to the schema that the running code needs."""
_EPILOG = f"""commands (with none: upgrade head; details: {_PROGRAM} COMMAND --help):
  upgrade [TARGET]     apply pending migrations up to TARGET (head)
  downgrade [TARGET]   undo down to TARGET (-1), after a backup
  current              where the database is
  history, status      every migration: state, version, name, when applied, how long it took
  heads                the newest version
  stamp TARGET         record a version, run nothing
  create NAME...       write the next numbered pair of files (also: revision -m NAME)
  check                is the database at head and sound? exit 1 and every problem if not
  verify               prove the files: up, down, up again for each
  restore [BACKUP]     put a backup back, after checking it; without a name list them

TARGET: {_TARGET}
exit codes: 0 done or nothing to do, 1 refused or failed, 2 wrong usage, 130 interrupted"""

_OTHER_NAMES = {"status": "history", "revision": "create"}
_WITH_VALUE = ("-d", "--database", "--migrations", "--timeout", "-m", "--message", "--wait", "--connect")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options of a command; `command` is its word, `form` is how to answer: text, json or quiet.

    Raises SystemExit: with code 2 for wrong usage, with 0 once help or the version is printed.
    """
    command, rest = _command(arguments)
    parser = _parser(command)
    options = parser.parse_args(rest, argparse.Namespace(command=command))
    if command == "create":
        options.words += [] if options.message is None else [options.message]
        if not options.words:
            parser.error("the following arguments are required: NAME")
    if command in ("upgrade", "downgrade") and options.connect and not options.dry_run:
        parser.error("--connect goes with --dry-run only")
    options.form = "json" if options.json else "quiet" if options.quiet else "text"
    return options


def _command(arguments: list[str]) -> tuple[str, list[str]]:
    """Return the command, which may stand between its options, and everything else.

    With none: upgrade. Help and version without a command are answered here.
    """
    value = False
    for index, word in enumerate(arguments):
        if not value and not word.startswith("-"):
            command = _OTHER_NAMES.get(word, word)
            if command not in _COMMANDS:
                _general().error(f'"{word}" is not a command; expected one of {", ".join(_COMMANDS)}')
            return command, arguments[:index] + arguments[index + 1 :]
        value = not value and word in _WITH_VALUE
    if {"-h", "--help"} & {*arguments}:
        _general().parse_args(["--help"])
    return "upgrade", arguments


def _general() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        usage=f"{_PROGRAM} [OPTIONS] [COMMAND] [ARGS]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _common(parser)
    return parser


def _parser(command: str) -> argparse.ArgumentParser:
    """Return the parser of one command: making those of all takes longer than doing nothing."""
    parser = argparse.ArgumentParser(
        prog=f"{_PROGRAM} {command}",
        description=_COMMANDS[command].help,
        formatter_class=_help,
        allow_abbrev=False,
    )
    _COMMANDS[command].options(parser)
    _common(parser)
    return parser


def _help(prog: str) -> argparse.HelpFormatter:
    # With a width of its own: argparse loads half a dozen modules to learn the terminal's.
    return argparse.HelpFormatter(prog, width=100)


def _common(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-d", "--database", metavar="NAME", help="a path, sqlite:///PATH or file:PATH ($VMPILOT_DATABASE)")
    add("--migrations", metavar="DIR", help="the migration files ($VMPILOT_MIGRATIONS, else those that ship)")
    add("--timeout", metavar="SECONDS", type=_seconds, default=30.0, help="how long to wait for a lock (30)")
    add("--json", action="store_true", help="one JSON object on standard output")
    add("--quiet", action="store_true", help="print errors only")
    add("--verbose", action="store_true", help="say on standard error what is used")
    add("--version", action="version", version=f"vmpilot {__version__}")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds, found {text!r}")
    return seconds


# --- what each command takes beside the common options


def _nothing(parser: argparse.ArgumentParser) -> None:
    pass


def _upgrade(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", nargs="?", default="head", help=f"{_TARGET} (head)")
    _trial(parser)
    parser.add_argument("--backup", action="store_true", help="back up first ($VMPILOT_MIGRATE_BACKUP=1)")


def _downgrade(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", nargs="?", default="-1", help=f"{_TARGET} (-1)")
    _trial(parser)
    parser.add_argument("--no-backup", dest="backup", action="store_false", help="do not back up first")


def _trial(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--dry-run", action="store_true", help="rehearse on a private copy")
    group.add_argument("--sql", action="store_true", help="print a script for the sqlite3 shell, run nothing")
    _connect(parser)


def _connect(parser: argparse.ArgumentParser) -> None:
    told = "how the application opens a path: with its own SQL functions"
    parser.add_argument("--connect", metavar="MODULE:FUNCTION", type=_reference, help=told)


def _reference(text: str) -> str:
    module, _, function = text.partition(":")
    if not module or not function:
        raise argparse.ArgumentTypeError(f"expected MODULE:FUNCTION, found {text!r}")
    return text


def _current(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check-heads", action="store_true", help="exit 1 unless the database is at head")


def _stamp(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help=_TARGET)


def _create(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", metavar="NAME", nargs="*", help="what the migration does, in a few words")
    parser.add_argument("-m", "--message", metavar="NAME", help="the same, as Alembic takes it")


def _check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wait", metavar="SECONDS", type=_seconds, help="wait until the database is at head")
    parser.add_argument("--full", action="store_true", help="the thorough and slow PRAGMA integrity_check")
    _connect(parser)


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on-copy", action="store_true", help="prove the pending ones on a copy of the database"
    )
    _connect(parser)


def _restore(parser: argparse.ArgumentParser) -> None:
    more = "a file that a backup wrote; without, list them"
    parser.add_argument("backup", metavar="BACKUP", nargs="?", help=more)


class _Command(NamedTuple):
    help: str
    options: Callable[[argparse.ArgumentParser], None]


_COMMANDS = {
    "upgrade": _Command("Apply pending migrations up to TARGET.", _upgrade),
    "downgrade": _Command("Undo migrations down to TARGET, after a backup.", _downgrade),
    "current": _Command("Print where the database is.", _current),
    "history": _Command("List every migration as seen from the database.", _nothing),
    "heads": _Command("Print the newest version.", _nothing),
    "stamp": _Command("Record a version without running SQL.", _stamp),
    "create": _Command("Write the next numbered pair of files.", _create),
    "check": _Command("Say whether the database is at head and sound.", _check),
    "verify": _Command("Prove the files: up, down, up again for each.", _verify),
    "restore": _Command("Put a backup back, after checking it.", _restore),
}
