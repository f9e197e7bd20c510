"""Interop suite: transfer, multiplexing, transferloss, transfercorruption, blackhole, keyupdate,
goodput, crosstraffic.

Left out: http3 (`tests/apps` carries HTTP over streams), ecn (the core neither sets nor reads
it).
"""

from __future__ import annotations

from random import Random

import pytest
from attrs import evolve

from clawchat.core.config import Config, Entropy
from clawchat.core.endpoint import Endpoint
from clawchat.core.events import Close, RotateKeys
from clawchat.core.instant import SECOND, Instant
from clawchat.core.secret import Secret
from clawchat.core.wire.parameters import Limits
from clawchat.drivers.simulator.host import Driven, Host
from clawchat.errors import CloseCode, Drop
from tests.scenarios.interop.cubic import Cubic
from tests.scenarios.interop.suite import (
    KB,
    MB,
    MBIT,
    CorruptRate,
    DropRate,
    Gate,
    beside,
    bits_per_second,
    download,
    finish,
    link,
    one_handshake,
)
from tests.scenarios.pairs import Pair, make_pair


def build_small(host: Host, now: Instant, unix_ns: int, entropy: Entropy) -> Driven:
    """Windows that a file of 1 MB needs to be opened further."""
    limits = Limits(256 * KB, 128 * KB, 257, 1472)
    config = Config(identity=Secret(host.identity), limits=limits)
    return Endpoint(config, now=now, unix_ns=unix_ns, entropy=entropy, trace=host.traced)


def test_transfer_of_three_files_at_once_through_small_windows() -> None:
    """`transfer`: 2, 3 and 5 MB over one connection, which then closes with code 0."""
    pair = make_pair("interop transfer", conditions=link(), build=build_small)
    talk = pair.link()
    finish(pair, [download(pair, talk, size * MB) for size in (2, 3, 5)])
    one_handshake(pair)
    pair.caller.wants_link = False
    talk.host.do(Close(talk.link, CloseCode.DONE))
    pair.world.run(SECOND)
    assert [closed.code for closed in pair.answerer.closes] == [CloseCode.DONE]


def test_multiplexing_of_1999_small_files_over_one_connection() -> None:
    """`multiplexing`: 1,999 files of 32 bytes, and a first stream limit of at most 1,000."""
    pair = make_pair("interop multiplexing", conditions=link())
    talk = pair.link()
    assert Config(identity=Secret(bytes(32))).limits.max_streams <= 1000
    finish(pair, [download(pair, talk, 32) for _ in range(1999)])
    one_handshake(pair)


@pytest.mark.parametrize("model", [DropRate, CorruptRate])
def test_a_transfer_at_2_percent_both_ways(model: type[DropRate | CorruptRate]) -> None:
    """`transferloss`, `transfercorruption`: 2 MB, 2 %, at most 3 in a row."""
    pair = make_pair(f"interop transfer {model.__name__}", conditions=link())
    for host in (pair.listener, pair.dialer):
        Gate(host, model(2, 3, Random(f"interop {host.name}")))
    talk = pair.link()
    file = download(pair, talk, 2 * MB)
    finish(pair, [file])
    one_handshake(pair)
    assert bits_per_second(file) > 0.8 * MBIT * 1_000_000


def test_a_blackhole_of_two_seconds_is_survived() -> None:
    """`blackhole`: 10 MB, nothing passes from 5 s to 7 s, exactly one connection."""
    pair = make_pair("interop blackhole", conditions=link())
    pair.world.timeline.at(5 * SECOND, lambda: pair.shape(evolve(link(), cut=True)))
    pair.world.timeline.at(7 * SECOND, lambda: pair.shape(link()))
    talk = pair.link()
    file = download(pair, talk, 10 * MB)
    finish(pair, [file])
    one_handshake(pair)
    assert pair.world.timeline.now > 7 * SECOND
    assert pair.world.timeline.now < 13 * SECOND  # nine for the file, two without a network


def test_keyupdate_within_the_first_megabyte_loses_nothing() -> None:
    """`keyupdate`: 3 MB; keys change during the first, and both sides use the new ones."""
    pair = make_pair("interop keyupdate", conditions=link())
    talk = pair.link()
    pair.rest()  # the ratchet that follows each handshake
    epochs = len(pair.caller.rotated)
    file = download(pair, talk, 3 * MB)
    pair.world.run_until(lambda: file.received > MB // 2, 10 * SECOND)
    talk.host.do(RotateKeys(talk.link))
    pair.world.run_until(lambda: file.received > MB, 10 * SECOND)
    assert len(pair.caller.rotated) == epochs + 1
    assert len(pair.answerer.rotated) == epochs + 1
    assert not file.finished
    finish(pair, [file])
    one_handshake(pair)
    for host in (pair.listener, pair.dialer):
        assert host.endpoint is not None
        assert host.endpoint.drops[Drop.SEAL] == host.endpoint.drops[Drop.STRANGER] == 0


def test_goodput_fills_the_bottleneck() -> None:
    """`goodput`: 10 MB over 10 Mbit/s. The suite only measures; we promise 93 %."""
    pair = make_pair("interop goodput", conditions=link())
    talk = pair.link()
    file = download(pair, talk, 10 * MB)
    finish(pair, [file])
    one_handshake(pair)
    assert bits_per_second(file) > 0.93 * MBIT * 1_000_000


def run_cubic(pair: Pair) -> None:
    """Let the listener of this pair send as TCP does."""
    talk = pair.link()
    far = pair.far_end(talk)
    endpoint = pair.listener.endpoint
    assert isinstance(endpoint, Endpoint)
    transport = endpoint._links.find(far.link).transport
    assert transport is not None
    transport.recovery.congestion = Cubic(transport.mtu.size)


@pytest.mark.slow
def test_crosstraffic_leaves_a_share_to_both() -> None:
    """`crosstraffic`: 25 MB within 180 s while TCP (cubic) keeps sending over the same link.

    The suite only measures. TCP is played by a second link whose sender runs CUBIC.
    """
    pair = make_pair("interop crosstraffic", conditions=link())
    talk = pair.link()
    other = beside(pair)
    run_cubic(other)
    traffic = download(other, other.link(), 100 * MB)
    pair.world.run(5 * SECOND)  # it has the link to itself
    alone = traffic.received * 8 / 5
    file = download(pair, talk, 25 * MB)
    before, began = traffic.received, pair.world.timeline.now
    finish(pair, [file], 180 * SECOND)
    took = (pair.world.timeline.now - began) / SECOND
    ours, theirs = 25 * MB * 8 / took, (traffic.received - before) * 8 / took
    assert alone > 0.8 * MBIT * 1_000_000
    assert ours + theirs > 0.9 * MBIT * 1_000_000
    assert 0.2 < ours / (ours + theirs) < 0.8, (ours, theirs)
