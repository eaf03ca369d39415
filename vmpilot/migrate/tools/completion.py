"""What completes a command line in bash, zsh and fish: a script that the shell reads once.

Values in, text out: which commands and options there are is told by the caller. The scripts start nothing, so
that a key press costs nothing; versions are read from the names of files. Names of files are never evaluated.
"""

from collections.abc import Callable, Iterable, Sequence
from shlex import quote
from typing import NamedTuple

_TARGETS = ("head", "base")


class Option(NamedTuple):
    """An option: its names, its help, and its value: "file", "directory", "other", or "" for none."""

    names: tuple[str, ...]
    help: str
    value: str


class Command(NamedTuple):
    """A command: all its names, what help says of it, what it takes, and its options.

    It takes a "target", a "migration", a "file", one of some `words`, or "" for what nobody can complete.
    """

    names: tuple[str, ...]
    help: str
    takes: str
    options: tuple[Option, ...]
    words: tuple[str, ...] = ()


class Program(NamedTuple):
    """The program that is completed: its name, how it was started, its commands, where its migrations lie."""

    name: str
    started: str
    commands: tuple[Command, ...]
    migrations: str


def bash(program: Program) -> str:
    """Return the script for bash 3.2 and newer."""
    return _sh(program, _BASH)


def zsh(program: Program) -> str:
    """Return the script for zsh, which does by its own names what bash does."""
    return _sh(program, _ZSH)


def fish(program: Program) -> str:
    """Return the script for fish 3 and newer."""
    name = quote(program.name)
    lines = [
        _FISH.format(
            name=program.name,
            started=program.started,
            valued=" ".join(_valued(program)),
            migrations=quote(program.migrations),
        )
    ]
    lines.append(f"complete -c {name} -f")
    for command in program.commands:
        for each in command.names:
            lines.append(
                f"complete -c {name} -n 'not __vmpilot_migrate_command' -a {each} -d {quote(command.help)}"
            )
        here = f"-n '__vmpilot_migrate_is {' '.join(command.names)}'"
        given = _FISH_TAKES.get(command.takes) or (quote(" ".join(command.words)) if command.words else "")
        lines += [f"complete -c {name} {here} -a {given}"] * bool(given)
        lines += [f"complete -c {name} {here} {_fish_option(option)}" for option in command.options]
    none = f"complete -c {name} -n 'not __vmpilot_migrate_command'"
    lines += [f"{none} {_fish_option(option)}" for option in _common(program)]
    return "\n".join(lines) + "\n"


SHELLS: dict[str, Callable[[Program], str]] = {"bash": bash, "zsh": zsh, "fish": fish}


def _valued(program: Program, *values: str) -> list[str]:
    """Return the names of all options with a value, or with one of these."""
    options = (option for command in program.commands for option in command.options)
    wanted = (option for option in options if (option.value in values if values else option.value))
    return sorted({name for option in wanted for name in option.names})


def _sh(program: Program, template: str) -> str:
    return template.format(
        name=program.name,
        started=program.started,
        migrations=quote(program.migrations),
        commands=" ".join(name for command in program.commands for name in command.names),
        valued="|".join(_valued(program)),
        files="|".join(_valued(program, "file")) or "-",
        directories="|".join(_valued(program, "directory")) or "-",
        others="|".join(_valued(program, "other")) or "-",
        common=" ".join(_option_names(_common(program))),
        options="\n".join(_case(each, _option_names(each.options)) for each in program.commands),
        words="\n".join(_case(each, each.words) for each in program.commands if each.words),
        targets=_either(program, "target"),
        stems=_either(program, "migration"),
        paths=_either(program, "file"),
    )


def _common(program: Program) -> list[Option]:
    """Return the options that stand with every command, and so before it."""
    first, *others = program.commands
    return [option for option in first.options if all(option in other.options for other in others)]


def _option_names(options: Iterable[Option]) -> list[str]:
    return [name for option in options for name in option.names]


def _either(program: Program, takes: str) -> str:
    return (
        "|".join(name for command in program.commands if command.takes == takes for name in command.names)
        or "-"
    )


def _case(command: Command, words: Sequence[str]) -> str:
    return f"    {'|'.join(command.names)}) given='{' '.join(words)}' ;;"


def _fish_option(option: Option) -> str:
    told = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    if option.value:
        told.append(
            {"file": "-r -F", "directory": "-x -a '(__fish_complete_directories)'"}.get(option.value, "-x")
        )
    return " ".join((*told, "-d", quote(option.help)))


_FISH_TAKES = {
    "target": f'\'{" ".join(_TARGETS)} (__vmpilot_migrate_stems | string replace -r "[^0-9].*" "")\'',
    "migration": "'(__vmpilot_migrate_stems)'",
    "file": "'(__fish_complete_path (commandline -ct))'",
}

# In bash and zsh: `typed` are the words before the one that is completed, `current`; not the program.
_LOOK = """\
    local word wants='' command='' directory=${{VMPILOT_MIGRATIONS:-{migrations}}} given='' file
    for word in "${{typed[@]}}"; do
        case $wants in
        --migrations) directory=$word wants='' ; continue ;;
        ?*) wants='' ; continue ;;
        esac
        case $word in
        --migrations=*) directory=${{word#*=}} ;;
        {valued}) wants=$word ;;
        -*) ;;
        *) command=${{command:-$word}} ;;
        esac
    done
    case $directory in
    '~/'*) directory=$HOME/${{directory#??}} ;;
    esac
"""
_WORDS = """\
    case $command in
{words}
    esac
    fi
    case $current in
    -*)
    given='{common}'
    case $command in
{options}
    esac
    ;;
    esac
"""
_BASH = (
    """\
# Completion for {name} in bash. To have it in this shell: eval "$({started} completion bash)"
_vmpilot_migrate() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} index word
    local -a typed
    typed=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${{COMP_WORDS[index]//\\/}}
        [ "$word" = = ] || typed+=("$word")  # bash takes --option=value for three words
    done
    [ "$current" != = ] || current=''
"""
    + _LOOK
    + """\
    COMPREPLY=()
    case $wants in
    {files}) _vmpilot_migrate_paths -f "$current"; return ;;
    {directories}) _vmpilot_migrate_paths -d "$current"; return ;;
    {others}) return ;;
    esac
    if [ -z "$command" ]; then
        given='{commands} help'
    else
        case $command in
        help) given='{commands}' ;;
        {targets})
            given='head base'
            for file in "$directory"/[0-9]*.up.sql; do
                file=${{file##*/}}
                given="$given ${{file%%[!0-9]*}}"
            done
            ;;
        {stems})
            for file in "$directory"/[0-9]*.up.sql; do
                file=${{file##*/}}
                file=${{file%.up.sql}}
                case $file in
                "$current"*) COMPREPLY+=("$(printf %q "$file")") ;;
                esac
            done
            ;;
        {paths}) _vmpilot_migrate_paths -f "$current" ;;
        esac
"""
    + _WORDS
    + """\
    COMPREPLY+=($(compgen -W "$given" -- "$current"))
}}
_vmpilot_migrate_paths() {{
    local file
    compopt -o filenames 2>/dev/null
    while IFS= read -r file; do
        COMPREPLY+=("$file")
    done < <(compgen "$1" -- "$2")
}}
complete -F _vmpilot_migrate {name}
"""
)
_ZSH = (
    """\
#compdef {name}
# Completion for {name} in zsh. To have it in this shell: eval "$({started} completion zsh)"
_vmpilot_migrate() {{
    local current=${{words[CURRENT]}}
    local -a typed all
    typed=("${{(@Q)words[2,CURRENT-1]}}")
"""
    + _LOOK
    + """\
    case $wants in
    {files}) _files; return ;;
    {directories}) _files -/; return ;;
    {others}) return ;;
    esac
    if [[ -z $command ]]; then
        given='{commands} help'
    else
        case $command in
        help) given='{commands}' ;;
        {targets})
            given='head base'
            for file in $directory/[0-9]*.up.sql(N); do
                file=${{file:t}}
                given+=" ${{file%%[!0-9]*}}"
            done
            ;;
        {stems})
            for file in $directory/[0-9]*.up.sql(N); do
                all+=("${{${{file:t}}%.up.sql}}")
            done
            ;;
        {paths}) _files ;;
        esac
"""
    + _WORDS
    + """\
    compadd -- ${{=given}} "${{all[@]}}"
}}
compdef _vmpilot_migrate {name}
"""
)
_FISH = """\
# Completion for {name} in fish. To have it in this shell: {started} completion fish | source
function __vmpilot_migrate_typed
    set -l wants ''
    for word in (commandline -opc)[2..-1]
        if test -n "$wants"
            set wants ''
        else if contains -- $word {valued}
            set wants $word
        else if not string match -q -- '-*' $word
            echo $word
            return
        end
    end
end
function __vmpilot_migrate_command
    set -l command (__vmpilot_migrate_typed)
    test -n "$command"
end
function __vmpilot_migrate_is
    set -l command (__vmpilot_migrate_typed)
    test -n "$command"; and contains -- $command $argv
end
function __vmpilot_migrate_stems
    set -l directory {migrations}
    test -n "$VMPILOT_MIGRATIONS"; and set directory $VMPILOT_MIGRATIONS
    set -l words (commandline -opc)
    for index in (seq (count $words))
        if test "$words[$index]" = --migrations
            set directory $words[(math $index + 1)]
        else if string match -q -- '--migrations=*' $words[$index]
            set directory (string replace -- '--migrations=' '' $words[$index])
        end
    end
    for file in $directory/*.up.sql
        string match -r '[0-9][^/]*$' $file | string replace -r '\\\\.up\\\\.sql$' ''
    end
end"""
