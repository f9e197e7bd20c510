"""aioquic's side of `bench.loopback`: the same work as `bench.ours`, by its own asyncio API.

Rules: aioquic as shipped, with a P-256 certificate and no check of it by the client; only the
datagram size is set, where the comparison asks for one.
Left to others: what is compared and printed (`bench.loopback`).
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import HandshakeCompleted, QuicEvent

from bench.certificate import certificate
from bench.memory import resident_bytes

IN_FLIGHT = 8
BULK = b"b"  # the first byte of a stream says what it is for
ECHO = b"e"
TASKS: set[asyncio.Task[None]] = set()


def on_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Called by aioquic for each stream that a client opens."""
    task = asyncio.ensure_future(serve_stream(reader, writer))
    TASKS.add(task)
    task.add_done_callback(TASKS.discard)


async def serve_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bulk streams are swallowed and confirmed with one byte; others are echoed."""
    kind = await reader.read(1)
    while data := await reader.read(65536):
        if kind == ECHO:
            writer.write(data)
    if kind == BULK:
        writer.write(b"!")
    writer.write_eof()


def settings(datagram: int, *, client: bool) -> QuicConfiguration:
    made = QuicConfiguration(is_client=client, alpn_protocols=["bench"], idle_timeout=600)
    if datagram:
        made.max_datagram_size = datagram
    if client:
        made.verify_mode = ssl.CERT_NONE
    return made


async def listen(datagram: int) -> None:
    made = settings(datagram, client=False)
    made.certificate, made.private_key = certificate()
    server = await serve("127.0.0.1", 0, configuration=made, stream_handler=on_stream)
    transport = server._transport
    assert transport is not None
    print(transport.get_extra_info("sockname")[1], flush=True)
    loop = asyncio.get_running_loop()
    while order := await loop.run_in_executor(None, sys.stdin.readline):
        if order.strip() == "rss":
            print(resident_bytes(), flush=True)
    server.close()


@asynccontextmanager
async def link(port: int, datagram: int) -> AsyncIterator[QuicConnectionProtocol]:
    made = settings(datagram, client=True)
    async with connect("127.0.0.1", port, configuration=made) as protocol:
        yield protocol


async def throughput(port: int, datagram: int, size: float) -> dict[str, float]:
    async with link(port, datagram) as protocol:
        await asyncio.sleep(0.3)
        reader, writer = await protocol.create_stream()
        writer.write(BULK)
        block = bytes(1 << 20)
        began = perf_counter()
        for _ in range(int(size) >> 20):
            writer.write(block)
            await writer.drain()
        writer.write_eof()
        assert await reader.read(1) == b"!"
        took = perf_counter() - began
        return {
            "seconds": took,
            "bytes_per_second": (int(size) >> 20 << 20) / took,
            "datagram": protocol._quic._max_datagram_size,
            "lost": 0,
        }


async def latency(port: int, datagram: int, count: float) -> list[float]:
    async with link(port, datagram) as protocol:
        reader, writer = await protocol.create_stream()
        writer.write(ECHO)
        times = []
        for _ in range(int(count)):
            began = perf_counter()
            writer.write(bytes(64))
            await reader.readexactly(64)
            times.append(perf_counter() - began)
        return times


class Client(QuicConnectionProtocol):
    """Knows when it is connected without the extra round trips of `wait_connected`."""

    def __init__(self, *args: Any, **named: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **named)
        self.up = asyncio.Event()

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, HandshakeCompleted):
            self.up.set()


async def handshakes(port: int, datagram: int, seconds: float) -> float:
    done = 0
    until = perf_counter() + seconds

    async def one_after_the_other() -> None:
        nonlocal done
        while perf_counter() < until:
            made = settings(datagram, client=True)
            async with connect(
                "127.0.0.1", port, configuration=made, create_protocol=Client
            ) as protocol:
                assert isinstance(protocol, Client)
                await protocol.up.wait()
                await protocol.ping()
                done += 1
                protocol.close()

    began = perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(IN_FLIGHT)))
    return done / (perf_counter() - began)


async def hold(port: int, datagram: int, links: float) -> int:
    limit = asyncio.Semaphore(IN_FLIGHT)
    over = asyncio.Event()
    up = asyncio.Semaphore(0)

    async def make() -> None:
        await limit.acquire()
        async with link(port, datagram):
            limit.release()
            up.release()
            await over.wait()

    tasks = [asyncio.create_task(make()) for _ in range(int(links))]
    for _ in tasks:
        await up.acquire()
    print("up", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    for task in tasks:
        task.cancel()
    return int(links)


WORK = {"throughput": throughput, "latency": latency, "handshakes": handshakes, "hold": hold}


async def dial(role: str, datagram: int, port: int, amount: float) -> None:
    print(json.dumps(await WORK[role](port, datagram, amount)), flush=True)


def main() -> None:
    role, datagram = sys.argv[1], int(sys.argv[2])
    if role == "listen":
        asyncio.run(listen(datagram))
    else:
        asyncio.run(dial(role, datagram, int(sys.argv[3]), float(sys.argv[4])))


if __name__ == "__main__":
    main()
