"""When links are looked at: in time, in order, and without entries that serve nobody."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawchat.core import agenda as agenda_module
from clawchat.core.agenda import SPARE, Agenda
from clawchat.core.instant import Deadline, Instant
from clawchat.core.timers import Timer

ENTERED = st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.sampled_from(list(Timer)))
STEPS = st.one_of(
    ENTERED.map(lambda entered: ("enter", entered)),
    st.integers(0, 5).map(lambda now: ("take", now)),
    st.sampled_from("ab").map(lambda link: ("drop", link)),
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


def test_an_instant_that_was_outlived_does_not_come_back() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.enter("a", 5, Timer.ACK)
    agenda.enter("a", 3, Timer.PACING)
    assert taken(agenda, 3) == ["a"]
    agenda.enter("a", 8, Timer.KEEPALIVE)
    assert agenda.deadline == Deadline(8, "KEEPALIVE")
    assert taken(agenda, 7) == []


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


@given(st.lists(STEPS, max_size=60), st.sampled_from((-9, 0, SPARE)))
def test_every_link_is_looked_at_once_at_the_earliest_instant_it_asked_for(
    steps: list[tuple[str, object]], spare: int
) -> None:
    """However often entries out of date are cleared away; with -9, whenever a link enters."""
    agenda: Agenda[str] = Agenda()
    asked: dict[str, Deadline] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agenda_module, "SPARE", spare)
        for step in steps:
            match step:
                case ("enter", (str(link), int(at), Timer() as why)):
                    agenda.enter(link, at, why)
                    if link not in asked or at < asked[link].at:
                        asked[link] = Deadline(at, why.name)
                case ("take", int(now)):
                    looked_at = taken(agenda, now)
                    due = {link for link in asked if asked[link].at <= now}
                    assert sorted(looked_at) == sorted(due)
                    order = [asked.pop(link).at for link in looked_at]
                    assert order == sorted(order)
                case ("drop", str(link)):
                    agenda.drop(link)
                    asked.pop(link, None)
            earliest = min((due.at for due in asked.values()), default=None)
            deadline = agenda.deadline
            assert (deadline and deadline.at) == earliest
            assert deadline is None or deadline in asked.values()
