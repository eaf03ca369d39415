"""Proves that the tests notice a wrong line: each mutant is an edit of one line, and the test that dies of it.

The tables beside this file are named after the rooms; `package` is what stands outside of them. `== FILE` says
which file the mutants below it are of; each is the line, what stands in its place (indented like it), and the
test. `in NAME` names the function where the line occurs more than once in its file.
"""

import ast
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from support import ROOT

TABLES = sorted(Path(__file__).parent.glob("*.txt"))
LONGEST = 120.0  # seconds; who takes longer waits for what the edit has taken away, and has noticed it


class Mutant(NamedTuple):
    """An edit of one line of a file, and the test that fails with it."""

    file: str
    function: str
    before: str
    after: str
    test: str

    def __str__(self) -> str:
        return f"{self.file}: {self.before}"


def mutants(table: str) -> Iterator[Mutant]:
    file = ""
    for block in table.split("\n\n"):
        said = dict(line.split(" ", 1) for line in block.strip().splitlines())
        file = said.pop("==", file)
        if said:
            yield Mutant(file, said.pop("in", ""), said.pop("-"), said.pop("+"), said.pop("dies"))
        assert not said


MUTANTS = [mutant for table in TABLES for mutant in mutants(table.read_text())]


@cache
def read(file: str) -> str:
    return (ROOT / file).read_text()


@cache
def functions(text: str) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]


def edited(text: str, mutant: Mutant) -> str:
    """Return the text of a file with its line edited; the line occurs once, or once in its function."""
    lines = text.splitlines()
    first, last = 0, len(lines)
    if mutant.function:
        found = [node for node in functions(text) if node.name == mutant.function]
        assert len(found) == 1, f"no single function {mutant.function}"
        first, last = found[0].lineno - 1, found[0].end_lineno or last
    places = [at for at in range(first, last) if lines[at].strip() == mutant.before]
    assert len(places) == 1, f"{len(places)} lines are: {mutant.before}"
    line = lines[places[0]]
    lines[places[0]] = line[: len(line) - len(line.lstrip())] + mutant.after
    return "\n".join(lines) + "\n"


def test_there_are_mutants() -> None:
    assert len(MUTANTS) >= 100


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_edits_a_line_that_is_there_and_names_a_test_that_is_there(mutant: Mutant) -> None:
    edited(read(mutant.file), mutant)
    file, _, name = mutant.test.partition("::")
    assert f"\ndef {name}(" in read(file) or f"\n{name} = " in read(file)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, in which all tests that mutants name pass."""
    place = tmp_path_factory.mktemp("mutants") / "checkout"
    shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(".git", ".venv", ".*cache", "__pycache__"))
    assert run(place, *sorted({mutant.test for mutant in MUTANTS}), seconds=10 * LONGEST) == 0
    return place


def run(place: Path, *tests: str, seconds: float) -> int | None:
    """Run tests of a checkout; return pytest's exit code, None if they take longer."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
        cwd=place,
        # What was compiled may be taken for that of another edit of the same length in the same second.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def with_line(checkout: Path) -> Iterator[Callable[[Mutant], None]]:
    """Return what edits the copy of the checkout; in the end it is as before."""
    kept: dict[Path, str] = {}

    def edit(mutant: Mutant) -> None:
        path = checkout / mutant.file
        kept[path] = path.read_text()
        path.write_text(edited(kept[path], mutant))

    yield edit
    for path, text in kept.items():
        path.write_text(text)
    for compiled in checkout.rglob("__pycache__"):
        shutil.rmtree(compiled)


@pytest.mark.full
@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_dies(mutant: Mutant, checkout: Path, with_line: Callable[[Mutant], None]) -> None:
    with_line(mutant)
    if mutant.file.endswith(".py"):
        ast.parse((checkout / mutant.file).read_text())
    # 1 and 2: a test failed, or could not even be loaded.
    assert run(checkout, mutant.test, seconds=LONGEST) in (None, 1, 2)
