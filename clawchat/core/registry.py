"""What all links of one endpoint share: how an arriving datagram finds them, and who is known.

Rules: look-ups are dicts; a connection id or hint is registered by whoever owns its keys and
taken out when these are wiped.
Left to others: what an arriving datagram means (`core.endpoint`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

from attrs import define, field, frozen

from clawchat.core.actions import Action, Kept
from clawchat.core.admission import Admission
from clawchat.core.config import HANDSHAKES_PER_SECOND
from clawchat.core.credential import Credential, Pairing, Superseded
from clawchat.core.crypto.schedule import EpochKeys
from clawchat.core.instant import Instant
from clawchat.core.untold import Waiting
from clawchat.errors import CompromiseReason, Drop

L = TypeVar("L")
Destroyer: TypeAlias = Callable[[bytes, CompromiseReason, bool, Instant], Kept]
"""`destroy(file_id, reason, everything, now)`."""


@frozen(eq=False)
class Route(Generic[L]):
    """Where a connection id leads."""

    link: L
    keys: EpochKeys
    path_id: int


@define(eq=False)
class Registry(Generic[L]):
    """`pairings` are those we listen for, by file id; `hints` find their generations.

    `calls` finds the link that dials by the hint under which its answer comes. `destroy` wipes
    what the endpoint keeps of a pairing, and of everything else if told so, and says what it was.
    `admission` bounds what all that arrives without a link may cost, `room` says by how many bytes
    the windows of all links together may still grow. `untold` is what devices are to hear of copies
    of their credentials.
    """

    routes: dict[bytes, Route[L]] = field(factory=dict)
    pairings: dict[bytes, Pairing] = field(factory=dict)
    hints: dict[bytes, tuple[bytes, Credential | Superseded]] = field(factory=dict)
    calls: dict[bytes, L] = field(factory=dict)
    drops: Counter[Drop] = field(factory=Counter)
    out: list[Action] = field(factory=list)
    saving: dict[int, tuple[L, Pairing]] = field(factory=dict)
    destroy: Destroyer = lambda *_: Kept()
    room: Callable[[], int] = lambda: 0
    admission: Admission = field(factory=lambda: Admission(HANDSHAKES_PER_SECOND))
    untold: Waiting = field(factory=Waiting)
    _tickets: int = 0

    def next_ticket(self, link: L, pairing: Pairing) -> int:
        """A number for a `Persist`, under which its outcome comes back."""
        self._tickets += 1
        self.saving[self._tickets] = (link, pairing)
        return self._tickets

    def remember(self, pairing: Pairing) -> None:
        """Accept this pairing's generations, and recognise its superseded ones."""
        self.forget(pairing.file_id)
        self.pairings[pairing.file_id] = pairing
        for known in _generations(pairing):
            self.hints[known.hint] = (pairing.file_id, known)

    def forget(self, file_id: bytes) -> None:
        """Neither accept nor recognise it any more."""
        pairing = self.pairings.pop(file_id, None)
        if pairing is not None:
            for known in _generations(pairing):
                self.hints.pop(known.hint, None)


def _generations(pairing: Pairing) -> list[Credential | Superseded]:
    """Accepted ones last, so that they win should two hints ever be equal."""
    return [*pairing.superseded, *pairing.credentials]
