"""Writes the committed corpora: a few inputs for each decoder, from fixed keys.

python -m fuzz.seeds
"""

from __future__ import annotations

from clawchat.core.actions import BootstrapContent
from clawchat.core.credential import Address
from clawchat.core.crypto.bootstrap import seal_bootstrap
from clawchat.core.crypto.envelope import seal_hello, seal_refusal, seal_reply
from clawchat.core.secret import Secret
from clawchat.core.wire import frames, varint
from clawchat.core.wire.address import encode_address
from clawchat.core.wire.bootstrap import encode_body
from clawchat.core.wire.control import RatchetOffer, RatchetReply, RotateRequest, encode_control
from clawchat.core.wire.frames import encode_ack, encode_stream, stream_head
from clawchat.core.wire.parameters import Limits, encode_parameters
from fuzz import fuzz_bootstrap, fuzz_envelope, fuzz_noise, fuzz_packet, fuzz_xwing
from fuzz.harness import FOLDER

V = varint.encode
LIMITS = Limits(1 << 20, 1 << 18, 257, 1452)
SEEN = Address("192.0.2.7", 40000)
CONTENT = BootstrapContent(
    listener_static=bytes(range(32)),
    secret=Secret(bytes(range(32, 64))),
    file_id=bytes(range(16)),
    candidates=(Address("192.0.2.1", 50000), Address("2001:db8::1", 50001)),
    issued=1_800_000_000,
    expires=1_800_000_660,
    rendezvous="é",
)


def varints() -> list[bytes]:
    return [
        b"".join(V(n) for n in (0, 63, 64, 16383, 16384, 2**30 - 1, 2**30, varint.MAX)),
        b"\xc0",
    ]


def parameters() -> list[bytes]:
    plain = encode_parameters(LIMITS)
    return [plain, encode_parameters(LIMITS, bytes(24)), plain + b"\x09\x03abc", plain[:-1]]


def payloads() -> list[bytes]:
    rare = [
        frames.PING,
        frames.encode_max_data(1 << 20),
        frames.encode_max_stream(4, 1 << 18),
        frames.encode_max_streams(300),
        frames.encode_reset(4, 7, 1000),
        frames.encode_stop(4, 7),
        frames.encode_path_challenge(b"12345678"),
        frames.encode_path_response(b"12345678"),
        frames.encode_close(0x0C, "an é"),
        frames.encode_datagram(b"datagram"),
    ]
    return [
        b"".join(rare),
        *rare,
        encode_ack([(90, 100), (50, 80), (3, 3)], 300),
        encode_ack([(n, n) for n in range(200, 100, -3)], 25_000),
        stream_head(4, 100_000, fin=False) + b"data" * 20,
        stream_head(70, 1 << 40, fin=True) + b"data",
        encode_stream(0, 0, b"control", fin=False) + encode_stream(6, 9, b"bulk", fin=True),
        b"\x08\x04data",
        frames.encode_datagram(b"to the end", to_end=True),
        frames.padding(30) + frames.PING,
        b"\x1d\x00",
    ]


def control() -> list[bytes]:
    offer = encode_control(RatchetOffer(1, bytes(1216)))
    reply = encode_control(RatchetReply(70_000, bytes(1120)))
    request = encode_control(RotateRequest())
    return [offer, reply, request * 3, request + reply, b"\x20\x00", b"\x22\x48\x01"]


def bootstrap() -> list[bytes]:
    file = seal_bootstrap(CONTENT, fuzz_bootstrap.KEY, bytes)
    body = encode_body(CONTENT)
    return [b"\0" + file, b"\0" + file[:30], b"\1" + body, b"\1" + body[:97], b"\0CLAWSEC\x04"]


def envelope() -> list[bytes]:
    credential, old = fuzz_envelope.CREDENTIAL, fuzz_envelope.OLD
    hello = len(b"message").to_bytes(2, "big") + b"message"
    return [
        b"\0" + seal_hello(credential, b"message", bytes),
        b"\0" + seal_reply(credential, SEEN, b"message", bytes),
        b"\0" + seal_refusal(old, b"cookie", bytes),
        b"\1" + hello,
        b"\2" + encode_address(SEEN) + hello,
        b"\2" + encode_address(Address("2001:db8::7", 1)) + hello,
        b"\2\0" + hello,
    ]


def packet() -> list[bytes]:
    (sealed,) = fuzz_packet.SEAL.seal(fuzz_packet.PATH, 3, [b"payload"])
    return [b"\0" + sealed, b"\1" + bytes(7) + b"\x28payload", b"\1" + b"\x7f" * 8, b"\0short"]


def noise() -> list[bytes]:
    initiator, responder = fuzz_noise.initiator(), fuzz_noise.responder()
    first = initiator.write_message(b"hello")
    empty = fuzz_noise.initiator().write_message(b"")
    responder.read_message(empty)
    second = responder.write_message(b"welcome")
    return [b"\0" + first, b"\1hello", b"\2" + second, b"\0" + bytes(96)]


def xwing() -> list[bytes]:
    point = fuzz_xwing.PUBLIC[-32:]
    ciphertext = bytes(1088) + point
    return [
        *(kind + fuzz_xwing.PUBLIC for kind in (b"\1", b"\3")),
        *(kind + ciphertext for kind in (b"\0", b"\2")),
        b"\0" + bytes(1120),
        b"\2x",
    ]


MAKERS = {
    "bootstrap": bootstrap,
    "control": control,
    "envelope": envelope,
    "frames": payloads,
    "noise": noise,
    "packet": packet,
    "parameters": parameters,
    "varint": varints,
    "xwing": xwing,
}


def main() -> None:
    """Write every corpus."""
    for target, make in MAKERS.items():
        folder = FOLDER / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(make()):
            (folder / f"{number:02}").write_bytes(data)


if __name__ == "__main__":
    main()
