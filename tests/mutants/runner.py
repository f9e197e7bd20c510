"""Runs one mutant: a copy of this process imports it in place of the module, and runs the tests.

Starting Python and importing what never changes (pytest, Hypothesis, OpenSSL's bindings) takes
longer than most mutants live. So that is done once, and each mutant begins as a fork of it.

Rules: nothing of `clawchat` is imported before the fork; a mutant that runs for ever or eats memory
is stopped and counts as killed.
Left to others: which mutants there are (`operators`).
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
from collections.abc import Sequence
from enum import Enum, unique
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from time import monotonic, sleep
from types import ModuleType
from typing import Final

import pytest
from hypothesis import Phase, settings

from tests.mutants.operators import Mutant

SECONDS_MAX: Final = 90  # of processor time; the slowest stage takes some 30 s
PATIENCE: Final = 900  # of real time, for who waits without computing
FEW: Final = 10  # examples in the first stage: what is wrong is mostly wrong for all
MEMORY_MAX: Final = 4 << 30
_UNCHANGING: Final = (
    "attrs", "cryptography.hazmat.primitives.asymmetric.mlkem",
    "cryptography.hazmat.primitives.asymmetric.x25519",
    "cryptography.hazmat.primitives.ciphers.aead",
    "cryptography.hazmat.primitives.kdf.argon2", "cryptography.hazmat.primitives.kdf.hkdf",
    "hypothesis", "noise.connection",
    "transitions", "trio",
)  # fmt: skip


@unique
class Fate(Enum):
    """What became of a mutant."""

    KILLED = "a test failed, or it could not even be imported"
    STOPPED = "it ran for ever, or crashed"
    SURVIVED = "no test noticed"


class BrokenRun(Exception):
    """pytest itself failed: nothing was learned."""


class _Changed(MetaPathFinder, SourceLoader):  # type: ignore[misc]  # typeshed's own quarrel
    """Imports one module from a text of ours."""

    def __init__(self, mutant: Mutant) -> None:
        self._name = mutant.module
        self._source = mutant.source

    def find_spec(
        self, fullname: str, _path: object, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return spec_from_loader(fullname, self) if fullname == self._name else None

    def get_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")).with_suffix(".py").resolve())

    def get_data(self, _path: str) -> bytes:
        return self._source.encode()


def warm_up() -> None:
    """Import what no mutant changes."""
    for name in _UNCHANGING:
        importlib.import_module(name)
    phases = (Phase.explicit, Phase.generate)  # a counterexample need not be a small one here
    settings.register_profile(
        "mutants", deadline=None, derandomize=True, database=None, phases=phases
    )
    settings.register_profile("few", settings.get_profile("mutants"), max_examples=FEW)
    assert "clawchat" not in sys.modules


def fate_of(mutant: Mutant | None, stages: Sequence[Sequence[str]]) -> Fate:
    """Run the stages of tests, until one notices. Without a mutant: the code as it is."""
    for at, tests in enumerate(stages):
        fate = _run(mutant, tests, "mutants" if at else "few")
        if fate is not Fate.SURVIVED:
            return fate
    return Fate.SURVIVED


def _run(mutant: Mutant | None, tests: Sequence[str], profile: str) -> Fate:
    child = os.fork()
    if child == 0:
        os.environ["HYPOTHESIS_PROFILE"] = profile
        _be_a_mutant(mutant, tests)
    limit = monotonic() + PATIENCE
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if monotonic() > limit:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Fate.STOPPED
        sleep(0.01)
    code = os.waitstatus_to_exitcode(status)
    if code == pytest.ExitCode.OK:
        return Fate.SURVIVED
    if code in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED):
        return Fate.KILLED
    if code < 0:
        return Fate.STOPPED
    raise BrokenRun(f"pytest ended with {code} for {mutant and mutant.key}")


def _be_a_mutant(mutant: Mutant | None, tests: Sequence[str]) -> None:
    """The forked process, to its end."""
    code = 70
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_MAX, SECONDS_MAX))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        if mutant is not None:
            sys.meta_path.insert(0, _Changed(mutant))
        options = ("-x", "-q", "-p", "no:cacheprovider", "--assert=plain")
        code = int(pytest.main([*options, "--no-header", "--tb=no", *tests]))
    finally:
        os._exit(code)
