"""The whole job as a user does it: real processes, a real UDP socket, an encrypted link."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.cli.machine import KEY, Machine, paired, published, serving
from tests.waiting import PATIENCE


def test_demo_says_something_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with Machine(tmp_path / "m", TMPDIR=str(tmp_path)) as machine:
        done = machine.run("demo", "--say", "hello there")
    assert (done.returncode, done.stdout) == (0, "hello there\n"), done.stderr
    assert "bootstrap file published" in done.stderr
    fingerprints = [
        line.split("fingerprint", 1)[1].strip()
        for line in done.stderr.splitlines()
        if "fingerprint" in line and "device paired" not in line
    ]
    assert len(set(fingerprints)) == 1  # both ends show the listener's
    assert not list(tmp_path.glob("clawchat-demo-*"))


def test_demo_reads_lines_when_there_is_no_terminal(tmp_path: Path) -> None:
    with Machine(tmp_path / "m", TMPDIR=str(tmp_path)) as machine:
        done = machine.run("demo", stdin="first line\nsecond line\n")
    assert (done.returncode, done.stdout) == (0, "first line\nsecond line\n"), done.stderr


def test_demo_that_is_interrupted_ends_its_processes_too(tmp_path: Path) -> None:
    with Machine(tmp_path / "m", TMPDIR=str(tmp_path)) as machine:
        demo = machine.start("demo", "--say", "word " * 1000)
        demo.wait_for("3. on the device")
        listening = demo.wait_for("listening on").rpartition(":")[2]
        demo.wait_for("word word word")
        assert demo.interrupt() == 130
    assert not list(tmp_path.glob("clawchat-demo-*"))
    in_use = Path("/proc/net/udp")
    if in_use.exists():
        assert f":{int(listening):04X} " not in in_use.read_text()


def test_a_file_that_nobody_used_is_not_called_used(server: Machine) -> None:
    serve = serving(server)
    serve.wait_for("bootstrap file published")
    assert serve.interrupt() == 0
    assert not published(server).exists()
    assert "was used" not in serve.said


def test_a_device_pairs_and_every_command_uses_the_link(server: Machine, device: Machine) -> None:
    serve = server.start("serve", "--ip", "127.0.0.1")
    serve.wait_for("bootstrap file published")
    assert published(server).stat().st_mode & 0o777 == 0o600
    file = device.home / "copied.sec"
    shutil.copy(published(server), file)

    paired = device.run("connect", str(file), "--once", "--name", "home")
    assert paired.returncode == 0, paired.stderr
    serve.wait_for("device paired")
    serve.wait_for("the bootstrap file was used")
    assert not published(server).exists()

    hold = device.start("connect")
    hold.wait_for("holding the link")
    sent = device.run("send", "one two three")
    assert (sent.returncode, sent.stdout) == (0, "one two three\n"), sent.stderr
    told = device.json("send", "four", "--conversation", "last")
    assert (told["state"], told["text"]) == ("finished", "four")
    again = device.run("send", "-", "-c", told["conversation"], stdin="five\n")
    assert again.stdout == "five\n"

    peer = device.json("status")["peers"][0]
    assert (peer["name"], peer["link"]["link"]) == ("home", "up")
    assert peer["link"]["holder_pid"] == hold.process.pid
    assert peer["agent"] == {"provider": "echo", "model": "echo"}
    assert peer["fingerprint"] in serve.said
    pings = device.json("ping", "-c", "2", "-i", "0")
    assert (pings["sent"], pings["received"]) == (2, 2)

    told = server.json("status")["serve"]
    assert [one["link"] for one in told["devices"]] == ["up"]
    assert serve.said.count("device is back") == 1  # one link for all those commands

    busy = device.run("connect")
    assert busy.returncode == 8
    assert str(hold.process.pid) in busy.stderr
    assert device.run("disconnect").returncode == 0
    assert hold.ended() == 0
    assert serve.interrupt(signal.SIGTERM) == 0


def test_a_second_device_gets_a_file_of_its_own(
    server: Machine, device: Machine, tmp_path: Path
) -> None:
    serve = paired(server, device)
    serve.wait_for("device paired")
    made = server.run("sec", "new")
    assert made.returncode == 0, made.stderr
    file = made.stdout.strip()
    assert file == str(published(server))
    with Machine(tmp_path / "second", CLAWCHAT_BOOTSTRAP_KEY=KEY) as second:
        assert second.run("connect", file, "--once").returncode == 0
        assert second.run("send", "hello").stdout == "hello\n"
    assert len(server.json("status")["serve"]["devices"]) == 2


def test_a_file_that_was_used_is_of_no_use_to_another_device(
    server: Machine, device: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = server.start("serve", "--ip", "127.0.0.1")
    serve.wait_for("bootstrap file published")
    kept = tmp_path / "kept.sec"
    shutil.copy(published(server), kept)
    assert device.run("connect", str(kept), "--once").returncode == 0
    with Machine(tmp_path / "thief", CLAWCHAT_BOOTSTRAP_KEY=KEY) as thief:
        attempt = thief.start("connect", str(kept), "--once")
        serve.wait_for("WARNING")
        attempt.stop()
        assert thief.run("status", "--offline").returncode == 3
    assert device.run("send", "still here").stdout == "still here\n"


def test_a_device_finds_its_listener_again_after_both_restarted(
    server: Machine, device: Machine
) -> None:
    serve = server.start("serve", "--ip", "127.0.0.1")
    where = serve.wait_for("listening on")
    serve.wait_for("bootstrap file published")
    assert device.run("connect", str(published(server)), "--once").returncode == 0
    assert serve.interrupt() == 0
    stopped = server.run("status")
    assert stopped.returncode == 4
    assert "start `clawchat serve`; paired with device-" in stopped.stdout
    del server.variables["CLAWCHAT_BOOTSTRAP_KEY"]  # needed no more
    again = server.start("serve", "--ip", "127.0.0.1")
    assert again.wait_for("listening on") == where
    assert device.run("send", "back").stdout == "back\n"


def test_two_terminals_at_once_make_one_link(server: Machine, device: Machine) -> None:
    serve = paired(server, device)
    sends = [device.start("send", f"{word} " * 40) for word in ("one", "two", "three")]
    for send, word in zip(sends, ("one", "two", "three"), strict=True):
        assert send.ended() == 0, send.said
        assert send.said.count(word) == 40
    assert "WARNING" not in serve.said


def test_an_agent_that_died_is_told_apart_from_a_lost_link(
    server: Machine, device: Machine
) -> None:
    agent = server.start("agent", "--port", "0")
    url = agent.wait_for("http://").split(" at ")[1].split(",")[0]
    serve = server.start("serve", "--ip", "127.0.0.1", "--agent-url", url)
    serve.wait_for("bootstrap file published")
    assert device.run("connect", str(published(server)), "--once").returncode == 0
    hold = device.start("connect")
    hold.wait_for("holding the link")
    agent.stop()
    sent = device.run("send", "anybody?")
    assert sent.returncode == 5
    assert "clawchat agent" in sent.stderr
    assert device.run("ping", "-c", "1").returncode == 0
    assert device.run("status").returncode == 5


def test_no_secret_is_seen_in_process_lists_folders_or_output(
    server: Machine, device: Machine
) -> None:
    serve = paired(server, device)
    assert KEY not in serve.said
    cmdline = Path(f"/proc/{serve.process.pid}/cmdline")
    if cmdline.exists():
        assert KEY.encode() not in cmdline.read_bytes()
    for home in (server.home, device.home):
        for path in (home / "state").rglob("*"):
            assert path.stat().st_mode & 0o077 == 0, path
            if path.is_file():
                assert KEY.encode() not in path.read_bytes()


def test_a_reply_that_nobody_reads_is_no_traceback(server: Machine, device: Machine) -> None:
    paired(server, device)
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        import subprocess

        done = subprocess.run(
            device.command("send", "word " * 50),
            env=device.variables,
            stdin=subprocess.DEVNULL,
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == ""


def test_json_of_a_reply_is_safe_for_a_terminal(server: Machine, device: Machine) -> None:
    paired(server, device)
    hostile = "a\x1b]0;owned\x07b"
    done = device.run("send", "--json", hostile)
    assert "\x1b" not in done.stdout
    assert json.loads(done.stdout)["text"] == hostile


def test_a_reply_goes_on_when_the_process_that_held_the_link_is_killed(
    server: Machine, device: Machine
) -> None:
    paired(server, device)
    hold = device.start("connect")
    hold.wait_for("holding the link")
    text = " ".join(map(str, range(120)))
    send = device.start("send", text)
    send.wait_for("10 11 12")
    hold.process.kill()
    assert send.ended() == 0, send.said
    assert send.said == text + "\n"


def test_pairing_again_with_the_same_listener_replaces_the_first_pairing(
    server: Machine, device: Machine
) -> None:
    serve = server.start("serve", "--ip", "127.0.0.1")
    serve.wait_for("bootstrap file published")
    file = str(published(server))
    assert device.run("connect", file, "--once", "--name", "home").returncode == 0
    assert server.run("sec", "new").returncode == 0
    again = device.run("connect", file, "--once")
    assert again.returncode == 0, again.stderr
    assert "replaces" in again.stderr
    assert [peer["name"] for peer in device.json("status")["peers"]] == ["home"]
    assert device.run("send", "hello").stdout == "hello\n"


def test_one_folder_serves_once(server: Machine) -> None:
    serve = server.start("serve", "--ip", "127.0.0.1")
    serve.wait_for("bootstrap file published")
    second = server.run("serve", "--ip", "127.0.0.1")
    assert second.returncode == 8
    assert str(serve.process.pid) in second.stderr


def test_a_port_in_use_is_named_with_its_option(server: Machine, other: Machine) -> None:
    serve = server.start("serve", "--ip", "127.0.0.1")
    port = serve.wait_for("listening on").rpartition(":")[2]
    done = other.run("serve", "--ip", "127.0.0.1", "--port", port)
    assert done.returncode == 8
    assert "--port" in done.stderr


def test_the_listener_says_what_to_copy_and_what_to_run_there(
    server: Machine, device: Machine
) -> None:
    """The words, taken literally, pair a device that has nothing but the two files."""
    for machine in (server, device):
        del machine.variables["CLAWCHAT_BOOTSTRAP_KEY"]
    key = server.home / "our.key"
    assert server.run("sec", "key", "--out", str(key)).returncode == 0
    serve = server.start("serve", "--ip", "127.0.0.1", "--key-file", str(key))
    assert "the key, our.key," in serve.wait_for("next: copy it")
    command = serve.wait_for("clawchat connect").split()
    assert command == ["clawchat", "connect", published(server).name, "--key-file", "our.key"]
    for file in (published(server), key):
        shutil.copy(file, device.home)
    words = [str(device.home / word) if "." in word else word for word in command[1:]]
    done = device.run(*words, "--once")
    assert done.returncode == 0, done.stderr
