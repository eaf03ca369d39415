"""What people type and what they read: every transcript in `transcripts/`, and the README's console blocks, is true.

A transcript is what a terminal would show: `$ ` and a command, `> ` where it goes on, what it printed on both
streams, and `[exit 1]` where it did not end well. An output ends at an empty line; everything else is prose.
What is never the same twice, a time or a duration, is compared as a placeholder.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
README = (ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else ""
PLACEHOLDERS = {
    r"\d+\.\d m?s\b|\d+ ms\b": "N ms",
    r"\d+ bytes\b": "N bytes",
    r"\b20\d{6}T\d{6}\.\d{3}Z\b": "TIME",
    r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d": "YYYY-MM-DD HH:MM:SS",
}

# What stands between the README's console blocks, before the first one below a heading: the migration that its
# sections speak of is broken, mended, put away by an older release, and put back.
DOWN = "migrations/0003_add_title_to_chats.down.sql"
PREPARED = {
    "Try it without touching production": f"""
$ export VMPILOT_DATABASE=app.db
$ scripts/migrate.sh --quiet upgrade 2
$ sed -i s/title/titel/ {DOWN}
""",
    "When a deploy is rolled back": f"""
$ sed -i s/titel/title/ {DOWN}
$ scripts/migrate.sh --quiet upgrade
$ mkdir newer && mv migrations/0003* newer
""",
    "Backups": """
$ mv newer/* migrations
""",
}

PROMPT = re.compile(r"^(?=\$ )", re.MULTILINE)
DEADLINE = 60


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


def replayed(transcript: str, checkout: Path) -> str:
    """Return a transcript with what its commands print now."""
    prose, *pieces = PROMPT.split(transcript)
    commands, rests = zip(*map(parted, pieces), strict=True)
    outputs = ran(commands, checkout)
    shown = (prompted(command) + output for command, output in zip(commands, outputs, strict=True))
    return prose + "".join(said + rest for said, rest in zip(shown, rests, strict=True))


def parted(piece: str) -> tuple[str, str]:
    """Return the command at the start of a piece, and the prose behind its output."""
    matched = re.match(r"\$ (.*\n(?:> .*\n|>\n)*)(?:.+\n)*", piece)
    assert matched, f"no command: {piece}"
    return re.sub(r"(?m)^> ?", "", matched[1]), piece[matched.end() :]


def prompted(command: str) -> str:
    first, *more = command.splitlines()
    return "".join([f"$ {first}\n", *(f"> {line}".rstrip() + "\n" for line in more)])


def ran(commands: tuple[str, ...], checkout: Path) -> Iterator[str]:
    """Run commands in one shell, as they are typed; yield what each printed and how it ended."""
    script = "exec 2>&1\n" + "".join(f"{command}printf '\\036%d\\036' $?\n" for command in commands)
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=checkout,
        env=environment(checkout),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=DEADLINE,
        check=True,
    )
    said = done.stdout.decode().replace(str(checkout.parent), "/home/you").split("\036")
    assert len(said) == 2 * len(commands) + 1, said
    for output, code in zip(said[:-1:2], said[1::2], strict=True):
        yield output + (f"[exit {code}]\n" if code != "0" else "")


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
    assert placeholders(replayed(transcript, checkout)) == placeholders(transcript)


@pytest.mark.skipif(not README, reason="no README.md here")
@pytest.mark.skipif(os.path.isdir("/app/data"), reason="this is a container, with another default database")
def test_the_readme_is_true(checkout: Path) -> None:
    shutil.copytree(ROOT / "migrations", checkout / "migrations")
    story = "".join(told(README))
    assert all(heading in README and commands in story for heading, commands in PREPARED.items())
    now = re.sub(r"(?m)^\[exit \d+\]\n", "", replayed(story, checkout))  # left out there
    assert placeholders(now) == placeholders(story)


def told(readme: str) -> Iterator[str]:
    """Yield the transcript of a README: its console blocks, and its two SQL files being written."""
    files = iter([DOWN.replace(".down.", ".up."), DOWN])
    prepared = dict(PREPARED)
    heading = ""
    for line, language, block in re.findall(r"(?ms)^#+ (.*?)$|^```(\w+)\n(.*?)^```$", readme):
        heading = line or heading
        if language == "console":
            yield prepared.pop(heading, "") + f"\n{block}\n"
        elif language == "sql":
            yield prompted(f"cat > {next(files)} <<'END'\n{block}END\n")
