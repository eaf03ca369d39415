"""What all tests share: the sizes of the long sweeps, and how a history of migrations is written.

Which test dies of which wrong line is written down, and tried, in `mutants`.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import halves
import pytest
from hypothesis import HealthCheck, settings
from support import in_memory

settings.register_profile(
    "quick",
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("full", settings.get_profile("quick"), max_examples=1000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the long sweeps in their full size")
    parser.addoption("--halves", action="store_true", help="run the files of tests in two processes")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("full" if config.getoption("--full") else "quick")
    start_like_everywhere()


def start_like_everywhere() -> None:
    """Leave nothing of the caller's surroundings to the tests and the processes that they start."""
    # A job in the background of a script has SIGINT ignored, and so would be what is to be interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.umask(0o022)
    for name in [name for name in os.environ if name.startswith("VMPILOT_")]:
        del os.environ[name]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--full"):
        for item in items:
            if "full" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="a long sweep: run with --full"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    if not session.config.getoption("--halves") or session.config.option.collectonly or session.testsfailed:
        return None
    halves.run(session)
    return True


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory in memory where there is one: no test needs a disk, and a disk is slow."""
    directory = Path(tempfile.mkdtemp(dir=in_memory()))
    yield directory
    with suppress(PermissionError):
        shutil.rmtree(directory)
        return
    subprocess.run(["chmod", "-R", "u+rwX", directory], check=True)
    shutil.rmtree(directory)


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """An empty directory for migration files."""
    directory = tmp_path / "migrations"
    directory.mkdir()
    return directory


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The path of a database that does not exist yet."""
    return tmp_path / "app.db"
