"""From the words on the command line to options: the commands there are, what each takes, its help.

Wrong usage, help and the version end here, as SystemExit; nothing is opened and nothing else is printed.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress

from ... import __version__
from ..errors import printable
from ..run.paste import program
from ..typed import NamedTuple, NoReturn, TypeVar

_TARGET = "head, base, a version (0002 or 2), a revision, +N or -N"
_DESCRIPTION = "Bring a SQLite database to the schema that the running code needs."
_BEFORE = "commands (none: upgrade head; more: {} help COMMAND):"
_AFTER = (
    f"TARGET: {_TARGET}",
    "exit codes: 0 done or nothing to do, 1 refused or failed, 2 wrong usage, "
    "130 and 143 interrupted (SIGINT, SIGTERM)",
)

_OTHER_NAMES = {"status": "history", "revision": "create"}
_WITH_VALUE = ("--database", "--migrations", "--timeout", "--message", "--wait", "--connect")
# Options of one letter, which may be written together; the last of them may be one that takes a value.
_LETTERS = re.compile("-[hqvV]*[hqvVdm]")
_T = TypeVar("_T")
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options of a command; `command` is its word, `form` is how to answer: text, json or quiet.

    What is not said is taken from the environment. Raises SystemExit: with code 2 for wrong usage, with 0
    once help or the version is printed.
    """
    command, rest = _command(arguments)
    parser = _parser(command)
    options, others = parser.parse_known_args(rest, argparse.Namespace(command=command))
    if others:
        parser.error(_unrecognized(others, _options(parser)))
    if command == "create":
        options.words += [] if options.message is None else [options.message]
        if not options.words:
            parser.error("the following arguments are required: NAME")
    if command in ("upgrade", "downgrade") and options.connect and not options.dry_run:
        parser.error("--connect goes with --dry-run only")
    try:
        if options.timeout is None:
            options.timeout = _environment("VMPILOT_MIGRATE_TIMEOUT", _seconds, 30.0)
        if command == "upgrade":
            options.backup |= _environment("VMPILOT_MIGRATE_BACKUP", _switch, False)
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    options.form = "json" if options.json else "quiet" if options.quiet else "text"
    return options


def _environment(name: str, read: Callable[[str], _T], default: _T) -> _T:
    """Return what a variable says; an empty one says nothing."""
    text = os.environ.get(name)
    try:
        return read(text) if text else default
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{name}: {error}") from error


def _command(arguments: list[str]) -> tuple[str, list[str]]:
    """Return the command, which may stand between its options, and everything else.

    With none: upgrade. Help and version without a command are answered here.
    """
    value = False
    for index, word in enumerate(arguments):
        if not value and not word.startswith("-"):
            if word == "help":
                _answer_help([word for word in arguments[index + 1 :] if word[:1] != "-" and word != "help"])
            return _known(word, arguments[:index]), arguments[:index] + arguments[index + 1 :]
        value = not value and _takes_value(word)
    if {"-h", "--help"} & {*arguments}:
        _answer_help([])
    return "upgrade", arguments


def _takes_value(word: str) -> bool:
    """Tell whether the word after this option is its value."""
    return word in _WITH_VALUE or (word[-1:] in ("d", "m") and bool(_LETTERS.fullmatch(word)))


def _answer_help(words: list[str]) -> None:
    """Print the help of a command, without one the help of all, and leave."""
    parser = _parser(_known(words[0], [])) if words else _general()
    parser.parse_args(["--help"])


def _known(word: str, before: list[str]) -> str:
    """Return the command that a word behind these others names; leave if it names none."""
    command = _OTHER_NAMES.get(word, word)
    if command not in _COMMANDS:
        _refuse(word, before)
    return command


def _refuse(word: str, before: list[str]) -> NoReturn:
    """Leave with the command that is nearest to a word; it can be the value of a mistyped option, too."""
    options = {option for name in _COMMANDS for option in _options(_parser(name))}
    for option in before:
        known = option.partition("=")[0] in options or _LETTERS.match(option)
        if option.startswith("-") and not known:
            _general().error(_unrecognized([option], options))
    near = _nearest(word, (*_COMMANDS, *_OTHER_NAMES, "help"))
    _general().error(
        f'"{_shown(word)}" is not a command; {near or "expected one of " + ", ".join(_COMMANDS)}'
    )


def _unrecognized(words: list[str], options: Iterable[str]) -> str:
    mistyped = [word.partition("=")[0] for word in words if word.startswith("-")]
    told = f"unrecognized arguments: {' '.join(mistyped or map(_shown, words))}"
    near = _nearest(mistyped[0], options) if mistyped else ""
    return f"{told}; {near}" if near else told


def _shown(word: str) -> str:
    """Return a word as a message shows it: an address can hold a password."""
    scheme, address, _ = word.partition("://")
    return f"{scheme}://..." if address else word


def _nearest(word: str, known: Iterable[str]) -> str:
    """Return a question for the known word that is nearest to a mistyped one, nothing if none is near."""
    from difflib import get_close_matches  # not loaded by a start-up that is typed right

    known = sorted(known)
    begun = [each for each in known if each.startswith(word) and len(word.strip("-")) > 1]
    found = begun or get_close_matches(word.lower(), known, 1, 0.7)
    return f"did you mean {found[0]}?" if found else ""


def _options(parser: argparse.ArgumentParser) -> set[str]:
    """Return the long options that a parser knows."""
    return {*re.findall(r"--[a-z]+(?:-[a-z]+)*", parser.format_help())}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are printable: most are argparse's own, and they quote what was typed."""

    def error(self, message: str) -> NoReturn:
        # What could not be said does not change the exit code; Python 3.11.2 fails at it.
        with suppress(OSError):
            super().error(printable(message))
        raise SystemExit(2)


def _general() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program(),
        usage=_usage("[OPTIONS] [COMMAND] [ARGS]"),
        description=_fitted(_DESCRIPTION, indent=0),
        epilog=_index(),
        formatter_class=_raw_help,
        allow_abbrev=False,
    )
    _common(parser)
    return parser


def _parser(command: str) -> argparse.ArgumentParser:
    """Return the parser of one command: making those of all takes longer than doing nothing."""
    takes, told, add_options = _COMMANDS[command]
    parser = _Parser(
        prog=f"{program()} {command}",
        usage=_usage(f"{command} [OPTIONS] {takes}".rstrip()),
        description=f"{told[0].upper()}{told[1:]}.",
        formatter_class=_help,
        allow_abbrev=False,
    )
    add_options(parser)
    _common(parser)
    return parser


def _index() -> str:
    """Return the list of commands and what stands below it, as wide as the terminal."""
    left, lines = _left(), [_fitted(_BEFORE.format(program()))]
    for command, (takes, told, _) in _COMMANDS.items():
        words = f"  {command} {takes}".rstrip()
        if len(words) + 2 > left:
            lines.append(words)
            words = ""
        lines.append(_fitted(told, words.ljust(left), left))
    return "\n".join([*lines, "", *map(_fitted, _AFTER)])


def _usage(words: str) -> str:
    # argparse takes a % for the start of one of its own names.
    return _fitted(f"{program()} {words}", "usage: ", 7).removeprefix("usage: ").replace("%", "%%")


def _fitted(text: str, before: str = "", indent: int = 2) -> str:
    """Return a text behind what stands before it, in lines that fit the terminal."""
    if len(before + text) <= _width():
        return before + text
    from textwrap import fill  # not loaded by a start-up on a terminal of a usual width

    return fill(text, _width(), initial_indent=before, subsequent_indent=" " * indent)


# argparse itself loads half a dozen modules to learn the terminal's width.
def _help(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, max_help_position=_left(), width=_width())


def _raw_help(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=_left(), width=_width())


def _left() -> int:
    """Return where help begins behind what it is about: below it on a narrow terminal."""
    return 23 if _width() >= 60 else 8


def _width() -> int:
    """Return how many columns help may fill: those of the terminal, 80 where there is none."""
    try:
        columns = int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        columns = 0
    if columns <= 0:
        try:
            columns = os.get_terminal_size(1).columns
        except OSError:
            columns = 80
    return min(max(columns or 80, 20), 100)


def _common(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    patience = "how long to wait for a lock ($VMPILOT_MIGRATE_TIMEOUT, else 30)"
    add("-d", "--database", metavar="NAME", help="a path, sqlite:///PATH or file:PATH ($VMPILOT_DATABASE)")
    add("--migrations", metavar="DIR", help="the migration files ($VMPILOT_MIGRATIONS, else those that ship)")
    add("--timeout", metavar="SECONDS", type=_seconds, help=patience)
    add("--existing", action="store_true", help="refuse instead of creating a database")
    add("--json", action="store_true", help="one JSON object on standard output")
    add("-q", "--quiet", action="store_true", help="print errors only")
    add("-v", "--verbose", action="store_true", help="say on standard error what is used")
    add("-V", "--version", action="version", version=f"vmpilot {__version__}")


def _switch(text: str) -> bool:
    if text.lower() not in (*_YES, *_NO):
        raise argparse.ArgumentTypeError(f"expected one of {', '.join((*_YES, *_NO))}, found {text!r}")
    return text.lower() in _YES


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
    told = "where a newer release left the database ahead: downgrade to TARGET, after a backup"
    parser.add_argument("--follow", action="store_true", help=told)
    _trial(parser)
    parser.add_argument("--backup", action="store_true", help="back up first ($VMPILOT_MIGRATE_BACKUP)")


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
    takes: str
    help: str
    options: Callable[[argparse.ArgumentParser], None]


_COMMANDS = {
    "upgrade": _Command("[TARGET]", "apply pending migrations up to TARGET (head)", _upgrade),
    "downgrade": _Command("[TARGET]", "undo down to TARGET (-1), after a backup", _downgrade),
    "current": _Command("", "where the database is", _current),
    "history": _Command("", "every migration: state, version, name, when, how long (also: status)", _nothing),
    "heads": _Command("", "the newest version", _nothing),
    "stamp": _Command("TARGET", "record a version, run nothing", _stamp),
    "create": _Command("NAME...", "write the next numbered pair of files (also: revision -m NAME)", _create),
    "check": _Command("", "is the database at head and sound? exit 1 and every problem if not", _check),
    "verify": _Command("", "prove the files: up, down, up again for each", _verify),
    "restore": _Command(
        "[BACKUP]", "put a backup back, after checking it; without a name list them", _restore
    ),
}
