"""What must hold in every run of every simulation (PROTOCOL.md "Invariants"), looked at each step.

A `Watch` stands beside all hosts and knows the truth about every datagram. It raises
`InvariantBroken` the moment something happens that must not.

Rules: it changes nothing and rolls no dice; it uses the endpoint's public face, and `Shoulder`
for what no public face shows. A datagram without an origin was made or changed by a stranger.
Left to others: stream contents (`ledger`), the end of the day (`simulation`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from enum import Enum

from attrs import define, field, frozen

from clawchat.core.actions import Action, Closed, CredentialReused, Established, Notify
from clawchat.core.credential import Address
from clawchat.core.events import Dial, Event
from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.drivers.simulator.host import Host
from clawchat.drivers.simulator.network import Parcel
from clawchat.errors import CloseCode, Drop

AMPLIFICATION = 3  # PROTOCOL.md "Life of a link"
OVERLAP_NS = 200 * MILLISECOND  # younger packets of a live link must always be readable

BLAMELESS = frozenset(
    {
        CloseCode.DONE,
        CloseCode.TIMEOUT,
        CloseCode.REPLACED,
        CloseCode.REVOKED,
        CloseCode.STORE,
    }
)
"""How a link may end when both sides keep the rules, which in here they always do."""


class InvariantBroken(AssertionError):
    """Something happened that must never happen."""


def require(truth: bool, text: str) -> None:
    if not truth:
        raise InvariantBroken(text)


@frozen
class Firing:
    """One row of a phase table that was taken."""

    table: str
    source: Enum
    event: str
    dest: Enum


@define(slots=False)
class _Process:
    """What is known about one process: it begins and ends with an incarnation."""

    dialled: set[Address] = field(factory=set)
    genuine_from: set[Address] = field(factory=set)
    validated: set[Address] = field(factory=set)
    came: Counter[Address] = field(factory=Counter)
    went: Counter[Address] = field(factory=Counter)
    handled: set[tuple[str, int, int]] = field(factory=set)
    firings: int = 0
    dropped: int = 0
    unread: int = 0
    phases: dict[int, str] = field(factory=dict)
    live: dict[int, bytes] = field(factory=dict)
    since: dict[int, int] = field(factory=dict)


@define
class _LinkTruth:
    """Both ends of one handshake."""

    file_id: bytes
    generation: int
    sides: dict[bool, str] = field(factory=dict)


@define(slots=False)
class Watch:
    """Watches one world. `clones` is true once somebody uses a copy of a credential."""

    hosts: dict[str, Host] = field(factory=dict)
    clones: bool = False
    reports: int = 0
    rows: Counter[Firing] = field(factory=Counter)
    drops: Counter[Drop] = field(factory=Counter)
    closes: Counter[CloseCode] = field(factory=Counter)
    established: int = 0
    links: dict[bytes, _LinkTruth] = field(factory=dict)
    _processes: dict[tuple[str, int], _Process] = field(factory=dict)
    _of_address: dict[Address, Host] = field(factory=dict)
    _dropped_before: Counter[Drop] = field(factory=Counter)
    _firings_before: int = 0

    def process(self, host: Host) -> _Process:
        return self._processes[host.name, host.incarnation]

    # --- called by the endpoint's trace -------------------------------------------------------

    def traced(self, host: Host, table: str, source: Enum, event: str, dest: Enum) -> None:
        """A row was taken."""
        self.rows[Firing(table, source, event, dest)] += 1
        self.process(host).firings += 1

    # --- called by hosts ----------------------------------------------------------------------

    def changed(self, host: Host, what: str) -> None:
        if what == "started":
            self._processes.setdefault((host.name, host.incarnation), _Process())
            self._of_address[host.address] = host
        elif what == "killed":
            process = self.process(host)
            process.live.clear()

    def handling(self, host: Host, event: Event, parcels: list[Parcel]) -> None:
        process = self.process(host)
        if isinstance(event, Dial):
            process.dialled.update(path.remote for path in event.paths)
        if not parcels:
            return
        assert host.endpoint is not None
        self._firings_before = process.firings
        drops = host.endpoint.drops
        self._dropped_before = Counter({drop: drops[drop] for drop in UNREAD})
        source = parcels[0].source
        process.came[source] += sum(len(parcel.data) for parcel in parcels)
        if parcels[0].origin is not None:
            process.genuine_from.add(source)

    def handled(self, host: Host, event: Event, parcels: list[Parcel]) -> None:
        if not parcels or host.endpoint is None:
            return
        process = self.process(host)
        news = False
        for parcel in parcels:
            origin = parcel.origin
            if origin is None:
                continue
            name = (origin.host, origin.incarnation, origin.serial)
            news = news or name not in process.handled
            process.handled.add(name)
        if not news:
            require(
                process.firings == self._firings_before,
                f"{host.name}: a stranger's datagram changed a phase",
            )
            return
        drops = host.endpoint.drops
        lost = sum(drops[drop] - self._dropped_before[drop] for drop in UNREAD)
        if lost:
            self._was_loss_allowed(host, parcels[0], lost)

    def _was_loss_allowed(self, host: Host, parcel: Parcel, lost: int) -> None:
        """A live peer's packet could not be read. Only right when the link was not there."""
        origin = parcel.origin
        assert origin is not None
        sender = self.hosts[origin.host]
        now = host.timeline.now
        if origin.incarnation != sender.incarnation or now - origin.sent_at > OVERLAP_NS:
            return
        theirs = self._processes[sender.name, sender.incarnation]
        ours = self.process(host)
        shared = set(theirs.live.values()) & set(ours.live.values())
        if not shared or len(theirs.live) != 1 or len(set(theirs.since)) != 1:
            return
        if origin.sent_at <= max(theirs.since.values()):
            return
        require(False, f"{host.name}: {lost} packets of {sender.name}'s live link were unreadable")

    def acting(self, host: Host, action: Action) -> None:
        if not isinstance(action, Notify):
            return
        process, notice = self.process(host), action.notice
        if isinstance(notice, Established):
            self._established(host, action.link, notice)
        elif isinstance(notice, Closed):
            self.closes[notice.code] += 1
            process.live.pop(action.link, None)
            process.since.pop(action.link, None)
            allowed = BLAMELESS | ({CloseCode.SUPERSEDED} if self.clones else set())
            require(
                notice.code in allowed,
                f"{host.name}: link {action.link} closed with {notice.code.name}: {notice.reason}",
            )
        elif isinstance(notice, CredentialReused):
            self.reports += 1
            require(self.clones, f"{host.name}: a clone was reported, and there is none")

    def acted(self, host: Host, action: Action) -> None:
        """Nothing is looked at here."""

    def sent(self, host: Host, parcels: list[Parcel]) -> None:
        process = self.process(host)
        target = parcels[0].destination
        size = len(parcels[0].data)
        require(
            all(len(parcel.data) == size for parcel in parcels[:-1])
            and 0 < len(parcels[-1].data) <= size,
            f"{host.name}: a batch of unequal datagrams",
        )
        if target in process.dialled or target in process.validated:
            return
        require(target in process.genuine_from, f"{host.name}: sent to {target} without a reason")
        process.went[target] += sum(len(parcel.data) for parcel in parcels)
        require(
            process.went[target] <= AMPLIFICATION * process.came[target],
            f"{host.name}: {process.went[target]} bytes to {target}, not validated, "
            f"which sent {process.came[target]}",
        )

    def woke(self, host: Host) -> None:
        deadline = host.endpoint.deadline if host.endpoint is not None else None
        require(deadline is None or bool(deadline.why), f"{host.name}: a deadline without a reason")

    def forget_handled(self, now: int) -> None:
        """Keep memory bounded in long worlds."""
        for process in self._processes.values():
            if len(process.handled) > HANDLED_MAX and now > SECOND:
                process.handled.clear()

    def _established(self, host: Host, link: int, notice: Established) -> None:
        self.established += 1
        process = self.process(host)
        process.validated.add(notice.path.remote)
        process.live[link] = notice.handshake_hash
        process.since[link] = host.timeline.now
        truth = self.links.setdefault(
            notice.handshake_hash, _LinkTruth(notice.file_id, notice.generation)
        )
        require(
            (truth.file_id, truth.generation) == (notice.file_id, notice.generation),
            f"{host.name}: one handshake, two credentials",
        )
        require(
            notice.dialer not in truth.sides,
            f"{host.name}: the same handshake was established twice",
        )
        truth.sides[notice.dialer] = host.name
        peer = truth.sides.get(not notice.dialer)
        if peer is not None:
            other = self.hosts[peer]
            require(other is not host, f"{host.name}: linked with itself")


UNREAD = (Drop.SEAL, Drop.STRANGER)
HANDLED_MAX = 200_000


def totals(counter: dict[tuple[str, int], _Process]) -> dict[str, int]:
    """How many rows were taken by each host."""
    found: dict[str, int] = defaultdict(int)
    for (name, _), process in counter.items():
        found[name] += process.firings
    return dict(found)
