"""A line on the local socket is an object, or the connection is broken; what follows is not lost.

The first byte says in what pieces the others come. Whatever they are, the same message comes out,
no more than a line's limit is held, and the bytes after the line are there for whoever reads on.
"""

from __future__ import annotations

import json
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

import trio

from clawchat.cli.local_socket import LINE_MAX, LocalStream, Message

T = TypeVar("T")


class Pieces:
    """Stands in for a socket: gives what it was made with, and never waits."""

    def __init__(self, data: bytes, step: int) -> None:
        self._left = [data[at : at + step] for at in range(0, len(data), step)]
        self.taken = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self._left:
            return b""
        piece = self._left.pop(0)
        if max_bytes is not None and len(piece) > max_bytes:
            self._left.insert(0, piece[max_bytes:])
            piece = piece[:max_bytes]
        self.taken += len(piece)
        return piece


def now(work: Coroutine[Any, Any, T]) -> T:
    """The result of what never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        return cast(T, done.value)
    raise AssertionError("it waits")


def message_of(data: bytes, step: int) -> tuple[Message | None, bytes]:
    """The first message, and what follows it among the bytes that were taken."""
    pieces = Pieces(data, step)
    stream = LocalStream(cast(trio.SocketStream, pieces))
    try:
        message = now(stream.receive_message())
    except trio.BrokenResourceError:
        assert pieces.taken <= LINE_MAX + 4096
        return None, b""
    return message, stream._rest + b"".join(pieces._left)


def check(data: bytes) -> None:
    step, data = 1 + (data[0] if data else 0) * 16, data[1:]
    message, rest = message_of(data, step)
    assert message_of(data, 4096)[0] == message
    if message is not None:
        assert data.endswith(b"\n" + rest)
        line = json.dumps(message).encode() + b"\n"
        assert message_of(line + rest, step) == (json.loads(line), rest)


if __name__ == "__main__":
    from fuzz.harness import run

    run("local")
