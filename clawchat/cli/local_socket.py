"""The private socket by which the commands of one user on one machine talk to each other.

A Unix socket, 0600 in a 0700 folder; where there are none, a TCP port on the loopback address and
a random token in a 0600 file. A conversation begins with one line of JSON from the caller and one
in answer; after a granted `stream` the connection is that stream's bytes.

Rules: the first line is limited in size and time; only the holder of the matching lock
(`Store.lock`) listens, so a socket file that is already there is a dead process's.
Left to others: what is asked (`cli.holder`, `cli.serve`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import socket
import stat
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import trio

from clawchat.errors import ClawChatError, StoreError, UserError

log = logging.getLogger("clawchat.local")

LINE_MAX = 64 * 1024  # bytes of the first line, either way
LINE_SECONDS = 5.0  # for a caller to send its first line
PATH_MAX = 100  # bytes; the system's limit for a Unix socket's path is 104 or 108

STORE = "store"  # the code of a refusal that a folder is the reason of
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)

HAS_UNIX = hasattr(socket, "AF_UNIX") and os.name != "nt"

Message: TypeAlias = dict[str, Any]
Handler: TypeAlias = "Callable[[Message, LocalStream], Awaitable[None]]"


class NobodyHome(ClawChatError):
    """No process listens there."""


class Refused(UserError):
    """The other process answered that it cannot; `code` is for programs, the text for people."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class LocalStream(trio.abc.HalfCloseableStream):
    """A connection over the local socket, which can also read and write single lines of JSON."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._rest = b""
        self.answered = False  # whether a message was sent

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._rest:
            size = len(self._rest) if max_bytes is None else max_bytes
            data, self._rest = self._rest[:size], self._rest[size:]
            await trio.lowlevel.checkpoint()
            return data
        return bytes(await self._stream.receive_some(max_bytes))

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def send_message(self, message: Message) -> None:
        """One line of JSON."""
        self.answered = True
        await self.send_all(json.dumps({"version": 1, **message}).encode() + b"\n")

    async def receive_message(self) -> Message:
        """The next line of JSON. Raises `trio.BrokenResourceError` when none that is one comes."""
        line = self._rest
        while b"\n" not in line:
            more = await self._stream.receive_some(4096) if len(line) < LINE_MAX else b""
            if not more:
                raise trio.BrokenResourceError("the local connection ended early")
            line += more
        text, self._rest = line.split(b"\n", 1)
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise trio.BrokenResourceError("not a message of ours")
        return message

    async def wait_hung_up(self) -> None:
        """Return when the other end is gone for good, not merely done with sending.

        A half-closed stream may stay silent for long; what is sent towards a closed one is lost.
        Where the system cannot tell the two apart this waits for ever.
        """
        import select

        if not hasattr(select, "poll"):
            await trio.sleep_forever()
        poll = select.poll()
        poll.register(self._stream.socket.fileno(), 0)
        while self._stream.socket.fileno() >= 0 and not poll.poll(0):  # noqa: ASYNC110 - no event
            await trio.sleep(0.25)


class LocalSocket:
    """A place, named by a path, where one process listens and others call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def call(self, message: Message) -> tuple[Message, LocalStream]:
        """Send `message`; the answer, and the connection for what follows.

        Raises `NobodyHome`, `Refused` with the other process's reason, or `StoreError` when its
        folder is at fault.
        """
        stream = await self._dial()
        try:
            with trio.fail_after(60):
                await stream.send_message({**message, **self._proof()})
                answer = await stream.receive_message()
        except (trio.BrokenResourceError, trio.TooSlowError):
            await trio.aclose_forcefully(stream)
            raise NobodyHome(str(self.path)) from None
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        if not answer.get("ok"):
            await trio.aclose_forcefully(stream)
            if answer.get("code") == STORE:
                raise StoreError(str(answer.get("text", "")))
            raise Refused(str(answer.get("code", "failed")), str(answer.get("text", "")))
        return answer, stream

    async def ask(self, message: Message) -> Message:
        """`call` for what is answered at once."""
        answer, stream = await self.call(message)
        await trio.aclose_forcefully(stream)
        return answer

    async def serve(
        self, handler: Handler, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen until cancelled; `handler` gets each caller's first message and its connection.

        A handler that raises `Refused` or `StoreError` has the reason sent to the caller; whatever
        else it raises ends that caller's request, and no other.
        """
        listener, token = self._listen()

        async def caller(raw: trio.SocketStream) -> None:
            async with LocalStream(raw) as stream:
                try:
                    with trio.move_on_after(LINE_SECONDS) as patience:
                        message = await stream.receive_message()
                    if patience.cancelled_caught:
                        return
                    if not secrets.compare_digest(str(message.pop("token", "")), token):
                        return
                    await self._answered(handler, message, stream)
                except GONE:
                    pass  # the caller went away

        try:
            await trio.serve_listeners(caller, [listener], task_status=_Started(task_status))
        finally:
            self._remove()

    @staticmethod
    async def _answered(handler: Handler, message: Message, stream: LocalStream) -> None:
        try:
            await handler(message, stream)
        except Refused as refusal:
            await stream.send_message({"ok": False, "code": refusal.code, "text": str(refusal)})
        except GONE:
            raise
        except StoreError as error:
            await stream.send_message({"ok": False, "code": STORE, "text": str(error)})
        except ClawChatError as error:
            await stream.send_message({"ok": False, "code": "failed", "text": str(error)})
        except Exception as error:  # a request that makes no sense, or a defect of ours
            log.exception("a command could not be served")
            if not stream.answered:
                text = f"the other process failed ({type(error).__name__}); it prints why"
                await stream.send_message({"ok": False, "code": "failed", "text": text})

    # --- Unix sockets, or a port with a token ---------------------------------------------------

    def _listen(self) -> tuple[trio.SocketListener, str]:
        self._remove()
        kind = socket.AF_UNIX if HAS_UNIX else socket.AF_INET
        sock = socket.socket(kind, socket.SOCK_STREAM)
        token = ""
        try:
            if HAS_UNIX:
                self._bind_private(sock)
            else:
                sock.bind(("127.0.0.1", 0))
                token = secrets.token_urlsafe(32)
                self._write_token(sock.getsockname()[1], token)
            sock.listen(64)
        except OSError as error:
            sock.close()
            raise StoreError(
                f"the local socket {self.path} cannot be made: {error.strerror or error}; "
                "fix the folder's permissions, or name another folder"
            ) from None
        return trio.SocketListener(trio.socket.from_stdlib_socket(sock)), token

    def _bind_private(self, sock: socket.socket) -> None:
        place = self._place()
        before = os.umask(0o177)
        try:
            sock.bind(str(place))
        finally:
            os.umask(before)

    def _write_token(self, port: int, token: str) -> None:
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w", encoding="ascii") as out:
            json.dump({"port": port, "token": token}, out)

    async def _dial(self) -> LocalStream:
        kind = socket.AF_UNIX if HAS_UNIX else socket.AF_INET
        sock = trio.socket.socket(kind, socket.SOCK_STREAM)
        try:
            place = str(self._place()) if HAS_UNIX else ("127.0.0.1", self._written()["port"])
            await sock.connect(place)
        except (OSError, NobodyHome):
            sock.close()
            raise NobodyHome(str(self.path)) from None
        except BaseException:
            sock.close()
            raise
        return LocalStream(trio.SocketStream(sock))

    def _proof(self) -> Message:
        return {} if HAS_UNIX else {"token": self._written()["token"]}

    def _written(self) -> Message:
        try:
            return dict(json.loads(self.path.read_text("ascii")))
        except (OSError, ValueError, RecursionError):
            raise NobodyHome(str(self.path)) from None

    def _remove(self) -> None:
        with contextlib.suppress(OSError):  # binding says what is wrong
            (self._place() if HAS_UNIX else self.path).unlink(missing_ok=True)

    def _place(self) -> Path:
        """The path itself, or, when it is too long for a socket, a private place in /tmp."""
        if len(os.fsencode(self.path)) <= PATH_MAX:
            return self.path
        short = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:24] + ".sock"
        folder = Path(tempfile.gettempdir()) / f"clawchat-{os.getuid()}"
        if len(os.fsencode(folder / short)) > PATH_MAX:
            folder = Path("/tmp") / folder.name  # noqa: S108 - checked below
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise StoreError(
                f"{folder} is not a private folder of yours; remove it, or choose a state folder "
                f"whose path is shorter than {PATH_MAX - 30} characters"
            )
        return folder / short


class _Started:
    """Lets `serve` report that it listens without handing Trio's listeners out."""

    def __init__(self, status: trio.TaskStatus[None]) -> None:
        self._status = status

    def started(self, value: object = None) -> None:
        self._status.started()


async def splice(link: trio.abc.HalfCloseableStream, local: LocalStream) -> None:
    """Carry bytes both ways until both sides are done or either is broken."""
    answered = trio.Event()
    async with local, link, trio.open_nursery() as nursery:
        scope = nursery.cancel_scope

        async def upward() -> None:
            await _pump(local, link, scope)
            if not answered.is_set():
                await local.wait_hung_up()
            scope.cancel()

        async def downward() -> None:
            await _pump(link, local, scope)
            answered.set()

        nursery.start_soon(upward)
        nursery.start_soon(downward)


async def _pump(
    source: trio.abc.HalfCloseableStream,
    sink: trio.abc.HalfCloseableStream,
    scope: trio.CancelScope,
) -> None:
    try:
        while data := await source.receive_some(64 * 1024):
            await sink.send_all(data)
        await sink.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError, ClawChatError):
        scope.cancel()
