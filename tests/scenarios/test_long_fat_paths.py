"""One stream over a path that takes far more than a first window, with what is shipped."""

from __future__ import annotations

from clawchat.core.config import DEFAULT_LIMITS
from clawchat.core.endpoint import Endpoint
from clawchat.core.events import StreamClass
from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.core.streams.streams import Streams
from clawchat.drivers.simulator.host import Host
from clawchat.drivers.simulator.network import Conditions
from clawchat.drivers.simulator.workload import Talk
from tests.scenarios.pairs import make_pair

MEGABYTE = 1_000_000
MBIT, RTT_MS = 100, 300
IN_FLIGHT = MBIT * RTT_MS * 125  # bytes: 3.75 MB
LONG = Conditions(
    latency_ns=RTT_MS * MILLISECOND // 2, bandwidth_bps=MBIT * 1_000_000, queue_bytes=IN_FLIGHT
)


def streams_of(host: Host, talk: Talk) -> Streams:
    endpoint = host.endpoint
    assert isinstance(endpoint, Endpoint)
    return endpoint._links.find(talk.link).data_plane().streams


def test_one_stream_fills_100_mbit_over_300_ms() -> None:
    assert DEFAULT_LIMITS.max_data < 2 * IN_FLIGHT
    pair = make_pair("long and fat", conditions=LONG)
    talk, world = pair.link(), pair.world
    up = pair.caller.open(talk, StreamClass.BULK, 14 * MEGABYTE).channel
    assert world.run_until(lambda: up.received >= 7 * MEGABYTE, 10 * SECOND), up
    began, before = world.timeline.now, up.received
    assert world.run_until(lambda: up.finished, 10 * SECOND), up
    bits = (up.received - before) * 8 * SECOND / (world.timeline.now - began)
    assert bits > 0.9 * MBIT * 1_000_000
    assert streams_of(pair.listener, pair.far_end(talk)).grown > 0
    assert streams_of(pair.dialer, talk).grown == 0, "nothing came this way"


def test_a_short_path_needs_no_larger_windows() -> None:
    short = Conditions(latency_ns=10 * MILLISECOND, bandwidth_bps=20_000_000, queue_bytes=65536)
    pair = make_pair("short", conditions=short)
    talk, world = pair.link(), pair.world
    up = pair.caller.open(talk, StreamClass.BULK, 4 * MEGABYTE).channel
    assert world.run_until(lambda: up.finished, 5 * SECOND), up
    assert streams_of(pair.listener, pair.far_end(talk)).grown == 0
