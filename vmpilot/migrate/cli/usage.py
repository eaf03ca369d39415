"""What is printed of how a command is used: its help, and what was wrong with the words that were typed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress

from ..errors import printable
from ..run.paste import program
from .options import COMMANDS, COMMON, HELP, OTHER_NAMES, TARGET, Option, options_of

_DESCRIPTION = "Bring a SQLite database to the schema that the running code needs."
_BEFORE = "commands (none: upgrade head; more: {} help COMMAND):"
_AFTER = (
    f"TARGET: {TARGET}",
    "exit codes: 0 done or nothing to do, 1 refused or failed, 2 wrong usage, "
    "130 and 143 interrupted (SIGINT, SIGTERM)",
)


def help_of_all() -> str:
    """Return the help of the whole program."""
    rows = [_row(f"{name} {command.takes}".rstrip(), command.help) for name, command in COMMANDS.items()]
    commands = [_fitted(_BEFORE.format(program())), *rows]
    parts = [_usage(""), _fitted(_DESCRIPTION, indent=0), _options((HELP, *COMMON)), "\n".join(commands)]
    return "\n\n".join([*parts, "\n".join(map(_fitted, _AFTER))])


def help_of(name: str) -> str:
    """Return the help of one command."""
    command = COMMANDS[name]
    parts = [_usage(name), _fitted(f"{command.help[0].upper()}{command.help[1:]}.", indent=0)]
    if command.takes:
        parts.append(f"positional arguments:\n{_row(command.takes.strip('[].'), command.about)}")
    return "\n\n".join([*parts, _options(options_of(name))])


def say_wrong(message: str, command: str) -> None:
    """Print how a command is used, and what was wrong; where nobody reads that, nothing."""
    with suppress(OSError):
        said = f"{program()} {command}".rstrip()
        print(f"{_usage(command)}\n{said}: error: {printable(message)}", file=sys.stderr, flush=True)


def unrecognized(words: list[str], options: Iterable[str]) -> str:
    """Say which words mean nothing here, with the option that is nearest to the first that looks like one."""
    mistyped = [word for word in words if word.startswith("-")]
    told = f"unrecognized arguments: {' '.join(mistyped or map(shown, words))}"
    long = [name for name in options if name.startswith("--")]
    near = _nearest(mistyped[0], long) if mistyped else ""
    return f"{told}; {near}" if near else told


def no_command(word: str) -> str:
    """Say that a word is no command, with the nearest one."""
    near = _nearest(word, (*COMMANDS, *OTHER_NAMES, "help"))
    return f'"{shown(word)}" is not a command; {near or "expected one of " + ", ".join(COMMANDS)}'


def _nearest(word: str, known: Iterable[str]) -> str:
    """Return a question for the known word that is nearest to a mistyped one, nothing if none is near."""
    from difflib import get_close_matches

    known = sorted(known)
    begun = [each for each in known if each.startswith(word) and len(word.strip("-")) > 1]
    found = begun or get_close_matches(word.lower(), known, 1, 0.7)
    return f"did you mean {found[0]}?" if found else ""


def shown(word: str) -> str:
    """Return a word as a message shows it: an address can hold a password."""
    scheme, address, _ = word.partition("://")
    return f"{scheme}://..." if address else word


# --- lines that fit the terminal


def _usage(command: str) -> str:
    takes = f"[OPTIONS] {COMMANDS[command].takes}" if command else "[OPTIONS] [COMMAND] [ARGS]"
    return _fitted(f"{program()} {command} {takes}".replace("  ", " ").rstrip(), "usage: ", 7)


def _options(options: Iterable[Option]) -> str:
    return "\n".join(["options:", *(_row(_written(option), option.help) for option in options)])


def _written(option: Option) -> str:
    return ", ".join(f"{name} {option.value}".rstrip() for name in option.names)


def _row(name: str, told: str) -> str:
    """Return a name and what it means, beside it or, where there is no room, below it."""
    words, left = f"  {name}", _left()
    if len(words) + 2 <= left:
        return _fitted(told, words.ljust(left), left)
    return f"{words}\n{_fitted(told, ' ' * left, left)}"


def _fitted(text: str, before: str = "", indent: int = 2) -> str:
    """Return a text behind what stands before it, in lines that fit the terminal."""
    if len(before + text) <= _width():
        return before + text
    from textwrap import fill

    return fill(text, _width(), initial_indent=before, subsequent_indent=" " * indent)


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
