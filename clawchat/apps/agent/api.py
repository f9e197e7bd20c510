"""The agent's HTTP interface, version 1 (docs/agent-api.md).

Rules: every answer is JSON, an event stream or a problem document; every input has a limit; a
request changes nothing before it is wholly read and checked.
Left to others: keeping (`store`), replying (`runs`), refusing web pages (`guard`), the sockets
(`server`).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import unquote

import attrs
import trio
from attrs import frozen
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from clawchat.apps import sse
from clawchat.apps.agent.guard import Guard, problem_response
from clawchat.apps.agent.runs import ActiveRun, Caller, EndedRun, EventSource, Runs
from clawchat.apps.agent.schema import Conversation, Message, RunRecord, no_conversation
from clawchat.apps.agent.store import Store
from clawchat.apps.problems import Problem, ProblemError

TEXT_MAX: Final = 256 * 1024
"""Bytes of one message as UTF-8: a long document; what a model takes in at once is less."""
BODY_MAX: Final = 6 * TEXT_MAX + 4096
"""Bytes of a request's body: JSON may write each byte of the text as six."""
TITLE_MAX: Final = 200  # characters: one line of a list
KEY_MAX: Final = 200  # characters: a UUID has 36
PAGE_DEFAULT: Final = 50
PAGE_MAX: Final = 200  # a page of conversations is 60 KiB, one of messages seldom 1 MiB
HEARTBEAT: Final = 15.0  # seconds: below the usual idle limits of proxies, above chatter


@frozen
class Api:
    """The handlers. One instance serves all requests."""

    store: Store
    runs: Runs
    heartbeat: float = HEARTBEAT

    def application(self) -> Starlette:
        """As an ASGI application."""
        conversation = "/v1/conversations/{conversation}"
        return Starlette(
            routes=[
                Route("/v1/health", self.health),
                Route("/v1/agent", self.agent),
                _route(
                    "/v1/conversations", GET=self.list_conversations, POST=self.create_conversation
                ),
                _route(conversation, GET=self.get_conversation, DELETE=self.delete_conversation),
                Route(f"{conversation}/messages", self.send_message, methods=["POST"]),
                Route("/v1/runs/{run}", self.get_run),
                Route("/v1/runs/{run}/events", self.run_events),
                Route("/v1/runs/{run}/cancel", self.cancel_run, methods=["POST"]),
            ],
            middleware=[Middleware(Guard)],
            exception_handlers={
                ProblemError: _answer_problem,
                HTTPException: _answer_http_error,
                Exception: _answer_surprise,
            },
        )

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "api": 1})

    async def agent(self, request: Request) -> Response:
        provider = self.runs.provider
        return JSONResponse({"api": 1, "provider": provider.name, "model": provider.model})

    # --- conversations ------------------------------------------------------------------------

    async def list_conversations(self, request: Request) -> Response:
        limit = _page_size(request)
        found = await self.store.conversations(_cursor(request), limit + 1)
        page = found[:limit]
        more = f"{page[-1].updated_ms}.{page[-1].id}" if len(found) > limit else None
        return JSONResponse({"conversations": [_conversation(one) for one in page], "next": more})

    async def create_conversation(self, request: Request) -> Response:
        members = await _body(request)
        title = _text(members, "title", TITLE_MAX, default="")
        key = _key(request, required=False)
        made = await self.store.create(title, _caller(request).id, key)
        location = {"Location": f"/v1/conversations/{made.id}"}
        return JSONResponse(_conversation(made), 201, location)

    async def get_conversation(self, request: Request) -> Response:
        conversation, limit = request.path_params["conversation"], _page_size(request)
        before = _number(request, "before", default=None)
        found = await self.store.conversation(conversation)
        if found is None:
            raise ProblemError(no_conversation(conversation))
        messages = await self.store.messages(conversation, before, limit)
        more = messages[0].position if messages and messages[0].position > 1 else None
        members = {"messages": [_message(one) for one in messages], "before": more}
        return JSONResponse(_conversation(found) | members)

    async def delete_conversation(self, request: Request) -> Response:
        conversation = request.path_params["conversation"]
        await self.runs.cancel_all(conversation)
        if not await self.store.delete(conversation):
            raise ProblemError(no_conversation(conversation))
        return Response(status_code=204)

    # --- messages and runs --------------------------------------------------------------------

    async def send_message(self, request: Request) -> Response:
        key = _key(request, required=True)
        assert key is not None
        text = _text(await _body(request), "text", TEXT_MAX)
        if not text.strip():
            raise ProblemError(_bad_request("text", "is empty"))
        conversation = request.path_params["conversation"]
        record, new = await self.runs.start(conversation, text, key, _caller(request))
        location = {"Location": f"/v1/runs/{record.id}"}
        return JSONResponse(_run(record), 202 if new else 200, location)

    async def get_run(self, request: Request) -> Response:
        record, active = await self.runs.find(request.path_params["run"])
        if active is not None:
            return JSONResponse(
                _run(record) | {"last_event": active.last, "text": "".join(active.text)}
            )
        last = await self.store.events(record.id, record.last_event - 1, 1)
        return JSONResponse(_run(record) | {"text": json.loads(last[0].data)["text"]})

    async def cancel_run(self, request: Request) -> Response:
        return JSONResponse(_run(await self.runs.cancel(request.path_params["run"])))

    async def run_events(self, request: Request) -> Response | EventStream:
        after = _after(request)
        record, active = await self.runs.find(request.path_params["run"])
        if active is not None:
            if active.listeners >= self.runs.limits.listeners:
                raise ProblemError(TOO_MANY_LISTENERS)
            return EventStream(active, after, self.heartbeat, active)
        if after == record.last_event:
            return Response(status_code=204)  # tells a browser's EventSource to stop asking
        # Beyond the end (a power cut took events that were seen): the end is all there is.
        after = min(after, record.last_event - 1)
        return EventStream(EndedRun(self.store, record), after, self.heartbeat, None)


Handler = Callable[[Request], Awaitable[Response]]


def _route(path: str, **handlers: Handler) -> Route:
    """One address with a handler per method, so that a 405 can name them all."""

    async def dispatch(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await handlers[method](request)

    return Route(path, dispatch, methods=list(handlers))


@frozen(eq=False)
class EventStream:
    """A response that follows a run until it ends or the listener goes."""

    source: EventSource
    after: int
    heartbeat: float
    counted: ActiveRun | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if self.counted is not None:
            self.counted.listeners += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_disconnect, receive, nursery.cancel_scope)
                await self._follow(send)
                nursery.cancel_scope.cancel()
        finally:
            if self.counted is not None:
                self.counted.listeners -= 1

    async def _follow(self, send: Send) -> None:
        after, more = self.after, True
        while more:
            chunk = sse.HEARTBEAT
            with trio.move_on_after(self.heartbeat):
                events = await self.source.beyond(after)
                after, more = (events[-1].id, True) if events else (after, False)
                chunk = b"".join(sse.encode(one.id, one.name, one.data) for one in events)
            await send({"type": "http.response.body", "body": chunk, "more_body": more})


async def _until_disconnect(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


# --- reading requests -------------------------------------------------------------------------


def _caller(request: Request) -> Caller:
    """As the gateway says; whoever comes without it is a program on this machine."""
    device = request.headers.get("clawchat-device", "")[:64]
    name = unquote(request.headers.get("clawchat-device-name", ""))[:100]
    return Caller(device, name) if device else Caller()


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object of the body. Raises `ProblemError`."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":  # a form of a web page could not say this either
        raise ProblemError(NOT_JSON)
    body = bytearray()
    try:
        async with aclosing(request.stream()) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > BODY_MAX:
                    raise ProblemError(_too_large("body", BODY_MAX))
    except ClientDisconnect:
        raise ProblemError(_bad_request("body", "ended early")) from None
    try:
        members = json.loads(body)
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict):
        raise ProblemError(_bad_request("body", "is not a JSON object"))
    return members


def _text(members: dict[str, Any], name: str, size: int, *, default: str | None = None) -> str:
    value = members.get(name, default)
    if not isinstance(value, str):
        raise ProblemError(_bad_request(name, "is missing or no string"))
    try:
        length = len(value.encode())
    except UnicodeEncodeError:
        raise ProblemError(_bad_request(name, "holds half a surrogate pair")) from None
    if length > size:
        raise ProblemError(_too_large(name, size))
    return value


def _key(request: Request, *, required: bool) -> str | None:
    key = request.headers.get("idempotency-key", "").strip()
    if len(key) > KEY_MAX:
        raise ProblemError(_bad_request("Idempotency-Key", f"is longer than {KEY_MAX} characters"))
    if not key and required:
        raise ProblemError(KEY_MISSING)
    return key or None


def _number(request: Request, name: str, *, default: int | None) -> int | None:
    said = request.query_params.get(name)
    if said is None:
        return default
    if not (said.isascii() and said.isdigit() and len(said) < 16):
        raise ProblemError(_bad_request(name, "is no number"))
    return int(said)


def _page_size(request: Request) -> int:
    limit = _number(request, "limit", default=PAGE_DEFAULT)
    assert limit is not None
    return max(1, min(limit, PAGE_MAX))


def _cursor(request: Request) -> tuple[int, str] | None:
    said = request.query_params.get("before")
    if said is None:
        return None
    updated, _, last = said.partition(".")
    if not (updated.isascii() and updated.isdigit() and len(updated) < 16 and last):
        raise ProblemError(_bad_request("before", "is not the `next` of an earlier page"))
    return int(updated), last


def _after(request: Request) -> int:
    """The id of the last event seen: from the query, or what EventSource sends by itself."""
    said = request.query_params.get("after", request.headers.get("last-event-id", "")).strip()
    if not said:
        return 0
    if not (said.isascii() and said.isdigit() and len(said) < 16):
        raise ProblemError(_bad_request("Last-Event-ID", "is no event id"))
    return int(said)


# --- writing answers --------------------------------------------------------------------------


def _conversation(one: Conversation) -> dict[str, Any]:
    return attrs.asdict(one)


def _message(one: Message) -> dict[str, Any]:
    return attrs.asdict(one)


def _run(one: RunRecord) -> dict[str, Any]:
    return attrs.asdict(one)


async def _answer_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    later = {"Retry-After": "5"} if error.problem.status == 503 else None
    return problem_response(error.problem, later)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    method = error.status_code == 405
    problem = Problem(
        kind="method-not-allowed" if method else "not-found",
        title="This address does not take that method" if method else "There is nothing here",
        status=error.status_code,
        detail=f"{request.method} {request.url.path}",
        next="See docs/agent-api.md.",
    )
    return problem_response(problem, dict(error.headers or {}))


async def _answer_surprise(request: Request, error: Exception) -> Response:
    return problem_response(
        Problem(
            kind="internal",
            title="The agent failed",
            status=500,
            detail="This is a defect of the agent; its log says where.",
            next="Try again; if it stays, report it.",
        )
    )


def _bad_request(name: str, what: str) -> Problem:
    return Problem(
        kind="bad-request",
        title="The request cannot be understood",
        status=400,
        detail=f"{name} {what}.",
        next="See docs/agent-api.md.",
    )


def _too_large(name: str, size: int) -> Problem:
    return Problem(
        kind="too-large",
        title="That is too much at once",
        status=413,
        detail=f"{name} is longer than {size} bytes.",
        next="Send it in smaller parts.",
    )


NOT_JSON: Final = Problem(
    kind="not-json",
    title="The body must be JSON",
    status=415,
    detail="The Content-Type is not application/json.",
)
KEY_MISSING: Final = Problem(
    kind="idempotency-key-missing",
    title="A message needs an Idempotency-Key",
    status=400,
    detail="Without one, a repeated request would start a second reply.",
    next="Send a header Idempotency-Key with a new random value for each message.",
)
TOO_MANY_LISTENERS: Final = Problem(
    kind="too-many-listeners",
    title="Too many listen to this run",
    status=503,
    detail="Its events go to as many listeners as an agent serves.",
    next="Close one of them.",
)
