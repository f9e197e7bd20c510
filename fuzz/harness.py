"""What all targets share: finding them, their corpora, and running one under atheris.

Left to others: the invariants (`fuzz_*.py`), bulk runs (`fuzz.soak`).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from random import Random
from typing import TypeAlias

from fuzz.mutate import mutated
from fuzz.program import SIZE_MAX, Grammar

FOLDER = Path(__file__).resolve().parent
WATCHED = ("clawchat", "h11")  # packages whose coverage guides a campaign
PROGRAM_SIZE = 300  # bytes, some 40 steps: longer ones cost more time than they find
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


def grammar_of(target: str) -> Grammar | None:
    """How the programs of a target are written, when its inputs are programs."""
    grammar: Grammar | None = getattr(import_module(f"fuzz.fuzz_{target}"), "GRAMMAR", None)
    return grammar


def seeds_of(target: str) -> list[bytes]:
    """The inputs that `fuzz.seeds` writes, in the order of their names."""
    return [path.read_bytes() for path in sorted((FOLDER / "corpus" / target).glob("*"))]


def found_of(target: str) -> list[bytes]:
    """The inputs that campaigns found: one in a line, as hex, shortest first."""
    path = FOLDER / "corpus" / f"{target}.hex"
    return [bytes.fromhex(line) for line in path.read_text().split()] if path.exists() else []


def corpus_of(target: str) -> list[bytes]:
    """All committed inputs of a target."""
    return seeds_of(target) + found_of(target)


def mutator_of(target: str) -> Callable[[Sequence[bytes], Random], bytes]:
    """How to make an input of a target from others: by its grammar if it has one."""
    grammar = grammar_of(target)
    return mutated if grammar is None else grammar.from_corpus


def run(target: str) -> None:
    """Run one target under atheris, until it fails or is stopped.

    libFuzzer's options (`-max_total_time=60`, `-runs=100000`) are passed on. What it finds
    interesting, or wrong, goes to the folder that is named, else to a temporary one; the committed
    corpus is only read.
    """
    import atheris

    # Coverage comes from instrumented byte code, so what was imported plainly must go.
    again = (*WATCHED, "fuzz", "tests")  # the last two, lest they hold on to the former modules
    for module in [name for name in sys.modules if name.split(".")[0] in again]:
        del sys.modules[module]
    with atheris.instrument_imports(include=list(WATCHED)):
        check = check_of(target)
    atheris.Setup([sys.argv[0], *_arguments(target, sys.argv[1:])], check, **_mutators(target))
    atheris.Fuzz()


def _arguments(target: str, given: list[str]) -> list[str]:
    """libFuzzer's arguments: what was given, and before it the folders and a size.

    In a program of OSS-Fuzz, and to run single files, what was given is all.
    """
    named = [place for place in given if not place.startswith("-")]
    if getattr(sys, "frozen", False) or any(Path(place).is_file() for place in named):
        return given
    found = Path(named[0] if named else tempfile.mkdtemp(prefix=f"clawchat-fuzz-{target}-"))
    found.mkdir(parents=True, exist_ok=True)
    known = Path(tempfile.mkdtemp(prefix=f"clawchat-corpus-{target}-"))
    for number, data in enumerate(corpus_of(target)):
        (known / f"{number:04}").write_bytes(data)
    print(f"new inputs go to {found}", file=sys.stderr)
    size = [] if grammar_of(target) is None else [f"-max_len={PROGRAM_SIZE}"]
    options = [option for option in given if option.startswith("-")]
    folders = [str(found), str(known), *named[1:]]
    return [*folders, f"-artifact_prefix={found}/", *size, *options]


def _mutators(target: str) -> dict[str, Callable[..., bytes]]:
    """What atheris is to mutate with: nothing of ours for bytes without structure."""
    grammar = grammar_of(target)
    if grammar is None:
        return {}

    def mutate(data: bytes, size_max: int, seed: int) -> bytes:
        return grammar.mutated(data, Random(seed), min(size_max, SIZE_MAX))

    def cross(one: bytes, other: bytes, size_max: int, seed: int) -> bytes:
        return grammar.crossed(one, other, Random(seed), min(size_max, SIZE_MAX))

    return {"custom_mutator": mutate, "custom_crossover": cross}
