"""Packets: sealing, opening, header masks, connection ids (PROTOCOL.md "Packets").

`cid 8 | masked(flags 1, packet number 4) | ciphertext | tag 16`. This is the hot path: everything
works on a batch, whose header masks cost one AES call.

Rules: a nonce is the IV xor the packet number, and packet numbers only grow; what does not
authenticate is a None. Keys are wiped by `wipe`; contexts are dropped then and OpenSSL overwrites
them.
Left to others: the limit on packets of an epoch, replay, which keys a connection id names.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB

from clawchat.core.crypto.suite import (
    KEY_SIZE,
    NONCE_SIZE,
    TAG_SIZE,
    expand_secret,
    hmac_sha256,
    wipe,
)
from clawchat.core.events import Buffer
from clawchat.core.secret import Secret

DIALER: Final = b"dialer"
LISTENER: Final = b"listener"
CID_SIZE: Final = 8
HEADER_SIZE: Final = CID_SIZE + 5
OVERHEAD: Final = HEADER_SIZE + TAG_SIZE
EPOCH_PACKETS_MAX: Final = 1 << 23  # AES-GCM: rotate or close before
SAMPLE_SIZE: Final = 16
_SAMPLE_END: Final = HEADER_SIZE + SAMPLE_SIZE
_READ_HEAD: Final = Struct(">5xQ16s").unpack_from  # 3 bytes of the cid, the masked part; sample


@lru_cache(maxsize=256)
def _masks(batch: int) -> Struct:
    """Reads the first 5 of each 16 bytes of `batch` masks, and 3 bytes that are shifted out."""
    return Struct(">" + "Q8x" * batch)


class _DirectionKeys:
    """Keys of one epoch and direction."""

    __slots__ = ("_aead", "_cid_key", "_ecb", "_epoch", "_iv")

    def __init__(self, root: Secret, epoch: int, side: bytes) -> None:
        """`side` is who sends: DIALER or LISTENER."""
        prk = root.view()
        key = expand_secret(prk, b"key " + side, KEY_SIZE)
        self._aead: AESGCM | None = AESGCM(key)
        wipe(key)
        # ECB is what RFC 9001, 5.4.3 asks for: one block of mask from one sample of ciphertext.
        mask = expand_secret(prk, b"mask " + side, KEY_SIZE)
        self._ecb: CipherContext | None = Cipher(AES256(mask), ECB()).encryptor()  # noqa: S305
        wipe(mask)
        self._iv = int.from_bytes(expand_secret(prk, b"iv " + side, NONCE_SIZE), "big")
        self._cid_key = Secret.adopt(expand_secret(prk, b"cid " + side, KEY_SIZE))
        self._epoch = epoch

    def cid(self, path_id: int) -> bytes:
        """The connection id of packets on `path_id`. Raises `ValueError` after `wipe`."""
        return hmac_sha256(self._cid_key.view(), path_id.to_bytes(4, "big"))[:CID_SIZE]

    def wipe(self) -> None:
        """Overwrite what is ours, drop the contexts. Harmless when repeated."""
        self._aead = self._ecb = None
        self._iv = 0
        self._cid_key.wipe()

    def _contexts(self) -> tuple[AESGCM, CipherContext]:
        if self._aead is None or self._ecb is None:
            raise ValueError("these keys were wiped")
        return self._aead, self._ecb

    def _aad_tail(self, path_id: int) -> bytes:
        return self._epoch.to_bytes(4, "big") + path_id.to_bytes(4, "big")


class SealKeys(_DirectionKeys):
    """Seals what we send. `sealed` counts packets, for the epoch's limit."""

    __slots__ = ("_path", "_path_cid", "_path_id", "sealed")

    def __init__(self, root: Secret, epoch: int, side: bytes) -> None:
        super().__init__(root, epoch, side)
        self.sealed = 0
        self._path_id = -1  # the path of the last batch, whose connection id is kept
        self._path_cid = b""

    def seal(self, path_id: int, first_pn: int, payloads: Sequence[bytes]) -> list[bytes]:
        """Datagrams for `payloads`, numbered from `first_pn` on.

        Raises `ValueError` after `wipe`.
        """
        aead, ecb = self._contexts()
        if path_id != self._path_id:
            self._path_cid, self._path_id = self.cid(path_id), path_id
        cid, iv, encrypt = self._path_cid, self._iv, aead.encrypt
        head, tail = cid + b"\0", self._aad_tail(path_id)
        sealed = [
            encrypt((iv ^ pn).to_bytes(12, "big"), payload, head + pn.to_bytes(8, "big") + tail)
            for pn, payload in zip(count(first_pn), payloads)
        ]
        samples = b"".join([ciphertext[:SAMPLE_SIZE] for ciphertext in sealed])
        masks = _masks(len(sealed)).unpack(ecb.update(samples))
        self.sealed += len(sealed)
        return [
            cid + (mask >> 24 ^ pn & 0xFFFFFFFF).to_bytes(5, "big") + ciphertext
            for mask, pn, ciphertext in zip(masks, count(first_pn), sealed)
        ]


class OpenKeys(_DirectionKeys):
    """Opens what the peer sends.

    `reserved` counts packets that authenticated but bear flags of a later version.
    """

    __slots__ = ("reserved",)

    def __init__(self, root: Secret, epoch: int, side: bytes) -> None:
        super().__init__(root, epoch, side)
        self.reserved = 0

    def open(
        self, path_id: int, cid: bytes, datagrams: Sequence[Buffer], largest: int
    ) -> list[tuple[int, bytes] | None]:
        """The packet number and payload of each datagram that authenticates, else None.

        All of them bear `cid`; `largest` is the highest packet number received, -1 for none.
        None also stands for a header whose flags are not 0. Raises `ValueError` after `wipe`.
        """
        aead, ecb = self._contexts()
        try:
            heads = [_READ_HEAD(datagram) for datagram in datagrams]
        except StructError:
            return self._open_without_stubs(path_id, cid, datagrams, largest)
        masks = _masks(len(heads)).unpack(ecb.update(b"".join([sample for _, sample in heads])))
        iv, decrypt = self._iv, aead.decrypt
        head, tail = cid + b"\0", self._aad_tail(path_id)
        highest = largest + 0x80000001  # the highest number that 4 bytes can mean
        opened: list[tuple[int, bytes] | None] = []
        for mask, (masked, _), datagram in zip(masks, heads, datagrams, strict=True):
            header = (mask >> 24 ^ masked) & 0xFF_FFFFFFFF
            number = header & 0xFFFFFFFF
            pn = highest - (highest - number & 0xFFFFFFFF)
            if pn < 0:
                pn = number
            start = head if header == number else cid + bytes((header >> 32,))
            aad = start + pn.to_bytes(8, "big") + tail
            try:
                plaintext = decrypt((iv ^ pn).to_bytes(12, "big"), datagram[13:], aad)
            except InvalidTag:
                opened.append(None)
                continue
            if header == number:
                opened.append((pn, plaintext))
            else:
                opened.append(None)
                self.reserved += 1
        return opened

    def _open_without_stubs(
        self, path_id: int, cid: bytes, datagrams: Sequence[Buffer], largest: int
    ) -> list[tuple[int, bytes] | None]:
        """As `open`, when some datagrams are too short to be packets."""
        whole = [datagram for datagram in datagrams if len(datagram) >= _SAMPLE_END]
        opened = iter(self.open(path_id, cid, whole, largest))
        return [next(opened) if len(d) >= _SAMPLE_END else None for d in datagrams]
