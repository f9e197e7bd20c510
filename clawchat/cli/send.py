"""`clawchat send`: one message, its reply on stdout."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import httpx2
import trio
from cyclopts import Parameter

from clawchat.apps.chat_client import AgentClient, RunEvents
from clawchat.apps.events import LastEvent, RunCancelled, RunFailed, RunFinished, Token
from clawchat.apps.problems import ProblemError
from clawchat.cli.device import the_link
from clawchat.cli.failures import AgentTrouble, Cancelled, Usage, as_text
from clawchat.cli.options import Json, NoShape, PeerName, StateDir
from clawchat.cli.talk import Sending, agent_client, find_conversation
from clawchat.cli.terminal import put_json, put_text, say, stdin_is_terminal
from clawchat.cli.until_stopped import until_stopped

CANCEL_SECONDS = 3.0  # for telling the agent that nobody wants the reply any more
TEXT_MAX = 256 * 1024  # bytes, the agent's own limit


async def send(
    text: Annotated[str, Parameter(help="The message; - reads it from stdin.")] = "-",
    /,
    *,
    conversation: Annotated[
        str | None,
        Parameter(
            name=("--conversation", "-c"),
            help="The conversation to go on with: its id, or `last` (else a new one).",
        ),
    ] = None,
    json: Json = False,
    no_shape: NoShape = False,
    peer: PeerName = None,
    state_dir: StateDir = None,
) -> None:
    """Send, and print the reply as it comes."""
    message = await _message(text)
    last: LastEvent | None = None
    sending = Sending()
    async with (
        until_stopped(),
        the_link(state_dir, peer, say) as link,
        agent_client(link, sending, shaped=not no_shape) as client,
    ):
        found = await find_conversation(client, conversation)
        where = found or await client.create_conversation()
        sending.look = f"`clawchat chat -c {where.id}`"
        async with client.send(where.id, message) as events:
            sending.events = events
            last = await _print(client, events, json=json)
        if json:
            put_json(_as_json(last, where.id, events.run))
    if last is None:
        raise Cancelled("stopped")
    if isinstance(last, RunFailed):
        raise AgentTrouble(str(last.problem))
    if isinstance(last, RunCancelled):
        raise AgentTrouble("the reply was cancelled, here or on another device")


async def _message(text: str) -> str:
    if text == "-":
        if stdin_is_terminal():
            say("type the message, then Ctrl-D on a line of its own")
        data = await trio.to_thread.run_sync(_read_stdin, abandon_on_cancel=True)
    else:
        data = os.fsencode(text)
    if len(data) > TEXT_MAX:
        raise Usage(f"the message is longer than {TEXT_MAX // 1024} KiB: send it in parts")
    text = as_text(data, "stdin" if text == "-" else "TEXT")
    if not text.strip():
        raise Usage("there is no message: give it as TEXT, or on stdin")
    return text


def _read_stdin() -> bytes:
    return sys.stdin.buffer.read(TEXT_MAX + 1)


async def _print(client: AgentClient, events: RunEvents, *, json: bool) -> LastEvent:
    """The reply on stdout, piece by piece; its last event."""
    shown = ""
    try:
        async for event in events:
            if isinstance(event, Token):
                shown += event.text
                if not json:
                    put_text(event.text)
            elif isinstance(event, LastEvent):
                if not json:
                    rest = event.text.removeprefix(shown) if event.text.startswith(shown) else ""
                    put_text(rest + ("" if event.text.endswith("\n") else "\n"))
                return event
        raise AgentTrouble("the reply ended without saying how: ask for it with `clawchat chat`")
    except trio.Cancelled:
        if events.run is not None:
            await _give_up(client, events.run)
        raise


async def _give_up(client: AgentClient, run: str) -> None:
    with trio.move_on_after(CANCEL_SECONDS, shield=True):
        try:
            await client.cancel(run)
            return
        except (ProblemError, httpx2.TransportError):
            pass
    say("the agent could not be told to stop; it goes on with the reply")


def _as_json(last: LastEvent, conversation: str, run: str | None) -> dict[str, Any]:
    state = {RunFinished: "finished", RunFailed: "failed", RunCancelled: "cancelled"}[type(last)]
    told: dict[str, Any] = {
        "conversation": conversation,
        "run": run,
        "state": state,
        "text": last.text,
    }
    if isinstance(last, RunFinished) and last.usage is not None:
        told["usage"] = {
            "prompt_tokens": last.usage.prompt_tokens,
            "completion_tokens": last.usage.completion_tokens,
        }
    if isinstance(last, RunFailed):
        told["problem"] = last.problem.to_json()
    return told
