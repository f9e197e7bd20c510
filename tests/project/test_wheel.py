"""What a user gets: the built wheel, not the checkout.

Rules: built without isolation, so that no registry is asked; skipped where the backend is missing.
Left to others: running the installed program (`make demo` in an empty folder).
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    if find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed here")
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return ZipFile(built)


def test_the_wheel_holds_every_module_and_says_that_it_is_typed(wheel: ZipFile) -> None:
    inside = {name for name in wheel.namelist() if name.startswith("clawchat/")}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "clawchat").rglob("*.py")}
    assert modules <= inside
    assert "clawchat/py.typed" in inside


def test_the_wheel_holds_nothing_but_the_package_and_its_licence(wheel: ZipFile) -> None:
    roots = {name.partition("/")[0] for name in wheel.namelist()}
    assert {root.partition("-")[0] for root in roots} == {"clawchat"}
    assert any(name.endswith("/licenses/LICENSE") for name in wheel.namelist())


def test_the_wheel_installs_a_command(wheel: ZipFile) -> None:
    (entry,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "clawchat = clawchat.cli:main" in wheel.read(entry).decode()
