"""Campaigns: what is counted, kept and told, and how a failing seed becomes a small file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from clawchat.core import ratchet
from clawchat.core.actions import Kept
from clawchat.core.destruction import Destruction
from clawchat.drivers.simulator.__main__ import main as simulate
from clawchat.drivers.simulator.many import Outcome, run_one
from clawchat.drivers.simulator.scenario import Scenario, save
from fuzz.campaign import __main__ as command
from fuzz.campaign import corpus, coverage, idle, tally
from fuzz.campaign.shrinking import Shrinker, reason, recorded, trouble_of
from fuzz.campaign.tally import Tally
from spec.machines import tables

ROW = ("machine", "ONE", "Event", "TWO")
NEXT = ("machine", "TWO", "Event", "ONE")


def outcome(seed: int, *, trouble: str = "", pair: bool = False) -> Outcome:
    pairs = {(ROW, NEXT): 1} if pair else {}
    return Outcome(seed, "calm", trouble, 10, 20, 2, 1, 30, {ROW: 2}, pairs, 0.5)


# --- shrinking --------------------------------------------------------------------------------


def keys_that_are_wiped_too_early(patch: pytest.MonkeyPatch) -> str:
    patch.setattr(ratchet, "WIPE_PROBES", 0)
    return "lossy"


def a_pairing_that_is_not_wiped(patch: pytest.MonkeyPatch) -> str:
    patch.setattr(Destruction, "_wipe_pairing", lambda *_: Kept())
    return "everything"


def first_failing(plan: str) -> Scenario:
    found: Iterator[Scenario] = (recorded(seed, plan) for seed in range(60))
    return next(scenario for scenario in found if scenario.expects)


@pytest.mark.parametrize(
    ("bug", "what"),
    [
        (keys_that_are_wiped_too_early, "packets of a live"),
        (a_pairing_that_is_not_wiped, "destroyed"),
    ],
)
def test_a_failing_seed_becomes_a_small_file_that_fails_for_the_same_reason(
    bug: object, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(bug)
    path = tmp_path / "small.json"
    with pytest.MonkeyPatch.context() as patch:
        plan = bug(patch)
        whole = first_failing(plan)
        small = Shrinker(whole, runs_max=100).shrink()
        assert small.size <= whole.size / 8
        assert reason(trouble_of(small)) == whole.expects == small.expects
        save(small, path)
        assert simulate(["--scenario", str(path)]) == 1
        told = capsys.readouterr().err
        assert what in told
        assert f"--scenario {path} --trace" in told
    assert simulate(["--scenario", str(path)]) == 0, "without the bug the scenario holds"


def test_shrinking_stops_when_it_has_no_runs_left() -> None:
    whole = evolve(recorded(3, "lossy"), expects="it")
    shrinker = Shrinker(whole, breaks=lambda _scenario: "it", runs_max=2)
    assert shrinker.shrink().size < whole.size
    assert shrinker.runs == 2


def test_a_reason_is_the_same_whoever_it_happens_to() -> None:
    one = reason("listener: 2 packets of a live link were unreadable\n  at 3.9 s of seed 4")
    assert one == reason("dialer1: 17 packets of a live link were unreadable\n  at 1 s of seed 5")
    assert one != reason("listener: 2 packets of a dead link were unreadable")


# --- tallies ----------------------------------------------------------------------------------


def test_tallies_are_kept_and_added_and_no_world_counts_twice(tmp_path: Path) -> None:
    one, other = Tally("calm", commits=["aaa"]), Tally("calm", commits=["bbb"])
    for seed in (0, 1, 2, 7):
        one.add(outcome(seed))
    for seed in (3, 4):
        other.add(outcome(seed, trouble="it broke" if seed == 4 else "", pair=True))
    tally.save(one, tmp_path / "one")
    assert tally.load(tmp_path / "one") == one
    one.merge(other)
    assert (one.seeds, one.worlds, one.commits) == ([(0, 5), (7, 8)], 6, ["aaa", "bbb"])
    assert (one.cpu_s, one.rows[ROW], one.pairs[ROW, NEXT]) == (3.0, 12, 2)
    assert one.broken == {4: "it broke"}
    assert one.left_of(range(10)) == [4, 5, 6, 8, 9]
    worlds = one.worlds
    assert not one.add(outcome(4, trouble="it still breaks"))
    assert one.broken == {4: "it still breaks"}
    assert not one.add(outcome(4))
    assert (one.broken, one.worlds) == ({}, worlds)
    assert one.left_of(range(10)) == [5, 6, 8, 9]
    with pytest.raises(ValueError, match="twice"):
        one.merge(other)
    with pytest.raises(ValueError, match="two plans"):
        one.merge(Tally("lossy"))
    (tmp_path / "wrong").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="not a tally"):
        tally.load(tmp_path / "wrong")


def test_the_sum_of_tallies_is_printed_as_a_row_of_the_readme(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counted = Tally("calm", commits=["aaa"])
    counted.add(run_one(0, "calm"))
    tally.save(counted, tmp_path / "one")
    assert tally.main([str(tmp_path / "one"), "--rows"]) == 0
    told = capsys.readouterr().out
    assert "| aaa | calm | 0:1 | 1 |" in told
    assert "handshake.dialer: CALLING -- ReplyVerified --> SAVING" in told


def test_a_world_that_takes_a_new_row_or_pair_is_noticed() -> None:
    counted = Tally("calm")
    found = [counted.add(outcome(seed, pair=seed > 2)) for seed in range(5)]
    assert found == [True, False, False, True, False]


# --- coverage, corpus -------------------------------------------------------------------------


def test_coverage_names_what_was_never_taken_and_counts_what_can_be() -> None:
    counted = Tally("calm")
    counted.add(run_one(0, "calm"))
    told = coverage.told(counted)
    rows = [row for table in tables() for row in coverage.rows_of(table)]
    assert set(counted.rows) <= set(rows)
    assert set(counted.pairs) <= set(coverage.pairs_of(rows))
    assert f"Rows never taken: {len(set(rows) - set(counted.rows))}" in told
    assert "- established: LIVE -- ProbesUnanswered --> SUSPECT" in told
    assert "- handshake.dialer: CALLING -- ReplyVerified --> SAVING" not in told


def test_a_cover_takes_everything_with_few_seeds() -> None:
    found = [outcome(1), outcome(2, pair=True), evolve(outcome(3), rows={NEXT: 1})]
    assert corpus.cover(found) == [2, 3]


def test_the_kept_seeds_hold() -> None:
    seeds = corpus.kept("everything")
    assert seeds
    for seed in seeds[:5]:  # the rest is run by every campaign
        assert run_one(seed, "everything").trouble == ""


# --- the command ------------------------------------------------------------------------------

SMALL = ["--plan", "calm", "--jobs", "1", "--no-corpus"]


def test_a_campaign_is_stopped_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "made" / "tally.json"
    begin = ["--seeds", "6", "--report", str(report), *SMALL]
    assert command.main([*begin, "--minutes", "0"]) == 0
    assert "1 worlds, 0 broken; 1 of them now" in capsys.readouterr().out
    assert command.main(begin) == 0
    assert "6 worlds, 0 broken; 5 of them now" in capsys.readouterr().out
    assert command.main(begin) == 0
    assert "6 worlds, 0 broken; 0 of them now" in capsys.readouterr().out
    assert tally.load(report).seeds == [(0, 6)]
    with pytest.raises(SystemExit, match="of plan calm"):
        command.main([*begin, "--plan", "lossy"])


def test_ctrl_c_ends_with_the_tally_so_far(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Iterator[Outcome]:
        yield outcome(0)
        yield outcome(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "outcomes", interrupted)
    report = tmp_path / "made" / "tally.json"
    assert command.main(["--report", str(report), *SMALL]) == 130
    assert "2 worlds, 0 broken; 2 of them now" in capsys.readouterr().out
    assert tally.load(report).worlds == 2


def test_a_broken_world_is_told_and_made_small(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ratchet, "WIPE_PROBES", 0)
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    arguments = ["--plan", "lossy", "--seeds", "4", "--jobs", "1", "--no-corpus"]
    assert command.main(arguments) == 1
    told = capsys.readouterr().out
    assert "BROKEN" in told
    (path,) = (tmp_path / "found").glob("lossy-*.json")
    assert f"--scenario {path}" in told


def test_worlds_run_in_a_pool_as_they_do_here(tmp_path: Path) -> None:
    arguments = ["--plan", "calm", "--seeds", "4", "--no-corpus"]
    for jobs in ("1", "2"):
        assert command.main([*arguments, "--jobs", jobs, "--report", str(tmp_path / jobs)]) == 0
    one, two = tally.load(tmp_path / "1"), tally.load(tmp_path / "2")
    one.cpu_s = two.cpu_s = 0.0
    assert one == two


ON_A_CLUSTER = """
import sys
from distributed import LocalCluster
from fuzz.campaign.__main__ import main

if __name__ == "__main__":
    with LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        assert cluster.scheduler_address.startswith("tcp://127.0.0.1:")
        sys.exit(main([*sys.argv[1:], "--scheduler", cluster.scheduler_address]))
"""


@pytest.mark.slow
def test_worlds_run_on_a_cluster_that_is_there_already(tmp_path: Path) -> None:
    """In a process of its own, because of what that library leaves to the end of its process."""
    pytest.importorskip("distributed")
    program, report = tmp_path / "on_a_cluster.py", tmp_path / "tally"
    program.write_text(ON_A_CLUSTER, encoding="utf-8")
    arguments = ["--plan", "calm", "--seeds", "12", "--no-corpus", "--report", str(report)]
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, str(program), *arguments], check=True, env=here)
    assert tally.load(report).seeds == [(0, 12)]


def test_an_idle_pair_is_simulated_much_faster_than_it_lives() -> None:
    assert idle.speed(hours=2) > 1
