"""ClawChat beside aioquic on this machine's loopback: `python -m bench.loopback`.

Throughput of one stream, round trip of 64 bytes, handshakes per second, memory per idle link on
the listening side. Each end is a process of its own; the two contestants take turns, round by
round, because a machine's speed wanders; what is printed is the median of the rounds.

Rules: nothing is tuned for one side only; both get the same datagram size where it matters.
Left to others: the work itself (`bench.ours`, `bench.theirs`).
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import sleep, strftime
from typing import IO, Final

from attrs import asdict, frozen

ETHERNET: Final = 1452  # bytes of UDP payload that every Ethernet path takes, IPv6 included
JUMBO: Final = 8952
SHIPPED: Final = 0  # aioquic's own default
CONTESTANTS: Final = {"clawchat": "bench.ours", "aioquic": "bench.theirs"}
MIB: Final = 1 << 20


@frozen
class Measure:
    """One line of the table. `amount` is bytes, round trips, seconds or links."""

    name: str
    work: str
    unit: str
    datagram: dict[str, int]
    amount: dict[str, float]
    more_is_better: bool = True


def _both(value: float) -> dict[str, float]:
    return {"clawchat": value, "aioquic": value}


def measures(arguments: argparse.Namespace) -> list[Measure]:
    size = float(arguments.mib * MIB)
    # aioquic takes 20 times as long for a byte: a twentieth keeps the rounds close together.
    sizes = {"clawchat": size, "aioquic": max(size / 16, 4.0 * MIB)}
    ethernet = {"clawchat": ETHERNET, "aioquic": ETHERNET}
    default = {"clawchat": JUMBO, "aioquic": SHIPPED}
    trips, seconds = _both(arguments.trips), _both(arguments.seconds)
    return [
        Measure("throughput, 1452-byte datagrams", "throughput", "MB/s", ethernet, sizes),
        Measure("throughput, as shipped", "throughput", "MB/s", default, sizes),
        Measure("round trip of 64 bytes", "latency", "us", default, trips, False),
        Measure("handshakes per second", "handshakes", "1/s", default, seconds),
        Measure("memory per idle link", "hold", "KiB", default, _both(arguments.links), False),
    ]


@contextmanager
def listener(module: str, datagram: int) -> Iterator[tuple[int, IO[str], IO[str]]]:
    """A listening process: its port, and pipes to ask it things."""
    command = [sys.executable, "-m", module, "listen", str(datagram)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process.stdin, process.stdout
        finally:
            process.stdin.close()
            process.wait(10)


def run(module: str, measure: Measure, contestant: str) -> float:
    """One measurement, in the unit of its line."""
    datagram, amount = measure.datagram[contestant], measure.amount[contestant]
    with listener(module, datagram) as (port, orders, answers):
        command = [sys.executable, "-m", module, measure.work, str(datagram), str(port)]
        command.append(str(amount))
        if measure.work == "hold":
            return _memory(command, orders, answers, int(amount)) / 1024
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        result = json.loads(done.stdout)
    if measure.work == "throughput":
        return float(result["bytes_per_second"]) / 1e6
    if measure.work == "latency":
        return float(median(result)) * 1e6
    return float(result)


def _memory(command: list[str], orders: IO[str], answers: IO[str], links: int) -> float:
    """Bytes per link by which the listening process grows; the first links warm it up."""

    def resident() -> int:
        sleep(1.5)  # let ratchets settle and what they leave be freed
        orders.write("rss\n")
        orders.flush()
        return int(answers.readline())

    with _holding(command, links // 4):
        before = resident()
        with _holding([*command[:-1], str(links)], links, offset=links // 4):
            after = resident()
    return (after - before) / links


@contextmanager
def _holding(command: list[str], links: int, offset: int = 0) -> Iterator[None]:
    command = [*command[:-1], str(links), str(offset)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield
        process.stdin.close()
        process.wait(20)


def compare(measure: Measure, rounds: int) -> dict[str, list[float]]:
    """Adjacent pairs, so that both see the same machine."""
    values: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for _ in range(rounds):
        for name, module in CONTESTANTS.items():
            values[name].append(run(module, measure, name))
            print(f"\r{measure.name:34} {values[name][-1]:10.1f} {name}   ", end="", flush=True)
    print("\r" + " " * 64 + "\r", end="")
    return values


def line(measure: Measure, values: dict[str, list[float]]) -> str:
    ours, theirs = median(values["clawchat"]), median(values["aioquic"])
    ratio = ours / theirs if measure.more_is_better else theirs / ours
    return f"{measure.name:34} {ours:10.1f} {theirs:10.1f} {measure.unit:5} {ratio:7.1f} x"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.loopback", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds; the median is shown")
    parser.add_argument("--mib", type=int, default=256, help="MiB of a throughput run")
    parser.add_argument("--trips", type=int, default=2000, help="round trips of a latency run")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a handshake run")
    parser.add_argument("--links", type=int, default=200, help="links of a memory run")
    parser.add_argument("--only", default="", help="a word of the lines to measure")
    parser.add_argument("--json", type=Path, default=Path("bench/loopback.json"))
    return parser.parse_args()


def main() -> None:
    """Measure, print the table, write the JSON."""
    arguments = parse()
    rows = []
    print(f"{'':34} {'clawchat':>10} {'aioquic':>10}       {'ahead':>7}")
    for measure in measures(arguments):
        if arguments.only in measure.name:
            values = compare(measure, arguments.rounds)
            print(line(measure, values), flush=True)
            rows.append(asdict(measure) | {"values": values})
    about = {
        "version": 1,
        "when": strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "rounds": arguments.rounds,
        "measures": rows,
    }
    arguments.json.write_text(json.dumps(about, indent=1) + "\n")
    print(f"written to {arguments.json}")


if __name__ == "__main__":
    main()
