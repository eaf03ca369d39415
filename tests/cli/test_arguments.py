"""The words on the command line: options stand anywhere, help and README know them all, wrong ones are refused."""

import re
from pathlib import Path
from shutil import copy

import pytest
from support import ROOT, in_process, timeless

import vmpilot
from vmpilot.migrate.cli.arguments import parse

COMMANDS = {
    *("upgrade", "downgrade", "current", "history", "status", "heads", "stamp", "create", "revision"),
    *("check", "verify", "restore"),
}


def test_options_stand_before_or_after_the_command(three: Path) -> None:
    options = ["--timeout", "5", "-d", "other.db", "--migrations", "migrations", "--verbose"]
    for line in ("upgrade 2", "history", "current", "downgrade -1", "stamp head", "heads"):
        words = line.split()
        extra = ["--no-backup"] if words[0] == "downgrade" else []
        if Path("other.db").exists():
            copy("other.db", "kept.db")
        answers = set()
        for arguments in (
            [*options, *extra, *words],
            [*words, *options, *extra],
            [words[0], *options, *extra, *words[1:]],
            [*extra, *options[:4], words[0], *options[4:], *words[1:]],
        ):
            answers.add(re.sub(r" +N ms", "", timeless("\n".join(map(str, in_process(*arguments))))))
            if Path("kept.db").exists():
                copy("kept.db", "other.db")
            else:
                Path("other.db").unlink()
        assert len(answers) == 1, answers
        assert in_process(*words, *options, *extra).code == 0
    assert not Path("app.db").exists()


def test_a_lock_is_waited_for_half_a_minute_unless_told_otherwise() -> None:
    for words in (["upgrade"], ["check"], ["stamp", "1"], ["restore", "x"]):
        assert parse(words).timeout == 30.0


def test_version() -> None:
    for words in (["--version"], ["current", "--version"], ["--version", "stamp"]):
        assert in_process(*words) == (0, f"vmpilot {vmpilot.__version__}\n", "")


def test_every_command_is_in_the_help() -> None:
    for words in (["--help"], ["-h"], ["--json", "--help"]):
        answer = in_process(*words)
        assert (answer.code, answer.err) == (0, "")
        table = answer.out.partition("\ncommands ")[2].partition("\n\n")[0]
        lines = table.splitlines()[1:]
        assert {line.split()[0].rstrip(",") for line in lines} <= COMMANDS
        assert {word for line in lines for word in re.findall("[a-z]+", line)} >= COMMANDS


def test_every_command_has_help() -> None:
    for name in COMMANDS:
        for words in ([name, "--help"], ["-h", name]):
            answer = in_process(*words)
            assert (answer.code, answer.err) == (0, "")
            shown = set(re.findall(r"--[a-z-]+", answer.out))
            assert shown >= {"--database", "--migrations", "--timeout", "--json", "--quiet", "--verbose"}


@pytest.fixture
def words() -> set[str]:
    """All commands and all their options."""
    shown = "".join(in_process(name, "--help").out for name in COMMANDS)
    return COMMANDS | {*re.findall(r"--[a-z]+(?:-[a-z]+)*", shown)} - {"--help", "--message", "--version"}


@pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="no README.md here")
def test_every_command_and_option_is_in_the_readme(words: set[str]) -> None:
    text = (ROOT / "README.md").read_text()
    assert [word for word in words if not re.search(rf"`[^`\n]*(?<![\w-]){word}(?![\w-])", text)] == []


def test_every_command_and_option_is_in_a_transcript(words: set[str]) -> None:
    files = (Path(__file__).parent / "transcripts").glob("*.txt")
    lines = "".join(path.read_text() for path in files).splitlines()
    typed = "\n".join(line for line in lines if "scripts/migrate.sh" in line)
    assert [word for word in words if not re.search(rf"(?<![\w-]){word}(?![\w-])", typed)] == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "nonsense",
            '"nonsense" is not a command; expected one of upgrade, downgrade, current, history, heads, '
            "stamp, create, check, verify, restore",
        ),
        ("upgrade 1 2", "unrecognized arguments: 2"),
        ("upgrade --bogus", "unrecognized arguments: --bogus"),
        ("upgrade --data app.db", "unrecognized arguments: --data"),
        ("upgrade --sql --dry-run", "argument --dry-run: not allowed with argument --sql"),
        ("stamp", "the following arguments are required: TARGET"),
        ("create", "the following arguments are required: NAME"),
        ("revision --quiet", "the following arguments are required: NAME"),
        ("restore a.bak b.bak", "unrecognized arguments: b.bak"),
        ("current --timeout", "argument --timeout: expected one argument"),
        ("current --timeout soon", "argument --timeout: expected a number of seconds, found 'soon'"),
        ("current --timeout -1", "argument --timeout: expected a number of seconds, found '-1'"),
        ("current --timeout nan", "argument --timeout: expected a number of seconds, found 'nan'"),
        ("current --timeout inf", "argument --timeout: expected a number of seconds, found 'inf'"),
        ("verify --connect app", "argument --connect: expected MODULE:FUNCTION, found 'app'"),
        ("verify --connect :connect", "argument --connect: expected MODULE:FUNCTION, found ':connect'"),
        ("upgrade --connect app:connect", "--connect goes with --dry-run only"),
        ("--connect app:connect downgrade --no-backup", "--connect goes with --dry-run only"),
        ("current --connect app:connect", "unrecognized arguments: --connect app:connect"),
        ("check --wait long", "argument --wait: expected a number of seconds, found 'long'"),
    ],
)
def test_wrong_usage(three: Path, line: str, message: str) -> None:
    answer = in_process(*line.split())
    assert (answer.code, answer.out) == (2, "")
    usage, _, said = answer.err.rstrip("\n").rpartition("\n")
    assert usage.startswith("usage: python -m vmpilot.migrate ")
    assert re.sub(r"^python -m vmpilot\.migrate( \w+)?: error: ", "", said) == message
    assert not Path("app.db").exists()
