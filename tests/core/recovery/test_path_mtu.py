"""Finding the size of datagrams that a path takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.instant import MINUTE, SECOND, Instant
from clawchat.core.recovery.path_mtu import (
    BASE,
    BLACK_HOLE_LOSSES,
    BLACK_HOLE_WAIT_NS,
    FLOOR,
    PROBE_EVERY_NS,
    PROBE_TRIES,
    PathMtu,
)


def search(mtu: PathMtu, path: int, now: Instant, until: Instant) -> tuple[Instant, int]:
    """Answer probes as a path of `path` bytes would; returns the time and how many there were."""
    probes = 0
    while mtu.probe_at is not None and mtu.probe_at <= until:
        now = max(now, mtu.probe_at)
        size = mtu.probe(now)
        assert size is not None
        probes += 1
        if size <= path:
            mtu.on_acked(size, now)
        else:
            mtu.on_lost(size, now)
    return now, probes


def test_the_first_datagrams_have_the_base_size() -> None:
    assert PathMtu(1452, 0).size == BASE
    assert PathMtu(1100, 0).size == 1100


def test_a_peer_that_takes_no_more_is_never_probed() -> None:
    mtu = PathMtu(BASE, 0)
    assert mtu.probe_at is None
    assert mtu.probe(10 * MINUTE) is None


def test_every_probe_that_arrives_raises_the_size_up_to_the_ceiling() -> None:
    mtu = PathMtu(1452, 0)
    _, probes = search(mtu, 65535, 0, SECOND)
    assert mtu.size == 1452
    assert probes == 3
    assert mtu.probe_at is None


def test_a_ceiling_between_the_common_sizes_is_reached() -> None:
    mtu = PathMtu(1400, 0)
    search(mtu, 65535, 0, SECOND)
    assert mtu.size == 1400


def test_loopback_reaches_its_own_size() -> None:
    mtu = PathMtu(65507, 0)
    search(mtu, 65507, 0, SECOND)
    assert mtu.size == 65507


@given(st.integers(FLOOR, 9000), st.integers(FLOOR, 65507))
def test_the_search_ends_below_what_the_path_takes(path: int, ceiling: int) -> None:
    mtu = PathMtu(ceiling, 0)
    _, probes = search(mtu, path, 0, MINUTE)
    assert mtu.size <= max(path, BASE)
    assert mtu.size <= ceiling
    assert probes <= 12


def test_one_probe_is_under_way_at_a_time() -> None:
    mtu = PathMtu(1452, 0)
    assert mtu.probe(0) == 1280
    assert mtu.probe(MINUTE) is None
    assert mtu.probe_at is None


def test_a_probe_lost_by_chance_is_tried_again() -> None:
    mtu = PathMtu(1452, 0)
    mtu.probe(0)
    mtu.on_lost(1280, 100)
    assert mtu.probe(100) is None
    assert mtu.probe(SECOND) == 1280


def test_a_size_that_failed_is_tried_again_much_later() -> None:
    mtu = PathMtu(1452, 0)
    now, _ = search(mtu, 1400, 0, MINUTE)
    assert mtu.size == 1380
    assert mtu.probe_at == now + PROBE_EVERY_NS
    search(mtu, 65535, now, now + PROBE_EVERY_NS)
    assert mtu.size == 1452


def test_the_loss_of_an_older_probe_says_nothing() -> None:
    mtu = PathMtu(1452, 0)
    mtu.on_lost(1452, 0)
    assert mtu.probe(0) == 1280


def fall(mtu: PathMtu, now: Instant) -> bool:
    """Lose full packets for a second."""
    step = SECOND // (BLACK_HOLE_LOSSES - 1)
    return [mtu.on_lost(mtu.size, now + step * n) for n in range(BLACK_HOLE_LOSSES)][-1]


def test_a_black_hole_is_left_by_going_back_to_the_base() -> None:
    mtu = PathMtu(1452, 0)
    search(mtu, 65535, 0, SECOND)
    assert fall(mtu, SECOND)
    assert mtu.size == BASE
    assert mtu.probe_at == 2 * SECOND + BLACK_HOLE_WAIT_NS
    assert fall(mtu, 3 * SECOND)
    assert mtu.size == FLOOR
    assert not fall(mtu, 5 * SECOND)


def test_the_search_begins_again_after_a_black_hole() -> None:
    mtu = PathMtu(1452, 0)
    search(mtu, 65535, 0, SECOND)
    fall(mtu, SECOND)
    search(mtu, 65535, SECOND, SECOND + 2 * BLACK_HOLE_WAIT_NS)
    assert mtu.size == 1452


def test_many_losses_at_once_are_a_full_queue_and_no_black_hole() -> None:
    mtu = PathMtu(1452, 0)
    search(mtu, 65535, 0, SECOND)
    assert not any(mtu.on_lost(1452, SECOND) for _ in range(100))
    assert mtu.size == 1452


def test_a_full_packet_that_arrives_disproves_a_black_hole() -> None:
    mtu = PathMtu(1452, 0)
    search(mtu, 65535, 0, SECOND)
    for second in range(20):
        assert not mtu.on_lost(1452, second * SECOND)
        mtu.on_acked(300, second * SECOND)  # small ones say nothing
        if second % 4 == 3:
            mtu.on_acked(1452, second * SECOND)


def test_small_packets_are_no_evidence_of_a_black_hole() -> None:
    mtu = PathMtu(1452, 0)
    assert not any(mtu.on_lost(100, second * SECOND) for second in range(20))
    assert mtu.size == BASE


def test_silence_for_several_timeouts_is_answered_by_smaller_packets() -> None:
    mtu = PathMtu(1452, 0)
    search(mtu, 65535, 0, SECOND)
    assert not mtu.timed_out(1, SECOND)
    assert mtu.timed_out(PROBE_TRIES, 2 * SECOND)
    assert mtu.size == BASE


def test_another_path_is_searched_from_the_base() -> None:
    mtu = PathMtu(1452, 0)
    search(mtu, 65535, 0, SECOND)
    mtu.path_changed(MINUTE)
    assert mtu.size == BASE
    assert mtu.probe(MINUTE) == 1280
