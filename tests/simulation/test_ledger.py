"""The ledger notices every kind of wrong delivery."""

from __future__ import annotations

import pytest

from clawchat.drivers.simulator.ledger import BLOB_SIZE, Channel, Ledger, content, matches

LINK = bytes(32)


def test_content_is_a_function_of_key_and_offset() -> None:
    whole = content(3, 0, 1000)
    assert content(3, 400, 100) == whole[400:500]
    assert content(4, 0, 1000) != whole
    assert content(3, BLOB_SIZE, 10) == whole[:10]


def test_long_deliveries_are_compared_piece_by_piece() -> None:
    long = content(9, 5, BLOB_SIZE) + content(9, 5 + BLOB_SIZE, 100)
    assert matches(9, 5, long)
    assert not matches(9, 5, long[:-1] + bytes([long[-1] ^ 1]))


def test_a_faithful_delivery_passes_and_settles_the_debt() -> None:
    channel = Channel("x", 1)
    data = channel.write(100, end=True)
    assert channel.owing
    channel.deliver(data[:40], end=False, at=1)
    channel.deliver(data[40:], end=True, at=2)
    assert not channel.owing


@pytest.mark.parametrize(
    ("data", "end", "text"),
    [
        (content(1, 0, 9) + b"?", False, "other bytes"),
        (content(1, 0, 11), False, "more than was written"),
        (content(1, 0, 10), True, "an end that nobody wrote"),
        (content(1, 1, 5), False, "other bytes"),
    ],
)
def test_a_wrong_delivery_is_noticed(data: bytes, end: bool, text: str) -> None:
    channel = Channel("x", 1)
    channel.write(10, end=False)
    with pytest.raises(AssertionError, match=text):
        channel.deliver(data, end, at=1)


def test_an_early_end_and_bytes_after_the_end_are_noticed() -> None:
    channel = Channel("x", 1)
    data = channel.write(10, end=True)
    with pytest.raises(AssertionError, match="ended early"):
        channel.deliver(data[:5], end=True, at=1)
    channel = Channel("x", 1)
    data = channel.write(10, end=True)
    channel.deliver(data, end=True, at=1)
    with pytest.raises(AssertionError, match="after the end"):
        channel.deliver(b"", end=True, at=1)


def test_nothing_is_owed_on_a_stream_that_was_given_up() -> None:
    ledger = Ledger()
    channel = ledger.channel(LINK, 4, True)
    channel.write(10, end=True)
    assert ledger.of(LINK) == [channel]
    assert ledger.channel(LINK, 4, True) is channel
    channel.reset = True
    assert not channel.owing


def test_datagrams_must_have_been_sent_and_come_once() -> None:
    ledger = Ledger()
    with pytest.raises(AssertionError, match="nobody sent"):
        ledger.datagram_arrived(LINK, True, b"x")
    ledger.datagram_sent(LINK, True, b"x")
    ledger.datagram_arrived(LINK, True, b"x")
    with pytest.raises(AssertionError, match="twice"):
        ledger.datagram_arrived(LINK, True, b"x")
