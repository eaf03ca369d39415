"""A command in a message, pasted into another shell in another directory, acts on the database it speaks of."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from support import ROOT, query

from vmpilot.migrate import VersionError, migrate
from vmpilot.migrate.run.paste import command

SCRIPT = ROOT / "scripts" / "migrate.sh"
WAYS = {
    "by Python": [sys.executable, "-m", "vmpilot.migrate"],
    "by Python with options": [sys.executable, "-P", "-B", "-m", "vmpilot.migrate"],
    "by the script": [str(SCRIPT)],
    "by a shell": ["sh", str(SCRIPT)],
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to paste in, beside one with a space in its name to work in; nothing is named by variables."""
    for name in ("VMPILOT_DATABASE", "VMPILOT_MIGRATIONS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    work, other = tmp_path / "my work", tmp_path / "other"
    for folder in (work, other):
        folder.mkdir()
    monkeypatch.chdir(work)
    return other


def said(words: Iterable[str], folder: str | Path = ".", **environment: str) -> str:
    done = subprocess.run(
        list(words),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def pasted(message: str, folder: Path) -> str:
    return said(["sh", "-c", message.rpartition("run: ")[2]], folder)


@pytest.mark.parametrize("way", WAYS)
def test_a_command_acts_where_it_is_pasted(way: str, elsewhere: Path) -> None:
    shutil.copytree(ROOT / "migrations", "it's here")
    where = ["--migrations", "it's here", "-d", "app $HOME.db"]
    said([*WAYS[way], "--quiet", *where])
    message = said([*WAYS[way], "upgrade", "1", *where]).rstrip()
    assert "undone 0002" in pasted(message, elsewhere)
    assert query(Path("app $HOME.db"), "SELECT version_num FROM alembic_version") == [("57dc007f6d46",)]
    assert os.listdir(elsewhere) == [] and not os.path.exists(os.environ["HOME"])


@pytest.mark.parametrize("way", WAYS)
def test_the_program_is_written_as_it_was_started(way: str) -> None:
    message = said([*WAYS[way], "check", "-d", "app.db"]).rstrip()
    place = shlex.quote(os.path.abspath("app.db"))
    words = WAYS[way] if way != "by a shell" or not os.access(SCRIPT, os.X_OK) else [str(SCRIPT)]
    assert message.endswith(f"; run: {shlex.join(words)} --database {place} upgrade")


def test_a_link_to_the_script_is_told_how_databases_are_opened_too(elsewhere: Path) -> None:
    Path("opener.py").write_text("import sqlite3\n\ndef opened(path):\n    return sqlite3.connect(path)\n")
    Path("mig").symlink_to(SCRIPT)
    shutil.copytree(ROOT / "migrations", "m")
    where = ["-d", "app.db", "--migrations", "m", "--connect", "opener:opened"]
    assert "--connect opener:opened upgrade" in said(["./mig", *where, "downgrade", "+1"])


@pytest.mark.parametrize("option", [["--connect", "opener:opened"], ["--connect=opener:opened"]])
def test_the_function_that_opens_a_database_is_repeated(option: list[str]) -> None:
    Path("opener.py").write_text("import sqlite3\n\ndef opened(path):\n    return sqlite3.connect(path)\n")
    message = said([*WAYS["by Python"], *option, "check", "-d", "app.db"]).rstrip()
    assert message.endswith("/app.db' --connect opener:opened upgrade")


def test_a_script_that_may_not_be_run_is_called_through_a_shell(tmp_path: Path) -> None:
    """Copied to a disk or an archive that keeps no modes."""
    shutil.copytree(ROOT / "vmpilot", tmp_path / "copy" / "vmpilot")
    shutil.copytree(ROOT / "migrations", tmp_path / "copy" / "migrations")
    script = tmp_path / "copy" / "migrate.sh"
    script.parent.joinpath("scripts").mkdir()
    script = script.parent / "scripts" / script.name
    shutil.copyfile(SCRIPT, script)
    message = said(["sh", script.name, "check", "-d", "app.db"], script.parent).rstrip()
    assert message.endswith(f"run: sh migrate.sh --database {script.parent}/app.db upgrade")


def test_one_that_the_shell_finds_is_written_by_its_name(tmp_path: Path) -> None:
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "migrate.sh").symlink_to(SCRIPT)
    path = f"{bin}{os.pathsep}{os.environ['PATH']}"
    message = said(["migrate.sh", "check", "-d", "app.db"], PATH=path).rstrip()
    assert f"run: migrate.sh --database {shlex.quote(os.path.abspath('app.db'))} upgrade" in message


def test_one_that_only_uv_finds_is_written_with_its_path(tmp_path: Path) -> None:
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "migrate.sh").symlink_to(SCRIPT)
    (bin / "python").symlink_to(sys.executable)
    uv = {"PATH": f"{bin}{os.pathsep}{os.environ['PATH']}", "UV": "/usr/bin/uv"}
    place = shlex.quote(os.path.abspath("app.db"))
    message = said(["migrate.sh", "check", "-d", "app.db"], **uv).rstrip()
    assert message.endswith(f"run: {bin}/migrate.sh --database {place} upgrade")
    # What "python" is there depends on where it was found.
    shown = [sys.executable, "-c", "import sys; print(sys.executable)"]
    executable = said(["sh", "-c", f"exec python {shlex.join(shown[1:])}"], **uv).rstrip()
    message = said(["sh", "-c", "exec python -P -m vmpilot.migrate check -d app.db"], **uv).rstrip()
    assert message.endswith(
        f"run: {shlex.quote(executable)} -P -m vmpilot.migrate --database {place} upgrade"
    )


def test_what_a_shell_would_use_anyway_is_not_named(tmp_path: Path) -> None:
    if os.path.isdir("/app/data"):
        pytest.skip("this is a container, with another default database")
    default = str(tmp_path / "home" / ".vmpilot" / "vmpilot.db")
    program = "python3 -m vmpilot.migrate"
    assert command(default, str(ROOT / "migrations"), "upgrade") == f"{program} upgrade"
    assert said([str(SCRIPT), "check"]).rstrip().endswith(f"run: {shlex.quote(str(SCRIPT))} upgrade")
    # A variable need not be set where the command is pasted.
    told = said([str(SCRIPT), "check"], VMPILOT_DATABASE="app.db", VMPILOT_MIGRATIONS=str(tmp_path))
    assert "no migrations" in told
    told = said([str(SCRIPT), "check"], VMPILOT_DATABASE="app.db").rstrip()
    assert told.endswith(
        f"run: {shlex.quote(str(SCRIPT))} --database {shlex.quote(os.path.abspath('app.db'))} upgrade"
    )


def test_an_application_is_told_of_the_module(elsewhere: Path) -> None:
    migrate("app.db", ROOT / "migrations")
    with pytest.raises(VersionError) as caught:
        migrate("app.db", target="base")
    place = shlex.quote(os.path.abspath("app.db"))
    message = str(caught.value)
    assert message.endswith(f"run: python3 -m vmpilot.migrate --database {place} downgrade base")


def test_without_a_home_every_database_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "~")
    if not os.path.isdir("/app/data"):
        assert command("/a.db", str(ROOT / "migrations"), "upgrade").endswith("--database /a.db upgrade")


def test_a_link_to_the_script_is_written_as_it_was_called(elsewhere: Path) -> None:
    link = elsewhere / "db up"
    link.symlink_to(SCRIPT)
    message = said([str(link), "check", "-d", "app.db"]).rstrip()
    place = shlex.quote(os.path.abspath("app.db"))
    assert message.endswith(f"; run: {shlex.quote(str(link))} --database {place} upgrade")
    assert "applied 0001" in pasted(message, elsewhere)
