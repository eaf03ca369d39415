"""The shell scripts as real processes: under every shell at hand, from a checkout whose path has a space.

They run with the interpreter that runs the tests, but outside its virtual environment: nothing is installed.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from support import APART, ROOT, until

HEAD = max(path.name.partition("_")[0] for path in (ROOT / "migrations").glob("*.up.sql"))
DEADLINE = 30.0

Shell = list[str]


def shells() -> list[Shell]:
    """Return the shells to try, each once: on Debian sh is dash. One that is not at hand is skipped."""
    found = {os.path.realpath(shutil.which(name) or name): [name] for name in ("bash", "dash", "sh")}
    return [*found.values(), ["busybox", "ash"]]


BASH = pytest.param(["bash"], marks=pytest.mark.full)


@pytest.fixture(params=[BASH if shell == ["bash"] else shell for shell in shells()], ids=" ".join)
def shell(request: pytest.FixtureRequest) -> Shell:
    command: Shell = request.param
    if not shutil.which(command[0]):
        pytest.skip(f"no {command[0]} here")
    return command


@pytest.fixture
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("a checkout") / "VM Pilot"
    for folder in ("migrations", "scripts"):
        shutil.copytree(ROOT / folder, copy / folder)
    # With what Python has compiled already: to do that again would take longer than most tests here.
    (copy / "vmpilot").symlink_to(ROOT / "vmpilot")
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a directory away from the checkout, in the environment of a container's start."""
    bare = os.path.dirname(os.path.realpath(sys.executable))
    monkeypatch.setenv("PATH", f"{bare}:{os.environ['PATH']}")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("VMPILOT_DATABASE", str(tmp_path / "my app.db"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def program(path: Path, text: str) -> Path:
    write(path, text).chmod(0o755)
    return path


# migrate.sh


def test_migrate_runs_from_any_directory(shell: Shell, checkout: Path, elsewhere: Path) -> None:
    migrate = [*shell, checkout / "scripts/migrate.sh", "-d", "other app.db"]
    assert run(*migrate).returncode == 0
    assert run(*migrate, "current").stdout == f"{HEAD} (head)\n"
    assert os.listdir() == ["other app.db"]


@pytest.mark.usefixtures("elsewhere")
def test_migrate_runs_from_where_it_lies(
    shell: Shell, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, script in ((checkout, "scripts/migrate.sh"), (checkout / "scripts", "migrate.sh")):
        monkeypatch.chdir(folder)
        assert run(*shell, script, "heads").stdout == f"{HEAD} (head)\n"


def test_migrate_runs_through_a_link(checkout: Path, elsewhere: Path) -> None:
    link = elsewhere / "vmpilot-migrate"
    link.symlink_to(checkout / "scripts/migrate.sh")
    assert run(link, "heads").stdout == f"{HEAD} (head)\n"


@pytest.mark.parametrize(
    ("arguments", "code"), [(["heads"], 0), (["upgrade", "no such version"], 1), (["no such command"], 2)]
)
def test_migrate_says_and_returns_what_the_migrator_does(
    arguments: list[str],
    code: int,
    shell: Shell,
    checkout: Path,
    elsewhere: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = checkout / "scripts/migrate.sh"
    result = run(*shell, script, *arguments)
    monkeypatch.setenv("PYTHONPATH", str(checkout))
    direct = run("python3", "-m", "vmpilot.migrate", *arguments)
    assert (result.returncode, result.stdout) == (code, direct.stdout)
    # In help and usage the program has the name by which it was called, and its length moves the line ends.
    assert result.stderr.replace(str(script), "python3 -m vmpilot.migrate").split() == direct.stderr.split()


@pytest.mark.parametrize("python_path", [None, "", ":", "."])
def test_nothing_that_lies_in_the_current_directory_is_run(
    python_path: str | None, shell: Shell, checkout: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if python_path is not None:
        monkeypatch.setenv("PYTHONPATH", python_path)
    for name in ("vmpilot/__init__", "vmpilot/migrate", "sqlite3", "argparse", "sitecustomize"):
        write(elsewhere / f"{name}.py", "import os; os._exit(99)")
    result = run(*shell, checkout / "scripts/migrate.sh", "heads")
    assert (result.returncode, result.stdout) == (0, f"{HEAD} (head)\n")


# docker-entrypoint.sh


@pytest.fixture
def entrypoint(shell: Shell, checkout: Path, elsewhere: Path) -> list[str]:
    return [*shell, str(checkout / "scripts/docker-entrypoint.sh")]


@pytest.fixture
def migrations(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the migrator read another directory, with one migration in it."""
    folder = elsewhere / "my migrations"
    write(folder / "0001_one.up.sql", "CREATE TABLE one (id);")
    write(folder / "0001_one.down.sql", "DROP TABLE one;")
    monkeypatch.setenv("VMPILOT_MIGRATIONS", str(folder))
    return folder


def tables() -> set[str]:
    """Return the names of the tables of migrations that the database has."""
    with closing(sqlite3.connect(os.environ["VMPILOT_DATABASE"])) as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    return names - {"alembic_version", "migration_log", "sqlite_sequence"}


def test_the_command_replaces_the_script_when_the_database_is_at_head(entrypoint: list[str]) -> None:
    command = ["sh", "-c", 'printf "%s\\n" $$ "$@"; exit 7', "sh", "two words", "$HOME", ""]
    with subprocess.Popen([*entrypoint, *command], stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 7
    assert output == f"{process.pid}\ntwo words\n$HOME\n\n"
    assert tables() == {"chats", "exchanges"}


def test_the_command_reads_standard_input(entrypoint: list[str]) -> None:
    result = subprocess.run(
        [*entrypoint, "cat"], input="hello", stdout=subprocess.PIPE, text=True, check=True
    )
    assert result.stdout == "hello"


def test_the_entrypoint_runs_through_a_link(checkout: Path, elsewhere: Path) -> None:
    link = elsewhere / "docker-entrypoint"
    link.symlink_to(checkout / "scripts/docker-entrypoint.sh")
    assert run(link, "true").returncode == 0
    assert tables() == {"chats", "exchanges"}


def test_without_a_command_the_entrypoint_migrates_and_ends(entrypoint: list[str]) -> None:
    assert run(*entrypoint).returncode == 0
    assert tables() == {"chats", "exchanges"}


def test_the_command_never_starts_after_a_failed_migration(
    entrypoint: list[str], checkout: Path, migrations: Path
) -> None:
    write(migrations / "0002_two.up.sql", "CREATE TABEL two (id);")
    result = run(*entrypoint, "touch", "started")
    migrator = run(checkout / "scripts/migrate.sh", "upgrade", "head")
    assert result.returncode == migrator.returncode == 1
    assert migrator.stderr
    assert result.stderr.endswith(migrator.stderr)
    assert not os.path.exists("started")


def test_off_leaves_the_database_alone(entrypoint: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMPILOT_MIGRATE", "off")
    result = run(*entrypoint, "echo", "started")
    assert (result.returncode, result.stdout, result.stderr) == (0, "started\n", "")
    assert os.listdir() == []


def test_an_unknown_mode_is_refused(entrypoint: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMPILOT_MIGRATE", "Off")
    result = run(*entrypoint, "touch", "started")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "error: VMPILOT_MIGRATE is 'Off', expected on, off or follow; nothing was changed\n"
    )
    assert os.listdir() == []


@pytest.mark.parametrize("mode", ["on", "follow"])
@pytest.mark.parametrize("name", ["VMPILOT_MIGRATE_BACKUP", "VMPILOT_MIGRATE_TIMEOUT"])
def test_a_variable_that_makes_no_sense_stops_the_container(
    name: str, mode: str, entrypoint: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VMPILOT_MIGRATE", mode)
    monkeypatch.setenv(name, "maybe")
    result = run(*entrypoint, "touch", "started")
    assert (result.returncode, result.stdout) == (2, "")
    assert f"error: {name}: expected " in result.stderr
    assert os.listdir() == []


def test_no_is_no_backup(entrypoint: list[str], migrations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(*entrypoint).returncode == 0
    for at, (word, backups) in enumerate((("false", 0), ("true", 1)), 2):
        write(migrations / f"000{at}_more.up.sql", "")
        monkeypatch.setenv("VMPILOT_MIGRATE_BACKUP", word)
        assert run(*entrypoint).returncode == 0
        assert len([name for name in os.listdir() if name.endswith(".bak")]) == backups


@pytest.mark.parametrize("mode", ["", "on", "follow"])
def test_every_other_mode_upgrades_a_database_that_is_behind(
    mode: str, entrypoint: list[str], migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VMPILOT_MIGRATE", mode)
    assert run(*entrypoint, "true").returncode == 0
    assert tables() == {"one"}
    write(migrations / "0002_two.up.sql", "CREATE TABLE two (id);")
    assert run(*entrypoint, "true").returncode == 0
    assert tables() == {"one", "two"}


@pytest.mark.parametrize(("mode", "code", "left"), [("on", 1, {"one", "two"}), ("follow", 0, {"one"})])
def test_only_follow_takes_back_what_a_newer_release_did(
    mode: str,
    code: int,
    left: set[str],
    entrypoint: list[str],
    migrations: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    up = write(migrations / "0002_two.up.sql", "CREATE TABLE two (id);")
    down = write(migrations / "0002_two.down.sql", "DROP TABLE two;")
    assert run(*entrypoint).returncode == 0
    up.unlink()
    down.unlink()
    monkeypatch.setenv("VMPILOT_MIGRATE", mode)
    assert run(*entrypoint, "touch", "started").returncode == code
    assert tables() == left
    assert os.path.exists("started") == (code == 0)


@pytest.mark.parametrize("mode", ["on", "follow"])
def test_an_empty_volume_over_the_migrations_stops_the_container_and_undoes_nothing(
    mode: str, entrypoint: list[str], migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(*entrypoint).returncode == 0
    for path in migrations.iterdir():
        path.unlink()
    monkeypatch.setenv("VMPILOT_MIGRATE", mode)
    for _ in range(2):
        result = run(*entrypoint, "touch", "started")
        told = f"error: {migrations}: no migrations in here; expected files like 0001_initial_schema.up.sql\n"
        assert (result.returncode, result.stdout, result.stderr) == (1, "", told)
        assert tables() == {"one"}
    assert [name for name in os.listdir() if name.endswith(".bak")] == []
    assert not os.path.exists("started")


def test_follow_stops_when_the_database_cannot_be_read(
    entrypoint: list[str], checkout: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VMPILOT_MIGRATE", "follow")
    write(elsewhere / "my app.db", "this is no database" * 100)
    result = run(*entrypoint, "touch", "started")
    migrator = run(checkout / "scripts/migrate.sh", "current")
    assert migrator.stderr
    assert (result.returncode, result.stdout, result.stderr) == (1, "", migrator.stderr)
    assert not os.path.exists("started")


# Signals


ENDLESS = """CREATE TABLE endless AS
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS total FROM n;
"""


@pytest.fixture
def endless(migrations: Path) -> None:
    write(migrations / "0001_one.up.sql", f"{APART}CREATE TABLE one (id);")
    write(migrations / "0002_endless.up.sql", ENDLESS)


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process group of its own, as a terminal does, and leave nothing of it behind."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def write_locked() -> bool:
    with closing(sqlite3.connect(os.environ["VMPILOT_DATABASE"], timeout=0)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False


def wait_for_the_endless_step(process: subprocess.Popen[str]) -> None:
    """Return once the first step is committed and the second one holds the lock."""
    until(lambda: process.poll() is not None or ("one" in tables() and write_locked()))
    assert process.poll() is None


def ending(process: subprocess.Popen[str]) -> str:
    """Wait for a process that must end by itself, and not before its children; return what it said."""
    process.wait(DEADLINE)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert process.stderr
    return process.stderr.read()


def interrupted() -> tuple[str, str]:
    """Return what is said of a signal in the step that has the lock, or before its first statement."""
    said = f"error: {(database := os.environ['VMPILOT_DATABASE'])}: interrupted"
    return f"{said}; rolled back, {database} is at 0001\n", f"{said}; nothing was changed\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("script", ["migrate.sh", "docker-entrypoint.sh"])
@pytest.mark.usefixtures("elsewhere", "endless")
def test_a_signal_stops_the_migration(
    script: str, number: int, code: int, shell: Shell, checkout: Path
) -> None:
    arguments = {"migrate.sh": ["upgrade"], "docker-entrypoint.sh": ["touch", "started"]}[script]
    with started(*shell, str(checkout / "scripts" / script), *arguments) as process:
        wait_for_the_endless_step(process)
        process.send_signal(number)
        process.send_signal(number)  # as an impatient person does
        said = ending(process)
    assert process.returncode == code
    assert said.endswith(interrupted())
    assert not write_locked()
    assert tables() == {"one"}
    assert not os.path.exists("started")


@pytest.mark.parametrize("times", [3, pytest.param(30, marks=pytest.mark.full)])
@pytest.mark.usefixtures("endless")
def test_control_c_in_a_terminal_reaches_script_and_migrator_at_once(
    times: int, entrypoint: list[str]
) -> None:
    for _ in range(times):  # the migrator gets a second signal, from the script, at any moment of its way out
        with started(*entrypoint, "touch", "started") as process:
            wait_for_the_endless_step(process)
            os.killpg(process.pid, signal.SIGINT)
            said = ending(process)
        assert process.returncode == 130
        assert said.endswith(interrupted())
        assert not write_locked()
        assert tables() == {"one"}
        assert not os.path.exists("started")


@pytest.fixture
def slow(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make python3 slow to start: it says through one pipe that it runs; another lets it go."""
    python = program(elsewhere / "slow/python3", '#!/bin/sh\necho runs >"$0.out"\nread -r _ <"$0.in"\n')
    os.mkfifo(f"{python}.out")
    os.mkfifo(f"{python}.in")
    monkeypatch.setenv("PATH", f"{python.parent}:{os.environ['PATH']}")
    return python


@pytest.mark.parametrize("mode", ["on", "follow"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_migrator_is_ready_is_not_lost(
    number: int,
    code: int,
    mode: str,
    entrypoint: list[str],
    slow: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VMPILOT_MIGRATE", mode)
    with started(*entrypoint, "touch", "started") as process:
        assert Path(f"{slow}.out").read_text() == "runs\n"
        process.send_signal(number)
        ending(process)
    assert process.returncode == code
    assert not os.path.exists("started")


@pytest.mark.parametrize("shell", shells(), ids=" ".join, indirect=True)
def test_a_signal_stops_follow_while_it_waits_for_a_lock(
    entrypoint: list[str], migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VMPILOT_MIGRATE", "follow")
    database = os.environ["VMPILOT_DATABASE"]
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with started(*entrypoint, "touch", "started") as process:
            assert process.stderr
            waiting = f"{database}: locked by another process; waiting for up to 30 s\n"
            assert process.stderr.readline() == waiting
            process.send_signal(signal.SIGTERM)
            said = ending(process)
    told = "interrupted while waiting, locked by another process; nothing was changed"
    assert (said, process.returncode) == (f"error: {database}: {told}\n", 143)
    assert not os.path.exists("started")


def test_a_signal_while_python_imports_leaves_no_traceback(checkout: Path, elsewhere: Path) -> None:
    """A module that nothing has imported yet stands for all that take their time."""
    (checkout / "vmpilot").unlink()
    shutil.copytree(ROOT / "vmpilot", checkout / "vmpilot", ignore=shutil.ignore_patterns("__pycache__"))
    module = checkout / "vmpilot/migrate/database/connection.py"
    write(module, "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n")
    result = run(checkout / "scripts/migrate.sh")
    assert (result.returncode, result.stdout, result.stderr) == (-signal.SIGINT, "", "")
    assert os.listdir() == []


# What python3 is


STUB = (
    "import sys; sys.version_info = (3, 10, 13, 'final', 0); "
    "at = sys.argv.index('-c', 1) + 1; code = sys.argv[at]; del sys.argv[1 : at + 1]; exec(code)"
)


def too_old(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield numbers of releases that are too old, each with a directory whose python3 is one.

    The first only says that it is; the second, the oldest at hand, is.
    """
    stub = program(folder / "stub/python3", f'#!/bin/sh\nexec "{sys.executable}" -c "{STUB}" "$@"\n')
    yield "3.10.13", stub.parent
    for number in ("3.6", "3.9", "3.10"):
        places = [
            shutil.which(f"python{number}"),
            *Path.home().glob(f".pyenv/versions/{number}.*/bin/python3"),
        ]
        for place in filter(None, places):
            real = program(folder / f"{number}/python3", f'#!/bin/sh\nexec "{place}" "$@"\n')
            words = run(real, "--version").stdout.split()
            if words[1:] and words[1].startswith(f"{number}."):
                yield words[1], real.parent
                return


@pytest.mark.parametrize(
    ("script", "fate"),
    [
        ("migrate.sh", "; nothing was changed"),
        ("docker-entrypoint.sh", "; nothing was changed"),
        ("test.sh", ""),
    ],
)
def test_a_python_that_is_too_old_or_missing_is_told_at_once(
    script: str, fate: str, shell: Shell, checkout: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*(shutil.which(shell[0]) or "", *shell[1:]), checkout / "scripts" / script, "touch", "started"]
    path = os.environ["PATH"]
    for number, folder in too_old(elsewhere):
        monkeypatch.setenv("PATH", f"{folder}:{path}")
        result = run(*command)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == f"error: python3 is {number}, expected 3.11 or newer{fate}\n"
    (elsewhere / "few").mkdir()
    for tool in ("sh", "dirname", "readlink"):
        (elsewhere / "few" / tool).symlink_to(shutil.which(tool, path=path) or "")
    monkeypatch.setenv("PATH", str(elsewhere / "few"))
    result = run(*command)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"error: python3 is missing, expected 3.11 or newer{fate}\n"
    assert not os.path.exists("started")
    assert not (checkout / ".venv").exists()


# How a checkout came to where it is


@pytest.mark.usefixtures("elsewhere")
def test_the_scripts_need_no_permission_to_be_executed(shell: Shell, checkout: Path) -> None:
    for script in (checkout / "scripts").iterdir():
        script.chmod(0o644)
    assert run(*shell, checkout / "scripts/migrate.sh", "heads").stdout == f"{HEAD} (head)\n"
    result = run(*shell, checkout / "scripts/docker-entrypoint.sh", "echo", "started")
    assert (result.returncode, result.stdout) == (0, "started\n")
    assert tables() == {"chats", "exchanges"}


@pytest.mark.usefixtures("elsewhere")
def test_a_checkout_may_lie_below_a_colon(shell: Shell, checkout: Path) -> None:
    checkout = checkout.rename(checkout.with_name("VM:Pilot"))
    assert run(*shell, checkout / "scripts/migrate.sh", "heads").stdout == f"{HEAD} (head)\n"
    result = run(*shell, checkout / "scripts/docker-entrypoint.sh", "echo", "started")
    assert (result.returncode, result.stdout) == (0, "started\n")
    assert tables() == {"chats", "exchanges"}
    result = run(*shell, checkout / "scripts/test.sh")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: {os.path.realpath(checkout)} has a colon, and python3 makes no virtual environment below it; move the checkout\n"
    )


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
@pytest.mark.usefixtures("elsewhere")
def test_a_clone_that_turns_line_ends_into_those_of_windows_runs(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a hook runs is told its repository, and would commit to it.
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    shutil.copy(ROOT / ".gitattributes", checkout)
    (checkout / "vmpilot").unlink()
    shutil.copytree(ROOT / "vmpilot", checkout / "vmpilot")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a", "-C", checkout]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "a"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    options = [word for name in ("core.autocrlf=true", "core.eol=crlf") for word in ("--config", name)]
    subprocess.run(["git", "clone", "-q", *options, checkout, "clone"], check=True)
    files = [path for path in Path("clone").rglob("*.*") if path.suffix in (".sh", ".sql", ".py", ".toml")]
    assert len(files) > 20
    assert [path for path in files if b"\r" in path.read_bytes()] == []
    assert run("clone/scripts/docker-entrypoint.sh", "echo", "started").stdout == "started\n"
    assert tables() == {"chats", "exchanges"}


# test.sh


MAKES = """#!/bin/sh
case $*,${NO_ENSUREPIP-} in
    "-c import ensurepip, venv,") ;;
    "-c import ensurepip, venv,yes") exit 1 ;;
    "-m venv "*)
        echo "made" >>"$LOG"
        mkdir -p "$3/bin"
        cp "$0.made" "$3/bin/python" ;;
    *) exec "REAL" "$@" ;;
esac
"""

MADE = """#!/bin/sh
case $* in
    "-m pytest --version" | "-m pytest --halves --version") ;;
    "-m pytest"*)
        shift 2
        printf 'pytest:' && printf ' <%s>' "$@" && echo " ${PYTHONPATH-}"
        exit "${PYTEST_CODE-0}" ;;
    "-m pip install "*)
        for last; do :; done
        sed 's/^/pip: /' "$last" >>"$LOG"
        exit "${PIP_CODE-0}" ;;
    *) echo "$*" >>"$LOG"; exit 1 ;;
esac
"""


@pytest.fixture
def made(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Put a python3 before the real one that makes virtual environments at once; return what tells what it did."""
    stub = program(elsewhere / "stub/python3", MAKES.replace("REAL", sys.executable))
    program(elsewhere / "stub/python3.made", MADE)
    log = write(elsewhere / "log", "")
    monkeypatch.setenv("PATH", f"{stub.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(log))

    def done() -> list[str]:
        lines = log.read_text().splitlines()
        log.write_text("")
        return lines

    return done


TOLD = "pytest: <--halves> {} \n"
NEEDS = ["made", "pip: pytest >= 9", "pip: hypothesis >= 6.100"]


def test_the_tests_get_the_arguments_and_give_their_exit_code(
    shell: Shell, checkout: Path, made: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setenv("PYTEST_CODE", "5")
    for expected in (NEEDS, []):
        result = run(*shell, checkout / "scripts/test.sh", "-k", "two words", "")
        assert (result.returncode, result.stdout, result.stderr) == (
            5,
            TOLD.format("<-k> <two words> <>"),
            "",
        )
        assert made() == expected


def test_the_virtual_environment_is_made_again_only_when_it_no_longer_fits(
    checkout: Path, made: Callable[[], list[str]]
) -> None:
    project, stamp = checkout / "pyproject.toml", checkout / ".venv/made-for"

    def makes() -> list[str]:
        assert run(checkout / "scripts/test.sh").returncode == 0
        return made()

    assert makes() == NEEDS
    project.write_text(project.read_text() + "# a remark\n")
    assert makes() == []
    project.write_text(project.read_text().replace("hypothesis >=", "hypothesis >"))
    assert makes() == [*NEEDS[:2], "pip: hypothesis > 6.100"]
    assert makes() == []
    stamp.write_text(stamp.read_text().replace(sys.base_prefix, "/another"))
    assert makes() != []
    stamp.write_text(stamp.read_text().replace(sys.version.rpartition("[")[2], "another]"))
    assert makes() != []
    (checkout / ".venv/bin/python").rename(checkout / ".venv/bin/left_behind")
    assert makes() != []
    assert os.listdir(checkout / ".venv/bin") == ["python"]
    stamp.unlink()
    assert makes() != []
    checkout = checkout.rename(checkout.with_name("moved"))
    assert makes() != []
    assert makes() == []


def test_the_tests_run_through_a_link(checkout: Path, elsewhere: Path, made: Callable[[], list[str]]) -> None:
    (elsewhere / "tests").symlink_to(checkout / "scripts/test.sh")
    result = run(elsewhere / "tests", "-x")
    assert (result.returncode, result.stdout, result.stderr) == (0, TOLD.format("<-x>"), "")
    assert made() == NEEDS
    assert (checkout / ".venv").exists()


def test_a_virtual_environment_that_was_not_finished_is_made_again(
    checkout: Path, made: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CODE", "2")
    for _ in range(2):
        result = run(checkout / "scripts/test.sh")
        assert (result.returncode, result.stdout, result.stderr) == (
            *(1, ""),
            "error: pip could not install what the tests need; the first run needs the network\n",
        )
        assert made() == NEEDS
    monkeypatch.delenv("PIP_CODE")
    assert run(checkout / "scripts/test.sh").returncode == 0
    assert made() == NEEDS


def test_a_python_that_cannot_make_a_virtual_environment_is_told_what_to_install(
    shell: Shell, checkout: Path, made: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_ENSUREPIP", "yes")
    result = run(*shell, checkout / "scripts/test.sh")
    assert (result.returncode, result.stdout, result.stderr) == (
        *(1, ""),
        "error: python3 cannot make a virtual environment; run: apt-get install python3-venv\n",
    )
    assert made() == []
    assert not (checkout / ".venv").exists()


@pytest.mark.full
def test_a_real_virtual_environment_is_made_and_used_again(checkout: Path, elsewhere: Path) -> None:
    write(checkout / "tests/test_small.py", "import vmpilot\ndef test_1(): pass\ndef test_2(): assert 0\n")
    script = checkout / "scripts/test.sh"
    first = subprocess.run([script, "-k", "test_1"], capture_output=True, text=True, check=False)
    if "No matching distribution found" in first.stderr:
        pytest.skip("pip cannot reach a package index")
    assert first.returncode == 0, first.stderr
    assert "1 passed, 1 deselected" in first.stdout
    (checkout / ".venv/mark").touch()
    again = run(script)
    assert again.returncode == 1
    assert "1 failed, 1 passed" in again.stdout
    assert (checkout / ".venv/mark").exists()


# What CI runs


def test_ci_tells_what_is_missing_and_fails_when_the_tests_do(
    shell: Shell,
    checkout: Path,
    made: Callable[[], list[str]],
    elsewhere: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(ROOT / ".ci", checkout / ".ci")
    program(elsewhere / "stub/apt-get", "#!/bin/sh\nexit 100\n")
    monkeypatch.setenv("PIP_CODE", "0")
    assert run(checkout / "scripts/test.sh").returncode == 0
    monkeypatch.setenv("PIP_CODE", "1")
    for code in ("0", "1"):
        monkeypatch.setenv("PYTEST_CODE", code)
        result = run(*shell, checkout / ".ci/run", "-q")
        assert str(result.returncode) == code
        lines = result.stdout.splitlines()
        assert lines[-1] == TOLD.format("<-q>").rstrip("\n")
        assert all(line.startswith("missing: ") for line in lines[:-1])
        assert {"missing: alembic", "missing: ruff", "missing: turso"} <= set(lines)
        assert result.stderr == {"0": "", "1": "error: failed: tests\n"}[code]


# All of them


def test_shellcheck_is_content() -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    scripts = [*(ROOT / "scripts").glob("*.sh"), *(ROOT / ".ci").glob("run")]
    assert len(scripts) >= 3
    result = run("shellcheck", *scripts)
    assert (result.returncode, result.stdout) == (0, "")
