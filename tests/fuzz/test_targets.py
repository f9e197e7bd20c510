"""Every fuzz target, run by Hypothesis on noise and on damaged valid inputs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import seeds, soak
from fuzz.harness import FOLDER, check_of, corpus_of, mutator_of, seeds_of, targets
from fuzz.mutate import mutated


@pytest.mark.parametrize("target", targets())
def test_a_target_keeps_its_invariant_on_damaged_inputs(target: str) -> None:
    check, corpus, mutated = check_of(target), corpus_of(target), mutator_of(target)
    assert corpus, f"fuzz/corpus/{target} is empty"

    @settings(max_examples=150)
    @given(
        st.one_of(
            st.randoms(use_true_random=False).map(lambda random: mutated(corpus, random)),
            st.builds(
                lambda data, tail: data + tail, st.sampled_from(corpus), st.binary(max_size=40)
            ),
            st.binary(max_size=600),
        )
    )
    def run(data: bytes) -> None:
        check(data)

    run()


@pytest.mark.parametrize("target", targets())
def test_a_target_keeps_its_invariant_on_its_corpus(target: str) -> None:
    for data in corpus_of(target):
        check_of(target)(data)


@pytest.mark.parametrize("target", sorted(seeds.MAKERS))
def test_the_committed_corpus_is_what_the_code_writes(target: str) -> None:
    assert seeds_of(target) == seeds.MAKERS[target]()


@pytest.mark.parametrize("target", targets())
def test_a_target_says_its_invariant_first(target: str) -> None:
    first = (FOLDER / f"fuzz_{target}.py").read_text().splitlines()[0]
    assert first.startswith('"""')
    assert first.endswith(('."""', "."))


def test_the_same_seed_gives_the_same_inputs() -> None:
    corpus = corpus_of("frames")
    first, second = (
        [mutated(corpus, random) for _ in range(50)] for random in (Random(3), Random(3))
    )
    assert first == second
    assert len(set(first)) > 40


def test_a_bulk_run_counts_its_inputs(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(["--inputs", "200", "--target", "varint"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("varint")
    assert "200 inputs" in lines[0]
    assert "0 failures" in lines[0]


def test_a_failing_input_is_reported_with_the_command_that_runs_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(data: bytes) -> None:
        assert len(data) < 5, "too long for me"

    monkeypatch.setattr(soak, "check_of", lambda target: broken)
    result = soak.run_task(soak.Task("varint", 0, 0, 1000))
    assert result.failure is not None
    assert not soak.report("varint", [result])
    out = capsys.readouterr().out
    assert "too long for me" in out
    assert f"python -m fuzz --target varint --input {result.failure[0].hex()}" in out


def test_one_input_can_be_checked_alone() -> None:
    assert soak.main(["--target", "frames", "--input", "01"]) == 0


@pytest.mark.parametrize("target", ["endpoint", "frames", "listener"])
def test_a_target_is_a_program_that_atheris_runs(target: str, tmp_path: Path) -> None:
    """One of bytes, one of programs, and one that stands on modules of the tests."""
    pytest.importorskip("atheris")
    done = subprocess.run(
        [sys.executable, "-m", f"fuzz.fuzz_{target}", str(tmp_path), "-runs=20"],
        cwd=FOLDER.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Done " in done.stderr
