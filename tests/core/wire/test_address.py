"""Addresses as bytes."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.credential import Address
from clawchat.core.wire.address import decode_address, encode_address
from clawchat.errors import Drop, Malformed


def not_mapped(host: str) -> bool:
    ip = ip_address(host)
    return ip.version == 4 or ip.ipv4_mapped is None


hosts = st.ip_addresses().map(str).filter(not_mapped)
addresses = st.builds(Address, hosts, st.integers(0, 0xFFFF))


@given(addresses)
def test_an_address_survives_the_wire(address: Address) -> None:
    encoded = encode_address(address)
    assert decode_address(b"x" + encoded + b"y", 1, Drop.EMPTY) == (address, 1 + len(encoded))


def test_a_mapped_ipv4_address_is_written_as_ipv4() -> None:
    assert encode_address(Address("::ffff:192.0.2.7", 5)) == bytes((4, 192, 0, 2, 7, 0, 5))


def test_a_mapped_ipv4_address_is_refused_as_ipv6() -> None:
    raw = b"\x06" + ip_address("::ffff:192.0.2.7").packed + b"\0\x05"
    with pytest.raises(Malformed) as caught:
        decode_address(raw, 0, Drop.MALFORMED_ENVELOPE)
    assert caught.value.drop is Drop.MALFORMED_ENVELOPE


@pytest.mark.parametrize("raw", ["", "05", "04c0000207", "04c000020700", "06" + "00" * 17])
def test_a_cut_address_or_an_unknown_family_is_malformed(raw: str) -> None:
    with pytest.raises(Malformed):
        decode_address(bytes.fromhex(raw), 0, Drop.MALFORMED_BOOTSTRAP)


@pytest.mark.parametrize("address", [Address("example.org", 1), Address("192.0.2.7", 65536)])
def test_what_is_no_ip_address_or_port_is_refused(address: Address) -> None:
    with pytest.raises(ValueError, match=r"address|port"):
        encode_address(address)
