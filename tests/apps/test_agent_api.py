"""The agent's HTTP interface, as any program on this machine sees it.

Rules: over real loopback TCP, so that anycorn and Starlette are part of what is tested.
Left to others: runs (`test_runs`), what a peer gets through the gateway (`test_gateway`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from clawchat.apps.agent import AgentPortInUse, open_agent
from clawchat.apps.agent.api import BODY_MAX, TEXT_MAX
from clawchat.apps.agent.providers.echo import Echo
from tests.apps.world import World
from tests.waiting import PATIENCE


async def new_conversation(http: httpx2.AsyncClient) -> str:
    answer = await http.post("/v1/conversations", json={})
    assert answer.status_code == 201
    made: str = answer.json()["id"]
    return made


async def send(
    http: httpx2.AsyncClient, conversation: str, text: object, key: str = "k"
) -> httpx2.Response:
    return await http.post(
        f"/v1/conversations/{conversation}/messages",
        content=json.dumps({"text": text}),
        headers={"Idempotency-Key": key, "Content-Type": "application/json"},
    )


async def wait_ended(http: httpx2.AsyncClient, run: str) -> dict[str, Any]:
    with trio.fail_after(PATIENCE):
        while True:
            found: dict[str, Any] = (await http.get(f"/v1/runs/{run}")).json()
            if found["state"] != "running":
                return found
            await trio.sleep(0.005)


def problem(answer: httpx2.Response, status: int, kind: str) -> dict[str, Any]:
    """The answer is a problem document of this kind."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    members: dict[str, Any] = answer.json()
    assert members["type"] == f"urn:clawchat:problem:{kind}"
    assert members["status"] == status
    assert members["title"]
    return members


async def test_health_and_agent_say_what_runs(world: World) -> None:
    assert (await world.local.get("/v1/health")).json() == {"status": "ok", "api": 1}
    about = (await world.local.get("/v1/agent")).json()
    assert about == {"api": 1, "provider": "echo", "model": "echo"}


async def test_a_conversation_is_made_listed_read_and_deleted(world: World) -> None:
    http = world.local
    made = (await http.post("/v1/conversations", json={"title": "Garden"})).json()
    assert made["title"] == "Garden"
    assert (await http.get("/v1/conversations")).json()["conversations"] == [made]
    assert (await http.get(f"/v1/conversations/{made['id']}")).json()["messages"] == []
    assert (await http.delete(f"/v1/conversations/{made['id']}")).status_code == 204
    assert (await http.get("/v1/conversations")).json() == {"conversations": [], "next": None}
    problem(await http.get(f"/v1/conversations/{made['id']}"), 404, "no-such-conversation")
    problem(await http.delete(f"/v1/conversations/{made['id']}"), 404, "no-such-conversation")


async def test_making_a_conversation_again_with_its_key_finds_the_same(world: World) -> None:
    again = [
        await world.local.post("/v1/conversations", json={}, headers={"Idempotency-Key": key})
        for key in ("one", "one", "two")
    ]
    first, second, third = (answer.json()["id"] for answer in again)
    assert first == second != third


async def test_conversations_come_in_pages_most_recently_used_first(world: World) -> None:
    made = []
    for _ in range(5):
        made.append(await new_conversation(world.local))
        await trio.sleep(0.002)  # their times are milliseconds
    await wait_ended(world.local, (await send(world.local, made[0], "hello")).json()["id"])
    seen: list[str] = []
    before: str | None = None
    for _ in range(3):
        query = {"limit": "2"} | ({"before": before} if before else {})
        page = (await world.local.get("/v1/conversations", params=query)).json()
        seen += [one["id"] for one in page["conversations"]]
        before = page["next"]
    assert before is None
    assert seen == [made[0], *reversed(made[1:])]


async def test_messages_come_in_pages_newest_page_first(world: World) -> None:
    conversation = await new_conversation(world.local)
    for number in range(3):
        answer = await send(world.local, conversation, f"m{number}", key=f"k{number}")
        await wait_ended(world.local, answer.json()["id"])
    path = f"/v1/conversations/{conversation}"
    newest = (await world.local.get(path, params={"limit": 4})).json()
    assert [one["text"] for one in newest["messages"]] == ["m1", "m1", "m2", "m2"]
    older = (await world.local.get(path, params={"before": newest["before"]})).json()
    assert [one["text"] for one in older["messages"]] == ["m0", "m0"]
    assert older["before"] is None


async def test_a_repeated_message_starts_no_second_run(world: World) -> None:
    conversation = await new_conversation(world.local)
    first = await send(world.local, conversation, "hello", key="same")
    again = await send(world.local, conversation, "hello", key="same")
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    assert first.headers["location"] == f"/v1/runs/{first.json()['id']}"
    await wait_ended(world.local, first.json()["id"])
    late = await send(world.local, conversation, "hello", key="same")
    assert late.json()["id"] == first.json()["id"]
    found = (await world.local.get(f"/v1/conversations/{conversation}")).json()
    assert [one["role"] for one in found["messages"]] == ["user", "assistant"]


async def test_messages_sent_at_the_same_time_with_one_key_are_one_run(world: World) -> None:
    conversation = await new_conversation(world.local)
    answers: list[httpx2.Response] = []

    async def post() -> None:
        answers.append(await send(world.local, conversation, "hello", key="same"))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(post)
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [202]


async def test_a_key_used_for_another_message_is_refused(world: World) -> None:
    conversation = await new_conversation(world.local)
    run = (await send(world.local, conversation, "hello", key="same")).json()["id"]
    await wait_ended(world.local, run)
    other = await send(world.local, conversation, "something else", key="same")
    problem(other, 422, "idempotency-key-reused")
    elsewhere = await send(world.local, await new_conversation(world.local), "hello", key="same")
    problem(elsewhere, 422, "idempotency-key-reused")


async def test_two_devices_may_use_the_same_key(world: World) -> None:
    conversation = await new_conversation(world.local)
    local = (await send(world.local, conversation, "hello", key="same")).json()["id"]
    await wait_ended(world.local, local)
    remote = (await send(world.http, conversation, "hello", key="same")).json()["id"]
    assert local != remote


async def test_a_message_without_a_key_is_refused(world: World) -> None:
    conversation = await new_conversation(world.local)
    path = f"/v1/conversations/{conversation}/messages"
    answer = await world.local.post(path, json={"text": "hello"})
    assert "Idempotency-Key" in problem(answer, 400, "idempotency-key-missing")["next"]


@pytest.mark.parametrize("text", ["", "  \n", 5, None, ["x"], "\ud83d"])
async def test_a_message_that_is_no_text_is_refused(world: World, text: object) -> None:
    conversation = await new_conversation(world.local)
    problem(await send(world.local, conversation, text), 400, "bad-request")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_object_is_refused(world: World, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await world.local.post("/v1/conversations", content=body, headers=headers)
    problem(answer, 400, "bad-request")


async def test_a_body_that_is_not_said_to_be_json_is_refused(world: World) -> None:
    answer = await world.local.post(
        "/v1/conversations", content=b"{}", headers={"Content-Type": "text/plain"}
    )
    problem(answer, 415, "not-json")


async def test_a_message_has_a_largest_size_in_bytes(world: World) -> None:
    conversation = await new_conversation(world.local)
    assert (await send(world.local, conversation, "é" * (TEXT_MAX // 2))).status_code == 202
    problem(
        await send(world.local, conversation, "é" * (TEXT_MAX // 2) + "x", "2"), 413, "too-large"
    )


async def test_a_body_too_large_is_refused_before_it_is_read_whole(world: World) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while sent < 100 * BODY_MAX:
            sent += 65536
            yield b" " * 65536

    headers = {"Content-Type": "application/json"}
    answer = await world.local.post("/v1/conversations", content=endless(), headers=headers)
    problem(answer, 413, "too-large")
    assert sent < 20 * BODY_MAX


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/conversations?limit=x", "bad-request"),
        ("/v1/conversations?before=x", "bad-request"),
        ("/v1/conversations?before=9999999999999999999.c", "bad-request"),
        ("/v1/conversations/c_1?before=-1", "bad-request"),
        ("/v1/runs/r_1/events?after=x", "bad-request"),
        ("/v1/runs/r_1/events?after=99999999999999999999", "bad-request"),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(world: World, path: str, kind: str) -> None:
    problem(await world.local.get(path), 400, kind)


async def test_addresses_and_methods_that_do_not_exist_are_problems_too(world: World) -> None:
    problem(await world.local.get("/v2/health"), 404, "not-found")
    problem(await world.local.get("/"), 404, "not-found")
    answer = await world.local.put("/v1/conversations", json={})
    problem(answer, 405, "method-not-allowed")
    assert "POST" in answer.headers["allow"]
    problem(await world.local.get("/v1/runs/r_none"), 404, "no-such-run")
    problem(await world.local.post("/v1/runs/r_none/cancel"), 404, "no-such-run")
    problem(await world.local.get("/v1/runs/r_none/events"), 404, "no-such-run")
    problem(await send(world.local, "c_none", "hello"), 404, "no-such-conversation")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:55556", "127.0.0.1.evil.example", "[::2]", "", "[", "10.0.0.1"],
)
async def test_a_name_that_was_rebound_to_loopback_is_refused(world: World, host: str) -> None:
    answer = await world.local.get("/v1/conversations", headers={"Host": host})
    problem(answer, 421, "foreign-host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]:55556"])
async def test_names_of_loopback_are_served(world: World, host: str) -> None:
    assert (await world.local.get("/v1/health", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_web_pages_of_other_origins_are_refused(
    world: World, headers: dict[str, str]
) -> None:
    problem(await world.local.get("/v1/agent", headers=headers), 403, "foreign-origin")
    answer = await world.local.post("/v1/conversations", json={}, headers=headers)
    problem(answer, 403, "foreign-origin")


async def test_its_own_origin_is_served(world: World) -> None:
    headers = {"Origin": world.agent.url, "Sec-Fetch-Site": "same-origin"}
    assert (await world.local.get("/v1/agent", headers=headers)).status_code == 200


async def test_the_agent_listens_on_loopback_only(world: World) -> None:
    assert world.agent.url.startswith("http://127.0.0.1:")


async def test_a_port_in_use_is_named_with_what_to_do(world: World, tmp_path: Path) -> None:
    port = int(world.agent.url.rpartition(":")[2])
    with pytest.raises(AgentPortInUse, match=f"port {port} .* --agent-url {world.agent.url}"):
        async with open_agent(tmp_path / "second", Echo(), port=port):
            pass
    assert not (tmp_path / "second").exists()


async def test_what_the_block_raises_comes_out_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        async with open_agent(tmp_path / "agent", Echo(), port=0):
            raise KeyError


async def test_a_client_that_stops_reading_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async with open_agent(tmp_path / "agent", Echo(pause=0), port=0) as agent:
        async with httpx2.AsyncClient(base_url=agent.url) as http:
            conversation = await new_conversation(http)
            for number in range(30):
                answer = await send(http, conversation, "x" * TEXT_MAX, key=f"k{number}")
                await wait_ended(http, answer.json()["id"])
        stuck = await trio.open_tcp_stream("127.0.0.1", int(agent.url.rpartition(":")[2]))
        path = f"/v1/conversations/{conversation}?limit=200"
        await stuck.send_all(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert (await stuck.receive_some(12)) == b"HTTP/1.1 200"
        began = trio.current_time()
    assert trio.current_time() - began < PATIENCE / 2
    await stuck.aclose()


async def test_bytes_that_are_no_http_are_refused_and_the_agent_goes_on(world: World) -> None:
    port = int(world.agent.url.rpartition(":")[2])
    for garbage in (b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nHo st: x\r\n\r\n", b"\0" * 99):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(garbage)
            await stream.send_eof()
            with trio.fail_after(PATIENCE):
                while await stream.receive_some():
                    pass
    assert (await world.local.get("/v1/health")).status_code == 200
