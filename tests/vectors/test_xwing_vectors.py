"""The vectors of draft-connolly-cfrg-xwing-kem."""

from __future__ import annotations

from pathlib import Path

from clawchat.core.crypto import xwing
from tests.vectors.outside import h, load


def test_key_generation_and_decapsulation_agree(outside_vectors: Path) -> None:
    vectors = load(outside_vectors, "xwing_test-vectors.json")
    assert len(vectors) == 3
    for vector in vectors:
        private, public = xwing.keypair(h(vector["seed"]))
        assert public == h(vector["pk"])
        assert private.decapsulate(h(vector["ct"])) == h(vector["ss"])


def test_the_x25519_half_and_the_combiner_of_encapsulation_agree(outside_vectors: Path) -> None:
    """ML-KEM's half comes from the vector's ciphertext, because OpenSSL draws its own bytes."""
    from hashlib import shake_256

    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

    for vector in load(outside_vectors, "xwing_test-vectors.json"):
        key = MLKEM768PrivateKey.from_seed_bytes(shake_256(h(vector["seed"])).digest(96)[:64])
        ciphertext = h(vector["ct"])[:1088]
        shared = key.decapsulate(ciphertext)
        ephemeral = h(vector["eseed"])[32:]
        assert xwing.encapsulate(
            h(vector["pk"]),
            lambda size, e=ephemeral: e[:size],  # type: ignore[misc]
            mlkem=lambda public, entropy, pair=(shared, ciphertext): pair,  # type: ignore[misc]
        ) == (h(vector["ss"]), h(vector["ct"]))
