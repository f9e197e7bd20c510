"""Talking with the agent over the shared link: the HTTP client, and its failures in plain words.

Rules: a failure says what is known of the user's message, and what to do next; the words of an HTTP
library are never shown.
Left to others: the link (`cli.device`), the requests (`apps.chat_client`).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import httpx2
import trio
from attrs import define

from clawchat.apps.chat_client import AgentClient, Conversation, RunEvents
from clawchat.apps.http import LinkTransport
from clawchat.apps.problems import Problem, ProblemError
from clawchat.cli.failures import AgentTrouble, NoLink, Usage, leaves
from clawchat.cli.shared_link import SharedLink
from clawchat.cli.terminal import one_line
from clawchat.drivers.connecting import is_silence
from clawchat.errors import ClawChatError, UserError, causes, lasting_cause

PATIENCE = 60.0  # seconds that a conversation waits for a lost link or a restarted agent
SILENT_SECONDS = 2.0  # an agent that takes longer to answer at first is mentioned
STATUS_SECONDS = 2.0  # for asking how the link stands, after it failed
LAST = "last"  # as a conversation's name: the one used most recently

ID = re.compile(r"[0-9A-Za-z_-]+")  # nothing that means something else in a URL

FOR_PROGRAMS = frozenset({"agent-died", "agent-too-slow"})
"""Problems whose next step is one for HTTP clients: to repeat a request."""


@define
class Sending:
    """How far a message of the user came: what a failure tells of it."""

    events: RunEvents | None = None  # from when it is sent
    look: str = ""  # what shows the conversation

    def __str__(self) -> str:
        if self.events is None:
            return "The message was not sent."
        if self.events.run is None:
            return (
                "Whether the message arrived is not known: look with "
                f"{self.look} before you send it again."
            )
        return f"The agent has the message: {self.look} shows what it replied."


@asynccontextmanager
async def agent_client(
    link: SharedLink, sending: Sending | None = None, *, shaped: bool = True
) -> AsyncIterator[AgentClient]:
    """A client of the agent behind `link`, which answered just now.

    What is said both ways is `shaped`, unless the user wants it otherwise.

    Raises `LinkClosed` or a `UserError` when there is no link, `AgentTrouble` at once when the
    link is fine but no agent answers; later failures are tried again for `PATIENCE`.
    """
    await link.ask({"verb": "status"})
    transport = LinkTransport(link, shaped=shaped)
    async with (
        httpx2.AsyncClient(transport=transport, base_url="http://agent") as http,
        plainly(link, sending),
    ):
        await _answers(http, link)
        yield AgentClient(http, patience=PATIENCE)


async def _answers(http: httpx2.AsyncClient, link: SharedLink) -> None:
    """Returns when the agent answers.

    A link that breaks meanwhile was dead before, of a listener that was started again or is off:
    then the next link tells, for which the opening of a stream waits.
    """
    agent = AgentClient(http, patience=0)
    async with mentioning_silence(link):
        try:
            await agent.health()
        except (httpx2.ConnectError, httpx2.TimeoutException):
            raise  # there is no link, or one with a silent agent
        except httpx2.TransportError:
            await agent.health()


@asynccontextmanager
async def mentioning_silence(link: SharedLink) -> AsyncIterator[None]:
    """Tell the user when the block, which asks the other side, takes long."""

    async def mention() -> None:
        await trio.sleep(SILENT_SECONDS)
        link.tell(f"no answer from {one_line(link.name)} yet; waiting for it (Ctrl-C gives up)")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(mention)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def plainly(link: SharedLink, sending: Sending | None = None) -> AsyncIterator[None]:
    """Say what the agent, the gateway or HTTP complained of as a failure of the command."""
    try:
        yield
    except (ProblemError, httpx2.TransportError) as error:
        raise await _in_plain_words(error, link, sending) from error
    except BaseExceptionGroup as group:
        for leaf in leaves(group):
            if isinstance(leaf, ProblemError | httpx2.TransportError):
                raise await _in_plain_words(leaf, link, sending) from leaf
        raise


async def _in_plain_words(
    error: ProblemError | httpx2.TransportError, link: SharedLink, sending: Sending | None
) -> ClawChatError:
    fate = "" if sending is None else f" {sending}"
    if isinstance(error, ProblemError):
        return AgentTrouble(_told(error.problem, sending))
    if (ended := lasting_cause(error)) is not None:
        return ended
    ours = _own_error(error)
    if isinstance(ours, UserError) and not isinstance(ours, NoLink):
        return ours
    name = one_line(link.name)
    if ours is None and await _is_up(link):
        return AgentTrouble(
            f"the link to {name} is fine, but the agent stopped answering.{fate} What it prints on "
            "its machine may say why; if it hangs, start it again there."
        )
    # All that may explain mere silence is long, and for `status`.
    why = "" if ours is None or is_silence(ours) else f": {str(ours).removesuffix('.')}"
    return NoLink(
        f"the link to {name} is down{why}.{fate} Is the machine with the agent on, and does "
        "`clawchat serve` run there? `clawchat status` says more."
    )


def _told(problem: Problem, sending: Sending | None) -> str:
    """A problem of the agent or the gateway; of the message only where the problem leaves it open.

    What the agent itself refused was not taken, and needs no word.
    """
    if problem.kind in FOR_PROGRAMS:
        problem = attrs.evolve(problem, next="What it prints on its machine may say why.")
    elif problem.kind != "agent-down":
        return str(problem)
    return str(problem) if sending is None else f"{str(problem).removesuffix('.')}. {sending}"


def _own_error(error: BaseException) -> ClawChatError | None:
    """What this program said where HTTP only passed it on."""
    return next((cause for cause in causes(error) if isinstance(cause, ClawChatError)), None)


async def _is_up(link: SharedLink) -> bool:
    with trio.move_on_after(STATUS_SECONDS):
        try:
            status = await link.ask({"verb": "status"})
        except ClawChatError:
            return False
        return status.get("link") == "up" and status.get("phase") != "suspect"
    return False


async def find_conversation(client: AgentClient, wanted: str | None) -> Conversation | None:
    """The conversation `wanted`, or the latest for `last`; None for None or when there is none.

    Raises `Usage` for one that the agent does not have.
    """
    if wanted is None:
        return None
    if wanted == LAST:
        page = await client.conversations(limit=1)
        return page.conversations[0] if page.conversations else None
    none = Usage(f"--conversation {wanted!r}: the agent has no such conversation")
    if ID.fullmatch(wanted) is None:
        raise none
    try:
        return (await client.conversation(wanted, limit=1)).conversation
    except ProblemError as error:
        if error.problem.status != 404:
            raise
        raise none from None


def reason_of(error: ClawChatError) -> str:
    """What to tell about a failure that does not end the command."""
    return str(error.problem) if isinstance(error, ProblemError) else str(error)
