"""A puppet is believed to be a peer, whichever side it plays."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clawchat.core.actions import Closed, StreamData
from clawchat.core.events import Write
from clawchat.core.instant import SECOND
from clawchat.core.wire import frames
from clawchat.core.wire.control import ControlReader, RatchetOffer, RatchetReply, encode_control
from clawchat.errors import CloseCode
from fuzz.puppet import Linked, puppet_dials, puppet_listens

MAKERS = (puppet_dials, puppet_listens)


def control_of(linked: Linked) -> list[object]:
    """The control messages that the endpoint sent."""
    stream = {
        frame.offset: frame.data
        for heard in linked.puppet.heard
        for frame in heard.frames
        if isinstance(frame, frames.Stream) and frame.stream == 0
    }
    return [*ControlReader().feed(b"".join(stream[at] for at in sorted(stream)))]


@pytest.mark.parametrize("make", MAKERS)
def test_a_puppet_is_heard_and_hears(make: Callable[[], Linked]) -> None:
    linked = make()
    stream = 4 if linked.puppet.dialer else 5
    linked.hear(linked.puppet.seal(frames.encode_stream(stream, 0, b"hello", fin=False)))
    linked.do(Write(linked.link, stream, b"welcome"))
    linked.wait(SECOND)
    assert [bytes(n.data) for n in linked.notices if isinstance(n, StreamData)] == [b"hello"]
    said = [frame for heard in linked.puppet.heard for frame in heard.frames]
    answers = [f.data for f in said if isinstance(f, frames.Stream) and f.stream == stream]
    assert answers[0] == b"welcome"
    assert not linked.puppet.unread


@pytest.mark.parametrize("make", MAKERS)
def test_what_a_puppet_does_wrong_closes_the_link(make: Callable[[], Linked]) -> None:
    linked = make()
    linked.hear(linked.puppet.seal(frames.encode_ack([(1 << 40, 1 << 40)], 0)))
    assert [n.code for n in linked.notices if isinstance(n, Closed)] == [CloseCode.ACK]


def test_a_puppet_that_dialled_takes_a_listener_to_the_next_epoch() -> None:
    linked = puppet_dials()
    puppet = linked.puppet
    linked.hear(puppet.seal(puppet.on_control(encode_control(puppet.offer()))))
    linked.wait(SECOND)
    (reply,) = control_of(linked)
    assert isinstance(reply, RatchetReply)
    puppet.take_reply(reply)
    puppet.epoch = 1
    linked.hear(puppet.seal(frames.PING))
    assert puppet.heard[-1].epoch == 1
    assert linked.endpoint.link_stats(linked.link).epoch == 1


def test_a_puppet_that_answered_takes_a_dialer_to_the_next_epoch() -> None:
    linked = puppet_listens()
    puppet = linked.puppet
    (offer,) = control_of(linked)
    assert isinstance(offer, RatchetOffer)
    linked.hear(puppet.seal(puppet.on_control(encode_control(puppet.reply_to(offer)))))
    assert linked.endpoint.link_stats(linked.link).epoch == 1
    linked.wait(SECOND)
    assert puppet.heard[-1].epoch == 1
