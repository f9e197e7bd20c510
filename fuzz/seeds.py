"""Writes the committed corpora: a few inputs for each decoder, from fixed keys.

python -m fuzz.seeds
"""

from __future__ import annotations

from clawchat.core.actions import BootstrapContent
from clawchat.core.credential import Address, Pairing, Superseded
from clawchat.core.crypto.bootstrap import seal_bootstrap
from clawchat.core.crypto.envelope import seal_hello, seal_refusal, seal_reply
from clawchat.core.crypto.schedule import derive_credential
from clawchat.core.secret import Secret
from clawchat.core.wire import frames, varint
from clawchat.core.wire.address import encode_address
from clawchat.core.wire.bootstrap import encode_body
from clawchat.core.wire.control import (
    CopyReport,
    PortRotate,
    RatchetOffer,
    RatchetReply,
    RotateRequest,
    encode_control,
)
from clawchat.core.wire.frames import encode_ack, encode_stream, stream_head
from clawchat.core.wire.parameters import Limits, encode_parameters
from clawchat.drivers import secret_json
from clawchat.drivers.store import Entry
from clawchat.drivers.store import _from_entry as from_entry
from fuzz import (
    fuzz_bootstrap,
    fuzz_dialer,
    fuzz_endpoint,
    fuzz_envelope,
    fuzz_handshake,
    fuzz_listener,
    fuzz_noise,
    fuzz_packet,
    fuzz_recovery,
    fuzz_store,
    fuzz_streams,
    fuzz_xwing,
)
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
        frames.encode_compromised(3, frames.SCOPE_EVERYTHING) + frames.COMPROMISED_ACK,
        b"\x1d\x00",
        b"\x1f\x00",
    ]


def control() -> list[bytes]:
    offer = encode_control(RatchetOffer(1, bytes(1216)))
    reply = encode_control(RatchetReply(70_000, bytes(1120)))
    request = encode_control(RotateRequest())
    move = encode_control(PortRotate(1, 50_000, (Address("192.0.2.1", 5),)))
    report = encode_control(CopyReport(70_000, True, 300, 86_400, SEEN))
    refused = [b"\x20\x00", b"\x22\x48\x01"]
    return [offer, reply, request * 3, request + reply, move, *refused, report]


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
        b"\0" + seal_refusal(old, b"the message of a HELLO", b"cookie", bytes),
        b"\0" + seal_hello(credential, b"message", bytes, b"cookie"),
        b"\1" + hello + b"\0\x06cookie",
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


def store() -> list[bytes]:
    """Files of pairings: as they are written, of a listener and a dialer, and damaged ones."""
    old = tuple(Superseded(n, bytes((n,)) * 16, Secret(bytes((n,)) * 32)) for n in (2, 1))
    new = tuple(derive_credential(fuzz_store.FILE_ID, n, bytes((n,)) * 32) for n in (4, 3))
    whole = []
    for pairing in (
        Pairing(fuzz_store.FILE_ID, False, bytes(32), bytes(range(32)), new, old),
        Pairing(fuzz_store.FILE_ID, True, bytes(32), None, new[:1]),
    ):
        entry = Entry(pairing, "my desk", (SEEN, Address("2001:db8::7", 1)), 1_800_000_000, 0)
        head = {"format": "clawchat pairing", "version": 1}
        whole.append(bytes(secret_json.encode(head | from_entry(entry))))
    return [
        *whole,
        whole[1][:200],
        whole[1].replace(b'"version": 1', b'"version": 2'),
        whole[1].replace(b'"psk": "', b'"psk": "here stands secret 0'),
        b"[" * 3000,
        b'{"format": "clawchat pairing", "version": 1, "name": ' + b"9" * 5000 + b"}",
    ]


def local() -> list[bytes]:
    return [
        b'\x00{"version": 1, "do": "stream"}\nrest',
        b'\x03{"ok": true}\n',
        b"\xff[1]\n",
        b"\xff" + b"[" * 3000 + b"\n",
        b"\xff" + b"x" * 5000,
    ]


def sse() -> list[bytes]:
    return [
        b'\x02id: 1\nevent: token\ndata: {"text": "hi"}\n\n: still here\n\n',
        b'\x05id: 2\r\nevent: run.finished\r\ndata: {"text": "a", "usage": {"x": 1}}\r\n\r\n',
        b'\x09event: run.failed\rdata: {"problem": {"type": "x", "status": 5}, "text": ""}\r\r',
        b'\x00event: run.started\ndata: {"run": "r",\ndata: "conversation": "c"}\n\n',
        b"\xffevent: token\ndata: " + b"[" * 3000 + b"\n\n",
    ]


def gateway() -> list[bytes]:
    get = b"GET /v1/health HTTP/1.1\r\nHost: agent\r\nClawchat_Device: x\r\n\r\n"
    post = b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: te\r\n\r\nbody"
    chunked = (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
    )
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: 5\r\n\r\nok"
    stream = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    both = b"HTTP/1.1 304 Not\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n"
    open_end = b"HTTP/1.0 200 OK\r\n\r\nuntil the end"
    requests = [b"\0" + request for request in (get, post, chunked, get + post)]
    return requests + [b"\xff" + one for one in (answer, stream, both, open_end)]


def texts() -> list[bytes]:
    return [
        b"\x00192.0.2.1:4433",
        b"\x00[2001:db8::1]:1",
        b"\x012001:db8::1",
        b"\x00[fe80::1%eth0]:65535",
        b"\x02" + b"A" * 43,
        b"\x02_-" + b"A" * 41 + b"=",
    ]


MAKERS = {
    "bootstrap": bootstrap,
    "control": control,
    "dialer": fuzz_dialer.examples,
    "endpoint": fuzz_endpoint.examples,
    "envelope": envelope,
    "frames": payloads,
    "handshake": fuzz_handshake.examples,
    "listener": fuzz_listener.examples,
    "noise": noise,
    "packet": packet,
    "parameters": parameters,
    "gateway": gateway,
    "local": local,
    "recovery": fuzz_recovery.examples,
    "sse": sse,
    "store": store,
    "texts": texts,
    "streams": fuzz_streams.examples,
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
