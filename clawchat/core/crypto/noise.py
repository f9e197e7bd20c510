"""The Noise Protocol Framework, revision 34: patterns as rows of tokens, and a machine for them.

The protocol uses `Noise_IKpsk2_25519_AESGCM_SHA256`; the other rows and SHA-512 are here because
published vectors exist for them, and what agrees on fifty is more likely right on one.

Rules: keys come from outside; a message that does not verify leaves the state as it was; nothing
that fails says more than `Malformed(HANDSHAKE)`.
Left to others: envelopes and payloads (`core.crypto.envelope`, `core.wire.parameters`), what the
chaining key is used for (`core.crypto.schedule`).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, unique
from hashlib import sha256, sha512
from typing import Final

from attrs import frozen

from clawchat.core.crypto.suite import (
    DH_SIZE,
    KEY_SIZE,
    TAG_SIZE,
    KeyPair,
    aead_open,
    aead_seal,
    hkdf_expand,
    hkdf_extract,
)
from clawchat.core.events import Buffer
from clawchat.errors import Drop, Malformed

MESSAGE_SIZE_MAX: Final = 65535
PATTERN: Final = "IKpsk2"
_HASHES: Final = {"SHA256": sha256, "SHA512": sha512}


@unique
class Token(Enum):
    """One step of a message; two letters name the initiator's and the responder's key."""

    E = "e"
    S = "s"
    EE = "ee"
    ES = "es"
    SE = "se"
    SS = "ss"
    PSK = "psk"


Row = tuple[Token, ...]
E, S, EE, ES, SE, SS, PSK = Token


@frozen
class Pattern:
    """`initiator_known`, `responder_known`: static keys the other side has beforehand."""

    initiator_known: bool
    responder_known: bool
    messages: tuple[Row, ...]


PATTERNS: Final = {
    "NN": Pattern(False, False, ((E,), (E, EE))),
    "NK": Pattern(False, True, ((E, ES), (E, EE))),
    "KK": Pattern(True, True, ((E, ES, SS), (E, EE, SE))),
    "IK": Pattern(False, True, ((E, ES, S, SS), (E, EE, SE))),
    "XK": Pattern(False, True, ((E, ES), (E, EE), (S, SE))),
    "XX": Pattern(False, False, ((E,), (E, EE, S, ES), (S, SE))),
}


def messages_of(name: str) -> tuple[Pattern, tuple[Row, ...]]:
    """A pattern such as "XKpsk0+psk3" and its messages with the psk tokens in place.

    Raises `ValueError` for a name without rows here.
    """
    pattern = PATTERNS.get(name[:2])
    if pattern is None:
        raise ValueError(f"no Noise pattern {name!r}")
    rows = [list(row) for row in pattern.messages]
    places = [f"psk{place}" for place in range(len(rows) + 1)]
    for modifier in filter(None, name[2:].split("+")):
        if modifier not in places:
            raise ValueError(f"no Noise pattern {name!r}")
        if place := places.index(modifier):
            rows[place - 1].append(PSK)
        else:
            rows[0].insert(0, PSK)
    return pattern, tuple(map(tuple, rows))


def _hkdf(hash_name: str, chaining_key: bytes, material: Buffer, outputs: int) -> list[bytes]:
    """HKDF of Noise 4.3: `outputs` values, each as long as the hash."""
    size = len(chaining_key)
    prk = hkdf_extract(chaining_key, material, hash_name)
    okm = hkdf_expand(prk, b"", size * outputs, hash_name)
    return [okm[at : at + size] for at in range(0, len(okm), size)]


class CipherState:
    """A key and a counter (Noise 5.1). Without a key, text passes as it is."""

    __slots__ = ("_key", "_nonce")

    def __init__(self, key: bytes | None = None, nonce: int = 0) -> None:
        self._key = key
        self._nonce = nonce

    def copy(self) -> CipherState:
        return CipherState(self._key, self._nonce)

    def encrypt(self, aad: bytes, plaintext: bytes) -> bytes:
        if self._key is None:
            return plaintext
        return aead_seal(self._key, self._next_nonce(), plaintext, aad)

    def decrypt(self, aad: bytes, ciphertext: bytes) -> bytes:
        """Raises `Malformed(HANDSHAKE)`; the counter then stays."""
        if self._key is None:
            return ciphertext
        nonce = self._next_nonce()
        plaintext = aead_open(self._key, nonce, ciphertext, aad)
        if plaintext is None:
            self._nonce -= 1
            raise Malformed(Drop.HANDSHAKE)
        return plaintext

    def _next_nonce(self) -> bytes:
        nonce = self._nonce
        self._nonce += 1
        return nonce.to_bytes(12, "big")  # AESGCM in Noise: 4 zero bytes, then 8 bytes big-endian


class _Symmetric:
    """SymmetricState (Noise 5.2)."""

    __slots__ = ("chaining_key", "cipher", "hash", "hash_name")

    def __init__(self, hash_name: str, chaining_key: bytes, digest: bytes) -> None:
        self.hash_name = hash_name
        self.chaining_key = chaining_key
        self.hash = digest
        self.cipher = CipherState()

    @classmethod
    def start(cls, protocol: bytes, hash_name: str) -> _Symmetric:
        digest = _HASHES[hash_name]
        size = digest().digest_size
        first = protocol.ljust(size, b"\0") if len(protocol) <= size else digest(protocol).digest()
        return cls(hash_name, first, first)

    def copy(self) -> _Symmetric:
        twin = _Symmetric(self.hash_name, self.chaining_key, self.hash)
        twin.cipher = self.cipher.copy()
        return twin

    def mix_hash(self, data: bytes) -> None:
        self.hash = _HASHES[self.hash_name](self.hash + data).digest()

    def mix_key(self, material: bytes) -> None:
        self.chaining_key, key = _hkdf(self.hash_name, self.chaining_key, material, 2)
        self.cipher = CipherState(key[:KEY_SIZE])

    def mix_key_and_hash(self, material: Buffer) -> None:
        chaining_key, digest, key = _hkdf(self.hash_name, self.chaining_key, material, 3)
        self.chaining_key = chaining_key
        self.mix_hash(digest)
        self.cipher = CipherState(key[:KEY_SIZE])

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        ciphertext = self.cipher.encrypt(self.hash, plaintext)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        plaintext = self.cipher.decrypt(self.hash, ciphertext)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[CipherState, CipherState]:
        first, second = _hkdf(self.hash_name, self.chaining_key, b"", 2)
        return CipherState(first[:KEY_SIZE]), CipherState(second[:KEY_SIZE])


class _Reader:
    """A message being read: takes pieces from the front."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        piece = self._data[self._at : self._at + size]
        if len(piece) != size:
            raise Malformed(Drop.HANDSHAKE)
        self._at += size
        return piece

    def rest(self) -> bytes:
        return self._data[self._at :]


class HandshakeState:
    """One handshake (Noise 5.3). Write and read in turns until `finished`.

    `s` and `e` are our private keys (32 bytes, or an already loaded `KeyPair`), `rs` is the
    peer's static public key where the pattern knows it beforehand.
    """

    __slots__ = (
        "_e",
        "_initiator",
        "_messages",
        "_psk_mode",
        "_psks",
        "_psks_used",
        "_re",
        "_rs",
        "_s",
        "_sym",
        "_turn",
    )

    def __init__(
        self,
        pattern: str = PATTERN,
        *,
        initiator: bool,
        prologue: bytes,
        s: bytes | KeyPair | None,
        e: bytes | KeyPair,
        rs: bytes | None = None,
        psks: tuple[Buffer, ...] = (),
        hash_name: str = "SHA256",
    ) -> None:
        """Raises `ValueError` for an unknown pattern, or a key that is missing or of no use."""
        known, self._messages = messages_of(pattern)
        self._initiator = initiator
        self._s = KeyPair(s) if isinstance(s, bytes) else s
        self._e: KeyPair | None = KeyPair(e) if isinstance(e, bytes) else e
        self._rs = rs
        self._re: bytes | None = None
        self._psks: list[Buffer] = []
        self._psks_used = 0
        self._psk_mode = any(PSK in row for row in self._messages)
        self._turn = 0
        for psk in psks:
            self.set_psk(psk)
        self._sym = _Symmetric.start(
            f"Noise_{pattern}_25519_AESGCM_{hash_name}".encode(), hash_name
        )
        self._sym.mix_hash(prologue)
        for public in self._known_publics(known):
            self._sym.mix_hash(public)

    def _known_publics(self, known: Pattern) -> Iterable[bytes]:
        mine = self._s.public if self._s is not None else None
        publics = (mine, self._rs) if self._initiator else (self._rs, mine)
        for needed, public in zip(
            (known.initiator_known, known.responder_known), publics, strict=True
        ):
            if needed:
                if public is None or len(public) != DH_SIZE:
                    raise ValueError("this pattern needs a static key that is missing")
                yield public

    # --- what is known --------------------------------------------------------------------------

    @property
    def rs(self) -> bytes | None:
        """The peer's static public key, once known; proven by the end of the message it is in."""
        return self._rs

    @property
    def hash(self) -> bytes:
        """The transcript so far; when finished, the handshake hash."""
        return self._sym.hash

    @property
    def chaining_key(self) -> bytes:
        """Secret. When finished, all later keys come from it."""
        return self._sym.chaining_key

    @property
    def finished(self) -> bool:
        return self._turn == len(self._messages)

    def set_psk(self, psk: Buffer) -> None:
        """Add the next pre-shared key, in the order of the psk tokens.

        It may come late: the responder of IKpsk2 learns who is there before it needs one. Raises
        `ValueError` unless it has 32 bytes.
        """
        if len(psk) != KEY_SIZE:
            raise ValueError("a psk has 32 bytes")
        self._psks.append(psk)

    # --- messages -------------------------------------------------------------------------------

    def write_message(self, payload: bytes) -> bytes:
        """The next message. Raises `ValueError` when it is not our turn or a key is missing."""
        row = self._row(ours=True)
        sym, used = self._sym.copy(), self._psks_used
        parts = [self._write_token(token, sym) for token in row]
        parts.append(sym.encrypt_and_hash(payload))
        message = b"".join(parts)
        if len(message) > MESSAGE_SIZE_MAX:
            self._psks_used = used
            raise ValueError("a Noise message has at most 65535 bytes")
        self._sym = sym
        self._turn += 1
        return message

    def read_message(self, message: bytes) -> bytes:
        """The payload of the peer's next message.

        Raises `Malformed(HANDSHAKE)`, or `ValueError` when it is not the peer's turn or a psk of
        ours is missing; the state is then as before.
        """
        row = self._row(ours=False)
        if len(message) > MESSAGE_SIZE_MAX:
            raise Malformed(Drop.HANDSHAKE)
        before = self._sym, self._re, self._rs, self._psks_used
        self._sym = self._sym.copy()
        try:
            payload = self._read(row, message)
        except (Malformed, ValueError):
            self._sym, self._re, self._rs, self._psks_used = before
            raise
        self._turn += 1
        return payload

    def split(self) -> tuple[CipherState, CipherState]:
        """The transport ciphers (for sending, for receiving). Raises `ValueError` too early."""
        if not self.finished:
            raise ValueError("the handshake is not finished")
        first, second = self._sym.split()
        return (first, second) if self._initiator else (second, first)

    def wipe(self) -> None:
        """Drop every key; the handshake cannot go on."""
        self._s = self._e = None
        self._psks.clear()
        self._sym = _Symmetric("SHA256", b"", b"")
        self._turn = -1

    def _row(self, *, ours: bool) -> Row:
        if self._e is None or self.finished or (self._turn % 2 == 0) == (self._initiator != ours):
            raise ValueError("no such message now")
        return self._messages[self._turn]

    def _read(self, row: Row, message: bytes) -> bytes:
        reader, sym = _Reader(message), self._sym
        for token in row:
            if token is E:
                self._re = reader.take(DH_SIZE)
                sym.mix_hash(self._re)
                if self._psk_mode:
                    sym.mix_key(self._re)
            elif token is S:
                # In every pattern here a Diffie-Hellman token comes before, so it is sealed.
                self._rs = sym.decrypt_and_hash(reader.take(DH_SIZE + TAG_SIZE))
            elif token is PSK:
                sym.mix_key_and_hash(self._next_psk())
            else:
                self._mix_received(token)
        return sym.decrypt_and_hash(reader.rest())

    def _mix_received(self, token: Token) -> None:
        """A Diffie-Hellman token of a message from outside: its keys may be of no use."""
        try:
            shared = self._dh(token)
        except ValueError:
            raise Malformed(Drop.HANDSHAKE) from None
        self._sym.mix_key(shared)

    def _write_token(self, token: Token, sym: _Symmetric) -> bytes:
        if token is E:
            public = self._own(ephemeral=True).public
            sym.mix_hash(public)
            if self._psk_mode:
                sym.mix_key(public)
            return public
        if token is S:
            return sym.encrypt_and_hash(self._own(ephemeral=False).public)
        if token is PSK:
            sym.mix_key_and_hash(self._next_psk())
        else:
            sym.mix_key(self._dh(token))
        return b""

    def _dh(self, token: Token) -> bytes:
        """Raises `ValueError` for a missing key or an all-zero result."""
        mine = 0 if self._initiator else 1
        ours, theirs = token.value[mine], token.value[1 - mine]
        public = self._re if theirs == "e" else self._rs
        if public is None:
            raise ValueError("the peer's key is not known")
        return self._own(ephemeral=ours == "e").dh(public)

    def _own(self, *, ephemeral: bool) -> KeyPair:
        pair = self._e if ephemeral else self._s
        if pair is None:
            raise ValueError("this pattern needs a static key that is missing")
        return pair

    def _next_psk(self) -> Buffer:
        if self._psks_used == len(self._psks):
            raise ValueError("this pattern needs a psk that is missing")
        self._psks_used += 1
        return self._psks[self._psks_used - 1]
