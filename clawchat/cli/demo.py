"""`clawchat demo`: agent, listener and device on this machine, over a real encrypted UDP link.

Rules: separate processes with separate folders, as on two machines; everything they keep is in one
temporary folder. Each child ends when its stdin does, is told to when the demo ends, and is killed
by its pid when it does not; the folder is removed after that.
Left to others: all that is shown (the ordinary commands do it).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter

from clawchat.cli.bootstrap_key import KEY_VARIABLE, PASSPHRASE_VARIABLE, write_key
from clawchat.cli.chat import run_chat
from clawchat.cli.device import choose, open_store
from clawchat.cli.failures import Cancelled, NotPaired
from clawchat.cli.local_socket import NobodyHome, Refused
from clawchat.cli.options import BaseUrl, Model, ProviderName
from clawchat.cli.places import SECURITY_VARIABLE, STATE_VARIABLE
from clawchat.cli.send import send
from clawchat.cli.talk import LAST
from clawchat.cli.terminal import Style, harmless, say, stdin_is_terminal
from clawchat.cli.until_stopped import until_stopped
from clawchat.drivers.publisher import FILE_NAME
from clawchat.errors import UserError

START_SECONDS = 60.0  # for a process to be ready; a first import on a slow machine takes long
END_SECONDS = 5.0  # for a process to end by itself
LOOK_AGAIN = 0.05

# What the user has set for real use must not reach the demo, and its processes need no secrets.
NOT_INHERITED = (
    KEY_VARIABLE,
    PASSPHRASE_VARIABLE,
    STATE_VARIABLE,
    SECURITY_VARIABLE,
    "CLAWCHAT_PEER",
)


async def demo(
    *,
    text: Annotated[
        str | None,
        Parameter(name="--say", help="Send this, print the reply and exit."),
    ] = None,
    provider: ProviderName = "",
    model: Model = "",
    base_url: BaseUrl = "",
) -> int:
    """Set everything up, chat, take everything down."""
    for name in NOT_INHERITED:
        os.environ.pop(name, None)
    chosen = [
        part
        for option, value in (
            ("--provider", provider),
            ("--model", model),
            ("--base-url", base_url),
        )
        if value
        for part in (option, value)
    ]
    code: int | None = None
    home = Path(tempfile.mkdtemp(prefix="clawchat-demo-"))
    try:
        async with until_stopped():
            code = await _Stage(home).play(chosen, text)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if code is None:
        raise Cancelled("")
    if stdin_is_terminal() and text is None:
        say(f"the demo is over; its processes have ended and {home} is gone")
        say("with two machines it goes the same way: README.md has every command")
    return code


class _Stage:
    """The folder, and the processes in it."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._style = Style(sys.stderr)
        self._loud = True  # while nothing else writes to the terminal

    async def play(self, provider: list[str], text: str | None) -> int:
        """The whole demo; the exit code."""
        home, key = self._home, self._home / "bootstrap.key"
        published, copied = home / "server" / "listener" / FILE_NAME, home / FILE_NAME
        write_key(key)
        self._tell(f"two machines, acted by separate processes on this one; all is in {home}")
        self._tell(f"1. on the agent's machine: clawchat serve --key-file {key.name}")
        common = ["--key-file", str(key), "--exit-with-stdin", "--state-dir"]
        serve = ["serve", "--ip", "127.0.0.1", *provider, *common, str(home / "server")]
        connect = ["connect", str(copied), "--name", "demo", *common, str(home / "device")]
        async with self._child("serve", serve) as server:
            await self._until(server, lambda: _exists(published))
            self._tell(
                "2. the file and the key are copied; on the device: "
                f"clawchat connect {FILE_NAME} --key-file {key.name}"
            )
            shutil.copy(published, copied)
            async with self._child("connect", connect) as device:
                await self._until(device, lambda: _is_linked(home / "device"))
                self._tell("3. on the device: clawchat chat\n")
                self._loud = False
                if text is None:
                    return await run_chat(home / "device", None, LAST)
                await send(text, state_dir=home / "device")
                return 0

    @asynccontextmanager
    async def _child(self, name: str, arguments: list[str]) -> AsyncIterator[_Child]:
        async with trio.open_nursery() as nursery:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "clawchat", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # Ctrl-C is for the demo, which then ends its processes
            )
            child = _Child(name, process)
            nursery.start_soon(self._relay, child)
            try:
                yield child
            finally:
                await child.end()
                nursery.cancel_scope.cancel()

    async def _relay(self, child: _Child) -> None:
        assert child.process.stderr is not None
        rest = b""
        async for data in child.process.stderr:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                shown = harmless(line.decode("utf-8", "replace"))
                child.said.append(shown)
                del child.said[:-20]
                if self._loud:
                    say(f"   {self._style.dim(f'{child.name:>7} |')} {shown}")

    async def _until(self, child: _Child, ready: Callable[[], Awaitable[bool]]) -> None:
        """Wait for `ready`. Raises `UserError` when the child ends first, or takes too long."""
        with trio.move_on_after(START_SECONDS):
            while child.process.poll() is None:
                if await ready():
                    return
                await trio.sleep(LOOK_AGAIN)
            await trio.sleep(LOOK_AGAIN)  # for its last words to arrive
        last = child.said[-1] if child.said else "it said nothing"
        raise UserError(f"the demo's `clawchat {child.name}` did not get ready: {last}")

    def _tell(self, text: str) -> None:
        say(self._style.bold(text))


class _Child:
    """One process of the demo."""

    def __init__(self, name: str, process: trio.Process) -> None:
        self.name = name
        self.process = process
        self.said: list[str] = []

    async def end(self) -> None:
        """Close its stdin, then ask, then kill; return when it is gone."""
        with trio.CancelScope(shield=True):
            assert self.process.stdin is not None
            with suppress(OSError, trio.BrokenResourceError):
                await self.process.stdin.aclose()
            for push in (None, self.process.terminate, self.process.kill):
                with suppress(OSError):
                    if push is not None:
                        push()
                with trio.move_on_after(END_SECONDS):
                    await self.process.wait()
                    return


async def _exists(path: Path) -> bool:
    return await trio.Path(path).exists()


async def _is_linked(state: Path) -> bool:
    try:
        listener = choose(open_store(state), "demo")
        answer = await listener.socket.ask({"verb": "status"})
    except (NotPaired, NobodyHome, Refused):
        return False
    return answer.get("link") == "up"
