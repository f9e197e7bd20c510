"""Running until somebody says stop: Ctrl-C, SIGTERM, a closed terminal, or a parent that ended.

Rules: being stopped is a normal end, so the block is cancelled and nothing is raised.
Left to others: what has to be tidied up (the block's own context managers).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

_STOPPING = tuple(
    number
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if (number := getattr(signal, name, None)) is not None
)


@asynccontextmanager
async def until_stopped(*, with_stdin: bool = False) -> AsyncIterator[None]:
    """Cancel the block on a signal, or, `with_stdin`, when whoever holds our stdin is gone."""
    with trio.open_signal_receiver(*_STOPPING) as signals:
        async with trio.open_nursery() as nursery:
            scope = nursery.cancel_scope

            async def wait_signal() -> None:
                async for _ in signals:
                    scope.cancel()

            async def wait_stdin() -> None:
                while await trio.to_thread.run_sync(_read_stdin, abandon_on_cancel=True):
                    pass
                scope.cancel()

            nursery.start_soon(wait_signal)
            if with_stdin:
                nursery.start_soon(wait_stdin)
            yield
            scope.cancel()


def _read_stdin() -> bytes:
    return os.read(sys.stdin.fileno(), 1024)
