"""`clawchat devices`: a user looks who is paired, gives names, and ends pairings for good."""

from __future__ import annotations

import pytest

from tests.cli.machine import Machine, pair, paired, pairings, published, serving


def test_both_sides_list_each_other_with_what_tells_them_apart(
    server: Machine, device: Machine
) -> None:
    serve = paired(server, device)
    holder = device.start("connect")
    holder.wait_for("linked with")
    told = server.json("devices")
    (ours,) = told["devices"]
    assert told["listeners"] == told["alarms"] == []
    assert (ours["link"], ours["generation"]) == ("up", 2)
    assert ours["remote"].startswith("127.0.0.1:")
    back = device.json("devices")
    (theirs,) = back["listeners"]
    assert back["devices"] == []
    assert (theirs["name"], theirs["link"], theirs["generation"]) == ("home", "up", 2)
    assert theirs["fingerprint"] in serve.said
    assert back["fingerprint"] == ours["fingerprint"]  # what two people compare
    assert theirs["id"] == ours["id"]
    for one in (ours, theirs):
        assert one["paired"] <= one["seen"]
    page = server.run("devices").stdout
    assert [line.split()[0] for line in page.splitlines()] == ["DEVICE", ours["name"]]
    assert "now" in page
    assert device.run("disconnect").returncode == 0
    serve.wait_for("device left")
    (ours,) = server.json("devices")["devices"]
    assert ours["link"] == "down"
    assert serve.interrupt() == 0
    (off,) = server.json("devices")["devices"]
    assert off["link"] is None
    assert off["seen"] >= ours["seen"]


def test_a_device_gets_a_name_whether_or_not_the_listener_runs(
    server: Machine, device: Machine
) -> None:
    serve = paired(server, device)
    (one,) = server.json("devices")["devices"]
    assert server.run("devices", "name", one["fingerprint"][:7], "my phone").returncode == 0
    assert [found["name"] for found in server.json("devices")["devices"]] == ["my phone"]
    assert device.run("ping", "-c", "1").returncode == 0
    serve.wait_for("device is back: my phone")
    assert serve.interrupt() == 0
    assert server.run("devices", "name", "my phone", "phone").returncode == 0
    assert device.run("devices", "name", "home", "the agent").returncode == 0
    server.start("serve", "--ip", "127.0.0.1").wait_for("paired with  phone")
    assert device.run("ping", "-c", "1", "--peer", "the agent").returncode == 0


@pytest.mark.parametrize(
    "wrong",
    ["", " phone", "x" * 41, "two\nlines", "\x1b[2J", "a\u202eb", "zero\u200bwidth"],
    ids=["none", "space", "long", "line", "escape", "direction", "invisible"],
)
def test_a_name_that_could_deceive_or_spoil_the_screen_is_refused(
    server: Machine, device: Machine, wrong: str
) -> None:
    # No listener is needed for this: the name is looked at first.
    done = server.run("devices", "name", "anything", wrong)
    assert done.returncode == 2
    assert "1 to 40 printable characters" in done.stderr
    assert "\x1b" not in done.stderr


def test_a_revoked_device_is_told_what_happened_and_stays_out(
    server: Machine, device: Machine
) -> None:
    serve = paired(server, device)
    holder = device.start("connect")
    holder.wait_for("linked with")
    (kept,) = pairings(server, "listener")
    backup = kept.read_bytes()
    (one,) = server.json("devices")["devices"]
    told = server.json("devices", "revoke", one["name"], "--yes")
    assert (told["id"], told["told"]) == (one["id"], True)
    assert holder.ended() == 10
    assert "revoked this device" in holder.said
    assert "clawchat sec new" in holder.said
    assert pairings(server, "listener") == pairings(device, "device") == []
    done = device.run("send", "hello?")
    assert done.returncode == 3
    assert "home was revoked by the listener" in done.stderr
    assert serve.process.poll() is None
    # Another file pairs it again; a restored backup does not.
    assert server.run("sec", "new").returncode == 0
    pair(device, published(server))
    kept.write_bytes(backup)
    assert serve.interrupt() == 0
    again = serving(server)
    assert "was revoked by the listener" in again.wait_for("without a device")
    assert str(kept) in again.said
    assert [one["id"] for one in server.json("devices")["damaged"]] == [kept.stem]


def test_a_message_over_a_link_that_is_revoked_meanwhile_is_not_tried_for_a_minute(
    server: Machine, device: Machine
) -> None:
    paired(server, device)
    send = device.start("send", "word " * 5000)  # a minute and a half of reply
    send.wait_for("word")
    (one,) = server.json("devices")["devices"]
    assert server.run("devices", "revoke", one["name"], "--yes").returncode == 0
    assert send.ended() == 10
    assert "revoked this device" in send.said
    assert "clawchat sec new" in send.said


def test_a_device_is_revoked_while_nothing_runs(server: Machine, device: Machine) -> None:
    serve = paired(server, device)
    assert serve.interrupt() == 0
    (one,) = server.json("devices")["devices"]
    done = server.run("devices", "revoke", one["id"][:6], "--yes")
    assert done.returncode == 0, done.stderr
    assert "not told" in done.stdout
    assert pairings(server, "listener") == []
    serve = server.start("serve", "--ip", "127.0.0.1")
    serve.wait_for("bootstrap file published")
    assert len(pairings(device, "device")) == 1, "nobody could tell it"
    assert "was revoked by the listener" in server.run("devices").stderr


def test_of_two_devices_the_one_that_is_meant_is_revoked(
    server: Machine, device: Machine, other: Machine
) -> None:
    paired(server, device)
    assert server.run("sec", "new").returncode == 0
    pair(other, published(server))
    first, second = server.json("devices")["devices"]
    assert server.run("devices", "name", first["name"], second["id"][:4]).returncode == 0
    both = server.run("devices", "revoke", second["id"][:4], "--yes")
    assert both.returncode == 2
    assert first["fingerprint"] in both.stderr
    assert second["fingerprint"] in both.stderr
    none = server.run("devices", "revoke", "laptop", "--yes")
    assert none.returncode == 3
    assert second["name"] in none.stderr
    asked = server.run("devices", "revoke", second["name"])
    assert asked.returncode == 2
    assert "--yes" in asked.stderr
    assert len(pairings(server, "listener")) == 2
    assert server.run("devices", "revoke", second["name"], "--yes").returncode == 0
    assert device.run("ping", "-c", "1").returncode == 0
    (left,) = server.json("devices")["devices"]
    assert left["id"] == first["id"]


def test_a_device_forgets_its_listener(server: Machine, device: Machine) -> None:
    paired(server, device)
    holder = device.start("connect")
    holder.wait_for("linked with")
    wrong = device.run("devices", "revoke", "home", "--yes")
    assert wrong.returncode == 2
    assert "clawchat devices forget" in wrong.stderr
    done = device.run("devices", "forget", "home", "--yes")
    assert done.returncode == 0, done.stderr
    assert "clawchat devices revoke" in done.stderr
    assert holder.ended() == 0
    assert pairings(device, "device") == []
    assert len(pairings(server, "listener")) == 1
    assert "home was forgotten here" in device.run("ping").stderr
    (one,) = server.json("devices")["devices"]
    not_here = server.run("devices", "forget", one["name"], "--yes")
    assert not_here.returncode == 2
    assert "clawchat devices revoke" in not_here.stderr


def test_a_device_that_pairs_anew_keeps_its_name_and_gives_up_its_old_pairing(
    server: Machine, device: Machine
) -> None:
    """Else a copy of the old one would go on to be accepted."""
    serve = paired(server, device)
    (one,) = server.json("devices")["devices"]
    assert server.run("devices", "name", one["name"], "phone").returncode == 0
    assert server.run("sec", "new").returncode == 0
    pair(device, published(server))
    serve.wait_for("phone is paired anew")
    (left,) = server.json("devices")["devices"]
    assert left["name"] == "phone"
    assert left["id"] != one["id"]
    assert device.run("ping", "-c", "1").returncode == 0


def test_a_machine_without_pairings_says_how_to_make_one(device: Machine) -> None:
    for command in (["devices"], ["devices", "revoke", "phone"], ["devices", "name", "a", "b"]):
        done = device.run(*command)
        assert done.returncode == 3
        assert "clawchat connect FILE" in done.stderr
    assert device.json("devices")["devices"] == []
    assert "no warning" in device.run("devices", "ack").stderr


def test_a_damaged_pairing_keeps_nobody_from_the_others_and_can_be_ended(
    server: Machine, device: Machine, other: Machine
) -> None:
    serve = paired(server, device)
    (bad,) = pairings(server, "listener")
    assert server.run("sec", "new").returncode == 0
    pair(other, published(server))
    serve.interrupt()
    bad.write_bytes(bad.read_bytes()[:100])
    again = serving(server)
    again.wait_for(f"without a device: {bad} is damaged")
    assert other.run("ping", "-c", "1").returncode == 0
    told = server.json("devices")
    assert len(told["devices"]) == 1
    assert [one["id"] for one in told["damaged"]] == [bad.stem]
    page = server.run("devices").stdout
    assert f"clawchat devices revoke {bad.stem[:8]}" in page
    assert "of no use, unless no link was made since" in page
    assert server.run("status").returncode == 7
    assert server.run("devices", "name", bad.stem[:8], "phone").returncode == 7
    assert server.run("devices", "revoke", bad.stem[:8], "--yes").returncode == 0
    assert not bad.exists()
    assert server.json("devices")["damaged"] == []
    assert other.run("ping", "-c", "1").returncode == 0


def test_a_device_with_a_damaged_pairing_talks_to_no_other_listener_by_mistake(
    server: Machine, other: Machine, device: Machine
) -> None:
    paired(server, device)
    (bad,) = pairings(device, "device")
    serving(other).wait_for("bootstrap file published")
    pair(device, published(other), "office")
    bad.write_bytes(b"")
    done = device.run("ping", "-c", "1")
    assert done.returncode == 7
    assert str(bad) in done.stderr
    assert device.run("ping", "-c", "1", "--peer", "office").returncode == 0
    assert device.run("devices", "forget", bad.stem[:8], "--yes").returncode == 0
    assert device.run("ping", "-c", "1").returncode == 0
