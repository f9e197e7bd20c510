"""Bytes that must not leak: hidden from `repr`, wiped when done.

Rules: a `Secret` owns a `bytearray`, never a `bytes` (deleted `bytes` stay readable in memory,
wiped `bytearray`s do not). What is let go of is wiped as well. `view()` lends the bytes to a
call; `reveal()` makes a copy that nobody wipes, for those who cannot do with less.
Left to others: deciding when a secret's life ends.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Final

WIPED: Final = "wiped"


class Secret:
    """A secret of fixed length. Compared in constant time, never hashed, never printed."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes | bytearray) -> None:
        self._data: bytearray | None = None
        self._data = bytearray(data)

    @classmethod
    def adopt(cls, data: bytearray) -> Secret:
        """Takes `data` over, without a copy: it is wiped with the secret."""
        secret = cls(b"")
        secret._data = data
        return secret

    def view(self) -> bytearray:
        """The bytes themselves, to be read and not kept. Raises `ValueError` after `wipe`."""
        if self._data is None:
            raise ValueError("this secret was wiped")
        return self._data

    def reveal(self) -> bytes:
        """A copy of the bytes. Raises `ValueError` after `wipe`."""
        return bytes(self.view())

    def copy(self) -> Secret:
        """Another with the same bytes, and a life of its own; wiped if this one is."""
        twin = Secret(b"")
        twin._data = None if self._data is None else self._data[:]
        return twin

    @property
    def wiped(self) -> bool:
        return self._data is None

    def wipe(self) -> None:
        """Overwrite and forget. Harmless when repeated."""
        if self._data is not None:
            self._data[:] = bytes(len(self._data))
            self._data = None

    def __del__(self) -> None:
        self.wipe()  # who merely lets go of a secret leaves nothing behind

    def __len__(self) -> int:
        return 0 if self._data is None else len(self._data)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        if self._data is None or other._data is None:
            return self is other
        return compare_digest(self._data, other._data)

    __hash__ = None  # type: ignore[assignment]  # a secret is never a key of a dict

    def __repr__(self) -> str:
        return f"<Secret {WIPED if self._data is None else len(self._data)}>"

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled; a store writes reveal() on purpose")
