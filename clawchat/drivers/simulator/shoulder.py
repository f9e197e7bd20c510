"""A look over the core's shoulder, for what no public face shows: keys, epochs, phases.

Rules: this is the only file of the simulator that touches names with an underscore of the core.
It reads; what it replaces, `SealKeys.seal` and `Table.fire`, is replaced while a world runs and
does the same as before.
Left to others: what must hold of what is seen here (`invariants`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum
from hashlib import sha256
from types import TracebackType
from typing import Any, TypeAlias

from attrs import define, field, frozen

from clawchat.core.crypto.packets import EPOCH_PACKETS_MAX, SealKeys
from clawchat.core.endpoint import Endpoint
from clawchat.core.link import Link
from clawchat.core.phases import (
    answering,
    dialing,
    established,
    following_ports,
    rotating_keys,
    rotating_ports,
)
from clawchat.core.table import Fired, Signal, Table, Trace
from clawchat.drivers.simulator.host import Driven
from clawchat.drivers.simulator.replay import Recorder

RESTING: frozenset[Enum] = frozenset(
    {
        dialing.Phase.UP,
        dialing.Phase.FAILED,
        answering.Phase.SETTLED,
        answering.Phase.LAPSED,
        established.Phase.LIVE,
        established.Phase.ASLEEP,
        established.Phase.CLOSED,
        rotating_keys.DialerPhase.STEADY,
        rotating_keys.ListenerPhase.STEADY,
        rotating_ports.Phase.STEADY,
        rotating_ports.Phase.OVERLAPPING,
        following_ports.Phase.STEADY,
    }
)
"""Phases in which nothing is awaited."""

_seal = SealKeys.seal
_fire = Table.fire
Row: TypeAlias = tuple[str, str, str, str]
"""Table, source phase, event, destination phase."""
Sealed: TypeAlias = list[bytes]
_Mark: TypeAlias = tuple[object, ...]


class NonceReused(AssertionError):
    """One key sealed one packet number twice."""


class _Seam:
    """Looks on while packets are sealed, from its `__enter__` on; one at a time."""

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        setattr(SealKeys, "seal", _seal)  # noqa: B010


@define(slots=False)
class Seals(_Seam):
    """Every key's packet numbers. Used as a context: what is sealed inside is noted.

    A key is named by its connection id for path 0, which only this key gives.
    """

    next_number: dict[bytes, int] = field(factory=dict)
    connection_ids: set[bytes] = field(factory=set)
    packets: int = 0

    def note(self, name: bytes, first: int, count: int) -> None:
        free_from = self.next_number.get(name, 0)
        if first < free_from:
            raise NonceReused(f"packet number {first} after {free_from - 1} with the same key")
        self.next_number[name] = first + count
        self.packets += count

    def __enter__(self) -> None:
        note, connection_ids = self.note, self.connection_ids

        def seal(keys: SealKeys, path_id: int, first_pn: int, payloads: Sequence[bytes]) -> Sealed:
            sealed = _seal(keys, path_id, first_pn, payloads)
            cid = sealed[0][:8]
            connection_ids.add(cid)
            note(cid if path_id == 0 else keys.cid(0), first_pn, len(sealed))
            if keys.sealed > EPOCH_PACKETS_MAX:
                raise NonceReused("more packets in one epoch than AES-GCM allows")
            return sealed

        setattr(SealKeys, "seal", seal)  # noqa: B010  # a seam, said in the rules


@define(slots=False)
class Contents(_Seam):
    """What sealed datagrams carry. Used as a context: what is sealed inside is noted.

    `carried`: a datagram's packet number and frames. Whoever looks takes it out.
    """

    carried: dict[bytes, tuple[int, bytes]] = field(factory=dict)

    def __enter__(self) -> None:
        carried = self.carried

        def seal(keys: SealKeys, path_id: int, first_pn: int, payloads: Sequence[bytes]) -> Sealed:
            sealed = _seal(keys, path_id, first_pn, payloads)
            carried.update(zip(sealed, enumerate(payloads, first_pn), strict=True))
            return sealed

        setattr(SealKeys, "seal", seal)  # noqa: B010  # a seam, said in the rules


@define(slots=False)
class Successions:
    """Which row of a machine followed which. Used as a context, as `Seals` is."""

    pairs: Counter[tuple[Row, Row]] = field(factory=Counter)
    _last: dict[int, tuple[object, Row]] = field(factory=dict)  # by id; kept, so that ids differ

    def __enter__(self) -> None:
        last, pairs = self._last, self.pairs

        def fire(
            table: Table[Any],
            model: Any,  # noqa: ANN401  # as in `Table`
            event: Signal,
            trace: Trace | None = None,
        ) -> Fired:
            source = model.phase
            fired = _fire(table, model, event, trace)
            if fired is Fired.TAKEN:
                row = table.name, source.name, type(event).__name__, model.phase.name
                before = last.get(id(model))
                if before is not None:
                    pairs[before[1], row] += 1
                last[id(model)] = model, row
            return fired

        setattr(Table, "fire", fire)  # noqa: B010  # a seam, said in the rules

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        setattr(Table, "fire", _fire)  # noqa: B010


@frozen
class LinkSight:
    """What one link looks like inside. `phases` of the handshake, the link's life, the ratchet.

    `asked`: the ratchet will run once more.
    `sends` are the connection ids that its packets bear, for each epoch and path that it keeps.
    """

    key: int
    id: int
    hash: bytes
    phases: tuple[Enum, ...]
    epochs: tuple[int, ...]
    newest_epoch: int
    root: bytes
    sends: tuple[bytes, ...]
    asked: bool = False


def sights(endpoint: Driven) -> Iterator[LinkSight]:
    """All links of an endpoint, answered HELLOs included. A fake has none."""
    return map(_sight, _links(endpoint))


def phases(endpoint: Driven) -> Iterator[tuple[int, tuple[Enum, ...]]]:
    """What `sights` says of phases, with the link's id, for much less work."""
    return ((link.id, _phases(link)) for link in _links(endpoint))


@define(slots=False)
class Memory:
    """Sights of one process's links as they were last, so that one is made only when it differs."""

    _seen: dict[int, tuple[Link, _Mark, LinkSight]] = field(factory=dict)

    def look(self, endpoint: Driven) -> list[tuple[LinkSight, bool]]:
        """As `sights`, each with whether it is not what it was at the last look."""
        links = _links(endpoint)
        found = []
        for link in links:
            mark, before = _mark(link), self._seen.get(id(link))
            if before is not None and before[1] == mark:
                found.append((before[2], False))
            else:
                sight = _sight(link)
                self._seen[id(link)] = link, mark, sight
                found.append((sight, True))
        if len(self._seen) > len(links):
            kept = {id(link) for link in links}
            self._seen = {key: seen for key, seen in self._seen.items() if key in kept}
        return found


def _links(endpoint: Driven) -> list[Link]:
    if isinstance(endpoint, Recorder):
        endpoint = endpoint.inside
    if not isinstance(endpoint, Endpoint):
        return []
    return list(endpoint._links)


def _mark(link: Link) -> _Mark:
    """All that a sight is made of, so that equal marks mean equal sights.

    Keys are compared as objects: an epoch's connection ids never change.
    """
    ratchet, transport = link.ratchet, link.transport
    if ratchet is None or transport is None:
        return link.handshake.phase, link.life.phase, link.agreement
    model, epochs = ratchet.model, transport.epochs
    return (
        _phases(link),
        link.agreement,
        model.asked,
        model.epoch,
        b"" if model.root.wiped else model.root.reveal(),
        epochs.previous,
        epochs.current,
        epochs.newest,
        [way.id for way in transport.paths._ways.values()],
    )


def _phases(link: Link) -> tuple[Enum, ...]:
    begun = link.handshake.phase, link.life.phase
    ratchet = link.ratchet
    if ratchet is None or link.transport is None:
        return begun
    ports = link.upkeep.ports
    return (*begun, ratchet.model.phase, ports.move.phase, ports.follow.phase)


def _sight(link: Link) -> LinkSight:
    ratchet, transport = link.ratchet, link.transport
    name = b"" if link.agreement is None else link.agreement.handshake_hash
    if ratchet is None or transport is None:
        return LinkSight(id(link), link.id, name, _phases(link), (), -1, b"", ())
    model, epochs = ratchet.model, transport.epochs
    kept = {
        keys.epoch: keys
        for keys in (epochs.previous, epochs.current, epochs.newest)
        if keys is not None
    }
    ways = {way.id for way in transport.paths}
    root = b"" if model.root.wiped else sha256(model.root.reveal()).digest()
    return LinkSight(
        id(link),
        link.id,
        name,
        _phases(link),
        tuple(sorted(kept)),
        model.epoch,
        root,
        tuple(keys.seal.cid(way) for keys in kept.values() for way in ways),
        model.asked,
    )


def keys_left(endpoint: Driven, file_id: bytes) -> tuple[list[str], set[int]]:
    """Of a pairing: what is not wiped besides packet keys, and which links have those."""
    if isinstance(endpoint, Recorder):
        endpoint = endpoint.inside
    if not isinstance(endpoint, Endpoint):
        return [], set()
    registry = endpoint._registry
    found = ["pairing"] * (file_id in registry.pairings)
    found += ["hint" for owner, _ in registry.hints.values() if owner == file_id]
    found += ["write" for _, pairing in registry.saving.values() if pairing.file_id == file_id]
    packets: set[int] = set()
    for link in endpoint._links:
        if link.file_id == file_id:
            if link.transport is not None:
                packets.add(link.id)
            found += _secrets_left(link)
    return found, packets


def _secrets_left(link: Link) -> Iterator[str]:
    if link.ratchet is not None:
        yield "ratchet"
    if link.agreement is not None and not link.agreement.root.wiped:
        yield "root"
    machine = link.handshake
    if isinstance(machine, dialing.Dialing):
        known = machine.pairing.credentials
    else:
        known = (machine.used, machine.next_credential)
    for credential in known:
        if not (credential.psk.wiped and credential.envelope_key.wiped):
            yield f"generation {credential.generation}"


def fates(endpoint: Driven) -> Iterator[tuple[str, bool, bool]]:
    """Of each link: how far its destruction is, and of its path: in use, and validated."""
    for link in _links(endpoint):
        undoing, transport = link.undoing, link.transport
        yield (
            "" if undoing is None else undoing.model.phase.name,
            transport is not None,
            transport is not None and transport.paths.active.validated,
        )


def issuing(endpoint: Driven) -> tuple[Enum, int]:
    """Where the issuing of bootstrap files stands, and how many of them are live."""
    if isinstance(endpoint, Recorder):
        endpoint = endpoint.inside
    assert isinstance(endpoint, Endpoint)
    return endpoint._issuing.model.phase, len(endpoint._issuing.model.live)
