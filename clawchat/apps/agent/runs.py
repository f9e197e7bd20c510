"""Runs: a reply being written, which outlives whoever listens to it.

Rules: each run is a task of the agent's own nursery; an event is on disk before any listener sees
it, so what was seen can always be resumed; every run ends in exactly one last event, also when the
provider fails, stalls, or the agent is stopped. Nothing a listener does holds a run up.
Left to others: HTTP (`api`), SQL (`schema`), where the text comes from (`providers`).
"""

from __future__ import annotations

import hashlib
import logging
import traceback
from contextlib import aclosing
from typing import Final, Protocol

import trio
from attrs import Factory, define, frozen

from clawchat.apps.agent.providers import ChatMessage, Delta, Provider, ProviderFailed, Role
from clawchat.apps.agent.schema import INTERRUPTED, EncodedEvent, NewRun, RunRecord
from clawchat.apps.agent.store import Store, new_run_id
from clawchat.apps.events import (
    LastEvent,
    RunCancelled,
    RunEvent,
    RunFailed,
    RunFinished,
    Token,
    Usage,
    encode_event,
)
from clawchat.apps.problems import Problem, ProblemError

log = logging.getLogger("clawchat.agent")

PAGE: Final = 500  # events read from disk at a time for a late listener
STATES: Final = {RunFinished: "finished", RunFailed: "failed", RunCancelled: "cancelled"}


@frozen
class RunLimits:
    """What one agent spends on replies. Times are seconds, sizes bytes of UTF-8."""

    running: int = 8  # each holds a connection to the provider and its events in memory
    events: int = 20_000  # ten times the longest replies seen; bounds memory and replay
    reply_size: int = 1024 * 1024  # a whole reply is sent as one event, so it must be bounded
    listeners: int = 32  # on one run: a person has a few devices, not hundreds
    idle: float = 60.0  # between two pieces; slow models think long before the first
    history_messages: int = 100  # shown to the provider; it has limits of its own
    history_size: int = 256 * 1024


@frozen
class Caller:
    """Who is asking, as the gateway says it: "local" is a program on this machine."""

    id: str = "local"
    name: str = ""


class EventSource(Protocol):
    """A run's events in order, from memory while it is under way and from disk afterwards."""

    async def beyond(self, after: int) -> list[EncodedEvent]:
        """Those with an id above `after`: waits for at least one; empty when none will come."""
        ...


@define(eq=False)
class ActiveRun:
    """A run under way: its events so far, and whoever waits for more."""

    id: str
    conversation: str
    events: list[EncodedEvent] = Factory(list)
    text: list[str] = Factory(list)
    size: int = 0
    listeners: int = 0
    ended: bool = False
    cancel_wanted: bool = False
    scope: trio.CancelScope = Factory(trio.CancelScope)
    _changed: trio.Event = Factory(trio.Event)

    @property
    def last(self) -> int:
        """The id of the last event; 0 while the store has not accepted the run."""
        return len(self.events)

    def publish(self, event: EncodedEvent, *, ended: bool = False) -> None:
        """Show an event that is on disk to all who listen."""
        self.events.append(event)
        self.ended = ended
        self._changed.set()
        self._changed = trio.Event()

    async def beyond(self, after: int) -> list[EncodedEvent]:
        while after >= self.last and not self.ended:
            await self._changed.wait()
        return self.events[max(0, after) :]  # the first has id 1

    async def wait_ended(self) -> None:
        while not self.ended:
            await self._changed.wait()


@frozen
class EndedRun:
    """A run that is only on disk."""

    store: Store
    record: RunRecord

    async def beyond(self, after: int) -> list[EncodedEvent]:
        return await self.store.events(self.record.id, after, PAGE)


@frozen
class Runs:
    """All replies being written. `nursery` is the agent's: it outlives every request."""

    store: Store
    provider: Provider
    nursery: trio.Nursery
    limits: RunLimits = RunLimits()
    active: dict[str, ActiveRun] = Factory(dict)

    async def start(
        self, conversation: str, text: str, key: str, caller: Caller
    ) -> tuple[RunRecord, bool]:
        """Accept a message. The flag says whether this started a run, or found an earlier one.

        Raises `ProblemError`.
        """
        await self._settle(conversation)
        run_id = new_run_id()
        fingerprint = hashlib.sha256(f"{conversation}\0{text}".encode()).digest()
        room = len(self.active) < self.limits.running
        new = NewRun(run_id, conversation, text, key, fingerprint, caller.id, caller.name, room)
        # Known before it is on disk, so that nobody meets a running run without a task.
        run = self.active[run_id] = ActiveRun(run_id, conversation)
        started = None
        try:
            record, started = await self.store.begin(new)
        finally:
            if started is None:
                del self.active[run_id]
        if started is not None:
            run.publish(started)
            self.nursery.start_soon(self._work, run)
        return record, started is not None

    async def _settle(self, conversation: str) -> None:
        """End on disk what nobody works on: a run whose end met a full disk."""
        found = await self.store.conversation(conversation)
        if found is not None and found.active_run not in (None, *self.active):
            await self.store.fail_interrupted(found.active_run)

    async def find(self, run_id: str) -> tuple[RunRecord, ActiveRun | None]:
        """Raises `ProblemError` when there is no such run."""
        record = await self.store.run(run_id)
        run = self.active.get(run_id)
        if record is not None and record.state == "running" and run is None:
            await self.store.fail_interrupted(run_id)
            record = await self.store.run(run_id)
        if record is None:
            raise ProblemError(_no_run(run_id))
        return record, run

    async def cancel(self, run_id: str) -> RunRecord:
        """Stop a run and wait until it has; harmless when it has ended already."""
        _, run = await self.find(run_id)
        if run is not None and not run.ended:
            run.cancel_wanted = True
            run.scope.cancel()
            await run.wait_ended()
        return (await self.find(run_id))[0]

    async def cancel_all(self, conversation: str) -> None:
        """Stop what is being written in a conversation."""
        for run in list(self.active.values()):
            if run.conversation == conversation:
                await self.cancel(run.id)

    # --- the task of one run ------------------------------------------------------------------

    async def _work(self, run: ActiveRun) -> None:
        """Write the reply and its end. Never raises but for the agent's own cancellation."""
        last: LastEvent | None = None
        try:
            with run.scope:
                last = await self._reply(run)
        except (ProviderFailed, ProblemError) as error:
            last = self._failed(run, error.problem)
        except Exception as error:
            _log_surprise(error)
            last = self._failed(run, _surprise(error))
        finally:
            # Here also when the agent is being stopped: a reader must see an end, not a gap.
            if last is None and run.cancel_wanted:
                last = RunCancelled(run.last + 1, "".join(run.text))
            await self._end(run, last or self._failed(run, INTERRUPTED))

    async def _reply(self, run: ActiveRun) -> RunFinished:
        """Stream the provider's pieces into events. Raises what the provider raises."""
        usage: Usage | None = None
        history = await self._history(run.conversation)
        async with aclosing(self.provider.reply(history)) as pieces:
            while True:
                piece: Delta | None = None
                with trio.move_on_after(self.limits.idle) as waiting:
                    piece = await anext(pieces, None)
                if waiting.cancelled_caught:
                    raise ProviderFailed(_stalled(self.provider.name, self.limits.idle))
                if piece is None:
                    return RunFinished(run.last + 1, "".join(run.text), usage)
                if isinstance(piece, Usage):
                    usage = piece
                elif piece:
                    await self._add(run, piece)

    async def _add(self, run: ActiveRun, piece: str) -> None:
        piece = piece.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be kept
        run.size += len(piece.encode())
        if run.size > self.limits.reply_size or run.last >= self.limits.events:
            raise ProviderFailed(_too_long())
        event = _encoded(Token(run.last + 1, piece))
        await self.store.append(run.id, event)
        run.text.append(piece)
        run.publish(event)

    async def _end(self, run: ActiveRun, last: LastEvent) -> None:
        event = _encoded(last)
        try:
            await self.store.finish(run.id, STATES[type(last)], last.text, event)
        except ProblemError as error:
            log.error("the end of run %s could not be kept: %s", run.id, error)
            event = _encoded(self._failed(run, error.problem))
        finally:
            self.active.pop(run.id, None)
            run.publish(event, ended=True)

    async def _history(self, conversation: str) -> list[ChatMessage]:
        """The newest messages that fit the limits, oldest first; at least the last one."""
        kept: list[ChatMessage] = []
        room = self.limits.history_size
        messages = await self.store.messages(conversation, None, self.limits.history_messages)
        for message in reversed(messages):
            room -= len(message.text.encode())
            if room < 0 and kept:
                break
            role: Role = "user" if message.role == "user" else "assistant"
            kept.append(ChatMessage(role, message.text))
        return kept[::-1]

    def _failed(self, run: ActiveRun, problem: Problem) -> RunFailed:
        return RunFailed(run.last + 1, problem, "".join(run.text))


def _encoded(event: RunEvent) -> EncodedEvent:
    return EncodedEvent(event.id, *encode_event(event))


def _log_surprise(error: Exception) -> None:
    """Where it happened, but not its text: a library's error may quote a key or a message."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("a run failed unexpectedly with %s\n%s", type(error).__name__, frames)


# --- what can go wrong ------------------------------------------------------------------------


def _no_run(run_id: str) -> Problem:
    return Problem(
        kind="no-such-run",
        title="There is no such run",
        status=404,
        detail=f"No run has the id {run_id!r}; its conversation may have been deleted.",
    )


def _stalled(name: str, seconds: float) -> Problem:
    return Problem(
        kind="provider-stalled",
        title="The provider stopped answering",
        status=504,
        detail=f"Nothing came from {name} for {seconds:g} seconds.",
        next="Send the message again; if it happens often, see the provider's status page.",
    )


def _too_long() -> Problem:
    return Problem(
        kind="reply-too-long",
        title="The reply is too long",
        status=502,
        detail="The provider went on beyond what the agent keeps; what came before is kept.",
        next="Ask for a shorter answer.",
    )


def _surprise(error: Exception) -> Problem:
    return Problem(
        kind="provider-failed",
        title="The provider failed unexpectedly",
        status=500,
        detail=f"It raised {type(error).__name__}; the agent's log says where.",
        next="Send the message again.",
    )
