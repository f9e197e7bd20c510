"""Plain HTTP over a link: a transport for `httpx2.AsyncClient`, and for `httpx` likewise.

Rules: one request takes one stream of its own, so no request waits behind another and a cancelled
one takes nothing with it; connections are never kept for later, for a stream costs no round trip.
Left to others: the other end (`gateway`), making and remaking links (`clawchat.drivers`).

    async with httpx2.AsyncClient(transport=LinkTransport(peer), base_url="http://agent") as http:
        print((await http.get("/v1/agent")).json())
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import ModuleType, TracebackType
from typing import Any, Final, NoReturn, Protocol, Self, cast

import httpcore2
import httpx2
import trio

from clawchat.errors import ClawChatError

REQUESTS_MAX: Final = 64
"""Requests under way at a time over one transport; further ones wait. The gateway's own limit."""

PREFER_SHAPED: Final = (b"Prefer", b"shaped")
"""Asks the gateway (RFC 7240) to let the answer leave in cells as well."""

END_SECONDS: Final = 0.5
"""How long the end of a stream may follow the end of the answer that it carried."""


class StreamOpener(Protocol):
    """What a transport needs of a link: `clawchat.Peer` has it, so has anything like it."""

    async def open_stream(self) -> trio.abc.Stream: ...


class ShapedStreamOpener(Protocol):
    """What a shaping transport needs of it."""

    async def open_stream(self, *, shaped: bool) -> trio.abc.HalfCloseableStream: ...


class LinkTransport(httpx2.AsyncBaseTransport):
    """Carries each request over a new stream of `link`. Host and scheme of the URL do not matter.

    Give it to `httpx2.AsyncClient(transport=...)`, or to `httpx.AsyncClient`: a request is
    answered in the types of the library it came from. A broken link is its `ConnectError`,
    `ReadError` or `WriteError`. Closing the transport leaves the link open.

    With `shaped` requests leave in cells, and their answers are asked to (`PREFER_SHAPED`), so that
    sizes and times of packets tell little of either. It costs 10 kB a second of either, up to
    50 ms, and a second when more than 9 kB come at once: for conversations, not for files.
    """

    def __init__(self, link: StreamOpener | ShapedStreamOpener, *, shaped: bool = False) -> None:
        self._shaped = shaped
        self._pool = httpcore2.AsyncConnectionPool(
            max_connections=REQUESTS_MAX,
            max_keepalive_connections=0,
            network_backend=_LinkBackend(link, shaped=shaped),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        library = _library_of(request)
        url = request.url
        inner = httpcore2.Request(
            method=request.method,
            # Encryption is the link's; over "https" the pool would want TLS inside it as well.
            url=httpcore2.URL(scheme=b"http", host=url.raw_host, port=80, target=url.raw_path),
            headers=[*request.headers.raw, *([PREFER_SHAPED] if self._shaped else [])],
            content=request.stream,
            extensions=request.extensions,
        )
        with _errors_of(library):
            response = await self._pool.handle_async_request(inner)
        body = _body_class(library)(cast(_Pieces, response.stream), library)
        answer: httpx2.Response = library.Response(
            status_code=response.status,
            headers=response.headers,
            stream=body,
            extensions=response.extensions,
        )
        return answer

    async def aclose(self) -> None:
        await self._pool.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()


class _LinkBackend(httpcore2.AsyncNetworkBackend):
    """Opens a stream where the pool would connect."""

    def __init__(self, link: StreamOpener | ShapedStreamOpener, *, shaped: bool) -> None:
        self._link = link
        self._shaped = shaped

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        with _broken(httpcore2.ConnectError, httpcore2.ConnectTimeout), _within(timeout):
            if self._shaped:
                link = cast(ShapedStreamOpener, self._link)
                return _ShapedLinkStream(await link.open_stream(shaped=True))
            return _LinkStream(await cast(StreamOpener, self._link).open_stream())

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


class _LinkStream(httpcore2.AsyncNetworkStream):
    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _broken(httpcore2.ReadError, httpcore2.ReadTimeout), _within(timeout):
            return bytes(await self._stream.receive_some(max_bytes))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with _broken(httpcore2.WriteError, httpcore2.WriteTimeout), _within(timeout):
            await self._stream.send_all(buffer)

    async def aclose(self) -> None:
        # A request is over with its answer, so what is left of either can go. On a link a reset
        # tells the gateway at once; a mere end would look like a client that still listens.
        reset = getattr(self._stream, "reset", None)
        if reset is None:
            await trio.aclose_forcefully(self._stream)
        else:
            with trio.CancelScope(shield=True):  # it only says so, and waits for nothing
                await reset()


class _ShapedLinkStream(_LinkStream):
    """Says with the request that it is all, so that at the answer's end nothing has to be said:
    a packet of ours at that moment would tell an observer when it was.
    """

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        super().__init__(stream)
        self._half = stream
        self._asked = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if not self._asked:  # who reads has written the whole request
            self._asked = True
            with _broken(httpcore2.WriteError, httpcore2.WriteTimeout), _within(timeout):
                await self._half.send_eof()
        return await super().read(max_bytes, timeout)

    async def aclose(self) -> None:
        ended = False
        if self._asked and trio.current_effective_deadline() > trio.current_time():
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                with trio.move_on_after(END_SECONDS):
                    ended = not await self._half.receive_some(1)
        if ended:
            await self._half.aclose()
        else:
            await super().aclose()


@contextmanager
def _broken(error: type[Exception], too_slow: type[Exception]) -> Iterator[None]:
    """Say in httpcore's words what Trio and the link say in theirs."""
    try:
        yield
    except trio.TooSlowError as slow:
        raise too_slow(str(slow)) from slow
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError, ClawChatError) as broken:
        raise error(str(broken.__cause__ or broken)) from broken


def _within(timeout: float | None) -> AbstractContextManager[trio.CancelScope]:
    return trio.fail_after(float("inf") if timeout is None else timeout)


async def unwind(pieces: AsyncIterator[bytes]) -> None:
    """End an iteration over an httpx2 response early, and close what it holds.

    It is a chain of generators, and on Trio only what is raised at its innermost end closes all
    of them in order: so its next wait is cancelled.
    """
    with trio.CancelScope() as scope, suppress(httpx2.HTTPError):
        scope.cancel()
        async for _ in pieces:
            pass  # what had arrived already


# --- one transport for two libraries ----------------------------------------------------------


def _library_of(request: object) -> ModuleType:
    """httpx2, or httpx when the request is one of its own."""
    return sys.modules[type(request).__module__.partition(".")[0]]


@contextmanager
def _errors_of(library: ModuleType) -> Iterator[None]:
    """Raise the library's own error for httpcore's; both name them alike."""
    try:
        yield
    except Exception as error:
        _raise_as(library, error)


def _raise_as(library: ModuleType, error: Exception) -> NoReturn:
    for kind in type(error).__mro__:
        if kind.__module__.startswith("httpcore2") and hasattr(library, kind.__name__):
            raise getattr(library, kind.__name__)(str(error)) from error
    raise error


def _body_class(library: ModuleType) -> type[_Body]:
    if library not in _BODY_CLASSES:
        _BODY_CLASSES[library] = type("LinkBody", (_Body, library.AsyncByteStream), {})
    return _BODY_CLASSES[library]


class _Pieces(Protocol):
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None: ...


class _Body:
    """A response's body. Each library wants a subclass of its own `AsyncByteStream`."""

    def __init__(self, stream: _Pieces, library: ModuleType) -> None:
        self._stream = stream
        self._library = library

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _errors_of(self._library):
            async for piece in self._stream:
                yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


_BODY_CLASSES: Final[dict[ModuleType, type[_Body]]] = {}
