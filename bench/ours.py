"""Our side of `bench.loopback`: a listener and a dialer, each in a process of its own.

Rules: credentials come from a fixed seed, so no file is read; saving a credential is a no-op in a
thread (a real store adds two fsyncs of the disk at hand, which would be what is measured).
Left to others: what is compared and printed (`bench.loopback`), aioquic's side (`bench.theirs`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from time import perf_counter
from typing import TypeAlias

import trio
from attrs import evolve

from bench.memory import resident_bytes
from clawchat.core.config import DEFAULT_LIMITS, Config
from clawchat.core.credential import Address, Pairing, Path
from clawchat.core.crypto.schedule import derive_credential
from clawchat.core.crypto.suite import public_key
from clawchat.core.events import Remember
from clawchat.core.secret import Secret
from clawchat.drivers.on_trio import Runner, open_runner
from clawchat.drivers.peer import Peer
from clawchat.drivers.sockets import UdpSocket
from clawchat.drivers.stream import LinkStream

PAIRINGS = 2000
IN_FLIGHT = 8  # handshakes at once
LISTENER = sha256(b"bench listener").digest()
DIALER = sha256(b"bench dialer").digest()
LISTENER_STATIC, DIALER_STATIC = public_key(LISTENER), public_key(DIALER)


def pairing(number: int, *, dialer: bool) -> Pairing:
    """The `number`-th pairing, as one side keeps it."""
    file_id = sha256(b"bench file %d" % number).digest()[:16]
    peer = LISTENER_STATIC if dialer else DIALER_STATIC
    credential = derive_credential(file_id, 0, Secret(sha256(b"bench secret" + file_id).digest()))
    return Pairing(file_id, dialer, LISTENER_STATIC, peer, (credential,))


def config(identity: bytes, datagram: int) -> Config:
    return Config(
        identity=Secret(identity),
        limits=evolve(DEFAULT_LIMITS, max_datagram=datagram),
        max_links=PAIRINGS,
        handshakes_per_second=1_000_000,  # how fast they are is what is measured
    )


async def listen(datagram: int) -> None:
    """Serve until stdin closes: say the port, then answer `rss` on request."""
    sock = UdpSocket(Address("127.0.0.1", 0))
    async with open_runner(config(LISTENER, datagram), [sock], persist=lambda _: None) as runner:
        for number in range(PAIRINGS):
            runner.handle(Remember(pairing(number, dialer=False)))
        async with trio.open_nursery() as nursery:
            runner.accept = lambda peer: nursery.start_soon(serve_peer, peer)
            print(sock.address.port, flush=True)
            await answer_orders()
            nursery.cancel_scope.cancel()


async def answer_orders() -> None:
    while order := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        if order.strip() == "rss":
            print(resident_bytes(), flush=True)


async def serve_peer(peer: Peer) -> None:
    async with trio.open_nursery() as nursery:
        async for stream in peer:
            nursery.start_soon(serve_stream, stream)


async def serve_stream(stream: LinkStream) -> None:
    """Bulk streams are swallowed and confirmed with one byte; others are echoed."""
    try:
        async with stream:
            async for data in stream:
                if not stream.bulk:
                    await stream.send_all(data)
            if stream.bulk:
                await stream.send_all(b"!")
    except trio.BrokenResourceError:
        pass


Work: TypeAlias = Callable[["Dialer", dict[bytes, Pairing]], Awaitable[object]]


class Dialer:
    """Dials any of the pairings over one socket."""

    def __init__(self, runner: Runner, port: int) -> None:
        self._runner = runner
        self._path = Path(runner.addresses[0], Address("127.0.0.1", port))
        self._links = 0

    async def dial(self, known: Pairing) -> Peer:
        self._links += 1
        peer = self._runner.dial(self._links, known, (self._path,))
        await peer.wait_established()
        return peer


async def dial(chosen: Work, port: int, datagram: int) -> None:
    """Do the work chosen, and print its result as JSON."""
    kept: dict[bytes, Pairing] = {}

    def keep(saved: Pairing) -> None:
        kept[saved.file_id] = saved

    sock = UdpSocket(Address("127.0.0.1", 0))
    async with open_runner(config(DIALER, datagram), [sock], persist=keep) as runner:
        print(json.dumps(await chosen(Dialer(runner, port), kept)), flush=True)


async def throughput(dialer: Dialer, _kept: object, *, size: int) -> dict[str, float]:
    """Seconds from the first byte sent until the other process has taken the last."""
    peer = await dialer.dial(pairing(0, dialer=True))
    await trio.sleep(0.3)  # path MTU discovery and the first ratchet
    stream = await peer.open_stream(bulk=True)
    block = bytes(1 << 20)
    began = perf_counter()
    for _ in range(size >> 20):
        await stream.send_all(block)
    await stream.send_eof()
    assert await stream.receive_some() == b"!"
    took = perf_counter() - began
    stats = peer.stats()
    return {
        "seconds": took,
        "bytes_per_second": (size >> 20 << 20) / took,
        "datagram": stats.datagram_size,
        "lost": stats.packets_lost,
    }


async def latency(dialer: Dialer, _kept: object, *, count: int) -> list[float]:
    """Seconds of each of `count` round trips of 64 bytes on one stream."""
    peer = await dialer.dial(pairing(1, dialer=True))
    stream = await peer.open_stream()
    times = []
    for _ in range(count):
        began = perf_counter()
        await stream.send_all(bytes(64))
        got = 0
        while got < 64:
            got += len(await stream.receive_some())
        times.append(perf_counter() - began)
    return times


async def handshakes(dialer: Dialer, kept: dict[bytes, Pairing], *, seconds: float) -> float:
    """Links made and closed per second, some at once."""
    done = 0

    async def one_after_the_other(number: int) -> None:
        nonlocal done
        known = pairing(number, dialer=True)
        while True:
            peer = await dialer.dial(kept.get(known.file_id, known))
            await peer.ping()  # the listener has the next credential too
            await peer.aclose()
            done += 1

    began = perf_counter()
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for number in range(IN_FLIGHT):
                nursery.start_soon(one_after_the_other, 10 + number)
    return done / (perf_counter() - began)


async def hold(dialer: Dialer, _kept: object, *, links: int, offset: int) -> int:
    """Make links and keep them until stdin closes."""
    limit = trio.CapacityLimiter(IN_FLIGHT)

    async def make(number: int) -> None:
        async with limit:
            await dialer.dial(pairing(number, dialer=True))

    async with trio.open_nursery() as nursery:
        for number in range(offset, offset + links):
            nursery.start_soon(make, number)
    print("up", flush=True)
    await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    return links


def work(role: str, amount: float, offset: int) -> Work:
    match role:
        case "throughput":
            return partial(throughput, size=int(amount))
        case "latency":
            return partial(latency, count=int(amount))
        case "handshakes":
            return partial(handshakes, seconds=amount)
    return partial(hold, links=int(amount), offset=offset)


def main() -> None:
    role, datagram = sys.argv[1], int(sys.argv[2])
    if role == "listen":
        trio.run(listen, datagram)
        return
    port, amount, *offset = sys.argv[3:]
    chosen = work(role, float(amount), int(offset[0]) if offset else 0)
    trio.run(dial, chosen, int(port), datagram)


if __name__ == "__main__":
    main()
