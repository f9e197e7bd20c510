"""Round trips that the application wants to be measured.

Rules: a bounded number is under way; one that was thought lost is asked again, and its first answer
counts.
Left to others: the PING frames (`core.payloads`), the time they took (`core.transport`).
"""

from __future__ import annotations

from collections import deque
from typing import Final

from clawchat.errors import BufferFull

PINGS_MAX: Final = 64  # measurements under way


class Pings:
    """A queue of tokens, and those that are not answered yet."""

    __slots__ = ("_asked", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[int] = deque()
        self._asked: set[int] = set()

    def __len__(self) -> int:
        """How many are to be sent."""
        return len(self._waiting)

    def ask(self, token: int) -> None:
        """Measure a round trip. Raises `BufferFull` when too many are waiting."""
        if len(self._asked) >= PINGS_MAX or token in self._asked:
            raise BufferFull("too many pings are under way, or one with this token")
        self._asked.add(token)
        self._waiting.append(token)

    def take(self) -> int:
        """The next to be sent."""
        return self._waiting.popleft()

    def answered(self, token: int) -> bool:
        """Whether this is the first answer; a copy that was thought lost says nothing new."""
        if token not in self._asked:
            return False
        self._asked.remove(token)
        return True

    def lost(self, token: int) -> None:
        """Ask again, before all others, if no copy was answered."""
        if token in self._asked:
            self._waiting.appendleft(token)
