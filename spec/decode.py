"""A second reading of PROTOCOL.md: opens every test vector without a line of ClawChat.

    python spec/decode.py spec/vectors

It was written from the text alone and imports nothing but the standard library and the
primitives of `cryptography`. Where it and `clawchat` disagree, the text decides.

Rules: plain over quick; every function names its section. Exit code 1 and the name of the case
when one does not come out as the file says.
Left to others: making vectors (`spec.vectors`), being fast (`clawchat.core`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
import unicodedata
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

Case = dict[str, Any]


class Refused(Exception):
    """Input that section so-and-so says is to be refused; the text says why in one word."""


# --- section 2: notation ----------------------------------------------------------------------


def mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def extract(salt: bytes, ikm: bytes) -> bytes:
    return mac(salt, ikm)


def hkdf_expand(prk: bytes, info: bytes, size: int) -> bytes:
    out, block, count = b"", b"", 0
    while len(out) < size:
        count += 1
        block = mac(prk, block + info + bytes([count]))
        out += block
    return out[:size]


def expand(prk: bytes, label: bytes, size: int) -> bytes:
    return hkdf_expand(prk, b"clawchat 3 " + label, size)


def x25519(private: bytes, public: bytes) -> bytes:
    key = X25519PrivateKey.from_private_bytes(private)
    try:
        return key.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise Refused("all-zero") from None


def x25519_public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


class Reader:
    """Takes fields from the front of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise Refused("truncated")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def varint(self) -> int:
        first = self.number(1)
        rest = self.take((1 << (first >> 6)) - 1)
        return int.from_bytes(bytes([first & 0x3F]) + rest, "big")

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at)

    @property
    def done(self) -> bool:
        return self.at == len(self.data)


def read_address(reader: Reader, family: int) -> str:
    if family not in (4, 6):
        raise Refused("family")
    host = ip_address(reader.take(4 if family == 4 else 16))
    if getattr(host, "ipv4_mapped", None) is not None:
        raise Refused("mapped")
    port = reader.number(2)
    return f"{host}:{port}" if family == 4 else f"[{host}]:{port}"


# --- section 3: bootstrap file ----------------------------------------------------------------


def open_bootstrap(data: bytes, key: bytes | None, passphrase: str | None) -> Case:
    if data[:7] != b"CLAWSEC":
        raise Refused("foreign")
    if len(data) > 2048:
        raise Refused("length")
    reader = Reader(data)
    reader.take(7)
    if reader.number(1) != 3:
        raise Refused("version")
    kdf = reader.number(1)
    salt, nonce = reader.take(16), reader.take(12)
    if reader.number(2) != len(data) - 39:
        raise Refused("length")
    if kdf == 1 and key is not None:
        sealing = expand(extract(salt, key), b"bootstrap", 32)
    elif kdf == 2 and passphrase is not None:
        text = unicodedata.normalize("NFC", passphrase).encode()
        sealing = Argon2id(
            salt=salt, length=32, iterations=3, lanes=4, memory_cost=64 * 1024
        ).derive(text)
    else:
        raise Refused("key")
    body = gcm_open(sealing, nonce, reader.rest(), data[:39], "key")
    return read_bootstrap_body(Reader(body))


def read_bootstrap_body(reader: Reader) -> Case:
    content: Case = {
        "listener_static": reader.take(32).hex(),
        "secret": reader.take(32).hex(),
        "file_id": reader.take(16).hex(),
        "issued": reader.number(8),
        "expires": reader.number(8),
    }
    count = reader.number(1)
    if count > 16 or content["expires"] < content["issued"]:
        raise Refused("body")
    content["candidates"] = [read_address(reader, reader.number(1)) for _ in range(count)]
    if any(candidate.endswith(":0") for candidate in content["candidates"]):
        raise Refused("port")
    length = reader.number(2)
    if length > 512:
        raise Refused("body")
    content["rendezvous"] = reader.take(length).decode()
    if not reader.done:
        raise Refused("body")
    return content


def gcm_open(key: bytes, nonce: bytes, data: bytes, aad: bytes, complaint: str) -> bytes:
    try:
        return AESGCM(key).decrypt(nonce, data, aad)
    except InvalidTag:
        raise Refused(complaint) from None


# --- sections 4 and 5: credential and envelope ------------------------------------------------


def credential(file_id: bytes, secret: bytes) -> Case:
    prk = extract(file_id, secret)
    return {
        "hint": expand(prk, b"hint", 16).hex(),
        "envelope_key": expand(prk, b"envelope", 32).hex(),
        "psk": expand(prk, b"psk", 32).hex(),
    }


def open_envelope(datagram: bytes, envelope_key: bytes, kind: str) -> Case:
    if len(datagram) not in (512, 640, 768, 896, 1024):
        raise Refused("size")
    hint, salt, sealed = datagram[:16], datagram[16:32], datagram[32:]
    key = expand(extract(salt, envelope_key), kind.encode(), 32)
    reader = Reader(gcm_open(key, bytes(12), sealed, hint + salt, "tag"))
    out: Case = {"hint": hint.hex()}
    if kind == "reply":
        family = reader.number(1)
        if family == 0:
            out["answered"] = reader.take(16).hex()
            out["cookie"] = read_cookie(reader, reader.number(2))
            return padded(reader, out)
        out["address"] = read_address(reader, family)
    out["message"] = reader.take(reader.number(2)).hex()
    if kind == "hello" and len(reader.data) - reader.at >= 2 and (size := reader.number(2)):
        out["cookie"] = read_cookie(reader, size)
    return padded(reader, out)


def read_cookie(reader: Reader, size: int) -> str:
    if size > 64:
        raise Refused("cookie")
    return reader.take(size).hex()


def padded(reader: Reader, out: Case) -> Case:
    if any(reader.rest()):
        raise Refused("padding")
    return out


# --- section 6: handshake ---------------------------------------------------------------------


class Noise:
    """The symmetric state of Noise, revision 34, with AESGCM and SHA256."""

    def __init__(self, prologue: bytes) -> None:
        name = b"Noise_IKpsk2_25519_AESGCM_SHA256"
        self.h = self.ck = name.ljust(32, b"\0")
        self.k, self.n = b"", 0
        self.mix_hash(prologue)

    def mix_hash(self, data: bytes) -> None:
        self.h = hashlib.sha256(self.h + data).digest()

    def mix_key(self, ikm: bytes) -> None:
        out = hkdf_expand(extract(self.ck, ikm), b"", 64)
        self.ck, self.k, self.n = out[:32], out[32:], 0

    def mix_key_and_hash(self, ikm: bytes) -> None:
        out = hkdf_expand(extract(self.ck, ikm), b"", 96)
        self.ck, self.k, self.n = out[:32], out[64:], 0
        self.mix_hash(out[32:64])

    def mix_public(self, public: bytes) -> None:
        """An `e` token: with a PSK it goes into the chaining key as well."""
        self.mix_hash(public)
        self.mix_key(public)

    def seal(self, plaintext: bytes) -> bytes:
        data = AESGCM(self.k).encrypt(self.nonce(), plaintext, self.h)
        self.mix_hash(data)
        return data

    def open(self, data: bytes) -> bytes:
        plaintext = gcm_open(self.k, self.nonce(), data, self.h, "noise")
        self.mix_hash(data)
        return plaintext

    def nonce(self) -> bytes:
        self.n += 1
        return bytes(4) + (self.n - 1).to_bytes(8, "big")


def handshake(case: Case) -> Case:
    """The listener's part, with the ephemeral key that the case gives it."""
    static, ephemeral = case["listener_private"], case["listener_ephemeral_private"]
    prologue = b"clawchat 3" + case["file_id"] + case["generation"].to_bytes(8, "big")
    keys = credential(case["file_id"], case["secret"])
    noise, reader = Noise(prologue), Reader(case["message_1"])
    noise.mix_hash(x25519_public(static))
    remote_ephemeral = reader.take(32)
    noise.mix_public(remote_ephemeral)
    noise.mix_key(x25519(static, remote_ephemeral))
    dialer_static = noise.open(reader.take(48))
    noise.mix_key(x25519(static, dialer_static))
    payload_1 = noise.open(reader.rest())
    noise.mix_public(x25519_public(ephemeral))
    noise.mix_key(x25519(ephemeral, remote_ephemeral))
    noise.mix_key(x25519(ephemeral, dialer_static))
    noise.mix_key_and_hash(bytes.fromhex(keys["psk"]))
    message_2 = x25519_public(ephemeral) + noise.seal(case["payload_2"])
    prk = extract(noise.h, noise.ck)
    next_secret = expand(prk, b"next", 32)
    return {
        **keys,
        "listener_static": x25519_public(static).hex(),
        "dialer_static": dialer_static.hex(),
        "payload_1": payload_1.hex(),
        "parameters_1": read_parameters(payload_1),
        "parameters_2": read_parameters(case["payload_2"]),
        "message_2": message_2.hex(),
        "chaining_key": noise.ck.hex(),
        "handshake_hash": noise.h.hex(),
        "root_0": expand(prk, b"root", 32).hex(),
        "next_secret": next_secret.hex(),
        "next_credential": credential(case["file_id"], next_secret),
    }


def read_parameters(data: bytes) -> Case:
    names = {1: "max_data", 2: "max_stream", 3: "max_streams", 4: "max_datagram"}
    out: Case = {}
    if len(data) > 256:
        raise Refused("length")
    reader, last = Reader(data), -1
    while not reader.done:
        number = reader.varint()
        if number <= last:
            raise Refused("order")
        last = number
        value = Reader(reader.take(reader.varint()))
        if number in names:
            out[names[number]] = value.varint()
            if not value.done:
                raise Refused("value")
        elif number == 5:
            out["cookie"] = value.rest().hex()
            if len(value.data) > 64:
                raise Refused("value")
    if not set(names.values()) <= set(out):
        raise Refused("missing")
    if out["max_datagram"] < 1024 or out["max_streams"] > 1 << 60:
        raise Refused("value")
    return out


# --- section 8: packets -----------------------------------------------------------------------


def epoch_keys(root: bytes, side: str) -> Case:
    sizes = {"key": 32, "iv": 12, "mask": 32, "cid": 32}
    return {name: expand(root, f"{name} {side}".encode(), size) for name, size in sizes.items()}


def path_cid(cid_key: bytes, path_id: int) -> bytes:
    return mac(cid_key, path_id.to_bytes(4, "big"))[:8]


def full_number(low: int, largest: int) -> int:
    """RFC 9000, appendix A.3, for 32 bits; `largest` is -1 before anything was received."""
    expected = largest + 1
    candidate = (expected & ~0xFFFFFFFF) | low
    if candidate <= expected - (1 << 31) and candidate < (1 << 64) - (1 << 32):
        return candidate + (1 << 32)
    if candidate > expected + (1 << 31) and candidate >= 1 << 32:
        return candidate - (1 << 32)
    return candidate


def open_packet(datagram: bytes, keys: Case, epoch: int, path_id: int, largest: int) -> Case:
    if len(datagram) < 29:
        raise Refused("empty")
    cid, header, sealed = datagram[:8], datagram[8:13], datagram[13:]
    if cid != path_cid(keys["cid"], path_id):
        raise Refused("stranger")
    ecb = Cipher(algorithms.AES(keys["mask"]), modes.ECB()).encryptor()  # noqa: S305 one block
    mask = ecb.update(sealed[:16])
    header = bytes(a ^ b for a, b in zip(header, mask, strict=False))
    number = full_number(int.from_bytes(header[1:], "big"), largest)
    nonce = bytes(a ^ b for a, b in zip(keys["iv"], number.to_bytes(12, "big"), strict=True))
    aad = cid + header[:1] + number.to_bytes(8, "big")
    aad += epoch.to_bytes(4, "big") + path_id.to_bytes(4, "big")
    payload = gcm_open(keys["key"], nonce, sealed, aad, "seal")
    if header[0] != 0:
        raise Refused("reserved")
    return {"packet_number": number, "payload": payload.hex()}


# --- sections 9 and 10: frames and control messages -------------------------------------------

SIMPLE = {  # frames whose fields are varints alone
    0x10: ("MAX_DATA", ("limit",)),
    0x11: ("MAX_STREAM", ("stream", "limit")),
    0x12: ("MAX_STREAMS", ("limit",)),
    0x14: ("RESET", ("stream", "code", "final_size")),
    0x15: ("STOP", ("stream", "code")),
    0x1D: ("COMPROMISED", ("reason", "scope")),
    0x1E: ("COMPROMISED_ACK", ()),
}


def read_frames(payload: bytes) -> list[Case]:
    reader, frames = Reader(payload), list[Case]()
    if not payload:
        raise Refused("empty")
    while not reader.done:
        kind = reader.number(1)
        if kind != 0:
            frames.append(read_frame(reader, kind))
    return frames


def read_frame(reader: Reader, kind: int) -> Case:
    if kind in SIMPLE:
        name, fields = SIMPLE[kind]
        frame: Case = {"type": name, **{field: reader.varint() for field in fields}}
        if name == "MAX_STREAMS" and frame["limit"] > 1 << 60:
            raise Refused("limit")
        return frame
    if kind == 0x01:
        return {"type": "PING"}
    if kind == 0x02:
        return read_ack(reader)
    if 0x08 <= kind <= 0x0F:
        return read_stream(reader, kind)
    if kind in (0x1A, 0x1B):
        return {"type": ("PATH_CHALLENGE", "PATH_RESPONSE")[kind & 1], "data": reader.take(8).hex()}
    if kind == 0x1C:
        code, length = reader.varint(), reader.varint()
        if length > 256:
            raise Refused("length")
        try:
            return {"type": "CLOSE", "code": code, "reason": reader.take(length).decode()}
        except UnicodeDecodeError:
            raise Refused("text") from None
    if kind in (0x30, 0x31):
        data = reader.rest() if kind == 0x30 else reader.take(reader.varint())
        return {"type": "DATAGRAM", "data": data.hex()}
    raise Refused("type")


def read_ack(reader: Reader) -> Case:
    largest, delay, count = reader.varint(), reader.varint(), reader.varint()
    if count > 256:
        raise Refused("count")
    low = largest - reader.varint()
    ranges = [[low, largest]]
    for _ in range(count):
        high = low - reader.varint() - 2
        low = high - reader.varint()
        ranges.append([low, high])
    if low < 0:
        raise Refused("range")
    return {"type": "ACK", "delay_us": delay, "ranges": ranges}


def read_stream(reader: Reader, kind: int) -> Case:
    stream = reader.varint()
    offset = reader.varint() if kind & 4 else 0
    data = reader.take(reader.varint()) if kind & 2 else reader.rest()
    if offset + len(data) > (1 << 62) - 1:
        raise Refused("offset")
    return {
        "type": "STREAM",
        "stream": stream,
        "offset": offset,
        "data": data.hex(),
        "fin": bool(kind & 1),
    }


def read_control(data: bytes) -> list[Case]:
    reader, messages = Reader(data), list[Case]()
    while not reader.done:
        kind, length = reader.varint(), reader.varint()
        if length > 2048:
            raise Refused("length")
        body = Reader(reader.take(length))
        if kind == 0x25:
            messages.append(read_port_rotate(body))
            continue
        if kind == 0x26:
            messages.append(read_copy_report(body))
            continue
        size = {0x22: 1216, 0x23: 1120, 0x24: 0}.get(kind)
        if size is None:
            raise Refused("type")
        message: Case = {"type": {0x22: "RATCHET_OFFER", 0x23: "RATCHET_REPLY"}.get(kind, "")}
        if size:
            message |= {"epoch": body.varint(), "data": body.take(size).hex()}
        else:
            message = {"type": "ROTATE_REQUEST"}
        if not body.done or message.get("epoch", 0) >= 1 << 32:
            raise Refused("body")
        messages.append(message)
    return messages


def read_port_rotate(body: Reader) -> Case:
    sequence, port, count = body.varint(), body.number(2), body.number(1)
    if port == 0 or count > 4:
        raise Refused("body")
    addresses = [read_address(body, body.number(1)) for _ in range(count)]
    if not body.done or any(address.endswith(":0") for address in addresses):
        raise Refused("body")
    return {"type": "PORT_ROTATE", "sequence": sequence, "port": port, "candidates": addresses}


def read_copy_report(body: Reader) -> Case:
    report: Case = {"type": "COPY_REPORT"}
    report |= {name: body.varint() for name in ("generation", "whose", "count", "seconds")}
    report["address"] = read_address(body, body.number(1))
    if not body.done or report["whose"] > 1:
        raise Refused("body")
    if not 0 < report["count"] < 1 << 32 or report["seconds"] >= 1 << 32:
        raise Refused("body")
    return report


# --- section 16: key ratchet ------------------------------------------------------------------

XWING_LABEL = b"\\.//^\\"


def ratchet(case: Case) -> Case:
    expanded = hashlib.shake_256(case["seed"]).digest(96)
    mlkem, scalar = MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), expanded[64:]
    x_public = x25519_public(scalar)
    offer = mlkem.public_key().public_bytes_raw() + x_public
    shared_m = mlkem.decapsulate(case["reply"][:1088])
    x_ciphertext = case["reply"][1088:]
    shared_x = x25519(scalar, x_ciphertext)
    shared = hashlib.sha3_256(shared_m + shared_x + x_ciphertext + x_public + XWING_LABEL)
    epoch = case["epoch"].to_bytes(4, "big")
    transcript = hashlib.sha256(epoch + offer + case["reply"]).digest()
    root = expand(extract(case["root"], shared.digest()), b"ratchet " + transcript, 32)
    return {
        "offer": offer.hex(),
        "shared": shared.hexdigest(),
        "transcript": transcript.hex(),
        "next_root": root.hex(),
    }


# --- running ----------------------------------------------------------------------------------


def run_packets(case: Case) -> Case:
    keys = epoch_keys(case["root"], case["side"])
    opened = open_packet(
        case["datagram"], keys, case["epoch"], case["path_id"], case["largest_received"]
    )
    return {**{name: value.hex() for name, value in keys.items()}, **opened}


READERS: dict[str, Callable[[Case], Case]] = {
    "bootstrap": lambda c: open_bootstrap(c["file"], c.get("key"), c.get("passphrase")),
    "credential": lambda c: credential(c["file_id"], c["secret"]),
    "envelope": lambda c: open_envelope(c["datagram"], c["envelope_key"], c["kind"]),
    "parameters": lambda c: read_parameters(c["parameters"]),
    "handshake": handshake,
    "packets": run_packets,
    "frames": lambda c: {"frames": read_frames(c["payload"])},
    "control": lambda c: {"messages": read_control(c["stream"])},
    "ratchet": ratchet,
}

TEXT = {"name", "what", "passphrase", "kind", "side"}  # inputs that are not hex


def given(inputs: Case) -> Case:
    """A case's inputs with their hex turned into bytes."""
    return {
        name: bytes.fromhex(value) if isinstance(value, str) and name not in TEXT else value
        for name, value in inputs.items()
    }


def verify(what: str, case: Case) -> str | None:
    """None when the case comes out as its file says, else the complaint."""
    try:
        found = READERS[what](given(case["in"]))
    except Refused as refusal:
        return None if "refused" in case else f"refused ({refusal})"
    if "refused" in case:
        return "should have been refused"
    wrong = [name for name, value in case["out"].items() if found.get(name) != value]
    return f"differs in {', '.join(wrong)}" if wrong else None


def main(folder: Path) -> int:
    files, failures, count = sorted(folder.glob("*.json")), 0, 0
    for file in files:
        vectors = json.loads(file.read_text())
        for case in vectors["cases"]:
            complaint = verify(vectors["what"], case)
            count += 1
            if complaint is not None:
                failures += 1
                print(f"{file.name}: {case['name']}: {complaint}")
    print(f"{count} cases in {len(files)} files, {failures} wrong")
    return 1 if failures or not count else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "spec/vectors")))
