"""Copies and backups as people meet them: what each of the three is told, and the way out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.machine import Background, Machine, pair, published, serving

NEXT_STEPS = ("clawchat devices", "clawchat devices revoke", "clawchat sec new", "clawchat panic")


def copied_file(server: Machine, serve: Background) -> Path:
    serve.wait_for("bootstrap file published")
    return Path(shutil.copy(published(server), server.home / "copied.sec"))


def backup(machine: Machine, role: str, *, restore: bool = False) -> None:
    """Copy one folder away, or back over what is there, as backup programs do."""
    folder, copy = machine.home / "state" / role / "pairings", machine.home / f"{role} backup"
    here, there = (copy, folder) if restore else (folder, copy)
    shutil.copytree(here, there, dirs_exist_ok=True)


def test_a_second_holder_of_a_file_is_told_why_and_the_listener_keeps_a_warning_until_read(
    server: Machine, device: Machine, other: Machine
) -> None:
    serve = serving(server)
    file = copied_file(server, serve)
    pair(device, file)
    holder = device.start("connect")
    holder.wait_for("linked with")
    done = other.run("connect", str(file), "--once")
    assert done.returncode == 10
    assert "redeemed before" in done.stderr
    assert all(step in done.stderr for step in NEXT_STEPS)
    serve.wait_for("was used by a second device")
    holder.wait_for("the bootstrap file that paired this device with home was used by a second")
    told = server.json("devices")
    (alarm,) = told["alarms"]
    (rightful,) = told["devices"]
    assert (alarm["kind"], alarm["id"], alarm["generation"]) == ("file", rightful["id"], 0)
    assert alarm["fingerprint"] != rightful["fingerprint"]
    assert rightful["link"] == "up", "a report ends no link"
    for page in (serve.said, server.run("devices").stdout, server.run("status").stdout):
        assert f"the bootstrap file that paired {rightful['name']} was used" in page
        assert f"clawchat devices revoke {rightful['name']}" in page
        assert "clawchat panic" in page
    # Whoever was not looking learns it at the next start, and until it is acknowledged.
    assert serve.interrupt() == 0
    serve = serving(server)
    serve.wait_for("was used by a second device")
    assert server.json("status")["alarms"] == [alarm]
    assert "1 warning(s) acknowledged" in server.run("devices", "ack").stderr
    assert server.json("devices")["alarms"] == []
    # The device's user is warned in the same way, until he has read it.
    (warning,) = device.json("devices")["alarms"]
    assert (warning["role"], warning["kind"], warning["fingerprint"]) == ("device", "file", None)
    assert (warning["id"], warning["remote"]) == (alarm["id"], alarm["remote"])
    for command in (["devices"], ["status"]):
        page = device.run(*command).stdout
        assert "the bootstrap file that paired this device with home was used" in page
        assert all(step in page for step in ("clawchat sec new", "clawchat panic"))
    assert "1 warning(s) acknowledged" in device.run("devices", "ack").stderr
    assert device.json("status")["alarms"] == []
    assert device.run("ping", "-c", "1").returncode == 0


@pytest.mark.parametrize("how", ["a copy of the folder", "an old backup"])
def test_an_old_state_of_a_device_is_refused_and_both_users_are_told(
    server: Machine, device: Machine, other: Machine, how: str
) -> None:
    serve = serving(server)
    pair(device, copied_file(server, serve))
    if how == "a copy of the folder":
        shutil.copytree(device.home / "state", other.home / "state")
    backup(device, "device")
    assert device.run("ping", "-c", "1").returncode == 0
    user = other
    if how == "an old backup":
        backup(device, "device", restore=True)
        user = device
    # A process that holds the link gives up as well: each attempt would be another warning.
    done = user.run("connect", "--peer", "home")
    assert done.returncode == 10
    assert "restored from a backup, or it was copied" in done.stderr
    assert all(step in done.stderr for step in NEXT_STEPS)
    serve.wait_for("an old credential of")
    (alarm,) = server.json("devices")["alarms"]
    (rightful,) = server.json("devices")["devices"]
    assert (alarm["kind"], alarm["generation"]) == ("old", 1)
    assert alarm["fingerprint"] == rightful["fingerprint"]
    if how == "a copy of the folder":
        # It had no link then: it is told on its next one, be that ever so short.
        done = device.run("ping", "-c", "1")
        assert done.returncode == 0
        assert "WARNING: an old copy of this device's credential for home was used" in done.stderr
        assert f"from {alarm['remote']}" in done.stderr
        assert "If it was not you" in done.stderr
        assert "WARNING" not in device.run("ping", "-c", "1").stderr, "once is enough"
        (warning,) = device.json("status", "--offline")["alarms"]
        assert (warning["kind"], warning["role"], warning["count"]) == ("old", "device", 1)
        assert warning["remote"] == alarm["remote"]
    else:  # the way out that was offered
        assert server.run("sec", "new").returncode == 0
        pair(device, published(server))
        assert device.run("ping", "-c", "1").returncode == 0
        (left,) = server.json("devices")["devices"]
        assert left["name"] == rightful["name"]


def test_a_listener_restored_from_a_backup_takes_its_device_back_with_a_new_file(
    server: Machine, device: Machine
) -> None:
    """Until then it is silent to it, as to any stranger: `tests/drivers/test_trio.py`."""
    serve = serving(server)
    pair(device, copied_file(server, serve))
    (before,) = server.json("devices")["devices"]
    assert server.run("devices", "name", before["name"], "phone").returncode == 0
    backup(server, "listener")
    for _ in range(2):
        assert device.run("ping", "-c", "1").returncode == 0
    assert serve.interrupt() == 0
    backup(server, "listener", restore=True)
    serve = serving(server)
    assert server.json("devices")["devices"][0]["generation"] == 1
    knocking = device.start("ping", "-c", "1")
    knocking.wait_for("no answer yet")
    assert server.json("status")["serve"]["strangers"] > 0
    assert "a device whose pairing is not here any more" in server.run("status").stdout
    assert "127.0.0.1" not in serve.said.split("listening on", 1)[1].split("\n", 1)[1]
    knocking.stop()
    assert server.run("sec", "new").returncode == 0
    pair(device, published(server))
    serve.wait_for("phone is paired anew")
    (after,) = server.json("devices")["devices"]
    assert (after["name"], after["fingerprint"]) == ("phone", before["fingerprint"])
    assert after["id"] != before["id"]
    assert device.run("send", "hello").stdout == "hello\n"
    assert "WARNING" not in serve.said


def test_of_two_that_redeem_one_file_at_once_one_is_paired_and_the_other_told(
    server: Machine, device: Machine, other: Machine
) -> None:
    serve = serving(server)
    file = copied_file(server, serve)
    rivals = [machine.start("connect", str(file), "--once") for machine in (device, other)]
    codes = [rival.ended() for rival in rivals]
    assert sorted(codes) == [0, 10], [rival.said for rival in rivals]
    loser = rivals[codes.index(10)]
    assert "redeemed before" in loser.said
    assert "internal error" not in loser.said
    serve.wait_for("was used by a second device")
    (alarm,) = server.json("devices")["alarms"]
    (rightful,) = server.json("devices")["devices"]
    assert alarm["name"] == rightful["name"]
    assert alarm["fingerprint"] != rightful["fingerprint"]
    winner = (device, other)[codes.index(0)]
    assert winner.run("ping", "-c", "1").returncode == 0
