"""Explores what two real endpoints can come to when an adversary decides everything.

The adversary holds every datagram and every disk write. At each step it delivers one, delivers a
copy and keeps it, throws all away, ends a write (or lets it fail), lets time pass to the next
timer that changes something, kills a process and starts it again from its disk, or makes a user
ask for something. What it may do how often is its `Budget`.

Two situations that look alike are explored once: they have the same phases on both sides, the
same generations on both disks, the same writes and datagrams under way and the same budget left.
An endpoint cannot be copied, so a situation is a list of choices, played from the start each time.

Rules: the invariants of the simulator are looked at in every step; from every new situation a
fair network must lead to a link at rest, with one credential on both disks.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from enum import Enum, unique
from functools import partial
from random import Random
from typing import TypeAlias

from attrs import define, evolve, field, frozen

from clawchat.core.actions import BootstrapContent, Closed, Established, Notice
from clawchat.core.credential import Address, Pairing, Path
from clawchat.core.crypto.envelope import ENVELOPE_SIZES
from clawchat.core.events import Close, Dial, Forget, PublishBootstrap, Remember, RotateKeys
from clawchat.core.instant import HOUR, SECOND
from clawchat.core.phases import answering, dialing
from clawchat.core.phases.rotating_keys import DialerPhase
from clawchat.drivers.simulator.clock import Timeline
from clawchat.drivers.simulator.disk import Disk
from clawchat.drivers.simulator.host import Host
from clawchat.drivers.simulator.invariants import Firing, require
from clawchat.drivers.simulator.nat import NatNetwork
from clawchat.drivers.simulator.network import Parcel
from clawchat.drivers.simulator.shoulder import sights
from clawchat.drivers.simulator.simulation import LISTENER, World, pairing_of
from clawchat.errors import CloseCode, LocalError

DIALER = Address("10.0.1.1", 40_000)
PATH_SIZE = 1200  # larger probes for a larger path vanish, so that they do not multiply situations
ALIKE_MAX = 1  # how many datagrams that look alike the adversary keeps
PATIENCE_NS = 100 * SECOND  # how long a wait is when nothing visible happens
REDIAL_NS = SECOND // 10
FAIR_NS = 120 * SECOND

Choice: TypeAlias = tuple[str, int]


@frozen
class Budget:
    """How often the adversary may do what costs it something."""

    copies: int = 1
    floods: int = 1
    kills: int = 1
    fails: int = 0
    timers: int = 5
    rotations: int = 0
    closes: int = 0
    forgets: int = 0
    days: int = 0


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
            self.held.append(parcel)

    def deliver(self, parcel: Parcel) -> None:
        self._deliver(parcel)


class HeldDisk(Disk):
    """Ends no write by itself."""

    def _begin(self) -> None:
        """Wait for the adversary."""

    @property
    def writing(self) -> Pairing | None:
        return self._under_way[0].pairing if self._under_way else None

    def end_write(self, *, fails: bool = False) -> None:
        self._under_way[0].fails = fails
        self._finish(self._life)


@define(slots=False)
class User:
    """The application of either host: keeps a link if it has something to dial with."""

    pairing: Pairing | None = None
    file: BootstrapContent | None = None
    links: dict[int, bytes] = field(factory=dict)
    dials: int = 0
    dialling: bool = False
    closes: set[CloseCode] = field(factory=set)

    def started(self, host: Host) -> None:
        self.dialling = False

    def stopped(self, host: Host) -> None:
        self.links.clear()
        self.dialling = False

    def noticed(self, host: Host, link: int, notice: Notice) -> None:
        if isinstance(notice, Established):
            self.links[link] = notice.handshake_hash
        elif isinstance(notice, Closed):
            self.links.pop(link, None)
            self.closes.add(notice.code)
            self.dialling = False
            if not self.links and self.pairing is not None:
                host.after(REDIAL_NS, partial(self.dial, host))

    def published(self, _host: Host, content: BootstrapContent | None) -> None:
        self.file = content

    def dial(self, host: Host) -> None:
        if self.pairing is None or self.dialling or self.links:
            return
        self.dialling = True
        self.dials += 1
        kept = host.disk.kept.get(self.pairing.file_id, self.pairing)
        host.do(Dial(self.dials, kept, (Path(host.address, LISTENER),)))


class Situation:
    """One world under the adversary's hand."""

    def __init__(self, budget: Budget, done: Callable[[Situation], bool] | None = None) -> None:
        """Beyond a situation that is `done` nothing more is explored."""
        self.budget = budget
        self.done = done
        self.world = World("exploration")
        self.network = HeldNetwork(self.world.timeline, Random(0))
        self.world.network = self.network
        self.caller, self.answerer = User(), User()
        self.listener = self._host("listener", LISTENER, self.answerer)
        self.dialer = self._host("dialer", DIALER, self.caller)
        self.flying: list[Bundle] = []
        self.world.watch.clones = True  # which setups may have
        self.reports_allowed = False

    def _host(self, name: str, address: Address, user: User) -> Host:
        host = self.world.host(name, address, user)
        host.wake_delay_ns = 0
        host.disk = HeldDisk(self.world.timeline, Random(0), 0)
        return host

    # --- how it begins ------------------------------------------------------------------------

    def begin(self) -> None:
        """A listener with a published file, and a dialer that just got it."""
        self.start(self.listener)
        self.listener.do(PublishBootstrap((LISTENER,)))
        self._settle()
        assert self.answerer.file is not None
        self.caller.pairing = pairing_of(self.answerer.file)
        self.start(self.dialer)

    def start(self, host: Host) -> None:
        host.start()
        if host is self.listener:
            for pairing in list(host.disk.kept.values()):
                host.do(Remember(pairing))
            self._file_again()
        else:
            self.caller.dial(host)
        self._settle()

    def _file_again(self) -> None:
        """A listener that lost the pairing publishes a file, and the user carries it over."""
        pairing = self.caller.pairing
        if pairing is None or pairing.file_id in self.listener.disk.kept:
            return
        self.listener.do(PublishBootstrap((LISTENER,)))
        self._settle()
        assert self.answerer.file is not None
        self.caller.pairing = pairing_of(self.answerer.file)

    def deliver_both_messages(self) -> None:
        """HELLO and REPLY arrive; the dialer writes what it agreed to."""
        for _ in range(2):
            self._deliver(0)
            self._settle()

    def meet(self) -> None:
        """The pair meets for the first time, without an adversary."""
        self.begin()
        require(
            self._fairly_until(lambda: self._linked() and not self.world.watch.restless()),
            "no link in calm weather",
        )

    def part_and_start(self) -> None:
        """Both processes end; the next ones have only what is on their disks."""
        for host in self.hosts:
            host.kill()
        self.flying.clear()
        for host in (self.listener, self.dialer):
            self.start(host)

    def rotate_past_a_sleeper(self) -> None:
        """The listener sleeps through the end of a rotation, and wakes up to the next offer."""
        link = next(iter(self.caller.links))
        self.dialer.do(RotateKeys(link))
        self._fairly_until(lambda: self._ratchet(self.dialer) is DialerPhase.SETTLING)
        self.listener.suspend()
        self._fairly_until(lambda: self._ratchet(self.dialer) is DialerPhase.STEADY)
        self.flying.clear()
        self.dialer.do(RotateKeys(link))
        self._settle()
        self.listener.resume()
        self._deliver(0)
        self._settle()

    def _ratchet(self, host: Host) -> Enum:
        assert host.endpoint is not None
        return next(iter(sights(host.endpoint))).phases[2]

    def restore_backup(self) -> None:
        """The dialer's disk goes back to the generation before the one that both keep now."""
        assert self.caller.pairing is not None
        backup = dict(self.dialer.disk.kept)
        self.part_and_start()
        require(self._fairly_until(self.has_settled), "no second link in calm weather")
        for host in self.hosts:
            while self._disk(host).writing is not None:
                self._disk(host).end_write()
        self.dialer.kill()
        self.dialer.disk.kept = backup
        self.flying.clear()
        self.reports_allowed = True
        self.caller.closes.clear()
        self.start(self.dialer)

    # --- what the adversary sees and can do ---------------------------------------------------

    def choices(self) -> Iterator[Choice]:
        if self.done is not None and self.done(self):
            return
        seen = set()
        for place, bundle in enumerate(self.flying):
            if bundle.label not in seen:
                seen.add(bundle.label)
                yield "deliver", place
                if self.budget.copies:
                    yield "copy", place
        for number, host in enumerate(self.hosts):
            if self._disk(host).writing is not None:
                yield "written", number
                if self.budget.fails:
                    yield "failed", number
            if self.budget.kills:
                yield "kill", number  # what is being written is lost
                if self._disk(host).writing is not None:
                    yield "killed after writing", number
            if self.budget.rotations and self._user(host).links:
                yield "rotate", number
            if self.budget.closes and (self._user(host).links or self._user(host).dialling):
                yield "close", number
        if self.flying and self.budget.floods:
            yield "lose all", 0
        if self.budget.timers:
            yield "wait", 0
        if self.budget.forgets and self.listener.disk.kept:
            yield "forget", 0
        if self.budget.days:
            yield "day", 0

    def take(self, choice: Choice) -> None:
        """Do what was chosen, and what follows from it at once."""
        name, place = choice
        _TAKEN[name](self, place)
        self._settle()

    def view(self) -> tuple[object, ...]:
        """All that makes two situations different."""
        hosts = []
        for host in self.hosts:
            assert host.endpoint is not None
            machines = [
                (sight.phases, sight.epochs, sight.newest_epoch, sight.asked)
                for sight in sights(host.endpoint)
            ]
            writing = self._disk(host).writing
            hosts.append(
                (
                    tuple(sorted(map(repr, machines))),
                    tuple(sorted(_kept(pairing) for pairing in host.disk.kept.values())),
                    writing and _kept(writing),
                    len(self._user(host).links),
                )
            )
        flying = Counter(bundle.label for bundle in self.flying)
        return (*hosts, tuple(sorted(flying.items(), key=repr)), self.budget)

    # --- the choices --------------------------------------------------------------------------

    def _deliver(self, place: int) -> None:
        for parcel in self.flying.pop(place).parcels:
            self.network.deliver(parcel)

    def _copy(self, place: int) -> None:
        self.budget = evolve(self.budget, copies=self.budget.copies - 1)
        for parcel in self.flying[place].parcels:
            self.network.deliver(parcel)

    def _written(self, number: int) -> None:
        self._disk(self.hosts[number]).end_write()

    def _failed(self, number: int) -> None:
        self.budget = evolve(self.budget, fails=self.budget.fails - 1)
        self._disk(self.hosts[number]).end_write(fails=True)

    def _kill(self, number: int, survivors: int = 0) -> None:
        self.budget = evolve(self.budget, kills=self.budget.kills - 1)
        self.hosts[number].kill(survivors)
        self.start(self.hosts[number])

    def _kill_after_writing(self, number: int) -> None:
        self._kill(number, 1)

    def _rotate(self, number: int) -> None:
        self.budget = evolve(self.budget, rotations=self.budget.rotations - 1)
        self._ask(number, lambda link: self.hosts[number].do(RotateKeys(link)))

    def _close(self, number: int) -> None:
        self.budget = evolve(self.budget, closes=self.budget.closes - 1)
        self._ask(number, lambda link: self.hosts[number].do(Close(link)))

    def _forget(self, _place: int) -> None:
        """The listener's user revokes the device, then lends it a new file."""
        self.budget = evolve(self.budget, forgets=self.budget.forgets - 1)
        assert self.caller.pairing is not None
        self.listener.do(Forget(self.caller.pairing.file_id))
        self.listener.disk.kept.clear()
        self._file_again()

    def _day(self, _place: int) -> None:
        """Some hours pass in peace."""
        self.budget = evolve(self.budget, days=self.budget.days - 1)
        self._fairly_until(lambda: False, 10 * HOUR)

    def _ask(self, number: int, ask: Callable[[int], None]) -> None:
        user = self._user(self.hosts[number])
        try:
            ask(next(reversed(user.links), user.dials))
        except LocalError:
            return  # the link has just ended

    def _lose_all(self, _place: int) -> None:
        self.budget = evolve(self.budget, floods=self.budget.floods - 1)
        self.flying.clear()

    def _wait(self, _place: int) -> None:
        """Let time pass until something can be seen."""
        self.budget = evolve(self.budget, timers=self.budget.timers - 1)
        before = self.view()
        limit = self.world.timeline.now + PATIENCE_NS
        while True:
            following = self.world.timeline.next_at
            if following is None or following > limit:
                return
            self.world.run(following - self.world.timeline.now)
            self._settle()
            if self.view() != before:
                return

    # --- machinery ----------------------------------------------------------------------------

    @property
    def hosts(self) -> tuple[Host, Host]:
        return self.dialer, self.listener

    def _user(self, host: Host) -> User:
        return self.caller if host is self.dialer else self.answerer

    def _disk(self, host: Host) -> HeldDisk:
        assert isinstance(host.disk, HeldDisk)
        return host.disk

    def _settle(self) -> None:
        """Run what is due now, and bundle what was sent."""
        self.world.run(0)
        sent, self.network.held = self.network.held, []
        bundles: dict[tuple[str, Kind, int], list[Parcel]] = {}
        for place, parcel in enumerate(sent):
            kind = self._kind(parcel)
            assert parcel.origin is not None
            part = place if kind is Kind.ENVELOPE else 0
            bundles.setdefault((parcel.origin.host, kind, part), []).append(parcel)
        for (name, kind, _), parcels in bundles.items():
            label = (name, kind.value, self._phases(name))
            alike = [bundle for bundle in self.flying if bundle.label == label]
            if len(alike) >= ALIKE_MAX:
                self.flying.remove(alike[0])
            self.flying.append(Bundle(label, parcels))

    def _kind(self, parcel: Parcel) -> Kind:
        sealed = parcel.data[:8] in self.world.watch.seals.connection_ids
        assert sealed or len(parcel.data) in ENVELOPE_SIZES
        return Kind.PACKETS if sealed else Kind.ENVELOPE

    def _phases(self, name: str) -> tuple[str, ...]:
        """How the sender looked when it sent: that says what it most likely sent."""
        endpoint = self.world.hosts[name].endpoint
        assert endpoint is not None
        return tuple(
            sorted(
                "/".join(phase.name for phase in sight.phases) + f"/{sight.newest_epoch}"
                for sight in sights(endpoint)
            )
        )

    # --- what must come of it -----------------------------------------------------------------

    def demand_a_good_end(self) -> None:
        """From here on the network is fair: there must be a link at rest and one credential."""
        require(self._fairly_until(self._linked), "no link under a fair network")
        require(
            self._fairly_until(lambda: self._linked() and not self.world.watch.restless()),
            f"no rest under a fair network: {self.world.watch.restless()}",
        )
        assert self.caller.pairing is not None
        file_id = self.caller.pairing.file_id
        ours, theirs = self.dialer.disk.kept[file_id], self.listener.disk.kept[file_id]
        require(len(ours.credentials) == 1, "the dialer still keeps an older generation")
        require(ours.newest.psk == theirs.newest.psk, "the two disks differ")
        require(self.world.watch.reports == 0 or self.reports_allowed, "a false alarm")

    def demand_an_alarm(self) -> None:
        """A fair network: the old generation must be reported, and never make a link."""
        told = self._fairly_until(lambda: CloseCode.SUPERSEDED in self.caller.closes)
        require(told, "the user of the backup was not told")
        require(self.world.watch.reports > 0, "the listener's user was not told")
        require(not self.caller.links, "an old generation made a link")

    def has_settled(self) -> bool:
        """Both sides have ended the handshake of the link that they share."""
        phases = {
            sight.phases[0]
            for host in self.hosts
            if host.endpoint is not None
            for sight in sights(host.endpoint)
        }
        return self._linked() and phases == {dialing.Phase.UP, answering.Phase.SETTLED}

    def _linked(self) -> bool:
        ours = set(self.caller.links.values())
        return bool(ours) and ours == set(self.answerer.links.values())

    def _fairly_until(self, reached: Callable[[], bool], within_ns: int = FAIR_NS) -> bool:
        limit = self.world.timeline.now + within_ns
        while not reached():
            writing = [host for host in self.hosts if self._disk(host).writing is not None]
            if self.flying:
                self._deliver(0)
            elif writing:
                self._disk(writing[0]).end_write()
            else:
                following = self.world.timeline.next_at
                if following is None or following > limit:
                    return False
                self.world.run(following - self.world.timeline.now)
            self._settle()
        return True


_TAKEN: dict[str, Callable[[Situation, int], None]] = {
    "deliver": Situation._deliver,
    "copy": Situation._copy,
    "written": Situation._written,
    "failed": Situation._failed,
    "kill": Situation._kill,
    "killed after writing": Situation._kill_after_writing,
    "rotate": Situation._rotate,
    "close": Situation._close,
    "forget": Situation._forget,
    "day": Situation._day,
    "lose all": Situation._lose_all,
    "wait": Situation._wait,
}


def _kept(pairing: Pairing) -> tuple[object, ...]:
    return (
        tuple(known.generation for known in pairing.credentials),
        tuple(known.generation for known in pairing.superseded),
        pairing.peer_static is not None,
    )


@define
class Exploration:
    """Breadth first, so that a failure comes with the shortest way to it."""

    setup: Callable[[], Situation]
    end: Callable[[Situation], None] = Situation.demand_a_good_end
    limit: int = 1_000_000
    seen: set[tuple[object, ...]] = field(factory=set)
    rows: Counter[Firing] = field(factory=Counter)
    played: int = 0
    exhausted: bool = True

    def run(self) -> None:
        queue: deque[tuple[Choice, ...]] = deque([()])
        while queue:
            way = queue.popleft()
            situation = self.play(way)
            view = situation.view()
            if view in self.seen:
                continue
            self.seen.add(view)
            if len(self.seen) > self.limit:
                self.exhausted = False
                return
            choices = list(situation.choices())
            queue.extend((*way, choice) for choice in choices)
            self._end(situation, way)

    def play(self, way: tuple[Choice, ...]) -> Situation:
        """The situation that these choices lead to."""
        situation = self.setup()
        self.played += 1
        try:
            for choice in way:
                situation.take(choice)
        except AssertionError as error:
            raise AssertionError(f"{error}\n  after {way}") from error
        return situation

    def _end(self, situation: Situation, way: tuple[Choice, ...]) -> None:
        try:
            self.end(situation)
        except AssertionError as error:
            raise AssertionError(f"{error}\n  after {way}") from error
        self.rows.update(situation.world.watch.rows)
