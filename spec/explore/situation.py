"""What two real endpoints can come to when an adversary decides everything.

The adversary holds every datagram and every disk write. At each step it delivers one, delivers a
copy and keeps it, throws all away, ends a write (or lets it fail), lets time pass to the next
timer that changes something, kills a process and starts it again from its disk, puts a machine to
sleep, moves it to another address, or makes a user ask for something. What it may do how often is
its `Budget`.

Two situations that look alike (`view`) are explored once: they have the same phases on both
sides, the same generations on both disks, the same writes and datagrams under way and the same
budget left. An endpoint cannot be copied, so a situation is a list of choices, played from the
start each time.

Rules: the invariants of the simulator are looked at in every step.
Left to others: the order of trying (`search`), what must come of a situation (`ends`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from enum import Enum
from random import Random
from typing import Final, TypeAlias

from attrs import evolve, frozen

from clawchat.core.credential import Address
from clawchat.core.crypto.envelope import ENVELOPE_SIZES
from clawchat.core.events import (
    Close,
    Forget,
    PublishBootstrap,
    Remember,
    RotateKeys,
    RotatePort,
    WithdrawBootstrap,
)
from clawchat.core.exchange import first_pairing
from clawchat.core.instant import HOUR, SECOND
from clawchat.core.phases import answering, dialing
from clawchat.core.phases.rotating_keys import DialerPhase
from clawchat.drivers.simulator.host import Host, Power
from clawchat.drivers.simulator.invariants import BLAMELESS, require
from clawchat.drivers.simulator.network import Parcel
from clawchat.drivers.simulator.panics import PanicWatch, panic
from clawchat.drivers.simulator.shoulder import fates, issuing, sights
from clawchat.drivers.simulator.simulation import LISTENER, World
from clawchat.errors import CloseCode, LocalError
from spec.explore.held import DIALER, Bundle, HeldDisk, HeldNetwork, Kind, User, kept

ALIKE_MAX: Final = 1  # how many datagrams that look alike the adversary keeps
PATIENCE_NS: Final = 100 * SECOND  # how long a wait is when nothing visible happens
MINUTES_NS: Final = 331 * SECOND  # twice this is more than a file lasts, once is less
FAIR_NS: Final = 120 * SECOND
LIVE_FILES_MAX: Final = 2

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
    ports: int = 0
    closes: int = 0
    forgets: int = 0
    days: int = 0
    panics: int = 0  # the user declares one pairing compromised
    ends: int = 0  # or everything
    sleeps: int = 0
    moves: int = 0
    minutes: int = 0
    files: int = 0  # asked for, withdrawn or taken to the dialer


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
        self.world.watch.blameless = BLAMELESS | {CloseCode.COMPROMISED}
        self.panics = PanicWatch()
        self.panicked: dict[str, tuple[int, int]] = {}  # host: incarnation, and when
        self.reports_allowed = False
        self.lends_again = not (budget.panics or budget.ends or budget.files)
        self._addresses = 0

    def _host(self, name: str, address: Address, user: User) -> Host:
        host = self.world.host(name, address, user)
        host.wake_delay_ns = 0
        host.disk = HeldDisk(self.world.timeline, Random(0), 0)
        return host

    def watch_panics(self) -> None:
        """From now on: destroyed is destroyed, looked at in every turn of either host."""
        for host in self.hosts:
            host.watchers.append(self.panics)

    # --- how it begins ------------------------------------------------------------------------

    def begin(self) -> None:
        """A listener with a published file, and a dialer that just got it."""
        self.start(self.listener)
        self.listener.do(PublishBootstrap((LISTENER,)))
        self._settle()
        self.caller.pairing = first_pairing(self.answerer.file)
        self.start(self.dialer)

    def offer(self) -> None:
        """A listener with a published file, and a device whose user has not fetched it yet."""
        self.start(self.listener)
        self.listener.do(PublishBootstrap((LISTENER,)))
        self._settle()
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
        if pairing is None or not self.lends_again or pairing.file_id in self.listener.disk.kept:
            return
        self.listener.do(PublishBootstrap((LISTENER,)))
        self._settle()
        self.caller.pairing = first_pairing(self.answerer.file)

    def deliver_both_messages(self) -> None:
        """HELLO and REPLY arrive; the dialer writes what it agreed to."""
        for _ in range(2):
            self._deliver(0)
            self._settle()

    def meet(self) -> None:
        """The pair meets for the first time, without an adversary."""
        self.begin()
        require(
            self.fairly_until(lambda: self.linked() and not self.world.watch.restless()),
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
        self.fairly_until(lambda: self._ratchet(self.dialer) is DialerPhase.SETTLING)
        self.listener.suspend()
        self.fairly_until(lambda: self._ratchet(self.dialer) is DialerPhase.STEADY, awake=False)
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
        require(self.fairly_until(self.has_settled), "no second link in calm weather")
        for host in self.hosts:
            while self._disk(host).busy:
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
        for number in range(len(self.hosts)):
            yield from self._choices_at(number)
        if self.flying and self.budget.floods:
            yield "lose all", 0
        if self.budget.timers:
            yield "wait", 0
        if self.budget.forgets and self.listener.disk.kept:
            yield "forget", 0
        if self.budget.days:
            yield "day", 0
        if self.budget.minutes and self._may_wait_for_minutes():
            yield "minutes", 0
        if self.budget.files:
            yield from self._choices_of_files()
        if self.budget.moves and self.dialer.running:
            yield "move", 0
            yield "move, noticed", 0

    def _choices_at(self, number: int) -> Iterator[Choice]:
        """What can be done to one host, or asked of it."""
        host, user, budget = self.hosts[number], self._user(self.hosts[number]), self.budget
        if self._disk(host).busy:
            yield "written", number
            if budget.fails:
                yield "failed", number
        if budget.kills:
            yield "kill", number  # what is being written is lost
            if self._disk(host).busy:
                yield "killed after writing", number
        if host.power is Power.SUSPENDED:
            yield "wake", number
            return  # nobody sits at it
        if budget.rotations and user.links:
            yield "rotate", number
        if budget.ports and user.links:
            yield "leave port", number
        if budget.closes and (user.links or user.dialling):
            yield "close", number
        if budget.panics and self.file_id not in host.disk.destroyed:
            yield "panic", number
        if budget.ends:
            yield "panic, everything", number
        if budget.sleeps:
            yield "sleep", number

    def _may_wait_for_minutes(self) -> bool:
        """No disk takes minutes, and a link that hears nothing for so long was explored."""
        linked = self.caller.links or self.answerer.links
        return not linked and not any(self._disk(host).busy for host in self.hosts)

    def _choices_of_files(self) -> Iterator[Choice]:
        yield "publish", 0
        yield "withdraw", 0
        caller = self.caller
        if not (caller.links or caller.dialling):
            for place, content in enumerate(self.answerer.files):
                if content.file_id not in self.dialer.disk.kept:
                    yield "redeem", place

    def take(self, choice: Choice) -> None:
        """Do what was chosen, and what follows from it at once."""
        name, place = choice
        _TAKEN[name](self, place)
        self._settle()
        assert self.listener.endpoint is not None
        _, live = issuing(self.listener.endpoint)
        require(live <= LIVE_FILES_MAX, f"{live} files are live")

    def view(self) -> tuple[object, ...]:
        """All that makes two situations different."""
        hosts = []
        for host in self.hosts:
            assert host.endpoint is not None
            machines = [
                (sight.phases, sight.epochs, sight.newest_epoch, sight.asked)
                for sight in sights(host.endpoint)
            ]
            hosts.append(
                (
                    tuple(sorted(map(repr, machines))),
                    tuple(fates(host.endpoint)),
                    tuple(sorted(kept(pairing) for pairing in host.disk.kept.values())),
                    self._disk(host).writing,
                    len(host.disk.destroyed),
                    len(self._user(host).links),
                    host.power,
                    len(host.sockets),
                )
            )
        flying = Counter(bundle.label for bundle in self.flying)
        return (*hosts, tuple(sorted(flying.items(), key=repr)), self._files(), self.budget)

    def _files(self) -> tuple[object, ...]:
        """The age of the files, where the adversary can make something of it."""
        if not (self.budget.files or self.budget.minutes):
            return ()
        assert self.listener.endpoint is not None
        now, files, pairing = self.world.timeline.now, self.answerer.files, self.caller.pairing
        lives = (max(0, self.answerer.live_until[each.file_id] - now) // SECOND for each in files)
        names = [each.file_id for each in files]
        taken = None if pairing is None else names.index(pairing.file_id)
        return (issuing(self.listener.endpoint), tuple(lives), taken, self.caller.dialling)

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

    def _leave_port(self, number: int) -> None:
        self.budget = evolve(self.budget, ports=self.budget.ports - 1)
        self._ask(number, lambda link: self.hosts[number].do(RotatePort(link)))

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
        self.fairly_until(lambda: False, 10 * HOUR)

    def _minutes(self, _place: int) -> None:
        """Minutes pass, and nothing that is under way arrives."""
        self.budget = evolve(self.budget, minutes=self.budget.minutes - 1)
        self.world.run(MINUTES_NS)

    def _publish(self, _place: int) -> None:
        self.budget = evolve(self.budget, files=self.budget.files - 1)
        self.listener.do(PublishBootstrap((LISTENER,)))

    def _withdraw(self, _place: int) -> None:
        self.budget = evolve(self.budget, files=self.budget.files - 1)
        self.listener.do(WithdrawBootstrap())

    def _redeem(self, place: int) -> None:
        """The user takes a file to the dialer, be it live or not."""
        self.budget = evolve(self.budget, files=self.budget.files - 1)
        self.caller.pairing = first_pairing(self.answerer.files[place])
        self.caller.dial(self.dialer)

    def _panic(self, number: int, *, everything: bool = False) -> None:
        host = self.hosts[number]
        budget = self.budget
        if everything:
            self.budget = evolve(budget, ends=budget.ends - 1)
        else:
            self.budget = evolve(budget, panics=budget.panics - 1)
        with self.world.watch.seals:  # a declaration is sealed at once
            declared = panic(host, self.file_id, everything=everything)
        if declared:
            self.panicked.setdefault(host.name, (host.incarnation, self.world.timeline.now))

    def _panic_everything(self, number: int) -> None:
        self._panic(number, everything=True)

    def _sleep(self, number: int) -> None:
        self.budget = evolve(self.budget, sleeps=self.budget.sleeps - 1)
        self.hosts[number].suspend()

    def _wake(self, number: int) -> None:
        self.hosts[number].resume()

    def _move(self, _place: int) -> None:
        """The dialer's NAT forgets it, and shows another address from now on."""
        self.budget = evolve(self.budget, moves=self.budget.moves - 1)
        self._addresses += 1
        self.network.rebind(DIALER.host, f"10.0.9.{self._addresses}")

    def _move_noticed(self, place: int) -> None:
        self._move(place)
        self.dialer.notice_change()

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

    # --- for what must come of it ---------------------------------------------------------------

    @property
    def file_id(self) -> bytes:
        """The pairing that this world is about."""
        assert self.caller.pairing is not None
        return self.caller.pairing.file_id

    def has_settled(self) -> bool:
        """Both sides have ended the handshake of the link that they share."""
        phases = {
            sight.phases[0]
            for host in self.hosts
            if host.endpoint is not None
            for sight in sights(host.endpoint)
        }
        return self.linked() and phases == {dialing.Phase.UP, answering.Phase.SETTLED}

    def linked(self) -> bool:
        ours = set(self.caller.links.values())
        return bool(ours) and ours == set(self.answerer.links.values())

    def fairly_until(
        self, reached: Callable[[], bool], within_ns: int = FAIR_NS, *, awake: bool = True
    ) -> bool:
        """Nothing is lost or late from here on, and nobody asleep unless told so."""
        if awake:
            for host in self.hosts:
                host.resume()
        limit = self.world.timeline.now + within_ns
        while not reached():
            writing = [host for host in self.hosts if self._disk(host).busy]
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


_TAKEN: Final[dict[str, Callable[[Situation, int], None]]] = {
    "deliver": Situation._deliver,
    "copy": Situation._copy,
    "written": Situation._written,
    "failed": Situation._failed,
    "kill": Situation._kill,
    "killed after writing": Situation._kill_after_writing,
    "rotate": Situation._rotate,
    "leave port": Situation._leave_port,
    "close": Situation._close,
    "forget": Situation._forget,
    "day": Situation._day,
    "lose all": Situation._lose_all,
    "wait": Situation._wait,
    "minutes": Situation._minutes,
    "publish": Situation._publish,
    "withdraw": Situation._withdraw,
    "redeem": Situation._redeem,
    "panic": Situation._panic,
    "panic, everything": Situation._panic_everything,
    "sleep": Situation._sleep,
    "wake": Situation._wake,
    "move": Situation._move,
    "move, noticed": Situation._move_noticed,
}
