"""The agent as a running program: its file, its runs and its HTTP server, opened together.

Rules: loopback only; the port is taken before the file is opened, so a second agent fails on the
port and touches nothing; whatever happens to a connection, no run notices.
Left to others: connections (`http_server`), requests (`api`), options and signals
(`clawchat.cli`).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio
from attrs import frozen

from clawchat.apps.agent.api import HEARTBEAT, Api
from clawchat.apps.agent.http_server import serve_http
from clawchat.apps.agent.providers import Provider
from clawchat.apps.agent.runs import RunLimits, Runs
from clawchat.apps.agent.store import open_store
from clawchat.errors import UserError

HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 55556
DEFAULT_URL: Final = f"http://{HOST}:{DEFAULT_PORT}"


class AgentPortInUse(UserError):
    """The agent's port is taken. The text names it and the next step."""


@frozen
class Agent:
    """A running agent. `url` is where it listens."""

    url: str
    runs: Runs


@asynccontextmanager
async def open_agent(
    folder: Path,
    provider: Provider,
    *,
    port: int = DEFAULT_PORT,
    limits: RunLimits | None = None,
    heartbeat: float = HEARTBEAT,
) -> AsyncIterator[Agent]:
    """Run an agent that keeps its conversations in `folder`, until the block is left.

    Port 0 takes a free one. Leaving ends runs under way as failed, with their text kept.
    Raises `UserError`: port in use, folder unusable. What the block raises comes out as it is,
    not wrapped in an `ExceptionGroup`.
    """
    trouble: BaseException | None = None
    with _bind(port) as taken:
        async with open_store(folder) as store, trio.open_nursery() as nursery:
            runs = Runs(store, provider, nursery, limits or RunLimits())
            app = Api(store, runs, heartbeat).application()
            url = f"http://{HOST}:{taken.getsockname()[1]}"
            nursery.start_soon(serve_http, app, taken)
            try:
                yield Agent(url, runs)
            except BaseException as error:  # raised again below, outside the nursery
                trouble = error
            nursery.cancel_scope.cancel()
    if trouble is not None:
        try:
            raise trouble
        finally:
            trouble = None  # a frame that holds its own exception is a cycle


def _bind(port: int) -> socket.socket:
    """The listening socket, taken before anything else is touched."""
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows: SO_REUSEADDR would share the port
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((HOST, port))
        taken.listen(100)
    except OSError as error:
        taken.close()
        raise AgentPortInUse(_bind_text(port, error)) from None
    taken.setblocking(False)
    return taken


def _bind_text(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {HOST} is in use, probably by another agent. "
            f"Use that one (clawchat serve --agent-url http://{HOST}:{port}), stop it, "
            "or choose another port."
        )
    return f"cannot listen on {HOST}, port {port}: {error.strerror}. Choose another port."
