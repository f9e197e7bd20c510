"""JSON whose secrets never become `str` or `bytes`, which Python could not wipe.

A `Secret` in the content is written as hexadecimal, straight into a `bytearray` that the caller
wipes; read, it is taken out of the text before the text is parsed.

Rules: the names of members that are secret are fixed here; what else is in the text is JSON's.
Left to others: what the members mean (`store`).
"""

from __future__ import annotations

import json
import re
from typing import Final

from clawchat.core.secret import Secret

SECRET_SIZE: Final = 32
_MARK: Final = "here stands secret "
_MEMBER: Final = re.compile(rb'"(?:private|psk|envelope_key)"\s*:\s*"([0-9a-fA-F]{64})"')
_DIGITS: Final = b"0123456789abcdef"
_VALUES: Final = {digit: int(chr(digit), 16) for digit in b"0123456789abcdefABCDEF"}


def encode(content: dict[str, object]) -> bytearray:
    """The text. Wipe it when it is written."""
    secrets: list[Secret] = []

    def place(value: object) -> str:
        if not isinstance(value, Secret):
            raise TypeError(f"{type(value).__name__} is not for JSON")
        secrets.append(value)
        return _marked(len(secrets) - 1, 2 * len(value))

    text = bytearray(json.dumps(content, indent=1, default=place).encode() + b"\n")
    at = 0
    for number, secret in enumerate(secrets):
        at = text.index(_marked(number, 2 * len(secret)).encode(), at)
        for byte in secret.view():
            text[at], text[at + 1] = _DIGITS[byte >> 4], _DIGITS[byte & 15]
            at += 2
    return text


def decode(text: bytearray) -> tuple[object, list[Secret]]:
    """The content, with a mark in place of each secret, and the secrets (see `find`).

    Takes them out of `text`. Raises `ValueError` for what is no JSON.
    """
    secrets: list[Secret] = []
    for found in _MEMBER.finditer(text):
        start, end = found.span(1)
        made = bytearray((end - start) // 2)
        for place, at in enumerate(range(start, end, 2)):
            made[place] = _VALUES[text[at]] << 4 | _VALUES[text[at + 1]]
        text[start:end] = _marked(len(secrets), end - start).encode()
        secrets.append(Secret.adopt(made))
    try:
        return json.loads(text), secrets
    except RecursionError:
        raise ValueError("nested too deeply") from None


def find(mark: object, secrets: list[Secret]) -> Secret:
    """The secret that stood where this mark is. Raises `ValueError` when none did."""
    number = mark.removeprefix(_MARK).strip() if isinstance(mark, str) else ""
    if mark != _marked(int(number), 2 * SECRET_SIZE) or int(number) >= len(secrets):
        raise ValueError("no secret")
    return secrets[int(number)]


def _marked(number: int, size: int) -> str:
    return f"{_MARK}{number}".ljust(size)
