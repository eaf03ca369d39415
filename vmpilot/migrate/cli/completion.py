"""The table of commands and options as a shell's completion sees it."""

from __future__ import annotations

import os

from ..errors import VersionError
from ..run.paste import is_script, program
from ..tools.completion import SHELLS, Command, Option, Program
from . import options
from .options import COMMANDS, OTHER_NAMES, options_of

_VALUES = {"--database": "file", "--migrations": "directory"}
_TAKES = {"TARGET": "target", "BACKUP": "file", "PATTERN": "file"}


def script(shell: str, migrations: str) -> str:
    """Return the script for a shell; raise VersionError for one that is not known.

    `migrations` is where they lie unless the line that is completed says otherwise.
    """
    if shell not in SHELLS:
        raise VersionError(f'"{shell}" is no shell that is known here: expected {", ".join(SHELLS)}')
    # Python's own completion is no business of ours: what runs as a module is completed as the command.
    name = os.path.basename(program()) if is_script() else "vmpilot-migrate"
    commands = tuple(map(_command, COMMANDS))
    return SHELLS[shell](Program(name, program(), commands, os.path.abspath(migrations)))


def _command(name: str) -> Command:
    described = COMMANDS[name]
    names = (name, *(other for other, known in OTHER_NAMES.items() if known == name))
    takes = "migration" if name == "renumber" else _TAKES.get(described.takes.strip("[]."), "")
    words = tuple(SHELLS) if name == "completion" else ()
    return Command(names, described.help, takes, tuple(map(_option, options_of(name))), words)


def _option(option: options.Option) -> Option:
    value = _VALUES.get(option.names[-1], "other") if option.value else ""
    return Option(tuple(option.names), option.help, value)
