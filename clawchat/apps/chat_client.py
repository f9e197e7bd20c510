"""The agent's HTTP interface from the other side: what a terminal or a page needs to chat.

Rules: every request is repeated while the way to the agent is down, up to `patience`, and each is
safe to repeat: a message carries its Idempotency-Key, events are resumed after the last one seen.
A run never depends on the client: leaving an event stream stops nothing but the listening.
Left to others: the way there (`http`, or any other transport of `httpx2.AsyncClient`).

    client = AgentClient(http)
    conversation = await client.create_conversation()
    async with client.send(conversation.id, "Hello") as events:
        async for event in events:
            ...
"""

from __future__ import annotations

import json
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx2
import trio
from attrs import frozen

from clawchat.apps import sse
from clawchat.apps.events import LastEvent, RunEvent, decode_event
from clawchat.apps.http import unwind
from clawchat.apps.problems import Problem, ProblemError
from clawchat.errors import lasting_cause

PATIENCE: Final = 60.0  # seconds without any success before an error is passed on
PAUSE_MIN, PAUSE_MAX = 0.2, 5.0  # seconds between two attempts; doubled each time
ANSWER_SECONDS: Final = 70.0  # for an ordinary request: the gateway gives up at 60
END_SECONDS: Final = 0.5  # the end of an event stream follows its last event at once
SILENCE_SECONDS: Final = 45.0  # three heartbeats of an event stream

PASSING: Final = frozenset({"agent-down", "agent-died", "agent-too-slow", "too-many-requests"})
"""Problems of the way to the agent, which may be gone a moment later."""

T = TypeVar("T")


@frozen
class AgentInfo:
    api: int
    provider: str
    model: str


@frozen
class Conversation:
    """Times are Unix milliseconds. `active_run` is the reply being written, if any."""

    id: str
    title: str
    created_ms: int
    updated_ms: int
    active_run: str | None


@frozen
class ConversationPage:
    """`next` is for `conversations(before=...)`; None at the end."""

    conversations: tuple[Conversation, ...]
    next: str | None


@frozen
class Message:
    """`role` is "user" or "assistant"; `state` is "complete", "failed" or "cancelled"."""

    id: str
    position: int
    role: str
    text: str
    state: str
    run: str
    caller: str
    caller_name: str
    created_ms: int


@frozen
class MessagePage:
    """A conversation with its newest messages, oldest first; `before` asks for older ones."""

    conversation: Conversation
    messages: tuple[Message, ...]
    before: int | None


@frozen
class Run:
    """`state` is "running", "finished", "failed" or "cancelled"."""

    id: str
    conversation: str
    state: str
    created_ms: int
    finished_ms: int | None
    last_event: int


class AgentClient:
    """Talks to one agent. `http` has the agent as its `base_url`; the caller closes it.

    Methods raise `ProblemError` when the agent (or the gateway) says why it will not, and
    `httpx2.TransportError` when nothing got through for `patience` seconds.
    """

    def __init__(self, http: httpx2.AsyncClient, *, patience: float = PATIENCE) -> None:
        self._http = http
        self._patience = patience

    async def health(self) -> None:
        """Returns when the agent answers."""
        await self._ask("GET", "/v1/health")

    async def agent(self) -> AgentInfo:
        """What replies."""
        return _known(AgentInfo, await self._ask("GET", "/v1/agent"))

    # --- conversations ------------------------------------------------------------------------

    async def create_conversation(self, title: str = "", *, key: str | None = None) -> Conversation:
        """An empty one. Without a title it takes that of its first message."""
        answer = await self._ask(
            "POST", "/v1/conversations", json={"title": title}, key=key or new_key()
        )
        return _known(Conversation, answer)

    async def conversations(
        self, *, before: str | None = None, limit: int | None = None
    ) -> ConversationPage:
        """The most recently used ones."""
        answer = await self._ask("GET", "/v1/conversations", before=before, limit=limit)
        return ConversationPage(
            tuple(_known(Conversation, one) for one in answer["conversations"]), answer["next"]
        )

    async def conversation(
        self, conversation: str, *, before: int | None = None, limit: int | None = None
    ) -> MessagePage:
        """One of them, with messages."""
        path = f"/v1/conversations/{conversation}"
        answer = await self._ask("GET", path, before=before, limit=limit)
        messages = tuple(_known(Message, one) for one in answer["messages"])
        return MessagePage(_known(Conversation, answer), messages, answer["before"])

    async def delete_conversation(self, conversation: str) -> None:
        """Forget it and all in it; a reply under way is cancelled."""
        await self._ask("DELETE", f"/v1/conversations/{conversation}")

    # --- runs ---------------------------------------------------------------------------------

    def send(self, conversation: str, text: str, *, key: str | None = None) -> RunEvents:
        """Send a message and follow its reply. Nothing is sent before the iteration begins.

        With the `key` of an earlier message, follows the reply to that one.
        """
        key = key or new_key()
        return RunEvents(self, lambda: self.start(conversation, text, key=key), 0)

    async def start(self, conversation: str, text: str, *, key: str) -> Run:
        """Send a message; the reply is followed with `events`, now or later, here or elsewhere."""
        path = f"/v1/conversations/{conversation}/messages"
        text = text.encode("utf-8", "replace").decode()  # a terminal may give half characters
        return _known(Run, await self._ask("POST", path, json={"text": text}, key=key))

    def events(self, run: str, *, after: int = 0) -> RunEvents:
        """Follow a run from the event after `after` (0: from its beginning) to its end."""
        return RunEvents(self, lambda: self.run(run), after)

    async def run(self, run: str) -> Run:
        """How a run stands."""
        return _known(Run, await self._ask("GET", f"/v1/runs/{run}"))

    async def cancel(self, run: str) -> Run:
        """Stop a run; harmless when it has ended."""
        return _known(Run, await self._ask("POST", f"/v1/runs/{run}/cancel"))

    # --- requests -----------------------------------------------------------------------------

    async def _ask(
        self, method: str, path: str, *, json: object = None, key: str = "", **query: object
    ) -> Any:  # noqa: ANN401 - JSON
        async def attempt() -> Any:  # noqa: ANN401 - JSON
            answer = await self._http.request(
                method,
                path,
                json=json,
                params={name: str(value) for name, value in query.items() if value is not None},
                headers={"Idempotency-Key": key} if key else None,
                timeout=ANSWER_SECONDS,
            )
            if answer.is_error:
                raise ProblemError(_problem_of(answer, answer.content))
            return answer.json() if answer.content else None

        return await self.persist(attempt, Patience(self._patience))

    async def persist(self, attempt: Callable[[], Awaitable[T]], patience: Patience) -> T:
        """Attempt until it works, or it is refused for good, or patience ends."""
        while True:
            try:
                result = await attempt()
                patience.renew()
                return result
            except ProblemError as error:
                if error.problem.kind not in PASSING or not patience.left:
                    raise
            except httpx2.TransportError as error:
                if lasting_cause(error) or not patience.left:
                    raise
            await patience.wait()

    async def open_events(self, run: str, after: int) -> httpx2.Response:
        """One event stream, open. Raises `ProblemError` or `httpx2.TransportError`."""
        request = self._http.build_request(
            "GET",
            f"/v1/runs/{run}/events",
            headers={"Last-Event-ID": str(after), "Accept": "text/event-stream"},
            timeout=httpx2.Timeout(ANSWER_SECONDS, read=SILENCE_SECONDS),
        )
        answer = await self._http.send(request, stream=True)
        if answer.is_error:
            try:
                raise ProblemError(_problem_of(answer, await answer.aread()))
            finally:
                await _close(answer)
        return answer

    @property
    def patience(self) -> float:
        return self._patience


class Patience:
    """How long, and how often, something is tried again."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        """Something worked: begin anew."""
        self._until = trio.current_time() + self._seconds
        self._pause = PAUSE_MIN

    @property
    def left(self) -> bool:
        return trio.current_time() < self._until

    async def wait(self) -> None:
        """Pause, longer each time."""
        await trio.sleep(min(self._pause, max(0.0, self._until - trio.current_time())))
        self._pause = min(2 * self._pause, PAUSE_MAX)


class RunEvents:
    """The events of one run, each once and in order, across any number of connections.

    Use as `async with`, or exhaust it, or call `aclose`. After the run's last event it ends.
    """

    def __init__(
        self, client: AgentClient, begin: Callable[[], Awaitable[Run]], after: int
    ) -> None:
        self._client = client
        self._begin = begin
        self._after = after
        self._run: Run | None = None
        self._answer: httpx2.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None
        self._parser = sse.Parser()
        self._waiting: deque[RunEvent] = deque()
        self._ended = False

    @property
    def run(self) -> str | None:
        """The id of the run, once it is known."""
        return None if self._run is None else self._run.id

    @property
    def last_event(self) -> int:
        """The id of the last event that was handed out."""
        return self._after

    async def cancel(self) -> None:
        """Stop the run; its `RunCancelled` then comes as the last event."""
        if self._run is not None:
            await self._client.cancel(self._run.id)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RunEvent:
        patience = Patience(self._client.patience)
        try:
            if self._run is None:
                self._run = await self._begin()
            while not self._waiting:
                if self._ended:
                    raise StopAsyncIteration
                await self._client.persist(self._read, patience)
        except BaseException:
            await self.aclose()
            raise
        event = self._waiting.popleft()
        self._after = event.id
        if isinstance(event, LastEvent):
            await self._read_to_end()
            await self.aclose()
        return event

    async def aclose(self) -> None:
        """Stop listening. The run goes on."""
        self._ended = True
        self._waiting.clear()
        await self._disconnect()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _read_to_end(self) -> None:
        """The agent says no more: let it end the answer, so that we need not say that we do."""
        pieces = self._pieces
        if pieces is not None:
            with trio.move_on_after(END_SECONDS), suppress(httpx2.TransportError):
                while await anext(pieces, None) is not None:
                    pass

    async def _read(self) -> None:
        """Wait for some bytes, after connecting if need be. Raises `httpx2.TransportError`."""
        assert self._run is not None
        try:
            if self._pieces is None:
                self._answer = await self._client.open_events(self._run.id, self._known)
                self._pieces = self._answer.aiter_bytes()
                self._parser = sse.Parser()
            if self._answer is not None and self._answer.status_code == 204:
                self._ended = True  # the last event was seen already
                return
            received = await anext(self._pieces, None)
            if received is None:
                raise httpx2.ReadError("the event stream ended before the run")
            self._take(received)
        except httpx2.TransportError:
            await self._disconnect()
            raise

    def _take(self, received: bytes) -> None:
        try:
            for one in self._parser.feed(received):
                event = decode_event(int(one.id), one.name, one.data)
                if event is not None and event.id > self._known:
                    self._waiting.append(event)
        except ValueError as error:
            raise httpx2.ReadError(f"the event stream is damaged: {error}") from None

    @property
    def _known(self) -> int:
        """The id of the last event that arrived."""
        return self._waiting[-1].id if self._waiting else self._after

    async def _disconnect(self) -> None:
        answer, pieces = self._answer, self._pieces
        self._answer = self._pieces = None
        if pieces is not None:
            await unwind(pieces)
        if answer is not None:
            await _close(answer)


async def _close(answer: httpx2.Response) -> None:
    with trio.CancelScope(shield=True), trio.move_on_after(1.0):
        await answer.aclose()


def new_key() -> str:
    """An Idempotency-Key for one message."""
    return secrets.token_urlsafe(18)


def _problem_of(answer: httpx2.Response, body: bytes) -> Problem:
    try:
        members = json.loads(body)
    except (ValueError, RecursionError):
        members = {"detail": f"The answer had HTTP status {answer.status_code} and no explanation."}
    return Problem.from_json(members, status=answer.status_code)


def _known(kind: type[T], members: dict[str, Any]) -> T:
    """Of what a newer agent sends, the part that is known here."""
    known = {field.name: members[field.name] for field in kind.__attrs_attrs__}  # type: ignore[attr-defined]
    return kind(**known)
