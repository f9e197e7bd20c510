"""`clawchat rotate`: new keys for the link, now, or another port."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from clawchat.cli.device import the_link
from clawchat.cli.failures import Cancelled
from clawchat.cli.options import PeerName, StateDir
from clawchat.cli.terminal import one_line, say
from clawchat.cli.until_stopped import until_stopped


async def rotate(
    *,
    ports: Annotated[
        bool,
        Parameter(
            negative="",
            help="Leave this side's UDP port for another as well, as happens every hour.",
        ),
    ] = False,
    peer: PeerName = None,
    state_dir: StateDir = None,
) -> None:
    """Run the ratchet and say which epoch the link is in."""
    done = False
    async with until_stopped(), the_link(state_dir, peer, say) as link:
        answer = await link.ask({"verb": "rotate"})
        say(f"the link to {one_line(link.name)} has new keys (epoch {answer['epoch']})")
        if ports:
            answer = await link.ask({"verb": "rotate-port"})
            if answer["port"] is None:
                say(f"the port stays: {one_line(answer['why'])}")
            else:
                say(f"it leaves from UDP port {answer['port']} now")
        done = True
    if not done:
        raise Cancelled("stopped")
