"""The words on the command line: options stand anywhere, help and README know them all, wrong ones are refused."""

import re
import subprocess
from pathlib import Path
from shutil import copy

import pytest
from support import COMMAND, ROOT, in_process, running, timeless

import vmpilot
from vmpilot.migrate.cli.arguments import parse
from vmpilot.migrate.cli.options import ALL_OPTIONS, OTHER_NAMES, options_of

COMMANDS = {
    *("upgrade", "downgrade", "current", "history", "status", "heads", "stamp", "create", "revision"),
    *("completion", "redo", "renumber", "check", "verify", "schema", "restore", "fleet"),
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
    for words in (["--version"], ["-V"], ["current", "--version"], ["--version", "stamp"]):
        assert in_process(*words) == (0, f"vmpilot {vmpilot.__version__}\n", "")


def test_every_command_is_in_the_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
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


def test_help_is_a_command_too() -> None:
    assert in_process("help") == in_process("--help") == in_process("help", "help")
    for name in COMMANDS:
        for words in (["help", name], ["--json", "help", "-q", name]):
            assert in_process(*words) == in_process(name, "--help")
    assert in_process("help", "upgarde").err.endswith('"upgarde" is not a command; did you mean upgrade?\n')


@pytest.mark.parametrize("columns", ["20", "40", "60", "80", "100", "200"])
def test_help_fits_the_terminal(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for words in (["help"], *(["help", name] for name in COMMANDS)):
        out = in_process(*words).out
        if columns != "20":  # one word can be longer than that
            assert max(map(len, out.splitlines())) <= int(columns)
        flat = " ".join(out.split())
        assert "how long to wait for a lock ($VMPILOT_MIGRATE_TIMEOUT, else 30)" in flat or columns == "20"
    told = "2 wrong usage, 130 and 143 interrupted (SIGINT, SIGTERM)"
    assert told in " ".join(in_process("--help").out.split())


@pytest.mark.parametrize("columns", ["", "0", "-3", "wide", "9" * 5000])
def test_help_without_a_terminal_has_a_usual_width(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = in_process("help").out
    monkeypatch.setenv("COLUMNS", columns)
    with running(*COMMAND, "help", stdout=subprocess.PIPE, COLUMNS=columns) as process:
        assert process.stdout and process.stdout.read() == usual


def test_a_mistyped_word_alone_loads_what_looks_for_the_nearest() -> None:
    script = (
        "import sys; from vmpilot.migrate.cli.arguments import parse; import contextlib\n"
        "parse(['-d', 'x', 'current'])\n"
        "print({'argparse', 'difflib', 're', 'textwrap', 'vmpilot.migrate.cli.usage'} & {*sys.modules})\n"
        "with contextlib.suppress(SystemExit): parse(['upgarde'])\n"
        "print('difflib' in sys.modules)"
    )
    with running("-S", "-c", script, stdout=subprocess.PIPE, COLUMNS="80") as process:
        assert process.communicate()[0] == "set()\nTrue\n"


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("-q", "--quiet"),
        ("-v", "--verbose"),
        ("-d app.db", "--database app.db"),
        ("-qv", "--quiet --verbose"),
    ],
)
def test_options_have_short_names(short: str, long: str) -> None:
    assert parse([*short.split(), "current"]) == parse([*long.split(), "current"])


def test_short_names_may_be_written_together() -> None:
    options = parse(["-qvd", "x.db", "upgrade", "1"])
    assert (options.quiet, options.verbose, options.database, options.target) == (True, True, "x.db", "1")
    assert parse(["revision", "-qm", "x"]).name == ["x"]


def test_a_value_may_stand_in_the_word_of_its_option() -> None:
    for words in (["-d", "x.db"], ["-dx.db"], ["-d=x.db"], ["--database=x.db"], ["-qd", "x.db"], ["-qdx.db"]):
        assert parse(words).database == "x.db"
    for words in (["-d="], ["--database="], ["-d", ""], ["--database", ""]):
        assert parse([*words, "current"]).database == ""


def test_what_begins_with_a_dash_can_be_no_option() -> None:
    assert parse(["downgrade", "-2"]).target == "-2"
    assert parse(["create", "--", "--odd", "-name"]).name == ["--odd", "-name"]
    assert parse(["restore", "-", "--json"]).backup == "-"


def test_an_option_takes_a_value_with_every_command_or_with_none() -> None:
    for command in (*COMMANDS, "upgrade"):
        for option in options_of(OTHER_NAMES.get(command, command)):
            assert {bool(ALL_OPTIONS[name].value) for name in option.names} == {bool(option.value)}


# What the environment says


SWITCH = "expected one of 1, true, yes, on, 0, false, no, off"
WAIT = "expected a number of seconds"


@pytest.mark.parametrize(
    ("text", "backup"),
    [
        *((text, True) for text in ("1", "true", "True", "YES", "on")),
        *((text, False) for text in ("", "0", "false", "FALSE", "No", "off")),
    ],
)
def test_the_environment_asks_for_a_backup(
    text: str, backup: bool, three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_process("upgrade", "1")
    monkeypatch.setenv("VMPILOT_MIGRATE_BACKUP", text)
    assert in_process("upgrade", "2").code == 0
    assert len([*Path().glob("*.bak")]) == backup
    assert in_process("downgrade").code == 0  # which takes one unless it is told not to
    assert len([*Path().glob("*.bak")]) == backup + (backup or not text)
    assert parse(["upgrade", "--backup"]).backup is True
    assert parse(["downgrade", "--no-backup"]).backup is False


def test_the_environment_says_how_long_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, seconds in (("", 30.0), ("5", 5.0), ("0", 0.0), ("0.5", 0.5)):
        monkeypatch.setenv("VMPILOT_MIGRATE_TIMEOUT", text)
        assert parse(["current"]).timeout == seconds
        assert parse(["current", "--timeout", "7"]).timeout == 7.0


@pytest.mark.parametrize(
    ("name", "text", "line", "expected"),
    [
        *(("VMPILOT_MIGRATE_BACKUP", text, "upgrade", SWITCH) for text in ("2", "maybe", "1\r", " ")),
        *(("VMPILOT_MIGRATE_TIMEOUT", text, "upgrade", WAIT) for text in ("30s", "-1", "nan", "inf")),
        *(("VMPILOT_MIGRATE_TIMEOUT", "soon", line, WAIT) for line in ("current", "check", "stamp 1")),
    ],
)
def test_what_the_environment_says_is_checked(
    name: str, text: str, line: str, expected: str, three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, text)
    answer = in_process(*line.split())
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.endswith(f": error: {name}: {expected}, found {text!r}\n")
    assert not Path("app.db").exists()


@pytest.mark.parametrize("form", ["--database=", "--migrations="])
def test_an_empty_name_is_not_the_default(form: str, three: Path) -> None:
    what = form.strip("-=")
    told = f"error: the path of the {what} is empty; nothing was changed\n"
    for line in ("current", "upgrade", "history", "check", "verify --on-copy", "stamp base"):
        assert in_process(*line.split(), form) == (1, "", told)
    assert not Path("app.db").exists()


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


ONE_OF = "expected one of upgrade, downgrade, redo, current, history, heads, stamp, create, renumber, check, verify, schema, restore, fleet, completion"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "nonsense",
            f'"nonsense" is not a command; {ONE_OF}',
        ),
        ("upgrade 1 2", "unrecognized arguments: 2"),
        ("upgrade --bogus", "unrecognized arguments: --bogus"),
        ("upgrade --data app.db", "unrecognized arguments: --data; did you mean --database?"),
        ("upgarde", '"upgarde" is not a command; did you mean upgrade?'),
        ("UPGRADE", '"UPGRADE" is not a command; did you mean upgrade?'),
        ("down", '"down" is not a command; did you mean downgrade?'),
        ("revison -m x", '"revison" is not a command; did you mean revision?'),
        ("postgres://me:secret@host", f'"postgres://..." is not a command; {ONE_OF}'),
        ("--dryrun", "unrecognized arguments: --dryrun; did you mean --dry-run?"),
        ("upgrade --dryrun=1", "unrecognized arguments: --dryrun; did you mean --dry-run?"),
        ("--databse x upgrade", "unrecognized arguments: --databse; did you mean --database?"),
        ("--databse=secret upgrade", "unrecognized arguments: --databse; did you mean --database?"),
        ("current --databse secret", "unrecognized arguments: --databse; did you mean --database?"),
        ("--quiet --migration x heads", "unrecognized arguments: --migration; did you mean --migrations?"),
        ("-D x upgrade", "unrecognized arguments: -D"),
        ("upgrade --x\x1b[2J", "unrecognized arguments: --x\\x1b[2J"),
        ("upgrade 1 \ud800\udcff", "unrecognized arguments: U+D800\\xff"),
        ("-q x upgrade", f'"x" is not a command; {ONE_OF}'),
        ("current postgres://me:secret@host", "unrecognized arguments: postgres://..."),
        ("current -- x", "unrecognized arguments: x"),
        ("current --json=1", "argument --json: expected no argument"),
        ("upgrade -migrations x", "unrecognized arguments: -migrations; did you mean --migrations?"),
        ("current -d", "argument -d/--database: expected one argument"),
        ("current -d --json", "argument -d/--database: expected one argument"),
        ("upgrade --sql --dry-run", "argument --dry-run: not allowed with argument --sql"),
        ("stamp", "the following arguments are required: TARGET"),
        ("create", "the following arguments are required: NAME"),
        ("revision --quiet", "the following arguments are required: NAME"),
        ("restore a.bak b.bak", "unrecognized arguments: b.bak"),
        ("current --timeout", "argument --timeout: expected one argument"),
        ("-d -x.db upgrade", '-d: a name that begins with "-" is written --database=-x.db'),
        ("upgrade -qd -x.db", '-d: a name that begins with "-" is written --database=-x.db'),
        ("heads --migrations --x", '--migrations: a name that begins with "-" is written --migrations=--x'),
        ("heads -d", "argument -d/--database: expected one argument"),
        ("heads -d --json", "argument -d/--database: expected one argument"),
        ("current --timeout soon", "argument --timeout: expected a number of seconds, found 'soon'"),
        ("current --timeout -1", "argument --timeout: expected a number of seconds, found '-1'"),
        ("current --timeout nan", "argument --timeout: expected a number of seconds, found 'nan'"),
        ("current --timeout inf", "argument --timeout: expected a number of seconds, found 'inf'"),
        ("verify --connect app", "argument --connect: expected MODULE:FUNCTION, found 'app'"),
        ("verify --connect :connect", "argument --connect: expected MODULE:FUNCTION, found ':connect'"),
        ("check --wait long", "argument --wait: expected a number of seconds, found 'long'"),
    ],
)
def test_wrong_usage(three: Path, line: str, message: str) -> None:
    answer = in_process(*line.split())
    assert (answer.code, answer.out) == (2, "")
    usage, _, said = answer.err.rstrip("\n").rpartition("\n")
    assert usage.startswith("usage: python3 -m vmpilot.migrate ")
    assert re.sub(r"^python3 -m vmpilot\.migrate( \w+)?: error: ", "", said) == message
    assert not Path("app.db").exists()
