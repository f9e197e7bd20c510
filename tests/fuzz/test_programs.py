"""Programs as inputs: any bytes are one, and mutations of one stay meaningful."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.actions import ClosePort, OpenPort
from clawchat.core.config import OVERLAP_LASTS
from clawchat.core.credential import Address, Path
from clawchat.core.crypto.packets import OVERHEAD
from clawchat.core.recovery.bbr import Bbr
from clawchat.core.recovery.congestion import NewReno
from clawchat.core.streams.beat import BEAT, CELL, STEP_MIN
from clawchat.core.wire import frames
from fuzz.observer import Observer
from fuzz.program import BLOB, BYTE, NUMBER, Grammar, Op
from fuzz.puppet import FIRST, OURS, Heard, puppet_dials
from fuzz.session import GRAMMAR, LIMITS, STAGES, begun, examples, other_words, run
from fuzz.snapshot import Snapshot
from fuzz.sockets import Sockets

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
@pytest.mark.parametrize("stage", range(len(STAGES) + 1))
def test_a_session_begins_at_its_stage(stage: int, dialer: bool) -> None:
    phases = {3: "LIVE", 4: "SUSPECT", 5: "SUSPECT" if dialer else "ASLEEP", 6: "CLOSING"}
    link = begun(dialer, stage).link()
    assert link is not None
    assert link.life.phase.name == phases.get(stage, "LIVE" if stage or dialer else "STARTING")
    assert (link.undoing is not None) == (stage == 7)
    if link.usable and stage:
        ports, beat = link.upkeep.ports, link.data_plane().cells.beat
        assert ports.move.phase.name == {8: "MOVING", 9: "OVERLAPPING"}.get(stage, "STEADY")
        assert ports.is_following == (stage == 10)
        assert (beat.at is not None) == (stage == 11)


@pytest.mark.parametrize(("byte", "controller"), [(0, Bbr), (1, NewReno)])
def test_a_byte_chooses_the_congestion_controller(byte: int, controller: type[object]) -> None:
    link = begun(False, 2, byte).link()
    assert link is not None
    assert type(link.data_plane().recovery.congestion) is controller


def test_a_model_notices_bytes_that_nobody_sent() -> None:
    session = begun(dialer=False, stage=1)
    with pytest.raises(AssertionError, match="more than was sent"):
        session.on_data(4, b"x", end=False)
    session.reached[4] = LIMITS.max_stream
    with pytest.raises(AssertionError, match="other bytes"):
        session.on_data(4, b"not the pattern", end=False)


def test_a_model_notices_what_leaves_from_a_socket_that_is_closed() -> None:
    sockets = Sockets()
    sockets.send(FIRST)
    sockets.close(ClosePort(1, OURS))
    with pytest.raises(AssertionError, match="closed"):
        sockets.send(FIRST)
    with pytest.raises(AssertionError, match="given back twice"):
        sockets.close(ClosePort(1, OURS))


def test_a_model_notices_a_port_that_the_link_had_lately_and_one_that_is_left_over() -> None:
    sockets = Sockets()
    first, second, local = (Address(OURS.host, port) for port in (50_000, 50_001, 50_002))
    for one in (first, second, local):
        sockets.ask(OpenPort(1, one))
        sockets.lend(one, ())
    with pytest.raises(AssertionError, match="left over"):
        sockets.look(0, over=False, gone=False)
    sockets.move(local, 0)
    with pytest.raises(AssertionError, match="lately"):
        sockets.ask(OpenPort(1, local))
    sockets.drop(first)
    with pytest.raises(AssertionError, match="old port"):
        sockets.look(OVERLAP_LASTS, over=False, gone=False)


def heard(payload: bytes, *, path_id: int = 0, path: Path = FIRST, at: int = 0) -> Heard:
    return Heard(0, 0, path_id, payload, path, len(payload) + OVERHEAD, at)


def test_a_model_notices_path_ids_that_the_peer_cannot_read() -> None:
    sockets, elsewhere = Sockets(), Path(OURS, Address("10.0.3.1", 1))
    probe = frames.encode_path_challenge(b"12345678")
    sockets.hear(heard(probe, path_id=3, path=elsewhere))
    with pytest.raises(AssertionError, match="cannot know"):
        sockets.hear(heard(probe, path_id=4, path=elsewhere))
    assert sockets.answer_reaches(b"12345678") == elsewhere.remote
    sockets.hear(heard(probe, path_id=6, path=elsewhere))
    with pytest.raises(AssertionError, match="on another"):
        sockets.hear(heard(probe, path_id=0, path=elsewhere))


def cell(*said: bytes, at: int = 0) -> Heard:
    payload = frames.PING + b"".join(said)
    return heard(payload + frames.padding(CELL - OVERHEAD - len(payload)), at=at)


def test_an_observer_notices_what_a_shaped_stream_says_outside_its_cells() -> None:
    observer = Observer({4})
    word, other = (frames.encode_stream(n, 0, b"a word", fin=False) for n in (4, 8))
    observer.hear(heard(other))
    observer.hear(cell(word))
    for wrong in (heard(frames.PING + word), cell(word, other)):
        with pytest.raises(AssertionError, match="outside its cells"):
            observer.hear(wrong)


def test_an_observer_notices_a_burst_that_ends_anywhere_and_a_beat_that_is_not_kept() -> None:
    observer = Observer()
    for number in range(STEP_MIN - 1):
        observer.hear(cell(at=number * BEAT))
    with pytest.raises(AssertionError, match="ladder"):
        observer.rest()
    observer.keeps_the_beat(0)
    observer.hear(cell(at=STEP_MIN * BEAT))
    observer.rest()
    with pytest.raises(AssertionError, match="between two cells"):
        observer.keeps_the_beat(0)


def test_other_words_that_show_are_noticed() -> None:
    """Words that are not shaped do show."""
    plainly = GRAMMAR.read(GRAMMAR.program((1, 0), ("write", 1, 40, 0), ("wait", 3)))[1]
    shaped = GRAMMAR.read(GRAMMAR.program((1, 0), ("shaped", 1, 40, 0), ("listen", 30)))[1]
    said = begun(dialer=True, stage=1)
    run(said, shaped)
    assert said.says_little
    other_words(said, begun(dialer=True, stage=1), shaped)
    with pytest.raises(AssertionError, match="shows"):
        other_words(said, begun(dialer=True, stage=1), plainly)
