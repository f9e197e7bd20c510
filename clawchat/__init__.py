"""ClawChat: an encrypted link between two of your machines, from one small file.

    async with clawchat.connect("clawchat-current.sec", key=key, store=store) as peer:
        stream = await peer.open_stream()

Rules: re-exports only, and lazily (PEP 562), so that `import clawchat.core` imports neither Trio
nor anything else the core does not need.
Left to others: everything.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clawchat.core.credential import Address as Address
    from clawchat.core.credential import Pairing as Pairing
    from clawchat.core.crypto.bootstrap import BootstrapKey as BootstrapKey
    from clawchat.drivers.connecting import connect as connect
    from clawchat.drivers.listener import Listener as Listener
    from clawchat.drivers.peer import Peer as Peer
    from clawchat.drivers.publisher import Publisher as Publisher
    from clawchat.drivers.serving import serve as serve
    from clawchat.drivers.store import Store as Store
    from clawchat.drivers.stream import LinkStream as LinkStream
    from clawchat.errors import BootstrapError as BootstrapError
    from clawchat.errors import ClawChatError as ClawChatError
    from clawchat.errors import CloseCode as CloseCode
    from clawchat.errors import LinkClosed as LinkClosed
    from clawchat.errors import LocalError as LocalError
    from clawchat.errors import StoreError as StoreError
    from clawchat.errors import UserError as UserError

_HOMES = {
    "Address": "clawchat.core.credential",
    "BootstrapError": "clawchat.errors",
    "BootstrapKey": "clawchat.core.crypto.bootstrap",
    "ClawChatError": "clawchat.errors",
    "CloseCode": "clawchat.errors",
    "LinkClosed": "clawchat.errors",
    "LinkStream": "clawchat.drivers.stream",
    "Listener": "clawchat.drivers.listener",
    "LocalError": "clawchat.errors",
    "Pairing": "clawchat.core.credential",
    "Peer": "clawchat.drivers.peer",
    "Publisher": "clawchat.drivers.publisher",
    "Store": "clawchat.drivers.store",
    "StoreError": "clawchat.errors",
    "UserError": "clawchat.errors",
    "connect": "clawchat.drivers.connecting",
    "serve": "clawchat.drivers.serving",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'clawchat' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
