"""Runs the machines *rotating ports* and *following ports* of one link.

Rules: every check of a peer's message comes before a machine is fired; the path in use changes
only when the peer has answered on the new one, and nothing else about the link does.
Left to others: the rows (`core.phases.rotating_ports`, `core.phases.following_ports`), sockets
(drivers), finding a peer that was lost (`core.roaming`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, assert_never

from clawchat.core.actions import ClosePort, OpenPort, PathChanged, PortKept, PortRotated
from clawchat.core.config import (
    MOVE_AGAIN,
    MOVE_FAILURES,
    MOVE_LASTS,
    MOVE_PATIENCE,
    OVERLAP_LASTS,
    PROBE_FIRST,
    PROBE_MAX,
    Config,
    Entropy,
)
from clawchat.core.credential import Address, Path
from clawchat.core.instant import SECOND, Instant
from clawchat.core.paths import Way
from clawchat.core.phases import following_ports, rotating_ports
from clawchat.core.phases.commands import (
    CloseNewPort,
    CloseOldPorts,
    EndPunching,
    KeepPort,
    PortMoved,
    PunchPeer,
    PunchPort,
    PutOffMove,
    SendControl,
    UseNewPort,
    WantSocket,
)
from clawchat.core.phases.following_ports import Follow
from clawchat.core.phases.rotating_ports import Move, MoveCommand
from clawchat.core.registry import Registry
from clawchat.core.table import Signal, Trace
from clawchat.core.timers import Timer
from clawchat.core.transport import Transport
from clawchat.core.wire.control import PORT_CANDIDATES_MAX, PortRotate
from clawchat.errors import CloseCode, Violation

ANNOUNCE_EVERY: Final = SECOND  # an honest mover needs 5 s before it can tell of another port
LOST: Final = "the peer does not answer at all just now"


class Ports:
    """The ports of one link's two ends. `timers` is the link's own.

    `rotate_keys` is what a move that failed does instead; `left` is told of a local address that
    is about to be closed, and of the one in its place.
    """

    __slots__ = (
        "_config",
        "_deaf_until",
        "_entropy",
        "_failures",
        "_held",
        "_left",
        "_link",
        "_punch_ns",
        "_registry",
        "_rotate_keys",
        "_timers",
        "_told",
        "_trace",
        "_transport",
        "follow",
        "move",
        "moves",
    )

    def __init__(
        self,
        link: int,
        transport: Transport,
        timers: dict[Timer, Instant],
        registry: Registry[Any],
        *,
        dialer: bool,
        rotate_keys: Callable[[Instant], None],
        left: Callable[[Address, Address], None],
        config: Config,
        entropy: Entropy,
        trace: Trace | None,
    ) -> None:
        self.move = Move(dialer, entropy)
        self.follow = Follow()
        self.moves = 0  # how often we changed our port
        self._link = link
        self._transport = transport
        self._timers = timers
        self._registry = registry
        self._rotate_keys = rotate_keys
        self._left = left
        self._config = config
        self._entropy = entropy
        self._trace = trace
        self._held: dict[Address, None] = {}  # sockets that a move of ours has left or opened
        self._punch_ns = PROBE_FIRST
        self._failures = 0  # in a row
        self._told = 0  # moves that the peer has told of
        self._deaf_until: Instant = 0

    # --- what makes it run --------------------------------------------------------------------

    def start_clock(self, now: Instant) -> None:
        """A port is kept for an hour at most; far longer where the network never let us move."""
        latest = self._config.rotate_ports_ns
        if latest:
            share = int.from_bytes(self._entropy(4), "big") * latest // (5 * 2**32)
            patience = 1 if self._failures < MOVE_FAILURES else MOVE_PATIENCE
            self._timers[Timer.PORT] = now + patience * (latest - latest // 10 + share)

    def ask(self, now: Instant, *, live: bool) -> None:
        """The user wants another port."""
        if not live:
            self._transport.notices.append(PortKept(LOST))
        elif self.is_following:
            self._timers[Timer.PORT] = now + MOVE_LASTS  # one side at a time
        else:
            self._fire(rotating_ports.PortAsked(now, self._local), now)

    def due(self, now: Instant, *, live: bool) -> None:
        """Time says so."""
        if self.is_following:
            self._timers[Timer.PORT] = now + MOVE_AGAIN
        elif live and self.move.phase is rotating_ports.Phase.STEADY:
            self._fire(rotating_ports.PortDue(now, self._local), now)
        else:
            self.start_clock(now)

    def opened(self, local: Address, candidates: tuple[Address, ...], now: Instant) -> None:
        """The driver has the socket; one that is not wanted any more is given back."""
        if local in self._held:
            return  # it was said before
        if not self._is_wanted(local):
            self._registry.out.append(ClosePort(self._link, local))
            return
        self._held[local] = self._transport.whereabouts.between[local] = None  # whoever comes there
        self._fire(rotating_ports.SocketOpened(now, candidates[:PORT_CANDIDATES_MAX]), now)

    def refused(self, local: Address, now: Instant) -> None:
        """The driver does not have it."""
        if self._is_wanted(local):
            self._fire(rotating_ports.SocketRefused(now), now)

    def _is_wanted(self, local: Address) -> bool:
        return self.move.phase is rotating_ports.Phase.OPENING and local == self.move.wanted

    def lost(self, now: Instant) -> None:
        """Nothing is answered on the path in use."""
        self._fire(rotating_ports.LinkLost(now), now)
        self._fire_follow(following_ports.PeerLost(now), now)

    def punch_due(self, now: Instant) -> None:
        """The new path was not answered yet."""
        if self.is_following:
            self._fire_follow(following_ports.PunchAgain(now), now)
        else:
            self._fire(rotating_ports.PunchDue(now), now)

    def lapsed(self, now: Instant) -> None:
        """It was not answered in time."""
        if self.is_following:
            self._fire_follow(following_ports.FollowLapsed(now), now)
        else:
            self._fire(rotating_ports.MoveLapsed(now), now)

    def overlap_over(self, now: Instant) -> None:
        """The old port has been kept for long enough."""
        self._fire(rotating_ports.OverlapOver(now), now)

    # --- the peer -----------------------------------------------------------------------------

    @property
    def is_following(self) -> bool:
        """Whether the peer is on its way to another port."""
        return self.follow.phase is following_ports.Phase.FOLLOWING

    def take(self, message: PortRotate, now: Instant) -> None:
        """The peer moves. Raises `Violation`."""
        if message.sequence != self._told + 1:
            raise Violation(CloseCode.FRAME, "a move was left out, or told of twice")
        self._told = message.sequence
        if now < self._deaf_until:
            return
        self._deaf_until = now + ANNOUNCE_EVERY
        self._fire(rotating_ports.PeerMoves(now), now)
        if self.move.phase in (rotating_ports.Phase.OPENING, rotating_ports.Phase.MOVING):
            return  # ours goes first; the peer gives its own up when it hears of it
        there = self._transport.path.remote
        here = Address(there.host, message.port)
        if there == here:
            return  # its data was faster than its word, which was lost at first
        addresses = tuple(dict.fromkeys((here, *message.candidates)))
        self._transport.paths.forget(self._is_stale)
        self._fire_follow(following_ports.PeerAnnounced(now, addresses), now)

    def _is_stale(self, way: Way) -> bool:
        """Whether it leads to a port that the peer has left or never came to."""
        return way.path.remote.host == self._transport.path.remote.host

    @property
    def is_met(self) -> bool:
        """Whether the peer answered a challenge from the new socket."""
        return self.move.phase is rotating_ports.Phase.MOVING and self._proved is not None

    def heard(self, now: Instant) -> None:
        """It just did."""
        self._fire(rotating_ports.MoveProved(now), now)

    @property
    def _proved(self) -> Way | None:
        """From the new socket, to wherever the peer answered: its NAT may show it elsewhere."""
        ways, local = self._transport.paths, self.move.wanted
        return next((way for way in ways if way.validated and way.path.local == local), None)

    def met(self, now: Instant) -> None:
        """Data goes to another address of the peer from now on."""
        if self.is_following:
            self._fire_follow(following_ports.PeerMet(now), now)

    # --- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """The link is over: its sockets are not needed any more."""
        self._registry.out += [ClosePort(self._link, local) for local in self._held]
        self._held.clear()

    # --- what it makes happen -----------------------------------------------------------------

    @property
    def _local(self) -> Address:
        return self._transport.path.local

    def _fire(self, event: Signal, now: Instant) -> None:
        rotating_ports.TABLE.fire(self.move, event, self._trace)
        commands, self.move.out = self.move.out, []
        for command in commands:
            self._obey(command, now)

    def _fire_follow(self, event: Signal, now: Instant) -> None:
        started = isinstance(event, following_ports.PeerAnnounced)
        following_ports.TABLE.fire(self.follow, event, self._trace)
        if started:
            self._begin(now)
        self._transport.whereabouts.was_told = self.is_following
        commands, self.follow.out = self.follow.out, []
        for command in commands:
            match command:
                case PunchPeer(addresses):
                    v6 = ":" in self._local.host
                    remotes = (address for address in addresses if (":" in address.host) is v6)
                    for remote in remotes:
                        self._challenge(Path(self._local, remote))
                    self._punch_later(now)
                case EndPunching():
                    self._stop()
                case _:
                    assert_never(command)

    def _obey(self, command: MoveCommand, now: Instant) -> None:
        transport = self._transport
        match command:
            case WantSocket(local):
                self._begin(now)
                self._timers.pop(Timer.PORT, None)
                self._registry.out.append(OpenPort(self._link, local))
            case SendControl(message):
                transport.send_control(message)
            case PunchPort():
                self._challenge(Path(self.move.wanted, transport.path.remote))
                self._punch_later(now)
            case UseNewPort():
                self._use_new_port(now)
            case PortMoved(local, took_ns):
                self.moves += 1
                transport.notices.append(PortRotated(local, took_ns))
            case CloseNewPort():
                self._stop()
                self._close(self.move.wanted)
            case CloseOldPorts():
                for local in [held for held in self._held if held != self._local]:
                    self._close(local)
            case KeepPort(why, failed):
                transport.notices.append(PortKept(why))
                if failed:
                    self._give_up(now)
            case PutOffMove():
                self._stop()
                self._timers[Timer.PORT] = now + MOVE_AGAIN
            case _:
                assert_never(command)

    def _use_new_port(self, now: Instant) -> None:
        way = self._proved
        assert way is not None
        self._stop()
        self._held[self._local] = None
        self._transport.whereabouts.between[self._local] = self._transport.path.remote
        self._transport.whereabouts.between.pop(way.path.local, None)
        self._timers[Timer.OVERLAP] = now + OVERLAP_LASTS
        self._failures = 0
        self.start_clock(now)
        self._transport.move_gently(way)
        self._transport.notices.append(PathChanged(way.path))

    def _give_up(self, now: Instant) -> None:
        """Keys and connection ids change in its place."""
        self._stop()
        self._failures += 1
        self.start_clock(now)
        self._rotate_keys(now)

    def _close(self, local: Address) -> None:
        self._held.pop(local, None)
        self._transport.whereabouts.left(local)
        self._transport.paths.forget(lambda way: way.path.local == local)
        self._left(local, self._local)
        self._registry.out.append(ClosePort(self._link, local))

    # --- punching -----------------------------------------------------------------------------

    def _begin(self, now: Instant) -> None:
        self._punch_ns = PROBE_FIRST
        self._timers[Timer.MOVE] = now + MOVE_LASTS

    def _challenge(self, path: Path) -> None:
        self._transport.paths.ask(self._transport.paths.candidate(path))

    def _punch_later(self, now: Instant) -> None:
        self._timers[Timer.PUNCH] = now + self._punch_ns
        self._punch_ns = min(2 * self._punch_ns, PROBE_MAX)

    def _stop(self) -> None:
        """Nothing is awaited any more."""
        self._timers.pop(Timer.PUNCH, None)
        self._timers.pop(Timer.MOVE, None)
