"""A bootstrap file either opens to content that encodes to equal bytes, or is a `BootstrapError`.

The first byte says what the rest is: even, a file as it was found; odd, a body that somebody with
the key sealed, so that the inside is reached too.
"""

from __future__ import annotations

from clawchat.core.crypto.bootstrap import BootstrapKey, Kdf, open_bootstrap, seal_bootstrap
from clawchat.core.crypto.suite import aead_seal
from clawchat.core.secret import Secret
from clawchat.core.wire.bootstrap import encode_body
from clawchat.errors import BootstrapError
from fuzz.harness import expect

KEY = BootstrapKey(Kdf.KEY, Secret(b"\x0b" * 32))


def file_around(body: bytes) -> bytes:
    """A file that opens under `KEY` onto `body`."""
    head = b"CLAWSEC\x03\x01" + bytes(28) + (len(body) + 16 & 0xFFFF).to_bytes(2, "big")
    return head + aead_seal(KEY.derive(bytes(16)), bytes(12), body, head)


def check(data: bytes) -> None:
    sealed = data[:1] != b"" and data[0] % 2 == 1
    file = file_around(data[1:]) if sealed else data[1:]
    try:
        content = open_bootstrap(file, KEY, name="x.sec")
    except BootstrapError as error:
        expect(str(error).startswith("x.sec"))
        return
    if sealed:
        assert encode_body(content) == data[1:]
    assert open_bootstrap(seal_bootstrap(content, KEY, bytes), KEY, name="x.sec") == content


if __name__ == "__main__":
    from fuzz.harness import run

    run("bootstrap")
