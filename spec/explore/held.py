"""What the adversary holds: every datagram, every write; and two users who keep a link.

Rules: nothing here is delivered or made durable by itself; users do what drivers' users do.
Left to others: what the adversary makes of it (`situation`).
"""

from __future__ import annotations

from enum import Enum, unique
from functools import partial
from random import Random
from typing import Final

from attrs import define, field

from clawchat.core.actions import BootstrapContent, Closed, Established, Notice
from clawchat.core.config import PENDING_LIFE
from clawchat.core.credential import Address, Pairing, Path
from clawchat.core.events import Dial
from clawchat.core.instant import SECOND
from clawchat.drivers.simulator.clock import Timeline
from clawchat.drivers.simulator.disk import Disk
from clawchat.drivers.simulator.host import Host
from clawchat.drivers.simulator.invariants import require
from clawchat.drivers.simulator.nat import NatNetwork
from clawchat.drivers.simulator.network import Parcel
from clawchat.drivers.simulator.simulation import LISTENER
from clawchat.errors import CloseCode, LocalError

DIALER: Final = Address("10.0.1.1", 40_000)
PATH_SIZE: Final = 1200  # larger probes vanish, so that they do not multiply situations
REDIAL_NS: Final = SECOND // 10
FILE_LASTS_NS: Final = 11 * 60 * SECOND  # PROTOCOL.md "Bootstrap file"


@unique
class Kind(Enum):
    """What a stranger can tell of a datagram."""

    ENVELOPE = "envelope"
    PACKETS = "packets"


@define
class Bundle:
    """What one host sent in one step: an envelope, or all packets."""

    label: tuple[str, str, tuple[str, ...]]
    parcels: list[Parcel]


class HeldNetwork(NatNetwork):
    """Delivers nothing by itself."""

    def __init__(self, timeline: Timeline, rng: Random) -> None:
        super().__init__(timeline, rng)
        self.held: list[Parcel] = []

    def send(self, parcel: Parcel) -> None:
        self.tally.sent += 1
        if len(parcel.data) <= PATH_SIZE:
            self.held.append(self.shown(parcel))

    def deliver(self, parcel: Parcel) -> None:
        self._deliver(parcel)


class HeldDisk(Disk):
    """Ends no write by itself."""

    def _begin(self) -> None:
        """Wait for the adversary."""

    @property
    def writing(self) -> tuple[object, ...]:
        """What is under way, as far as it makes a difference."""
        return tuple(kept(writing.pairing) for writing in self._under_way)

    def end_write(self, *, fails: bool = False) -> None:
        self._under_way[0].fails = fails
        self._finish(self._life)


@define(slots=False)
class User:
    """The application of either host: keeps a link if it has something to dial with."""

    pairing: Pairing | None = None
    files: list[BootstrapContent] = field(factory=list)
    live_until: dict[bytes, int] = field(factory=dict)
    links: dict[int, bytes] = field(factory=dict)
    dials: int = 0
    dialling: bool = False
    closes: set[CloseCode] = field(factory=set)

    @property
    def file(self) -> BootstrapContent:
        """The file that was published last."""
        return self.files[-1]

    def started(self, host: Host) -> None:
        self.dialling = False

    def stopped(self, host: Host) -> None:
        self.links.clear()
        self.dialling = False
        self._withdrawn(host)  # files that were not redeemed live in memory only

    def noticed(self, host: Host, link: int, notice: Notice) -> None:
        if isinstance(notice, Established):
            self.links[link] = notice.handshake_hash
            if not notice.dialer and notice.generation == 0:
                until = self.live_until[notice.file_id] + PENDING_LIFE
                require(host.timeline.now <= until, "a file made a link after its time")
        elif isinstance(notice, Closed):
            self.links.pop(link, None)
            self.closes.add(notice.code)
            self.dialling = False
            if not self.links and self.pairing is not None:
                host.after(REDIAL_NS, partial(self.dial, host))

    def published(self, host: Host, content: BootstrapContent | None) -> None:
        if content is None:
            self._withdrawn(host)
            return
        self.files.append(content)
        for older in self.files[:-2]:
            self._ended(older.file_id, host.timeline.now)
        self.live_until[content.file_id] = host.timeline.now + FILE_LASTS_NS

    def _withdrawn(self, host: Host) -> None:
        for file_id in self.live_until:
            self._ended(file_id, host.timeline.now)

    def _ended(self, file_id: bytes, now: int) -> None:
        self.live_until[file_id] = min(self.live_until[file_id], now)

    def dial(self, host: Host) -> None:
        if self.pairing is None or self.dialling or self.links:
            return
        if self.pairing.file_id in host.disk.destroyed:
            return  # as every driver: what was destroyed is not used again
        self.dialling = True
        self.dials += 1
        kept = host.disk.kept.get(self.pairing.file_id, self.pairing)
        try:
            host.do(Dial(self.dials, kept, (Path(host.address, LISTENER),)))
        except LocalError:
            self.dialling = False  # it was destroyed, and the disk does not know yet


def kept(pairing: Pairing | None) -> tuple[object, ...]:
    """What a stored pairing looks like; None is one that is being destroyed."""
    if pairing is None:
        return ("destroyed",)
    return (
        tuple(known.generation for known in pairing.credentials),
        tuple(known.generation for known in pairing.superseded),
        pairing.peer_static is not None,
    )
