"""Runs Spin: Promela in, a verdict with its figures out.

Rules: every run is bounded in memory and time; a search that was cut short is no verdict. Weak
fairness (`-f`) is on: a process that can always take a step takes one in the end.
Left to others: the models (`handshake`, `rotation`, `closing`, `compromise`).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

SPIN: Final = "spin"
COMPILER: Final = "gcc"
SECONDS_MAX: Final = 600
MEGABYTES_MAX: Final = 2_000
DEPTH_MAX: Final = 2_000_000
_ERRORS: Final = re.compile(r"errors: (\d+)")
_STATES: Final = re.compile(r"([\d.e+]+) states, stored")
_STEP: Final = re.compile(r"^\s*(?:STEP: (.*)|spin: (.*assert.*)|\s*<<<<<START OF CYCLE>>>>>.*)$")


@frozen
class Outcome:
    """`holds`: the whole state space was seen and nothing broke the property."""

    holds: bool
    states: int
    seconds: float
    trail: tuple[str, ...]


def missing() -> list[str]:
    """Programs that are not installed."""
    return [program for program in (SPIN, COMPILER) if shutil.which(program) is None]


def verify(model: str, seconds_max: int = SECONDS_MAX) -> Outcome:
    """Search the whole state space. Raises `RuntimeError` when the search does not end."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="clawchat-spin-") as name:
        folder = Path(name)
        (folder / "model.pml").write_text(model, encoding="utf-8")
        said = _run([SPIN, "-a", "model.pml"], folder, seconds_max)
        if not (folder / "pan.c").exists() or "Error" in said:
            raise RuntimeError(f"{SPIN} says: {said.strip()[-800:]}")
        options = ["-O0", "-w", f"-DMEMLIM={MEGABYTES_MAX}", "-DVECTORSZ=2048", "-DNFAIR=3"]
        said = _run([COMPILER, *options, "-o", "pan", "pan.c"], folder, seconds_max)
        if not (folder / "pan").exists():
            raise RuntimeError(f"{COMPILER} says: {said.strip()[-800:]}")
        said = _run(["./pan", "-a", "-f", f"-m{DEPTH_MAX}"], folder, seconds_max)
        errors, states = _ERRORS.search(said), _STATES.search(said)
        if errors is None or states is None or "search depth too small" in said:
            raise RuntimeError(f"pan says: {said.strip()[-800:]}")
        broken = int(errors[1]) > 0
        if not broken and "Search not completed" in said:
            raise RuntimeError(f"pan says: {said.strip()[-800:]}")
        trail = _trail(folder, seconds_max) if broken else ()
    return Outcome(not broken, int(float(states[1])), time.perf_counter() - began, trail)


def _run(command: Sequence[str], folder: Path, seconds_max: int) -> str:
    try:
        ran = subprocess.run(  # noqa: S603 - our own model, in a folder of its own
            command, cwd=folder, capture_output=True, text=True, timeout=seconds_max, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{command[0]} took more than {seconds_max} s") from None
    return ran.stdout + ran.stderr


def _trail(folder: Path, seconds_max: int) -> tuple[str, ...]:
    """The counterexample, in the words that the model prints."""
    said = _run([SPIN, "-T", "-t", "model.pml"], folder, seconds_max)
    return tuple(line.strip() for line in said.splitlines() if _STEP.match(line))
