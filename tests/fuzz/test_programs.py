"""Programs as inputs: any bytes are one, and mutations of one stay meaningful."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.program import BLOB, BYTE, NUMBER, Grammar, Op
from fuzz.puppet import puppet_dials
from fuzz.session import GRAMMAR, LIMITS, begun, examples
from fuzz.snapshot import Snapshot

SMALL = Grammar(head=(BYTE,), ops=(Op("stop"), Op("say", NUMBER, BLOB), Op("wait", BYTE)))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_program_that_is_written_and_read_again(data: bytes) -> None:
    head, steps = SMALL.read(data)
    assert SMALL.read(SMALL.write(head, steps)) == (head, steps)


def test_steps_are_written_by_name() -> None:
    data = SMALL.program((7,), ("say", 300, b"x"), ("wait", 9))
    assert data == b"\x07" + b"\x01\x41\x2c\x01x" + b"\x02\x09"


@given(st.integers(0, 1 << 32), st.sampled_from(examples()), st.sampled_from(examples()))
def test_a_mutated_program_is_one_as_well_and_not_longer_than_asked(
    seed: int, one: bytes, other: bytes
) -> None:
    for made in (
        GRAMMAR.mutated(one, Random(seed), 200),
        GRAMMAR.crossed(one, other, Random(seed), 200),
    ):
        assert len(made) <= 200
        head, steps = GRAMMAR.read(made)
        if steps and len(GRAMMAR.write(head, steps)) == len(made):
            assert GRAMMAR.write(head, steps) == made


def test_mutations_keep_most_steps_of_a_program() -> None:
    """Bytes that are changed at random would shift the meaning of all that follows."""
    program = examples()[0]
    before = GRAMMAR.read(program)[1]
    kept = 0
    for seed in range(200):
        after = GRAMMAR.read(GRAMMAR.mutated(program, Random(seed)))[1]
        kept += sum(step in after for step in before)
    assert kept > 0.7 * 200 * len(before)


def test_the_same_seed_gives_the_same_program() -> None:
    corpus = examples()
    first, second = (
        [GRAMMAR.from_corpus(corpus, random) for _ in range(50)]
        for random in (Random(3), Random(3))
    )
    assert first == second
    assert len(set(first)) > 40


def test_a_thawed_world_shares_nothing_that_changes() -> None:
    linked = puppet_dials()
    frozen = Snapshot(linked)
    one, other = frozen.thaw(), frozen.thaw()
    one.hear(one.puppet.seal(b"\x1c\x00\x00"))  # CLOSE: its keys are wiped
    assert one.endpoint.links == []
    assert other.endpoint.links == linked.endpoint.links == [-1]
    other.hear(other.puppet.seal(b"\x01"))
    assert other.puppet.heard
    assert not linked.puppet.heard


def test_two_worlds_from_one_snapshot_do_the_same() -> None:
    frozen = Snapshot(puppet_dials())
    said = []
    for linked in (frozen.thaw(), frozen.thaw()):
        linked.hear(linked.puppet.seal(b"\x1a12345678"))
        linked.wait(10**9)
        said.append([(heard.number, heard.payload) for heard in linked.puppet.heard])
    assert said[0] == said[1] != []


@pytest.mark.parametrize("dialer", [True, False])
@pytest.mark.parametrize("stage", range(8))
def test_a_session_begins_at_its_stage(stage: int, dialer: bool) -> None:
    phases = {3: "LIVE", 4: "SUSPECT", 5: "SUSPECT" if dialer else "ASLEEP", 6: "CLOSING"}
    link = begun(dialer, stage).link()
    assert link is not None
    assert link.life.phase.name == phases.get(stage, "LIVE" if stage or dialer else "STARTING")
    assert (link.undoing is not None) == (stage == 7)


def test_a_model_notices_bytes_that_nobody_sent() -> None:
    session = begun(dialer=False, stage=1)
    with pytest.raises(AssertionError, match="more than was sent"):
        session.on_data(4, b"x", end=False)
    session.reached[4] = LIMITS.max_stream
    with pytest.raises(AssertionError, match="other bytes"):
        session.on_data(4, b"not the pattern", end=False)
