"""The wheel and the sdist: what is in them, and that the wheel alone migrates a database.

They are built with hatchling, which is no dependency of the project: without it, and without a package index
to fetch it from, these tests skip.
"""

import email
import importlib.util
import os
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from support import ROOT

import vmpilot

NAME = f"vmpilot-{vmpilot.__version__}"


def files_below(*folders: str) -> set[str]:
    """Return the project's own files, as paths relative to the checkout."""
    paths = {path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()}
    return {path.relative_to(ROOT).as_posix() for path in paths if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def build_environment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Return an environment in which python can import hatchling; a later run finds it in pytest's cache."""
    if importlib.util.find_spec("hatchling"):
        return dict(os.environ)
    cache = getattr(request.config, "cache", None)
    name = f"hatchling-{sys.version_info.major}.{sys.version_info.minor}"
    target = cache.mkdir(name) if cache else tmp_path_factory.mktemp(name)
    environment = {**os.environ, "PYTHONPATH": str(target)}
    find = [sys.executable, "-c", "import hatchling.build"]
    if subprocess.run(find, env=environment, capture_output=True, check=False).returncode == 0:
        return environment
    pip = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "-q", "--retries=0", "--upgrade"),
            *("--target", target, "hatchling"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if pip.returncode:
        reason = pip.stderr.strip().rpartition("\n")[2]
        pytest.skip(f"hatchling is not installed, and pip cannot get it: {reason}")
    return environment


@pytest.fixture(scope="module")
def sdist(build_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sdist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", out],
        cwd=ROOT,
        env=build_environment,
        check=True,
    )
    return out / f"{NAME}.tar.gz"


@pytest.fixture(scope="module")
def wheel(sdist: Path, build_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from the sdist, as an installer does that finds no wheel."""
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation"),
            *("-w", out, sdist),
        ],
        env=build_environment,
        check=True,
    )
    return out / f"{NAME}-py3-none-any.whl"


def test_the_sdist_holds_what_the_build_and_the_tests_need(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        held = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    needed = files_below("vmpilot", "migrations", "scripts", "tests") | {"pyproject.toml", "README.md"}
    assert needed - held == set()


def test_the_wheel_holds_the_package_and_its_migrations_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    migrations = {f"vmpilot/{name}" for name in files_below("migrations")}
    about = {f"{NAME}.dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}
    assert len(migrations) >= 4
    assert held == files_below("vmpilot") | {"vmpilot/py.typed"} | migrations | about


def test_the_wheel_needs_nothing_but_python(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"{NAME}.dist-info/METADATA"))
    requirements = sorted(metadata.get_all("Requires-Dist", []))
    assert metadata["Requires-Python"] == ">=3.11"
    assert [line.partition(">")[0] for line in requirements] == ["hypothesis", "pytest"]
    assert all(line.endswith("; extra == 'test'") for line in requirements)


def test_the_metadata_says_what_is_known_and_invents_nothing(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"{NAME}.dist-info/METADATA"))
    for key in ("Summary", "Keywords", "Classifier"):
        assert metadata[key], key
    for key in ("License", "License-Expression", "Author", "Author-email", "Home-page", "Project-URL"):
        assert metadata[key] is None, key


@pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="no README.md here")
def test_the_readme_tells_what_changed_in_this_version() -> None:
    assert f"\n**{vmpilot.__version__}**: " in (ROOT / "README.md").read_text().partition("\n## Changes\n")[2]


def test_the_wheel_brings_a_command_whose_messages_name_it(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        site,
        wheel,
    ]
    subprocess.run(install, check=True)

    def started(program: str | Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(site), "PATH": f"{site}/bin:{os.environ['PATH']}"}
        words = [program, "-d", "app.db", *arguments]
        return subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    here = f"--database {tmp_path}/app.db downgrade 0001"
    moved = tmp_path / "elsewhere/vmpilot-migrate"
    moved.parent.mkdir()
    for program, pasted in (
        ("vmpilot-migrate",) * 2,
        (site / "bin/vmpilot-migrate", "vmpilot-migrate"),
        (moved,) * 2,
    ):
        if program == moved:
            (site / "bin/vmpilot-migrate").rename(moved)
        assert started(program).returncode == 0
        refused = started(program, "upgrade", "1")
        told = f"error: cannot upgrade to 0001: app.db is already at 0002; to go back, run: {pasted} {here}\n"
        assert (refused.returncode, refused.stderr) == (1, told)
        assert started(program, "--help").stdout.startswith(f"usage: {pasted} ")


@pytest.mark.parametrize("form", ["installed", "zip"])
def test_the_wheel_alone_migrates(form: str, wheel: Path, tmp_path: Path) -> None:
    site = wheel
    if form == "installed":
        site = tmp_path / "site"
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"),
                *("--target", site, wheel),
            ],
            check=True,
        )
    empty = tmp_path / "empty"
    empty.mkdir()

    def migrate(*arguments: str) -> subprocess.CompletedProcess[str]:
        # -S: without site-packages, where an editable install would lead back to the checkout
        return subprocess.run(
            [sys.executable, "-S", "-P", "-m", "vmpilot.migrate", "-d", "app.db", *arguments],
            cwd=empty,
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            check=False,
        )

    head = max(path.name.partition("_")[0] for path in (ROOT / "migrations").glob("*.up.sql"))
    assert migrate().returncode == 0
    assert migrate("current").stdout == f"{head} (head)\n"
    # Every database of this environment would follow what is written into the package.
    refused = migrate("create", "more")
    place = os.path.join(site, "vmpilot", "migrations" if form == "installed" else "migrations/")
    words = "these migrations belong to the installed package; nothing was written; name a directory with"
    assert (refused.returncode, refused.stderr) == (1, f"error: {place}: {words} --migrations\n")
    with sqlite3.connect(empty / "app.db") as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    database.close()
    assert {"chats", "exchanges"} <= tables
    assert os.listdir(empty) == ["app.db"]
