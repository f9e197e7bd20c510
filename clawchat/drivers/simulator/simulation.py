"""One world from a seed: a listener, some dialers, a day of work, faults, and a calm evening.

The day: the listener publishes a bootstrap file, each dialer gets one and keeps a link while it
works through its deeds, and the `Script` of faults happens. Then all is calm: whatever was begun
on a link that still lives must end, every pair must be able to meet again from what it has on
disk, and every link can be closed in an orderly way.

Rules: everything is drawn from the seed; the only thing that differs between two runs of one seed
is the bytes of ML-KEM encapsulations. A failing run names the command that runs it again.
Left to others: the parts (`host`, `network`, `workload`, `faults`, `strangers`, `invariants`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from attrs import define

from clawchat.core.actions import BootstrapContent
from clawchat.core.config import DECLARING_LASTS
from clawchat.core.credential import Address
from clawchat.core.events import PublishBootstrap, Remember
from clawchat.core.exchange import first_pairing
from clawchat.core.instant import HOUR, MILLISECOND, SECOND
from clawchat.drivers.simulator.build import build_any_endpoint, build_endpoint
from clawchat.drivers.simulator.clock import HostClock, Timeline
from clawchat.drivers.simulator.disk import Disk
from clawchat.drivers.simulator.faults import CALM, PLANS, Fault, FaultKind, Plan, Script, draw
from clawchat.drivers.simulator.host import Application, Build, Host, Power
from clawchat.drivers.simulator.invariants import BLAMELESS, InvariantBroken, Watch, require
from clawchat.drivers.simulator.ledger import Ledger
from clawchat.drivers.simulator.nat import NatNetwork
from clawchat.drivers.simulator.panics import PanicWatch, panic
from clawchat.drivers.simulator.scenario import Scenario, impose
from clawchat.drivers.simulator.strangers import Stranger
from clawchat.drivers.simulator.workload import Answerer, Caller, Deed, Person, Talk, Task
from clawchat.errors import CloseCode

LISTENER = Address("10.0.0.1", 50_000)
STRANGER = Address("10.66.66.66", 6_666)
EPOCH_UNIX_NS = 1_790_000_000 * SECOND  # some day in 2026
ANEW_NS = DECLARING_LASTS + 2 * SECOND  # so long after a panic its users begin anew
SETTLE_NS = 200 * SECOND  # in calm weather everything must be done after this long
REST_NS = 60 * SECOND  # and after this long more, nothing may be awaited by anybody
MEET_NS = 20 * SECOND  # in calm weather a pair must have met again after this long


class World:
    """Timeline, network, watch and hosts, without a story. Tests build their own on it."""

    def __init__(self, seed: str, *, build: Build = build_endpoint, write_ns: int = 0) -> None:
        self.seed = seed
        self.build = build
        self.write_ns = write_ns
        self.dice = Random(f"world/{seed}")
        self.timeline = Timeline()
        self.network = NatNetwork(self.timeline, Random(f"network/{seed}"), CALM)
        self.watch = Watch()
        self.ledger = Ledger()
        self.hosts: dict[str, Host] = {}

    def host(self, name: str, address: Address, application: Application) -> Host:
        """Add a host; it is not started yet."""
        dice = Random(f"host/{self.seed}/{name}")
        host = Host(
            name=name,
            address=address,
            timeline=self.timeline,
            network=self.network,
            clock=HostClock(
                boot_ns=dice.randint(0, 1000 * HOUR),
                drift_ppm=dice.randint(-200, 200),
                wall_ns=EPOCH_UNIX_NS + dice.randint(-HOUR, HOUR),
            ),
            rng=dice,
            build=self.build,
            application=application,
            disk=Disk(self.timeline, dice, self.write_ns),
            seed=self.seed,
            identity=dice.randbytes(32),
            watchers=[self.watch],
        )
        self.hosts[name] = host
        self.watch.hosts[name] = host
        return host

    def run(self, for_ns: int) -> None:
        with self.watch.seals, self.watch.successions:
            self.timeline.run_until(self.timeline.now + for_ns)

    def run_until(self, reached: Callable[[], bool], within_ns: int) -> bool:
        """Run until `reached()`; false when that did not happen in time."""
        limit = self.timeline.now + within_ns
        with self.watch.seals, self.watch.successions:
            while not reached():
                following = self.timeline.next_at
                if following is None or following > limit:
                    self.timeline.run_until(limit)
                    return reached()
                self.timeline.step()
        return True


@define(slots=False)
class Report:
    """What a finished simulation tells."""

    seed: str
    plan: str
    virtual_ns: int
    steps: int
    datagrams: int
    established: int
    rotations: int
    delivered: int


class Simulation:
    """The story. `run()` raises `InvariantBroken` when something was wrong."""

    def __init__(
        self, seed: int | str, plan: Plan, *, script: Script | None = None, options: str = ""
    ) -> None:
        """`script` instead of what the seed would draw; `options` are how a user names this run."""
        self.seed = str(seed)
        self.plan = plan
        self.options = options or f"--seed {self.seed} --plan {plan.name}"
        self.script = script or draw(plan, self.seed)
        self.world = World(self.seed, build=build_any_endpoint, write_ns=self.script.write_ns)
        self._offers: list[BootstrapContent] = []
        self._identities: dict[bytes, tuple[bytes, bytes]] = {}  # of both sides, by file id
        self._asked_in = 0  # the listener's incarnation that owes us a file
        self._to_begin_anew = 0
        self.listener_app = Answerer(
            ledger=self.world.ledger, rng=Random(f"listener app/{self.seed}")
        )
        self.listener_app.on_file = self._file_published
        self.listener_app.todo = list(self.script.people[0].tasks)
        self.listener_app.reading_ns = self.script.people[0].reading_ns
        self.listener = self.world.host("listener", LISTENER, self.listener_app)
        self.callers: list[Caller] = []
        self.dialers: list[Host] = []
        for number, person in enumerate(self.script.people[1:], 1):
            self._add_dialer(number, person)
        self._populate()
        if any(fault.kind is FaultKind.PANIC for fault in self.script.faults):
            self._expect_panics()

    @classmethod
    def of(cls, scenario: Scenario, name: object = "FILE") -> Simulation:
        """What a scenario file says, no more."""
        plan, options = PLANS[scenario.plan], f"--scenario {name}"
        made = cls(scenario.seed, plan, script=scenario.script, options=options)
        impose(made.world.network, scenario.fates)
        return made

    # --- making the world ---------------------------------------------------------------------

    def _add_dialer(self, number: int, person: Person) -> None:
        dice = Random(f"dialer app/{self.seed}/{number}")
        caller = Caller(ledger=self.world.ledger, rng=dice, listener=LISTENER)
        caller.todo = list(person.tasks)
        caller.reading_ns, caller.patience_ns = person.reading_ns, person.patience_ns
        address = Address(f"10.0.1.{number}", 40_000)
        self.callers.append(caller)
        self.dialers.append(self.world.host(f"dialer{number}", address, caller))

    def _expect_panics(self) -> None:
        self.watch.blameless = BLAMELESS | {CloseCode.COMPROMISED}
        watch = PanicWatch(on_destroyed=self._was_destroyed)
        for host in (self.listener, *self.dialers):
            host.watchers.append(watch)

    def _populate(self) -> None:
        timeline = self.world.timeline
        for fault in self.script.faults:
            timeline.at(fault.at, partial(self._strike, fault))
        if self.script.strikes:
            targets = [LISTENER, *(host.address for host in self.dialers)]
            Stranger(
                timeline,
                self.world.network,
                Random(f"stranger/{self.seed}"),
                STRANGER,
                targets,
                self.script.strikes,
            ).begin()

    # --- faults -------------------------------------------------------------------------------

    def _strike(self, fault: Fault) -> None:
        host = self.listener if fault.host == 0 else self.dialers[fault.host - 1]
        kind = fault.kind
        if kind is FaultKind.CONDITIONS:
            assert fault.one_way is not None
            assert fault.other_way is not None
            network = self.world.network
            network.wire(LISTENER.host, host.address.host).conditions = fault.one_way
            network.wire(host.address.host, LISTENER.host).conditions = fault.other_way
        elif kind is FaultKind.KILL:
            host.kill(fault.survivors)
        elif kind is FaultKind.START:
            self._start(host)
        elif kind is FaultKind.SUSPEND:
            host.suspend()
        elif kind is FaultKind.RESUME:
            self._resume(host)
        elif kind is FaultKind.WALL_JUMP:
            host.clock.jump(fault.amount_ns)
        elif kind is FaultKind.PANIC:
            self._panic(host, fault)
        elif kind is FaultKind.REBIND:
            self.world.network.rebind(host.address.host, host.address.host)
            if fault.noticed:
                host.notice_change()
        else:
            host.disk.full = kind is FaultKind.DISK_FULL

    def _panic(self, host: Host, fault: Fault) -> None:
        pairing = self.callers[fault.dialer - 1].pairing
        if pairing is None:
            return
        self._to_begin_anew += 1
        if panic(host, pairing.file_id, everything=fault.everything):
            self.world.timeline.after(ANEW_NS, self._begin_anew)
        else:
            self._to_begin_anew -= 1

    def _was_destroyed(self) -> None:
        """A declaration may come long after its panic, when a stranger recorded and kept it."""
        if not self._to_begin_anew:
            self._to_begin_anew += 1
            self.world.timeline.after(ANEW_NS, self._begin_anew)

    def _begin_anew(self) -> None:
        """What users do some time after a panic: restart what fell, pair again what is dead."""
        if self.listener.power is Power.SUSPENDED:  # nobody pairs with a machine that sleeps
            self.world.timeline.after(SECOND, self._begin_anew)
            return
        self._to_begin_anew -= 1
        for number, host in enumerate(self.dialers):
            if self._is_dead(number):
                self.callers[number].abandon(host)
        for host in (self.listener, *self.dialers):
            if host.fallen and host.power is not Power.DOWN:
                host.kill()
                self._start(host)
        self._offer_files()

    def _is_dead(self, number: int) -> bool:
        """Whether a side of this dialer's pairing has destroyed it, or the key it was made with."""
        pairing, host = self.callers[number].pairing, self.dialers[number]
        if pairing is None:
            return False
        known, identities = pairing.file_id, (self.listener.identity, host.identity)
        destroyed = known in self.listener.disk.destroyed or known in host.disk.destroyed
        return destroyed or self._identities[known] != identities

    def _start(self, host: Host) -> None:
        if host.power is not Power.DOWN:
            return
        host.start()
        if host is self.listener:
            for pairing in host.disk.kept.values():
                host.do(Remember(pairing))
            self._offer_files()

    def _resume(self, host: Host) -> None:
        host.resume()
        if host is self.listener:  # a file may have been used up just before it fell asleep ...
            self.world.timeline.after(SECOND, self._offer_files)  # ... or while it did

    # --- bootstrap files ----------------------------------------------------------------------

    def _without_file(self) -> list[int]:
        """Dialers that have no file yet, or one that died with the listener's last process."""
        kept = self.listener.disk.kept
        return [
            number
            for number, caller in enumerate(self.callers)
            if caller.pairing is None
            or (
                caller.pairing.file_id not in kept
                and caller.invited_in != self.listener.incarnation
            )
        ]

    def _offer_files(self) -> None:
        ready = self.listener.running and not self.listener.fallen
        asked = self._asked_in == self.listener.incarnation
        if ready and self._without_file() and not (asked or self._waiting_for_redemption()):
            self._asked_in = self.listener.incarnation
            self.listener.do(PublishBootstrap((LISTENER,)))

    def _waiting_for_redemption(self) -> bool:
        return any(
            caller.pairing is not None
            and caller.invited_in == self.listener.incarnation
            and caller.pairing.file_id not in self.listener.disk.kept
            for caller in self.callers
        )

    def _file_published(self, _host: Host, content: BootstrapContent | None) -> None:
        if content is None:
            self.world.timeline.after(MILLISECOND, self._offer_files)
            return
        self._asked_in = 0
        lacking = self._without_file()
        if lacking:
            caller = self.callers[lacking[0]]
            caller.invited_in = self.listener.incarnation
            host = self.dialers[lacking[0]]
            self._identities[content.file_id] = self.listener.identity, host.identity
            caller.invite(host, first_pairing(content))

    # --- the day ------------------------------------------------------------------------------

    def run(self) -> Report:
        """The whole story."""
        try:
            self._live()
        except Exception as error:
            at = self.world.timeline.now / SECOND
            raise InvariantBroken(
                f"{_named(error)}\n  at {at:.6f} s of seed {self.seed}, plan {self.plan.name}; "
                f"to run it again:\n  {self.command}"
            ) from error
        return self.report()

    @property
    def command(self) -> str:
        return f"python -m clawchat.drivers.simulator {self.options} --trace"

    def _live(self) -> None:
        self._start(self.listener)
        for host in self.dialers:
            self._start(host)
        self.world.run(self.script.ends_at)
        self._calm_down()
        require(
            self.world.run_until(self._all_done, SETTLE_NS),
            f"not everything was done in {SETTLE_NS // SECOND} calm seconds: {self._undone()}",
        )
        require(
            self.world.run_until(lambda: not self.watch.restless(), REST_NS),
            f"no rest after {REST_NS // SECOND} calm seconds: {self.watch.restless()}",
        )
        if self.plan.clone:
            self._use_a_copy()
        self._meet_again()
        self._part()

    def _calm_down(self) -> None:
        self.world.network.shape_all(CALM)
        for host in (self.listener, *self.dialers):
            host.disk.full = False
            self._resume(host)
            self._start(host)

    def _all_done(self) -> bool:
        if self._to_begin_anew:
            return False
        return all(self._done(number) for number in range(len(self.callers)))

    def _done(self, number: int) -> bool:
        caller = self.callers[number]
        talk = caller.current
        return not caller.todo and talk is not None and self._settled(talk)

    def _settled(self, talk: Talk) -> bool:
        """Both ends speak over this link, and nobody is owed anything on it."""
        if not any(
            other.hash == talk.hash for other in self.listener_app.talks.values() if other.alive
        ):
            return False
        return not any(channel.owing for channel in self.world.ledger.of(talk.hash))

    def _undone(self) -> str:
        told = []
        for caller, host in zip(self.callers, self.dialers, strict=True):
            talk = caller.current
            if talk is None:
                told.append(f"{host.name} has no link")
            else:
                owing = [
                    f"{channel.name}: {channel.received} of {channel.written}"
                    f"{' ended' if channel.ended else ''}"
                    for channel in self.world.ledger.of(talk.hash)
                    if channel.owing
                ]
                told.append(f"{host.name}: {len(caller.todo)} deeds left, owing {owing}")
        return "; ".join(told)

    # --- the evening --------------------------------------------------------------------------

    def _meet_again(self) -> None:
        """Every pair must come together from what is on the two disks, and talk."""
        if self.world.dice.random() < 0.5:
            self.listener.kill()
        for host in self.dialers:
            host.kill()
        for host in (self.listener, *self.dialers):
            self._start(host)
        for caller in self.callers:
            caller.todo = [Task(Deed.CHAT, self.world.dice.getrandbits(32))]
        require(
            self.world.run_until(self._all_done, MEET_NS),
            f"a pair did not meet again in {MEET_NS // SECOND} calm seconds: {self._undone()}",
        )

    def _use_a_copy(self) -> None:
        """Copy a dialer's disk, let the original meet the listener once more, use the copy."""
        caller, host = self.callers[0], self.dialers[0]
        copied = caller.credential(host)
        assert copied is not None
        self._meet_again()
        self.world.run(2 * SECOND)  # until the older generation is given up
        self.watch.clones = True
        clone = Caller(
            ledger=self.world.ledger, rng=Random(f"clone/{self.seed}"), listener=LISTENER
        )
        other = self.world.host("clone", Address("10.0.2.1", 40_000), clone)
        other.identity = host.identity
        clone.pairing = copied
        talk = caller.current
        other.start()
        require(
            self.world.run_until(lambda: self.watch.reports > 0, MEET_NS),
            "a copied credential was used and nobody was told",
        )
        self.world.run(SECOND)
        require(
            any(told.remote == other.address and told.same_device for told in caller.warned),
            "the device whose credential was copied was not told",
        )
        require(not clone.talks, "a copied credential of an old generation made a link")
        require(
            talk is not None and talk.alive and caller.current is talk,
            "the clone disturbed the link of the original",
        )
        other.kill()

    def _part(self) -> None:
        """Close every link; both sides must hear of it."""
        for caller in self.callers:
            caller.wants_link = False
            talk = caller.current
            if talk is not None:
                caller.act(talk, Deed.CLOSE)
        require(
            self.world.run_until(self._has_parted, 5 * SECOND), "an orderly close was not heard"
        )

    def _has_parted(self) -> bool:
        """Nobody speaks to anybody.

        But a device that declared a pairing while nothing got through was not heard: the listener
        keeps that link until it is old, for there is nobody who could tell it.
        """
        living = {
            pairing.file_id for caller in self.callers if (pairing := caller.pairing) is not None
        }
        heard = not any(talk.file_id in living for talk in self.listener_app.talks.values())
        return heard and not any(caller.talks for caller in self.callers)

    @property
    def watch(self) -> Watch:
        return self.world.watch

    def report(self) -> Report:
        """The figures up to now."""
        channels = self.world.ledger.channels.values()
        return Report(
            seed=self.seed,
            plan=self.plan.name,
            virtual_ns=self.world.timeline.now,
            steps=self.world.timeline.steps,
            datagrams=self.world.network.tally.sent,
            established=self.watch.established,
            rotations=len(self.listener_app.rotated),
            delivered=sum(channel.received for channel in channels),
        )


def _named(error: Exception) -> str:
    """The text of a broken invariant; anything else with its kind before it."""
    return str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
