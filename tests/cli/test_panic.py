"""`clawchat panic`: a user destroys pairings, on either machine, with and without a link."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from tests.cli.machine import Machine, pair, paired, pairings, published, serving
from tests.waiting import wait_until


def test_a_device_panics_over_the_link_that_another_process_holds(
    server: Machine, device: Machine
) -> None:
    serve = paired(server, device)
    holder = device.start("connect")
    holder.wait_for("linked with")
    told = device.json("panic", "--only-this-peer", "--reason", "lost", "--yes")
    (receipt,) = told["receipts"]
    assert (receipt["told"], receipt["confirmed"], receipt["reason"]) == (True, True, "device_lost")
    assert receipt["name"] == "home"
    assert receipt["generations"] == [2]
    assert receipt["pinned_key"]
    assert told["trouble"] == []
    assert pairings(device, "device") == []
    serve.wait_for("declared the pairing with")
    wait_until(lambda: not pairings(server, "listener"))
    assert holder.ended() != 0
    assert device.run("ping").returncode == 3


def test_a_device_without_a_link_makes_one_to_tell_the_listener(
    server: Machine, device: Machine
) -> None:
    serve = paired(server, device)
    done = device.run("panic", "--yes")
    assert done.returncode == 0, done.stderr
    assert "confirmed: it destroys its side too" in done.stdout
    assert "this machine's own key is destroyed" in done.stdout
    assert server.run("status").returncode in (0, 3)  # which makes no new key
    serve.wait_for("everything was declared compromised")
    assert serve.ended() == 0
    assert pairings(server, "listener") == pairings(device, "device") == []
    assert not (device.home / "state" / "device" / "identity.json").exists()
    assert not (server.home / "state" / "listener" / "identity.json").exists()


def test_a_device_whose_listener_is_off_destroys_its_side_and_says_so(
    server: Machine, device: Machine
) -> None:
    serve = paired(server, device)
    serve.interrupt()
    done = device.run("panic", "--yes", "--json")
    assert done.returncode == 9
    (receipt,) = json.loads(done.stdout)["receipts"]
    assert not receipt["told"]
    assert receipt["generations"] == [1]
    assert pairings(device, "device") == []
    assert len(pairings(server, "listener")) == 1


def test_a_listener_that_reboots_in_the_middle_did_not_confirm_and_is_told_of_separately(
    server: Machine, device: Machine
) -> None:
    serve = paired(server, device)
    device.start("connect").wait_for("linked with")
    serve.process.send_signal(signal.SIGSTOP)  # it hears nothing any more
    panicking = device.start("panic", "--only-this-peer", "--yes", "--json")
    wait_until(lambda: not pairings(device, "device"))  # what is stored goes first
    serve.stop()
    again = serving(server)  # a new process: it knows the pairing, and not the link
    assert panicking.ended() == 9
    (receipt,) = json.loads(panicking.said)["receipts"]
    assert (receipt["told"], receipt["confirmed"]) == (True, False)
    assert len(pairings(server, "listener")) == 1
    assert "declared" not in again.said
    assert server.run("panic", "--yes").returncode == 9, "nobody is there to confirm"
    assert pairings(server, "listener") == []


def test_a_device_that_reboots_in_the_middle_did_not_confirm_and_meets_silence(
    server: Machine, device: Machine
) -> None:
    paired(server, device)
    holder = device.start("connect")
    holder.wait_for("linked with")
    holder.process.send_signal(signal.SIGSTOP)
    panicking = server.start("panic", "--only-this-peer", "--yes", "--json")
    wait_until(lambda: not pairings(server, "listener"))
    holder.stop()
    again = device.start("connect")
    assert panicking.ended() == 9
    (receipt,) = json.loads(panicking.said)["receipts"]
    assert (receipt["told"], receipt["confirmed"]) == (True, False)
    again.wait_for("no answer yet")
    again.stop()
    assert device.run("panic", "--yes").returncode == 9
    assert pairings(device, "device") == []


def test_both_declare_at_the_same_moment(server: Machine, device: Machine) -> None:
    serve = paired(server, device)
    holder = device.start("connect")
    holder.wait_for("linked with")
    both = [machine.start("panic", "--yes") for machine in (device, server)]
    codes = [one.ended() for one in both]
    # Whose peer was first by more than a moment finds little or nothing left to destroy.
    assert set(codes) <= {0, 3}, [one.said for one in both]
    assert 0 in codes
    for one in both:
        assert "internal error" not in one.said
        assert "declare it there as well" not in one.said
    assert serve.ended() == 0
    holder.ended()
    assert pairings(device, "device") == pairings(server, "listener") == []


def test_the_listener_drops_one_device_and_serves_the_other(
    server: Machine, device: Machine, other: Machine
) -> None:
    serve = paired(server, device)
    assert server.run("sec", "new").returncode == 0
    pair(other, published(server))
    holders = [machine.start("connect") for machine in (device, other)]
    for holder in holders:
        holder.wait_for("linked with")
    told = server.json("status")["serve"]["devices"]
    gone = told[0]
    done = server.run("panic", "--peer", gone["id"], "--only-this-peer", "--yes")
    assert done.returncode == 0, done.stderr + done.stdout
    assert len(pairings(server, "listener")) == 1
    wait_until(lambda: sum(len(pairings(m, "device")) for m in (device, other)) == 1)
    left = device if pairings(device, "device") else other
    assert left.run("ping", "--count", "1").returncode == 0
    assert serve.process.poll() is None


def test_a_listener_that_does_not_run_destroys_what_it_stored(
    server: Machine, device: Machine
) -> None:
    serve = paired(server, device)
    serve.interrupt()
    done = server.run("panic", "--yes")
    assert done.returncode == 9, done.stderr
    assert "not told, there was no link" in done.stdout
    assert pairings(server, "listener") == []
    serving(server).wait_for("bootstrap file published")
    assert len(pairings(device, "device")) == 1, "nobody could tell it"


def test_a_backup_that_brings_a_destroyed_pairing_back_is_refused(
    server: Machine, device: Machine
) -> None:
    serve = paired(server, device)
    (kept,) = pairings(device, "device")
    backup = kept.read_bytes()
    assert device.run("panic", "--only-this-peer", "--yes").returncode == 0
    kept.write_bytes(backup)
    done = device.run("ping", "--count", "1")
    assert done.returncode == 7
    assert "was declared compromised and destroyed" in done.stderr
    assert str(kept) in done.stderr
    assert serve.process.poll() is None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "use --yes"),
        (("--yes", "--reason", "bored"), 2, "--reason bored"),
        (("--yes", "--peer", "nobody"), 3, "'nobody'"),
    ],
    ids=["not asked", "a reason nobody knows", "a peer nobody knows"],
)
def test_nothing_is_destroyed_by_mistake(
    server: Machine, device: Machine, arguments: tuple[str, ...], code: int, said: str
) -> None:
    paired(server, device)
    done = device.run("panic", *arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert len(pairings(device, "device")) == 1


def test_there_must_be_something_to_destroy(device: Machine) -> None:
    assert device.run("panic", "--yes").returncode == 3


# --- when something is wrong --------------------------------------------------------------------


def damaged(file: Path) -> Path:
    """As a disk leaves it whose power was cut."""
    file.write_bytes(file.read_bytes()[:100])
    return file


def test_a_damaged_file_saves_nothing_from_a_panic(
    server: Machine, device: Machine, other: Machine
) -> None:
    serve = paired(server, device)
    assert server.run("sec", "new").returncode == 0
    pair(other, published(server))
    serve.interrupt()
    bad, good = pairings(server, "listener")
    damaged(bad)
    done = server.run("panic", "--yes", "--json")
    assert done.returncode == 7, done.stderr
    told = json.loads(done.stdout)
    assert [receipt["id"] for receipt in told["receipts"]] == [good.stem]
    (trouble,) = told["trouble"]
    assert str(bad) in trouble
    assert "declare it there as well" in trouble
    assert pairings(server, "listener") == []
    backup = server.home / "state" / "listener" / "destroyed"
    assert sorted(note.name for note in backup.iterdir()) == [bad.stem, good.stem]


def test_a_damaged_pairing_alone_can_be_named_and_destroyed(
    server: Machine, device: Machine, other: Machine
) -> None:
    serve = paired(server, device)
    assert server.run("sec", "new").returncode == 0
    pair(other, published(server))
    serve.interrupt()
    bad, good = pairings(server, "listener")
    damaged(bad)
    done = server.run("panic", "--peer", bad.stem[:8], "--only-this-peer", "--yes")
    assert done.returncode == 7, done.stderr
    assert pairings(server, "listener") == [good]


def test_what_is_stored_goes_before_a_peer_is_called_and_no_kill_brings_it_back(
    server: Machine, device: Machine
) -> None:
    serve = paired(server, device)
    (kept,) = pairings(device, "device")
    serve.process.send_signal(signal.SIGSTOP)  # it would answer when woken
    panicking = device.start("panic", "--yes")
    wait_until(lambda: not kept.exists())
    assert panicking.process.poll() is None, "it still tries to tell"
    panicking.stop()
    assert device.run("ping").returncode == 3
    assert "declared compromised" in device.run("devices").stderr


def test_a_panic_that_is_interrupted_says_what_it_destroyed(
    server: Machine, device: Machine
) -> None:
    serve = paired(server, device)
    (kept,) = pairings(device, "device")
    serve.process.send_signal(signal.SIGSTOP)
    panicking = device.start("panic", "--yes")
    wait_until(lambda: not kept.exists())
    assert panicking.interrupt() == 9
    assert "destroyed     the pairing with home" in panicking.said
    assert "not told, that was stopped" in panicking.said
    assert "this machine's own key is destroyed" in panicking.said
    assert "Traceback" not in panicking.said


def test_a_folder_that_cannot_be_written_keeps_nobody_from_being_told(
    server: Machine, device: Machine
) -> None:
    paired(server, device)
    (kept,) = pairings(device, "device")
    locks = device.home / "state" / "device" / "locks"
    shutil.rmtree(locks)
    locks.write_text("a file stands where a folder is needed: nobody can change anything")
    done = device.run("panic", "--yes")
    assert done.returncode == 7
    assert "confirmed: it destroys its side too" in done.stdout
    assert "NOT DESTROYED" in done.stderr
    assert str(locks) in done.stderr
    assert kept.exists()
    assert pairings(server, "listener") == []
