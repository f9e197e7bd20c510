"""A scenario file is the world that it was made from, and says when it is not one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clawchat.drivers.simulator.__main__ import main
from clawchat.drivers.simulator.faults import PLANS
from clawchat.drivers.simulator.network import PLAIN
from clawchat.drivers.simulator.scenario import from_json, load, record, save, scenario_of, to_json
from clawchat.drivers.simulator.simulation import Report, Simulation
from fuzz.campaign.shrinking import recorded


def report_of(simulation: Simulation) -> Report:
    return simulation.run()


@pytest.mark.parametrize("plan", ["everything", "roaming", "hostile"])
def test_a_recorded_world_runs_again_without_dice(plan: str, tmp_path: Path) -> None:
    whole = recorded(11, plan)
    assert whole.fates
    assert whole.script.strikes
    save(whole, tmp_path / "world.json")
    assert load(tmp_path / "world.json") == whole
    first, again = Simulation(11, PLANS[plan]), Simulation.of(whole)
    assert report_of(first) == report_of(again)
    assert first.watch.rows == again.watch.rows
    assert first.world.network.tally == again.world.network.tally


def test_what_no_fate_names_goes_the_plain_way() -> None:
    scenario = scenario_of(4, "lossy")
    simulation = Simulation.of(scenario)
    simulation.run()
    tally = simulation.world.network.tally
    assert (tally.lost, tally.duplicated, tally.reordered, tally.corrupted) == (0, 0, 0, 0)


def test_only_what_is_not_plain_is_recorded() -> None:
    simulation = Simulation(4, PLANS["lossy"])
    fates = record(simulation.world.network)
    simulation.run()
    assert PLAIN not in fates.values()
    assert sum(fate.lost for fate in fates.values()) == simulation.world.network.tally.lost > 0


def test_a_file_of_another_kind_is_refused() -> None:
    good = json.loads(to_json(scenario_of(1, "calm")))
    from_json(json.dumps(good))
    bad: list[object] = [[], {}, {**good, "format": 2}, {**good, "plan": "unheard of"}]
    bad.append({**good, "faults": [{"at": 1, "kind": "METEOR", "host": 0}]})
    bad.append({**good, "strikes": [{"when": 1}]})
    for value in bad:
        with pytest.raises(ValueError, match=r"scenario|plan"):
            from_json(json.dumps(value))


def test_the_command_line_runs_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "world.json"
    save(scenario_of(2, "calm"), path)
    assert main(["--scenario", str(path)]) == 0
    assert "held: seed 2, plan calm" in capsys.readouterr().out
    path.write_text("{}", encoding="utf-8")
    assert main(["--scenario", str(path)]) == 2
    assert main(["--scenario", str(tmp_path / "none")]) == 2
    assert "not a scenario" in capsys.readouterr().err
