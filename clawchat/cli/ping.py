"""`clawchat ping`: the round trip time over the link."""

from __future__ import annotations

from typing import Annotated

import trio
from cyclopts import Parameter
from cyclopts.validators import Number

from clawchat.cli.device import the_link
from clawchat.cli.exit_codes import ExitCode
from clawchat.cli.options import Json, PeerName, StateDir
from clawchat.cli.shared_link import SharedLink
from clawchat.cli.terminal import one_line, put, put_json, say
from clawchat.cli.until_stopped import until_stopped

TIMEOUT = 5.0  # seconds for one answer


async def ping(
    *,
    count: Annotated[
        int,
        Parameter(
            name=("--count", "-c"), help="How many.", validator=Number(gte=1), show_default=True
        ),
    ] = 4,
    interval: Annotated[
        float,
        Parameter(
            name=("--interval", "-i"),
            help="Seconds between two.",
            validator=Number(gte=0),
            show_default=True,
        ),
    ] = 1.0,
    json: Json = False,
    peer: PeerName = None,
    state_dir: StateDir = None,
) -> int:
    """Ping, then sum up. Exits with 4 when nothing came back."""
    times: list[float] = []
    sent, finished = 0, False
    name = ""
    async with until_stopped(), the_link(state_dir, peer, say) as link:
        name = link.name
        await link.ask({"verb": "status"})  # dials, if need be, and says why when that fails
        for number in range(count):
            sent += 1
            rtt = await _one(link)
            if rtt is not None:
                times.append(rtt)
            if not json:
                answer = "no answer" if rtt is None else f"time={rtt:.2f} ms"
                put(f"{one_line(link.name)}: seq={number + 1} {answer}\n")
            if number + 1 < count:
                await trio.sleep(interval)
        finished = True
    if not times and not finished:
        return ExitCode.CANCELLED
    _sum_up(name, sent, times, json=json)
    return ExitCode.OK if times else ExitCode.NO_LINK


async def _one(link: SharedLink) -> float | None:
    with trio.move_on_after(TIMEOUT):
        return float((await link.ask({"verb": "ping"}))["rtt_ms"])
    return None


def _sum_up(name: str, sent: int, times: list[float], *, json: bool) -> None:
    best = min(times, default=None)
    worst = max(times, default=None)
    mean = sum(times) / len(times) if times else None
    if json:
        rounded = [round(time, 3) for time in times]
        shown = {
            key: None if value is None else round(value, 3)
            for key, value in (("min_ms", best), ("avg_ms", mean), ("max_ms", worst))
        }
        put_json({"peer": name, "sent": sent, "received": len(times), "rtt_ms": rounded, **shown})
    elif times:
        put(f"{len(times)} of {sent} came back: min/avg/max {best:.2f}/{mean:.2f}/{worst:.2f} ms\n")
    else:
        put(f"0 of {sent} came back\n")
