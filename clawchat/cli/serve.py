"""`clawchat serve`: the listener, with an agent inside or beside it.

Rules: the port is kept in the security folder, or a paired device could not find its listener
again; what happens is told on stderr, one line each. A local socket answers `clawchat sec new`
and `clawchat status`.
Left to others: accepting links (`clawchat.serve`), carrying requests (`apps.gateway`).
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections import deque
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Annotated, Any

import trio
from cyclopts import Parameter

import clawchat
from clawchat.apps.gateway import (
    AgentAddress,
    AgentUnreachable,
    check_agent,
    parse_agent_url,
    relay,
)
from clawchat.cli.agent import PORT_RANGE, provider_of, running_agent
from clawchat.cli.alarms import keep_and_tell, unread, unread_lines
from clawchat.cli.bootstrap_key import HOW_TO_MAKE_ONE, WAYS, given_key
from clawchat.cli.exit_codes import ExitCode
from clawchat.cli.failures import AgentTrouble, InUse, Usage, exit_code
from clawchat.cli.holder import PANIC_SECONDS
from clawchat.cli.local_socket import LocalSocket, LocalStream, Message, NobodyHome, Refused
from clawchat.cli.options import (
    BaseUrl,
    ExitWithStdin,
    KeyFile,
    Model,
    ProviderName,
    SecurityDir,
    StateDir,
)
from clawchat.cli.places import SERVE_SOCKET, agent_folder, listener_folder, private_folder
from clawchat.cli.receipts import as_told, receipt_lines
from clawchat.cli.terminal import Style, describe, one_line, say
from clawchat.cli.until_stopped import until_stopped
from clawchat.core.actions import BootstrapContent, Compromised, CredentialReused, Receipt
from clawchat.core.credential import Address
from clawchat.core.crypto.bootstrap import BootstrapKey
from clawchat.drivers.address import parse_address, resolve
from clawchat.drivers.alarms import AlarmLog, alarm_of
from clawchat.drivers.files import write_private
from clawchat.drivers.listener import Listener
from clawchat.drivers.on_trio import NotErased
from clawchat.drivers.peer import Peer, fingerprint
from clawchat.drivers.publisher import FILE_NAME, Publisher
from clawchat.drivers.store import Entry, Store
from clawchat.errors import (
    BootstrapKeyMissing,
    CompromiseReason,
    Drop,
    PairingDestroyed,
    StoreError,
    UserError,
)

PORTS = range(49152, 65536)  # for private use (RFC 6335)
TRIES = 8
PORT_FILE = "port"


async def serve(
    *,
    ip: Annotated[
        str, Parameter(help="Address to listen on (else all of this machine's, IPv4 and IPv6).")
    ] = "",
    port: Annotated[
        int | None,
        Parameter(
            help="UDP port (else the one used before, else a random one of 49152-65535).",
            validator=PORT_RANGE,
        ),
    ] = None,
    advertise: Annotated[
        list[str] | None,
        Parameter(
            help="ADDRESS[:PORT] to put into the bootstrap file, such as your router's public "
            "address; may be repeated (else the addresses of this machine).",
            negative="",
        ),
    ] = None,
    keep_port: Annotated[
        bool,
        Parameter(
            negative="",
            help="Let links stay on that port. Else each leaves it every hour for another, where "
            "the network allows that; devices find the listener at that port all the same.",
        ),
    ] = False,
    agent_url: Annotated[
        str | None,
        Parameter(
            help="A running agent, such as http://127.0.0.1:55556 (else one runs inside).",
        ),
    ] = None,
    provider: ProviderName = "",
    model: Model = "",
    base_url: BaseUrl = "",
    security_dir: SecurityDir = None,
    state_dir: StateDir = None,
    key_file: KeyFile = None,
    exit_with_stdin: ExitWithStdin = False,
) -> None:
    """Listen until stopped."""
    folder = private_folder(
        listener_folder(security_dir, state_dir), "--security-dir or CLAWCHAT_SECURITY_DIR"
    )
    store = Store(folder)
    devices = [entry for entry in store.entries() if not entry.pairing.dialer]
    await _refuse_second(folder)
    key = _key(key_file, bool(devices))
    async with until_stopped(with_stdin=exit_with_stdin), AsyncExitStack() as stack:
        if agent_url is not None:
            if provider or model or base_url:
                raise Usage(
                    "--agent-url names an agent, which has a provider already: leave out "
                    "--provider, --model and --base-url, or --agent-url"
                )
            address, what = await _running_at(agent_url), f"at {agent_url}"
        else:
            chosen = provider_of(provider, model, base_url)
            home = private_folder(agent_folder(state_dir), "--state-dir")
            inside = await stack.enter_async_context(running_agent(home, chosen, 0))
            address, what = (
                parse_agent_url(inside.url),
                f"{describe(chosen.name, chosen.model)}, in this process",
            )
        desk = _Desk(store, address, None if key is None else _Publisher(folder, key, key_file))
        ports = [port] if port is not None else _ports(folder)
        listener = await _listen(
            stack, store, ip, ports, advertise or [], desk.publisher, keep_port=keep_port
        )
        _keep_port(folder, listener.address.port)
        _introduce(listener, what, devices)
        for line in unread_lines(await unread(folder)):
            say(line)
        if desk.publisher is not None:
            desk.publisher.speak()
        await desk.run(listener)
    say("stopped: every link is closed, and an unused bootstrap file is withdrawn")


async def _refuse_second(folder: Path) -> None:
    """Raises `InUse` when a listener serves from `folder` already."""
    try:
        answer = await LocalSocket(folder / SERVE_SOCKET).ask({"verb": "status"})
    except NobodyHome:
        return
    raise InUse(
        f"process {answer.get('pid')} serves from {folder} already: use that one, stop it, or "
        "name another folder with --security-dir"
    )


async def _running_at(agent_url: str) -> AgentAddress:
    """Where the agent is, which answered just now. Raises `Usage` or `AgentTrouble`."""
    try:
        address = parse_agent_url(agent_url)
    except UserError as error:
        raise Usage(f"--agent-url: {error}") from None
    try:
        await check_agent(address)
    except AgentUnreachable as error:
        raise AgentTrouble(str(error)) from None
    return address


def _key(key_file: Path | None, paired: bool) -> BootstrapKey | None:
    """Needed to publish; a listener that knows its devices runs without."""
    why = "seal the bootstrap file"
    key = given_key(key_file, ask="" if paired else why, choosing=True)
    if key is None and not paired:
        raise BootstrapKeyMissing(
            f"the bootstrap key is needed to {why}: {WAYS} ({HOW_TO_MAKE_ONE})"
        )
    return key


# --- where it listens -------------------------------------------------------------------------


def _ports(folder: Path) -> list[int]:
    """The port of last time; the first time some random ones, for one may be in use."""
    try:
        port = int((folder / PORT_FILE).read_text("ascii"))
    except FileNotFoundError:
        return [secrets.choice(PORTS) for _ in range(TRIES)]
    except (OSError, ValueError):
        port = -1
    if port not in range(65536):
        raise StoreError(
            f"{folder / PORT_FILE} cannot be read: name the port your devices know with --port"
        )
    return [port]


def _keep_port(folder: Path, port: int) -> None:
    file, line = folder / PORT_FILE, f"{port}\n".encode()
    try:
        known = file.read_bytes() == line
    except OSError:
        known = False
    if not known:
        write_private(file, line)


async def _listen(
    stack: AsyncExitStack,
    store: Store,
    ip: str,
    ports: list[int],
    advertise: list[str],
    publisher: Publisher | None,
    *,
    keep_port: bool,
) -> Listener:
    """Listen on the first of `ports` that is free, until `stack` ends."""
    while True:
        port = ports.pop(0)
        addresses = _advertised(advertise, port)
        listening = clawchat.serve(
            store,
            host=ip,
            port=port,
            advertise=addresses,
            publisher=publisher,
            rotate_ports=not keep_port,
        )
        try:
            return await stack.enter_async_context(listening)
        except UserError as error:
            if exit_code(error) is ExitCode.FAILURE:  # an option that it could not use
                raise Usage(str(error)) from error
            if exit_code(error) is not ExitCode.IN_USE or not ports:
                raise


def _advertised(given: list[str], port: int) -> list[Address]:
    found: list[Address] = []
    for text in given:
        try:
            found.append(parse_address(text, port=port))
        except ValueError:
            host, _, digits = text.partition(":")
            wanted = int(digits) if digits.isdecimal() else port
            try:
                found += resolve(host, wanted)
            except (OSError, UnicodeError):
                raise Usage(
                    f"--advertise {text}: neither an address nor a name that resolves; write it "
                    "as 203.0.113.7, 203.0.113.7:51000 or [2001:db8::7]:51000"
                ) from None
    return found


# --- what it tells ----------------------------------------------------------------------------


def _introduce(listener: Listener, agent: str, devices: list[Entry]) -> None:
    style = Style(sys.stderr)
    where = ", ".join(f"UDP {address}" for address in listener.addresses)
    say(f"{style.bold('clawchat serve')}: listening on {where}")
    say(f"  fingerprint  {listener.fingerprint}")
    say(f"  agent        {agent}")
    if devices:
        names = ", ".join(one_line(entry.name) for entry in devices)
        say(f"  paired with  {names}")
        say("  `clawchat sec new` publishes a bootstrap file for a further device")


class _Publisher(Publisher):
    """Publishes, and tells the user what to do with the file."""

    def __init__(self, folder: Path, key: BootstrapKey, key_file: Path | None) -> None:
        super().__init__(folder, key)
        self._key_file = key_file
        self.current: BootstrapContent | None = None
        self._live: deque[bytes] = deque(maxlen=2)  # ids of files that a device may redeem
        self._held_back: list[str] | None = []  # until the listener has introduced itself

    def speak(self) -> None:
        """Say what was held back, and everything from now on."""
        held, self._held_back = self._held_back or [], None
        for line in held:
            say(line)

    def _tell(self, *lines: str) -> None:
        for line in lines:
            if self._held_back is None:
                say(line)
            else:
                self._held_back.append(line)

    def publish(self, content: BootstrapContent) -> Path:
        path = super().publish(content)
        first, self.current = self.current is None, content
        self._live.append(content.file_id)
        until = time.strftime("%H:%M:%S", time.localtime(content.expires))
        if not first:
            self._tell(f"a new bootstrap file replaces the last one, valid until {until}")
            return path
        where = ", ".join(str(address) for address in content.candidates)
        self._tell(
            f"bootstrap file published: {path}",
            f"  valid until {until}; says that this listener is at {where}",
            *self._next(path.name),
        )
        return path

    def _next(self, name: str) -> tuple[str, str]:
        """The other device needs both, the file and the key."""
        if self._key_file is None:
            told = "  next: copy it to your other device and run there, with the same bootstrap key"
            return told, f"    clawchat connect {name}"
        key = one_line(self._key_file.name)
        return (
            f"  next: copy it and the key, {key}, to your other device and run there",
            f"    clawchat connect {name} --key-file {key}",
        )

    def withdraw(self) -> None:
        super().withdraw()
        if self.current is not None and self._was_used():  # else the listener stops, or destroys it
            self._tell("the bootstrap file was used; `clawchat sec new` publishes another")
        self.current = None

    def _was_used(self) -> bool:
        store = Store(self.path.parent)  # a pairing is kept there before its file is withdrawn
        with suppress(StoreError):
            return any(store.get(file_id) is not None for file_id in self._live)
        return False


class _Desk:
    """Receives devices, and commands of this machine."""

    def __init__(self, store: Store, agent: AgentAddress, publisher: _Publisher | None) -> None:
        self.store = store
        self.publisher = publisher
        self._agent = agent
        self._up: dict[Peer, float] = {}
        self._fallen = trio.Event()  # nothing is left to serve
        self._names: dict[bytes, str] = {}  # a receipt comes when the store knows them no more
        self._alarms = AlarmLog(store.folder)

    async def run(self, listener: Listener) -> None:
        """Until cancelled."""
        self._listener = listener
        self._names = {e.pairing.file_id: e.name for e in self.store.entries()}
        async with trio.open_nursery() as nursery:
            await nursery.start(LocalSocket(self.store.folder / SERVE_SOCKET).serve, self.answer)
            nursery.start_soon(self._report)
            nursery.start_soon(self._end_when_fallen, nursery.cancel_scope)
            async for peer in listener:
                nursery.start_soon(self._receive, peer)

    async def _receive(self, peer: Peer) -> None:
        name = await self._named(peer.file_id)
        new = peer.generation == 1  # the first credential that replaces a bootstrap file's
        if new:
            try:
                name = await self._replace_earlier(peer, name)
            except StoreError as error:
                say(f"clawchat: {error}")
        say(
            f"{'device paired' if new else 'device is back'}: {one_line(name)} from "
            f"{peer.remote}, fingerprint {peer.fingerprint}"
        )
        self._up[peer] = time.monotonic()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._relay, peer, name)
                closed = await peer.wait_closed()
                nursery.cancel_scope.cancel()
        finally:
            del self._up[peer]
            with trio.CancelScope(shield=True), suppress(StoreError):
                await trio.to_thread.run_sync(self.store.note_seen, peer.file_id)
        name = await self._named(peer.file_id)
        reason = closed.reason or closed.code.name.lower().replace("_", " ")
        say(f"device left: {one_line(name)} ({one_line(reason)})")

    async def _named(self, file_id: bytes) -> str:
        """What the device is called by now; what it was called last, once its pairing is gone."""
        with suppress(StoreError):
            entry = await trio.to_thread.run_sync(self.store.get, file_id)
            if entry is not None:
                self._names[file_id] = entry.name
        return self._names.get(file_id, file_id.hex()[:8])

    async def _replace_earlier(self, peer: Peer, name: str) -> str:
        """A device that pairs anew gives its earlier pairings up, whose copies then are of no use;
        their name stays with it. The name.
        """
        for entry in await self._listener.pairings():
            pairing = entry.pairing
            if pairing.peer_static == peer.peer_static and pairing.file_id != peer.file_id:
                await self._listener.forget(pairing.file_id)
                name = entry.name
                await trio.to_thread.run_sync(self.store.rename, peer.file_id, name)
                say(f"{one_line(name)} is paired anew: its earlier pairing is revoked")
        self._names[peer.file_id] = name
        return name

    async def _relay(self, peer: Peer, name: str) -> None:
        await relay(peer, self._agent, name=name)

    async def _report(self) -> None:
        async for notice in self._listener.notices():
            if isinstance(notice, Compromised):
                self._say_compromised(notice.receipt)
                continue
            await self._alarm(notice)

    async def _alarm(self, notice: CredentialReused) -> None:
        """Tell it, and keep it for a user who does not look."""
        await self._listener.pairings()  # comes after the writing of one that is just being made
        name = await self._named(notice.file_id)
        await keep_and_tell(self._alarms, alarm_of(notice, name), name, say)

    def _say_compromised(self, receipt: Receipt) -> None:
        name = self._names.get(receipt.file_id, receipt.file_id.hex()[:8])
        who = one_line(name) if receipt.by_peer else "this machine"
        why = receipt.reason.name.lower().replace("_", " ")
        say(f"WARNING: {who} declared the pairing with {one_line(name)} compromised ({why}).")
        for line in receipt_lines(as_told(receipt, name)):
            say(f"  {line}")
        if receipt.kept.identity:
            self._fallen.set()

    async def _end_when_fallen(self, scope: trio.CancelScope) -> None:
        await self._fallen.wait()
        say("everything was declared compromised: `clawchat serve` ends; pair anew afterwards")
        await trio.sleep(PANIC_SECONDS)  # other devices are being told
        scope.cancel()

    async def _panic(self, message: Message) -> list[dict[str, Any]]:
        everything = bool(message["everything"])
        try:
            receipts = await self._listener.declare_compromised(
                bytes.fromhex(str(message["id"])),
                reason=CompromiseReason(message["reason"]),
                everything=everything,
            )
        except NotErased as error:  # the caller finds the files, and says so
            receipts = error.receipts
        except PairingDestroyed:
            with suppress(StoreError, trio.ClosedResourceError):
                await self._listener.pairings()  # once the files are gone, too
            return []
        return [
            as_told(receipt, self._names.get(receipt.file_id, receipt.file_id.hex()[:8]))
            for receipt in receipts
        ]

    async def answer(self, message: Message, stream: LocalStream) -> None:
        """Serve one command of this machine."""
        verb = message.get("verb")
        if verb == "publish":
            if self.publisher is None:
                raise Refused("no-key", f"the running listener was started without a key: {WAYS}")
            path = await self._listener.publish()
            await stream.send_message({"ok": True, "path": str(path), **self._current()})
        elif verb == "status":
            await stream.send_message({"ok": True, **await self._status()})
        elif verb == "revoke":
            file_id = bytes.fromhex(str(message["id"]))
            await self._named(file_id)
            told = await self._listener.forget(file_id)
            await stream.send_message({"ok": True, "told": told})
        elif verb == "panic":
            await stream.send_message({"ok": True, "receipts": await self._panic(message)})
        else:
            raise Refused("unknown", f"the running listener does not know {verb!r}")

    def _current(self) -> dict[str, Any]:
        content = None if self.publisher is None else self.publisher.current
        return {} if content is None else {"expires": content.expires}

    async def _status(self) -> dict[str, Any]:
        devices = await trio.to_thread.run_sync(self.store.entries)
        links = {peer.file_id: peer for peer in self._up}
        current = self._current()
        return {
            "pid": os.getpid(),
            "addresses": [str(address) for address in self._listener.addresses],
            "fingerprint": self._listener.fingerprint,
            "agent": str(self._agent),
            "strangers": self._listener.drops[Drop.STRANGER],
            "bootstrap_file": str(self.store.folder / FILE_NAME) if current else None,
            **({"bootstrap_expires": current["expires"]} if current else {}),
            "devices": [
                {
                    "name": entry.name,
                    "id": entry.pairing.file_id.hex(),
                    "fingerprint": _fingerprint(entry),
                    "link": "up" if entry.pairing.file_id in links else "down",
                    "remote": str(links[entry.pairing.file_id].remote)
                    if entry.pairing.file_id in links
                    else None,
                }
                for entry in devices
                if not entry.pairing.dialer
            ],
        }


def _fingerprint(entry: Entry) -> str | None:
    static = entry.pairing.peer_static
    return None if static is None else fingerprint(static)
