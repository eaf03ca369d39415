"""Proves that everything public can be found, is known to type checkers, and has an example that works."""

import ast
import doctest
import inspect
import pickle
import pydoc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from support import ROOT

import vmpilot.db
from vmpilot import migrate as package

MODULE: Any = sys.modules["vmpilot.migrate"]
NAMES: list[str] = MODULE.__all__
FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: thing for name in NAMES if inspect.isfunction(thing := getattr(MODULE, name))
}
# What functions return, and what these hold.
RESULTS = {
    *(
        "Current",
        "Entry",
        "Health",
        "Outcome",
        "Problem",
        "Progress",
        "Proof",
        "Restored",
        "Saved",
        "Schema",
        "Step",
    ),
    "Verdict",
}


def test_every_public_name_is_there_and_can_be_found() -> None:
    assert sorted(NAMES, key=lambda name: (name.islower(), name)) == NAMES
    assert {"migrate", "migrate_all", "restore", "verify"} <= FUNCTIONS.keys() and {*NAMES} >= RESULTS
    assert {*NAMES} <= {*dir(package)}
    for name in NAMES:
        assert getattr(MODULE, name) is getattr(MODULE, name), name
    with pytest.raises(AttributeError) as caught:
        MODULE.migrat  # noqa: B018
    assert str(caught.value) == "module 'vmpilot.migrate' has no attribute 'migrat'"


def test_every_result_tells_the_types_of_its_fields() -> None:
    for name in RESULTS:
        parameters = inspect.signature(getattr(MODULE, name)).parameters.values()
        assert [each.name for each in parameters if each.annotation is inspect.Parameter.empty] == [], name


def test_every_type_in_a_signature_can_be_looked_up() -> None:
    # As tools do that make documentation or check arguments of them.
    for name, function in FUNCTIONS.items():
        assert "return" in get_type_hints(function), name
    for name in RESULTS:
        assert get_type_hints(getattr(MODULE, name)), name


def test_help_tells_of_every_public_name() -> None:
    text = pydoc.plain(pydoc.render_doc(MODULE))
    for name in NAMES:
        kind = "class " if inspect.isclass(getattr(MODULE, name)) else ""
        assert f"    {kind}{name}" in text, name


@pytest.mark.parametrize("name", [*FUNCTIONS, "vmpilot.db.connect"])
def test_the_example_of_a_function_works(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    function = FUNCTIONS.get(name, vmpilot.db.connect)
    known = {**FUNCTIONS, "connect": vmpilot.db.connect}
    assert function.__doc__
    test = doctest.DocTestParser().get_doctest(function.__doc__, known, name, None, 0)
    assert test.examples, "no example"
    said: list[str] = []
    doctest.DocTestRunner().run(test, out=said.append)
    assert said == []


def under(tree: ast.Module, condition: str) -> list[ast.stmt]:
    """Return what stands below a condition at the top of a module."""
    (found,) = (
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == condition
    )
    return found.body


def test_what_a_type_checker_imports_is_what_is_there() -> None:
    tree = ast.parse(Path(MODULE.__file__).read_text())
    checked = {
        alias.name: node.module
        for node in under(tree, "TYPE_CHECKING")
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert checked == MODULE._BEYOND
    # A module with such a function has, for a checker, every name.
    (hidden,) = under(tree, "not TYPE_CHECKING")
    assert isinstance(hidden, ast.FunctionDef) and hidden.name == "__getattr__"
    assert "__getattr__" not in {getattr(node, "name", "") for node in tree.body}


def test_every_result_can_be_sent_to_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = (
        *package.migrate("app.db"),
        package.current("app.db"),
        *package.history("app.db"),
        package.check("app.db"),
        package.verify(),
        package.schema(),
        *package.migrate_all(["app.db"]),
    )
    assert pickle.loads(pickle.dumps(results)) == results


USE = """
from vmpilot.migrate import Connect, Outcome, Proof, Report, Restored, Verdict, migrate_all, restore, verify
from vmpilot.migrate import migrat
import vmpilot.migrate

proof: Proof = verify()
verdicts: tuple[Verdict, ...] = proof.migrations
outcomes: list[Outcome] = list(migrate_all(["app.db"]))
restored: Restored = restore("app.db.bak")
vmpilot.migrate.verfy()
migrate_all(["app.db"], treads=3)
try:
    vmpilot.migrate.migrate()
except vmpilot.migrate.MigrationError as error:
    print(error.steps[0].verison)
"""


@pytest.mark.full
def test_a_mistyped_name_is_an_error_of_a_type_checker(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "use.py").write_text(USE)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--no-error-summary",
            "--cache-dir",
            tmp_path / "cache",
            "use.py",
        ],
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    errors = [line.partition(": error: ") for line in done.stdout.splitlines() if ": error: " in line]
    assert [(where, what.partition(";")[0].partition("  [")[0]) for where, _, what in errors] == [
        ("use.py:3", 'Module "vmpilot.migrate" has no attribute "migrat"'),
        ("use.py:10", 'Module has no attribute "verfy"'),
        ("use.py:11", 'Unexpected keyword argument "treads" for "migrate_all"'),
        ("use.py:15", '"Step" has no attribute "verison"'),
    ]
