"""Where the agent is, and whether it answers.

Rules: loopback and plain HTTP only: the request travels unencrypted from here on.
Left to others: the requests themselves (`relay`).
"""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import h11
import trio
from attrs import frozen

from clawchat.errors import UserError

USUAL_PORT: Final = 55556
HEALTH_SECONDS: Final = 1.0  # a local agent answers within milliseconds; a user waits for this
ANSWER_MAX: Final = 4096  # bytes of a health answer that are looked at


class AgentUnreachable(UserError):
    """No agent answers at its address. The text says which command starts one."""


@frozen
class AgentAddress:
    """A loopback address to reach an agent at."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        """As in a Host header."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def command(self) -> str:
        """What starts an agent there."""
        return "clawchat agent" + ("" if self.port == USUAL_PORT else f" --port {self.port}")

    def __str__(self) -> str:
        return f"http://{self.authority}"


def parse_agent_url(url: str) -> AgentAddress:
    """Raises `UserError` for anything but http://LOOPBACK[:PORT]."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
    except ValueError:
        raise UserError(f"the agent URL {url!r} is no URL. {_EXAMPLE}") from None
    if parts.scheme != "http" or parts.path not in ("", "/") or parts.query or parts.username:
        raise UserError(f"the agent URL {url!r} is not of the form http://HOST:PORT. {_EXAMPLE}")
    if not _is_loopback(host):
        raise UserError(
            f"the agent URL {url!r} leaves this machine, and nothing would encrypt it. {_EXAMPLE}"
        )
    return AgentAddress(host, port)


_EXAMPLE: Final = "Use one like http://127.0.0.1:55556."


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


async def check_agent(agent: AgentAddress, *, seconds: float = HEALTH_SECONDS) -> None:
    """Ask for /v1/health. Raises `AgentUnreachable` after `seconds` at the latest."""
    reason, advice = f"it did not answer within {seconds:g} s", f"Start one with: {agent.command}"
    taken = "Start one on another port, and give its address"
    with trio.move_on_after(seconds):
        try:
            if await _is_healthy(agent):
                return
            reason, advice = "something else listens there", taken
        except (OSError, trio.BrokenResourceError) as error:
            reason = getattr(error, "strerror", None) or "nothing listens there"
        except h11.RemoteProtocolError:
            reason, advice = "what listens there does not speak HTTP", taken
    raise AgentUnreachable(f"no agent answers at {agent} ({reason}). {advice}")


async def _is_healthy(agent: AgentAddress) -> bool:
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(
        method="GET",
        target="/v1/health",
        headers=[("Host", agent.authority), ("Connection", "close")],
    )
    async with await trio.open_tcp_stream(agent.host, agent.port) as stream:
        await stream.send_all(connection.send(request) + connection.send(h11.EndOfMessage()))
        status, body = 0, b""
        while len(body) <= ANSWER_MAX:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(ANSWER_MAX))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif not isinstance(event, h11.InformationalResponse):
                return status == 200 and _says_ok(body)
    return False


def _says_ok(body: bytes) -> bool:
    try:
        members = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(members, dict) and members.get("status") == "ok"
