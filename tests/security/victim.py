"""A process that makes a link, tells its parent every secret it makes, panics, and waits.

    python -m tests.security.victim ROLE FOLDER PIPE

What it tells goes from the secret's own buffer straight into a pipe, so that telling leaves no
copy behind: a line `what size`, then that many bytes. The parent reads this process's memory
afterwards.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

KEY_VARIABLE = "VICTIM_KEY"


def eavesdrop(pipe: int) -> None:
    """Wrap the few places in which every secret is born, before anybody imports them."""
    from clawchat.core import secret
    from clawchat.core.crypto import suite
    from clawchat.core.events import Buffer

    def tell(what: str, data: bytes | bytearray | memoryview) -> None:
        os.write(pipe, f"{what} {len(data)}\n".encode())
        os.write(pipe, data)

    def named(label: bytes) -> str:
        return label.split(b" ")[0].decode("ascii")

    born, adopt = secret.Secret.__init__, secret.Secret.adopt
    dh, extract, expand = suite.KeyPair.dh, suite.hkdf_extract, suite.hkdf_expand
    derive, expand_secret = suite.derive, suite.expand_secret

    def init(self: secret.Secret, data: bytes | bytearray) -> None:
        born(self, data)
        if len(data) == suite.KEY_SIZE:
            code = sys._getframe(1).f_code
            tell(f"{Path(code.co_filename).stem}.{code.co_name}", data)

    def adopted(data: bytearray) -> secret.Secret:
        tell(f"adopted-by-{sys._getframe(1).f_code.co_name}", data)
        return adopt(data)

    def shared(self: suite.KeyPair, public: bytes) -> bytes:
        result = dh(self, public)
        tell("x25519", result)
        return result

    def extracted(salt: Buffer, ikm: Buffer, hash_name: str = "SHA256") -> bytes:
        result = extract(salt, ikm, hash_name)
        tell("extracted", result)
        return result

    def expanded(prk: bytes, info: bytes, size: int, hash_name: str = "SHA256") -> bytes:
        result = expand(prk, info, size, hash_name)
        for at in range(0, size, suite.KEY_SIZE):  # of Noise: its chaining key and its keys
            tell(
                named(info.removeprefix(suite.LABEL + b" ")) or "noise",
                memoryview(result)[at : at + suite.KEY_SIZE],
            )
        return result

    def derived(salt: bytes, ikm: Buffer, label: bytes, size: int) -> bytearray:
        result = derive(salt, ikm, label, size)
        if label != b"hint":
            tell(named(label), result)
        return result

    def expanded_secret(prk: Buffer, label: bytes, size: int) -> bytearray:
        result = expand_secret(prk, label, size)
        tell(named(label), result)
        return result

    secret.Secret.__init__ = init  # type: ignore[method-assign]
    secret.Secret.adopt = adopted  # type: ignore[method-assign]
    suite.KeyPair.dh = shared  # type: ignore[method-assign]
    suite.hkdf_extract, suite.hkdf_expand = extracted, expanded
    suite.derive, suite.expand_secret = derived, expanded_secret


async def ask_parent(word: str) -> None:
    """Say a word, and wait until it wants us to go on."""
    import trio

    print(word, flush=True)
    await trio.to_thread.run_sync(sys.stdin.readline)


async def listen(folder: Path, text: str) -> None:
    import trio

    import clawchat
    from clawchat.core.actions import KeysRotated

    publisher = clawchat.Publisher(folder, clawchat.BootstrapKey.from_base64url(text))
    store = clawchat.Store(folder / "listener")
    async with clawchat.serve(store, host="127.0.0.1", publisher=publisher) as listener:
        print("published", flush=True)
        peer = await listener.accept()
        async for notice in peer.notices():
            if isinstance(notice, KeysRotated):
                break
        await ask_parent("linked")
        await listener.declare_compromised()
        print("destroyed", flush=True)
        await trio.sleep_forever()


async def dial(folder: Path, text: str) -> None:
    import trio

    import clawchat

    key = clawchat.BootstrapKey.from_base64url(text)
    file = folder / "clawchat-current.sec"
    async with clawchat.connect(file, key=key, store=clawchat.Store(folder / "dialer")) as peer:
        del key
        await peer.rotate_keys()
        await ask_parent("linked")
        await peer.declare_compromised()
        print("destroyed", flush=True)
        await trio.sleep_forever()


def main() -> None:
    role, folder, pipe = sys.argv[1:]
    eavesdrop(int(pipe))
    import trio

    trio.run(listen if role == "listener" else dial, Path(folder), os.environ.pop(KEY_VARIABLE))


if __name__ == "__main__":
    main()
