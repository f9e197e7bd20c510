"""Where the peer of one link is, as its packets tell.

Its newest packet that is no probe comes from where it is. When that is another way than the one
in use, the way is asked, and is on trial until data moves there or the peer is heard where it was.

Rules: nothing moves here; what is learned is told. When it is we who move, or the peer said that it
would, nothing is on trial.
Left to others: moving (`core.roaming`), copies to the trial (`core.outbound`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clawchat.core.credential import Address, Path
from clawchat.core.instant import Instant
from clawchat.core.outbound import Outbound, Trial
from clawchat.core.paths import Paths, Way
from clawchat.core.recovery.path_mtu import FLOOR
from clawchat.core.recovery.recovery import Recovery


class Whereabouts:
    """`send_again(room)` sends what the peer has not acknowledged, at most `room` bytes of it.

    `between` are our other ports while we move, and a while after: where the peer was when we left
    one, None for whoever comes there. `was_told`: whether the peer said that it moves.
    """

    __slots__ = (
        "_again_at",
        "_outbound",
        "_paths",
        "_recovery",
        "_send_again",
        "between",
        "was_told",
    )

    def __init__(
        self,
        paths: Paths,
        outbound: Outbound,
        recovery: Recovery,
        send_again: Callable[[int], None],
    ) -> None:
        self._paths = paths
        self._outbound = outbound
        self._recovery = recovery
        self._send_again = send_again
        self._again_at: Instant | None = None  # the last time that a trial made us send again
        self.between: dict[Address, Address | None] = {}
        self.was_told = False

    def look(self, way: Way, sizes: Sequence[int], now: Instant, *, used: bool) -> Way | None:
        """The newest packets came from `way`, so large; `used`: not all of them are probes.

        Where the peer is, when they tell.
        """
        active = self._paths.active
        if self._is_ours(way.path):
            way = active  # it is we who move
        if way is not active:
            if not self.was_told:
                self._try(way, sum(sizes), now, begin=used or max(sizes) >= FLOOR)
        elif used:
            self._outbound.trial = None
        if not used:
            return None
        asked = way.challenged_at
        if not way.validated and (asked is None or now - asked >= self._recovery.pto_ns):
            self._paths.ask(way)
        return way

    def left(self, local: Address) -> None:
        """A socket of ours is about to be closed: nobody is looked for from there any more."""
        self.between.pop(local, None)
        trial = self._outbound.trial
        if trial is not None and trial.way.path.local == local:
            self._outbound.trial = None

    def _is_ours(self, path: Path) -> bool:
        """Whether the peer comes that way only because of a move of ours."""
        if path.local not in self.between:
            return False
        left = self.between[path.local]
        return left is None or path.remote in (left, self._paths.active.path.remote)

    def _try(self, way: Way, size: int, now: Instant, *, begin: bool) -> None:
        """The peer may be there from now on: what it has not acknowledged goes there as well."""
        trial = self._outbound.trial
        if trial is None or trial.way is not way:
            if not begin:
                return
            trial = self._outbound.trial = Trial(way)
        trial.came += size
        if self._again_at is None or now - self._again_at >= self._recovery.pto_ns:
            self._again_at = now
            self._send_again(trial.room)
