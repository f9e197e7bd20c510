"""Whose turn it is."""

from __future__ import annotations

from collections import Counter

from clawchat.core.events import CONTROL_STREAM
from clawchat.core.streams.priorities import BULK_SHARE, Priorities

CHAT, OTHER_CHAT = 4, 8  # class bit 0
BULK, OTHER_BULK = 6, 10  # class bit 2


def turns(priorities: Priorities, count: int) -> list[int]:
    """Who sends, one packet a turn."""
    order = []
    for _ in range(count):
        stream = priorities.pick()
        assert stream is not None
        assert priorities.allowed(stream, 1) == 1
        priorities.served(stream, 1)
        order.append(stream)
    return order


def test_nobody_waits_in_an_empty_queue() -> None:
    assert Priorities().pick() is None


def test_control_goes_before_interactive_before_bulk() -> None:
    priorities = Priorities()
    for stream in (BULK, CHAT, CONTROL_STREAM):
        priorities.add(stream)
    assert priorities.pick() == CONTROL_STREAM
    priorities.remove(CONTROL_STREAM)
    assert priorities.pick() == CHAT
    priorities.remove(CHAT)
    assert priorities.pick() == BULK


def test_streams_of_a_class_take_turns() -> None:
    priorities = Priorities()
    priorities.add(CHAT)
    priorities.add(OTHER_CHAT)
    assert turns(priorities, 4) == [CHAT, OTHER_CHAT, CHAT, OTHER_CHAT]


def test_waiting_bulk_gets_one_packet_in_sixteen() -> None:
    priorities = Priorities()
    for stream in (CHAT, BULK, OTHER_BULK):
        priorities.add(stream)
    count = Counter(turns(priorities, 10 * BULK_SHARE))
    assert count == {CHAT: 10 * (BULK_SHARE - 1), BULK: 5, OTHER_BULK: 5}


def test_a_long_run_stops_in_time_for_waiting_bulk() -> None:
    priorities = Priorities()
    priorities.add(CHAT)
    assert priorities.allowed(CHAT, 64) == 64
    priorities.add(BULK)
    assert priorities.allowed(CHAT, 64) == BULK_SHARE - 1
    priorities.served(CHAT, BULK_SHARE - 1)
    assert priorities.pick() == BULK
    assert priorities.allowed(BULK, 64) == 1
    priorities.served(BULK, 1)
    assert priorities.pick() == CHAT


def test_bulk_alone_may_use_everything() -> None:
    priorities = Priorities()
    priorities.add(BULK)
    assert priorities.allowed(BULK, 64) == 64


def test_packets_sent_while_no_bulk_waited_are_not_held_against_anyone() -> None:
    priorities = Priorities()
    priorities.add(CHAT)
    turns(priorities, 100)
    priorities.add(BULK)
    assert turns(priorities, BULK_SHARE) == [CHAT] * (BULK_SHARE - 1) + [BULK]
