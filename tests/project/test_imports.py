"""What importing costs, who may import whom, and whether everything imported is declared.

Rules: import costs are measured in a fresh interpreter, since this one has everything loaded.
Left to others: what the modules do.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "anycorn", "anyio", "apsw", "asyncio", "cyclopts", "h11", "httpx", "httpx2", "openai",
    "platformdirs", "pydantic", "rich", "starlette", "trio",
)  # fmt: skip


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in memory after `statement` ran in a fresh interpreter."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import clawchat.core.endpoint",
        "import clawchat",
        "import clawchat.errors",
        "import clawchat.nat",
    ],
)
def test_the_core_and_the_bare_package_load_no_runtime_and_no_application_library(
    statement: str,
) -> None:
    assert not loaded_by(statement) & set(HEAVY)


def test_the_public_names_come_with_trio_and_without_any_application_library() -> None:
    loaded = loaded_by("import clawchat; clawchat.connect, clawchat.serve, clawchat.Store")
    assert "trio" in loaded
    assert not loaded & (set(HEAVY) - {"trio", "asyncio"})


def test_help_is_shown_without_loading_servers_and_sdks() -> None:
    loaded = loaded_by("import clawchat.cli")
    assert not loaded & {"openai", "pydantic", "anycorn", "starlette", "apsw"}


def test_every_name_of_the_public_face_exists() -> None:
    import clawchat

    names = dir(clawchat)
    assert {"connect", "serve", "Peer", "Store"} <= set(names)
    missing = [name for name in names if getattr(clawchat, name, None) is None]
    assert not missing


def test_nobody_imports_who_they_may_not() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def imported_packages(folder: str) -> set[str]:
    """Top-level names that the Python files of a folder import, however deep inside them."""
    found: set[str] = set()
    for file in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found


def test_every_library_that_the_package_imports_is_a_declared_dependency() -> None:
    declared = {
        text.partition(";")[0].partition(">")[0].partition("[")[0].strip()
        for text in requires("clawchat") or ()
        if "extra ==" not in text
    }
    owners = packages_distributions()
    third_party = imported_packages("clawchat") - set(sys.stdlib_module_names) - {"clawchat"}
    undeclared = {
        name for name in third_party if not declared & {d.lower() for d in owners.get(name, ())}
    }
    assert not undeclared - OPTIONAL


OPTIONAL = {"httpx"}
"""Used where the caller already brought it, never imported otherwise."""
