"""Copies, challenges and repetitions that packets from somewhere else cause: few, and bounded.

The peer is a puppet, which comes from where it likes and proves nothing.

Left to others: that nothing is lost on the way to another path (`test_roaming`).
"""

from __future__ import annotations

import pytest

from clawchat.core.actions import OpenPort
from clawchat.core.credential import Address, Path
from clawchat.core.events import (
    DatagramReceived,
    PortOpened,
    RotatePort,
    StreamClass,
    Write,
    stream_id,
)
from clawchat.core.instant import MILLISECOND, Instant
from clawchat.core.paths import AMPLIFICATION
from clawchat.core.wire import frames
from clawchat.core.wire.control import PortRotate, encode_control
from fuzz.puppet import OURS, THEIRS, Heard, Linked, puppet_dials

CHAT = stream_id(1, StreamClass.INTERACTIVE, dialer=True)
ELSEWHERE = Address("203.0.113.9", 50_000)
NEW_PORT = THEIRS._replace(port=50_123)
SAID = frames.PING + frames.padding(170)


def asked() -> Linked:
    """A listener to which a puppet has put a question; it has not answered yet."""
    linked = puppet_dials()
    linked.hear(linked.puppet.seal(frames.encode_stream(CHAT, 0, b"question", fin=False)))
    linked.puppet.heard.clear()
    return linked


def probe_timeout(linked: Linked) -> Instant:
    transport = linked.endpoint._links.by_id[linked.link].transport
    assert transport is not None
    return transport.recovery.pto_ns


def said(linked: Linked, to: Address) -> list[Heard]:
    """What went there."""
    return [heard for heard in linked.puppet.heard if heard.path.remote == to]


def heard(linked: Linked, kind: type[frames.Frame], to: Address) -> int:
    """How many frames of one kind went there."""
    return sum(isinstance(frame, kind) for heard in said(linked, to) for frame in heard.frames)


def test_copies_and_challenges_together_are_three_times_what_came_however_small_they_are() -> None:
    linked = asked()
    ping = linked.puppet.seal(SAID)
    linked.hear(ping, ELSEWHERE)
    for _ in range(100):
        linked.do(Write(linked.link, CHAT, b"a"))
        linked.wait(50 * MILLISECOND)
    went = [heard.size for heard in said(linked, ELSEWHERE)]
    assert heard(linked, frames.Stream, ELSEWHERE)
    assert sum(went) <= AMPLIFICATION * len(ping)


def test_who_comes_from_elsewhere_again_and_again_is_asked_once_for_each_probe_timeout() -> None:
    linked = asked()
    for times in (1, 2):
        for _ in range(10):
            linked.hear(linked.puppet.seal(SAID), ELSEWHERE)
            linked.wait(MILLISECOND)
        there = said(linked, ELSEWHERE)
        alone = [heard for heard in there if len(heard.frames) == 1]  # the others are copies
        assert len(alone) == times
        linked.wait(probe_timeout(linked))


def test_who_comes_from_elsewhere_again_and_again_hears_once_for_each_probe_timeout() -> None:
    """What is in flight is sent again on both paths: no more often than a timeout would do it."""
    linked = asked()
    linked.do(Write(linked.link, CHAT, b"answer"))
    for _ in range(10):
        linked.hear(linked.puppet.seal(SAID), ELSEWHERE)
        linked.wait(MILLISECOND)
    assert probe_timeout(linked) > 10 * MILLISECOND
    assert heard(linked, frames.Stream, THEIRS) == 2
    assert heard(linked, frames.Stream, ELSEWHERE) == 1


@pytest.mark.parametrize(
    ("left", "source"), [(True, THEIRS), (True, ELSEWHERE), (False, ELSEWHERE)]
)
def test_after_our_move_a_peer_that_comes_from_elsewhere_has_moved_to_whichever_port_it_comes(
    left: bool, source: Address
) -> None:
    """What comes to the port that was left from where the peer was, only has not heard of it."""
    linked = asked()
    linked.do(RotatePort(linked.link))
    (wanted,) = [action.local for action in linked.did if isinstance(action, OpenPort)]
    linked.do(PortOpened(linked.link, wanted))
    (token,) = [
        frame.token
        for heard in linked.puppet.heard
        for frame in heard.frames
        if isinstance(frame, frames.PathChallenge)
    ]
    answer = linked.puppet.seal(frames.encode_path_response(token))
    linked.do(DatagramReceived(Path(wanted, THEIRS), answer))
    linked.puppet.heard.clear()
    local = OURS if left else wanted
    linked.do(DatagramReceived(Path(local, source), linked.puppet.seal(SAID)))
    assert (heard(linked, frames.PathChallenge, source) > 0) is (source == ELSEWHERE)


@pytest.mark.parametrize("told", [True, False])
def test_a_peer_that_told_of_its_move_gets_no_copies_at_its_new_port(told: bool) -> None:
    linked = asked()
    if told:
        rotate = encode_control(PortRotate(1, NEW_PORT.port, ()))
        linked.hear(linked.puppet.seal(linked.puppet.on_control(rotate)))
    linked.hear(linked.puppet.seal(SAID), NEW_PORT)
    linked.do(Write(linked.link, CHAT, b"answer"))
    linked.wait(10 * MILLISECOND)
    assert heard(linked, frames.PathChallenge, NEW_PORT)
    assert (heard(linked, frames.Stream, NEW_PORT) == 0) is told
    assert heard(linked, frames.Stream, THEIRS) == 1
