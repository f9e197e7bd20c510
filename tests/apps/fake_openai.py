"""An endpoint that speaks OpenAI's protocol, or pretends to, on loopback.

Rules: real TCP and HTTP, so that the SDK's own retries and parsers are part of the test.
Left to others: the provider (`test_openai_provider`).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import Factory, define
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from clawchat.apps.agent.http_server import serve_http
from clawchat.apps.agent.server import _bind

Answer = Callable[[], Response]


def chunk(text: str | None = None, finish: str | None = None, **members: object) -> str:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    common = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return json.dumps(common | {"choices": [choice]} | members)


@define
class FakeOpenAI:
    """`answers` are given in order, the last one again and again."""

    url: str
    answers: list[Answer] = Factory(list)
    requests: list[dict[str, Any]] = Factory(list)
    keys: list[str] = Factory(list)

    async def complete(self, request: Request) -> Response:
        self.requests.append(await request.json())
        self.keys.append(request.headers["authorization"])
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer()


class Stream(Response):
    """Sends lines as they are; then ends, hangs or breaks off."""

    def __init__(self, *lines: str, then: str = "end") -> None:
        self.lines, self.then = lines, then
        self.status_code = 200

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for line in self.lines:
            body = f"data: {line}\n\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})
        if self.then == "hang":
            while (await receive())["type"] != "http.disconnect":
                pass
        elif self.then == "break":
            raise ConnectionResetError
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def status(code: int, text: str = "no", **headers: str) -> Answer:
    return lambda: JSONResponse({"error": {"message": text}}, code, headers)


def reply(*words: str, finish: str = "stop") -> Answer:
    usage = {"prompt_tokens": 7, "completion_tokens": len(words), "total_tokens": 7 + len(words)}
    lines = [*map(chunk, words), chunk(finish=finish), chunk(choices=[], usage=usage), "[DONE]"]
    return lambda: Stream(*lines)


Handler = Callable[[Request], Awaitable[Response]]


@asynccontextmanager
async def open_fake(*answers: Answer) -> AsyncIterator[FakeOpenAI]:
    with _bind(0) as listening:
        fake = FakeOpenAI(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", list(answers))
        app = Starlette(routes=[Route("/v1/chat/completions", fake.complete, methods=["POST"])])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_http, app, listening)
            yield fake
            nursery.cancel_scope.cancel()
