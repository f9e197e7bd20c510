"""An IP address and port as bytes: `family 1 (4 or 6) | address 4 or 16 | port 2`.

Rules: one form for each address, so an IPv4 address mapped into IPv6 is written as IPv4 and
refused when it comes as IPv6; text is always the compressed lower-case form.
Left to others: which addresses make sense (`clawchat.nat`).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from clawchat.core.credential import Address
from clawchat.errors import Drop, Malformed

SIZE_MAX: Final = 1 + 16 + 2


def encode_address(address: Address) -> bytes:
    """Raises `ValueError` when `host` is not an IP address or the port does not fit 16 bits."""
    ip = ip_address(address.host)
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if not 0 <= address.port <= 0xFFFF:
        raise ValueError(f"no port: {address.port}")
    return bytes((ip.version,)) + ip.packed + address.port.to_bytes(2, "big")


def decode_address(buffer: bytes, at: int, drop: Drop) -> tuple[Address, int]:
    """The address at `at`, and where the next thing begins. Raises `Malformed(drop)`."""
    family = buffer[at] if at < len(buffer) else 0
    width = {4: 4, 6: 16}.get(family)
    if width is None:
        raise Malformed(drop)
    middle = at + 1 + width
    end = middle + 2
    if end > len(buffer):
        raise Malformed(drop)
    host = _host(buffer[at + 1 : middle])
    if host is None:
        raise Malformed(drop)
    return Address(host, int.from_bytes(buffer[middle:end], "big")), end


def _host(packed: bytes) -> str | None:
    if len(packed) == 4:
        return str(IPv4Address(packed))
    ip = IPv6Address(packed)
    return None if ip.ipv4_mapped is not None else str(ip)
