"""The ways of one link: where its peer was heard, which of them answer, and which one is used.

A *way* is a path with an id of its own, so that the connection ids seen on one path cannot be
linked to those on another. A way is *validated* when the peer repeated our PATH_CHALLENGE from it
(PROTOCOL.md "Paths"); before that at most three times what came from it is sent there.

Rules: nothing is decided here about when to ask or to move; numbers are kept, limits are kept to.
Left to others: when to ask and to move (`core.roaming`, `core.ports`), where the peer is
(`core.whereabouts`), the packets (`core.outbound`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from attrs import define

from clawchat.core.config import CHALLENGE_LIFE, PATH_IDS_AHEAD, PATH_IDS_BEHIND, Entropy
from clawchat.core.credential import Path
from clawchat.core.crypto.packets import OVERHEAD
from clawchat.core.instant import Instant
from clawchat.core.recovery.path_mtu import FLOOR
from clawchat.core.recovery.rtt import INITIAL_RTT_NS
from clawchat.core.wire import frames
from clawchat.core.wire.frames import PATH_TOKEN_SIZE

WAYS_MAX: Final = 32  # 16 candidates and as many addresses from which a roaming peer was heard
AMPLIFICATION: Final = 3  # times what came from an address that is not validated (RFC 9000 8)
CANDIDATE_CREDIT: Final = 400  # bytes that a named address is worth before it was heard
CHALLENGES_MAX: Final = 4  # answers owed to PATH_CHALLENGEs; a peer that sends more gets the last


@define(eq=False)
class Way:
    """One path. `id` is what its connection ids are made from; byte counts are of datagrams."""

    path: Path
    id: int
    validated: bool = False
    token: bytes = b""
    token_at: Instant = 0  # when it was made
    challenged_at: Instant | None = None
    round_trip: Instant | None = None  # as its last answered challenge tells
    heard_at: Instant = 0
    received: int = 0
    sent: int = 0

    def awaits(self, now: Instant) -> bool:
        """Whether an answer to its token still counts."""
        return bool(self.token) and now - self.token_at < CHALLENGE_LIFE

    def answered_after(self, now: Instant) -> Instant:
        """The round trip, when the answer to its token comes now.

        Which of the challenges with this token it answers cannot be told. The last one would make
        the round trip too short, and with it every timeout; the first one too long, when it was
        lost: no longer than what is assumed of a path that was never measured.
        """
        assert self.challenged_at is not None
        return max(now - self.challenged_at, min(now - self.token_at, INITIAL_RTT_NS))

    def may_send(self, size: int) -> bool:
        """Whether `size` more bytes keep to the amplification limit."""
        return self.validated or self.sent + size <= AMPLIFICATION * self.received


class Paths:
    """All ways of a link; `active` is the one that carries data."""

    __slots__ = (
        "_answers",
        "_asking",
        "_confirmed",
        "_entropy",
        "_highest",
        "_made",
        "_ways",
        "active",
    )

    def __init__(self, first: Path, entropy: Entropy) -> None:
        self._entropy = entropy
        self._answers: deque[tuple[Way, bytes]] = deque(maxlen=CHALLENGES_MAX)
        self._asking: dict[Way, bool] = {}  # to be challenged, in order; whether at full size
        self.begin_at(first, validated=True)

    def begin_at(self, first: Path, *, validated: bool) -> None:
        """The link begins here; `validated`: whether the peer proved already that it is there."""
        self.active = Way(first, 0, validated=validated)
        self._ways = {first: self.active}
        self._confirmed = 0  # the highest id of which we know that the peer has seen it
        self._highest = 0  # the highest id that any way ever had
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

    # --- asking and answering -----------------------------------------------------------------

    def ask(self, way: Way, *, fully: bool = False) -> None:
        """Ask on `way` whether the peer is there; `fully`: so that it may answer at length, if its
        address is proved.
        """
        self._asking[way] = fully

    def asked(self, way: Way, token: bytes) -> None:
        """The peer asks on `way`: it is owed an answer there."""
        answer = way, token
        if answer not in self._answers:  # each copy on a trial asks the same
            self._answers.append(answer)

    def probes(self, now: Instant) -> Iterator[tuple[Way, bytes]]:
        """What is to be asked and answered: frames for one packet on the way that each is about.

        One packet a way and a call at most, and none beyond what the way may be sent.
        """
        said: dict[Way, list[bytes]] = {}
        while self._answers:
            way, token = self._answers.popleft()
            said.setdefault(way, []).append(frames.encode_path_response(token))
            if not way.validated:
                self._asking.setdefault(way, False)
        asking, self._asking = self._asking, {}
        for way in asking:
            token = self.challenge(way, now)
            said.setdefault(way, []).append(frames.encode_path_challenge(token))
        for way, parts in said.items():
            payload = b"".join(parts)
            if asking.get(way) and self.proved(way):
                payload += frames.padding(FLOOR - OVERHEAD - len(payload))
            if way.may_send(len(payload) + OVERHEAD) or self.proved(way):
                yield way, payload

    def challenge(self, way: Way, now: Instant) -> bytes:
        """The token to send on `way`; the same one until it is answered, or too old."""
        self.id_of(way)  # a token goes with an id
        if not way.awaits(now):
            way.token, way.token_at = self._entropy(PATH_TOKEN_SIZE), now
        way.challenged_at = now
        return way.token

    def answered(self, token: bytes, now: Instant) -> Way | None:
        """The way whose challenge this answers; it is validated now."""
        for way in self._ways.values():
            if way.token == token and way.awaits(now):
                way.validated, way.token = True, b""
                way.round_trip = way.answered_after(now)
                self._confirmed = max(self._confirmed, way.id)
                return way
        return None

    # --- which there are ----------------------------------------------------------------------

    def forget(self, is_of_no_use: Callable[[Way], bool]) -> None:
        """Such ways are neither challenged nor answered any more; never the one in use."""
        gone = [way for way in self if way is not self.active and is_of_no_use(way)]
        for way in gone:
            del self._ways[way.path]
            self._asking.pop(way, None)
        kept = [answer for answer in self._answers if answer[0] not in gone]
        self._answers = deque(kept, maxlen=CHALLENGES_MAX)

    def use(self, way: Way) -> None:
        """Data goes this way from now on."""
        self.active = way
        self._keep_apart()

    def id_of(self, way: Way) -> int:
        """The id under which a packet goes that way now: one that the peer can still read.

        It forgets those long before the highest it has seen, and packets overtake each other.
        """
        if way.id <= self._highest - (PATH_IDS_BEHIND - PATH_IDS_AHEAD):
            self._renew(way)
        return way.id

    def _renew(self, way: Way) -> None:
        way.id = self._take_id()
        way.token = b""  # an answer to it says nothing about the new id
        if way is self.active:
            self._keep_apart()

    def _keep_apart(self) -> None:
        """No other way has the id of the one in use, as those may that were tried at once."""
        for other in self:
            if other is not self.active and other.id == self.active.id:
                self._renew(other)

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
        while True:
            self._made += 1
            found = self._confirmed + 1 + self._made % (PATH_IDS_AHEAD - 1)
            if found != self.active.id:
                self._highest = max(self._highest, found)
                return found
