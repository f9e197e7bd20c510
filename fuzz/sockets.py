"""What a driver and the network know of one link's ports and paths, for `fuzz.session`.

What must hold, whatever the peer says and the driver answers:
- a socket that the link asks for has a port of the dynamic range that it did not use lately; each
  one that it got is given back, and nothing leaves from a socket that is closed;
- at most one port is left over beside the one in use, for 30 s at most, and none after the link;
- PORT_ROTATE counts from 1 and names the socket that was opened, and only what the driver said;
- the peer knows every path id at sight, and none is both of the path in use and of another.

Rules: told what was asked, answered and sent, never what the endpoint thinks.
Left to others: who answers what and when (`fuzz.session`).
"""

from __future__ import annotations

from typing import Final

from attrs import define, field

from clawchat.core.actions import ClosePort, OpenPort
from clawchat.core.config import OVERLAP_LASTS, PATH_IDS_AHEAD, PATH_IDS_BEHIND
from clawchat.core.credential import Address, Path
from clawchat.core.instant import Instant
from clawchat.core.phases.rotating_ports import PORT_FROM, RECENT_PORTS
from clawchat.core.wire import frames
from clawchat.core.wire.control import PORT_CANDIDATES_MAX, PortRotate
from fuzz.puppet import FIRST, OURS, Heard

LENT_MAX: Final = 2  # the port in use and one that is left, or tried
LAST_WORDS: Final = (frames.Close, frames.Compromised, frames.CompromisedAck)
PROBES: Final = (frames.PathChallenge, frames.PathResponse)


@define
class Sockets:
    """The sockets of one link. `listens`: credentials name the first, so it is never closed."""

    listens: bool = False
    open: dict[Address, None] = field(factory=lambda: {OURS: None})
    lent: dict[Address, tuple[Address, ...]] = field(factory=dict)
    """Those that the link asked for and got, with the addresses at which each is reached."""
    asked: list[Address] = field(factory=list)  # and not answered yet
    answered: list[Address] = field(factory=list)
    used: list[int] = field(factory=lambda: [OURS.port])
    leaving: dict[Address, Instant] = field(factory=dict)  # until when it may be open
    moves: int = 0  # that the endpoint told of
    in_use: Path = FIRST
    id_in_use: int = 0
    highest: int = 0  # path id that was seen
    confirmed: int = 0  # path id of which the endpoint may know that it was seen
    tokens: dict[bytes, tuple[Path, int]] = field(factory=dict)  # challenges of the endpoint

    def at(self, which: int) -> Address:
        """One of the open sockets; 0 is the oldest."""
        return list(self.open)[which % len(self.open)] if self.open else OURS

    # --- the driver -----------------------------------------------------------------------------

    def ask(self, action: OpenPort) -> None:
        """The link wants a socket."""
        local = action.local
        assert local.host == OURS.host
        assert PORT_FROM <= local.port <= 0xFFFF
        assert local.port not in self.used[-RECENT_PORTS:], "a port that it had lately"
        self.asked.append(local)

    def to_answer(self, which: int) -> Address:
        """A socket that the driver has something to say about, asked for or not."""
        known = self.asked if which % 4 < 2 else self.answered
        if which % 4 == 3 or not known:
            return Address(OURS.host, 40_000 + which)
        return known[-1] if which % 2 == 0 else known[0]

    def answer(self, local: Address) -> None:
        """The driver says what became of `local`."""
        self.asked = [other for other in self.asked if other != local]
        self.answered.append(local)

    def lend(self, local: Address, candidates: tuple[Address, ...]) -> None:
        """It is open, for this link."""
        if local not in self.open:
            self.open[local] = None
            self.lent[local] = candidates[:PORT_CANDIDATES_MAX]

    def close(self, action: ClosePort) -> None:
        """The link does not need it any more."""
        assert action.local in self.open, "given back twice, or never had"
        self.drop(action.local)

    def drop(self, local: Address) -> None:
        """The driver closes it."""
        self.lent.pop(local, None)
        self.leaving.pop(local, None)
        if local != OURS or not self.listens:
            self.open.pop(local, None)

    # --- what the endpoint does -----------------------------------------------------------------

    def send(self, path: Path) -> None:
        """Datagrams leave."""
        assert path.local in self.open, "from a socket that is closed"

    def tell(self, message: PortRotate) -> None:
        """PORT_ROTATE."""
        self.moves += 1
        assert message.sequence == self.moves
        here = Address(OURS.host, message.port)
        assert here in self.answered, "a port that nobody opened"
        assert message.candidates == self.lent.get(here, message.candidates)

    def move(self, local: Address, now: Instant) -> None:
        """The application is told that the port was changed."""
        assert local in self.lent
        self.used.append(local.port)
        if self.in_use.local != local:
            self.leaving[self.in_use.local] = now + OVERLAP_LASTS

    def hear(self, heard: Heard) -> None:
        """A packet of the endpoint."""
        path, path_id = heard.path, heard.path_id
        assert path_id < self.confirmed + PATH_IDS_AHEAD, "a path id that the peer cannot know"
        assert path_id >= self.highest - PATH_IDS_BEHIND, "a path id that the peer has forgotten"
        self.highest = max(self.highest, path_id)
        for frame in heard.frames:
            if isinstance(frame, frames.PathChallenge):
                self.tokens[frame.token] = path, path_id
        kinds = {type(frame) for frame in heard.frames}
        if kinds.isdisjoint(PROBES) and kinds.isdisjoint(LAST_WORDS):
            self.in_use, self.id_in_use = path, path_id
            self.leaving.pop(path.local, None)
        elif kinds.isdisjoint(LAST_WORDS) and path != self.in_use:
            assert path_id != self.id_in_use, "the id of the path in use, on another"

    def answer_reaches(self, token: bytes) -> Address | None:
        """The peer repeats a token: it proves an address, and that it saw an id."""
        found = self.tokens.get(token)
        if found is None:
            return None
        path, path_id = found
        self.confirmed = max(self.confirmed, path_id)
        return path.remote

    # --- what must hold -------------------------------------------------------------------------

    def look(self, now: Instant, *, over: bool, gone: bool) -> None:
        """After every step. `over`: the link is not used any more, `gone`: nor is it remembered."""
        assert len(self.lent) <= LENT_MAX, "more than one port is left over"
        assert over or all(now < until for until in self.leaving.values()), "an old port is kept"
        assert not (gone and self.lent), "a socket of a link that is gone"
