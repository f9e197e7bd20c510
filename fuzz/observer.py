"""What somebody on the way sees of shaped streams, for `fuzz.session` (PROTOCOL.md 11.2).

What must hold, whatever the peer says and the network does:
- what a shaped stream says leaves in cells: datagrams of one size, with a PING, and with nothing
  of any other stream; the copy of a cell is longer by its challenge;
- a burst ends on a step of the ladder, and while nothing is lost, its cells keep the beat;
- other words look the same (`fuzz.session.other_words`).

Rules: reads packets as the peer opens them; of the endpoint only whether cells rest.
Left to others: what is written (`fuzz.session`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from attrs import define, field

from clawchat.core.instant import Instant
from clawchat.core.outbound import CHALLENGE_SIZE
from clawchat.core.streams.beat import BEAT, CELL, step_after
from clawchat.core.wire import frames
from fuzz.puppet import Heard

CELL_KINDS: Final = (frames.Ping, frames.Ack, frames.Stream, frames.Reset)


@define
class Observer:
    """`shaped` are the streams that leave in cells; `count` is of cells since the last rest."""

    shaped: set[int] = field(factory=set)
    count: int = 0
    cells: list[tuple[Instant, int]] = field(factory=list)
    """When each cell left, and its number in its burst."""

    def hear(self, heard: Heard) -> None:
        """A packet of the endpoint."""
        said = heard.frames
        theirs = [frame for frame in said if isinstance(frame, frames.Stream | frames.Reset)]
        of_shaped = [frame for frame in theirs if frame.stream in self.shaped]
        copied = isinstance(said[0], frames.PathChallenge) if said else False
        kinds = {type(frame) for frame in (said[1:] if copied else said)}
        is_cell = (
            heard.size == CELL + (CHALLENGE_SIZE if copied else 0)
            and frames.Ping in kinds
            and kinds.issubset(CELL_KINDS)
            and len(of_shaped) == len(theirs)
        )
        assert is_cell or not of_shaped, "a shaped stream outside its cells"
        if is_cell and not copied:
            self.count += 1
            self.cells.append((heard.at, self.count))

    def rest(self) -> None:
        """No burst is under way."""
        assert self.count in (0, step_after(self.count)), "a burst that ended off the ladder"
        self.count = 0

    def keeps_the_beat(self, since: int) -> None:
        """Of the cells from the one numbered `since` on, at level 1: one on each beat."""
        cells = self.cells[since:]
        gaps = {
            at - before
            for (before, number), (at, next_number) in pairwise(cells)
            if next_number == number + 1
        }
        assert gaps <= {BEAT} or 0 in gaps, f"{gaps} ns between two cells"
