"""What a bootstrap file says, as bytes, before sealing (PROTOCOL.md "Bootstrap file").

Rules: one encoding for each content: decoding and encoding again gives the same bytes, and
nothing may follow the last field.
Left to others: sealing, opening and errors for people (`core.crypto.bootstrap`).
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from clawchat.core.actions import BootstrapContent
from clawchat.core.credential import Address
from clawchat.core.secret import Secret
from clawchat.core.wire.address import decode_address, encode_address
from clawchat.errors import Drop, Malformed

CANDIDATES_MAX: Final = 16
RENDEZVOUS_SIZE_MAX: Final = 512

_FIXED: Final = Struct(">32s32s16sQQB")  # listener static, secret, file id, issued, expires, n
_LENGTH: Final = Struct(">H")


def encode_body(content: BootstrapContent) -> bytes:
    """Raises `ValueError` when a field does not fit."""
    rendezvous = content.rendezvous.encode()
    if not _fits(content, rendezvous):
        raise ValueError("a bootstrap field of a wrong size")
    if not 0 <= content.issued <= content.expires < 1 << 64:
        raise ValueError("a bootstrap file expires after it was issued")
    fixed = _FIXED.pack(
        content.listener_static,
        content.secret.reveal(),
        content.file_id,
        content.issued,
        content.expires,
        len(content.candidates),
    )
    candidates = b"".join(map(encode_address, content.candidates))
    return fixed + candidates + _LENGTH.pack(len(rendezvous)) + rendezvous


def _fits(content: BootstrapContent, rendezvous: bytes) -> bool:
    sizes = len(content.listener_static), len(content.secret), len(content.file_id)
    return (
        sizes == (32, 32, 16)
        and len(content.candidates) <= CANDIDATES_MAX
        and all(candidate.port for candidate in content.candidates)
        and len(rendezvous) <= RENDEZVOUS_SIZE_MAX
    )


def decode_body(body: bytes) -> BootstrapContent:
    """Raises `Malformed(MALFORMED_BOOTSTRAP)`."""
    if len(body) < _FIXED.size:
        raise Malformed(Drop.MALFORMED_BOOTSTRAP)
    static, secret, file_id, issued, expires, count = _FIXED.unpack_from(body)
    if count > CANDIDATES_MAX or expires < issued:
        raise Malformed(Drop.MALFORMED_BOOTSTRAP)
    candidates, at = _candidates(body, _FIXED.size, count)
    return BootstrapContent(
        listener_static=static,
        secret=Secret(secret),
        file_id=file_id,
        candidates=candidates,
        issued=issued,
        expires=expires,
        rendezvous=_rendezvous(body, at),
    )


def _candidates(body: bytes, at: int, count: int) -> tuple[tuple[Address, ...], int]:
    candidates = []
    for _ in range(count):
        address, at = decode_address(body, at, Drop.MALFORMED_BOOTSTRAP)
        if address.port == 0:
            raise Malformed(Drop.MALFORMED_BOOTSTRAP)
        candidates.append(address)
    return tuple(candidates), at


def _rendezvous(body: bytes, at: int) -> str:
    start = at + _LENGTH.size
    length = int.from_bytes(body[at:start], "big")
    if len(body) != start + length or length > RENDEZVOUS_SIZE_MAX:
        raise Malformed(Drop.MALFORMED_BOOTSTRAP)
    try:
        return body[start:].decode()
    except UnicodeDecodeError:
        raise Malformed(Drop.MALFORMED_BOOTSTRAP) from None
