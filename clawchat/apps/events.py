"""What happens during a run, as both ends of the HTTP interface see it.

Rules: frozen; ids grow by one within a run, starting at 1, and never change; exactly one of
`RunFinished`, `RunFailed`, `RunCancelled` ends a run. A type that is not known here is skipped by
readers, so later versions may add some.
Left to others: how they travel (`sse`), how they are kept (`agent.store`).
"""

from __future__ import annotations

import json
from typing import Final, TypeAlias

from attrs import field, frozen

from clawchat.apps.problems import Problem


@frozen
class Usage:
    """What the provider says a reply cost, in its tokens."""

    prompt_tokens: int
    completion_tokens: int


@frozen
class RunStarted:
    """The agent began to answer `message` (the id of what the user wrote)."""

    id: int
    run: str
    conversation: str
    message: str


@frozen
class Token:
    """The next piece of the reply, to be appended to what came before."""

    id: int
    text: str


@frozen
class RunFinished:
    """The reply is whole: `text` is all of it."""

    id: int
    text: str
    usage: Usage | None = field(default=None)


@frozen
class RunFailed:
    """No whole reply will come. `text` is the part that did, and it is kept."""

    id: int
    problem: Problem
    text: str


@frozen
class RunCancelled:
    """Somebody stopped the run. `text` is the part that came before, and it is kept."""

    id: int
    text: str


RunEvent: TypeAlias = RunStarted | Token | RunFinished | RunFailed | RunCancelled
LastEvent: TypeAlias = RunFinished | RunFailed | RunCancelled

NAMES: Final[dict[type[RunEvent], str]] = {
    RunStarted: "run.started",
    Token: "token",
    RunFinished: "run.finished",
    RunFailed: "run.failed",
    RunCancelled: "run.cancelled",
}


def encode_event(event: RunEvent) -> tuple[str, str]:
    """The name and the JSON data of an event; its id travels beside them."""
    members: dict[str, object]
    match event:
        case RunStarted():
            members = {
                "run": event.run,
                "conversation": event.conversation,
                "message": event.message,
            }
        case Token() | RunCancelled():
            members = {"text": event.text}
        case RunFinished():
            members = {"text": event.text}
            if event.usage is not None:
                members["usage"] = {
                    "prompt_tokens": event.usage.prompt_tokens,
                    "completion_tokens": event.usage.completion_tokens,
                }
        case RunFailed():
            members = {"problem": event.problem.to_json(), "text": event.text}
    return NAMES[type(event)], json.dumps(members, ensure_ascii=False)


def decode_event(number: int, name: str, data: str) -> RunEvent | None:
    """The event, or None for a name that is not known. Raises `ValueError` when it is damaged."""
    if name not in NAMES.values():
        return None
    try:
        members = json.loads(data)
    except RecursionError:
        raise ValueError(f"the data of a {name} event is nested too deeply") from None
    if not isinstance(members, dict):
        raise ValueError(f"the data of a {name} event is no object")

    def text(member: str) -> str:
        value = members.get(member)
        if not isinstance(value, str):
            raise ValueError(f"a {name} event without {member}")
        return value

    match name:
        case "run.started":
            return RunStarted(number, text("run"), text("conversation"), text("message"))
        case "token":
            return Token(number, text("text"))
        case "run.finished":
            return RunFinished(number, text("text"), _usage(members.get("usage")))
        case "run.failed":
            return RunFailed(number, Problem.from_json(members.get("problem")), text("text"))
        case _:
            return RunCancelled(number, text("text"))


def _usage(members: object) -> Usage | None:
    if not isinstance(members, dict):
        return None
    prompt, completion = members.get("prompt_tokens"), members.get("completion_tokens")
    if isinstance(prompt, int) and isinstance(completion, int):
        return Usage(prompt, completion)
    return None
