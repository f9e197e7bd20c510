"""Two machines for a test: folders and environments of their own, commands as real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from clawchat.cli.bootstrap_key import new_key
from tests.waiting import LOOK, PATIENCE

KEY = new_key()  # the bootstrap key of all machines of the fixtures


class Machine:
    """Runs `clawchat` with one state folder. As a context manager it ends what it started."""

    def __init__(self, home: Path, **variables: str) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CLAWCHAT_", "OPENAI_"))
        }
        root = str(Path(__file__).resolve().parents[2])
        self.variables = {
            **kept,
            "PYTHONPATH": root,
            "CLAWCHAT_STATE_DIR": str(home / "state"),
            **variables,
        }
        self.started: list[Background] = []

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """A command, to its end."""
        return subprocess.run(
            self.command(*arguments),
            env=self.variables,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        """What a command that works says with --json."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        assert told["version"] == 1
        return told

    def start(self, *arguments: str) -> Background:
        """A command in the background."""
        process = Background(self.command(*arguments), self.variables, self.home)
        self.started.append(process)
        return process

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "clawchat", *arguments]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self.started:
            process.stop()


class Background:
    """A command that runs meanwhile; what it says is kept in a file."""

    def __init__(self, command: list[str], variables: dict[str, str], home: Path) -> None:
        self._log = home / f"said-{time.monotonic_ns()}"
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(
                command, env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    @property
    def said(self) -> str:
        return self._log.read_text("utf-8")

    def wait_for(self, text: str) -> str:
        """Wait until it has said `text`; the line that holds it."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            for line in self.said.splitlines():
                if text in line:
                    return line
            assert self.process.poll() is None, f"it ended: {self.said}"
            time.sleep(LOOK)
        raise AssertionError(f"no {text!r} in: {self.said}")

    def ended(self) -> int:
        """Wait until it ends; the exit code."""
        return self.process.wait(PATIENCE)

    def interrupt(self, number: int = signal.SIGINT) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(number)
        return self.ended()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.ended()


# --- what nearly every conversation begins with -----------------------------------------------


def serving(server: Machine) -> Background:
    """A listener on the loopback address."""
    serve = server.start("serve", "--ip", "127.0.0.1")
    serve.wait_for("listening on")
    return serve


def published(server: Machine) -> Path:
    """The bootstrap file that it publishes."""
    return server.home / "state" / "listener" / "clawchat-current.sec"


def pair(device: Machine, file: Path, name: str = "home") -> None:
    """Redeem a bootstrap file."""
    done = device.run("connect", str(file), "--once", "--name", name)
    assert done.returncode == 0, done.stderr


def paired(server: Machine, device: Machine) -> Background:
    """A listener, and a device that is paired with it and holds no link."""
    serve = serving(server)
    serve.wait_for("bootstrap file published")
    pair(device, published(server))
    return serve


def pairings(machine: Machine, role: str) -> list[Path]:
    """What the machine has stored of its pairings as `device` or as `listener`."""
    return sorted((machine.home / "state" / role / "pairings").glob("*.json"))
