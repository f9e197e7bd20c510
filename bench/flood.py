"""What a flood costs a link that is busy: `python -m bench.flood`, on this machine's loopback.

A dialer sends one bulk stream to a listener, each a process of its own with the Trio driver, at
1452-byte datagrams. A third process floods the listener's port with as many datagrams a second as
the link carries, one system call each, from 8 sockets:

- *random*: bytes;
- *hint*: an envelope's size behind a hint in use, as somebody can send who has seen a HELLO;
- *CID*: bytes behind a connection id in use, as somebody can send who sees the link;
- *packets*: copies of packets of the link;
- *HELLOs*: copies of the HELLO with which the link began.

Quiet seconds and flooded ones take turns; printed are medians: what the flooded ones brought of
their quiet neighbours, and the processor time that the listener spends on a datagram of the flood
and on one of the link. With `--frames` it prints instead what a packet full of each kind of frame
costs when an authenticated peer sends it, for n packets and for 2n.

Rules: goodput is what the listening application has taken; all three share the machine, so that a
flood also costs what sending it takes. On a machine that others use, only the processor times mean
something: whoever waits for a processor while datagrams come loses them.
Left to others: the processes' keys and sockets (`bench.ours`).
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from time import perf_counter, process_time, sleep
from typing import IO, Any, Final

import trio
from attrs import frozen

from bench.ours import DIALER, LISTENER, Dialer, config, pairing
from clawchat.core.actions import StreamData
from clawchat.core.credential import Address
from clawchat.core.crypto.envelope import ENVELOPE_SIZES
from clawchat.core.events import Consumed, DatagramReceived, Remember, StreamClass, stream_id
from clawchat.core.wire import frames, varint
from clawchat.drivers.on_trio import Runner, open_runner
from clawchat.drivers.peer import Peer
from clawchat.drivers.sockets import UdpSocket
from fuzz.puppet import Linked, puppet_dials

DATAGRAM: Final = 1452
SOURCES: Final = 8
TICK_SECONDS: Final = 0.001
KEPT: Final = 64  # packets that are copied again and again
KINDS: Final = ("random", "hint", "CID", "packets", "HELLOs")


# --- the listener -----------------------------------------------------------------------------


class TappedSocket(UdpSocket):
    """Keeps the first HELLO that came, and, when told to, some packets."""

    hello = b""
    wanted = 0

    def receive(
        self, wanted: Callable[[bytes], bool] = lambda _head: True
    ) -> DatagramReceived | None:
        received = super().receive(wanted)
        if received is not None and (self.wanted or not self.hello):
            first = bytes(received.data[: received.segment or None])
            if not self.hello and len(first) in ENVELOPE_SIZES:
                self.hello = first
            elif self.wanted:
                self.kept.append(first)
                self.wanted -= 1
        return received

    def __init__(self, bind: Address) -> None:
        super().__init__(bind)
        self.kept: list[bytes] = []


class Taken:
    """Bytes that the application has taken."""

    def __init__(self) -> None:
        self.bytes = 0

    async def serve(self, peer: Peer) -> None:
        async for stream in peer:
            async for data in stream:
                self.bytes += len(data)


async def listen() -> None:
    """Serve until stdin closes; answer `mark` and `seen`."""
    sock, taken = TappedSocket(Address("127.0.0.1", 0)), Taken()
    running = open_runner(config(LISTENER, DATAGRAM), [sock], persist=lambda _: None)
    async with running as runner, trio.open_nursery() as nursery:
        runner.handle(Remember(pairing(0, dialer=False)))
        runner.accept = lambda peer: nursery.start_soon(taken.serve, peer)
        print(sock.address.port, flush=True)
        while order := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            answer = mark(runner, taken) if order.strip() == "mark" else await seen(runner, sock)
            print(json.dumps(answer), flush=True)
        nursery.cancel_scope.cancel()


def mark(runner: Runner, taken: Taken) -> dict[str, Any]:
    endpoint = runner._engine._endpoint
    (peer,) = runner.peers.values()
    return {
        "at": perf_counter(),
        "cpu": process_time(),
        "bytes": taken.bytes,
        "packets": peer.stats().packets_received,
        "drops": {drop.name: count for drop, count in endpoint.drops.items()},
    }


async def seen(runner: Runner, sock: TappedSocket) -> dict[str, Any]:
    """What an observer of the link has."""
    sock.kept, sock.wanted = [], KEPT
    while sock.wanted:  # noqa: ASYNC110  (nobody announces it)
        await trio.sleep(0.01)
    cid = sock.kept[-1][:8]
    return {
        "cid": cid.hex(),
        "packets": [data.hex() for data in sock.kept if data[:8] == cid],
        "hello": sock.hello.hex(),
    }


# --- the dialer and the flooder ---------------------------------------------------------------


async def send(port: int) -> None:
    """Send without end."""
    sock = UdpSocket(Address("127.0.0.1", 0))
    async with open_runner(config(DIALER, DATAGRAM), [sock], persist=lambda _: None) as runner:
        peer = await Dialer(runner, port).dial(pairing(0, dialer=True))
        await trio.sleep(0.3)  # path MTU discovery and the first ratchet
        stream = await peer.open_stream(bulk=True)
        print("up", flush=True)
        block = bytes(1 << 20)
        while True:
            await stream.send_all(block)


def flood(port: int) -> None:
    """Send what stdin says, as often as it says, for as long as it says."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(SOURCES)]
    for line in sys.stdin:
        order = json.loads(line)
        datagrams = [bytes.fromhex(text) for text in order["datagrams"]]
        began, sent = perf_counter(), 0
        while (spent := perf_counter() - began) < order["seconds"]:
            while sent < order["rate"] * spent:
                data = datagrams[sent % len(datagrams)]
                sockets[sent % SOURCES].sendto(data, ("127.0.0.1", port))
                sent += 1
            sleep(TICK_SECONDS)
        print(sent, flush=True)


# --- measuring --------------------------------------------------------------------------------


@contextmanager
def process(*arguments: object) -> Iterator[tuple[IO[str], IO[str]]]:
    command = [sys.executable, "-m", "bench.flood", *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        try:
            yield started.stdin, started.stdout
        finally:
            started.terminate()


def ask(pipes: tuple[IO[str], IO[str]], order: str) -> dict[str, Any]:
    orders, answers = pipes
    orders.write(order + "\n")
    orders.flush()
    answer: dict[str, Any] = json.loads(answers.readline())
    return answer


def made(kind: str, known: dict[str, Any]) -> list[str]:
    """The datagrams of one kind of flood, as hex."""
    match kind:
        case "random":
            return [os.urandom(DATAGRAM).hex() for _ in range(KEPT)]
        case "hint":
            hint = known["hello"][:32]
            return [hint + os.urandom(ENVELOPE_SIZES[0] - 16).hex() for _ in range(KEPT)]
        case "CID":
            return [known["cid"] + os.urandom(DATAGRAM - 8).hex() for _ in range(KEPT)]
        case "packets":
            return list(known["packets"])
    return [known["hello"]]


@frozen
class Share:
    """One pair of a quiet and a flooded time. Processor times are the listener's, in us."""

    quiet: float  # MB/s
    kept: float  # of that, under the flood
    link_cpu: float  # for a datagram of the link, in the quiet time
    flood_cpu: float  # for a datagram of the flood


def measure(kind: str, rounds: int, seconds: float, times: float) -> list[Share]:
    shares: list[Share] = []
    with process("listen") as listener:
        port = int(listener[1].readline())
        with process("send", port) as sender, process("flood", port) as flooder:
            assert sender[1].readline() == "up\n"
            sleep(0.5)
            for _ in range(rounds):
                datagrams = made(kind, ask(listener, "seen"))
                quiet = spent(listener, seconds)
                rate = times * quiet["packets"] / quiet["at"]
                order = {"datagrams": datagrams, "rate": rate, "seconds": seconds + 0.2}
                flooder[0].write(json.dumps(order) + "\n")
                flooder[0].flush()
                sleep(0.1)
                flooded = spent(listener, seconds)
                flooder[1].readline()
                shares.append(compared(quiet, flooded))
    return shares


def spent(listener: tuple[IO[str], IO[str]], seconds: float) -> dict[str, float]:
    """What a while took and brought."""
    before = ask(listener, "mark")
    sleep(seconds)
    after = ask(listener, "mark")
    dropped = sum(after.pop("drops").values()) - sum(before.pop("drops").values())
    return {"dropped": dropped} | {name: after[name] - before[name] for name in after}


def compared(quiet: dict[str, float], flooded: dict[str, float]) -> Share:
    link_cpu = quiet["cpu"] / max(1, quiet["packets"])
    flood_cpu = (flooded["cpu"] - flooded["packets"] * link_cpu) / max(1, flooded["dropped"])
    goodput = quiet["bytes"] / quiet["at"]
    kept = flooded["bytes"] / flooded["at"] / max(1, goodput)
    return Share(goodput / 1e6, kept, link_cpu * 1e6, flood_cpu * 1e6)


# --- frames of a peer -------------------------------------------------------------------------


BULK: Final = stream_id(1, StreamClass.BULK, dialer=True)
ROOM: Final = 1400


def repeated(frame: bytes) -> Callable[[Linked, int], bytes]:
    return lambda _linked, _number: frame * (ROOM // len(frame))


def odd_bytes(_linked: Linked, number: int) -> bytes:
    """Bytes with gaps between them, which later ones fill, so that the stream goes on."""
    base = number // 2 * 400
    return b"".join(
        frames.encode_stream(BULK, base + 2 * at + 1 - number % 2, b"x", fin=False)
        for at in range(200)
    )


def many_ranges(linked: Linked, _number: int) -> bytes:
    newest = linked.puppet.largest
    ranges = [(at, at) for at in range(newest, max(newest - 500, -1), -2)]
    # Two bytes a range: as many as fit.
    frame = b"\x02" + b"".join(map(varint.encode, (newest, 0, len(ranges) - 1, 0)))
    return frame + b"\0\0" * (len(ranges) - 1)


FRAMES: Final[dict[str, Callable[[Linked, int], bytes]]] = {
    "STREAM, in order": lambda _l, n: frames.encode_stream(BULK, n * ROOM, bytes(ROOM), fin=False),
    "STREAM, bytes in wrong order": odd_bytes,
    "PING": repeated(frames.PING),
    "ACK, one range": repeated(b"\x02\0\0\0\0"),
    "ACK, many ranges": many_ranges,
    "PATH_CHALLENGE": repeated(frames.encode_path_challenge(bytes(8))),
    "MAX_DATA": lambda _l, n: b"".join(
        frames.encode_max_data((1 << 30) + n * 300 + at) for at in range(ROOM // 9)
    ),
    "MAX_STREAMS": lambda _l, n: b"".join(
        frames.encode_max_streams((1 << 29) + n * 300 + at) for at in range(ROOM // 5)
    ),
    "DATAGRAM, empty": repeated(frames.encode_datagram(b"")),
    "PADDING": repeated(b"\0"),
}


def price(kind: Callable[[Linked, int], bytes], count: int) -> tuple[float, float]:
    """Microseconds for a packet of a kind, and for a byte."""
    linked, spent, size = puppet_dials(), 0.0, 0
    for number in range(count):
        payload = kind(linked, number)
        datagram = linked.puppet.seal(payload)
        size += len(datagram)
        began = perf_counter()
        linked.hear(datagram)
        spent += perf_counter() - began
        linked.now += 1_000_000
        consume(linked)
    assert linked.endpoint.links, "the link closed: this kind measures nothing"
    return spent / count * 1e6, spent / size * 1e6


def consume(linked: Linked) -> None:
    """Read as an application does, so that the windows stay open."""
    for notice in linked.notices:
        if isinstance(notice, StreamData):
            taken = Consumed(linked.link, notice.stream, len(notice.data))
            linked.endpoint.handle(taken, linked.now)
    linked.did.clear()


def prices(count: int) -> None:
    print(f"{'a packet full of':30} {'us each':>10} {'us a byte':>10} {'2n / n':>8}")
    for name, kind in FRAMES.items():
        once, twice = price(kind, count), price(kind, 2 * count)
        print(f"{name:30} {twice[0]:10.1f} {twice[1]:10.3f} {twice[0] / once[0]:8.2f}", flush=True)


def main() -> None:
    """Play a part, or measure and print."""
    if sys.argv[1:2] == ["listen"]:
        trio.run(listen)
    elif sys.argv[1:2] == ["send"]:
        trio.run(send, int(sys.argv[2]))
    elif sys.argv[1:2] == ["flood"]:
        flood(int(sys.argv[2]))
    else:
        report()


def report() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.flood", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="pairs; the median is shown")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each half of a pair")
    parser.add_argument("--times", type=float, default=1.0, help="the link's own datagram rate")
    parser.add_argument("--only", default="", help="a word of the kinds to measure")
    parser.add_argument("--frames", action="store_true", help="prices of frames instead")
    parser.add_argument("--count", type=int, default=400, help="packets of one kind of frame")
    arguments = parser.parse_args()
    if arguments.frames:
        prices(arguments.count)
        return
    print(f"{'flood of':10} {'quiet MB/s':>11} {'kept':>6} {'us/flood':>9} {'us/link':>8}")
    for kind in KINDS:
        if arguments.only in kind:
            shares = measure(kind, arguments.rounds, arguments.seconds, arguments.times)
            quiet, kept, link, one = (
                median(getattr(share, name) for share in shares)
                for name in ("quiet", "kept", "link_cpu", "flood_cpu")
            )
            print(f"{kind:10} {quiet:11.1f} {kept:6.0%} {one:9.1f} {link:8.1f}", flush=True)


if __name__ == "__main__":
    main()
