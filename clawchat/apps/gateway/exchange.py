"""One request of a peer, on a stream of its own, carried to the agent and its answer back.

Rules: bodies are streamed both ways and never held; h11 parses and writes both sides anew, so what
the agent reads is what was checked here; before the answer's headers a failure is a problem
document, after them the stream is reset, so no half answer looks whole. A peer that goes takes its
request to the agent with it.
Left to others: which fields pass (`headers`), what is said instead of an answer (`refusals`).
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final

import h11
import trio
from attrs import frozen

from clawchat.apps.gateway.agent_address import AgentAddress
from clawchat.apps.gateway.headers import prefers_shaped, request_headers, response_headers
from clawchat.apps.gateway.refusals import (
    AGENT_DIED,
    AGENT_TOO_SLOW,
    HEADERS_TOO_LARGE,
    REQUEST_TOO_SLOW,
    UNSUPPORTED,
    agent_down,
    bad_request,
    whole_response,
)
from clawchat.apps.problems import Problem

log = logging.getLogger("clawchat.gateway")

PIECE: Final = 64 * 1024  # bytes read at a time
GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)
ONE_REQUEST: Final = "more than one request on a stream"
STREAM_CANCELLED: Final = 1  # the code of a reset: the answer could not be carried to its end


@frozen
class RelayLimits:
    """What one link may take. Times are seconds, sizes bytes."""

    requests: int = 64  # at a time; a client keeps a few event streams and asks now and then
    header_size: int = 16 * 1024  # request line and headers; ours have 1 KiB
    request_head: float = 10.0  # from the opened stream to the end of the headers
    connect: float = 2.0  # to a loopback port
    response_head: float = 60.0  # from the end of the request: it only ends a hang


@frozen
class Caller:
    """Who the agent is told is asking: an id that does not change, and what the user calls it."""

    device: str
    name: str


class _Stop(Exception):
    """This request ends with a problem document."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem


class Exchange:
    """One request and its answer. `down` speaks with the peer, `up` with the agent."""

    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        agent: AgentAddress,
        who: Caller,
        limits: RelayLimits,
    ) -> None:
        self.stream = stream
        self._agent = agent
        self._who = who
        self._limits = limits
        self._patience = trio.CancelScope()  # with an agent that owes an answer
        self.down = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_size)
        self.up = h11.Connection(h11.CLIENT, max_incomplete_event_size=4 * limits.header_size)

    async def run(self) -> None:
        """Carry it, to a whole answer or a reset."""
        whole = False
        try:
            try:
                await self._carry()
            except _Stop as stop:
                await self.stream.send_all(whole_response(self.down, stop.problem))
            await self.stream.send_eof()
            whole = True
        except GONE:
            pass  # the peer went: nobody is left to tell
        except (h11.ProtocolError, OSError) as error:
            log.info("an answer was cut off: %s", type(error).__name__)
        finally:
            await _close(self.stream, whole=whole)

    async def _carry(self) -> None:
        with trio.move_on_after(self._limits.request_head) as waiting:
            request = await self._read_request()
        if waiting.cancelled_caught:
            raise _Stop(REQUEST_TOO_SLOW)
        async with await self._connect() as upstream:
            head = h11.Request(
                method=request.method,
                target=request.target,
                headers=request_headers(
                    request.headers,
                    host=self._agent.authority,
                    device=self._who.device,
                    name=self._who.name,
                ),
            )
            # Before anything is read: h11 cannot take an answer to what was not asked yet.
            with suppress(*GONE):  # then the answer is what is missing
                await upstream.send_all(self.up.send(head))
            if self.down.they_are_waiting_for_100_continue:
                go = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                await self.stream.send_all(self.down.send(go))
            await self._exchange(upstream)

    async def _exchange(self, upstream: trio.SocketStream) -> None:
        """Both directions at a time. The answer's end is the end, whatever is still uploaded."""
        trouble: Exception | None = None
        async with trio.open_nursery() as nursery:
            upload = _Upload(self, upstream, nursery.cancel_scope)
            nursery.start_soon(upload.run)
            try:
                await self._answer(upstream)
            except (_Stop, h11.ProtocolError, OSError, *GONE) as error:
                trouble = error  # carried out of the nursery, which would wrap it
            nursery.cancel_scope.cancel()
        trouble = upload.trouble or trouble
        if trouble is not None:
            raise trouble

    # --- from the peer ------------------------------------------------------------------------

    async def _read_request(self) -> h11.Request:
        try:
            event = await self.next_from_peer()
        except h11.RemoteProtocolError as error:
            too_large = error.error_status_hint == 431
            raise _Stop(HEADERS_TOO_LARGE if too_large else bad_request(error)) from None
        if not isinstance(event, h11.Request):
            raise trio.BrokenResourceError("the stream ended before a request")
        if event.method == b"CONNECT" or not event.target.startswith(b"/"):
            raise _Stop(UNSUPPORTED)
        if prefers_shaped(event.headers):
            shape = getattr(self.stream, "shape", None)
            if shape is not None:
                shape()
        return event

    async def next_from_peer(self) -> object:
        while (event := self.down.next_event()) is h11.NEED_DATA:
            self.down.receive_data(bytes(await self.stream.receive_some(PIECE)))
        return event

    def body_is_up(self) -> None:
        """The agent has all it will get: from now on it owes an answer."""
        self._patience.deadline = trio.current_time() + self._limits.response_head

    # --- to and from the agent ----------------------------------------------------------------

    async def _connect(self) -> trio.SocketStream:
        with trio.move_on_after(self._limits.connect):
            try:
                return await trio.open_tcp_stream(self._agent.host, self._agent.port)
            except OSError:
                pass
        raise _Stop(agent_down(self._agent))

    async def _answer(self, upstream: trio.SocketStream) -> None:
        """Pass the agent's answer on. Raises `_Stop` until its headers have been passed on."""
        with self._patience:
            try:
                head = await self._read_answer_head(upstream)
            except (h11.RemoteProtocolError, *GONE):
                raise _Stop(AGENT_DIED) from None
        if self._patience.cancelled_caught:
            raise _Stop(AGENT_TOO_SLOW)
        answer = h11.Response(
            status_code=head.status_code,
            reason=head.reason,
            headers=response_headers(head.headers),
        )
        await self.stream.send_all(self.down.send(answer))
        while isinstance(event := await self._next_from_agent(upstream), h11.Data):
            await self.stream.send_all(self.down.send(h11.Data(event.data)))
        if not isinstance(event, h11.EndOfMessage):
            raise h11.RemoteProtocolError("the agent's answer ended early")
        await self.stream.send_all(self.down.send(h11.EndOfMessage()))

    async def _read_answer_head(self, upstream: trio.SocketStream) -> h11.Response:
        while isinstance(event := await self._next_from_agent(upstream), h11.InformationalResponse):
            pass  # the peer was told to go on already; other interim answers are not for it
        if not isinstance(event, h11.Response):
            raise h11.RemoteProtocolError("the agent closed the connection")
        return event

    async def _next_from_agent(self, upstream: trio.SocketStream) -> object:
        while (event := self.up.next_event()) is h11.NEED_DATA:
            self.up.receive_data(bytes(await upstream.receive_some(PIECE)))
        return event


class _Upload:
    """The request's body on its way up, and after it the watch for a peer that goes."""

    def __init__(
        self,
        exchange: Exchange,
        upstream: trio.SocketStream,
        scope: trio.CancelScope,
    ) -> None:
        self.trouble: Exception | None = None
        self._exchange = exchange
        self._upstream = upstream
        self._scope = scope

    async def run(self) -> None:
        try:
            sent = await self._send()
            self._exchange.body_is_up()
            if sent:
                await self._watch()
        except GONE as gone:
            self._fail(gone)
        except h11.RemoteProtocolError as error:
            # Too late for a problem document once an answer has begun.
            begun = self._exchange.down.our_state is not h11.SEND_RESPONSE
            self._fail(trio.BrokenResourceError() if begun else _Stop(bad_request(error)))

    def _fail(self, trouble: Exception) -> None:
        self.trouble = trouble
        self._scope.cancel()

    async def _send(self) -> bool:
        """False when the agent takes no more; its answer then says why, or its silence does."""
        up, peer = self._exchange.up, self._exchange
        while isinstance(event := await peer.next_from_peer(), h11.Data):
            if not await self._pass(up.send(h11.Data(event.data))):
                return False
        if not isinstance(event, h11.EndOfMessage):
            raise trio.BrokenResourceError("the request ended early")
        if peer.down.trailing_data[0]:
            raise trio.BrokenResourceError(ONE_REQUEST)
        return await self._pass(up.send(h11.EndOfMessage()))

    async def _pass(self, data: bytes) -> bool:
        try:
            await self._upstream.send_all(data)
        except GONE:
            return False
        return True

    async def _watch(self) -> None:
        """Raises when the peer resets, or half-closes (which it may) and then stops the answer."""
        stream = self._exchange.stream
        if await stream.receive_some(PIECE):
            raise trio.BrokenResourceError(ONE_REQUEST)
        wait_unwanted = getattr(stream, "wait_unwanted", None)
        if wait_unwanted is not None:
            await wait_unwanted()
            raise trio.BrokenResourceError("the peer wants no answer any more")


async def _close(stream: trio.abc.HalfCloseableStream, *, whole: bool) -> None:
    """Reset what is not whole where the stream can: nobody shall take a part for all of it."""
    reset = getattr(stream, "reset", None)
    if whole:
        await stream.aclose()
    elif reset is not None:
        with trio.CancelScope(shield=True):  # it only says so, and waits for nothing
            await reset(STREAM_CANCELLED)
    else:
        await trio.aclose_forcefully(stream)
