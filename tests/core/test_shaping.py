"""Shaped streams: what an observer sees of a reply, and what its reader is spared.

PROTOCOL.md "Shaped streams". All tests run two real endpoints in virtual time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from attrs import evolve, frozen

from clawchat.core.actions import StreamData, StreamReset, StreamStopped
from clawchat.core.config import DEFAULT_LIMITS
from clawchat.core.events import (
    Close,
    Consumed,
    ResetStream,
    StopStream,
    StreamClass,
    Write,
    stream_id,
)
from clawchat.core.instant import MILLISECOND, SECOND, Instant
from clawchat.core.recovery.bbr import Bbr
from clawchat.core.streams.beat import BEAT, CELL, HOLD, LEVEL_MAX, STEP_MIN, Beat
from clawchat.core.streams.streams import Streams
from clawchat.core.timers import Timer
from clawchat.errors import CloseCode, UnknownLink
from tests.core.pair import (
    LATENCY,
    LISTENER,
    Network,
    Parcel,
    Side,
    calm,
    config_of,
    dead,
    linked_pair,
)

ASK = stream_id(1, StreamClass.INTERACTIVE, dialer=True)
OTHER = stream_id(2, StreamClass.INTERACTIVE, dialer=True)
BULK = stream_id(3, StreamClass.BULK, dialer=True)
SMALL = evolve(DEFAULT_LIMITS, max_datagram=1200)  # no path MTU discovery in the background


@frozen
class Seen:
    """A datagram as an observer sees it. Times count from the first that he saw."""

    at: Instant
    to_listener: bool
    size: int


class Observed:
    """A pair whose datagrams are noted, with a question asked and nothing else under way."""

    def __init__(self, network: Network = calm, **limits: Any) -> None:
        config = {"limits": evolve(SMALL, **limits)}
        self.pair = linked_pair(
            listener=config_of("listener", **config), dialer=config_of("dialer", **config)
        )
        self.pair.do(self.pair.dialer, Write(1, ASK, b"question", end=True))
        self.pair.run(5 * SECOND)
        self.began = self.pair.now
        self.seen: list[Seen] = []
        self.network = network
        self.pair.network = self._look

    def _look(self, parcel: Parcel) -> tuple[Instant, ...]:
        at = self.pair.now - self.began
        self.seen.append(Seen(at, parcel.to == LISTENER, len(parcel.data)))
        return self.network(parcel)

    @property
    def listener(self) -> Side:
        return self.pair.listener

    def say(self, data: bytes, stream: int = ASK, *, end: bool = False) -> None:
        """The listener writes, shaped."""
        self.pair.do(self.listener, Write(-1, stream, data, end, shaped=True))

    def reply(self, tokens: list[tuple[int, bytes]]) -> None:
        """Write tokens after so many milliseconds each, then the end."""
        for wait, token in tokens:
            self.pair.run(wait * MILLISECOND)
            self.say(token)
        self.say(b"", end=True)

    @property
    def replied(self) -> bytes:
        return self.pair.dialer.received(ASK)

    @property
    def from_listener(self) -> list[Seen]:
        return [seen for seen in self.seen if not seen.to_listener]

    @property
    def cells(self) -> list[Seen]:
        return [seen for seen in self.from_listener if seen.size == CELL]


def tokens_of(seed: int, last_ms: int = 3000) -> Iterator[tuple[int, bytes]]:
    """A reply of some words at some times, which is over after `last_ms`."""
    dice, left = Random(seed), last_ms
    while left > 0:
        wait = min(left, dice.choice((1, 10, 40, 150)))
        left -= wait
        yield wait, dice.randbytes(dice.randint(20, 90))


# --- what an observer sees --------------------------------------------------------------------


def test_a_reply_leaves_in_cells_of_one_size_on_the_beat() -> None:
    seen = Observed()
    tokens = list(tokens_of(1))
    seen.reply(tokens)
    seen.pair.run(10 * SECOND)
    assert seen.replied == b"".join(token for _, token in tokens)
    assert {cell.size for cell in seen.from_listener} == {CELL}
    times = [cell.at for cell in seen.cells]
    assert {after - before for before, after in pairwise(times)} == {BEAT}


def every_ninth() -> Network:
    """Loses every ninth datagram, in whatever direction."""
    count = 0

    def network(_parcel: Parcel) -> tuple[Instant, ...]:
        nonlocal count
        count += 1
        return () if count % 9 == 0 else (LATENCY,)

    return network


@pytest.mark.parametrize("network", [lambda: calm, every_ninth])
def test_other_words_at_other_times_look_the_same_on_the_wire(
    network: Callable[[], Network],
) -> None:
    """Both directions, the acknowledgements included, and with losses repaired."""
    looks = []
    for seed in range(4):
        seen = Observed(network())
        seen.say(b"first")
        seen.reply(list(tokens_of(seed)))
        seen.pair.run(6 * SECOND)
        assert seen.replied == b"first" + b"".join(token for _, token in tokens_of(seed))
        looks.append([one for one in seen.seen if one.at < 6 * SECOND])
    assert looks[0]
    assert all(look == looks[0] for look in looks)


def test_a_reply_of_any_length_ends_on_a_step_of_the_ladder() -> None:
    counts = set()
    for seconds in (0, 1, 2, 3, 5, 8):
        seen = Observed()
        seen.reply([(50, b"word")] * (20 * seconds))
        seen.pair.run(20 * SECOND)
        counts.add(len(seen.cells))
    assert counts <= {STEP_MIN << doubling for doubling in range(8)}
    assert len(counts) == 5


def test_after_a_reply_nothing_wakes_anybody() -> None:
    seen = Observed()
    seen.reply([(30, b"a word")] * 10)
    seen.pair.run(4 * SECOND)
    seen.seen.clear()
    seen.pair.run(5 * SECOND)
    assert seen.seen == []
    assert seen.listener.transport().next_timer() is None


def test_a_stream_that_is_held_open_in_silence_costs_nothing() -> None:
    seen = Observed()
    seen.say(b"I shall say more")
    seen.pair.run(HOLD + 2 * SECOND)
    assert len(seen.cells) == 8 * STEP_MIN
    seen.seen.clear()
    seen.pair.run(10 * SECOND)
    assert seen.cells == []
    seen.say(b", now", end=True)
    seen.pair.run(SECOND)
    assert seen.replied == b"I shall say more, now"
    assert len(seen.cells) == STEP_MIN


def test_two_replies_at_once_share_the_cells() -> None:
    seen = Observed()
    seen.pair.do(seen.pair.dialer, Write(1, OTHER, b"question", end=True))
    seen.pair.run(SECOND)
    seen.seen.clear()
    for number in range(20):
        seen.say(b"one ", ASK, end=number == 19)
        seen.say(b"two ", OTHER, end=number == 19)
        seen.pair.run(20 * MILLISECOND)
    seen.pair.run(SECOND)
    assert seen.replied == b"one " * 20
    assert seen.pair.dialer.received(OTHER) == b"two " * 20
    assert len(seen.cells) == STEP_MIN
    assert {one.size for one in seen.from_listener} == {CELL}


def test_what_is_not_shaped_leaves_at_once_and_not_in_cells() -> None:
    seen = Observed()
    seen.say(b"a word")
    seen.pair.run(120 * MILLISECOND)
    seen.seen.clear()
    mine = stream_id(1, StreamClass.BULK, dialer=False)
    seen.pair.do(seen.listener, Write(-1, mine, bytes(300), end=True))
    assert [(one.at, one.size) for one in seen.seen] == [(120 * MILLISECOND, 300 + 29 + 6)]


# --- what a reader notices --------------------------------------------------------------------


def test_a_token_is_late_by_a_beat_at_most() -> None:
    seen = Observed()
    said: list[tuple[Instant, int]] = []  # when so many bytes had been written
    total = 0
    for wait, token in tokens_of(5, last_ms=5000):
        seen.pair.run(wait * MILLISECOND)
        seen.say(token)
        total += len(token)
        said.append((seen.pair.now, total))
    seen.pair.run(SECOND)
    arrived = arrivals(seen.pair.dialer, ASK)
    for when, size in said:
        came = next(at for at, received in arrived if received >= size)
        assert came - when <= BEAT + LATENCY


def arrivals(side: Side, stream: int) -> list[tuple[Instant, int]]:
    """When how many bytes in all had come."""
    found, total = [], 0
    for at, action in side.did:
        notice = getattr(action, "notice", None)
        if isinstance(notice, StreamData) and notice.stream == stream:
            total += len(notice.data)
            found.append((at, total))
    return found


def test_much_at_once_does_not_crawl() -> None:
    """A pasted page, a conversation's history: the level rises, and falls again."""
    for size in (3_000, 9_000, 40_000, 300_000):
        seen = Observed()
        before = seen.pair.now
        seen.say(bytes(size))
        seen.pair.run(7 * SECOND)  # a second after the last cell the dialer asks for a sign of life
        came = arrivals(seen.pair.dialer, ASK)[-1]
        assert came[1] == size
        assert came[0] - before < 1.5 * SECOND
        assert {one.size for one in seen.from_listener} == {CELL}
        last = [one.at for one in seen.cells][-8:]
        assert {after - first for first, after in pairwise(last)} <= {0, BEAT}


def test_the_level_tells_no_more_than_the_size_to_a_factor_of_two() -> None:
    def first_beat(size: int) -> int:
        seen = Observed()
        seen.say(bytes(size), end=True)
        seen.pair.run(3 * SECOND)
        return len([cell for cell in seen.cells if cell.at == 0])

    assert first_beat(10_000) == first_beat(17_000) == 2
    assert first_beat(20_000) == first_beat(34_000) == 4


# --- repairs, ends, limits --------------------------------------------------------------------


def test_what_was_lost_is_repaired_in_cells() -> None:
    dice = Random(3)
    seen = Observed(lambda _parcel: () if dice.random() < 0.25 else (LATENCY,))
    tokens = list(tokens_of(2, last_ms=5000))
    seen.reply(tokens)
    seen.pair.run(20 * SECOND)
    assert seen.replied == b"".join(token for _, token in tokens)
    assert {one.size for one in seen.from_listener if one.size > 100} == {CELL}
    last = max(cell.at for cell in seen.cells)
    pings = [one for one in seen.from_listener if one.size == 30 and one.at < last]
    assert pings == [], "a probe is a cell as well; what is small is an acknowledgement"


def test_a_reset_that_the_peer_has_is_not_said_again_outside_cells() -> None:
    """Its copy was taken for lost after the other one had been acknowledged."""
    streams = Streams(True, SMALL, SMALL)
    streams.write(ASK, b"a word", shaped=True)
    streams.reset(ASK, 7)
    ((_, first),) = streams.fill_cell(CELL)
    streams.lost(first)
    ((_, copy),) = streams.fill_cell(CELL)
    streams.acked(first)
    streams.lost(copy)
    assert not streams.control_due
    assert not streams.waiting_for_cells()


def test_an_outage_stops_the_beat_until_the_peer_is_back() -> None:
    seen = Observed()
    seen.say(b"before ")
    seen.pair.run(200 * MILLISECOND)
    seen.network = dead
    seen.pair.run(5 * SECOND)
    seen.say(b"meanwhile ")
    seen.seen.clear()
    seen.pair.run(5 * SECOND)
    assert 0 < len(seen.cells) <= 8  # the probes of probe timeouts, and these are cells as well
    assert seen.listener.transport().cells.next_timer() is None
    seen.network = calm
    seen.pair.run(4 * SECOND)
    seen.say(b"after", end=True)
    seen.pair.run(4 * SECOND)
    assert seen.replied == b"before meanwhile after"


def test_cells_wait_for_the_congestion_window() -> None:
    seen = Observed(dead)
    transport = seen.listener.transport()
    congestion = transport.recovery.congestion
    assert isinstance(congestion, Bbr)
    congestion.window = 3 * 1200
    seen.say(bytes(100_000))
    for _ in range(100):
        seen.pair.run(10 * MILLISECOND)
        probes = 1200 * 2 * 10
        assert transport.recovery.in_flight <= 3 * 1200 + probes
    assert transport.cells.beat.owed
    assert transport.cells.next_timer() is None


def test_cells_that_the_pacer_holds_leave_when_it_lets_them() -> None:
    seen = Observed()
    seen.say(bytes(250_000))
    transport = seen.listener.transport()
    assert transport.cells.beat.owed
    assert transport.cells.next_timer() == (transport.recovery.room_at, Timer.PACING)
    seen.pair.run(3 * SECOND)
    assert len(seen.replied) == 250_000


def test_an_address_that_is_not_proved_gets_no_more_cells_than_it_may() -> None:
    seen = Observed()
    transport = seen.listener.transport()
    way = transport.paths.active
    way.validated, way.received, way.sent = False, 500, 0
    seen.network = dead
    seen.say(b"hello")
    seen.pair.run(SECOND)
    assert sum(one.size for one in seen.from_listener) <= 3 * 500


def test_a_reader_that_does_not_read_stops_the_words_and_then_the_cells() -> None:
    seen = Observed(max_stream=2000)
    seen.pair.dialer.reads = False
    seen.say(bytes(5000))
    seen.pair.run(HOLD + 3 * SECOND)
    assert len(seen.replied) == 2000
    seen.seen.clear()
    seen.pair.run(2 * SECOND)
    assert seen.cells == []
    seen.pair.dialer.reads = True
    seen.pair.do(seen.pair.dialer, Consumed(1, ASK, 2000))
    seen.pair.run(2 * SECOND)
    assert len(seen.replied) == 5000


def test_a_full_window_of_the_link_only_delays() -> None:
    seen = Observed(max_data=3000)
    seen.pair.dialer.reads = False
    seen.say(bytes(5000), end=True)
    seen.pair.run(2 * SECOND)
    assert len(seen.replied) < 5000
    seen.pair.dialer.reads = True
    seen.pair.do(seen.pair.dialer, Consumed(1, ASK, len(seen.replied)))
    seen.pair.run(2 * SECOND)
    assert len(seen.replied) == 5000


def test_a_reply_that_is_given_up_ends_like_any_other() -> None:
    """The RESET is in a cell, is repeated if it is lost, and the cells go on to a step."""
    for lost in (False, True):
        seen = Observed()
        seen.say(b"half a w")
        seen.pair.run(320 * MILLISECOND)
        seen.network = dead if lost else calm
        seen.pair.do(seen.listener, ResetStream(-1, ASK, 7))
        seen.pair.run(60 * MILLISECOND)
        seen.network = calm
        seen.pair.run(3 * SECOND)
        assert seen.pair.dialer.all(StreamReset) == [StreamReset(ASK, 7)]
        assert {one.size for one in seen.from_listener} == {CELL}
        assert len(seen.cells) == STEP_MIN


def test_a_reader_that_stops_a_reply_ends_it() -> None:
    seen = Observed()
    seen.say(bytes(30_000))
    seen.pair.run(120 * MILLISECOND)
    seen.pair.do(seen.pair.dialer, StopStream(1, ASK, 5))
    seen.pair.run(4 * SECOND)
    assert seen.listener.all(StreamStopped) == [StreamStopped(ASK, 5)]
    assert {one.size for one in seen.from_listener} == {CELL}
    assert seen.listener.transport().cells.beat.at is None


def test_nothing_is_left_behind_when_a_finished_reply_is_followed_by_a_close() -> None:
    seen = Observed()
    seen.say(bytes(2000), end=True)
    seen.pair.run(500 * MILLISECOND)
    seen.pair.do(seen.listener, Close(-1))
    seen.pair.run(SECOND)
    assert len(seen.replied) == 2000
    assert [closed.code for closed in seen.pair.dialer.closed] == [CloseCode.DONE]
    with pytest.raises(UnknownLink):
        seen.say(b"more")


def test_a_stream_can_be_shaped_while_words_wait_in_it() -> None:
    seen = Observed(dead)
    seen.pair.do(seen.listener, Write(-1, ASK, bytes(200_000)))  # more than the window takes
    seen.say(b"tail", end=True)
    seen.network = calm
    seen.pair.run(8 * SECOND)
    assert seen.replied == bytes(200_000) + b"tail"


def test_a_burst_goes_on_through_a_change_of_keys() -> None:
    seen = Observed()
    for number in range(60):
        seen.say(b"word ")
        if number == 20:
            seen.listener.link().rotate_keys(seen.pair.now)
            seen.pair.flush(seen.listener)
        seen.pair.run(30 * MILLISECOND)
    seen.pair.run(SECOND)
    assert seen.replied == b"word " * 60
    assert seen.listener.transport().epochs.current.epoch == 2
    times = [cell.at for cell in seen.cells]
    assert {after - before for before, after in pairwise(times)} == {BEAT}


def test_what_is_not_shaped_never_meets_the_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """With shaping off the core does what it did before there was any."""

    def never(*_arguments: Any, **_named: Any) -> None:
        raise AssertionError("a beat without a shaped stream")

    for name in ("begin", "strike", "sent"):
        monkeypatch.setattr(Beat, name, never)
    dice = Random(1)
    seen = Observed(lambda _parcel: () if dice.random() < 0.1 else (LATENCY,))
    seen.pair.do(seen.pair.dialer, Write(1, BULK, bytes(300_000), end=True))
    seen.pair.do(seen.listener, Write(-1, ASK, b"word " * 100, end=True))
    seen.pair.run(20 * SECOND)
    assert seen.pair.listener.received(BULK) == bytes(300_000)
    assert seen.replied == b"word " * 100


def test_the_dialers_words_are_shaped_likewise() -> None:
    seen = Observed()
    seen.pair.do(seen.pair.dialer, Write(1, OTHER, b"a typed line", end=True, shaped=True))
    seen.pair.run(2 * SECOND)
    mine = [one for one in seen.seen if one.to_listener]
    assert [one.size for one in mine[:STEP_MIN]] == [CELL] * STEP_MIN
    assert all(one.size < CELL for one in mine[STEP_MIN:]), "the dialer asks for what it awaits"
    assert seen.listener.received(OTHER) == b"a typed line"


def test_a_beat_never_sends_more_than_the_highest_level() -> None:
    seen = Observed()
    seen.say(bytes(900_000), end=True)
    seen.pair.run(4 * SECOND)
    assert len(seen.replied) == 900_000
    beats: dict[int, int] = {}
    for cell in seen.cells:
        beats[cell.at // BEAT] = beats.get(cell.at // BEAT, 0) + 1
    assert max(beats.values()) <= LEVEL_MAX
