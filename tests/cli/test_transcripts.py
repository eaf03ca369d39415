"""What people type and what they read: every transcript in `transcripts/`, and the README's console blocks, is true.

A transcript is what a terminal would show: `$ ` and a command, `> ` where it goes on, what it printed on both
streams, and `[exit 1]` where it did not end well. An output ends at an empty line; everything else is prose.
What is never the same twice, a time or a duration, is compared as a placeholder.

One transcript and the README run as they are typed, in a shell, by `scripts/migrate.sh`. The others would pay
for a start of Python per command and learn nothing new by it: their commands run in this process, but for
those that need a shell. With `--full`, all run as they are typed.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryFile

import pytest
from support import ROOT

from vmpilot.migrate.cli.commands import main

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
README = (ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else ""
PLACEHOLDERS = {
    r"(?:\b\d+\.\d m?s|\b\d+ ms|N ms)  +": "N ms  ",
    r"\d+\.\d m?s\b|\d+ ms\b": "N ms",
    r"\b\d+\.\d{3} s\b": "N s",
    r"\d+ bytes\b": "N bytes",
    r"\b20\d{6}T\d{6}\.\d{3}Z\b": "TIME",
    r"20\d\d-\d\d-\d\d \d\d:\d\d UTC": "YYYY-MM-DD HH:MM UTC",
}

# What stands between the README's console blocks, before the first one below a heading: the migration that its
# sections speak of is broken, mended, put away by an older release, and put back.
FIRST = "Your first migration"
DOWN = "migrations/0003_add_title_to_chats.down.sql"
PREPARED = {
    "Try it without touching production": f"""
$ export VMPILOT_DATABASE=app.db
$ scripts/migrate.sh --quiet upgrade 2
$ sed -i s/title/titel/ {DOWN}
""",
    "When a release goes back": f"""
$ sed -i s/titel/title/ {DOWN}
$ scripts/migrate.sh --quiet upgrade
$ mkdir newer && mv migrations/0003* newer
""",
    "Squash an old history": """
$ cp app.db unsquashed.db
""",
    "Many databases": """
$ mkdir tenants
$ for name in bee cat; do scripts/migrate.sh -q -d tenants/$name.db upgrade 1; done
$ scripts/migrate.sh -q -d tenants/ant.db
$ echo 'This is no database.' > tenants/dog.db
""",
    "From and to other tools": """
$ mkdir theirs
$ echo 'CREATE TABLE users (id INTEGER PRIMARY KEY);' > theirs/0001_users.up.sql
$ echo 'DROP TABLE users;' > theirs/0001_users.down.sql
$ python3 -c 'import sqlite3; sqlite3.connect("theirs.db").executescript(
> "CREATE TABLE users (id INTEGER PRIMARY KEY); CREATE TABLE schema_migrations (version TEXT)")'
""",
    "Backups": """
$ mv unsquashed.db app.db
$ mv newer/* migrations
""",
}

PROMPT = re.compile(r"^(?=\$ )", re.MULTILINE)
DEADLINE = 60

# The one that tells where the migrations lie that ship with a checkout: it needs the script.
TYPED = "where"
SCRIPT = "scripts/migrate.sh"
# A command whose words mean to a shell what they mean to shlex.
PLAIN = re.compile(r"(?:\w+=\S* )*scripts/migrate\.sh(?: [^\n|&;<>()$`*?\[\\]*)?\n")

Runner = Callable[[tuple[str, ...], Path], Iterator[str]]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of one's own in a home of one's own, where a transcript's commands run."""
    folder = tmp_path / "home" / "checkout"
    folder.mkdir(parents=True)
    (folder / "vmpilot").symlink_to(ROOT / "vmpilot")
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    return folder


def placeholders(text: str) -> str:
    for pattern, placeholder in PLACEHOLDERS.items():
        text = re.sub(pattern, placeholder, text)
    return text


def replayed(transcript: str, checkout: Path, ran: Runner) -> str:
    """Return a transcript with what its commands print now."""
    prose, *pieces = PROMPT.split(transcript)
    commands, rests = zip(*map(parted, pieces), strict=True)
    now = zip(map(prompted, commands), ran(commands, checkout), rests, strict=True)
    return prose + "".join(map("".join, now))


def parted(piece: str) -> tuple[str, str]:
    """Return the command at the start of a piece, and the prose behind its output."""
    matched = re.match(r"\$ (.*\n(?:> .*\n|>\n)*)(?:.+\n)*", piece)
    assert matched, f"no command: {piece}"
    return re.sub(r"(?m)^> ?", "", matched[1]), piece[matched.end() :]


def prompted(command: str) -> str:
    first, *more = command.splitlines()
    return "".join([f"$ {first}\n", *(f"> {line}".rstrip() + "\n" for line in more)])


def typed(commands: tuple[str, ...], checkout: Path) -> Iterator[str]:
    """Run commands in one shell, as they are typed; yield what each printed and how it ended."""
    script = "exec 2>&1\n" + "".join(f"{command}printf '\\036%d\\036' $?\n" for command in commands)
    said = shell(script, checkout, environment(checkout)).stdout.split("\036")
    assert len(said) == 2 * len(commands) + 1, said
    for output, code in zip(said[:-1:2], said[1::2], strict=True):
        yield shown(output, int(code), checkout)


def called(commands: tuple[str, ...], checkout: Path) -> Iterator[str]:
    """Do the same, with a shell only for those commands that need one."""
    variables = environment(checkout)
    for command in commands:
        assert not command.startswith("cd "), f"would be forgotten at the next command: {command}"
        if command.startswith("export "):
            variables |= dict(word.split("=", 1) for word in shlex.split(command)[1:])
            yield ""
        elif PLAIN.fullmatch(command):
            yield shown(*migrated(shlex.split(command), checkout, variables), checkout)
        else:
            done = shell(f"exec 2>&1\n{command}", checkout, variables)
            yield shown(done.stdout, done.returncode, checkout)


def migrated(words: list[str], checkout: Path, variables: dict[str, str]) -> tuple[str, int]:
    """Run the migrator here; return what it printed, in the order in which it left, and its exit code."""
    at = words.index(SCRIPT)
    own = dict(word.split("=", 1) for word in words[:at])
    with in_surroundings(checkout, variables | own), TemporaryFile() as printed:
        # Like the streams of a process: one waits until its buffer is full, the other one for a line.
        with (
            open(os.dup(printed.fileno()), "w", encoding="utf-8") as out,
            open(os.dup(printed.fileno()), "w", 1, encoding="utf-8") as err,
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            try:
                code = main(words[at + 1 :])
            except SystemExit as leaving:  # help and wrong usage
                code = int(leaving.code or 0)
        printed.seek(0)
        return printed.read().decode(), code


@contextmanager
def in_surroundings(folder: Path, variables: dict[str, str]) -> Iterator[None]:
    """Stand in a folder, with these variables and no others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in os.environ.keys() - variables.keys():
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", [SCRIPT])
        time.tzset()
        yield
    time.tzset()


def shell(script: str, checkout: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script in a shell of its own."""
    return subprocess.run(
        ["sh", "-c", script],
        cwd=checkout,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        timeout=DEADLINE,
        check=False,
    )


def shown(output: str, code: int, checkout: Path) -> str:
    """Return what a terminal shows of a command in the home of `you`."""
    return output.replace(str(checkout.parent), "/home/you") + (f"[exit {code}]\n" if code else "")


def environment(checkout: Path) -> dict[str, str]:
    python = os.path.dirname(sys.executable)
    return {
        "PATH": f"{python}:{os.environ['PATH']}",
        "HOME": str(checkout.parent),
        "TZ": "UTC0",
        "LC_ALL": "C.UTF-8",
    }


def test_there_are_transcripts_and_none_is_empty() -> None:
    assert len(TRANSCRIPTS) > 8
    assert [path.name for path in TRANSCRIPTS if not PROMPT.search(path.read_text())] == []


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_is_true(path: Path, checkout: Path) -> None:
    transcript = path.read_text()
    ran = typed if path.stem == TYPED else called
    assert placeholders(replayed(transcript, checkout, ran)) == placeholders(transcript)


@pytest.mark.full
@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_is_true_as_it_is_typed(path: Path, checkout: Path) -> None:
    transcript = path.read_text()
    assert placeholders(replayed(transcript, checkout, typed)) == placeholders(transcript)


@pytest.mark.skipif(not README, reason="no README.md here")
@pytest.mark.skipif(os.path.isdir("/app/data"), reason="this is a container, with another default database")
def test_the_readme_is_true(checkout: Path) -> None:
    shutil.copytree(ROOT / "migrations", checkout / "migrations")
    story = "".join(told(README))
    assert all(heading in README and commands in story for heading, commands in PREPARED.items())
    now = re.sub(r"(?m)^\[exit \d+\]\n", "", replayed(story, checkout, typed))  # left out there
    assert placeholders(now) == placeholders(story)


def told(readme: str) -> Iterator[str]:
    """Yield the transcript of a README: its console blocks, and the two files of the first migration being written."""
    files = iter([DOWN.replace(".down.", ".up."), DOWN])
    prepared = dict(PREPARED)
    heading = ""
    for line, language, block in re.findall(r"(?ms)^#+ (.*?)$|^```(\w+)\n(.*?)^```$", readme):
        heading = line or heading
        if language == "console":
            yield prepared.pop(heading, "") + f"\n{block}\n"
        elif language == "sql" and heading == FIRST:
            yield prompted(f"cat > {next(files)} <<'END'\n{block}END\n")


@pytest.mark.skipif(not README, reason="no README.md here")
def test_the_contents_of_the_readme_name_all_that_follows_and_no_link_leads_nowhere() -> None:
    before, _, contents = README.partition("\n**Contents**: ")
    contents, _, after = contents.partition("\n\n")
    headings = re.findall(r"(?ms)^(#+) (.*?)$|^```.*?^```$", after)
    anchors = {
        re.sub(r"[^\w -]", "", text).lower().replace(" ", "-"): level for level, text in headings if level
    }
    assert re.findall(r"\]\(#(.*?)\)", contents) == [name for name, level in anchors.items() if level == "##"]
    assert set(re.findall(r"\]\(#(.*?)\)", README)) - anchors.keys() == set()
    assert re.findall(r"(?m)^## (.*)$", before) == ["Sixty seconds"]
