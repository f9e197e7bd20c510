"""`clawchat disconnect`: ends the process that holds the link."""

from __future__ import annotations

from clawchat.cli.device import choose, open_store
from clawchat.cli.local_socket import NobodyHome
from clawchat.cli.options import PeerName, StateDir
from clawchat.cli.terminal import one_line, say


async def disconnect(*, peer: PeerName = None, state_dir: StateDir = None) -> None:
    """Ask it to stop. Nothing to stop is fine."""
    listener = choose(open_store(state_dir), peer)
    try:
        await listener.socket.ask({"verb": "stop"})
        say(f"the link to {one_line(listener.name)} is closed")
    except NobodyHome:
        say(f"no process holds a link to {one_line(listener.name)}")
