"""What people type is an address or a key that reads the same when it is written, or is refused.

The first byte says what the others are, as text: an address with or without a port of its own, or a
bootstrap key.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode

from clawchat.core.crypto.bootstrap import BootstrapKey
from clawchat.core.wire.address import encode_address
from clawchat.drivers.address import parse_address
from clawchat.errors import BootstrapKeyInvalid, BootstrapKeyMissing
from fuzz.harness import expect


def check_address(text: str, port: int | None) -> None:
    try:
        address = parse_address(text, port=port)
    except ValueError:
        return
    assert parse_address(str(address)) == address
    assert 0 < address.port < 65536
    assert encode_address(address)


def check_key(text: str) -> None:
    try:
        key = BootstrapKey.from_base64url(text, name="typed")
    except (BootstrapKeyInvalid, BootstrapKeyMissing) as error:
        told = str(error)
        expect("typed" in told and (len(text) < 20 or text not in told))
        return
    raw = key._material.reveal()
    assert len(raw) == 32
    again = BootstrapKey.from_base64url(urlsafe_b64encode(raw).decode())
    assert again._material == key._material


def check(data: bytes) -> None:
    kind, text = data[0] % 3 if data else 0, data[1:].decode(errors="replace")
    if kind == 2:
        check_key(text)
    else:
        check_address(text, 4433 if kind else None)


if __name__ == "__main__":
    from fuzz.harness import run

    run("texts")
