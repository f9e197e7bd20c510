"""What is said when a link is over keeps to the limit towards addresses that are not proved."""

from __future__ import annotations

from clawchat.core.actions import Transmit
from clawchat.core.credential import Address, Path
from clawchat.core.events import Close, DatagramReceived, DeclareCompromised
from clawchat.core.instant import SECOND
from clawchat.core.paths import AMPLIFICATION
from clawchat.core.wire import frames
from clawchat.errors import CloseCode, CompromiseReason
from fuzz.puppet import OURS, THEIRS, Linked, puppet_dials

SPOOFED = Address("10.9.9.9", 999)


def bytes_to(linked: Linked, address: Address) -> int:
    sent = [action for action in linked.did if isinstance(action, Transmit)]
    return sum(sum(map(len, a.datagrams)) for a in sent if a.path.remote == address)


def unproved() -> tuple[Linked, int]:
    """A listener that got one HELLO from two addresses, and how many bytes came from THEIRS."""
    linked = puppet_dials(settled=False)
    linked.endpoint.handle(DatagramReceived(Path(OURS, SPOOFED), linked.greeting), linked.now)
    linked.endpoint.actions(linked.now)
    first = linked.puppet.seal(frames.PING)
    linked.hear(first)
    return linked, len(first)


def test_a_declaration_reaches_a_spoofed_address_only_within_the_limit() -> None:
    linked = puppet_dials()
    datagram = linked.puppet.seal(frames.PING)
    linked.hear(datagram, SPOOFED)  # relayed by somebody who wants us to flood a third party
    linked.do(DeclareCompromised(linked.pairing.file_id, CompromiseReason.USER, False))
    linked.wait(20 * SECOND)
    assert bytes_to(linked, SPOOFED) <= AMPLIFICATION * len(datagram)
    assert bytes_to(linked, THEIRS) > 10 * AMPLIFICATION * len(datagram)


def test_a_declaration_goes_to_every_address_at_which_the_peer_was_heard() -> None:
    linked = puppet_dials()
    linked.hear(linked.puppet.seal(frames.PING + frames.padding(200)), SPOOFED)
    linked.puppet.heard.clear()
    linked.do(DeclareCompromised(linked.pairing.file_id, CompromiseReason.USER, False))
    told = [
        heard for heard in linked.puppet.heard if isinstance(heard.frames[0], frames.Compromised)
    ]
    assert {heard.path.remote for heard in told} == {THEIRS, SPOOFED}


def test_the_repeated_hello_of_a_stranger_gets_no_declaration() -> None:
    linked, _ = unproved()
    before = bytes_to(linked, SPOOFED)
    linked.do(DeclareCompromised(linked.pairing.file_id, CompromiseReason.USER, False))
    linked.wait(20 * SECOND)
    assert bytes_to(linked, SPOOFED) == before


def test_the_answer_to_a_declaration_keeps_to_the_limit() -> None:
    linked, came = unproved()
    word = linked.puppet.seal(frames.encode_compromised(1, 0))
    linked.hear(word)
    linked.wait(20 * SECOND)
    assert 0 < bytes_to(linked, THEIRS) <= AMPLIFICATION * (came + len(word))


def test_a_close_keeps_to_the_limit() -> None:
    linked, came = unproved()
    linked.do(Close(linked.link, CloseCode.DONE, "x" * 250))
    for _ in range(3):
        word = linked.puppet.seal(frames.PING)
        came += len(word)
        linked.hear(word)
    assert bytes_to(linked, THEIRS) <= AMPLIFICATION * came
