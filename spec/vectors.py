"""The test vectors of PROTOCOL.md 23, made by the code from fixed entropy.

Each case has a name, what goes `in`, and either what comes `out` or `"refused"` with the reason.
Byte strings are hex, except names and passphrases.

Rules: the same code makes the same bytes. The one exception is ML-KEM's ciphertext, whose
randomness OpenSSL does not let us choose: it is made once and then kept from the file, and its
decapsulation is what the vector shows.
Left to others: opening them a second way (`decode`).
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from hashlib import shake_256
from pathlib import Path
from typing import Any, Final

from clawchat.core.actions import BootstrapContent
from clawchat.core.credential import Address, Credential, Superseded
from clawchat.core.crypto import bootstrap, envelope, schedule, suite, xwing
from clawchat.core.crypto.noise import HandshakeState
from clawchat.core.crypto.packets import DIALER, LISTENER, SealKeys
from clawchat.core.secret import Secret
from clawchat.core.wire import control, frames, varint
from clawchat.core.wire.parameters import Limits, encode_parameters

Case = dict[str, Any]

KEY: Final = shake_256(b"clawchat vectors: bootstrap key").digest(32)
PASSPHRASE: Final = "Zo\u0308e's pass phrase"  # not in NFC: a reader has to normalise it
LIMITS: Final = Limits(
    max_data=16_777_216, max_stream=1_048_576, max_streams=257, max_datagram=1452
)
LARGE: Final = Limits(max_data=(1 << 62) - 1, max_stream=63, max_streams=64, max_datagram=16_384)
TITLES: Final = {
    "bootstrap": "files under a key and under a passphrase, and files to refuse",
    "credential": "a generation's hint, envelope key and PSK from its secret",
    "parameters": "handshake parameters, and sequences to refuse",
    "envelope": "HELLO, REPLY and REFUSAL around stand-in messages, and envelopes to refuse",
    "handshake": "both Noise messages, chaining key, hash, root and next generation",
    "packets": "both directions, several epochs and path ids, number reconstruction, masking",
    "frames": "every frame, and payloads to refuse",
    "control": "messages of the control stream, and streams to refuse",
    "ratchet": "X-Wing offer, reply, shared secret and the next root",
}


class Fixed:
    """Entropy that depends on a name alone."""

    def __init__(self, name: str) -> None:
        self._name, self._taken = name, 0

    def __call__(self, size: int) -> bytes:
        self._taken += size
        stream = shake_256(f"clawchat vectors: {self._name}".encode())
        return stream.digest(self._taken)[-size:] if size else b""


def files(folder: Path) -> dict[str, str]:
    """Name and text of every vector file. `folder` is where kept ciphertexts are found."""
    makers = {
        "bootstrap": _bootstrap(),
        "credential": _credential(),
        "parameters": _parameters(),
        "envelope": _envelope(),
        "handshake": _handshake(),
        "packets": _packets(),
        "frames": _frames(),
        "control": _control(),
        "ratchet": _ratchet(folder / "ratchet.json"),
    }
    return {f"{what}.json": _text(what, list(cases)) for what, cases in makers.items()}


def summary() -> Iterator[tuple[str, str, str]]:
    """File, what it shows, and its number of cases: for PROTOCOL.md."""
    folder = Path(__file__).parent / "vectors"
    for name, text in files(folder).items():
        what = name.removesuffix(".json")
        yield f"`{name}`", TITLES[what], str(len(json.loads(text)["cases"]))


def _text(what: str, cases: list[Case]) -> str:
    value = {"format": 1, "what": what, "shows": TITLES[what], "cases": [_hex(c) for c in cases]}
    return json.dumps(value, indent=1, ensure_ascii=True) + "\n"


def _hex(value: object) -> object:
    """The value with its bytes as hex."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: _hex(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_hex(item) for item in value]
    return value


def _good(name: str, inputs: Case, out: Case) -> Case:
    return {"name": name, "in": inputs, "out": out}


def _bad(name: str, inputs: Case, why: str) -> Case:
    return {"name": name, "in": inputs, "refused": why}


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at:][1:]


# --- bootstrap file ---------------------------------------------------------------------------


def _content(name: str, candidates: tuple[Address, ...], rendezvous: str) -> BootstrapContent:
    entropy = Fixed(name)
    return BootstrapContent(
        listener_static=suite.public_key(entropy(32)),
        secret=Secret(entropy(32)),
        file_id=entropy(16),
        candidates=candidates,
        issued=1_793_000_000,
        expires=1_793_000_660,
        rendezvous=rendezvous,
    )


def _bootstrap() -> Iterator[Case]:
    v4, v6 = Address("192.0.2.7", 50_001), Address("2001:db8::7", 50_001)
    by_key = bootstrap.BootstrapKey.from_base64url(urlsafe_b64encode(KEY).decode())
    by_phrase = bootstrap.BootstrapKey.from_passphrase(PASSPHRASE)
    key, phrase = {"key": KEY}, {"passphrase": PASSPHRASE}
    plain = _content("bootstrap one", (v4,), "")
    both = _content("bootstrap two", (v4, v6), "reserved \u00fc")
    file = bootstrap.seal_bootstrap(plain, by_key, Fixed("file one"))
    other = bootstrap.seal_bootstrap(both, by_phrase, Fixed("file two"))
    none = bootstrap.seal_bootstrap(_content("three", (), ""), by_key, Fixed("file three"))
    yield _good("a key", {"file": file, **key}, _content_out(plain))
    yield _good("a passphrase", {"file": other, **phrase}, _content_out(both))
    yield _good("no candidates", {"file": none, **key}, _content_out(_content("three", (), "")))
    yield _bad("another key", {"file": file, "key": _flipped(KEY, 0)}, "wrong key")
    yield _bad("one byte altered", {"file": _flipped(file, 60), **key}, "altered")
    yield _bad("salt altered", {"file": _flipped(file, 10), **key}, "altered")
    yield _bad("one byte short", {"file": file[:-1], **key}, "truncated")
    yield _bad("one byte long", {"file": file + b"\0", **key}, "truncated")
    yield _bad("version 4", {"file": file[:7] + b"\4" + file[8:], **key}, "newer version")
    yield _bad("foreign", {"file": b"CLAWSEX" + file[7:], **key}, "not a bootstrap file")


def _content_out(content: BootstrapContent) -> Case:
    return {
        "listener_static": content.listener_static,
        "secret": content.secret.reveal(),
        "file_id": content.file_id,
        "issued": content.issued,
        "expires": content.expires,
        "candidates": [str(candidate) for candidate in content.candidates],
        "rendezvous": content.rendezvous,
    }


# --- credential, parameters, envelope ---------------------------------------------------------


def _credential_out(credential: Credential) -> Case:
    return {
        "hint": credential.hint,
        "envelope_key": credential.envelope_key.reveal(),
        "psk": credential.psk.reveal(),
    }


def _credential() -> Iterator[Case]:
    for generation in (0, 1):
        entropy = Fixed(f"credential {generation}")
        file_id, secret = entropy(16), entropy(32)
        derived = schedule.derive_credential(file_id, generation, secret)
        yield _good(
            f"secret {generation}", {"file_id": file_id, "secret": secret}, _credential_out(derived)
        )


def _limits_out(limits: Limits) -> Case:
    names = "max_data", "max_stream", "max_streams", "max_datagram"
    return {name: getattr(limits, name) for name in names}


def _parameter(number: int, value: bytes) -> bytes:
    return varint.encode(number) + varint.encode(len(value)) + value


def _parameters() -> Iterator[Case]:
    usual, cookie = encode_parameters(LIMITS), Fixed("cookie")(24)
    one, rest = usual[: 2 + usual[1]], usual[2 + usual[1] :]
    padded = _parameter(1, varint.encode(7, 8)) + rest
    yield _good("usual", {"parameters": usual}, _limits_out(LIMITS))
    yield _good("extremes", {"parameters": encode_parameters(LARGE)}, _limits_out(LARGE))
    yield _good("a number longer than needed", {"parameters": padded}, {"max_data": 7})
    yield _good(
        "with a cookie",
        {"parameters": encode_parameters(LIMITS, cookie)},
        {**_limits_out(LIMITS), "cookie": cookie},
    )
    unknown = usual + _parameter(77, b"anything")
    yield _good("an unknown id", {"parameters": unknown}, _limits_out(LIMITS))
    yield _bad("one missing", {"parameters": rest}, "required")
    yield _bad("out of order", {"parameters": rest + one}, "ascending")
    yield _bad("twice", {"parameters": one + one + rest}, "ascending")
    yield _bad("cut short", {"parameters": usual[:-1]}, "truncated")
    yield _bad("two numbers in one", {"parameters": _parameter(1, b"\7\7") + rest}, "one varint")
    yield _bad("small datagrams", {"parameters": usual[:-2] + b"\x43\xff"}, "at least 1024")
    yield _bad("too long", {"parameters": usual + _parameter(77, bytes(250))}, "256 bytes")


def _envelope() -> Iterator[Case]:
    entropy = Fixed("envelope")
    credential = schedule.derive_credential(entropy(16), 3, entropy(32))
    old = Superseded(credential.generation, credential.hint, credential.envelope_key)
    message, cookie = entropy(130), entropy(24)
    key = {"envelope_key": credential.envelope_key.reveal()}
    hint = {"hint": credential.hint}
    hello = envelope.seal_hello(credential, message, entropy)
    yield _good("hello", {"kind": "hello", "datagram": hello, **key}, {**hint, "message": message})
    long = entropy(974)
    largest = envelope.seal_hello(credential, long, entropy)
    yield _good("full", {"kind": "hello", "datagram": largest, **key}, {**hint, "message": long})
    asked = envelope.seal_hello(credential, message, entropy, cookie)
    beside = {**hint, "message": message, "cookie": cookie}
    yield _good("hello with a cookie", {"kind": "hello", "datagram": asked, **key}, beside)
    for seen in (Address("198.51.100.9", 40_000), Address("2001:db8::9", 65_535)):
        reply = envelope.seal_reply(credential, seen, message, entropy)
        out = {**hint, "address": str(seen), "message": message}
        yield _good(f"reply to {seen}", {"kind": "reply", "datagram": reply, **key}, out)
    refusal = envelope.seal_refusal(old, message, cookie, entropy)
    says = {**hint, "answered": message[:16], "cookie": cookie}
    yield _good("refusal", {"kind": "reply", "datagram": refusal, **key}, says)
    for at, what in ((0, "hint"), (16, "salt"), (40, "text"), (-1, "tag")):
        altered = _flipped(hello, at % len(hello))
        yield _bad(
            f"{what} altered", {"kind": "hello", "datagram": altered, **key}, "does not open"
        )
    yield _bad("a hello read as a reply", {"kind": "reply", "datagram": hello, **key}, "direction")
    yield _bad("a size of no envelope", {"kind": "hello", "datagram": hello + b"\0", **key}, "size")
    measured = len(message).to_bytes(2, "big") + message
    dirty = _sealed_inside(credential, measured + b"\0\0\1", entropy)
    yield _bad("padding that is not zero", {"kind": "hello", "datagram": dirty, **key}, "padding")
    greedy = _sealed_inside(credential, measured + b"\0\x41", entropy)
    yield _bad("a cookie of 65 bytes", {"kind": "hello", "datagram": greedy, **key}, "cookie")
    beyond = _sealed_inside(credential, b"\xff\xff", entropy)
    yield _bad("a length beyond the end", {"kind": "hello", "datagram": beyond, **key}, "length")


def _sealed_inside(credential: Credential, inside: bytes, entropy: Fixed) -> bytes:
    """A HELLO envelope around an inside that no sender would make."""
    head = credential.hint + entropy(16)
    key = suite.expand(suite.extract(head[16:], credential.envelope_key.reveal()), b"hello", 32)
    return head + suite.aead_seal(key, bytes(12), inside.ljust(512 - 48, b"\0"), head)


# --- handshake --------------------------------------------------------------------------------


def _handshake() -> Iterator[Case]:
    yield _one_handshake("first, from a bootstrap file", 0, LIMITS, LIMITS)
    yield _one_handshake("generation 258", 258, LARGE, LIMITS)


def _one_handshake(name: str, generation: int, ours: Limits, theirs: Limits) -> Case:
    entropy = Fixed(f"handshake {generation}")
    file_id, secret, dialer, dialer_e, listener, listener_e = map(entropy, (16, 32, 32, 32, 32, 32))
    credential = schedule.derive_credential(file_id, generation, secret)
    prologue, psk = schedule.prologue(file_id, generation), credential.psk.reveal()
    static = suite.public_key(listener)
    first = HandshakeState(
        initiator=True, prologue=prologue, s=dialer, e=dialer_e, rs=static, psks=(psk,)
    )
    second = HandshakeState(
        initiator=False, prologue=prologue, s=listener, e=listener_e, psks=(psk,)
    )
    message_1 = first.write_message(encode_parameters(ours))
    second.read_message(message_1)
    message_2 = second.write_message(encode_parameters(theirs))
    first.read_message(message_2)
    ck, h = first.chaining_key, first.hash
    following = schedule.next_secret(ck, h)
    inputs = {
        "file_id": file_id,
        "generation": generation,
        "secret": secret,
        "dialer_private": dialer,
        "dialer_ephemeral_private": dialer_e,
        "listener_private": listener,
        "listener_ephemeral_private": listener_e,
        "message_1": message_1,
        "payload_2": encode_parameters(theirs),
    }
    out = {
        **_credential_out(credential),
        "listener_static": static,
        "dialer_static": suite.public_key(dialer),
        "payload_1": encode_parameters(ours),
        "parameters_1": _limits_out(ours),
        "parameters_2": _limits_out(theirs),
        "message_2": message_2,
        "chaining_key": ck,
        "handshake_hash": h,
        "root_0": schedule.first_root(ck, h).reveal(),
        "next_secret": following.reveal(),
        "next_credential": _credential_out(
            schedule.derive_credential(file_id, generation + 1, following)
        ),
    }
    return _good(name, inputs, out)


# --- packets ----------------------------------------------------------------------------------


def _packets() -> Iterator[Case]:
    stream = frames.encode_stream(4, 0, b"good morning", fin=True)
    ack = frames.encode_ack([(7, 9), (0, 4)], 1500)
    yield _packet("the dialer's first", DIALER, 0, 0, 0, -1, stream)
    yield _packet("the listener's answer", LISTENER, 0, 0, 0, -1, ack + stream)
    yield _packet("one byte of payload", DIALER, 0, 0, 5, 4, frames.PING)
    yield _packet("epoch 1", DIALER, 1, 0, 12, 11, ack)
    yield _packet("epoch 1, path id 1", LISTENER, 1, 1, 1_000, 990, ack)
    yield _packet("epoch 70000, path id 65536", LISTENER, 70_000, 65_536, 77, 80, stream)
    yield _packet("a number beyond 32 bits", DIALER, 3, 0, (1 << 32) + 5, (1 << 32) - 2, ack)
    yield _packet("a late one below 32 bits", DIALER, 3, 0, (1 << 32) - 1, (1 << 32) + 5, ack)
    yield _packet("a large number", LISTENER, 9, 0, (1 << 40) + 17, (1 << 40) + 16, ack)
    yield _packet("1452 bytes", DIALER, 2, 0, 300, 299, frames.PING + frames.padding(1422))
    good = _packet("", DIALER, 0, 0, 1, 0, stream)["in"]
    for at, what in ((8, "flags"), (9, "number"), (14, "text"), (-1, "tag")):
        data = good["datagram"]
        yield _bad(f"{what} altered", good | {"datagram": _flipped(data, at % len(data))}, "tag")
    yield _bad("of another epoch", good | {"epoch": 1}, "tag")
    yield _bad("of the other side", good | {"side": "listener"}, "connection id")
    yield _bad("cut to its header", good | {"datagram": good["datagram"][:28]}, "too short")


def _packet(
    name: str, side: bytes, epoch: int, path_id: int, number: int, largest: int, payload: bytes
) -> Case:
    root = Fixed(f"root {epoch}")(32)
    datagram = SealKeys(Secret(root), epoch, side).seal(path_id, number, [payload])[0]
    sizes = {"key": 32, "iv": 12, "mask": 32, "cid": 32}
    keys = {
        what: suite.expand(root, f"{what} ".encode() + side, size) for what, size in sizes.items()
    }
    inputs = {
        "root": root,
        "side": side.decode(),
        "epoch": epoch,
        "path_id": path_id,
        "largest_received": largest,
        "datagram": datagram,
    }
    return _good(name, inputs, {**keys, "packet_number": number, "payload": payload})


# --- frames and control messages --------------------------------------------------------------


def _frames() -> Iterator[Case]:
    for name, payload, out in _good_frames():
        yield _good(name, {"payload": payload}, {"frames": out})
    for name, text, why in _BAD_FRAMES:
        yield _bad(name, {"payload": bytes.fromhex(text)}, why)


def _good_frames() -> Iterator[tuple[str, bytes, list[Case]]]:
    f = frames
    yield "padding alone", f.padding(3), []
    yield "ping among padding", b"\0\0" + f.PING + b"\0", [{"type": "PING"}]
    ack = {"type": "ACK", "delay_us": 1500, "ranges": [[7, 9], [0, 4]]}
    yield "two ranges", f.encode_ack([(7, 9), (0, 4)], 1500), [ack]
    first = {"type": "ACK", "delay_us": 0, "ranges": [[0, 0]]}
    yield "packet 0", f.encode_ack([(0, 0)], 0), [first]
    data = {"type": "STREAM", "stream": 6, "offset": 70_000, "data": b"abc", "fin": True}
    yield "a stream's end", f.encode_stream(6, 70_000, b"abc", fin=True), [data]
    bare = {"type": "STREAM", "stream": 4, "offset": 0, "data": b"abc", "fin": False}
    yield "the least stream frame", b"\x08\x04abc", [bare]
    empty = {"type": "STREAM", "stream": 4, "offset": 9, "data": b"", "fin": True}
    yield "an end alone", b"\x0f\x04\x09\x00", [empty]
    far = {"type": "STREAM", "stream": 5, "offset": 1 << 30, "data": b"z", "fin": False}
    yield "a far offset", f.stream_head(5, 1 << 30, fin=False) + b"z", [far]
    yield "MAX_DATA", f.encode_max_data(1 << 40), [{"type": "MAX_DATA", "limit": 1 << 40}]
    grant = {"type": "MAX_STREAM", "stream": 4, "limit": 16_384}
    yield "MAX_STREAM", f.encode_max_stream(4, 16_384), [grant]
    yield "MAX_STREAMS", f.encode_max_streams(300), [{"type": "MAX_STREAMS", "limit": 300}]
    reset = {"type": "RESET", "stream": 4, "code": 9, "final_size": 63}
    yield "RESET", f.encode_reset(4, 9, 63), [reset]
    yield "STOP", f.encode_stop(4, 64), [{"type": "STOP", "stream": 4, "code": 64}]
    token = bytes(range(8))
    challenge, answer = (
        {"type": f"PATH_{what}", "data": token} for what in ("CHALLENGE", "RESPONSE")
    )
    both = f.encode_path_challenge(token) + f.encode_path_response(token)
    yield "path validation", both, [challenge, answer]
    close = {"type": "CLOSE", "code": 0, "reason": "bye \u00fc"}
    yield "CLOSE", f.encode_close(0, "bye \u00fc"), [close]
    lost = {"type": "COMPROMISED", "reason": 3, "scope": 1}
    yield "COMPROMISED", f.encode_compromised(3, f.SCOPE_EVERYTHING), [lost]
    yield "COMPROMISED_ACK", f.COMPROMISED_ACK, [{"type": "COMPROMISED_ACK"}]
    message = {"type": "DATAGRAM", "data": b"tick"}
    two = f.encode_datagram(b"tick") + f.encode_datagram(b"tick", to_end=True)
    yield "datagrams with and without a length", two, [message, message]
    longer = bytes.fromhex("10c000000000000007")
    yield "a number longer than needed", longer, [{"type": "MAX_DATA", "limit": 7}]


_BAD_FRAMES: Final = (
    ("nothing", "", "empty payload"),
    ("an unknown type", "03", "type"),
    ("COMPROMISED without a scope", "1d03", "truncated"),
    ("PUNCH", "1f", "reserved"),
    ("a type beyond the table", "32", "type"),
    ("a good frame, then none", "0103", "type"),
    ("a number cut short", "1040", "truncated"),
    ("a stream cut short", "0e040005aabb", "truncated"),
    ("a stream beyond 2^62 - 1", "0c04ffffffffffffffffaa", "offset"),
    ("a range below 0", "0203000005", "range"),
    ("a second range below 0", "02050001000103", "range"),
    ("257 ranges", "02450100410100", "count"),
    ("more streams than there are ids", "12d000000000000001", "limit"),
    ("a challenge cut short", "1a00010203040506", "truncated"),
    ("a reason that is not text", "1c0001ff", "UTF-8"),
    ("a reason of 257 bytes", "1c004101" + "61" * 257, "length"),
    ("a datagram cut short", "3105aabb", "truncated"),
)


def _control() -> Iterator[Case]:
    entropy = Fixed("control")
    offer = control.RatchetOffer(1, entropy(1216))
    reply = control.RatchetReply(70_000, entropy(1120))
    said = [
        {"type": "RATCHET_OFFER", "epoch": 1, "data": offer.public},
        {"type": "RATCHET_REPLY", "epoch": 70_000, "data": reply.ciphertext},
        {"type": "ROTATE_REQUEST"},
    ]
    messages: tuple[control.ControlMessage, ...] = offer, reply, control.RotateRequest()
    moves = (
        control.PortRotate(1, 49_152),
        control.PortRotate(70, 65_535, (Address("192.0.2.1", 5), Address("2001:db8::1", 6))),
    )
    told = [
        {
            "type": "PORT_ROTATE",
            "sequence": move.sequence,
            "port": move.port,
            "candidates": [str(candidate) for candidate in move.candidates],
        }
        for move in moves
    ]
    three = b"".join(map(control.encode_control, messages))
    yield _good("the three messages of the ratchet", {"stream": three}, {"messages": said})
    ported = b"".join(map(control.encode_control, moves))
    yield _good("two moves to other ports", {"stream": ported}, {"messages": told})
    reports = (
        control.CopyReport(0, False, 1, 0, Address("192.0.2.1", 5)),
        control.CopyReport(70_000, True, 300, 86_400, Address("2001:db8::1", 65_535)),
    )
    noticed = [
        {
            "type": "COPY_REPORT",
            "generation": report.generation,
            "whose": int(report.same_device),
            "count": report.count,
            "seconds": report.seconds,
            "address": str(report.remote),
        }
        for report in reports
    ]
    reported = b"".join(map(control.encode_control, reports))
    yield _good("two reports of copies", {"stream": reported}, {"messages": noticed})
    for name, text, why in (
        ("reserved CANDIDATES", "2000", "reserved"),
        ("an unknown type", "2100", "type"),
        ("a request with a body", "240100", "body"),
        ("a move to no port", "250401000000", "body"),
        ("a move with five addresses", "252701c00005" + "04c00002010005" * 5, "body"),
        ("a move that goes on", "250501c00000ff", "body"),
        ("a move to an address without a port", "250b01c0000104c00002010000", "body"),
        ("a report of nothing", "260b01000000" + "04c00002010005", "body"),
        ("a report of 2^32 uses", "26120100c00000010000000000" + "04c00002010005", "body"),
        ("a report by a third kind of key", "260b01020100" + "04c00002010005", "body"),
        ("a report that goes on", "260c01000100" + "04c0000201000500", "body"),
        ("a report without an address", "260401000100", "body"),
        ("an offer of one byte", "220200ff", "body"),
        ("a body of 2049 bytes", "224801" + "00" * 2049, "length"),
    ):
        yield _bad(name, {"stream": bytes.fromhex(text)}, why)


# --- ratchet ----------------------------------------------------------------------------------


def _ratchet(file: Path) -> Iterator[Case]:
    kept: dict[str, str] = {}
    if file.exists():
        cases = json.loads(file.read_text())["cases"]
        kept = {case["name"]: case["in"]["reply"] for case in cases}
    for epoch in (1, 2):
        name = f"to epoch {epoch}"
        entropy = Fixed(f"ratchet {epoch}")
        seed, root = entropy(32), Fixed(f"root {epoch - 1}")(32)
        private, offer = xwing.keypair(seed)
        reply = bytes.fromhex(kept[name]) if name in kept else xwing.encapsulate(offer, entropy)[1]
        shared = private.decapsulate(reply)
        transcript = suite.sha256_digest(epoch.to_bytes(4, "big") + offer + reply)
        following = schedule.ratchet_root(Secret(root), shared, epoch, offer, reply)
        inputs = {"root": root, "epoch": epoch, "seed": seed, "reply": reply}
        yield _good(
            name,
            inputs,
            {
                "offer": offer,
                "shared": shared,
                "transcript": transcript,
                "next_root": following.reveal(),
            },
        )
