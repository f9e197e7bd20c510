"""The links of one endpoint: those with an id, and answered HELLOs that may become one.

Rules: a link to which anything happened is touched; before the endpoint hands out its actions it
is packed, then entered in the agenda or, when nothing is left to do, dropped.
Left to others: which links there may be (`core.endpoint`, `core.reception`), one link's affairs
(`core.link`).
"""

from __future__ import annotations

from collections.abc import Iterator

from clawchat.core.agenda import Agenda
from clawchat.core.config import Config, Entropy
from clawchat.core.credential import Pairing, Path
from clawchat.core.instant import Deadline, Instant
from clawchat.core.link import Link
from clawchat.core.opening import Handshake
from clawchat.core.registry import Registry
from clawchat.core.table import Trace
from clawchat.errors import UnknownLink


class Links:
    """`by_id` are those that the application dialled or may hear of.

    `pending` are answered HELLOs that nobody has proved, by their Noise message.
    """

    __slots__ = (
        "_agenda",
        "_config",
        "_entropy",
        "_registry",
        "_touched",
        "_trace",
        "by_id",
        "pending",
    )

    def __init__(
        self, config: Config, entropy: Entropy, registry: Registry[Link], trace: Trace | None
    ) -> None:
        self.by_id: dict[int, Link] = {}
        self.pending: dict[bytes, Link] = {}
        self._agenda: Agenda[Link] = Agenda()
        self._touched: dict[Link, None] = {}
        self._config = config
        self._entropy = entropy
        self._registry = registry
        self._trace = trace
        registry.room = self._room

    def __iter__(self) -> Iterator[Link]:
        yield from self.by_id.values()
        yield from self.pending.values()

    # --- which there are ----------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether there may be no more of them with an id."""
        return len(self.by_id) >= self._config.max_links

    def of(self, file_id: bytes) -> list[Link]:
        """Those of a pairing that have an id."""
        return [link for link in self.by_id.values() if link.file_id == file_id]

    def incoming_of(self, file_id: bytes) -> list[Link]:
        """Those of a pairing that have an id and that the peer dialled."""
        return [link for link in self.of(file_id) if not link.dialer]

    def pending_of(self, file_id: bytes) -> list[Link]:
        """Those of a pairing that are pending, the oldest first."""
        return [link for link in self.pending.values() if link.file_id == file_id]

    def find(self, link_id: int) -> Link:
        """One that the application may use. Raises `UnknownLink`."""
        link = self.by_id.get(link_id)
        if link is None or link.undoing is not None:
            raise UnknownLink(f"no link {link_id}")
        return link

    def make(
        self, link_id: int, pairing: Pairing, handshake: Handshake, paths: tuple[Path, ...]
    ) -> Link:
        """A link of this endpoint, which is not among the others yet."""
        return Link(
            link_id,
            self._config,
            self._entropy,
            self._registry,
            self._trace,
            pairing,
            handshake,
            paths,
        )

    def promote(self, link: Link) -> None:
        """It was pending, and may be heard of from now on."""
        self._no_longer_pending(link)
        self.by_id[link.id] = link

    def drop(self, link: Link) -> None:
        """Wipe what is left of it, and look at it no more."""
        self._agenda.drop(link)
        link.forget()
        if self.by_id.get(link.id) is link:
            del self.by_id[link.id]
        self._no_longer_pending(link)

    def _no_longer_pending(self, link: Link) -> None:
        self.pending = {key: other for key, other in self.pending.items() if other is not link}

    def _room(self) -> int:
        """By how many bytes the windows of all of them together may still grow."""
        return self._config.growth_max - sum(link.grown for link in self.by_id.values())

    # --- when they are looked at --------------------------------------------------------------

    def touch(self, link: Link) -> None:
        """Something happened to it."""
        self._touched[link] = None

    def touch_incoming_of(self, file_id: bytes) -> None:
        """There is something that those which the peer dialled are to look at."""
        for link in self.incoming_of(file_id):
            self.touch(link)

    def advance(self, now: Instant) -> None:
        """Fire what is due."""
        while (link := self._agenda.take(now)) is not None:
            link.advance(now)
            self._touched[link] = None

    def pack(self, now: Instant) -> None:
        """Let the touched ones send all that they may send now."""
        touched, self._touched = self._touched, {}
        for link in touched:
            link.pack(now)
            self._tidy(link)

    @property
    def deadline(self) -> Deadline | None:
        """When the next of them is due, and why."""
        return self._agenda.deadline

    def _tidy(self, link: Link) -> None:
        if link.over:
            self.drop(link)
            return
        due = link.next_timer()
        if due is not None:
            self._agenda.enter(link, *due)
