"""Who may talk to the agent: programs on this machine, and the gateway; never a web page.

Rules: a request names a loopback host (a page that rebinds its own name to 127.0.0.1 does not),
and comes from no foreign origin. Checked before anything else is looked at.
Left to others: who the caller is (`api`, from the headers that only the gateway may set).

Any program of any user on this machine can reach a loopback port; the threat model says so.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from attrs import frozen
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from clawchat.apps.problems import MEDIA_TYPE, Problem

LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "localhost", "::1"})

FOREIGN_HOST: Final = Problem(
    kind="foreign-host",
    title="This agent answers only under its own address",
    status=421,
    detail="The Host header does not name a loopback address.",
    next="Use the address that `clawchat agent` printed, for instance http://127.0.0.1:55556.",
)
FOREIGN_ORIGIN: Final = Problem(
    kind="foreign-origin",
    title="Web pages of other origins may not use this agent",
    status=403,
    detail="A browser sent this request on behalf of another site.",
)


@frozen
class Guard:
    """ASGI middleware that answers foreign requests itself."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        if problem is None:
            await self.app(scope, receive, send)
        else:
            await problem_response(problem)(scope, receive, send)


def refusal(headers: Headers) -> Problem | None:
    """Why a request with these headers is not served; None when it is."""
    host = headers.get("host", "")
    if _name(host) not in LOOPBACK_NAMES:
        return FOREIGN_HOST
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"http://{host.lower()}":
        return FOREIGN_ORIGIN
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return FOREIGN_ORIGIN
    return None


def _name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """The problem as an HTTP response."""
    return Response(problem.encode(), problem.status, headers, MEDIA_TYPE)
