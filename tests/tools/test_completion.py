"""Proves what completes a command line in real shells; those that are not installed are skipped."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import in_process, write

ASKED = {
    "bash": 'read -ra COMP_WORDS <<<"$0"; case $0 in *" ") COMP_WORDS+=("") ;; esac; COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); '
    'eval "$SCRIPT"; _vmpilot_migrate; printf "%s\\n" "${COMPREPLY[@]}"',
    # What a completion calls, outside of one: it says what it would offer, and needs zsh as it is in one.
    "zsh": 'compdef() { : }; compadd() { shift; print -l -- "$@" }; setopt extended_glob; _files() { print -l -- *(#qN) }; words=("${(@s: :)0}"); '
    'CURRENT=$#words; eval "$SCRIPT"; _vmpilot_migrate',
    "fish": 'echo $SCRIPT | source; complete -C "$LINE"',
}
OTHERS = {"bash": [], "zsh": ["-f"], "fish": ["--no-config"]}


@pytest.fixture(autouse=True)
def files(migrations: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(migrations.parent)
    monkeypatch.delenv("VMPILOT_MIGRATIONS", raising=False)
    for stem in ("0001_a", "0002_b c", "0010"):
        write(migrations, stem, "")
    write(migrations, "0003_$(touch evil)", "")
    (migrations.parent / "other").mkdir()
    write(migrations.parent / "other", "7_x", "")
    return migrations


def offered(shell: str, line: str, *, migrations: str = "migrations", **environment: str) -> list[str]:
    """Return what a shell offers for the last word of a line."""
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    said = in_process("completion", shell, "--migrations", migrations)
    assert (said.code, said.err) == (0, "")
    command = [shell, *OTHERS[shell], "-c", ASKED[shell]] + ([line] if shell != "fish" else [])
    surroundings = {**os.environ, "SCRIPT": said.out, "LINE": line, **environment}
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    last = line.rpartition(" ")[2]
    found = (text.partition("\t")[0].rstrip("/") for text in done.stdout.splitlines())
    assert not Path("evil").exists()
    return sorted({text for text in found if text.startswith(last)})


SHELLS = pytest.mark.parametrize("shell", ASKED)
VERSIONS = ["0001", "0002", "0003", "0010", "base", "head"]
LINES = {
    "vmpilot-migrate do": ["downgrade"],
    "vmpilot-migrate re": ["redo", "renumber", "restore", "revision"],
    "vmpilot-migrate upgrade ": VERSIONS,
    "vmpilot-migrate -d app.db --timeout 3 downgrade ": VERSIONS,
    "vmpilot-migrate stamp 000": ["0001", "0002", "0003"],
    "vmpilot-migrate schema --migrations other ": ["7", "base", "head"],
    "vmpilot-migrate schema --mer": ["--mermaid"],
    "vmpilot-migrate downgrade --no": ["--no-backup"],
    "vmpilot-migrate status --js": ["--json"],
    "vmpilot-migrate completion ": ["bash", "fish", "zsh"],
    "vmpilot-migrate heads 0": [],
    "vmpilot-migrate -d mig": ["migrations"],
    "vmpilot-migrate restore oth": ["other"],
    "vmpilot-migrate --mi": ["--migrations"],
    "vmpilot-migrate upgrade --timeout 0": [],
}


@SHELLS
def test_commands_options_and_versions_are_offered(shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    assert {line: offered(shell, line) for line in LINES} == LINES


@SHELLS
def test_the_environment_says_where_the_versions_are(shell: str) -> None:
    assert offered(shell, "vmpilot-migrate upgrade ", VMPILOT_MIGRATIONS="other") == ["7", "base", "head"]


@SHELLS
def test_migrations_are_offered_by_their_names_which_are_not_evaluated(shell: str) -> None:
    assert offered(shell, "vmpilot-migrate renumber 0001") == ["0001_a"]
    assert len(offered(shell, "vmpilot-migrate renumber 0003")) == 1


@SHELLS
def test_a_directory_without_files_offers_what_is_left(shell: str) -> None:
    assert offered(shell, "vmpilot-migrate upgrade ", migrations="it's no place") == ["base", "head"]


@pytest.mark.parametrize("shell", ["tcsh", "", "bash; touch x"])
def test_another_shell_is_refused(shell: str) -> None:
    said = in_process("completion", shell)
    told = f'"{shell}" is no shell that is known here: expected bash, zsh, fish'
    expected = (1, "", f"error: {told}\n") if shell else (2, "", said.err)
    assert (said.code, said.out, said.err) == expected
