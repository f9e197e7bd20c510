"""The second reader listens in: it opens a whole conversation between two endpoints.

It is given what they were given (keys, and the bytes their entropy drew) and every datagram, and
reads the rest as PROTOCOL.md says: envelope, handshake, packets of several epochs, frames, control
messages, ratchets. What it reads must be what the applications wrote.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from clawchat.core.actions import BootstrapContent, Established, Notify, Persist, Publish, Transmit
from clawchat.core.config import Config
from clawchat.core.credential import Address, Pairing, Path
from clawchat.core.crypto.schedule import derive_credential
from clawchat.core.endpoint import Endpoint
from clawchat.core.events import (
    DatagramReceived,
    Dial,
    Event,
    Persisted,
    PublishBootstrap,
    RotateKeys,
    StreamClass,
    Write,
    stream_id,
)
from clawchat.core.instant import MILLISECOND
from clawchat.core.secret import Secret
from spec import decode

DIALER, LISTENER = Address("192.0.2.1", 40_001), Address("192.0.2.2", 50_001)
LINK = 7
STREAM = stream_id(1, StreamClass.INTERACTIVE, dialer=True)


class Recorded:
    """Entropy that remembers what it drew."""

    def __init__(self) -> None:
        self.drawn: list[bytes] = []

    def __call__(self, size: int) -> bytes:
        self.drawn.append(os.urandom(size))
        return self.drawn[-1]

    def of(self, size: int, fits: Callable[[bytes], bool]) -> bytes:
        """The drawn bytes of this size that fit."""
        return next(data for data in self.drawn if len(data) == size and fits(data))


class Conversation:
    """Two endpoints, 5 ms apart, and everything that went over the line."""

    def __init__(self) -> None:
        self.now = 0
        self.line: list[tuple[str, bytes]] = []
        self.entropy = {"dialer": Recorded(), "listener": Recorded()}
        self.private = {"dialer": os.urandom(32), "listener": os.urandom(32)}
        self.ends = {
            side: Endpoint(
                Config(Secret(self.private[side])),
                now=0,
                unix_ns=1_793_000_000 * 10**9,
                entropy=self.entropy[side],
            )
            for side in ("dialer", "listener")
        }
        self.incoming = 0
        self.content = self._publish()
        self.handle("dialer", Dial(LINK, self._pairing(), (Path(DIALER, LISTENER),)))

    def _publish(self) -> BootstrapContent:
        listener = self.ends["listener"]
        listener.handle(PublishBootstrap((LISTENER,)), 0)
        return next(a.content for a in listener.actions(0) if isinstance(a, Publish))

    def _pairing(self) -> Pairing:
        made = self.content
        first = derive_credential(made.file_id, 0, made.secret)
        return Pairing(made.file_id, True, made.listener_static, made.listener_static, (first,))

    def handle(self, side: str, event: Event) -> None:
        self.ends[side].handle(event, self.now)

    def go_on(self, ms: int) -> None:
        for _ in range(0, ms, 5):
            self.now += 5 * MILLISECOND
            for side in ("dialer", "listener"):
                self.ends[side].advance(self.now)
                self._obey(side)

    def _obey(self, side: str) -> None:
        other, path = ("listener", Path(LISTENER, DIALER))
        if side == "listener":
            other, path = ("dialer", Path(DIALER, LISTENER))
        while actions := self.ends[side].actions(self.now):
            for action in actions:
                if isinstance(action, Transmit):
                    for datagram in action.datagrams:
                        self.line.append((side, datagram))
                        self.handle(other, DatagramReceived(path, datagram))
                elif isinstance(action, Persist):
                    self.handle(side, Persisted(action.link, action.ticket))
                elif isinstance(action, Notify) and isinstance(action.notice, Established):
                    self.incoming = min(self.incoming, action.link)


class Eavesdropper:
    """The second reader with both sides' secrets."""

    def __init__(self, talk: Conversation) -> None:
        self._talk = talk
        self._content = talk.content
        self._largest = {"dialer": -1, "listener": -1}
        self._numbers: dict[str, set[int]] = {"dialer": set(), "listener": set()}
        self.streams: dict[tuple[str, int], dict[int, bytes]] = {}
        self.roots: list[bytes] = []
        self.epochs_used: dict[str, set[int]] = {"dialer": set(), "listener": set()}

    def read_all(self) -> None:
        packets = list(self._read_envelopes())
        for side, datagram in packets:
            self._read_packet(side, datagram)

    # --- envelopes ----------------------------------------------------------------------------

    def _read_envelopes(self) -> Iterator[tuple[str, bytes]]:
        content = self._content
        keys = decode.credential(content.file_id, content.secret.reveal())
        messages: dict[str, bytes] = {}
        for side, datagram in self._talk.line:
            if datagram[:16].hex() != keys["hint"]:
                yield side, datagram
                continue
            kind = "hello" if side == "dialer" else "reply"
            opened = decode.open_envelope(datagram, bytes.fromhex(keys["envelope_key"]), kind)
            messages[kind] = bytes.fromhex(opened["message"])
            if kind == "reply":
                assert opened["address"] == str(DIALER)
        self._read_handshake(messages["hello"], messages["reply"])

    def _read_handshake(self, hello: bytes, reply: bytes) -> None:
        talk, content = self._talk, self._content
        drawn = talk.entropy["listener"]
        ephemeral = drawn.of(32, lambda data: decode.x25519_public(data) == reply[:32])
        found = decode.handshake(
            {
                "file_id": content.file_id,
                "generation": 0,
                "secret": content.secret.reveal(),
                "listener_private": talk.private["listener"],
                "listener_ephemeral_private": ephemeral,
                "message_1": hello,
                "payload_2": self._payload_2(),
            }
        )
        assert found["message_2"] == reply.hex()
        assert found["dialer_static"] == decode.x25519_public(talk.private["dialer"]).hex()
        self.roots.append(bytes.fromhex(found["root_0"]))

    def _payload_2(self) -> bytes:
        """The listener's parameters, written by hand: id, length, an 8 or fewer byte number."""
        limits = self._talk.ends["listener"].config.limits
        values = limits.max_data, limits.max_stream, limits.max_streams, limits.max_datagram
        return b"".join(bytes((at, len(varint(v)))) + varint(v) for at, v in enumerate(values, 1))

    # --- packets ------------------------------------------------------------------------------

    def _read_packet(self, side: str, datagram: bytes) -> None:
        epoch = self._epoch_of(side, datagram)
        keys = decode.epoch_keys(self.roots[epoch], side)
        opened = decode.open_packet(datagram, keys, epoch, 0, self._largest[side])
        number = opened["packet_number"]
        assert number not in self._numbers[side]
        self._numbers[side].add(number)
        self._largest[side] = max(self._largest[side], number)
        self.epochs_used[side].add(epoch)
        for frame in decode.read_frames(bytes.fromhex(opened["payload"])):
            if frame["type"] == "STREAM":
                pieces = self.streams.setdefault((side, frame["stream"]), {})
                pieces[frame["offset"]] = bytes.fromhex(frame["data"])
        self._follow_ratchet()

    def _epoch_of(self, side: str, datagram: bytes) -> int:
        for epoch, root in enumerate(self.roots):
            keys = decode.epoch_keys(root, side)
            if decode.path_cid(keys["cid"], 0) == datagram[:8]:
                return epoch
        raise AssertionError(f"a datagram of the {side} that PROTOCOL.md does not explain")

    def stream(self, side: str, stream: int) -> bytes:
        out = b""
        for offset, data in sorted(self.streams.get((side, stream), {}).items()):
            if offset <= len(out):
                out = out[:offset] + data + out[offset + len(data) :]
        return out

    def _follow_ratchet(self) -> None:
        """When the reply to the newest offer is there: the next root."""
        replies = self._messages("listener", "RATCHET_REPLY")
        if len(replies) < len(self.roots):
            return
        epoch = len(self.roots)
        offer = self._messages("dialer", "RATCHET_OFFER")[epoch - 1]
        reply = replies[epoch - 1]
        assert (offer["epoch"], reply["epoch"]) == (epoch, epoch)

        def makes(seed: bytes) -> decode.Case:
            return decode.ratchet(
                {
                    "root": self.roots[-1],
                    "epoch": epoch,
                    "seed": seed,
                    "reply": bytes.fromhex(reply["data"]),
                }
            )

        drawn = self._talk.entropy["dialer"]
        seed = drawn.of(32, lambda data: bool(makes(data)["offer"] == offer["data"]))
        self.roots.append(bytes.fromhex(makes(seed)["next_root"]))

    def _messages(self, side: str, kind: str) -> list[decode.Case]:
        try:
            said = decode.read_control(self.stream(side, 0))
        except decode.Refused:  # not all of it has come yet
            return []
        return [message for message in said if message["type"] == kind]


def varint(value: int) -> bytes:
    for size, first in ((1, 0), (2, 0x40), (4, 0x80), (8, 0xC0)):
        if value < 1 << (8 * size - 2):
            return (value | first << 8 * (size - 1)).to_bytes(size, "big")
    raise ValueError(value)


@pytest.fixture(scope="module")
def heard() -> Eavesdropper:
    talk = Conversation()
    talk.go_on(100)
    for at in range(3):
        talk.handle("dialer", Write(LINK, STREAM, b"question %d, " % at * 200))
        talk.go_on(50)
        talk.handle("listener", Write(talk.incoming, STREAM, b"answer %d, " % at * 300))
        talk.go_on(400)
        talk.handle("dialer", RotateKeys(LINK))
        talk.go_on(400)
    talk.handle("dialer", Write(LINK, STREAM, b"bye", end=True))
    talk.go_on(100)
    listener = Eavesdropper(talk)
    listener.read_all()
    return listener


def test_every_datagram_on_the_line_is_explained_and_the_words_are_read(
    heard: Eavesdropper,
) -> None:
    asked = b"".join(b"question %d, " % at * 200 for at in range(3)) + b"bye"
    answered = b"".join(b"answer %d, " % at * 300 for at in range(3))
    assert heard.stream("dialer", STREAM) == asked
    assert heard.stream("listener", STREAM) == answered


def test_both_sides_follow_each_ratchet_from_the_first_on(heard: Eavesdropper) -> None:
    assert len(heard.roots) == 5  # one after the handshake, three asked for
    assert heard.epochs_used["dialer"] == set(range(5))
    assert heard.epochs_used["listener"] == set(range(5))
    assert len(set(heard.roots)) == 5
