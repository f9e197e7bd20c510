"""The crank of every driver: sockets in, core, sockets out. It never waits.

A driver (`on_trio`, `on_asyncio`, `blocking`) is a loop around this: when a socket is readable,
`receive`; when `wait_seconds` is over, or after `handle`, `turn`; when a socket that `backlog`
names is writable, `resume`.

Rules: every call reads the clock anew, so nothing looks late that is not; events go before
timers that are due; actions are done in the order given.
Left to others: waiting, threads for files, the application (a `Host`).
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import time_ns
from typing import Final, Protocol

from clawchat.core.actions import (
    Closed,
    ClosePort,
    Compromised,
    Destroy,
    DestroyIdentity,
    Established,
    HopPort,
    LinkStats,
    Notice,
    Notify,
    OpenPort,
    Persist,
    Publish,
    Transmit,
    Withdraw,
)
from clawchat.core.config import Config
from clawchat.core.credential import Address, Path
from clawchat.core.endpoint import Endpoint
from clawchat.core.events import (
    Close,
    Consumed,
    Dial,
    Disturbed,
    Event,
    PortOpened,
    PortRefused,
)
from clawchat.core.instant import MILLISECOND, SECOND, Instant
from clawchat.drivers import clock
from clawchat.drivers.network import Watch
from clawchat.drivers.ports import PortBook
from clawchat.drivers.scrub import scrub
from clawchat.drivers.sockets import UdpSocket
from clawchat.errors import Drop, UnknownLink

BURST: Final = 64  # system calls of one `receive`: then acknowledgements and others get a turn
ACTIONS_MAX: Final = 1024  # of one `receive`: a datagram of tiny frames can make 30,000
BACKLOG_MAX: Final = 256  # batches waiting for one socket; what comes beyond is lost on the way
LATER: Final = 1 << 63  # an instant that never comes
WAIT_SECONDS_MAX: Final = 10.0  # without links there is little to look after
LOOK_SECONDS_MAX: Final = 1.0  # with links: looks at the clock this often, to notice suspend
SLEPT_MIN: Final = SECOND  # in suspend: the network may be another one now
SETTLE: Final = 100 * MILLISECOND  # a change of network comes in several messages
DISTURB_EVERY: Final = SECOND  # a system whose network never rests must not keep links busy
SOCKETS_MAX: Final = 4  # of one family that are opened because a path was lost


class Host(Protocol):
    """What a driver does with everything that is not a datagram."""

    def notify(self, link: int, notice: Notice) -> None:
        """Tell the application."""

    def persist(self, action: Persist) -> None:
        """See that it is made durable and that `Persisted` or `PersistFailed` follows."""

    def publish(self, action: Publish | Withdraw) -> None:
        """See that the bootstrap file is written or removed, in this order."""

    def destroy(self, action: Destroy | DestroyIdentity) -> None:
        """See that what is kept on disk is overwritten and removed, after every write before."""

    def listen(self, sock: UdpSocket) -> None:
        """One more socket: call `receive` when it is readable."""

    def unlisten(self, sock: UdpSocket) -> None:
        """This one is about to be closed: wait for it no more."""


class Engine:
    """An endpoint, its sockets and what waits to be sent."""

    def __init__(
        self,
        config: Config,
        sockets: Sequence[UdpSocket],
        host: Host,
        *,
        entropy: Callable[[int], bytes] = os.urandom,
        watch: Watch | None = None,
        open_socket: Callable[[Address], UdpSocket] = UdpSocket,
    ) -> None:
        """`watch`, when it is readable, is for `network_changed`; it is closed by `close`."""
        self.sockets: Final = {sock.address: sock for sock in sockets}
        self.watch: Final = watch
        self.links: Final[dict[int, None]] = {}  # dialled or established, and not over
        self.backlog: Final[dict[UdpSocket, deque[Transmit]]] = {}
        self.credit_step: Final = min(config.limits.max_stream, config.limits.max_data) // 8
        self.due: Instant = LATER  # when `turn` must be called; set by every turn
        self.overflowed = 0  # batches lost because a socket was blocked for long
        self._host = host
        self._open_socket = open_socket
        self._book = PortBook(self.sockets)
        self._looked = clock.now()
        self._slept = clock.slept()
        self._disturb_at: Instant = LATER
        self._disturbed_at: Instant = self._looked - DISTURB_EVERY
        self._turning = False
        self._news = False  # whether events came since the last actions
        self._credit = 0  # bytes consumed since the last turn
        self._destroyed = False  # whether a pairing was, in this turn
        self._endpoint = Endpoint(config, now=clock.now(), unix_ns=time_ns(), entropy=entropy)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the sockets are bound that are not there for one link alone."""
        return self._book.lent

    @property
    def static(self) -> bytes:
        """Our X25519 public key."""
        return self._endpoint.static

    @property
    def drops(self) -> Counter[Drop]:
        """How many datagrams were dropped, by reason."""
        return self._endpoint.drops

    def link_stats(self, link: int) -> LinkStats:
        """A snapshot of one link."""
        return self._endpoint.link_stats(link)

    def handle(self, event: Event) -> None:
        """Give the core an event; `turn` must follow soon. Raises a `LocalError`."""
        self._endpoint.handle(event, clock.now())
        self._news = True
        self._book.handled(event)
        if type(event) is Dial:
            self.links[event.link] = None

    def consumed(self, event: Consumed) -> bool:
        """As `handle`; False: `turn` may wait until something else makes it necessary.

        A window is announced anew when half of it is consumed. Half of one is four steps, so a
        peer that is out of credit is never left waiting.
        """
        self._endpoint.handle(event, clock.now())
        self._news = True
        self._credit += event.size
        return self._credit >= self.credit_step

    def network_changed(self) -> None:
        """The watch is readable: soon, every link finds out whether its path still works."""
        if self.watch is not None:
            self.watch.drain()
        if self._disturb_at == LATER:
            now = clock.now()
            self._disturb_at = max(now + SETTLE, self._disturbed_at + DISTURB_EVERY)
            self.due = min(self.due, self._disturb_at)

    def close_links(self) -> None:
        """Tell every peer that we are done; `links` empties as they are over."""
        for link in list(self.links):
            with suppress(UnknownLink):  # over in this very turn
                self.handle(Close(link))

    def receive(self, sock: UdpSocket) -> bool:
        """Drain `sock` and do what follows. True: there may be more, come back soon."""
        endpoint, now = self._endpoint, clock.now()
        more = True
        for _ in range(BURST):
            received = sock.receive(endpoint.may_be_ours)
            if received is None:
                more = False
                break
            endpoint.handle(received, now)
            if endpoint.waiting > ACTIONS_MAX:
                break
        self.turn()
        return more

    def turn(self) -> None:
        """Fire what is due and do all actions. Called from within itself it does nothing:
        what a notice led to is done before the turn ends.
        """
        if self._turning:
            return
        self._turning = True
        try:
            self._turn()
        finally:
            self._turning = False

    def _turn(self) -> None:
        self._credit = 0
        endpoint, now = self._endpoint, clock.now()
        self._look_around(now)
        if self.due <= now:
            endpoint.advance(now)
        self._news = True
        while self._news:
            self._news = False  # until a notice leads to an event
            for action in endpoint.actions(now):
                if isinstance(action, Transmit):
                    self._send(action)
                elif isinstance(action, Notify):
                    self._notify(action.link, action.notice)
                elif isinstance(action, Persist):
                    self._host.persist(action)
                elif isinstance(action, Destroy | DestroyIdentity):
                    self._host.destroy(action)
                elif isinstance(action, HopPort):
                    self._hop(action)
                elif isinstance(action, OpenPort):
                    self._open_port(action)
                elif isinstance(action, ClosePort):
                    self._close_port(action)
                else:
                    self._host.publish(action)
        if self._destroyed:
            self._destroyed = False
            scrub()
        deadline = endpoint.deadline
        self.due = self._disturb_at if deadline is None else min(deadline.at, self._disturb_at)

    def _look_around(self, now: Instant) -> None:
        """Comes before any timer: one that ran while this machine slept accuses no peer."""
        if now - self._looked >= SECOND // 2:
            self._looked = now
            slept, self._slept = self._slept, clock.slept()
            if self._slept - slept > SLEPT_MIN:
                self._disturb_at = now
        if self._disturb_at <= now:
            self._disturb_at, self._disturbed_at = LATER, now
            for link in self.links:
                with suppress(UnknownLink):
                    self._endpoint.handle(Disturbed(link), now)

    # --- another port -------------------------------------------------------------------------

    def _hop(self, action: HopPort) -> None:
        """Offer the link paths from new sockets: one for each family of its peer's addresses."""
        paths: list[Path] = []
        for v6 in sorted({_is_v6(remote) for remote in action.remotes}):
            sock = self._another_socket(v6)
            if sock is not None:
                remotes = (remote for remote in action.remotes if _is_v6(remote) == v6)
                paths += [Path(sock.address, remote) for remote in remotes]
        if paths:
            with suppress(UnknownLink):
                self.handle(Disturbed(action.link, tuple(paths)))

    def _another_socket(self, v6: bool) -> UdpSocket | None:
        family = [address for address in self.sockets if _is_v6(address) == v6]
        if not family:
            return None  # this machine lacks it
        if len(family) >= SOCKETS_MAX and not self._close_oldest(family):
            return None
        return self._opened(Address(family[0].host, 0))

    def _opened(self, address: Address) -> UdpSocket | None:
        try:
            sock = self._open_socket(address)
        except OSError:
            return None  # taken, or out of ports or descriptors: go on with what there is
        self.sockets[sock.address] = sock
        self._host.listen(sock)
        return sock

    def _close_oldest(self, family: list[Address]) -> bool:
        """Close one that nobody needs; False when there is none."""
        for address in family:
            if not self._book.is_needed(address):
                self._close_socket(address)
                return True
        return False

    def _close_socket(self, address: Address) -> None:
        sock = self.sockets.pop(address)
        self.backlog.pop(sock, None)
        self._host.unlisten(sock)
        sock.close()

    def _open_port(self, action: OpenPort) -> None:
        """A link moves: the port is drawn by the core, since it knows which it had lately."""
        link, local = action.link, action.local
        sock = self._opened(local) if self._book.has_room() else None
        answer = PortRefused(link, local) if sock is None else PortOpened(link, sock.address)
        if sock is not None:
            self._book.opened(link, sock.address)
        try:
            self.handle(answer)
        except UnknownLink:  # it ended in this very turn
            self._close_port(ClosePort(link, local))

    def _close_port(self, action: ClosePort) -> None:
        if self._book.left(action.link, action.local) and action.local in self.sockets:
            self._close_socket(action.local)

    def wait_seconds(self) -> float:
        """How long a driver may sleep after a `turn` before the next."""
        most = LOOK_SECONDS_MAX if self.links else WAIT_SECONDS_MAX
        return min(max(0.0, (self.due - clock.now()) / SECOND), most)

    def resume(self, sock: UdpSocket) -> None:
        """Send what waits for `sock`, which is writable again."""
        waiting = self.backlog.pop(sock, None)
        while waiting:
            action = waiting.popleft()
            self._send(action)
            if sock in self.backlog:  # it blocked again, and holds what was left of this one
                self.backlog[sock].extend(waiting)
                return

    def close(self) -> None:
        """Close the sockets. What still waits for one is dropped."""
        self.backlog.clear()
        if self.watch is not None:
            self.watch.close()
        for sock in self.sockets.values():
            sock.close()

    def _notify(self, link: int, notice: Notice) -> None:
        if isinstance(notice, Compromised):
            self._destroyed = True
        if isinstance(notice, Established):
            self.links[link] = None
        elif isinstance(notice, Closed):
            self.links.pop(link, None)
        self._book.noticed(link, notice)
        self._host.notify(link, notice)

    def _send(self, action: Transmit) -> None:
        sock = self.sockets.get(action.path.local)
        if sock is None:
            return  # its socket is gone: lost on the way
        waiting = self.backlog.get(sock)
        if waiting is not None:
            if len(waiting) < BACKLOG_MAX:
                waiting.append(action)
            else:
                self.overflowed += 1
            return
        datagrams = action.datagrams
        sent = sock.send(action.path.remote, datagrams)
        if sent < len(datagrams):
            self.backlog[sock] = deque((Transmit(action.path, datagrams[sent:]),))


def _is_v6(address: Address) -> bool:
    return ":" in address.host
