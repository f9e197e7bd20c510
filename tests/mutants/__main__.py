"""`python -m tests.mutants [FILE ...]`: make the code wrong in every small way, and run the tests.

Without files: all of `clawchat/core/phases` and `clawchat/core/crypto`. What became of each mutant
is kept in `.mutants/`, so a run that was stopped goes on where it was; a file whose code changed
since is asked anew, and `--again` asks the survivors once more, after a test was written.

Exit code 1 when a mutant survives that `equivalent.py` does not list, or was not asked yet.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Final

from tests.mutants.equivalent import EQUIVALENT, why_equivalent
from tests.mutants.operators import Mutant, meaning_of, mutants_of
from tests.mutants.runner import Fate, fate_of, warm_up

FOLDERS: Final = (Path("clawchat/core/phases"), Path("clawchat/core/crypto"))
KEPT: Final = Path(".mutants")
_OPERATORS: Final = Path(__file__).with_name("operators.py")

_NEAR: Final = {
    "crypto/schedule": ("tests/core/crypto/test_schedule.py", "tests/core/test_credential.py"),
    "crypto/noise": ("tests/core/crypto/test_noise.py", "tests/vectors/test_noise_vectors.py"),
    "crypto/xwing": ("tests/core/crypto/test_xwing.py", "tests/vectors/test_xwing_vectors.py"),
}
"""Tests of the mutated file itself come first, and kill most."""

_OF_FOLDER: Final = {
    "crypto": ("tests/core/crypto", "tests/vectors", "tests/core/test_credential.py"),
    "phases": ("tests/core/test_phases_origins.py", "tests/scenarios/test_rows.py"),
}
_FURTHER: Final = {
    "phases/answering": ("tests/core/test_generations.py",),
    "phases/compromised": ("tests/core/test_compromised.py",),
    "phases/following_ports": ("tests/core/test_ports.py",),
    "phases/rotating_keys": ("tests/core/test_ratchet.py",),
    "phases/rotating_ports": ("tests/core/test_ports.py",),
}
"""Slower tests about the same, which come before all others."""

_ALL: Final = (
    "tests/core/test_endpoint.py",
    "tests/core/test_epochs.py",
    "tests/core/test_exchange.py",
    "tests/core/test_generations.py",
    "tests/core/test_link.py",
    "tests/core/test_ports.py",
    "tests/core/test_ratchet.py",
    "tests/core/test_roaming.py",
    "tests/core/test_secret.py",
    "tests/core/test_transport.py",
    "tests/core/wire",
    "tests/scenarios/test_recorded_hellos.py",
    "tests/scenarios/test_rows.py",
)


def stages_of(path: Path) -> Iterator[tuple[str, ...]]:
    """Few tests first, then more: most mutants do not live to see the second stage."""
    folder, name = path.parent.name, f"{path.parent.name}/{path.stem}"
    usual = {"crypto": f"crypto/test_{path.stem}.py", "phases": f"test_phases_{path.stem}.py"}
    near = _NEAR.get(name, (f"tests/core/{usual[folder]}",))
    yield tuple(each for each in near if Path(each).exists())
    yield _OF_FOLDER[folder]
    yield _FURTHER.get(name, ())
    yield _ALL


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


class Session:
    """The mutants of one file, and what became of them so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        source, name = path.read_text(), f"{path.parent.name}.{path.stem}"
        KEPT.mkdir(exist_ok=True)
        self._made = KEPT / f"{name}.{_digest(source + _OPERATORS.read_text())}.mutants.json"
        self._told = KEPT / f"{name}.{_digest(meaning_of(source))}.fates.json"
        self.mutants = self._mutants()
        self.fates: dict[str, Fate] = {}
        if self._told.exists():
            told, made = json.loads(self._told.read_text()), {each.key for each in self.mutants}
            self.fates = {key: Fate[fate] for key, fate in told.items() if key in made}

    def _mutants(self) -> list[Mutant]:
        if not self._made.exists():
            module = ".".join(self.path.with_suffix("").parts)
            made = [
                [mutant.module, mutant.operator, mutant.key, mutant.source]
                for mutant in mutants_of(self.path, module)
            ]
            self._made.write_text(json.dumps(made))
        return [Mutant(*values) for values in json.loads(self._made.read_text())]

    def run(self, *, again: bool, stages_max: int | None) -> None:
        stages = [tests for tests in stages_of(self.path) if tests][:stages_max]
        for mutant in self.mutants:
            known = self.fates.get(mutant.key)
            if known is None or (again and known is Fate.SURVIVED):
                enough = 2 if why_equivalent(mutant.key) else None  # the others take the longest
                self.fates[mutant.key] = fate_of(mutant, stages[:enough])
                told = {key: fate.name for key, fate in self.fates.items()}
                self._told.write_text(json.dumps(told, indent=0))

    def survivors(self) -> list[Mutant]:
        return [m for m in self.mutants if self.fates.get(m.key) is Fate.SURVIVED]


def files_of(names: list[str]) -> list[Path]:
    if names:
        return [Path(name) for name in names]
    found = [path for folder in FOLDERS for path in sorted(folder.glob("*.py"))]
    return [path for path in found if path.name != "__init__.py"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("files", nargs="*")
    parser.add_argument("--again", action="store_true", help="ask survivors once more")
    parser.add_argument("--stages", type=int, help="only so many of the four stages of tests")
    parser.add_argument("--told", action="store_true", help="only tell what is known so far")
    options = parser.parse_args()
    warm_up()
    if (
        not (options.told or options.stages)
        and fate_of(None, (*_OF_FOLDER.values(), _ALL)) is not Fate.SURVIVED
    ):
        parser.error("the tests fail without any mutant")
    unexplained, total = 0, Counter[str]()
    for path in files_of(options.files):
        began = perf_counter()
        session = Session(path)
        if not options.told:
            session.run(again=options.again, stages_max=options.stages)
        unexplained += tell(session, perf_counter() - began, total)
    print(f"all: {dict(total)}, {unexplained} to be explained")
    return 1 if unexplained else 0


def void_entries(session: Session) -> list[str]:
    """What `equivalent.py` explains about this file although no such mutant survives."""
    alive = {m.key for m in session.mutants if session.fates.get(m.key) in (None, Fate.SURVIVED)}
    name = f"{session.path.parent.name}.{session.path.stem}."
    return [key for key in EQUIVALENT if key.startswith(name) and key not in alive]


def tell(session: Session, seconds: float, total: Counter[str]) -> int:
    """One line, and every survivor that nobody explained; how many."""
    counts = Counter(fate.name.lower() for fate in session.fates.values())
    counts["mutants"] = len(session.mutants)
    survivors = session.survivors()
    open_ones = [mutant for mutant in survivors if why_equivalent(mutant.key) is None]
    total.update(counts)
    waiting = len(session.mutants) - len(session.fates)
    print(f"{session.path}: {dict(counts)} in {seconds:.0f} s", flush=True)
    if waiting:
        print(f"    {waiting} were not asked yet", flush=True)
    for mutant in open_ones:
        print(f"    {mutant.operator} | {mutant.key}", flush=True)
    for key in void_entries(session):
        print(f"    explained, and no survivor: {key}", flush=True)
    return len(open_ones) + waiting


if __name__ == "__main__":
    sys.exit(main())
