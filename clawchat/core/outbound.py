"""Packets as they leave one link: numbered, sealed for their way, and booked with recovery.

While it is not sure where the peer is, what leaves is also copied to its *trial*: the way from
which it was heard last and to which nothing has moved yet (PROTOCOL.md "Paths").

Rules: a number is given once, over all epochs and ways; all that is sealed is booked, but for last
words, which nobody acknowledges. A copy asks for an answer, so what asks for none has no copy:
that would never end.
Left to others: what a packet says (`core.payloads`), when it may leave (`core.transport`), when a
trial begins and ends (`core.whereabouts`).
"""

from __future__ import annotations

from typing import Final

from attrs import define

from clawchat.core.actions import Transmit
from clawchat.core.crypto.packets import EPOCH_PACKETS_MAX, OVERHEAD
from clawchat.core.epochs import Epochs
from clawchat.core.instant import Instant
from clawchat.core.paths import AMPLIFICATION, Paths, Way
from clawchat.core.recovery.contents import Item, ItemKind, Run, Sent
from clawchat.core.recovery.recovery import Recovery
from clawchat.core.wire import frames

CHALLENGE_SIZE: Final = 1 + frames.PATH_TOKEN_SIZE  # by which a copy is longer than its original


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


class Outbound:
    """`probe_wanted`: whether the next packet is to ask for an acknowledgement, data or not."""

    __slots__ = ("_epochs", "_paths", "_recovery", "packets_sent", "probe_wanted", "trial")

    def __init__(self, epochs: Epochs, paths: Paths, recovery: Recovery) -> None:
        self._epochs = epochs
        self._paths = paths
        self._recovery = recovery
        self.packets_sent = 0
        self.probe_wanted = False
        self.trial: Trial | None = None

    def send(
        self,
        out: list[Transmit],
        payloads: list[bytes],
        now: Instant,
        *,
        eliciting: bool = True,
        items: tuple[Item, ...] = (),
        run: Run | None = None,
    ) -> None:
        """Packets go where the peer is, and copies of what there is room for to a trial.

        `items` are of a lone payload, `run` is of several.
        """
        first = self.packets_sent
        active = self._paths.active
        out.append(self.seal(active, payloads, now, eliciting=eliciting, items=items, run=run))
        trial = self.trial
        if trial is None or not eliciting or (ItemKind.DATAGRAM,) in items:
            return
        whole = Sent(first, first + len(payloads) - 1, now, 0, eliciting, items, run)
        for number, payload in enumerate(payloads, first):
            if not trial.takes(len(payload) + CHALLENGE_SIZE + OVERHEAD):
                break
            out.append(self._copy(trial, payload, whole.cut(number, number), now))

    def _copy(self, trial: Trial, payload: bytes, original: Sent, now: Instant) -> Transmit:
        """The same again in a packet with a challenge, by which it is known as a probe.

        It is not in flight: the original is.
        """
        way = trial.way
        self._paths.id_of(way)  # a token goes with an id
        token = way.token if way.awaits(now) else self._paths.challenge(way, now)
        probe = frames.encode_path_challenge(token) + payload
        trial.went += len(probe) + OVERHEAD
        return self.seal(way, [probe], now, eliciting=False, items=original.items, run=original.run)

    def seal(
        self,
        way: Way,
        payloads: list[bytes],
        now: Instant,
        *,
        eliciting: bool,
        items: tuple[Item, ...] = (),
        run: Run | None = None,
    ) -> Transmit:
        """Packets for `way` under the keys of the current epoch."""
        first = self.packets_sent
        datagrams = self._epochs.current.seal.seal(self._paths.id_of(way), first, payloads)
        if not way.validated:
            way.sent += sum(map(len, datagrams))
        self.packets_sent += len(datagrams)
        if eliciting:
            self.probe_wanted = False
        last = first + len(datagrams) - 1
        self._recovery.sent(Sent(first, last, now, len(datagrams[0]), eliciting, items, run))
        return Transmit(way.path, datagrams)

    def last_words(self, way: Way, payloads: list[bytes]) -> list[Transmit]:
        """Packets for `way` that nobody acknowledges: CLOSE, COMPROMISED and its answer.

        As many, from the first on, as the keys may seal and as may go to an unproved address.
        """
        seal, said = self._epochs.current.seal, list[Transmit]()
        for payload in payloads:
            size = len(payload) + OVERHEAD
            if seal.sealed >= EPOCH_PACKETS_MAX:
                break
            if not (way.may_send(size) or self._paths.proved(way)):
                break
            datagrams = seal.seal(
                self._paths.id_of(self._paths.active), self.packets_sent, [payload]
            )
            self.packets_sent += 1
            way.sent += size
            said.append(Transmit(way.path, datagrams))
        return said
