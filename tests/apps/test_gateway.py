"""The gateway between a link and an agent that may be well, hostile, slow or gone.

Rules: the peer's bytes are written by hand here, so that what no client would send is sent too.
Left to others: a whole conversation through it (`test_conversation`).
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import h11
import pytest
import trio
import trio.testing
from attrs import Factory, define

from clawchat.apps.gateway import (
    AgentUnreachable,
    Relayed,
    RelayLimits,
    check_agent,
    parse_agent_url,
    relay,
)
from clawchat.errors import UserError
from tests.apps.world import DEVICE, MemoryLink, MemoryStream, World
from tests.waiting import PATIENCE, until

Behaviour = Callable[[trio.SocketStream], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@define
class Bench:
    """A link whose gateway has an agent of the test's own making."""

    link: MemoryLink
    agent: str
    counters: Relayed
    requests: list[bytes] = Factory(list)
    connections: int = 0
    closed: int = 0

    async def ask(self, request: bytes, *, eof: bool = True) -> bytes:
        """Send bytes on a new stream, and read to the end of the answer."""
        stream = await self.link.open_stream()
        await stream.send_all(request)
        if eof:
            await stream.send_eof()
        return await read_all(stream)


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    received = b""
    with trio.fail_after(PATIENCE):
        while piece := await stream.receive_some():
            received += piece
    return received


@asynccontextmanager
async def open_bench(
    behaviour: Behaviour | None = None, limits: RelayLimits | None = None, name: str = "Ann"
) -> AsyncIterator[Bench]:
    async def handle(stream: trio.SocketStream) -> None:
        bench.connections += 1
        try:
            if behaviour is not None:
                await behaviour(stream)
            else:
                bench.requests.append(await read_request(stream))
                await stream.send_all(OK)
        except trio.BrokenResourceError:
            pass
        finally:
            bench.closed += 1
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        bench = Bench(MemoryLink(), url, Relayed())
        nursery.start_soon(trio.serve_listeners, handle, [listener])

        async def carry() -> None:
            address = parse_agent_url(url)
            await relay(bench.link, address, name=name, limits=limits, counters=bench.counters)

        nursery.start_soon(carry)
        yield bench
        nursery.cancel_scope.cancel()


async def read_request(stream: trio.SocketStream) -> bytes:
    """One request as it came, to the end of its body."""
    parser, raw = h11.Connection(h11.SERVER), b""
    while not isinstance(event := parser.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            piece = bytes(await stream.receive_some())
            if not piece:
                raise trio.BrokenResourceError
            raw += piece
            parser.receive_data(piece)
    return raw


def headers_of(raw: bytes) -> dict[str, str]:
    head = raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in head)}


def problem(answer: bytes, status: int, kind: str) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), head
    assert b"application/problem+json" in head
    members: dict[str, Any] = json.loads(body)
    assert members["type"] == f"urn:clawchat:problem:{kind}"
    return members


async def test_a_request_and_its_answer_pass() -> None:
    async with open_bench() as bench:
        answer = await bench.ask(b"GET /v1/x?y=%20z HTTP/1.1\r\nHost: agent\r\nX-Mine: 1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nok")
        (request,) = bench.requests
        assert request.startswith(b"GET /v1/x?y=%20z HTTP/1.1\r\n")
        assert headers_of(request)["x-mine"] == "1"
        assert headers_of(request)["host"] == bench.agent.removeprefix("http://")
        await until(lambda: bench.counters.under_way == 0)
        assert bench.counters.requests == 1


async def test_the_agent_is_told_who_calls_and_no_claim_passes() -> None:
    async with open_bench(name="Zoë's phone\r\nX-Evil: 1") as bench:
        await bench.ask(
            b"GET / HTTP/1.1\r\nHost: a\r\n"
            b"Clawchat-Device: forged\r\nclawchat-device-name: forged\r\n"
            b"Clawchat_Device: forged\r\nCLAWCHAT-Anything: forged\r\n\r\n"
        )
        (request,) = bench.requests
        assert b"forged" not in request
        headers = headers_of(request)
        assert headers["clawchat-device"] == sha256(DEVICE).hexdigest()
        assert headers["clawchat-device-name"] == "Zo%C3%AB%27s phone%0D%0AX-Evil%3A 1"
        assert "x-evil" not in headers


async def test_fields_of_one_hop_end_at_the_gateway_both_ways() -> None:
    async def behaviour(stream: trio.SocketStream) -> None:
        requests.append(await read_request(stream))
        await stream.send_all(
            b"HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n"
            b"Proxy-Authenticate: x\r\nUpgrade: h2c\r\nX-End: 1\r\nContent-Length: 0\r\n\r\n"
        )

    requests: list[bytes] = []
    async with open_bench(behaviour) as bench:
        answer = await bench.ask(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, X-Mine, Host, Clawchat-Device\r\n"
            b"X-Mine: 1\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nTE: trailers\r\nKeep-Alive: 5\r\n"
            b"Proxy-Authorization: x\r\nX-Theirs: 1\r\n\r\n"
        )
    sent, got = headers_of(requests[0]), headers_of(answer)
    assert set(sent) == {
        "host",
        "x-theirs",
        "clawchat-device",
        "clawchat-device-name",
        "connection",
    }
    assert sent["connection"] == got["connection"] == "close"
    assert set(got) == {"x-end", "content-length", "connection"}


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"
        ),
    ],
)
async def test_a_body_passes_with_a_length_or_in_chunks(request_: bytes) -> None:
    async with open_bench() as bench:
        assert (await bench.ask(request_)).endswith(b"ok")
        raw = bench.requests[0]
        parser = h11.Connection(h11.SERVER)
        parser.receive_data(raw)
        body = b""
        while not isinstance(event := parser.next_event(), h11.EndOfMessage):
            body += event.data if isinstance(event, h11.Data) else b""
        assert body == b"body"


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nbody",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01 not HTTP at all\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
async def test_what_could_be_read_in_two_ways_never_reaches_the_agent(request_: bytes) -> None:
    async with open_bench() as bench:
        answer = await bench.ask(request_)
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501")), answer
        assert bench.connections == 0


async def test_both_lengths_at_once_are_passed_on_as_chunks_only() -> None:
    async with open_bench() as bench:
        await bench.ask(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
        )
        (request,) = bench.requests
        assert "content-length" not in headers_of(request)


async def test_a_second_request_on_a_stream_is_not_carried() -> None:
    async with open_bench() as bench:
        one = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
        stream = await bench.link.open_stream()
        await stream.send_all(one + one.replace(b"/1", b"/2"))
        with pytest.raises(trio.BrokenResourceError):
            await read_all(stream)
        assert len(bench.requests) <= 1


async def test_headers_too_large_are_refused() -> None:
    async with open_bench() as bench:
        request = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000
        problem(await bench.ask(request), 431, "headers-too-large")


async def test_a_request_that_does_not_come_is_given_up() -> None:
    async with open_bench(limits=RelayLimits(request_head=0.05)) as bench:
        answer = await bench.ask(b"GET / HT", eof=False)
        problem(answer, 408, "request-too-slow")


async def test_a_client_that_asks_before_sending_its_body_is_told_to_go_on() -> None:
    async with open_bench() as bench:
        stream = await bench.link.open_stream()
        await stream.send_all(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 Continue")
        await stream.send_all(b"hi")
        assert (await read_all(stream)).endswith(b"ok")
        assert "expect" not in headers_of(bench.requests[0])


async def test_many_streams_are_carried_at_a_time_but_not_any_number() -> None:
    async def behaviour(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await release.wait()
        await stream.send_all(OK)

    release = trio.Event()
    answers: list[bytes] = []

    async def ask() -> None:
        answers.append(await bench.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))

    async with (
        open_bench(behaviour, RelayLimits(requests=3)) as bench,
        trio.open_nursery() as nursery,
    ):
        for _ in range(3):
            nursery.start_soon(ask)
        await until(lambda: bench.counters.under_way == 3)
        problem(await bench.ask(b""), 503, "too-many-requests")
        assert bench.counters.refused == 1
        release.set()
    assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * 3


async def test_an_agent_that_is_not_there_is_a_problem_with_the_command_to_run() -> None:
    async with trio.open_nursery() as nursery:
        link = MemoryLink()
        nursery.start_soon(relay, link, parse_agent_url("http://127.0.0.1:1"))
        stream = await link.open_stream()
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        members = problem(await read_all(stream), 503, "agent-down")
        assert "clawchat agent" in members["next"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "said",
    [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-", b"\x00garbage\r\n\r\n", b"x" * 99_999],
)
async def test_an_agent_that_dies_before_its_answer_is_a_problem(said: bytes) -> None:
    async def behaviour(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(said)

    async with open_bench(behaviour) as bench:
        answer = await bench.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        problem(answer, 502, "agent-died")


async def test_an_agent_that_says_nothing_is_a_problem_and_no_hang() -> None:
    async def behaviour(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await trio.sleep_forever()

    async with open_bench(behaviour, RelayLimits(response_head=0.05)) as bench:
        answer = await bench.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        problem(answer, 504, "agent-too-slow")


async def test_a_slow_upload_does_not_count_as_a_slow_agent(
    mock_clock: trio.testing.MockClock,
) -> None:
    mock_clock.rate = 1  # as time goes, and now and then a leap
    async with open_bench(limits=RelayLimits(response_head=PATIENCE)) as bench:
        stream = await bench.link.open_stream()
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        await until(lambda: bench.connections == 1)
        for letter in (b"h", b"e", b"l", b"l", b"o"):
            mock_clock.jump(PATIENCE / 2)
            await trio.testing.wait_all_tasks_blocked()
            await stream.send_all(letter)
        assert (await read_all(stream)).endswith(b"ok")


@pytest.mark.parametrize(
    "rest", [b"not a chunk size\r\n", b"5\r\nhello-too-long\r\n", b"-5\r\nhello\r\n"]
)
async def test_a_body_that_goes_wrong_midway_is_told(rest: bytes) -> None:
    async def behaviour(stream: trio.SocketStream) -> None:
        with contextlib.suppress(h11.RemoteProtocolError):
            whole.append(await read_request(stream))

    whole: list[bytes] = []
    async with open_bench(behaviour) as bench:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        problem(await bench.ask(head + rest, eof=False), 400, "bad-request")
        await until(lambda: bench.closed == 1)
        assert whole == []


@pytest.mark.parametrize("framing", [b"Content-Length: 99", b"Transfer-Encoding: chunked"])
async def test_an_agent_that_dies_midway_resets_the_stream(framing: bytes) -> None:
    async def behaviour(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n5\r\nhello\r\n")

    async with open_bench(behaviour) as bench:
        stream = await bench.link.open_stream()
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises(trio.BrokenResourceError):
            await read_all(stream)


async def test_the_link_goes_on_after_a_broken_answer() -> None:
    async def behaviour(stream: trio.SocketStream) -> None:
        await read_request(stream)
        if bench.connections > 1:
            await stream.send_all(OK)

    async with open_bench(behaviour) as bench:
        request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        problem(await bench.ask(request), 502, "agent-died")
        assert (await bench.ask(request)).endswith(b"ok")


async def test_an_answer_before_the_end_of_the_upload_is_passed_on() -> None:
    async def behaviour(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await trio.sleep_forever()

    async with open_bench(behaviour) as bench:
        stream = await bench.link.open_stream()
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\n\r\nx")
        assert (await read_all(stream)).startswith(b"HTTP/1.1 413")
        await until(lambda: bench.counters.under_way == 0)


@pytest.mark.parametrize("after_headers", [False, True])
async def test_a_peer_that_resets_takes_its_request_along(after_headers: bool) -> None:
    async def behaviour(stream: trio.SocketStream) -> None:
        await read_request(stream)
        if after_headers:
            await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert await stream.receive_some() == b""  # the gateway closed

    async with open_bench(behaviour) as bench:
        stream = await bench.link.open_stream()
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: bench.connections == 1)
        if after_headers:
            await stream.receive_some()
        await stream.reset()
        await until(lambda: bench.closed == 1)
        await until(lambda: bench.counters.under_way == 0)


async def test_a_peer_that_ends_midway_through_its_body_starts_nothing() -> None:
    bodies: list[bytes] = []

    async def behaviour(stream: trio.SocketStream) -> None:
        bodies.append(await read_request(stream))

    async with open_bench(behaviour) as bench:
        stream = await bench.link.open_stream()
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\nhalf")
        await stream.send_eof()
        await read_all(stream)
        await until(lambda: bench.closed == 1)
        assert bodies == []


async def test_an_agent_that_hangs_up_on_an_upload_is_a_problem() -> None:
    async def behaviour(stream: trio.SocketStream) -> None:
        await stream.receive_some()

    async with open_bench(behaviour) as bench:
        stream = await bench.link.open_stream()
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upload, stream)
            problem(await read_all(stream), 502, "agent-died")
            nursery.cancel_scope.cancel()


async def upload(stream: MemoryStream) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        while True:
            await stream.send_all(bytes(65536))


async def test_interim_answers_of_the_agent_are_not_for_the_peer() -> None:
    async def behaviour(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + OK)

    async with open_bench(behaviour) as bench:
        answer = await bench.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"103" not in answer


async def test_bytes_after_a_request_that_is_under_way_reset_the_stream() -> None:
    async def behaviour(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await trio.sleep_forever()

    async with open_bench(behaviour) as bench:
        stream = await bench.link.open_stream()
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: bench.connections == 1)
        await stream.send_all(b"more")
        with pytest.raises(trio.BrokenResourceError):
            await read_all(stream)


async def test_a_stream_without_a_request_is_not_answered() -> None:
    async with open_bench() as bench:
        with pytest.raises(trio.BrokenResourceError):
            await bench.ask(b"")
        assert bench.connections == 0


async def test_a_defect_ends_one_request_and_not_the_link(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "clawchat.gateway")

    def defect(*args: object, **kwargs: object) -> None:
        raise LookupError

    async with open_bench() as bench:
        request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        with monkeypatch.context() as patch:
            patch.setattr("clawchat.apps.gateway.exchange.request_headers", defect)
            with pytest.raises(trio.BrokenResourceError):
                await bench.ask(request)
        assert (await bench.ask(request)).endswith(b"ok")


async def test_a_large_body_passes_both_ways_without_being_held() -> None:
    size = 5_000_000

    async def behaviour(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)

    async with open_bench(behaviour) as bench:
        answer = await bench.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert len(answer.partition(b"\r\n\r\n")[2]) == size


async def test_the_relay_ends_with_its_link() -> None:
    link = MemoryLink()
    await link.hang_up()
    with trio.fail_after(1):
        await relay(link, parse_agent_url("http://127.0.0.1:1"))


# --- the agent's address ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:55556",
        "https://127.0.0.1:55556",
        "http://example.com:55556",
        "http://10.0.0.1",
        "http://127.0.0.1:55556/path",
        "http://127.0.0.1:99999",
        "http://user@127.0.0.1",
        "",
    ],
)
def test_an_agent_url_that_cannot_be_used_is_named(url: str) -> None:
    with pytest.raises(UserError, match="127") as refused:
        parse_agent_url(url)
    assert repr(url) in str(refused.value)


def test_an_ipv6_address_keeps_its_brackets() -> None:
    assert str(parse_agent_url("http://[::1]:55556")) == "http://[::1]:55556"
    assert str(parse_agent_url("http://localhost")) == "http://localhost:80"


async def test_a_healthy_agent_is_found(world: World) -> None:
    await check_agent(parse_agent_url(world.agent.url), seconds=PATIENCE)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (OK, "something else listens there"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "something else"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + b"x" * 9999, "something else"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not speak HTTP"),
        (b"", "does not speak HTTP"),
    ],
)
async def test_what_is_no_agent_is_told_with_the_command_to_run(said: bytes, reason: str) -> None:
    async def behaviour(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(said)

    async with open_bench(behaviour) as bench:
        with pytest.raises(AgentUnreachable, match=reason) as refused:
            await check_agent(parse_agent_url(bench.agent), seconds=PATIENCE)
    assert "another port" in str(refused.value), "this one is taken"


async def test_an_agent_that_hangs_or_is_gone_is_told_within_a_second() -> None:
    async def behaviour(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with open_bench(behaviour) as bench:
        address = parse_agent_url(bench.agent)
        with pytest.raises(AgentUnreachable, match=r"within 0\.05 s"):
            await check_agent(address, seconds=0.05)
    started_by = f"clawchat agent --port {address.port}$"
    with pytest.raises(AgentUnreachable, match=started_by):
        await check_agent(address)


async def test_a_client_that_leaves_an_event_stream_leaves_no_listener_behind(world: World) -> None:
    conversation = await world.client.create_conversation()
    run = await world.client.start(conversation.id, "word " * 10_000, key="k")
    async with world.client.events(run.id) as events:
        await anext(events)
        assert world.agent.runs.active[run.id].listeners == 1
    await until(lambda: world.agent.runs.active[run.id].listeners == 0)
    await world.client.cancel(run.id)
