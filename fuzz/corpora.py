"""The committed corpora in the forms that others want, and back.

    python -m fuzz.corpora OUT [TARGET ...]          zips for OSS-Fuzz: fuzz_TARGET_seed_corpus.zip
    python -m fuzz.corpora --keep TARGET FOLDER      what a campaign found, minimised, becomes
                                                     fuzz/corpus/TARGET.hex

To minimise: the seeds stay, and of what was found, shortest first, each input that takes a branch
(or takes one about twice as often) that none before it took. Coverage is measured by the
interpreter, so no fuzzer is needed.
"""

from __future__ import annotations

import argparse
import os
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from zipfile import ZipFile

from fuzz.harness import FOLDER, Check, check_of, corpus_of, found_of, seeds_of, targets

CONSIDERED_MAX = 250  # found inputs that are looked at: of more, some of all times of a campaign
COUNT_MAX = 150  # inputs of a target: some 20 kB, and all targets are replayed in seconds
PACKAGE = str(FOLDER.parent / "clawchat") + os.sep


def write_zips(out: Path, names: Sequence[str]) -> None:
    """A zip of each target's corpus, as OSS-Fuzz looks for it."""
    for name in names:
        with ZipFile(out / f"fuzz_{name}_seed_corpus.zip", "w") as archive:
            for number, data in enumerate(corpus_of(name)):
                archive.writestr(f"{number:04}", data)


Feature = tuple[CodeType, int, int, int]


def features_of(check: Check, data: bytes) -> set[Feature]:
    """Which lines follow which in the package, and how often: 1, 2, 3, 4-7, 8-15, ... times."""
    arcs: Counter[tuple[CodeType, int, int]] = Counter()

    def local(last: list[int]) -> Callable[[FrameType, str, Any], Any]:
        def trace(frame: FrameType, event: str, _argument: object) -> Any:  # noqa: ANN401
            if event == "line":
                line = frame.f_lineno
                arcs[frame.f_code, last[0], line] += 1
                last[0] = line
            return trace

        return trace

    def begin(frame: FrameType, _event: str, _argument: object) -> Any:  # noqa: ANN401
        return local([-1]) if frame.f_code.co_filename.startswith(PACKAGE) else None

    sys.settrace(begin)
    try:
        check(data)
    finally:
        sys.settrace(None)
    return {(*arc, count if count < 4 else -count.bit_length()) for arc, count in arcs.items()}


def minimised(check: Check, seeds: Sequence[bytes], found: Sequence[bytes]) -> list[bytes]:
    """Of `found`, what adds something to `seeds` and to those before it.

    Branches come first; what is left of the limits is for how often they were taken.
    """
    numbers: dict[object, int] = {}  # of features, which are many and come again and again

    def numbered(things: Iterable[object]) -> array[int]:
        return array("I", [numbers.setdefault(thing, len(numbers)) for thing in things])

    inputs = [*seeds, *sorted(set(found) - set(seeds), key=lambda data: (len(data), data))]
    often, branches = [], []
    for data in inputs:
        features = features_of(check, data)
        often.append(numbered(features))
        branches.append(numbered({feature[:3] for feature in features}))
    kept = dict.fromkeys(range(len(seeds)))
    for wanted in (branches, often):
        known = {number for at in kept for number in wanted[at]}
        for at, numbers_of in enumerate(wanted):
            if at not in kept and not known.issuperset(numbers_of) and len(kept) < COUNT_MAX:
                known.update(numbers_of)
                kept[at] = None
    return [inputs[at] for at in sorted(kept) if at >= len(seeds)]


def keep(name: str, folder: Path) -> None:
    """Replace what is committed of earlier campaigns by what is worth keeping of all."""
    paths = [path for path in folder.iterdir() if len(path.name) == 40]  # libFuzzer's names
    paths.sort(key=lambda path: path.stat().st_mtime)
    step = max(1, len(paths) // CONSIDERED_MAX)
    found = [path.read_bytes() for path in paths[::-step]] + found_of(name)
    kept = minimised(check_of(name), seeds_of(name), found)
    (FOLDER / "corpus" / f"{name}.hex").write_text("".join(f"{data.hex()}\n" for data in kept))
    print(f"{name}: kept {len(kept)} of {len(found)}, {sum(map(len, kept))} bytes")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz.corpora", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--keep", metavar="TARGET", choices=targets())
    parser.add_argument("folder", type=Path)
    parser.add_argument("targets", nargs="*")
    options = parser.parse_args(arguments)
    if options.keep:
        keep(options.keep, options.folder)
    else:
        write_zips(options.folder, options.targets or targets())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
