"""The repository as a whole: what each file begins with, and what must not be in it.

Rules: only what git tracks, or would track, counts.
Left to others: style and types (`make lint`).
"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("lock", ".lock", "requirements.txt", "pip.conf", "lock.json", "lock.yaml", "lock.toml")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def tracked(pattern: str = "") -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", pattern or "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(path for name in done.stdout.split("\n") if (path := ROOT / name).is_file())


@pytest.fixture(autouse=True)
def _checkout() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")


def test_every_python_file_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in tracked("*.py")
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent


def test_nothing_is_left_marked_as_unfinished() -> None:
    this = Path(__file__)
    marked = [
        str(path.relative_to(ROOT))
        for path in tracked("*.py")
        if path != this and UNFINISHED.search(path.read_text(encoding="utf-8"))
    ]
    assert not marked


def test_no_file_pins_packages_or_names_a_registry() -> None:
    locks = [path.name for path in tracked() if path.name.endswith(LOCKS)]
    assert not locks
    hosts = re.compile(rb"pypi\.org/simple|files\.pythonhosted|registry\.npmjs|index-url")
    this = Path(__file__)
    naming = [path.name for path in tracked() if path != this and hosts.search(path.read_bytes())]
    assert not naming


def test_no_secret_file_and_no_path_of_a_developers_machine_is_tracked() -> None:
    assert not tracked("*.sec")
    personal = re.compile(rb"/(?:home|Users)/[a-z]+/|/work/|/root/")
    this = Path(__file__)
    naming = [
        path.name for path in tracked() if path != this and personal.search(path.read_bytes())
    ]
    assert not naming


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    names = {"utils.py", "_utils.py", "helpers.py", "misc.py", "common.py"}
    assert not [path for path in tracked("*.py") if path.name in names]


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in tracked("*.md")
        for target in LINK.findall(document.read_text(encoding="utf-8"))
        if "://" not in target and not (document.parent / target).exists()
    ]
    assert not broken
