"""What the package loads, and which of its modules may import which."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from support import ROOT

from vmpilot.migrate.cli.options import COMMANDS

PACKAGE = "vmpilot.migrate"
HOUSE = ROOT / "vmpilot/migrate"

# What a room may import besides itself; the modules outside of all rooms are rooms of their own.
MAY_IMPORT = {
    "access": {"errors"},
    "errors": set[str](),
    "limits": set[str](),
    "tokens": set[str](),
    "typed": set[str](),
    "files": {"access", "errors", "limits", "tokens"},
    "database": {"access", "errors", "limits", "tokens"},
    "run": {"access", "errors", "limits", "tokens", "files", "database"},
    "tools": {"access", "errors", "limits", "tokens", "files", "database", "run"},
    "__init__": {"access", "errors", "limits", "tokens", "files", "database", "run", "tools"},
    "cli": {"access", "errors", "limits", "tokens", "files", "database", "run", "tools"},
    "__main__": {"errors", "cli"},
}
FOR_ALL = {"typed"}

# What a run with nothing to do loads of Python and of the package, itself.
OF_PYTHON = "__future__, collections.abc, contextlib, errno, gc, os, sqlite3, sys"
OF_THE_PACKAGE = {
    *("access", "errors", "limits", "typed", "database", "files", "run"),
    *(
        f"database.{name}"
        for name in ("connection", "names", "opening", "permissions", "settings", "settled")
    ),
    *("files.directory", "files.plan", "run.request", "run.startup"),
}
OF_THE_COMMAND_LINE = {"cli", "cli.arguments", "cli.commands", "cli.options", "cli.text"}


def named(path: Path) -> str:
    """Return the full name of the module in a file."""
    parts = path.relative_to(HOUSE).with_suffix("").parts
    return ".".join([PACKAGE, *parts])


MODULES = {named(path): ast.parse(path.read_text()) for path in HOUSE.rglob("*.py")}


def room(module: str) -> str:
    return module.split(".")[2]


def imports(module: str) -> Iterator[str]:
    """Yield the full name of everything that a module imports, at its top or inside a function."""
    parts = module.split(".")
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = parts[: len(parts) - node.level] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def edges() -> set[tuple[str, str]]:
    """Return which module imports which module of the package."""
    found = set()
    for module in MODULES:
        for name in imports(module):
            source = name if name in MODULES else name.rpartition(".")[0]
            if source in MODULES:
                found.add((module, source))
            elif name == f"{PACKAGE}.__init__" or source == PACKAGE:
                found.add((module, f"{PACKAGE}.__init__"))
    return found


def test_every_module_has_a_room_and_every_room_says_what_may_live_in_it() -> None:
    assert {room(module) for module in MODULES} == MAY_IMPORT.keys() & {room(module) for module in MODULES}
    assert {"files", "database", "run", "tools", "cli"} <= {room(module) for module in MODULES}
    assert [module for module, tree in MODULES.items() if not ast.get_docstring(tree)] == []


@pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("git"), reason="no checkout of git here")
def test_what_is_committed_lies_in_a_folder_of_the_project() -> None:
    # What stands beside them by mistake, such as a downloaded wheel, stays in every clone.
    listing = ["git", "-c", "safe.directory=*", "ls-files"]
    held = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    known = {"README.md", "migrations", "pyproject.toml", "scripts", "tests", "vmpilot"}
    assert {name.partition("/")[0] for name in held if not name.startswith(".")} <= known


@pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="no README.md here")
def test_the_readme_says_what_each_module_is_for() -> None:
    page = (ROOT / "README.md").read_text().partition("\n## How it works\n")[2]
    told = {*re.findall(r"`(\w+)`", page.partition("\n### Speed\n")[0]), "__init__", "__main__"}
    commands = {path.stem for path in (HOUSE / "tools").glob("*.py")} & {*COMMANDS}
    assert {module.rpartition(".")[2] for module in MODULES} - told - commands == set()


def test_imports_point_one_way() -> None:
    assert len(edges()) > 20
    refused = [
        (module, found)
        for module, found in sorted(edges())
        if room(found) not in {room(module), *MAY_IMPORT[room(module)], *FOR_ALL}
    ]
    assert refused == []


def test_no_module_imports_itself_by_a_detour() -> None:
    needs: dict[str, set[str]] = {module: set() for module in MODULES}
    for module, found in edges():
        needs[module].add(found)
    assert len(list(TopologicalSorter(needs).static_order())) == len(MODULES)


def test_nothing_is_imported_from_outside() -> None:
    tops = {name.split(".")[0] for module in MODULES for name in imports(module)}
    assert "sqlite3" in tops
    assert tops - sys.stdlib_module_names == {"vmpilot"}


BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)


def depth(block: ast.AST) -> int:
    """Return how many blocks stand inside of each other; an elif is none, nor is a function inside."""
    found = 0
    for part in ast.iter_child_nodes(block):
        if isinstance(part, ast.FunctionDef | ast.ClassDef):
            continue
        is_elif = isinstance(block, ast.If) and isinstance(part, ast.If) and block.orelse == [part]
        found = max(found, depth(part) + (isinstance(part, BLOCKS) and not is_elif))
    return found


def test_functions_fit_a_screen_and_nest_three_blocks_at_most() -> None:
    functions = [
        (f"{module}.{node.name}", depth(node), (node.end_lineno or 0) - node.lineno + 1)
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    ]
    assert len(functions) > 500
    assert [(name, deep, lines) for name, deep, lines in functions if deep > 3 or lines > 50] == []


def test_only_the_database_room_knows_sqlite3() -> None:
    knowing = {module for module in MODULES for name in imports(module) if name.split(".")[0] == "sqlite3"}
    assert {room(module) for module in knowing} == {"database"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-c", "import vmpilot.migrate as m; m.migrate('app.db')"], OF_THE_PACKAGE),
        (["-m", PACKAGE, "-qd", "app.db"], OF_THE_PACKAGE | OF_THE_COMMAND_LINE),
    ],
    ids=["function", "command"],
)
def test_a_start_up_with_nothing_to_do_loads_little(
    words: list[str], expected: set[str], tmp_path: Path
) -> None:
    upgrade = loaded(tmp_path, *words)
    assert {f"{PACKAGE}.tokens", f"{PACKAGE}.run.step"} < upgrade
    assert upgrade & {"typing", "hashlib", "logging", f"{PACKAGE}.database.structure"} == set()
    beyond = loaded(tmp_path, *words) - loaded(tmp_path, "-c", f"import runpy, {OF_PYTHON}")
    assert beyond == {"vmpilot", PACKAGE, *(f"{PACKAGE}.{name}" for name in expected)}


def loaded(place: Path, *words: str) -> set[str]:
    """Return the modules that a python of its own loads, as it tells itself."""
    # -S: without site, whose .pth files load modules of their own
    told = subprocess.run(
        [sys.executable, "-S", "-P", "-X", "importtime", *words],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    ).stderr
    return {line.rpartition("|")[2].strip() for line in told.splitlines()}
