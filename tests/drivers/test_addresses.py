"""Addresses as people write them."""

from __future__ import annotations

import pytest

from clawchat.core.credential import Address
from clawchat.drivers.address import own_hosts, parse_address, resolve


@pytest.mark.parametrize(
    ("text", "port", "address"),
    [
        ("192.0.2.1:5", None, Address("192.0.2.1", 5)),
        ("[2001:DB8::0:1]:65535", None, Address("2001:db8::1", 65535)),
        ("192.0.2.1", 7, Address("192.0.2.1", 7)),
        ("192.0.2.1:5", 7, Address("192.0.2.1", 5)),
        ("2001:db8::1", 7, Address("2001:db8::1", 7)),
        ("[2001:db8::1]", 7, Address("2001:db8::1", 7)),
        ("[2001:db8::1]:5", 7, Address("2001:db8::1", 5)),
        (" 192.0.2.1:5 ", None, Address("192.0.2.1", 5)),
    ],
)
def test_an_address_is_read_in_its_usual_forms(
    text: str, port: int | None, address: Address
) -> None:
    assert parse_address(text, port=port) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.0.2.1",
        "192.0.2.1:",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "::1:5",
        "host:5",
        "192.0.2.1:\u0665",
        "[192.0.2.1:5",
        "1.2.3:5",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_address(text)


def test_names_are_resolved_to_addresses() -> None:
    assert Address("127.0.0.1", 5) in resolve("localhost", 5) + resolve("127.0.0.1", 5)


def test_this_machine_has_an_address() -> None:
    for host in own_hosts():
        assert parse_address(host, port=1).host == host
