"""A provider that does what a test tells it, step by step.

Rules: no time passes but where the test says so.
Left to others: the built-in providers (`test_echo`, `test_openai_provider`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import trio

from clawchat.apps.agent.providers import ChatMessage, Delta


class Scripted:
    """Replies with what the test feeds; `fail` ends the reply with that exception."""

    name = "scripted"
    model = "test-model"

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Delta | Exception | None](10_000)
        self.asked: list[list[ChatMessage]] = []

    def feed(self, *pieces: Delta) -> None:
        for piece in pieces:
            self._send.send_nowait(piece)

    def fail(self, error: Exception) -> None:
        self._send.send_nowait(error)

    def finish(self) -> None:
        self._send.send_nowait(None)

    async def reply(self, messages: Sequence[ChatMessage]) -> AsyncGenerator[Delta, None]:
        self.asked.append(list(messages))
        while (piece := await self._receive.receive()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece
