"""One source of notices, any number of readers, none of whom can hold up the source.

Rules: each reader gets what comes after it was made; one that is far behind loses the oldest;
one that nobody holds any more is forgotten by itself.
Left to others: what is told (`peer`, `listener`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Generic, TypeVar
from weakref import ref

import trio

KEPT: Final = 64  # notices waiting for one reader

T = TypeVar("T")


class Reader(AsyncIterator[T]):
    """What one reader has not read yet. Iteration ends after the feed's last notice."""

    def __init__(self) -> None:
        self._waiting: deque[T] = deque(maxlen=KEPT)
        self._ended = False
        self._changed = trio.lowlevel.ParkingLot()

    async def __anext__(self) -> T:
        await trio.lowlevel.checkpoint()
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            await self._changed.park()
        return self._waiting.popleft()

    def put(self, notice: T, *, last: bool = False) -> None:
        """Take one more notice."""
        self._waiting.append(notice)
        self._ended = self._ended or last
        self._changed.unpark_all()


class Feed(Generic[T]):
    """The source."""

    def __init__(self) -> None:
        self._readers: list[ref[Reader[T]]] = []

    def reader(self) -> Reader[T]:
        """A new reader, of what comes from now on."""
        reader = Reader[T]()
        self._readers.append(ref(reader))
        return reader

    def put(self, notice: T, *, last: bool = False) -> None:
        """Tell every reader."""
        alive = [(known, reader) for known in self._readers if (reader := known()) is not None]
        self._readers = [] if last else [known for known, _ in alive]
        for _, reader in alive:
            reader.put(notice, last=last)
