"""Project Wycheproof: the corners where implementations break."""

from __future__ import annotations

from pathlib import Path

import pytest

from clawchat.core.crypto import suite
from tests.vectors.outside import h, wycheproof


def test_aes_gcm(outside_vectors: Path) -> None:
    tested = refused = 0
    for group, test in wycheproof(outside_vectors, "aes_gcm"):
        key, nonce, aad = h(test["key"]), h(test["iv"]), h(test["aad"])
        sealed, message = h(test["ct"]) + h(test["tag"]), h(test["msg"])
        if not 64 <= group["ivSize"] <= 1024:  # the library refuses these; we use 96 bits only
            with pytest.raises(ValueError, match="Nonce must be"):
                suite.aead_open(key, nonce, sealed, aad)
            refused += 1
            continue
        expected = message if test["result"] == "valid" else None
        assert suite.aead_open(key, nonce, sealed, aad) == expected, test["tcId"]
        if expected is not None:
            assert suite.aead_seal(key, nonce, message, aad) == sealed, test["tcId"]
        tested += 1
    assert (tested, refused) == (283, 33)


def test_x25519(outside_vectors: Path) -> None:
    refused = tested = 0
    for _, test in wycheproof(outside_vectors, "x25519"):
        private, public, shared = h(test["private"]), h(test["public"]), h(test["shared"])
        if shared == bytes(32):
            with pytest.raises(ValueError, match="shared key"):
                suite.dh(private, public)
            refused += 1
        else:
            assert suite.dh(private, public) == shared, test["tcId"]
        tested += 1
    assert (tested, refused) == (518, 31)


def test_hkdf(outside_vectors: Path) -> None:
    tested = 0
    for _, test in wycheproof(outside_vectors, "hkdf_sha256"):
        prk = suite.hkdf_extract(h(test["salt"]), h(test["ikm"]))
        if test["result"] == "valid":
            okm = suite.hkdf_expand(prk, h(test["info"]), test["size"])
            assert okm == h(test["okm"]), test["tcId"]
        else:
            with pytest.raises(ValueError, match="larger than 8160"):
                suite.hkdf_expand(prk, h(test["info"]), test["size"])
        tested += 1
    assert tested == 86


def test_hmac(outside_vectors: Path) -> None:
    tested = 0
    for group, test in wycheproof(outside_vectors, "hmac_sha256"):
        tag = suite.hmac_sha256(h(test["key"]), h(test["msg"]))[: group["tagSize"] // 8]
        assert (tag == h(test["tag"])) is (test["result"] == "valid"), test["tcId"]
        tested += 1
    assert tested == 174
