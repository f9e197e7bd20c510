"""`clawchat chat` on a real terminal."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clawchat.cli.bootstrap_key import new_key
from tests.cli.machine import Machine
from tests.waiting import PATIENCE

if sys.platform == "win32":
    pytest.skip("terminals are a Unix matter", allow_module_level=True)

import fcntl
import pty
import termios

CONTROL_C, CONTROL_D = b"\x03", b"\x04"


class Screen:
    """A command on a terminal of its own, its keys and what it shows."""

    def __init__(self, machine: Machine, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self.before = termios.tcgetattr(slave)

        def take_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            machine.command(*arguments),
            env={**machine.variables, "TERM": "xterm", "NO_COLOR": "1"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=take_terminal,  # noqa: PLW1509 - no thread of this process runs yet
        )
        self._slave = slave
        self.shown = ""

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def wait_for(self, pattern: str) -> str:
        """Wait for text after what was waited for before; all that came up to its end."""
        until = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.shown)) is None:
            assert time.monotonic() < until, f"no {pattern!r} in: {self.shown!r}"
            if select.select([self._master], [], [], 0.1)[0]:
                self.shown += os.read(self._master, 65536).decode("utf-8", "replace")
            else:
                assert self.process.poll() is None, f"it ended: {self.shown!r}"
        came, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return came

    def ended(self) -> int:
        """The exit code; the terminal is as it was."""
        code = self.process.wait(PATIENCE)
        assert termios.tcgetattr(self._slave) == self.before
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self._master)
        os.close(self._slave)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Machine]:
    """A device that is paired with a listener on this machine, which runs."""
    key = new_key()
    with (
        Machine(tmp_path / "server", CLAWCHAT_BOOTSTRAP_KEY=key) as server,
        Machine(tmp_path / "device", CLAWCHAT_BOOTSTRAP_KEY=key) as device,
    ):
        serve = server.start("serve", "--ip", "127.0.0.1")
        serve.wait_for("bootstrap file published")
        file = server.home / "state" / "listener" / "clawchat-current.sec"
        paired = device.run("connect", str(file), "--once")
        assert paired.returncode == 0, (paired.stderr, serve.said)
        yield device


@pytest.fixture
def screen(device: Machine) -> Iterator[Screen]:
    screen = Screen(device, "chat")
    try:
        screen.wait_for("you> ")
        yield screen
    finally:
        screen.close()


def test_a_conversation_is_shown_again_the_next_time(device: Machine, screen: Screen) -> None:
    screen.type("grüße\r".encode())
    screen.wait_for("agent> grüße\r\n")
    screen.type(b"/quit\r")
    assert screen.ended() == 0
    later = Screen(device, "chat")
    came = later.wait_for("agent> grüße\r\n")
    assert "you> grüße" in came
    later.wait_for("you> ")
    later.type(CONTROL_D)
    assert later.ended() == 0
    later.close()


def test_control_c_stops_a_reply_and_at_an_empty_prompt_leaves(screen: Screen) -> None:
    screen.type(b"word " * 600 + b"\r")
    screen.wait_for("agent> word word word")
    screen.type(CONTROL_C)
    screen.wait_for(re.escape("[cancelled]"))
    screen.wait_for("you> ")
    screen.type(b"thrown away")
    screen.wait_for("thrown away")
    screen.type(CONTROL_C)
    screen.type(b"kept\r")
    assert "thrown" not in screen.wait_for("agent> kept\r\n").partition("you> kept")[2]
    screen.wait_for("you> ")
    screen.type(CONTROL_C)
    assert screen.ended() == 0


def test_the_commands_of_a_chat_answer(screen: Screen) -> None:
    screen.type(b"/help\r")
    screen.wait_for("/history")
    screen.type(b"/status\r")
    screen.wait_for(r"round trip [\d.]+ ms")
    screen.type(b"/frobnicate\r")
    screen.wait_for("there is no /frobnicate")
    screen.type(b"//slash\r")
    screen.wait_for("agent> /slash\r\n")
    screen.type(b"/new\r")
    screen.wait_for("a new conversation")
    screen.type(b"/history\r")
    screen.wait_for("a new conversation")


def test_a_pasted_text_of_several_lines_is_one_message(screen: Screen) -> None:
    screen.type(b"\x1b[200~one\rtwo\x1b[201~\r")
    screen.wait_for("agent> one\r\ntwo\r\n")


def test_a_reply_cannot_steer_the_terminal(screen: Screen) -> None:
    screen.type(b"\x1b[200~")
    screen.type("a\u202eb\u009b2J".encode())
    screen.type(b"\x1b[201~\r")
    screen.wait_for("agent> a\ufffdb\ufffd2J\r\n")
