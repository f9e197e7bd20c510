"""The agent as a running program: its file, its runs and its HTTP server, opened together.

Rules: loopback only; the port is taken before the file is opened, so a second agent fails on the
port and touches nothing; a crash of the HTTP server restarts it, and no run notices.
Left to others: the requests (`api`), options and signals (`clawchat.cli`).
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio
from anycorn.config import Config, Sockets
from anycorn.run import worker_serve
from anycorn.utils import wrap_app
from attrs import frozen
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from clawchat.apps.agent.api import HEARTBEAT, Api
from clawchat.apps.agent.providers import Provider
from clawchat.apps.agent.runs import RunLimits, Runs
from clawchat.apps.agent.store import open_store
from clawchat.errors import UserError

log = logging.getLogger("clawchat.agent")

HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 55556
DEFAULT_URL: Final = f"http://{HOST}:{DEFAULT_PORT}"

RESTARTS_MAX: Final = 5
"""Crashes of the HTTP server in one `RESTARTS_WINDOW` after which the agent gives up: more is no
accident of one request."""
RESTARTS_WINDOW: Final = 60.0  # seconds


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
            await nursery.start(_supervise, app, taken)
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


async def run_agent(
    folder: Path,
    provider: Provider,
    *,
    port: int = DEFAULT_PORT,
    task_status: trio.TaskStatus[Agent] = trio.TASK_STATUS_IGNORED,
) -> None:
    """`open_agent` as a task of its own: runs until cancelled."""
    async with open_agent(folder, provider, port=port) as agent:
        task_status.started(agent)
        await trio.sleep_forever()


def _bind(port: int) -> socket.socket:
    """The listening socket; made here, so that it survives a crash of the server."""
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


async def _supervise(
    app: Starlette,
    taken: socket.socket,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve, and serve again after a crash: connections are lost then, runs are not."""
    task_status.started()  # the socket listens already, so a client's first request waits
    crashes: list[float] = []
    while True:
        try:
            with taken.dup() as listening:
                await _serve(app, listening)
        except Exception:
            log.exception("the HTTP server crashed; it is started again")
            now = trio.current_time()
            crashes = [at for at in crashes if now - at < RESTARTS_WINDOW] + [now]
            if len(crashes) > RESTARTS_MAX:
                raise
            await trio.sleep(0.1)


@frozen
class _WithoutLifespan:
    """Answers ASGI's start and stop itself: Starlette turns a cancellation there into an error.
    What has to be opened and closed with the agent is, by `open_agent`."""

    app: Starlette

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        for stage in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{stage}.complete"})


async def _serve(app: Starlette, listening: socket.socket) -> None:
    config = Config()
    config.loglevel = "ERROR"
    config.include_server_header = False
    config.h11_max_incomplete_size = 32 * 1024  # headers; the gateway passes on at most 16 KiB
    config.graceful_timeout = 1.0  # seconds; nothing is lost by cutting a listener off
    sockets = Sockets([], [listening], [])
    await worker_serve(
        wrap_app(_WithoutLifespan(app), config.wsgi_max_body_size, "asgi"),  # type: ignore[arg-type]
        config,
        sockets=sockets,
        shutdown_trigger=trio.sleep_forever,
    )
