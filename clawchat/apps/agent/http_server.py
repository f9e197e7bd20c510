"""anycorn, connection by connection: each in a task of its own that can fail, and can be ended.

Rules: what one connection does harms no other, and none outlives the server: anycorn shields its
sends from cancellation, so a client that stops reading would hold up the agent's end for ever;
leaving therefore shuts the sockets themselves. Both were reproduced with anycorn 0.20.
Left to others: the application (`api`), the listening socket (`server`).
"""

from __future__ import annotations

import errno
import logging
import socket
from contextlib import suppress
from typing import Final

import anyio.abc
import trio
from anycorn.app_wrappers import ASGIWrapper
from anycorn.config import Config
from anycorn.tcp_server import tcp_server_handler
from anycorn.typing import ConnectionState
from anycorn.worker_context import WorkerContext
from starlette.types import ASGIApp

log = logging.getLogger("clawchat.agent")

CONNECTIONS_MAX: Final = 512
"""Eight links full of requests. Further connections wait in the kernel's backlog."""
OUT_OF_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


async def serve_http(app: ASGIApp, listening: socket.socket) -> None:
    """Serve `app` on a non-blocking listening socket until cancelled."""
    config = Config()
    config.errorlog = log
    config.include_server_header = False
    config.h11_max_incomplete_size = 32 * 1024  # headers; the gateway passes on at most 16 KiB
    handle = tcp_server_handler(
        ASGIWrapper(app),  # type: ignore[arg-type]  # anycorn has scope types of its own
        config,
        WorkerContext(None),
        ConnectionState({}),
    )
    room = trio.Semaphore(CONNECTIONS_MAX)
    accepted: set[socket.socket] = set()

    async def serve_one(connection: socket.socket) -> None:
        try:
            await handle(await anyio.abc.SocketStream.from_socket(connection))
        except Exception:
            log.exception("an HTTP connection crashed; the others go on")
        finally:
            accepted.discard(connection)
            connection.close()
            room.release()

    async with trio.open_nursery() as nursery:
        try:
            while True:
                await room.acquire()
                connection = await _accept(listening)
                accepted.add(connection)
                nursery.start_soon(serve_one, connection)
        finally:
            for connection in accepted:
                with suppress(OSError):  # it is closed already
                    connection.shutdown(socket.SHUT_RDWR)


async def _accept(listening: socket.socket) -> socket.socket:
    """The next connection. Waits when the process has no file descriptor left for one."""
    while True:
        await trio.lowlevel.wait_readable(listening)
        try:
            connection, _ = listening.accept()
        except OSError as error:
            # Else it was aborted before it was accepted.
            await trio.sleep(0.1 if error.errno in OUT_OF_FILES else 0)
        else:
            connection.setblocking(False)
            with suppress(OSError):  # the client is gone already; reading will tell
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
