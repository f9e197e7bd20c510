"""One socket's worth of protocol: what comes in, and which part of it each thing concerns.

Three verbs: `handle` what happened, take `actions`, mind the `deadline`. The same configuration,
entropy and events give the same actions (but for the bytes of ML-KEM ciphertexts, which OpenSSL
draws itself).

Rules: what does not authenticate is counted and dropped, never answered, never a phase change.
The event goes before any timer already due, so that a late driver cannot make a peer look silent.
Left to others: HELLOs (`core.reception`), bootstrap files (`core.issuing`), declarations
(`core.destruction`), what is asked of one link (`core.application`), when links are looked at
(`core.links`), one peer's affairs (`core.link`), sockets and clocks (`clawchat.drivers`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from attrs import evolve

from clawchat.core import application
from clawchat.core.actions import Action, LinkStats
from clawchat.core.admission import Admission
from clawchat.core.clones import Clones
from clawchat.core.config import Config, Entropy
from clawchat.core.credential import HINT_SIZE, Pairing, Path
from clawchat.core.crypto.envelope import ENVELOPE_SIZES
from clawchat.core.crypto.packets import CID_SIZE, OVERHEAD
from clawchat.core.crypto.suite import public_key
from clawchat.core.destruction import Destruction
from clawchat.core.events import (
    Buffer,
    DatagramReceived,
    DeclareCompromised,
    Dial,
    Event,
    Forget,
    Persisted,
    PersistFailed,
    PublishBootstrap,
    Remember,
    WithdrawBootstrap,
)
from clawchat.core.instant import Deadline, Instant
from clawchat.core.issuing import Issuing
from clawchat.core.link import Link
from clawchat.core.links import Links
from clawchat.core.phases import answering
from clawchat.core.phases.bootstrap import Issuer
from clawchat.core.phases.dialing import Dialing
from clawchat.core.reception import Reception
from clawchat.core.registry import Registry, Route
from clawchat.core.secret import Secret
from clawchat.core.table import Trace
from clawchat.errors import (
    CloseCode,
    Drop,
    LinkLimit,
    LinkTaken,
    LocalError,
    Malformed,
    PairingDestroyed,
)

COOKIE_KEY_SIZE: Final = 32


class Endpoint:
    """Dials, listens, or both. `unix_ns` is the wall clock at `now`, for bootstrap files only."""

    def __init__(
        self,
        config: Config,
        *,
        now: Instant,
        unix_ns: int,
        entropy: Entropy,
        trace: Trace | None = None,
    ) -> None:
        self.config = evolve(config, identity=config.identity.copy())  # ours to wipe
        self.static = public_key(config.identity.view())
        self._registry: Registry[Link] = Registry(admission=Admission(config.handshakes_per_second))
        self._links = Links(self.config, entropy, self._registry, trace)
        issuer = Issuer(self.static, entropy)
        cookie_key = Secret(entropy(COOKIE_KEY_SIZE))
        clones = Clones(
            self.config.identity,
            cookie_key,
            self._registry,
            entropy,
            self._links.touch_incoming_of,
        )
        self._reception = Reception(
            self.config, entropy, self._registry, self._links, issuer, clones
        )
        self._issuing = Issuing(issuer, self._registry, self._reception, unix_ns - now, trace)
        self._destruction = Destruction(
            (self.config.identity, cookie_key),
            self._registry,
            self._links,
            self._reception,
            self._issuing,
            trace,
        )
        self._registry.destroy = self._destruction.destroy

    # --- the three verbs ----------------------------------------------------------------------

    def handle(self, event: Event, now: Instant) -> None:
        """Something happened. Raises a `LocalError` for what cannot be done, changing nothing."""
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event, now)
        else:
            application.HANDLERS[type(event)](self._links, event, now)

    def advance(self, now: Instant) -> None:
        """Fire what is due at `now`; harmless early."""
        self._issuing.advance(now)
        self._links.advance(now)

    def actions(self, now: Instant) -> list[Action]:
        """What is to be done, in order; empty when nothing is left until the next event."""
        self._links.pack(now)
        out, self._registry.out = self._registry.out, []
        return out

    @property
    def deadline(self) -> Deadline | None:
        """When `advance` must be called at the latest, and why."""
        file, link = self._issuing.deadline, self._links.deadline
        if file is None or (link is not None and link.at <= file.at):
            return link
        return file

    # --- what can be asked --------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many actions are ready at least: a driver that gathers events takes them in time."""
        return len(self._registry.out)

    def may_be_ours(self, head: bytes) -> bool:
        """Whether a datagram that begins with these 16 bytes is worth giving to `handle`. One that
        is not has been counted: this is all that a stranger's datagram costs.
        """
        registry = self._registry
        if head[:CID_SIZE] in registry.routes or head in registry.hints or head in registry.calls:
            return True
        registry.drops[Drop.STRANGER] += 1
        return False

    @property
    def drops(self) -> Counter[Drop]:
        """How many datagrams were dropped, by reason."""
        return self._registry.drops

    @property
    def pairings(self) -> list[Pairing]:
        """Those we listen for."""
        return list(self._registry.pairings.values())

    @property
    def links(self) -> list[int]:
        """Ids of all links that are not closed, those still dialing included."""
        return list(self._links.by_id)

    def link_stats(self, link: int) -> LinkStats:
        """A snapshot of an established link. Raises `UnknownLink`."""
        return self._links.find(link).stats()

    # --- arriving -----------------------------------------------------------------------------

    def _on_datagram(self, event: DatagramReceived, now: Instant) -> None:
        """Cut what came into datagrams, and hand runs with one connection id on together."""
        data, size = event.data, event.segment
        if not size or len(data) <= size:
            self._on_run([data], event.path, now)
            return
        view = memoryview(data)
        self._on_run([view[at : at + size] for at in range(0, len(view), size)], event.path, now)

    def _on_run(self, datagrams: list[Buffer], path: Path, now: Instant) -> None:
        routes, drops = self._registry.routes, self._registry.drops
        largest = self.config.limits.max_datagram
        route: Route[Link] | None = None  # of the run that began at `start`
        start, run_cid = 0, b""
        for at, datagram in enumerate(datagrams):
            size = len(datagram)
            cid = bytes(datagram[:CID_SIZE])
            if route is not None:
                if cid == run_cid and OVERHEAD <= size <= largest:
                    continue
                self._on_packets(route, datagrams[start:at], path, now)
                route = None
            if size < OVERHEAD:
                drops[Drop.EMPTY] += 1
            elif size > largest:
                drops[Drop.OVERSIZED] += 1
            elif cid in routes:
                route, start, run_cid = routes[cid], at, cid
            else:
                self._on_envelope(bytes(datagram), path, now)
        if route is not None:
            self._on_packets(route, datagrams[start:], path, now)

    def _on_packets(
        self, route: Route[Link], datagrams: list[Buffer], path: Path, now: Instant
    ) -> None:
        link = route.link
        unproved = link.handshake.phase is answering.Phase.REPLIED
        if unproved:
            refused = self._reception.why_not_now(link, path)
            if refused is not None:
                self._registry.drops[refused] += len(datagrams)
                return
        heard = link.receive(route, datagrams, path, now)
        if unproved and link.handshake.phase is answering.Phase.SAVING:
            self._reception.promote(link, now)
        if heard:
            self._links.touch(link)

    def _on_envelope(self, datagram: bytes, path: Path, now: Instant) -> None:
        """A datagram without a connection id of ours: a HELLO, an answer to ours, or noise."""
        hint = datagram[:HINT_SIZE]
        call = self._registry.calls.get(hint)
        known = self._registry.hints.get(hint)
        if (call is None and known is None) or len(datagram) not in ENVELOPE_SIZES:
            self._registry.drops[Drop.STRANGER] += 1
            return
        try:
            if call is not None:
                call.take_answer(path, datagram, now)
                self._links.touch(call)
            else:
                assert known is not None
                self._reception.take_hello(known, datagram, path, now)
        except Malformed as error:
            self._registry.drops[error.drop] += 1

    # --- dialing ------------------------------------------------------------------------------

    def _on_dial(self, event: Dial, now: Instant) -> None:
        self._destruction.check(event.pairing.file_id)
        if event.link <= 0 or event.link in self._links.by_id:
            raise LinkTaken("a dialled link needs a positive id that is not in use")
        if self._links.full:
            raise LinkLimit(f"at most {self.config.max_links} links at a time")
        if any(link.file_id == event.pairing.file_id for link in self._registry.calls.values()):
            raise LinkTaken("this pairing is being dialled already")
        pairing = event.pairing.own()
        link = self._links.make(event.link, pairing, Dialing(pairing), event.paths)
        try:
            link.dial(now)
        except (IndexError, ValueError):  # no credential, or a static key that X25519 refuses
            raise LocalError("this pairing cannot be dialled: its keys are of no use") from None
        self._links.by_id[link.id] = link
        self._links.touch(link)

    # --- what was written down ----------------------------------------------------------------

    def _on_persisted(self, event: Persisted | PersistFailed, now: Instant) -> None:
        link, pairing = self._registry.saving.pop(event.ticket, (None, None))
        if link is None or pairing is None:
            return
        durable = isinstance(event, Persisted)
        if durable and not link.dialer and pairing.file_id in self._registry.pairings:
            self._adopt(link, pairing, now)
        link.persisted(durable, now)
        self._links.touch(link)

    def _adopt(self, link: Link, pairing: Pairing, now: Instant) -> None:
        """A listener's pairing is durable: accept it, and end what it replaces."""
        first = self._registry.pairings[pairing.file_id].peer_static is None
        self._registry.remember(pairing)
        if first:
            self._issuing.redeemed(pairing.file_id, now)
        if link.handshake.phase is not answering.Phase.SAVING:
            return
        for other in self._links.incoming_of(pairing.file_id):
            if other is not link:
                other.close(CloseCode.REPLACED, "the device made a newer link", now)
                self._links.touch(other)

    # --- whom we listen for -------------------------------------------------------------------

    def _on_remember(self, event: Remember, _now: Instant) -> None:
        self._destruction.check(event.pairing.file_id)
        self._registry.remember(event.pairing.own())

    def _on_forget(self, event: Forget, now: Instant) -> None:
        self._reception.forget(event.file_id, now)
        for link in self._links.incoming_of(event.file_id):
            link.close(CloseCode.REVOKED, "this device is no longer accepted", now)
            self._links.touch(link)

    def _on_publish(self, event: PublishBootstrap, now: Instant) -> None:
        if self._destruction.of_everything:
            raise PairingDestroyed("everything was declared compromised: begin anew")
        self._issuing.ask(event.candidates, now)

    def _on_withdraw(self, _event: WithdrawBootstrap, now: Instant) -> None:
        self._issuing.stop(now)

    def _on_declare(self, event: DeclareCompromised, now: Instant) -> None:
        self._destruction.declare(event, now)


_HANDLERS: Final[dict[type[Any], Callable[[Endpoint, Any, Instant], None]]] = {
    DatagramReceived: Endpoint._on_datagram,
    Remember: Endpoint._on_remember,
    Forget: Endpoint._on_forget,
    PublishBootstrap: Endpoint._on_publish,
    WithdrawBootstrap: Endpoint._on_withdraw,
    Dial: Endpoint._on_dial,
    Persisted: Endpoint._on_persisted,
    PersistFailed: Endpoint._on_persisted,
    DeclareCompromised: Endpoint._on_declare,
}
