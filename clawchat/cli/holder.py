"""Holds the one link of this device to a listener, and lends it to other commands.

    command ── local socket ──> Holder ── encrypted link ──> listener

Rules: a holder has the pairing's lock as long as it lives; a link that only lost its path is left
to find another; when the link dies it dials again, with growing pauses, and gives up only when
dialling again cannot help. What it tells the
user goes through `tell`, so that a chat can keep its prompt in order.
Left to others: becoming a holder or using another one (`cli.shared_link`), the link (`drivers`).
"""

from __future__ import annotations

import os
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Protocol, TypeAlias, TypeVar

import trio

from clawchat.cli.alarms import keep_and_tell
from clawchat.cli.local_socket import LocalSocket, LocalStream, Message, Refused, splice
from clawchat.cli.receipts import as_told
from clawchat.cli.terminal import one_line
from clawchat.core.actions import (
    Closed,
    CopyReported,
    LinkStats,
    Notice,
    PathChanged,
    PathRestored,
    PathSuspect,
    PortKept,
    PortRotated,
    Receipt,
)
from clawchat.core.credential import Address
from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.core.phases.dialing import FORSAKEN, FORSAKEN_WHY
from clawchat.drivers.alarms import AlarmLog, alarm_told
from clawchat.errors import (
    LASTING,
    ClawChatError,
    CloseCode,
    CompromiseReason,
    LinkClosed,
    UnknownLink,
    UserError,
)

PAUSE_FIRST = 0.5  # seconds between a lost link and the first new attempt
PAUSE_MAX = 30.0
SILENT_SECONDS = 2.0  # dialling that takes longer is mentioned
PATIENCE = 30.0  # seconds that a request waits for a link that is being made again

# A path is lost for a moment now and then: that is worth no word. A listener that was killed and
# started again does not know the link's keys, which looks the same as a broken network: after some
# seconds the next credential is tried, sooner than the core would give up. That breaks streams, and
# costs no word: conversations go on where they were, by event id.
BLINK_SECONDS = 1.0
SEARCH_SECONDS = 20.0

PANIC_SECONDS = 15.0  # the peer is told for ten; then the receipt is on its way

Tell: TypeAlias = Callable[[str], None]
T = TypeVar("T")


class Link(Protocol):
    """What a holder needs of a `clawchat.Peer`."""

    observed: Address | None

    @property
    def reports(self) -> deque[CopyReported]: ...
    @property
    def file_id(self) -> bytes: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def remote(self) -> Address: ...
    def stats(self) -> LinkStats: ...
    async def open_stream(
        self, *, bulk: bool = False, shaped: bool = False
    ) -> trio.abc.HalfCloseableStream: ...
    async def ping(self) -> float: ...
    async def rotate_keys(self) -> int: ...
    async def rotate_port(self) -> PortRotated | PortKept: ...
    async def declare_compromised(
        self, reason: CompromiseReason = ..., *, everything: bool = ...
    ) -> Receipt: ...
    async def wait_closed(self) -> Closed: ...
    async def aclose(self) -> None: ...
    def notices(self) -> AsyncIterator[Notice]: ...


Dial: TypeAlias = "Callable[[], AbstractAsyncContextManager[Link]]"


class Holder:
    """Keeps one link up. `run` does it; everything else may be called meanwhile."""

    def __init__(
        self, name: str, dial: Dial, socket: LocalSocket, alarms: AlarmLog, tell: Tell
    ) -> None:
        self.name = name
        self._dial = dial
        self._socket = socket
        self._alarms = alarms
        self._tell = tell
        self._link: Link | None = None
        self._since = 0.0
        self._trouble = ""
        self._over: ClawChatError | OSError | None = None
        self._silent: Closed | None = None
        self._changed = trio.Condition()
        self._scope = trio.CancelScope()

    # --- keeping the link -----------------------------------------------------------------------

    async def run(
        self,
        *,
        persistent: bool = False,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Dial, lend the link, dial again; until cancelled or stopped.

        `task_status` is told when the link is up the first time. Raises what made the first
        attempt fail (unless `persistent`), or what makes further ones useless.
        """
        with self._scope:
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self._socket.serve, self.answer)
                    nursery.start_soon(self._say_what_takes_long)
                    await self._keep(persistent, task_status)
            except BaseExceptionGroup as group:
                found = group.exceptions[0]
                if len(group.exceptions) == 1 and isinstance(found, ClawChatError | OSError):
                    await self._set(None, over=found)
                    raise found from None
                raise
        await self._set(None, over=LinkClosed(CloseCode.DONE, "the holder of the link was stopped"))

    async def _say_what_takes_long(self) -> None:
        await trio.sleep(SILENT_SECONDS)
        if self._link is None and not self._trouble:
            self._tell(f"dialling {one_line(self.name)}; no answer yet (Ctrl-C gives up)")

    def stop(self) -> None:
        """End the link and everything that uses it."""
        self._scope.cancel()

    async def _keep(self, persistent: bool, task_status: trio.TaskStatus[None]) -> None:
        pause = PAUSE_FIRST
        established = False
        told = ""  # the same trouble every minute of a night needs no second line
        while True:
            try:
                async with self._dialled() as link:
                    await self._set(link)
                    if established:
                        self._tell(f"the link to {one_line(self.name)} is back")
                    else:
                        established = True
                        task_status.started()
                    pause, told = PAUSE_FIRST, ""
                    closed = await self._lend(link)
                raise LinkClosed(closed.code, _why(closed), by_peer=closed.by_peer)
            except (LinkClosed, OSError) as error:
                await self._set(None, trouble=str(error))
                hopeless = isinstance(error, LinkClosed) and error.code in LASTING
                if hopeless or not (established or persistent):
                    raise
                lost = "lost the link" if pause == PAUSE_FIRST and established else "no link"
                trouble = f"{lost} to {one_line(self.name)}: {one_line(str(error))}; trying again"
                if trouble != told:
                    self._tell(trouble)
                told = trouble
            await trio.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311 - not a secret
            pause = min(pause * 2, PAUSE_MAX)

    @asynccontextmanager
    async def _dialled(self) -> AsyncIterator[Link]:
        """A new link. What it says of copies up to its very end is kept."""
        made: Link | None = None
        try:
            async with self._dial() as made:
                yield made
        finally:
            if made is not None:
                await self._warn(made)

    async def _warn(self, link: Link) -> None:
        """Somebody has a copy of this device's credential: tell it, and keep it."""
        with trio.CancelScope(shield=True):  # nobody says it twice
            while link.reports:
                alarm = alarm_told(link.reports.popleft(), link.file_id, self.name)
                await keep_and_tell(self._alarms, alarm, self.name, self._tell)

    async def _lend(self, link: Link) -> Closed:
        """Lend the link, which is there, until it ends."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._report, link)
            closed = await link.wait_closed()
            await self._set(None, trouble=closed.reason)
            nursery.cancel_scope.cancel()
        return self._silent or closed

    async def _report(self, link: Link) -> None:
        """Tell what happens to the link; while its path is lost, see that this has an end."""
        self._silent = None
        remote = link.remote
        search = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            notices = link.notices()
            await self._warn(link)  # of what was said before there was a reader
            async for notice in notices:
                if isinstance(notice, CopyReported):
                    await self._warn(link)
                elif isinstance(notice, PathSuspect):
                    search = trio.CancelScope()
                    nursery.start_soon(self._search, link, search)
                elif isinstance(notice, PathRestored):
                    search.cancel()
                    if notice.after_ns >= BLINK_SECONDS * SECOND:
                        name = one_line(self.name)
                        self._tell(f"{name} is back after {notice.after_ns / SECOND:.0f} s")
                elif isinstance(notice, PathChanged) and notice.path.remote != remote:
                    remote = notice.path.remote
                    self._tell(f"{one_line(self.name)} moved to {remote}")
            nursery.cancel_scope.cancel()

    async def _search(self, link: Link, search: trio.CancelScope) -> None:
        """The core searches; when it finds nothing for long, the listener may be a new process."""
        with search:
            await trio.sleep(BLINK_SECONDS)
            forsaken = _is_forsaken(link)
            lost = FORSAKEN if forsaken else f"the path to {one_line(self.name)} is lost"
            self._tell(f"{lost}, searching ...")
            await trio.sleep(SEARCH_SECONDS - BLINK_SECONDS)
            silence = f"nothing came from it for {SEARCH_SECONDS:.0f} s"
            if forsaken:
                silence = f"{FORSAKEN}: {FORSAKEN_WHY}"
            self._silent = Closed(CloseCode.TIMEOUT, silence, by_peer=False)
            await link.aclose()

    async def _set(
        self,
        link: Link | None,
        *,
        trouble: str = "",
        over: ClawChatError | OSError | None = None,
    ) -> None:
        with trio.CancelScope(shield=True):
            async with self._changed:
                self._link, self._trouble = link, trouble
                self._since = time.monotonic()
                self._over = self._over or over
                self._changed.notify_all()

    # --- lending it -------------------------------------------------------------------------------

    async def link(self) -> Link:
        """The link, waiting `PATIENCE` seconds for it. Raises `LinkClosed` or a `UserError`."""
        with trio.move_on_after(PATIENCE):
            async with self._changed:
                while self._link is None:
                    if self._over is not None:
                        raise self._over
                    await self._changed.wait()
                return self._link
        why = f": {self._trouble}" if self._trouble else ""
        raise LinkClosed(CloseCode.TIMEOUT, f"no link to {self.name} yet{why}")

    async def open_stream(
        self, *, bulk: bool = False, shaped: bool = False
    ) -> trio.abc.HalfCloseableStream:
        """A stream of the link."""
        return await self._over_a_link(lambda link: link.open_stream(bulk=bulk, shaped=shaped))

    async def _over_a_link(self, use: Callable[[Link], Awaitable[T]]) -> T:
        """Use the link; when it ends meanwhile, the next one. Raises as `link` does."""
        while True:
            link = await self.link()
            try:
                return await use(link)
            except trio.BrokenResourceError:  # it ended this moment; `_keep` is about to notice
                async with self._changed:
                    while self._link is link:
                        await self._changed.wait()

    async def control(self, message: Message) -> Message:
        """Answer what is not a stream: `status`, `ping`, `rotate`, `rotate-port`, `panic`."""
        verb = message.get("verb")
        if verb == "status":
            return {"ok": True, **self._status()}
        if verb == "ping":
            rtt = await self._over_a_link(lambda link: link.ping())
            return {"ok": True, "rtt_ms": rtt * 1000}
        if verb == "rotate":
            return {"ok": True, "epoch": await self._over_a_link(lambda link: link.rotate_keys())}
        if verb == "rotate-port":
            moved = await self._over_a_link(lambda link: link.rotate_port())
            return {"ok": True, **as_moved(moved)}
        if verb == "panic":
            return {"ok": True, "receipts": await self._panic(message)}
        raise Refused("unknown", f"the process that holds the link does not know {verb!r}")

    async def _panic(self, message: Message) -> list[dict[str, Any]]:
        """Destroy the pairing over the link. Without one nobody is told: make room for who asks."""
        link = self._link
        if link is None:
            self.stop()
            return []
        receipt = await link.declare_compromised(
            CompromiseReason(message["reason"]), everything=bool(message["everything"])
        )
        return [as_told(receipt, self.name)]

    async def answer(self, message: Message, stream: LocalStream) -> None:
        """Serve one connection of the local socket."""
        try:
            if message.get("verb") == "stop":
                await stream.send_message({"ok": True})
                self.stop()
            elif message.get("verb") == "stream":
                lent = await self.open_stream(
                    bulk=bool(message.get("bulk")), shaped=bool(message.get("shaped"))
                )
                await stream.send_message({"ok": True})
                await splice(lent, stream)
            elif message.get("verb") == "panic":
                with trio.move_on_after(PANIC_SECONDS, shield=True):  # the link ends meanwhile
                    await stream.send_message(await self.control(message))
            else:
                await stream.send_message(await self.control(message))
        except LinkClosed as error:
            raise Refused(f"closed-{int(error.code)}", str(error)) from None
        except Refused:
            raise
        except UserError as error:
            raise Refused("failed", str(error)) from None

    def _status(self) -> dict[str, Any]:
        base: dict[str, Any] = {
            "peer": self.name,
            "holder_pid": os.getpid(),
            "link": "down" if self._link is None else "up",
            "seconds": round(time.monotonic() - self._since, 1),
        }
        if self._link is None:
            return {**base, "trouble": self._trouble}
        return {**base, **describe(self._link)}


def _is_forsaken(link: Link) -> bool:
    """Whether the listener answered the call and then fell silent."""
    with suppress(UnknownLink):  # ended in this very turn
        return link.stats().packets_received == 0
    return False


def _why(closed: Closed) -> str:
    if closed.reason:
        return closed.reason
    if closed.by_peer and closed.code is CloseCode.DONE:
        return "it was closed there"
    return f"{closed.code.name.lower().replace('_', ' ')}, said by {_WHO[closed.by_peer]}"


_WHO = {True: "the listener", False: "this side"}


def as_moved(notice: PortRotated | PortKept) -> dict[str, Any]:
    """What came of `rotate --ports`."""
    if isinstance(notice, PortRotated):
        return {"port": notice.local.port, "ms": round(notice.took_ns / MILLISECOND, 3)}
    return {"port": None, "why": notice.why}


def describe(link: Link) -> dict[str, Any]:
    """A link as `status --json` prints it."""
    stats = link.stats()
    path = stats.path
    return {
        "phase": stats.phase,
        "fingerprint": link.fingerprint,
        "generation": link.generation,
        "epoch": stats.epoch,
        "local": None if path is None else str(path.local),
        "ports_left": stats.ports_left,
        "remote": str(link.remote),
        "observed": None if link.observed is None else str(link.observed),
        "rtt_ms": round(stats.rtt_ns / MILLISECOND, 3),
        "rtt_min_ms": round(stats.rtt_min_ns / MILLISECOND, 3),
        "datagram_size": stats.datagram_size,
        "packets_sent": stats.packets_sent,
        "packets_received": stats.packets_received,
        "packets_lost": stats.packets_lost,
        "streams": stats.streams,
    }
