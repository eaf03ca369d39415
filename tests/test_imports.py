"""What the package loads, and which of its modules may import which."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "vmpilot.migrate"
MODULES = {path.stem: ast.parse(path.read_text()) for path in (ROOT / "vmpilot/migrate").glob("*.py")}

# A module may import what stands to its left, be it at its top or inside a function.
ORDER = (
    *(
        "errors",
        "script",
        "files",
        "plan",
        "ledger",
        "session",
        "guards",
        "adoption",
        "prepare",
        "step",
        "runner",
    ),
    *("schema", "scaffold", "offline", "backup", "rehearsal", "proof", "health"),
    *("__init__", "cli", "__main__"),
)

SLOW = {
    *("argparse", "dataclasses", "hashlib", "_hashlib", "importlib.resources", "inspect"),
    *("logging", "logging.config", "pathlib", "ssl"),
}


def imports(tree: ast.Module) -> Iterator[str]:
    """Yield the full name of everything that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = ("", PACKAGE, "vmpilot")[node.level]
            source = ".".join(filter(None, (parent, node.module)))
            yield from (f"{source}.{alias.name}" for alias in node.names)


def room(name: str) -> str | None:
    """Return which module of the package a full name belongs to."""
    parts = name.split(".")
    if parts[0] != "vmpilot" or name == "vmpilot.__version__":
        return None
    if parts[1:2] != ["migrate"]:
        return name  # for example vmpilot.db, which stands to the right of everything here
    return parts[2] if len(parts) > 2 and parts[2] in ORDER else "__init__"


def test_every_module_has_a_place() -> None:
    assert MODULES
    assert set(MODULES) == set(ORDER)


def test_imports_point_to_the_left() -> None:
    edges = {
        (module, found) for module, tree in MODULES.items() for name in imports(tree) if (found := room(name))
    }
    assert edges
    assert [edge for edge in sorted(edges) if edge[1] not in ORDER[: ORDER.index(edge[0])]] == []


def test_nothing_is_imported_from_outside() -> None:
    tops = {name.split(".")[0] for tree in MODULES.values() for name in imports(tree)}
    assert "sqlite3" in tops
    assert tops - sys.stdlib_module_names == {"vmpilot"}


def test_a_run_with_nothing_to_do_loads_no_slow_module(tmp_path: Path) -> None:
    migrate = "import sys; from vmpilot.migrate import migrate; print(len(migrate('app.db')), *sys.modules)"

    def run() -> list[str]:
        # -S: without site, whose .pth files load modules of their own
        return subprocess.run(
            [sys.executable, "-S", "-P", "-c", migrate],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout.split()

    applied, *_ = run()
    assert int(applied) > 0
    applied, *loaded = run()
    assert applied == "0"
    assert "sqlite3" in loaded
    assert SLOW & set(loaded) == set()
