"""What keeps one link fresh and found: the runners of its keys, its paths and its ports; and what
is told of copies over it.

They share the link's transport and its timers, begin with its agreement and end with it.

Rules: nothing here decides; whoever has a clock or an event calls the runner that it concerns.
Left to others: each of them (`core.ratchet`, `core.roaming`, `core.ports`, `core.telling`), when
their timers fire (`core.link`).
"""

from __future__ import annotations

from typing import Any

from clawchat.core.config import Config, Entropy
from clawchat.core.credential import Path
from clawchat.core.exchange import Agreement
from clawchat.core.instant import Instant
from clawchat.core.ports import Ports
from clawchat.core.ratchet import Ratchet
from clawchat.core.registry import Registry
from clawchat.core.roaming import Roaming
from clawchat.core.table import Trace
from clawchat.core.telling import Telling
from clawchat.core.timers import Timer
from clawchat.core.transport import Transport


class Upkeep:
    """`paths` are those that the link may come about on: a dialer goes on asking on them."""

    __slots__ = ("ports", "ratchet", "roaming", "telling")

    def __init__(
        self,
        link: int,
        file_id: bytes,
        agreement: Agreement,
        transport: Transport,
        timers: dict[Timer, Instant],
        registry: Registry[Any],
        paths: tuple[Path, ...],
        *,
        config: Config,
        entropy: Entropy,
        trace: Trace | None,
    ) -> None:
        dialer = agreement.dialer
        self.ratchet = Ratchet(
            agreement.root,
            transport,
            timers,
            dialer=dialer,
            config=config,
            entropy=entropy,
            trace=trace,
        )
        self.roaming = Roaming(
            transport, timers, paths, dialer=dialer, config=config, entropy=entropy
        )
        self.ports = Ports(
            link,
            transport,
            timers,
            registry,
            dialer=dialer,
            rotate_keys=self.ratchet.ask,
            left=self.roaming.left_port,
            config=config,
            entropy=entropy,
            trace=trace,
        )

        self.telling = Telling(file_id, transport, timers, registry, dialer=dialer)

    def start_clocks(self, now: Instant) -> None:
        """The link is up."""
        self.roaming.start_clock(now)
        self.ports.start_clock(now)
        self.ratchet.start_clock(now)

    def look(self, now: Instant) -> None:
        """Once a batch: what depends on traffic, and what there is to say."""
        self.roaming.look(now)
        self.ratchet.look(now)
        self.telling.look(now)
