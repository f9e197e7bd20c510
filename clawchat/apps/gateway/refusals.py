"""What the gateway itself answers: the problems of the way to the agent.

Rules: said only before an answer's headers; afterwards the stream is reset instead.
Left to others: what the agent refuses (`clawchat.apps.agent`).
"""

from __future__ import annotations

from typing import Final

import h11

from clawchat.apps.gateway.agent_address import AgentAddress
from clawchat.apps.problems import MEDIA_TYPE, Problem


def whole_response(connection: h11.Connection, problem: Problem) -> bytes:
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


def agent_down(agent: AgentAddress) -> Problem:
    return Problem(
        kind="agent-down",
        title="The agent is not running",
        status=503,
        detail=f"Your machine is reached, but nothing answers at {agent} on it.",
        next=f"Start it there with: {agent.command}",
    )


def bad_request(error: h11.RemoteProtocolError) -> Problem:
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
