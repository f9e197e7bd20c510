"""A bootstrap file as it can be looked at without its key.

Rules: what is no bootstrap file is said before anybody is asked for a key.
Left to others: opening it (`core.crypto.bootstrap`), redeeming it (`cli.connect`).
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from clawchat.cli.bootstrap_key import new_key
from clawchat.core.crypto.bootstrap import MAGIC, BootstrapKey, Kdf, open_bootstrap
from clawchat.drivers.connecting import BOOTSTRAP_FILE_MAX
from clawchat.errors import BootstrapError, BootstrapKeyWrong


def read_file(file: Path) -> bytes:
    """Its bytes, or one more than any bootstrap file has. Raises `BootstrapError`."""
    try:
        with file.open("rb") as opened:
            return opened.read(BOOTSTRAP_FILE_MAX + 1)
    except OSError as error:
        raise BootstrapError(
            f"cannot read {file}: {error.strerror or error}; check the path"
        ) from None


def outside(data: bytes, name: str) -> dict[str, Any]:
    """What needs no key. Raises a `BootstrapError` for anything but a whole bootstrap file."""
    guess = BootstrapKey.from_base64url(new_key())
    with suppress(BootstrapKeyWrong):  # which says that everything before the seal is in order
        open_bootstrap(data, guess, name=name)
    version, kdf = data[len(MAGIC)], Kdf(data[len(MAGIC) + 1])
    return {"format": version, "sealed_with": "a key" if kdf is Kdf.KEY else "a passphrase"}
