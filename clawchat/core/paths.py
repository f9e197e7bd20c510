"""The ways of one link: where its peer was heard, which of them answer, and which one is used.

A *way* is a path with an id of its own, so that the connection ids seen on one path cannot be
linked to those on another. A way is *validated* when the peer repeated our PATH_CHALLENGE from it
(PROTOCOL.md "Paths"); before that at most three times what came from it is sent there.

A *trial* is a way from which the peer was heard last and to which nothing has moved yet.

Rules: nothing is decided here about when to move; numbers are kept, limits are kept to.
Left to others: when to probe and to move (`core.link`), the packets (`core.transport`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from attrs import define

from clawchat.core.config import PATH_IDS_AHEAD, PATH_IDS_BEHIND, Entropy
from clawchat.core.credential import Path
from clawchat.core.instant import Instant
from clawchat.core.wire.frames import PATH_TOKEN_SIZE

WAYS_MAX: Final = 32  # 16 candidates and as many addresses from which a roaming peer was heard
AMPLIFICATION: Final = 3  # times what came from an address that is not validated (RFC 9000 8)
CANDIDATE_CREDIT: Final = 400  # bytes that a named address is worth before it was heard


@define(eq=False)
class Way:
    """One path. `id` is what its connection ids are made from; byte counts are of datagrams."""

    path: Path
    id: int
    validated: bool = False
    token: bytes = b""
    challenged_at: Instant | None = None
    heard_at: Instant = 0
    received: int = 0
    sent: int = 0

    def may_send(self, size: int) -> bool:
        """Whether `size` more bytes keep to the amplification limit."""
        return self.validated or self.sent + size <= AMPLIFICATION * self.received


@define(eq=False)
class Trial:
    """A way that may be the peer's new one. Bytes that came from it, and went to it, since then.

    A copy of what is sent goes there as well, so that nobody waits for a proof: but never more than
    three times what came, proved or not, since whoever copies packets can make a trial of any
    address.
    """

    way: Way
    came: int = 0
    went: int = 0

    @property
    def room(self) -> int:
        """Bytes of copies that may still go there."""
        return AMPLIFICATION * self.came - self.went

    def takes(self, size: int) -> bool:
        """Whether a datagram of this size may go there."""
        return size <= self.room and self.way.may_send(size)


class Paths:
    """All ways of a link; `active` is the one that carries data."""

    __slots__ = ("_confirmed", "_entropy", "_made", "_ways", "active")

    def __init__(self, first: Path, entropy: Entropy, *, validated: bool = True) -> None:
        """`validated`: whether the peer proved already that it is at the other end of `first`."""
        self._entropy = entropy
        self.active = Way(first, 0, validated=validated)
        self._ways = {first: self.active}
        self._confirmed = 0  # the highest id of which we know that the peer has seen it
        self._made = 0

    def __len__(self) -> int:
        return len(self._ways)

    def __iter__(self) -> Iterator[Way]:
        return iter(tuple(self._ways.values()))

    def heard(self, path: Path, size: int) -> Way:
        """`size` authenticated bytes came from `path`."""
        way = self._ways.get(path) or self._add(path)
        way.received += size
        return way

    def candidate(self, path: Path) -> Way:
        """A path that the user or the peer named: it may be probed without having been heard."""
        way = self._ways.get(path) or self._add(path)
        way.received = max(way.received, CANDIDATE_CREDIT)
        return way

    def proved(self, way: Way) -> bool:
        """Whether the peer was ever proved to be at this remote address, over whatever socket."""
        remote = way.path.remote
        return any(other.validated and other.path.remote == remote for other in self)

    def challenge(self, way: Way, now: Instant) -> bytes:
        """The token to send on `way`; the same one until it is answered."""
        if not way.token:
            way.token = self._entropy(PATH_TOKEN_SIZE)
        way.challenged_at = now
        return way.token

    def answered(self, token: bytes) -> Way | None:
        """The way whose challenge this answers; it is validated now."""
        for way in self._ways.values():
            if way.token and way.token == token:
                way.validated, way.token = True, b""
                self._confirmed = max(self._confirmed, way.id)
                return way
        return None

    def forget(self, is_of_no_use: Callable[[Way], bool]) -> None:
        """Such ways are challenged no more; never the one in use."""
        for way in self:
            if way is not self.active and is_of_no_use(way):
                del self._ways[way.path]

    def use(self, way: Way) -> None:
        """Data goes this way from now on."""
        if way.id + PATH_IDS_BEHIND <= self._confirmed:  # it was left long ago
            way.id = self._take_id()
        self.active = way

    def _add(self, path: Path) -> Way:
        while len(self._ways) >= WAYS_MAX:
            oldest = next(way for way in self._ways.values() if way is not self.active)
            del self._ways[oldest.path]
        way = self._ways[path] = Way(path, self._take_id())
        return way

    def _take_id(self) -> int:
        """One of the ids that the peer can read: it keeps a few beyond the highest it has seen.

        With many candidates at once some share an id; none shares it with the way in use.
        """
        self._made += 1
        return self._confirmed + 1 + self._made % (PATH_IDS_AHEAD - 1)
