"""The primitives, each behind one small function (PROTOCOL.md "Notation").

HKDF-SHA256, HMAC-SHA256, X25519, AES-256-GCM, Argon2id. Nothing here is written by hand that the
library or the standard library has.

Rules: every label of this protocol begins with its name and version; keys are loaded from bytes
that the caller drew, never generated; failure to authenticate is a None, never a text.
Left to others: which key is for what (`core.crypto.schedule`).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from clawchat.core.events import Buffer

Entropy: TypeAlias = Callable[[int], bytes]
"""Gives that many unpredictable bytes."""

LABEL: Final = b"clawchat 3"
KEY_SIZE: Final = 32
NONCE_SIZE: Final = 12
TAG_SIZE: Final = 16
DH_SIZE: Final = 32

ARGON2_ITERATIONS: Final = 3  # fixed by the file format, never read from a file
ARGON2_MEMORY_KIB: Final = 64 * 1024
ARGON2_LANES: Final = 4

_HASHES: Final[dict[str, Callable[[], HashAlgorithm]]] = {"SHA256": SHA256, "SHA512": SHA512}


def sha256_digest(data: bytes) -> bytes:
    return sha256(data).digest()


def hmac_sha256(key: bytes | bytearray, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def hkdf_extract(salt: Buffer, ikm: Buffer, hash_name: str = "SHA256") -> bytes:
    """HKDF-Extract of RFC 5869."""
    return hmac.digest(salt, ikm, hash_name)


def hkdf_expand(prk: bytes, info: bytes, size: int, hash_name: str = "SHA256") -> bytes:
    """HKDF-Expand of RFC 5869. Raises `ValueError` for more than 255 blocks."""
    return HKDFExpand(_HASHES[hash_name](), size, info).derive(prk)


def extract(salt: Buffer, ikm: Buffer) -> bytes:
    """HKDF-Extract with SHA-256: a 32-byte key from key material that may be uneven."""
    return hkdf_extract(salt, ikm)


def expand(prk: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand with SHA-256 under a label of this protocol."""
    return hkdf_expand(prk, LABEL + b" " + label, size)


def derive(salt: bytes, ikm: Buffer, label: bytes, size: int) -> bytearray:
    """Extract and expand in one, into memory that can be wiped. `salt` is public."""
    made = bytearray(size)
    HKDF(SHA256(), size, salt, LABEL + b" " + label).derive_into(ikm, made)
    return made


def expand_secret(prk: Buffer, label: bytes, size: int) -> bytearray:
    """As `expand`, into memory that can be wiped."""
    made = bytearray(size)
    HKDFExpand(SHA256(), size, LABEL + b" " + label).derive_into(prk, made)
    return made


def wipe(buffer: bytearray) -> None:
    """Overwrite it with zeros."""
    buffer[:] = bytes(len(buffer))


def argon2id(passphrase: bytes, salt: bytes) -> bytes:
    """A 32-byte key from a passphrase, at the cost the bootstrap format fixes."""
    return Argon2id(
        salt=salt,
        length=KEY_SIZE,
        iterations=ARGON2_ITERATIONS,
        lanes=ARGON2_LANES,
        memory_cost=ARGON2_MEMORY_KIB,
    ).derive(passphrase)


def aead_seal(key: Buffer, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """AES-256-GCM once: ciphertext and tag. Raises `ValueError` for a key or nonce of no use."""
    return AESGCM(key).encrypt(nonce, plaintext, aad)


def aead_open(key: Buffer, nonce: bytes, ciphertext: Buffer, aad: bytes) -> bytes | None:
    """AES-256-GCM once: the plaintext, or None when it does not authenticate."""
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, aad)
    except InvalidTag:
        return None


class KeyPair:
    """An X25519 private key, loaded once, and its public key."""

    __slots__ = ("_private", "public")

    def __init__(self, private: bytes | bytearray) -> None:
        """Raises `ValueError` unless `private` has 32 bytes."""
        self._private = X25519PrivateKey.from_private_bytes(private)
        self.public = self._private.public_key().public_bytes_raw()

    def dh(self, public: bytes) -> bytes:
        """The shared secret. Raises `ValueError` for a wrong length or an all-zero result."""
        return self._private.exchange(X25519PublicKey.from_public_bytes(public))


def dh(private: bytes, public: bytes) -> bytes:
    """X25519. Raises `ValueError` for a wrong length or an all-zero result."""
    return KeyPair(private).dh(public)


def public_key(private: bytes | bytearray) -> bytes:
    """The X25519 public key. Raises `ValueError` unless `private` has 32 bytes."""
    return KeyPair(private).public
