"""The built-in provider: says back what it was told, word by word, without key or network.

Rules: deterministic; fast, yet visibly a stream.
Left to others: intelligence.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence

import trio
from attrs import frozen

from clawchat.apps.agent.providers import ChatMessage, Delta
from clawchat.apps.events import Usage


@frozen
class Echo:
    """Streams the last message back. `pause` is the time between two words, in seconds."""

    pause: float = 0.02
    name: str = "echo"
    model: str = "echo"

    async def reply(self, messages: Sequence[ChatMessage]) -> AsyncGenerator[Delta, None]:
        words = re.findall(r"\s*\S+\s*$|\s*\S+", messages[-1].text)
        for word in words:
            await trio.sleep(self.pause)
            yield word
        yield Usage(prompt_tokens=len(words), completion_tokens=len(words))
