"""What a file of ours holds: one JSON object with its kind and version, checked as it is read.

Rules: a file of another kind, or of a newer version, is told apart from a damaged one; secrets in
it never become `str` or `bytes` (`secret_json`).
Left to others: which members there are (`store`, `alarms`), replacing files safely (`files`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from attrs import frozen

from clawchat.core.secret import Secret
from clawchat.drivers import files, secret_json

FORMAT_VERSION: Final = 1


class Newer(Exception):
    """The file says a format version that we do not know."""


def write_record(
    path: Path, kind: str, content: dict[str, object], *, replace: bool = True
) -> None:
    """Make `content` durable as the record `path`, which is of this `kind`."""
    head: dict[str, object] = {"format": f"clawchat {kind}", "version": FORMAT_VERSION}
    text = secret_json.encode(head | content)
    try:
        files.write_private(path, text, replace=replace)
    finally:
        text[:] = bytes(len(text))


def read_record(kind: str, path: Path) -> Content:
    """Raises `OSError`, `Newer`, and what `Content` raises."""
    values, secrets = secret_json.decode(files.read_private(path))
    if not isinstance(values, dict) or values.get("format") != f"clawchat {kind}":
        raise ValueError("another kind of file")
    version = values.get("version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise Newer
    if version != FORMAT_VERSION:
        raise ValueError("no version")
    return Content(values, secrets)


@frozen
class Content:
    """An object of a file, with its members checked as they are asked for.

    Raises `ValueError`, `KeyError` or `TypeError` for what is not as it should be.
    """

    values: dict[str, object]
    secrets: list[Secret]

    def secret(self, name: str) -> Secret:
        return secret_json.find(self.values[name], self.secrets)

    def octets(self, name: str, size: int) -> bytes:
        value = bytes.fromhex(self.text(name))
        if len(value) != size:
            raise ValueError(name)
        return value

    def text(self, name: str) -> str:
        value = self.values[name]
        if not isinstance(value, str):
            raise TypeError(name)
        return value

    def count(self, name: str) -> int:
        value = self.values[name]
        if not isinstance(value, int) or value < 0:
            raise TypeError(name)
        return value

    def flag(self, name: str) -> bool:
        value = self.values[name]
        if not isinstance(value, bool):
            raise TypeError(name)
        return value

    def items(self, name: str) -> list[object]:
        value = self.values[name]
        if not isinstance(value, list):
            raise TypeError(name)
        return value

    def rows(self, name: str, most: int) -> list[Content]:
        rows = self.items(name)
        if len(rows) > most:
            raise TypeError(name)
        return [Content(_object(row), self.secrets) for row in rows]


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError("an object was expected")
    return value
