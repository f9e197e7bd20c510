"""When links are looked at: in time, in order, and without entries that serve nobody."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawchat.core import agenda as agenda_module
from clawchat.core.agenda import SPARE, Agenda
from clawchat.core.instant import Deadline, Instant
from clawchat.core.timers import Timer

ENTERED = st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.sampled_from(list(Timer)))
STEPS = st.one_of(
    ENTERED.map(lambda entered: ("enter", entered)),
    st.integers(0, 5).map(lambda now: ("take", now)),
    st.sampled_from("abc").map(lambda link: ("drop", link)),
)


def taken(agenda: Agenda[str], now: Instant) -> list[str]:
    """All that are due."""
    found = []
    while (link := agenda.take(now)) is not None:
        found.append(link)
    return found


def test_nobody_is_due_on_an_empty_agenda() -> None:
    agenda: Agenda[str] = Agenda()
    assert agenda.deadline is None
    assert agenda.take(10) is None


def test_who_is_due_first_comes_first_and_no_earlier() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.enter("late", 9, Timer.PROBE)
    agenda.enter("early", 3, Timer.ACK)
    assert agenda.deadline == Deadline(3, "ACK")
    assert taken(agenda, 2) == []
    assert taken(agenda, 3) == ["early"]
    assert agenda.deadline == Deadline(9, "PROBE")


def test_of_those_due_together_the_first_to_enter_comes_first() -> None:
    agenda: Agenda[str] = Agenda()
    for link in "badc":
        agenda.enter(link, 5, Timer.ACK)
    assert taken(agenda, 5) == list("badc")


def test_a_link_that_asks_again_is_looked_at_at_the_earlier_instant_and_once() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.enter("a", 5, Timer.KEEPALIVE)
    agenda.enter("a", 7, Timer.ACK)
    assert agenda.deadline == Deadline(5, "KEEPALIVE")
    agenda.enter("a", 3, Timer.RECOVERY)
    assert agenda.deadline == Deadline(3, "RECOVERY")
    assert taken(agenda, 9) == ["a"]
    assert agenda.deadline is None


def test_a_link_that_was_looked_at_enters_again() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.enter("a", 5, Timer.ACK)
    assert taken(agenda, 5) == ["a"]
    agenda.enter("a", 8, Timer.PACING)
    assert agenda.deadline == Deadline(8, "PACING")


def test_a_link_that_was_dropped_is_not_looked_at() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.enter("a", 5, Timer.ACK)
    agenda.enter("b", 6, Timer.ACK)
    agenda.drop("a")
    agenda.drop("never seen")
    assert agenda.deadline == Deadline(6, "ACK")
    assert taken(agenda, 9) == ["b"]


def test_a_link_that_is_always_due_sooner_leaves_few_entries_behind() -> None:
    agenda: Agenda[str] = Agenda()
    for at in range(10_000, 0, -1):
        agenda.enter("a", at, Timer.ACK)
        assert len(agenda) <= SPARE + 2
    assert agenda.deadline == Deadline(1, "ACK")


@given(st.lists(STEPS, max_size=60))
def test_nobody_can_tell_whether_it_was_cleared(steps: list[tuple[str, object]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        told = []
        for spare in (-9, 1000):  # cleared with every entry, and never
            patch.setattr(agenda_module, "SPARE", spare)
            told.append([did(agenda, step) for agenda in [Agenda[str]()] for step in steps])
    assert told[0] == told[1]


def did(agenda: Agenda[str], step: tuple[str, object]) -> object:
    """What there is to be seen of a step."""
    match step:
        case ("enter", (str(link), int(at), Timer() as why)):
            agenda.enter(link, at, why)
        case ("take", int(now)):
            return taken(agenda, now), agenda.deadline
        case ("drop", str(link)):
            agenda.drop(link)
    return agenda.deadline
