"""The replay window against a model that remembers everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.crypto.replay import ReplayWindow

SIZE = 40
steps = st.lists(
    st.one_of(
        st.tuples(st.integers(-60, 60), st.integers(1, 12)),
        st.tuples(st.integers(-3, 1), st.integers(1, 90)),
        st.tuples(st.just(0), st.integers(1, 5)),
    ),
    max_size=60,
)


class Model:
    """Every number ever marked, in a set."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    @property
    def largest(self) -> int:
        return max(self.seen, default=-1)

    def check(self, number: int) -> bool:
        return number > self.largest - SIZE and number not in self.seen


@given(steps)
def test_the_window_agrees_with_a_model_that_remembers_everything(
    runs: list[tuple[int, int]],
) -> None:
    window, model = ReplayWindow(SIZE), Model()
    for step, length in runs:
        first = max(0, model.largest + 1 + step)
        window.mark_run(first, first + length - 1)
        model.seen.update(range(first, first + length))
        assert window.largest == model.largest
        for number in range(max(0, model.largest - SIZE - 5), model.largest + 5):
            assert window.check(number) is model.check(number), number


@given(st.permutations(range(60)))
def test_each_number_passes_once_in_any_order_that_the_window_spans(order: list[int]) -> None:
    window = ReplayWindow(64)
    for number in order:
        assert window.check(number)
        window.mark(number)
        assert not window.check(number)


def test_before_the_first_number_the_largest_is_minus_one() -> None:
    assert ReplayWindow().largest == -1


def test_a_run_may_fill_a_gap_and_go_on() -> None:
    window = ReplayWindow()
    window.mark(0)
    window.mark(2)
    assert window.check(1)
    window.mark_run(1, 3)
    assert [window.check(number) for number in range(5)] == [False, False, False, False, True]


def test_a_number_as_old_as_the_window_of_8192_is_refused() -> None:
    window = ReplayWindow()
    window.mark(8192)
    assert not window.check(0)
    assert window.check(1)


def test_a_jump_over_the_whole_window_forgets_what_was_missing() -> None:
    window = ReplayWindow(SIZE)
    window.mark(10)
    window.mark(1 << 40)
    assert not window.check(5)
    assert window.check((1 << 40) - SIZE + 1)
    assert not window.check((1 << 40) - SIZE)


def test_a_window_in_order_stays_small() -> None:
    window = ReplayWindow()
    for first in range(0, 1 << 20, 64):
        window.mark_run(first, first + 63)
    assert window.largest == (1 << 20) - 1
    assert not window.check(window.largest)
    assert window.check(window.largest + 1)
