"""Every target in bulk, without atheris: seeded inputs, as many as asked for.

    python -m fuzz --inputs 100000                  every target, 100,000 inputs each
    python -m fuzz --inputs 1000 --target frames    one target
    python -m fuzz --seed 7 --processes 2

Prints a line for each target and, for an input that fails, the input in hex and the command that
runs it again; the exit code is then 1. The same seed gives the same inputs.
"""

from __future__ import annotations

import argparse
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from random import Random
from typing import NamedTuple

from fuzz.harness import check_of, corpus_of, mutator_of, targets

CHUNK = 5_000  # inputs of one task: small enough that a failure is reported soon


class Task(NamedTuple):
    """Some inputs of one target; `number` makes them differ from those of other tasks."""

    target: str
    seed: int
    number: int
    inputs: int


class Result(NamedTuple):
    """What a task did, in seconds of the processor.

    `failure` is the input and the traceback of the first that failed.
    """

    inputs: int
    seconds: float
    failure: tuple[bytes, str] | None


def run_task(task: Task) -> Result:
    """Check the inputs of `task` until one fails."""
    check, corpus = check_of(task.target), corpus_of(task.target)
    mutated = mutator_of(task.target)
    random = Random(f"{task.seed} {task.target} {task.number}")
    started = time.process_time()  # so that a busy machine looks no slower
    for done in range(task.inputs):
        data = mutated(corpus, random)
        try:
            check(data)
        except Exception:
            spent = time.process_time() - started
            return Result(done + 1, spent, (data, traceback.format_exc()))
    return Result(task.inputs, time.process_time() - started, None)


def tasks_of(target: str, inputs: int, seed: int) -> Iterator[Task]:
    """`inputs` inputs in chunks."""
    for number, start in enumerate(range(0, inputs, CHUNK)):
        yield Task(target, seed, number, min(CHUNK, inputs - start))


def report(target: str, results: Sequence[Result]) -> bool:
    """Print how a target fared; whether all was well."""
    inputs = sum(result.inputs for result in results)
    seconds = sum(result.seconds for result in results)
    failures = [result.failure for result in results if result.failure is not None]
    rate = inputs / seconds if seconds else 0
    print(
        f"{target:12} {inputs:>10,} inputs  {rate:>9,.0f}/s  {len(failures)} failures", flush=True
    )
    for data, text in failures[:3]:
        print(text)
        print(f"again: python -m fuzz --target {target} --input {data.hex()}", flush=True)
    return not failures


def soak(names: Sequence[str], inputs: int, seed: int, processes: int) -> bool:
    """Run every target in turn; whether all was well."""
    well = True
    total, started = 0, time.perf_counter()
    with ProcessPoolExecutor(processes) as pool:
        for name in names:
            results = list(pool.map(run_task, tasks_of(name, inputs, seed)))
            well &= report(name, results)
            total += sum(result.inputs for result in results)
    spent = time.perf_counter() - started
    print(f"{'all':12} {total:>10,} inputs  {total / spent:>9,.0f}/s  in {spent:,.0f} s")
    return well


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--inputs", type=int, default=10_000, help="inputs for each target")
    parser.add_argument("--target", action="append", choices=targets(), help="only this one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, choices=range(1, 65), default=1, metavar="N")
    parser.add_argument("--input", type=bytes.fromhex, help="check one input, in hex")
    parser.add_argument("--corpus", action="store_true", help="check the committed inputs alone")
    options = parser.parse_args(arguments)
    names: list[str] = options.target or targets()
    if options.corpus:
        for name in names:
            corpus = corpus_of(name)
            for data in corpus:
                check_of(name)(data)
            print(f"{name:12} {len(corpus):>6,} inputs, {sum(map(len, corpus)):>8,} bytes")
        return 0
    if options.input is not None:
        for name in names:
            check_of(name)(options.input)
        return 0
    return 0 if soak(names, options.inputs, options.seed, options.processes) else 1


if __name__ == "__main__":
    raise SystemExit(main())
