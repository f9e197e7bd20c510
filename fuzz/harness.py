"""What all targets share: finding them, their corpora, and running one under atheris.

Left to others: the invariants (`fuzz_*.py`), bulk runs (`fuzz.soak`).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

FOLDER = Path(__file__).resolve().parent
Check: TypeAlias = Callable[[bytes], None]


def expect(truth: bool) -> None:
    """Fail where a refusal is not of the kind that the invariant allows."""
    assert truth, "refused, but not as the invariant allows"


def targets() -> list[str]:
    """The names of all targets, in order."""
    return sorted(path.stem.removeprefix("fuzz_") for path in FOLDER.glob("fuzz_*.py"))


def check_of(target: str) -> Check:
    """The `check` function of a target."""
    check: Check = import_module(f"fuzz.fuzz_{target}").check
    return check


def corpus_of(target: str) -> list[bytes]:
    """The committed inputs of a target, in the order of their names."""
    return [path.read_bytes() for path in sorted((FOLDER / "corpus" / target).glob("*"))]


def run(target: str) -> None:
    """Run one target under atheris, until it fails or is stopped.

    libFuzzer's options (`-max_total_time=60`, `-runs=100000`) are passed on. What it finds
    interesting, or wrong, goes to a temporary folder; the committed corpus is only read.
    """
    import atheris

    # Coverage comes from instrumented byte code, so what was imported plainly must go.
    for module in [name for name in sys.modules if name.split(".")[0] in ("clawchat", "fuzz")]:
        del sys.modules[module]
    with atheris.instrument_imports(include=["clawchat"]):
        check = check_of(target)
    found = tempfile.mkdtemp(prefix=f"clawchat-fuzz-{target}-")
    print(f"new inputs go to {found}", file=sys.stderr)
    folders = [found, str(FOLDER / "corpus" / target), f"-artifact_prefix={found}/"]
    atheris.Setup([sys.argv[0], *folders, *sys.argv[1:]], check)
    atheris.Fuzz()
