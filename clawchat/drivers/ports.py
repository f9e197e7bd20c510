"""Which sockets an endpoint needs: those it began with, and those its links moved to.

Rules: a listener keeps the sockets it began with, since credentials name them; a dialer gives one
up when its link has moved away, and keeps the new one in its place. The rest is bounded.
Left to others: opening and closing (`engine`, the simulator's `host`), when (the core).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from clawchat.core.actions import Closed, Established, Notice, PathChanged
from clawchat.core.credential import Address
from clawchat.core.events import Event, PublishBootstrap, Remember

MOVED_MAX: Final = 64  # sockets to which links have moved; a link without one keeps its port


class PortBook:
    """The addresses of one endpoint's sockets, and who needs them."""

    def __init__(self, lent: Iterable[Address]) -> None:
        self._lent: dict[Address, None] = dict.fromkeys(lent)
        self._used: dict[int, Address] = {}  # by each link, to send from
        self._moved: dict[Address, int] = {}  # opened for the move of a link
        self._listens = False

    @property
    def lent(self) -> tuple[Address, ...]:
        """The sockets that are there for as long as the endpoint is."""
        return tuple(self._lent)

    def handled(self, event: Event) -> None:
        """Whoever accepts devices must stay where they look for it."""
        if isinstance(event, Remember | PublishBootstrap):
            self._listens = True

    def noticed(self, link: int, notice: Notice) -> None:
        """Links tell where they are."""
        if isinstance(notice, Established | PathChanged):
            path = notice.path
            self._used[link] = path.local
        elif isinstance(notice, Closed):
            self._used.pop(link, None)

    def has_room(self) -> bool:
        """Whether one more socket may be opened for a move."""
        return len(self._moved) < MOVED_MAX

    def opened(self, link: int, local: Address) -> None:
        """A socket for the move of `link` is there."""
        self._moved[local] = link

    def is_needed(self, local: Address) -> bool:
        """Whether it must stay open."""
        return local in self._lent or local in self._moved or local in self._used.values()

    def left(self, link: int, local: Address) -> bool:
        """`link` needs it no more; whether it is to be closed."""
        if local in self._used.values():
            return False
        if local in self._lent:
            instead = self._used.get(link)
            if self._listens or instead is None:
                return False
            del self._lent[local]
            self._lent[instead] = None
            self._moved.pop(instead, None)
        self._moved.pop(local, None)
        return True
