"""From the words on the command line to options; `options` is the table of what there is.

Wrong usage, help and the version end here, as SystemExit; nothing is opened and nothing else is printed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from ... import __version__
from ..typed import Any, NamedTuple, NoReturn, TypeVar
from .options import (
    ALL_OPTIONS,
    COMMANDS,
    EXCLUSIVE,
    HELP,
    OTHER_NAMES,
    Option,
    Options,
    options_of,
    seconds,
    switch,
)

_T = TypeVar("_T")
_D = TypeVar("_D")


class _Given(NamedTuple):
    """One option as it was given, with its value if it has one; `typed` is what a message shows of it."""

    name: str
    value: str | None
    typed: str


def parse(arguments: list[str]) -> Options:
    """Return the options of a command; `command` is its word, `form` is how to answer: text, json or quiet.

    What is not said is taken from the environment. Raises SystemExit: with code 2 for wrong usage, with 0
    once help or the version is printed.
    """
    given, words = _taken_apart(arguments)
    _answer_questions(given, words)
    command = _known(words[0], given) if words else "upgrade"
    try:
        options = _read(command, given, words[1:])
        _from_environment(options)
    except ValueError as error:
        _refuse(str(error), command)
    if command == "create":
        options.name += [] if options.message is None else [options.message]
    _refuse_what_is_missing(options)
    options.form = "json" if options.json else "quiet" if options.quiet else "text"
    return options


# --- words


def _taken_apart(arguments: list[str]) -> tuple[list[_Given], list[str]]:
    """Return the options, in their order, and all other words; behind `--` stand only such."""
    given: list[_Given] = []
    words: list[str] = []
    rest = arguments[::-1]
    while rest:
        word = rest.pop()
        if word == "--":
            words += reversed(rest)
            break
        if _is_option(word):
            given += _long(word, rest) if word.startswith("--") else _letters(word, rest)
        else:
            words.append(word)
    return given, words


def _is_option(word: str) -> bool:
    """Tell whether a word is an option: a number of steps back (-1) is none, nor is a lone dash."""
    return word.startswith("-") and word[1:2].strip("0123456789.") != ""


def _long(word: str, rest: list[str]) -> Iterator[_Given]:
    name, equals, value = word.partition("=")
    yield _Given(name, value if equals else _following(name, rest), name)


def _letters(word: str, rest: list[str]) -> Iterator[_Given]:
    """Yield options of one letter, which may be written together; the last of them may have a value."""
    typed = word.partition("=")[0]
    for at, letter in enumerate(word[1:], 2):
        name = f"-{letter}"
        if _takes_value(name):
            yield _Given(name, word[at:].removeprefix("=") if word[at:] else _following(name, rest), typed)
            return
        yield _Given(name, None, typed)


def _following(name: str, rest: list[str]) -> str | None:
    """Take the word behind an option if that is its value; leave if it is a name that looks like one more."""
    if not _takes_value(name) or not rest:
        return None
    if not _is_option(rest[-1]):
        return rest.pop()
    word, option = rest[-1], ALL_OPTIONS[name]
    begun = word.partition("=")[0] if word.startswith("--") else word[:2]
    if option.read is str and begun not in ALL_OPTIONS:
        from . import usage

        _refuse(f'{name}: a name that begins with "-" is written {option.names[-1]}={usage.shown(word)}')
    return None


def _takes_value(name: str) -> bool:
    """Tell whether an option takes a value, of whatever command it is."""
    return name in ALL_OPTIONS and bool(ALL_OPTIONS[name].value)


# --- what they mean


def _answer_questions(given: list[_Given], words: list[str]) -> None:
    """Print help or the version, if they are asked for, and leave."""
    asked = {name for name, _, _ in given}
    if words[:1] == ["help"] or asked & {*HELP.names}:
        about = [word for word in words if word != "help"]
        from . import usage  # what a run does not need

        print(usage.help_of(_known(about[0], [])) if about else usage.help_of_all())
    elif asked & {"-V", "--version"}:
        print(f"vmpilot {__version__}")
    else:
        return
    raise SystemExit(0)


def _known(word: str, before: list[_Given]) -> str:
    """Return the command that a word names; leave if it names none."""
    command = OTHER_NAMES.get(word, word)
    if command not in COMMANDS:
        _refuse(_no_command(word, before))
    return command


def _no_command(word: str, given: list[_Given]) -> str:
    """Say that a word is no command; it can be the value of a mistyped option, too."""
    from . import usage

    others = [option.typed for option in given if option.name not in ALL_OPTIONS]
    return usage.unrecognized(others, ALL_OPTIONS) if others else usage.no_command(word)


def _read(command: str, given: list[_Given], words: list[str]) -> Options:
    """Return the options of a command as they were given; raise ValueError for what makes no sense."""
    known = {name: option for option in options_of(command) for name in option.names}
    options = Options(command=command)
    for option in known.values():
        setattr(options, option.field, None if option.value else not option.switched)
    others = [option.typed for option in given if option.name not in known]
    others += _take_words(options, words)
    if others:
        from . import usage

        raise ValueError(usage.unrecognized(others, known))
    for name, value, _ in given:
        setattr(options, known[name].field, _value(known[name], value))
    exclusive = [name for name, _, _ in given if name in EXCLUSIVE]
    if len({*exclusive}) > 1:
        raise ValueError(f"argument {exclusive[1]}: not allowed with argument {exclusive[0]}")
    return options


def _value(option: Option, text: str | None) -> Any:
    try:
        if not option.value and text is None:
            return option.switched
        if not option.value or text is None:
            raise ValueError("expected one argument" if option.value else "expected no argument")
        return option.read(text)
    except ValueError as error:
        raise ValueError(f"argument {'/'.join(option.names)}: {error}") from error


def _take_words(options: Options, words: list[str]) -> list[str]:
    """Give a command the words that it takes; return those that it does not."""
    takes = COMMANDS[options.command]
    if takes.takes.endswith("..."):
        setattr(options, takes.field, words)
        return []
    if not takes.takes:
        return words
    setattr(options, takes.field, words[0] if words else takes.default)
    return words[1:]


def _refuse_what_is_missing(options: Options) -> None:
    takes = COMMANDS[options.command]
    named = getattr(options, "rebuild", None)  # which then names the files, too
    if takes.takes[:1].isalpha() and not getattr(options, takes.field) and not named:
        _refuse(f"the following arguments are required: {takes.takes.strip('.')}", options.command)
    if options.command == "fleet" and options.database is not None:
        _refuse("the databases are named by PATTERN, not by --database", options.command)


def _from_environment(options: Options) -> None:
    """Add what the environment says to what the command line does not."""
    if options.timeout is None:
        options.timeout = _environment("VMPILOT_MIGRATE_TIMEOUT", seconds, 30.0)
    moves = options.command in ("upgrade", "downgrade", "redo", "fleet")
    if moves and options.backup == (options.command not in ("upgrade", "fleet")):
        options.backup = _environment("VMPILOT_MIGRATE_BACKUP", switch, None)  # the option was not given


def _environment(name: str, read: Callable[[str], _T], default: _D) -> _T | _D:
    """Return what a variable says; an empty one says nothing."""
    text = os.environ.get(name)
    try:
        return read(text) if text else default
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _refuse(message: str, command: str = "") -> NoReturn:
    """Leave with how a command is used and what was wrong."""
    from . import usage

    usage.say_wrong(message, command)
    raise SystemExit(2)
