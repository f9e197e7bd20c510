"""X-Wing: X25519 and ML-KEM-768 as one KEM (draft-connolly-cfrg-xwing-kem).

The shared secret stays secret as long as either of the two holds.

Rules: a public key has 1216 bytes (ML-KEM, then X25519), a ciphertext 1120. OpenSSL draws the 32
random bytes of an ML-KEM encapsulation itself and lets nobody pass them in; whoever needs the
same bytes twice (vectors, an exact replay) passes another `mlkem`.
Left to others: what the secret is mixed into (`core.crypto.schedule`).
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha3_256, shake_256
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey

from clawchat.core.crypto.suite import Entropy, KeyPair

SEED_SIZE: Final = 32
PUBLIC_SIZE: Final = 1216
CIPHERTEXT_SIZE: Final = 1120
_MLKEM_PUBLIC_SIZE: Final = 1184
_MLKEM_CIPHERTEXT_SIZE: Final = 1088
_LABEL: Final = rb"\.//^" + b"\\"

MlKem: TypeAlias = Callable[[bytes, Entropy], tuple[bytes, bytes]]
"""Encapsulates to an ML-KEM-768 public key: (shared secret, ciphertext)."""


def mlkem_of_openssl(public: bytes, entropy: Entropy) -> tuple[bytes, bytes]:
    """ML-KEM-768 with OpenSSL's own randomness. Raises `ValueError` for an invalid key."""
    del entropy
    return MLKEM768PublicKey.from_public_bytes(public).encapsulate()


class XWingPrivate:
    """A private key, for one ratchet."""

    __slots__ = ("_mlkem", "_x25519")

    def __init__(self, mlkem: MLKEM768PrivateKey, x25519: KeyPair) -> None:
        self._mlkem: MLKEM768PrivateKey | None = mlkem
        self._x25519: KeyPair | None = x25519

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The shared secret. A foreign ciphertext gives an unrelated one.

        Raises `ValueError` for a wrong length, an X25519 point of no use, or after `wipe`.
        """
        if self._mlkem is None or self._x25519 is None:
            raise ValueError("this key was wiped")
        if len(ciphertext) != CIPHERTEXT_SIZE:
            raise ValueError("an X-Wing ciphertext has 1120 bytes")
        first, point = ciphertext[:_MLKEM_CIPHERTEXT_SIZE], ciphertext[_MLKEM_CIPHERTEXT_SIZE:]
        shared_x = self._x25519.dh(point)
        return _combine(self._mlkem.decapsulate(first), shared_x, point, self._x25519.public)

    def wipe(self) -> None:
        """Drop the keys; OpenSSL overwrites them when it frees them."""
        self._mlkem = self._x25519 = None


def keypair(seed: bytes) -> tuple[XWingPrivate, bytes]:
    """The private and the public key of a 32-byte seed. Raises `ValueError` for another size."""
    if len(seed) != SEED_SIZE:
        raise ValueError("an X-Wing seed has 32 bytes")
    expanded = shake_256(seed).digest(96)
    mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    x25519 = KeyPair(expanded[64:])
    return XWingPrivate(mlkem, x25519), mlkem.public_key().public_bytes_raw() + x25519.public


def encapsulate(
    public: bytes, entropy: Entropy, *, mlkem: MlKem = mlkem_of_openssl
) -> tuple[bytes, bytes]:
    """A shared secret and the ciphertext that tells it to the owner of `public`.

    Raises `ValueError` for a wrong length or a key of no use.
    """
    if len(public) != PUBLIC_SIZE:
        raise ValueError("an X-Wing public key has 1216 bytes")
    shared_m, ciphertext = mlkem(public[:_MLKEM_PUBLIC_SIZE], entropy)
    theirs = public[_MLKEM_PUBLIC_SIZE:]
    ephemeral = KeyPair(entropy(32))
    shared = _combine(shared_m, ephemeral.dh(theirs), ephemeral.public, theirs)
    return shared, ciphertext + ephemeral.public


def _combine(shared_m: bytes, shared_x: bytes, point: bytes, public: bytes) -> bytes:
    return sha3_256(shared_m + shared_x + point + public + _LABEL).digest()
