"""One link's requests, each on a stream of its own, carried to the agent and back.

Rules: bodies are streamed both ways and never held; h11 parses and writes both sides anew, so what
the agent reads is what was checked here; before the answer's headers a failure is a problem
document, after them the stream is reset, so no half answer looks whole. A peer that goes takes its
request to the agent with it.
Left to others: which fields pass (`headers`), who may link at all (the core).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from hashlib import sha256
from typing import Final, Protocol

import h11
import trio
from attrs import define, frozen

from clawchat.apps.gateway.agent_address import AgentAddress
from clawchat.apps.gateway.headers import request_headers, response_headers
from clawchat.apps.problems import MEDIA_TYPE, Problem

log = logging.getLogger("clawchat.gateway")

PIECE: Final = 64 * 1024  # bytes read at a time
GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)
STREAM_CANCELLED: Final = 1  # the code of a reset: the answer could not be carried to its end


@frozen
class RelayLimits:
    """What one link may take. Times are seconds, sizes bytes."""

    requests: int = 64  # at a time; a client keeps a few event streams and asks now and then
    header_size: int = 16 * 1024  # request line and headers; ours have 1 KiB
    request_head: float = 10.0  # from the opened stream to the end of the headers
    connect: float = 2.0  # to a loopback port
    response_head: float = 60.0  # the agent answers at once; this only ends a hang


class RelayPeer(Protocol):
    """What the relay needs of a link: `clawchat.Peer` has it."""

    @property
    def peer_static(self) -> bytes: ...
    def __aiter__(self) -> AsyncIterator[trio.abc.HalfCloseableStream]: ...


@define
class Relayed:
    """Counters of one link, for `clawchat status`."""

    requests: int = 0
    refused: int = 0
    under_way: int = 0


def device_id(peer_static: bytes) -> str:
    """How the agent knows a device: SHA-256 of its static key, in hex."""
    return sha256(peer_static).hexdigest()


async def relay(
    peer: RelayPeer,
    agent: AgentAddress,
    *,
    name: str = "",
    limits: RelayLimits | None = None,
    counters: Relayed | None = None,
) -> None:
    """Serve the streams that `peer` opens, until its link ends.

    `name` is what the user calls the device. Cancelling resets what is under way.
    """
    limits = limits or RelayLimits()
    counters = counters or Relayed()
    who = _Caller(device_id(peer.peer_static), name)
    async with trio.open_nursery() as nursery:
        async for stream in peer:
            counters.requests += 1
            if counters.under_way >= limits.requests:
                counters.refused += 1
                nursery.start_soon(_refuse, stream)
            else:
                counters.under_way += 1
                exchange = _Exchange(stream, agent, who, limits)
                nursery.start_soon(_run, exchange, counters)
        nursery.cancel_scope.cancel()


async def _run(exchange: _Exchange, counters: Relayed) -> None:
    try:
        await exchange.run()
    finally:
        counters.under_way -= 1


async def _refuse(stream: trio.abc.HalfCloseableStream) -> None:
    connection = h11.Connection(h11.SERVER)
    with suppress(*GONE):
        await stream.send_all(_whole(connection, TOO_MANY_REQUESTS))
    await stream.aclose()


@frozen
class _Caller:
    device: str
    name: str


class _Stop(Exception):
    """This request ends with a problem document."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem


class _Exchange:
    """One request and its answer. `down` speaks with the peer, `up` with the agent."""

    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        agent: AgentAddress,
        who: _Caller,
        limits: RelayLimits,
    ) -> None:
        self._stream = stream
        self._agent = agent
        self._who = who
        self._limits = limits
        self._down = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_size)
        self._up = h11.Connection(h11.CLIENT, max_incomplete_event_size=4 * limits.header_size)

    async def run(self) -> None:
        """Carry it; never raises but for cancellation."""
        whole = False
        try:
            try:
                await self._carry()
            except _Stop as stop:
                await self._stream.send_all(_whole(self._down, stop.problem))
            await self._stream.send_eof()
            whole = True
        except GONE:
            pass  # the peer went: nobody is left to tell
        except (h11.RemoteProtocolError, OSError) as error:
            log.info("an answer was cut off: %s", type(error).__name__)
        finally:
            await _close(self._stream, whole=whole)

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
                await upstream.send_all(self._up.send(head))
            await self._exchange(upstream)

    async def _exchange(self, upstream: trio.SocketStream) -> None:
        """Both directions at a time. The answer's end is the end, whatever is still uploaded."""
        trouble: Exception | None = None
        async with trio.open_nursery() as nursery:
            upload = _Upload(self, upstream, nursery.cancel_scope)
            nursery.start_soon(upload.run)
            try:
                await self._answer(upstream)
            except (_Stop, h11.RemoteProtocolError, OSError, *GONE) as error:
                trouble = error  # carried out of the nursery, which would wrap it
            nursery.cancel_scope.cancel()
        trouble = upload.trouble or trouble
        if trouble is not None:
            raise trouble

    # --- from the peer ------------------------------------------------------------------------

    async def _read_request(self) -> h11.Request:
        try:
            event = await self._next_from_peer()
        except h11.RemoteProtocolError as error:
            too_large = error.error_status_hint == 431
            raise _Stop(HEADERS_TOO_LARGE if too_large else _bad_request(error)) from None
        if not isinstance(event, h11.Request):
            raise trio.BrokenResourceError("the stream ended before a request")
        if event.method == b"CONNECT" or not event.target.startswith(b"/"):
            raise _Stop(UNSUPPORTED)
        return event

    async def _next_from_peer(self) -> object:
        while (event := self._down.next_event()) is h11.NEED_DATA:
            if self._down.they_are_waiting_for_100_continue:
                go = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                await self._stream.send_all(self._down.send(go))
            self._down.receive_data(bytes(await self._stream.receive_some(PIECE)))
        return event

    # --- to and from the agent ----------------------------------------------------------------

    async def _connect(self) -> trio.SocketStream:
        with trio.move_on_after(self._limits.connect):
            try:
                return await trio.open_tcp_stream(self._agent.host, self._agent.port)
            except OSError:
                pass
        raise _Stop(_agent_down(self._agent))

    async def _answer(self, upstream: trio.SocketStream) -> None:
        """Pass the agent's answer on. Raises `_Stop` until its headers have been passed on."""
        with trio.move_on_after(self._limits.response_head) as waiting:
            try:
                head = await self._read_answer_head(upstream)
            except (h11.RemoteProtocolError, *GONE):
                raise _Stop(AGENT_DIED) from None
        if waiting.cancelled_caught:
            raise _Stop(AGENT_TOO_SLOW)
        answer = h11.Response(
            status_code=head.status_code,
            reason=head.reason,
            headers=response_headers(head.headers),
        )
        await self._stream.send_all(self._down.send(answer))
        while isinstance(event := await self._next_from_agent(upstream), h11.Data):
            await self._stream.send_all(self._down.send(h11.Data(event.data)))
        if not isinstance(event, h11.EndOfMessage):
            raise h11.RemoteProtocolError("the agent's answer ended early")
        await self._stream.send_all(self._down.send(h11.EndOfMessage()))

    async def _read_answer_head(self, upstream: trio.SocketStream) -> h11.Response:
        while isinstance(event := await self._next_from_agent(upstream), h11.InformationalResponse):
            pass  # the peer was told to go on already; other interim answers are not for it
        if not isinstance(event, h11.Response):
            raise h11.RemoteProtocolError("the agent closed the connection")
        return event

    async def _next_from_agent(self, upstream: trio.SocketStream) -> object:
        while (event := self._up.next_event()) is h11.NEED_DATA:
            self._up.receive_data(bytes(await upstream.receive_some(PIECE)))
        return event


class _Upload:
    """The request's body on its way up, and after it the watch for a peer that goes."""

    def __init__(
        self,
        exchange: _Exchange,
        upstream: trio.SocketStream,
        scope: trio.CancelScope,
    ) -> None:
        self.trouble: Exception | None = None
        self._exchange = exchange
        self._upstream = upstream
        self._scope = scope

    async def run(self) -> None:
        try:
            if await self._send():
                await self._watch()
        except GONE as gone:
            self._fail(gone)
        except h11.RemoteProtocolError as error:
            sent = self._exchange._down.our_state is not h11.SEND_RESPONSE
            self._fail(trio.BrokenResourceError() if sent else _Stop(_bad_request(error)))

    def _fail(self, trouble: Exception) -> None:
        self.trouble = trouble
        self._scope.cancel()

    async def _send(self) -> bool:
        """False when the agent takes no more; its answer then says why, or its silence does."""
        up, peer = self._exchange._up, self._exchange
        while isinstance(event := await peer._next_from_peer(), h11.Data):
            if not await self._pass(up.send(h11.Data(event.data))):
                return False
        if not isinstance(event, h11.EndOfMessage):
            raise trio.BrokenResourceError("the request ended early")
        if peer._down.trailing_data[0]:
            raise trio.BrokenResourceError(ONE_REQUEST)
        return await self._pass(up.send(h11.EndOfMessage()))

    async def _pass(self, data: bytes) -> bool:
        try:
            await self._upstream.send_all(data)
        except GONE:
            return False
        return True

    async def _watch(self) -> None:
        """Returns when the peer half-closes, which it may; raises when it resets."""
        if await self._exchange._stream.receive_some(PIECE):
            raise trio.BrokenResourceError(ONE_REQUEST)


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


def _whole(connection: h11.Connection, problem: Problem) -> bytes:
    """A problem document as a complete response."""
    body = problem.encode()
    headers = [
        ("Content-Type", MEDIA_TYPE),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    head = connection.send(h11.Response(status_code=problem.status, headers=headers))
    rest = connection.send(h11.Data(body)), connection.send(h11.EndOfMessage())
    return b"".join(part for part in (head, *rest) if part)


ONE_REQUEST: Final = "more than one request on a stream"


# --- what can go wrong ------------------------------------------------------------------------


def _agent_down(agent: AgentAddress) -> Problem:
    return Problem(
        kind="agent-down",
        title="The agent is not running",
        status=503,
        detail=f"Your machine is reached, but nothing answers at {agent} on it.",
        next="Start it there with: clawchat agent",
    )


def _bad_request(error: h11.RemoteProtocolError) -> Problem:
    return Problem("bad-request", "This is not a valid HTTP request", 400, str(error))


AGENT_DIED: Final = Problem(
    kind="agent-died",
    title="The agent stopped before it answered",
    status=502,
    detail="It closed the connection without a whole answer.",
    next="Repeat the request (with the same Idempotency-Key); the agent's log may say more.",
)
AGENT_TOO_SLOW: Final = Problem(
    kind="agent-too-slow",
    title="The agent does not answer",
    status=504,
    detail="It took the request, but sent nothing in time.",
    next="Repeat the request (with the same Idempotency-Key); the agent's log may say more.",
)
REQUEST_TOO_SLOW: Final = Problem(
    kind="request-too-slow",
    title="The request did not come in time",
    status=408,
    detail="A stream was opened, but no complete request header followed.",
)
HEADERS_TOO_LARGE: Final = Problem(
    kind="headers-too-large",
    title="The request's headers are too large",
    status=431,
    detail="The gateway takes at most 16 KiB of them.",
)
UNSUPPORTED: Final = Problem(
    kind="unsupported-target",
    title="The gateway carries requests to the agent only",
    status=400,
    detail="The request's target must be a path.",
)
TOO_MANY_REQUESTS: Final = Problem(
    kind="too-many-requests",
    title="Too many requests at a time on this link",
    status=503,
    detail="As many requests of this device are under way as the gateway carries.",
    next="Wait until one of them is done.",
)
