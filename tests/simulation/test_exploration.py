"""The machines and their products, explored to the end on the real core.

Each exploration is exhaustive within its budget: every order, loss, copy, delay, crash, failed
write, panic and move that the adversary can afford is tried, and from every situation it can bring
about a fair network leads to a good end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from clawchat.core.credential import Credential, Pairing
from clawchat.core.phases import dialing
from clawchat.drivers.simulator.invariants import Firing
from spec.explore.__main__ import main
from spec.explore.catalogue import OUT_OF_REACH, SMALL, missed
from spec.explore.scenario import Scenario, Unreadable
from spec.explore.search import Counterexample


def test_whatever_the_adversary_does_a_fair_network_then_leads_to_a_good_end() -> None:
    """One test, since together they must take every row."""
    taken: set[Firing] = set()
    for name, world in SMALL.items():
        exploration = world.exploration()
        exploration.run()
        assert exploration.exhausted, name
        assert len(exploration.seen) > 1, name
        taken |= set(exploration.rows)
    assert set(missed(taken)) <= set(OUT_OF_REACH)


# --- that a silent exploration means something -------------------------------------------------


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted bug: the dialer gives its old generation up as soon as it has a REPLY."""

    def forgetful(pairing: Pairing, *, credentials: Sequence[Credential]) -> Any:
        return evolve(pairing, credentials=tuple(credentials[:1]))

    monkeypatch.setattr(dialing, "evolve", forgetful)


WORLD = "a second meeting, a crash"


def find() -> Scenario:
    with pytest.raises(Counterexample) as caught:
        SMALL[WORLD].exploration().run()
    return Scenario(WORLD, caught.value.way, caught.value.found)


@pytest.mark.usefixtures("careless")
def test_a_planted_bug_is_found_by_the_shortest_way_and_told_in_words() -> None:
    scenario = find()
    assert "no link under a fair network" in scenario.found
    assert scenario.way == (("deliver", 0), ("kill", 1)), "a HELLO, and a crash"
    assert scenario.words()[-1] == "the listener is killed, its write is lost, and it starts again"


@pytest.mark.usefixtures("careless")
def test_a_counterexample_is_kept_and_played_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "found.json"
    find().save(kept)
    assert main(["--replay", str(kept), "--trace"]) == 1
    told = capsys.readouterr().out
    assert "2. the listener is killed, its write is lost" in told
    assert "[handshake.dialer] CALLING -- ReplyVerified --> SAVING" in told
    assert told.rstrip().endswith("BROKEN: InvariantBroken: no link under a fair network")


def test_what_was_found_is_gone_when_the_bug_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "found.json"
    way = (("deliver", 0), ("kill", 1))
    Scenario(WORLD, way, "no link").save(kept)
    assert main(["--replay", str(kept)]) == 0
    assert capsys.readouterr().out.endswith("held\n")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        '{"format": "clawchat exploration 0", "exploration": "two rotations", "way": []}',
        '{"format": "clawchat exploration 1", "exploration": "none", "way": [], "found": ""}',
        '{"format": "clawchat exploration 1", "exploration": "two rotations", "way": [1]}',
    ],
)
def test_another_file_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(Unreadable):
        Scenario.load(file)
    assert main(["--replay", str(file)]) == 2


def test_an_exploration_that_is_cut_short_says_so() -> None:
    exploration = SMALL["two rotations"].exploration(seconds_max=0)
    exploration.run()
    assert not exploration.exhausted
