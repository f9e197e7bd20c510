"""What must hold in every run of every simulation (PROTOCOL.md "What is promised"), at each step.

A `Watch` stands beside all hosts and knows the truth about every datagram. It raises
`InvariantBroken` the moment something happens that must not.

Rules: it changes nothing and rolls no dice; it uses the endpoint's public face, and `shoulder`
for what no public face shows. A datagram without an origin was made or changed by a stranger.
Left to others: stream contents (`ledger`), the end of the day (`simulation`).
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import TypeAlias

from attrs import define, field, frozen

from clawchat.core.actions import (
    Action,
    Closed,
    CopyReported,
    CredentialReused,
    Established,
    Notify,
    OpenPort,
)
from clawchat.core.config import CHALLENGE_LIFE
from clawchat.core.credential import Address
from clawchat.core.events import Dial, Disturbed, Event
from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.core.phases import answering, established
from clawchat.drivers.simulator.host import Host
from clawchat.drivers.simulator.network import Parcel
from clawchat.drivers.simulator.shoulder import (
    RESTING,
    LinkSight,
    Memory,
    Seals,
    Successions,
    phases,
)
from clawchat.errors import CloseCode, Drop, UnknownLink

NAMED_CREDIT = 400  # bytes that count as received from an address which the peer named
AMPLIFICATION = 3  # PROTOCOL.md "Paths"
EPOCHS_MAX = 3  # one previous, one current, one next
WIPE_PROBES = 3  # PROTOCOL.md "Key ratchet": an old epoch is readable for so many timeouts,
PROBE_NS_MIN = 25 * MILLISECOND  # each of which is a round trip and at least this
PHASE_NS_MAX = 200 * SECOND  # no phase but a resting one lasts longer, whatever the network does
PENDING_NS_MAX = 31 * SECOND  # nor does an answered HELLO that nobody proves
NEVER_NS = 1 << 62
LEFT_ALONE = (established.Phase.ASLEEP, established.Phase.CLOSED)
UNREAD = (Drop.SEAL, Drop.STRANGER)
UNOPENED = (Drop.PATH, Drop.BUSY)  # not now: a copy that comes later may be the first one opened

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


_Name: TypeAlias = tuple[str, int, int, Address]


@define(slots=False)
class _Process:
    """What is known about one process. `live` is link id -> handshake hash.

    By the key of a link's sight: `since` says when it came to each of its phases, `too_long_at`
    when the first of them will have lasted too long.
    """

    dialled: set[Address] = field(factory=set)
    genuine_from: set[Address] = field(factory=set)
    validated: set[Address] = field(factory=set)
    came: Counter[Address] = field(factory=Counter)
    went: Counter[Address] = field(factory=Counter)
    handled: set[_Name | None] = field(factory=set)
    changes: int = 0
    live: dict[int, bytes] = field(factory=dict)
    memory: Memory = field(factory=Memory)
    since: dict[int, list[tuple[Enum, int]]] = field(factory=dict)
    too_long_at: dict[int, int] = field(factory=dict)


@define
class _LinkTruth:
    """Both ends of one handshake."""

    file_id: bytes
    generation: int
    sides: dict[bool, str] = field(factory=dict)


@define(slots=False)
class Watch:
    """Watches one world. `clones` is true once somebody uses a copy of a credential.

    `blameless` are the codes with which links may end.
    """

    hosts: dict[str, Host] = field(factory=dict)
    clones: bool = False
    blameless: frozenset[CloseCode] = BLAMELESS
    reports: int = 0
    rows: Counter[Firing] = field(factory=Counter)
    closes: Counter[CloseCode] = field(factory=Counter)
    established: int = 0
    links: dict[bytes, _LinkTruth] = field(factory=dict)
    seals: Seals = field(factory=Seals)
    successions: Successions = field(factory=Successions)
    _reported: set[tuple[int, bool, Address]] = field(factory=set)  # copies that were used
    _owners: dict[bytes, bytes] = field(factory=dict)  # connection id -> handshake hash
    _roots: dict[tuple[bytes, int], bytes] = field(factory=dict)
    _processes: dict[tuple[str, int], _Process] = field(factory=dict)
    _moves: set[int] = field(factory=set)  # ports to which somebody meant to move
    _unread_before: int = 0
    _unopened_before: int = 0
    _changes_before: int = 0

    def process(self, host: Host) -> _Process:
        return self._processes[host.name, host.incarnation]

    # --- called by hosts ----------------------------------------------------------------------

    def changed(self, host: Host, what: str) -> None:
        if what == "started":
            self._processes[host.name, host.incarnation] = _Process()
        elif what == "killed":
            self.process(host).live.clear()

    def traced(self, host: Host, table: str, source: Enum, event: str, dest: Enum) -> None:
        """A row was taken."""
        self.rows[Firing(table, source, event, dest)] += 1
        self.process(host).changes += source is not dest

    def handling(self, host: Host, event: Event, parcels: list[Parcel]) -> None:
        process = self.process(host)
        if isinstance(event, Dial | Disturbed):
            process.dialled.update(path.remote for path in event.paths)
        if not parcels:
            return
        self._changes_before = process.changes
        self._unread_before = _dropped(host, UNREAD)
        self._unopened_before = _dropped(host, UNOPENED)
        source = parcels[0].source
        process.came[source] += sum(len(parcel.data) for parcel in parcels)
        for parcel in parcels:
            if parcel.origin is not None:
                process.genuine_from.add(source)
                if (
                    parcel.data[:8] in self._owners
                    and host.timeline.now - parcel.origin.sent_at < CHALLENGE_LIFE
                ):
                    self._may_prove(process, parcel.origin.address)

    def _may_prove(self, process: _Process, address: Address) -> None:
        """A fresh packet may answer a challenge, and answers count from wherever they arrive.

        A stranger on the way may carry the question to another port of the device that it was for.
        """
        process.validated.add(address)
        process.validated.update(asked for asked in process.went if asked.host == address.host)

    def handled(self, host: Host, _event: Event, parcels: list[Parcel]) -> None:
        if not parcels or host.endpoint is None:
            return
        process = self.process(host)
        news = _is_news(process, parcels)
        if _dropped(host, UNOPENED) > self._unopened_before:
            process.handled.difference_update(map(_name_of, parcels))
        if not news:
            require(
                process.changes == self._changes_before,
                f"{host.name}: a stranger's datagram changed a phase",
            )
            return
        unread = _dropped(host, UNREAD) - self._unread_before
        if unread:
            self._demand_that_nothing_was_lost(host, parcels, unread)

    def _demand_that_nothing_was_lost(self, host: Host, parcels: list[Parcel], unread: int) -> None:
        """Some of these could not be read: right only for what is of no link that both ends have.

        A REPLY that comes too late, a packet of a link that was closed, a straggler.
        """
        excused = sum(not self._must_be_readable(host, parcel) for parcel in parcels)
        require(
            unread <= excused,
            f"{host.name}: {unread - excused} packets of a live link were unreadable",
        )

    def _must_be_readable(self, host: Host, parcel: Parcel) -> bool:
        origin, name = parcel.origin, self._owners.get(parcel.data[:8])
        if origin is None or name is None:
            return False
        sender = self.hosts[origin.host]
        if sender.incarnation != origin.incarnation:
            return False
        probes = [
            found
            for end in (host, sender)
            for link, other in self.process(end).live.items()
            if other == name and (found := _probe_ns(end, link)) is not None
        ]
        age = host.timeline.now - origin.sent_at
        return len(probes) > 1 and age < WIPE_PROBES * min(probes)

    def acting(self, host: Host, action: Action) -> None:
        if isinstance(action, OpenPort):
            self._moves.add(action.local.port)
        if not isinstance(action, Notify):
            return
        process, notice = self.process(host), action.notice
        if isinstance(notice, Established):
            self._established(host, action.link, notice)
        elif isinstance(notice, Closed):
            self.closes[notice.code] += 1
            process.live.pop(action.link, None)
            clone = self.clones and notice.code is CloseCode.SUPERSEDED
            require(
                clone or notice.code in self.blameless,
                f"{host.name}: link {action.link} closed with {notice.code.name}: {notice.reason}",
            )
        elif isinstance(notice, CredentialReused):
            self.reports += 1
            self._reported.add((notice.generation, notice.same_device, notice.path.remote))
            require(self.clones, f"{host.name}: a clone was reported, and there is none")
        elif isinstance(notice, CopyReported):
            require(
                (notice.generation, notice.same_device, notice.remote) in self._reported,
                f"{host.name}: was warned of a copy that no listener noticed",
            )

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
        named = self._is_named(process, target)
        require(
            named or target in process.genuine_from,
            f"{host.name}: sent to {target} without a reason",
        )
        process.went[target] += sum(len(parcel.data) for parcel in parcels)
        require(
            process.went[target] <= AMPLIFICATION * (process.came[target] + named * NAMED_CREDIT),
            f"{host.name}: {process.went[target]} bytes to {target}, not validated, "
            f"which sent {process.came[target]}",
        )

    def _is_named(self, process: _Process, target: Address) -> bool:
        """Whether somebody opened that port to move there, at an IP address that is known."""
        hosts = {known.host for known in process.genuine_from}
        return target.port in self._moves and target.host in hosts

    def woke(self, host: Host) -> None:
        """After each turn of a host: epochs, roots, and how long each phase lasts."""
        endpoint = host.endpoint
        assert endpoint is not None
        deadline = endpoint.deadline
        require(deadline is None or bool(deadline.why), f"{host.name}: a deadline says no why")
        process = self.process(host)
        now = host.timeline.now
        looked = process.memory.look(endpoint)
        for sight, changed in looked:
            if changed:
                self._look_at(host, sight)
                self._note_phases(process, sight, now)
            if now > process.too_long_at[sight.key]:
                self._complain(host, sight, process.since[sight.key])
        if len(process.since) > len(looked):
            keys = {sight.key for sight, _ in looked}
            for gone in [key for key in process.since if key not in keys]:
                del process.since[gone], process.too_long_at[gone]

    def _look_at(self, host: Host, sight: LinkSight) -> None:
        epochs = sight.epochs
        if epochs:
            require(
                len(epochs) <= EPOCHS_MAX and epochs[-1] - epochs[0] < EPOCHS_MAX,
                f"{host.name}: link {sight.id} keeps the epochs {epochs}",
            )
            for cid in sight.sends:
                self._owners[cid] = sight.hash
            agreed = self._roots.setdefault((sight.hash, sight.newest_epoch), sight.root)
            require(agreed == sight.root, f"{host.name}: epoch {sight.newest_epoch} has two roots")

    def _note_phases(self, process: _Process, sight: LinkSight, now: int) -> None:
        before = process.since.get(sight.key, [])
        process.since[sight.key] = since = [
            before[number] if number < len(before) and before[number][0] is phase else (phase, now)
            for number, phase in enumerate(sight.phases)
        ]
        process.too_long_at[sight.key] = min(
            (at + _longest(phase) for phase, at in since if _must_end(phase, sight)),
            default=NEVER_NS,
        )

    def _complain(self, host: Host, sight: LinkSight, since: list[tuple[Enum, int]]) -> None:
        now = host.timeline.now
        told = ", ".join(f"{phase} since {now - at} ns" for phase, at in since)
        raise InvariantBroken(f"{host.name}: link {sight.id} is in {told}")

    def restless(self) -> list[str]:
        """Every link machine that awaits something now, answered HELLOs of strangers apart."""
        found = []
        for host in self.hosts.values():
            if host.endpoint is None:
                continue
            for link, seen in phases(host.endpoint):
                if seen[0] is not answering.Phase.REPLIED:
                    # What a link that is lost or over was at matters to nobody.
                    living = seen[1] is established.Phase.LIVE
                    found += [
                        f"{host.name} link {link}: {phase}"
                        for phase in (seen if living else seen[1:2])
                        if phase not in RESTING
                    ]
        return found

    def _established(self, host: Host, link: int, notice: Established) -> None:
        self.established += 1
        process = self.process(host)
        process.live[link] = notice.handshake_hash
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
        require(truth.sides.get(not notice.dialer) != host.name, f"{host.name}: linked with itself")


def _longest(phase: Enum) -> int:
    return PENDING_NS_MAX if phase is answering.Phase.REPLIED else PHASE_NS_MAX


def _must_end(phase: Enum, sight: LinkSight) -> bool:
    """A link that is lost for now or over may leave anything as it was."""
    return phase not in RESTING and sight.phases[1] not in LEFT_ALONE


def _dropped(host: Host, reasons: tuple[Drop, ...]) -> int:
    assert host.endpoint is not None
    drops = host.endpoint.drops
    return sum(drops[drop] for drop in reasons)


def _probe_ns(host: Host, link: int) -> int | None:
    """The least that a probe timeout of this link can be; None when the link has just ended."""
    if host.endpoint is None:
        return None
    try:
        return host.endpoint.link_stats(link).rtt_min_ns + PROBE_NS_MIN
    except UnknownLink:
        return None


def _is_news(process: _Process, parcels: list[Parcel]) -> bool:
    """Whether a process has sent one of these, and this one sees it for the first time."""
    names = {name for parcel in parcels if (name := _name_of(parcel)) is not None}
    news = not names <= process.handled
    process.handled |= names
    return news


def _name_of(parcel: Parcel) -> _Name | None:
    """What makes a genuine datagram from one address unique; None for a stranger's."""
    origin = parcel.origin
    if origin is None:
        return None
    return origin.host, origin.incarnation, origin.serial, parcel.source
