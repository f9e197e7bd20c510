"""Sealing and opening a bootstrap file (PROTOCOL.md "Bootstrap file").

Rules: nothing is derived before the size is checked; the cost of a passphrase is fixed by the
format; every failure is an error of its own, which names the file and the next step, and no key.
Left to others: the content's layout (`core.wire.bootstrap`), reading and writing files
(`drivers.publisher`), refusing what is out of date (`expiry_text` only says so).
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from enum import IntEnum, unique
from struct import Struct
from typing import Final
from unicodedata import normalize

from clawchat.core.actions import BootstrapContent
from clawchat.core.crypto.suite import (
    KEY_SIZE,
    NONCE_SIZE,
    TAG_SIZE,
    Entropy,
    aead_open,
    aead_seal,
    argon2id,
    expand,
    extract,
)
from clawchat.core.secret import Secret
from clawchat.core.wire.bootstrap import decode_body, encode_body
from clawchat.errors import (
    BootstrapForeign,
    BootstrapKeyInvalid,
    BootstrapKeyMissing,
    BootstrapKeyWrong,
    BootstrapTruncated,
    BootstrapVersion,
    Malformed,
)

MAGIC: Final = b"CLAWSEC"
VERSION: Final = 3
FILE_SIZE_MAX: Final = 2048
SALT_SIZE: Final = 16
KEY_VARIABLE: Final = "CLAWCHAT_BOOTSTRAP_KEY"

_KEY_LETTERS: Final = 43  # 32 bytes
_KEY_TEXT: Final = re.compile(f"[A-Za-z0-9_-]{{{_KEY_LETTERS}}}=?")
_HEAD: Final = Struct(">7sBB16s12sH")  # magic, version, kdf, salt, nonce, body length
_AGAIN: Final = "run `clawchat sec new` on the listener and copy the new file"


@unique
class Kdf(IntEnum):
    """How the key in a user's hands becomes the file's key."""

    KEY = 1
    PASSPHRASE = 2


class BootstrapKey:
    """What the user has: 32 random bytes, or a passphrase. Never printed."""

    __slots__ = ("_material", "kdf")

    def __init__(self, kdf: Kdf, material: Secret) -> None:
        self.kdf = kdf
        self._material = material

    @classmethod
    def from_base64url(cls, text: str | None, *, name: str = KEY_VARIABLE) -> BootstrapKey:
        """The key in `text`, with or without padding; `name` is where it was given.

        Raises `BootstrapKeyMissing` or `BootstrapKeyInvalid`.
        """
        stripped = (text or "").strip()
        if not stripped:
            raise BootstrapKeyMissing(
                f"{name} is not set: give the key that the listener uses"
                " (`clawchat sec key` makes one), or a passphrase"
            )
        # The decoder skips what is not base64url: to it, 43 letters among blanks are a key.
        if not _KEY_TEXT.fullmatch(stripped):
            raise BootstrapKeyInvalid(
                f"{name} is not 32 bytes of base64url (43 characters):"
                " copy it again from the listener, or make one with `clawchat sec key`"
            )
        return cls(Kdf.KEY, Secret(urlsafe_b64decode(stripped[:_KEY_LETTERS] + "=")))

    @classmethod
    def from_passphrase(cls, text: str | None) -> BootstrapKey:
        """Raises `BootstrapKeyMissing` when there is none."""
        if not text:
            raise BootstrapKeyMissing(
                f"the passphrase is empty: give the one that the listener uses, or {KEY_VARIABLE}"
            )
        return cls(Kdf.PASSPHRASE, Secret(normalize("NFC", text).encode(errors="surrogatepass")))

    def derive(self, salt: bytes) -> bytes:
        """The file's key. A passphrase takes about 0.1 s and 64 MiB."""
        if self.kdf is Kdf.PASSPHRASE:
            return argon2id(self._material.reveal(), salt)
        return expand(extract(salt, self._material.reveal()), b"bootstrap", KEY_SIZE)

    def wipe(self) -> None:
        self._material.wipe()


def seal_bootstrap(content: BootstrapContent, key: BootstrapKey, entropy: Entropy) -> bytes:
    """The file's bytes. Raises `ValueError` when a field does not fit."""
    body = encode_body(content)
    salt, nonce = entropy(SALT_SIZE), entropy(NONCE_SIZE)
    head = _HEAD.pack(MAGIC, VERSION, key.kdf, salt, nonce, len(body) + TAG_SIZE)
    return head + aead_seal(key.derive(salt), nonce, body, head)


def open_bootstrap(data: bytes, key: BootstrapKey, *, name: str) -> BootstrapContent:
    """The content of a bootstrap file called `name` in errors.

    Raises a `BootstrapError` of its own kind for each failure. Does not look at the time.
    """
    head, kdf, salt, nonce = _head(data, name)
    if kdf is not key.kdf:
        sealed, given = ("passphrase", "key") if kdf is Kdf.PASSPHRASE else ("key", "passphrase")
        raise BootstrapKeyWrong(
            f"{name} was sealed with a {sealed}, not a {given}: give the {sealed}"
            " that the listener uses"
        )
    body = aead_open(key.derive(salt), nonce, data[len(head) :], head)
    if body is None:
        raise BootstrapKeyWrong(
            f"{name} does not open with this {'key' if kdf is Kdf.KEY else 'passphrase'}: check"
            f" that it is the listener's; if it is, the file was altered: {_AGAIN}"
        )
    try:
        return decode_body(body)
    except Malformed:
        raise BootstrapForeign(
            f"{name} opens, but its content is not a bootstrap file's: {_AGAIN}"
        ) from None


def _head(data: bytes, name: str) -> tuple[bytes, Kdf, bytes, bytes]:
    """The checked head: its bytes, kdf, salt, nonce."""
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise BootstrapForeign(
            f"{name} is not a ClawChat bootstrap file: give the path of the `.sec` file that"
            " the listener published"
        )
    if len(data) > len(MAGIC):
        _check_version(data[len(MAGIC)], name)
    if len(data) < _HEAD.size:
        raise BootstrapTruncated(f"{name} ends early after {len(data)} bytes: copy it again")
    _, _, kdf, salt, nonce, body_size = _HEAD.unpack_from(data)
    size = _HEAD.size + body_size
    if len(data) != size or size > FILE_SIZE_MAX:
        fault = "ends early" if len(data) < size else "is longer than a bootstrap file"
        raise BootstrapTruncated(f"{name} {fault} ({len(data)} bytes): copy it again")
    if kdf not in (Kdf.KEY, Kdf.PASSPHRASE):
        raise BootstrapForeign(f"{name} is damaged: {_AGAIN}")
    return data[: _HEAD.size], Kdf(kdf), salt, nonce


def _check_version(version: int, name: str) -> None:
    if version > VERSION:
        raise BootstrapVersion(
            f"{name} was written by a newer ClawChat (format {version}, this one reads {VERSION}):"
            " update this ClawChat"
        )
    if version < VERSION:
        raise BootstrapForeign(
            f"{name} was written by a ClawChat too old to talk to (format {version}): update the"
            f" listener, {_AGAIN}"
        )


def expiry_text(content: BootstrapContent, unix_now: int, *, name: str) -> str | None:
    """A warning when this computer's clock says that the file's time is over, or has not come.

    Only a warning: the listener decides, by its own clock. `unix_now` in seconds.
    """
    if unix_now >= content.expires:
        minutes = (unix_now - content.expires) // 60
        return f"{name} expired {minutes} min ago by this computer's clock: {_AGAIN}"
    if unix_now < content.issued - 60:
        return f"{name} is from the future by this computer's clock: check the clock"
    return None
