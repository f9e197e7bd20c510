"""The published Noise vectors (cacophony, snow), byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clawchat.core.crypto.noise import CipherState, HandshakeState
from tests.vectors.outside import h, load


def side(vector: dict[str, Any], name: str) -> HandshakeState:
    def key(which: str) -> bytes | None:
        text = vector.get(f"{name}_{which}")
        return None if text is None else h(text)

    _, pattern, _, _, hash_name = vector["protocol_name"].split("_")
    ephemeral = key("ephemeral")
    assert ephemeral is not None
    return HandshakeState(
        pattern,
        initiator=name == "init",
        prologue=key("prologue") or b"",
        s=key("static"),
        e=ephemeral,
        rs=key("remote_static"),
        psks=tuple(map(h, vector.get(f"{name}_psks", ()))),
        hash_name=hash_name,
    )


def replay(vector: dict[str, Any]) -> None:
    sides = side(vector, "init"), side(vector, "resp")
    ciphers: list[tuple[CipherState, CipherState]] = []
    for turn, message in enumerate(vector["messages"]):
        payload, wire = h(message["payload"]), h(message["ciphertext"])
        writer, reader = turn % 2, 1 - turn % 2
        if ciphers:
            assert ciphers[writer][0].encrypt(b"", payload) == wire
            assert ciphers[reader][1].decrypt(b"", wire) == payload
            continue
        assert sides[writer].write_message(payload) == wire
        assert sides[reader].read_message(wire) == payload
        if sides[0].finished:
            assert sides[0].hash == sides[1].hash
            assert vector.get("handshake_hash", sides[0].hash.hex()) == sides[0].hash.hex()
            ciphers = [one.split() for one in sides]
    assert ciphers


def test_all_50_noise_vectors_agree_byte_for_byte(outside_vectors: Path) -> None:
    vectors = load(outside_vectors, "noise_subset_25519_AESGCM_SHA2.json")["vectors"]
    assert len(vectors) == 50
    for vector in vectors:
        replay(vector)
    assert any("IKpsk2" in vector["protocol_name"] for vector in vectors)
