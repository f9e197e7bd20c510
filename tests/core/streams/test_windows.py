"""Flow control windows."""

from __future__ import annotations

import pytest

from clawchat.core.streams.windows import ReceiveWindow
from clawchat.errors import CloseCode, Violation


def test_a_window_takes_what_it_allows_and_not_a_byte_more() -> None:
    window = ReceiveWindow(100)
    window.receive(100)
    with pytest.raises(Violation) as caught:
        window.receive(1)
    assert caught.value.code is CloseCode.FLOW_CONTROL
    assert window.received == 100


def test_a_window_is_worth_opening_when_half_of_it_was_consumed() -> None:
    window = ReceiveWindow(100)
    window.receive(80)
    assert not window.consume(49)
    assert window.consume(1)
    assert window.open() == 150
    assert not window.consume(30)
