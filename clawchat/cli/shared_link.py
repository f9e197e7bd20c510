"""The link as a command sees it: another process's when one holds it, else its own.

Rules: whoever dials has the pairing's lock and serves the local socket while it lives; when the
process that held the link ends, the first of the others to notice takes over. So a device never
has two links, and never uses a credential twice.
Left to others: holding (`cli.holder`), HTTP over the streams (`apps`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from typing import TypeAlias

import trio

from clawchat.cli.failures import NoLink, explain
from clawchat.cli.holder import PATIENCE, SILENT_SECONDS, Dial, Holder, Tell
from clawchat.cli.local_socket import LocalSocket, LocalStream, Message, NobodyHome, Refused
from clawchat.cli.terminal import one_line
from clawchat.drivers.alarms import AlarmLog
from clawchat.drivers.locks import StoreBusy
from clawchat.errors import LASTING, ClawChatError, CloseCode, LinkClosed

Lock: TypeAlias = "Callable[[], AbstractContextManager[None]]"  # raises `StoreBusy`

LOOK_AGAIN = 0.1  # seconds between looks at a lock that somebody else holds


class SharedLink:
    """A way to the listener that survives the end of whichever process holds the link."""

    def __init__(
        self,
        name: str,
        dial: Dial,
        socket: LocalSocket,
        lock: Lock,
        alarms: AlarmLog,
        tell: Tell,
        nursery: trio.Nursery,
    ) -> None:
        self.name = name
        self._dial = dial
        self._socket = socket
        self._lock = lock
        self._alarms = alarms
        self.tell = tell  # the user
        self._nursery = nursery
        self._holder: Holder | None = None
        self._hopeless: LinkClosed | None = None

    @property
    def own(self) -> bool:
        """Whether this very process holds the link."""
        return self._holder is not None

    async def open_stream(
        self, *, bulk: bool = False, shaped: bool = False
    ) -> trio.abc.HalfCloseableStream:
        """A stream to the listener. Raises `LinkClosed` or a `UserError`."""
        found = await self._reach({"verb": "stream", "bulk": bulk, "shaped": shaped})
        if isinstance(found, Holder):
            return await found.open_stream(bulk=bulk, shaped=shaped)
        return found[1]

    async def ask(self, message: Message) -> Message:
        """Ask the holder of the link: `status`, `ping`, `rotate`. Raises as `open_stream`."""
        found = await self._reach(message)
        if isinstance(found, Holder):
            return await found.control(message)
        answer, stream = found
        await trio.aclose_forcefully(stream)
        return answer

    async def _reach(self, message: Message) -> Holder | tuple[Message, LocalStream]:
        """This process's holder, or another's answer; becomes the holder when there is none."""
        busy = StoreBusy(f"another process keeps the pairing with {self.name} locked: end it")
        for _ in range(int(PATIENCE / LOOK_AGAIN)):
            if self._hopeless is not None:
                raise self._hopeless
            if self._holder is not None:
                return self._holder
            try:
                return await self._lent(message)
            except NobodyHome:
                pass
            except Refused as refusal:
                raise _as_link_error(refusal) from None
            with ExitStack() as held:
                try:
                    held.enter_context(self._lock())
                except StoreBusy as error:
                    busy = error
                else:
                    return await self._hold(held.pop_all())
            await trio.sleep(LOOK_AGAIN)
        raise busy

    async def _lent(self, message: Message) -> tuple[Message, LocalStream]:
        """Another process's answer. While that has no link it waits for one, and tells others."""
        scope = trio.CancelScope()
        self._nursery.start_soon(self._mention, scope)
        try:
            return await self._socket.call(message)
        finally:
            scope.cancel()

    async def _mention(self, scope: trio.CancelScope) -> None:
        with scope:
            await trio.sleep(SILENT_SECONDS)
            self.tell(f"waiting for the link to {one_line(self.name)} (Ctrl-C gives up)")

    async def _hold(self, lock: ExitStack) -> Holder:
        """Become the holder; return once the link is up, or raise why it is not."""
        holder = self._holder = Holder(self.name, self._dial, self._socket, self._alarms, self.tell)
        outcome: list[ClawChatError | OSError] = []

        async def hold(task_status: trio.TaskStatus[None]) -> None:
            try:
                await holder.run(task_status=task_status)
            except (ClawChatError, OSError) as error:
                outcome.append(error)
                if isinstance(error, LinkClosed) and error.code in LASTING:
                    self._hopeless = error
                    if up:
                        self.tell(f"lost the link to {one_line(self.name)}: {explain(error)}")
            finally:
                self._holder = None
                lock.close()

        up = False
        try:
            await self._nursery.start(hold)
            up = True
        except RuntimeError:  # it ended before the link was up
            ended = LinkClosed(CloseCode.DONE, "the process that made the link was told to stop")
            raise (outcome[0] if outcome else ended) from None
        return holder


def _as_link_error(refusal: Refused) -> ClawChatError:
    kind, _, number = refusal.code.partition("-")
    if kind == "closed" and number.isdecimal() and int(number) in set(CloseCode):
        return LinkClosed(CloseCode(int(number)), str(refusal))
    return NoLink(str(refusal))


@asynccontextmanager
async def shared_link(
    name: str, dial: Dial, socket: LocalSocket, lock: Lock, alarms: AlarmLog, tell: Tell
) -> AsyncIterator[SharedLink]:
    """A `SharedLink` for the time of a command."""
    async with trio.open_nursery() as nursery:
        try:
            yield SharedLink(name, dial, socket, lock, alarms, tell, nursery)
        finally:
            nursery.cancel_scope.cancel()
