"""Talking with the agent over the shared link: the HTTP client, and its failures in plain words.

Left to others: the link (`cli.device`), the requests (`apps.chat_client`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx2

from clawchat.apps.chat_client import AgentClient, Conversation
from clawchat.apps.http import LinkTransport
from clawchat.apps.problems import ProblemError
from clawchat.cli.failures import AgentTrouble, NoLink, Usage, leaves
from clawchat.cli.shared_link import SharedLink
from clawchat.errors import ClawChatError, lasting_cause

PATIENCE = 60.0  # seconds that a conversation waits for a lost link or a restarted agent
LAST = "last"  # as a conversation's name: the one used most recently


@asynccontextmanager
async def agent_client(link: SharedLink, *, shaped: bool = True) -> AsyncIterator[AgentClient]:
    """A client of the agent behind `link`, which answered just now.

    What is said both ways is `shaped`, unless the user wants it otherwise.

    Raises `LinkClosed` or a `UserError` at once when there is no link, `AgentTrouble` when the
    link is fine but no agent answers; later failures are tried again for `PATIENCE`.
    """
    await link.ask({"verb": "status"})
    transport = LinkTransport(link, shaped=shaped)
    async with httpx2.AsyncClient(transport=transport, base_url="http://agent") as http:
        with plainly():
            await AgentClient(http, patience=0).health()
            yield AgentClient(http, patience=PATIENCE)


@contextmanager
def plainly() -> Iterator[None]:
    """Say what the agent, the gateway or HTTP complained of as a failure of the command."""
    try:
        yield
    except ProblemError as error:
        raise AgentTrouble(str(error.problem)) from error
    except httpx2.TransportError as error:
        if (ended := lasting_cause(error)) is not None:
            raise ended from None
        raise NoLink(f"the link was lost and did not come back: {error}") from error
    except BaseExceptionGroup as group:
        for leaf in leaves(group):
            if isinstance(leaf, ProblemError | httpx2.TransportError):
                with plainly():
                    raise leaf from leaf.__cause__  # which says what became of the link
        raise


async def find_conversation(client: AgentClient, wanted: str | None) -> Conversation | None:
    """The conversation `wanted`, or the latest for `last`; None for None or when there is none.

    Raises `Usage` for one that the agent does not have.
    """
    if wanted is None:
        return None
    if wanted == LAST:
        page = await client.conversations(limit=1)
        return page.conversations[0] if page.conversations else None
    try:
        return (await client.conversation(wanted, limit=1)).conversation
    except ProblemError as error:
        if error.problem.status != 404:
            raise
        raise Usage(f"--conversation {wanted}: the agent has no such conversation") from None


def reason_of(error: ClawChatError) -> str:
    """What to tell about a failure that does not end the command."""
    return str(error.problem) if isinstance(error, ProblemError) else str(error)
