"""A phase table refuses to exist when its rows contradict each other, and runs as it reads."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

import pytest
from attrs import define, field, frozen

from clawchat.core.table import (
    Fired,
    Origin,
    Row,
    Signal,
    Table,
    UnexpectedEvent,
    problems,
)
from clawchat.errors import LocalError


class Light(Enum):
    RED = auto()
    GREEN = auto()
    DARK = auto()


@frozen
class Pressed(Signal):
    origin = Origin.LOCAL


@frozen
class Waved(Signal):
    origin = Origin.PEER


@frozen
class Elapsed(Signal):
    origin = Origin.TIMER


@define
class Lamp:
    phase: Light = Light.RED
    broken: bool = False
    wet: bool = False
    log: list[str] = field(factory=list)


def is_broken(lamp: Lamp, _event: Signal) -> bool:
    return lamp.broken


def is_wet(lamp: Lamp, _event: Signal) -> bool:
    return lamp.wet


def note(lamp: Lamp, event: Signal) -> None:
    lamp.log.append(f"{type(event).__name__} in {lamp.phase.name}")


def burst(_lamp: Lamp, _event: Signal) -> None:
    raise RuntimeError("an effect that fails")


R, G, D = Light.RED, Light.GREEN, Light.DARK
PRESS = Row[Lamp](R, Pressed, G, do=(note,), unless=(is_broken,))
BURN = Row[Lamp](R, Pressed, D, do=(note,), when=(is_broken,))
BACK = Row[Lamp](G, Elapsed, R, do=(note,))
IGNORES: Mapping[tuple[Enum, type[Signal]], str] = {(G, Waved): "it is green already"}


def table(*rows: Row[Lamp], final: frozenset[Enum] = frozenset({D}), **more: Any) -> Table[Lamp]:
    return Table(name="lamp", phases=Light, initial=R, final=final, rows=rows, **more)


LAMP = table(PRESS, BURN, BACK, ignores=IGNORES)


# --- running ----------------------------------------------------------------------------------


def test_a_row_does_its_effects_in_the_phase_it_leaves_and_then_changes_the_phase() -> None:
    lamp = Lamp()
    assert LAMP.fire(lamp, Pressed(1)) is Fired.TAKEN
    assert lamp.phase is G
    assert lamp.log == ["Pressed in RED"]


def test_guards_choose_between_the_rows_of_one_cell() -> None:
    lamp = Lamp(broken=True)
    assert LAMP.fire(lamp, Pressed(1)) is Fired.TAKEN
    assert lamp.phase is D


def test_each_taken_row_is_traced_with_its_source_and_destination() -> None:
    seen: list[tuple[str, Enum, str, Enum]] = []
    lamp = Lamp()
    LAMP.fire(lamp, Pressed(1), lambda *taken: seen.append(taken))
    LAMP.fire(lamp, Waved(1), lambda *taken: seen.append(taken))
    LAMP.fire(lamp, Elapsed(1), lambda *taken: seen.append(taken))
    assert seen == [("lamp", R, "Pressed", G), ("lamp", G, "Elapsed", R)]


def test_an_effect_that_raises_leaves_the_phase_alone() -> None:
    failing = table(Row(R, Pressed, G, do=(note, burst)), Row(G, Elapsed, D), Row(G, Pressed, R))
    lamp, seen = Lamp(), list[object]()
    with pytest.raises(RuntimeError):
        failing.fire(lamp, Pressed(1), lambda *taken: seen.append(taken))
    assert lamp.phase is R
    assert not seen


def test_an_ignored_event_changes_nothing() -> None:
    lamp = Lamp(phase=G)
    assert LAMP.fire(lamp, Waved(1)) is Fired.IGNORED
    assert lamp == Lamp(phase=G)


def test_an_unexpected_event_of_the_application_is_its_error() -> None:
    lamp = Lamp(phase=G)
    with pytest.raises(UnexpectedEvent, match="lamp: Pressed in phase GREEN") as caught:
        LAMP.fire(lamp, Pressed(1))
    assert isinstance(caught.value, LocalError)
    assert lamp == Lamp(phase=G)


def test_an_unexpected_event_of_the_peer_is_reported_and_changes_nothing() -> None:
    lamp = Lamp(phase=R)
    assert LAMP.fire(lamp, Waved(1)) is Fired.UNEXPECTED
    assert lamp == Lamp(phase=R)


def test_an_unexpected_timer_is_a_bug_of_ours() -> None:
    with pytest.raises(AssertionError, match="Elapsed"):
        LAMP.fire(Lamp(phase=R), Elapsed(1))


def test_two_equal_models_run_by_themselves() -> None:
    first, second = Lamp(), Lamp()
    LAMP.fire(first, Pressed(1))
    assert (first.phase, second.phase) == (G, R)


def test_a_table_tells_its_events_in_the_order_in_which_it_mentions_them() -> None:
    assert LAMP.events == (Pressed, Elapsed, Waved)


# --- being sound ------------------------------------------------------------------------------


def refusal(*rows: Row[Lamp], **more: Any) -> str:
    """What a table with these rows says when it refuses to exist."""
    with pytest.raises(ValueError, match=r"^table lamp: ") as caught:
        table(*rows, **more)
    return str(caught.value)


def test_a_sound_table_has_no_problems() -> None:
    assert problems(LAMP) == []


def test_two_rows_for_one_cell_without_guards_are_refused() -> None:
    text = refusal(PRESS, BURN, BACK, Row(G, Elapsed, D))
    assert "GREEN x Elapsed: 2 rows for {}" in text


def test_guards_that_overlap_are_refused_with_the_case_in_which_they_do() -> None:
    text = refusal(Row(R, Pressed, G, when=(is_broken,)), Row(R, Pressed, D, when=(is_wet,)), BACK)
    assert "RED x Pressed: 0 rows for {'is_broken': False, 'is_wet': False}" in text
    text = refusal(
        Row(R, Pressed, G, unless=(is_broken,)), Row(R, Pressed, D, unless=(is_wet,)), BACK
    )
    assert "RED x Pressed: 2 rows for {'is_broken': False, 'is_wet': False}" in text


def test_a_case_that_no_guard_covers_is_refused() -> None:
    text = refusal(BURN, Row(R, Waved, G), BACK)
    assert "RED x Pressed: 0 rows for {'is_broken': False}" in text


def test_a_cell_that_is_a_row_and_ignored_is_refused() -> None:
    text = refusal(PRESS, BURN, BACK, ignores={(R, Pressed): "never mind"})
    assert "RED x Pressed is both a row and ignored" in text


def test_a_phase_that_cannot_be_reached_is_refused() -> None:
    assert "DARK cannot be reached" in refusal(Row(R, Pressed, G), BACK)


def test_a_phase_reached_only_from_an_unreachable_one_is_refused() -> None:
    text = refusal(Row(R, Pressed, R), Row(G, Pressed, D), final=frozenset({D}))
    assert "GREEN cannot be reached" in text
    assert "DARK cannot be reached" in text


def test_a_phase_that_nothing_leaves_is_refused_unless_it_is_final() -> None:
    assert "DARK is a dead end and not final" in refusal(PRESS, BURN, BACK, final=frozenset())


def test_a_phase_that_only_leads_to_itself_is_a_dead_end() -> None:
    text = refusal(PRESS, BURN, BACK, Row(D, Waved, D), final=frozenset())
    assert "DARK is a dead end and not final" in text


def test_a_final_phase_with_rows_is_refused() -> None:
    text = refusal(PRESS, BURN, BACK, Row(D, Elapsed, R))
    assert "DARK is final and has rows" in text


def test_two_events_of_one_name_are_refused() -> None:
    """`transitions` and the traces know events by their names."""

    def another() -> type[Signal]:
        @frozen
        class Waved(Signal):
            origin = Origin.PEER

        return Waved

    text = refusal(PRESS, BURN, BACK, Row(R, Waved, G), Row(G, another(), D))
    assert "two events are called Waved" in text
