"""`clawchat rotate`: new keys for the link, now."""

from __future__ import annotations

from clawchat.cli.device import the_link
from clawchat.cli.options import PeerName, StateDir
from clawchat.cli.terminal import one_line, say


async def rotate(*, peer: PeerName = None, state_dir: StateDir = None) -> None:
    """Run the ratchet and say which epoch the link is in."""
    async with the_link(state_dir, peer, say) as link:
        answer = await link.ask({"verb": "rotate"})
        say(f"the link to {one_line(link.name)} has new keys (epoch {answer['epoch']})")
