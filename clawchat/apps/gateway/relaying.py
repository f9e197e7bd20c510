"""One link's requests: each stream that a paired peer opens is one.

Rules: what happens to one request harms no other; the relay ends with its link.
Left to others: carrying one request (`exchange`), who may link at all (the core).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from hashlib import sha256
from typing import Protocol

import h11
import trio
from attrs import define

from clawchat.apps.gateway.agent_address import AgentAddress
from clawchat.apps.gateway.exchange import GONE, Caller, Exchange, RelayLimits
from clawchat.apps.gateway.refusals import TOO_MANY_REQUESTS, whole_response

log = logging.getLogger("clawchat.gateway")


class RelayPeer(Protocol):
    """What the relay needs of a link: `clawchat.Peer` has it."""

    @property
    def peer_static(self) -> bytes: ...
    def __aiter__(self) -> AsyncIterator[trio.abc.HalfCloseableStream]: ...


@define
class Relayed:
    """Counters of one link, for `clawchat status`."""

    requests: int = 0
    refused: int = 0
    under_way: int = 0


def device_id(peer_static: bytes) -> str:
    """How the agent knows a device: SHA-256 of its static key, in hex."""
    return sha256(peer_static).hexdigest()


async def relay(
    peer: RelayPeer,
    agent: AgentAddress,
    *,
    name: str = "",
    limits: RelayLimits | None = None,
    counters: Relayed | None = None,
) -> None:
    """Serve the streams that `peer` opens, until its link ends.

    `name` is what the user calls the device. Cancelling resets what is under way.
    """
    limits = limits or RelayLimits()
    counters = counters or Relayed()
    who = Caller(device_id(peer.peer_static), name)
    async with trio.open_nursery() as nursery:
        async for stream in peer:
            counters.requests += 1
            if counters.under_way >= limits.requests:
                counters.refused += 1
                nursery.start_soon(_refuse, stream)
            else:
                counters.under_way += 1
                exchange = Exchange(stream, agent, who, limits)
                nursery.start_soon(_run, exchange, counters)
        nursery.cancel_scope.cancel()


async def _run(exchange: Exchange, counters: Relayed) -> None:
    try:
        await exchange.run()
    except Exception:  # a defect of ours ends this request, not the link or the listener
        log.exception("a request could not be carried")
    finally:
        counters.under_way -= 1


async def _refuse(stream: trio.abc.HalfCloseableStream) -> None:
    connection = h11.Connection(h11.SERVER)
    with suppress(*GONE):
        await stream.send_all(whole_response(connection, TOO_MANY_REQUESTS))
    await stream.aclose()
