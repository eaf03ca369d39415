"""The tests in two processes tell the same as in one."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from support import ROOT

FILES = {
    "test_one.py": "import pytest\n"
    "@pytest.fixture(scope='module')\ndef shared():\n    yield 1\n    print('gone')\n"
    "def test_good(shared): print('seen'); assert shared\n"
    "def test_wrong(shared): print('told'); assert shared == 2\n",
    "test_two.py": "import pytest\n@pytest.mark.parametrize('n', range(9))\ndef test_many(n): assert n != 7\n",
    "test_three.py": "import pytest\ndef test_not(): pytest.skip('why')\n"
    "@pytest.fixture\ndef broken(): raise OSError('no disk')\ndef test_error(broken): pass\n",
    "test_four.py": "import os\ndef test_where(capfd): os.write(1, b'x'); assert capfd.readouterr().out == 'x'\n",
}


def outcome(folder: Path, *options: str) -> tuple[int, list[str], str]:
    """Return the exit code, the lines about tests in order, and the closing line without its seconds."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "--no-header", *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    told = sorted(line for line in lines if re.match("(PASSED|FAILED|ERROR|SKIPPED) ", line))
    shown = sorted(line for line in lines if line in ("seen", "told", "gone") or line.startswith("E  "))
    return done.returncode, [*told, *shown], re.sub(r" in [0-9.]+s", "", lines[-1])


def test_two_processes_tell_the_same_as_one(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    for name in ("conftest.py", "halves.py", "support.py", "watched.py"):
        shutil.copy(ROOT / "tests" / name, tests)
    (tmp_path / "vmpilot").symlink_to(ROOT / "vmpilot")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, text in FILES.items():
        (tests / name).write_text(text)
    alone = outcome(tmp_path)
    assert alone[0] == 1 and "2 failed, 10 passed, 1 skipped, 1 error" in alone[2]
    assert outcome(tmp_path, "--halves") == alone
    (tests / "test_five.py").write_text("import os\ndef test_end(): os._exit(3)\n")
    assert outcome(tmp_path, "--halves", "tests/test_five.py", "tests/test_four.py")[0] != 0
