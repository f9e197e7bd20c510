"""What campaigns found is kept small, and comes back as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz import corpora, harness, soak
from fuzz.harness import check_of, corpus_of, found_of, seeds_of


def test_only_what_takes_new_branches_is_kept() -> None:
    check = check_of("varint")
    short, long, wrong = b"\x05", b"\xc0" + bytes(7), b"\xc0"
    kept = corpora.minimised(check, [short], [b"\x06", long, b"\x07", wrong, long])
    assert b"\x06" not in kept
    assert b"\x07" not in kept
    assert long in kept
    assert wrong in kept


def test_what_is_kept_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tmp_path / "found"
    for folder in (found, tmp_path / "corpus" / "varint"):
        folder.mkdir(parents=True)
    (found / ("a" * 40)).write_bytes(b"\xc0")
    (found / "crash-1").write_bytes(b"what failed is not a seed")
    for module in (corpora, harness):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    corpora.keep("varint", found)
    assert found_of("varint") == [b"\xc0"]
    assert corpus_of("varint") == [b"\xc0"]


def test_the_committed_corpora_are_small() -> None:
    for target in harness.targets():
        found = found_of(target)
        assert len(found) <= corpora.COUNT_MAX
        assert sum(map(len, found)) < 100_000
        assert not set(found) & set(seeds_of(target))


def test_the_committed_inputs_can_be_checked_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(["--corpus", "--target", "frames"]) == 0
    assert f"{len(corpus_of('frames'))} inputs" in capsys.readouterr().out
