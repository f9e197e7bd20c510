"""How many handshakes an endpoint works for: in all, for one pairing, and for one source.

What costs more than a look-up and one AES call is to serve somebody whose envelope opened: whoever
holds a credential, or repeats what such a one once sent. *Repeating* an answer is bounded for each
source, so that nobody is flooded through us. *Computing* (X25519, the state of a handshake) is
bounded three times over: for the source, which can be forged; for the pairing, which cannot; and in
all. Repetitions and superseded credentials have budgets of their own, so that recordings of HELLOs
take nothing from those who make new ones.

Rules: what has no valid envelope is not counted here, so that strangers can use nothing up;
established links are never asked. Memory is one number for each key, for `KEYS_MAX` keys at most.
Left to others: what is dropped then (`core.reception`, `core.clones`, `core.link`).
"""

from __future__ import annotations

from typing import Final

from clawchat.core.credential import Address
from clawchat.core.instant import SECOND, Instant
from clawchat.core.wire.address import encode_address

KEYS_MAX: Final = 1024  # sources or pairings whose use is remembered; the least recent makes room
BURST_SECONDS: Final = 4  # so many seconds' worth may come at once
ANSWERS_SHARE: Final = 2  # one source gets this part of `handshakes_per_second` as answers ...
PAIRING_SHARE: Final = 4  # ... and one pairing this part as new handshakes ...
SOURCE_SHARE: Final = 8  # ... and one source this part
SUPERSEDED_SHARE: Final = 2  # what superseded credentials cost, all together ...
SUPERSEDED_SOURCE_SHARE: Final = 16  # ... and those of one source, which has proved to be there
PREFIX_V6: Final = 8  # bytes of an IPv6 address: who has one address has a network of them


class Meter:
    """Lets `per_second` through for each key, after a burst.

    Kept is, for each key, when it would be through with all it had at that rate. One that is
    forgotten has its whole burst again: nobody is locked out by being forgotten.
    """

    __slots__ = ("_burst_ns", "_done_at", "_every_ns")

    def __init__(self, per_second: int) -> None:
        self._every_ns = SECOND // max(1, per_second)
        self._burst_ns = BURST_SECONDS * SECOND - self._every_ns
        self._done_at: dict[bytes, Instant] = {}

    def __len__(self) -> int:
        return len(self._done_at)

    def admits(self, key: bytes, now: Instant) -> bool:
        """Whether one more is within the rate; if so it is counted."""
        done_at = max(now, self._done_at.pop(key, now))
        admitted = done_at - now <= self._burst_ns
        self._done_at[key] = done_at + self._every_ns if admitted else done_at
        if len(self._done_at) > KEYS_MAX:
            del self._done_at[next(iter(self._done_at))]
        return admitted


class Admission:
    """The budgets of one endpoint, which begins `handshakes_per_second` at most."""

    __slots__ = (
        "_all",
        "_answers",
        "_pairings",
        "_sources",
        "_superseded",
        "_superseded_sources",
    )

    def __init__(self, handshakes_per_second: int) -> None:
        self._answers = Meter(handshakes_per_second // ANSWERS_SHARE)
        self._all = Meter(handshakes_per_second)
        self._pairings = Meter(handshakes_per_second // PAIRING_SHARE)
        self._sources = Meter(handshakes_per_second // SOURCE_SHARE)
        self._superseded = Meter(handshakes_per_second // SUPERSEDED_SHARE)
        self._superseded_sources = Meter(handshakes_per_second // SUPERSEDED_SOURCE_SHARE)

    def may_answer(self, source: Address, now: Instant) -> bool:
        """Whether `source`, which nobody has proved to be there, gets what it asked for before."""
        return self._answers.admits(source_of(source), now)

    def may_compute(self, file_id: bytes, source: Address, now: Instant) -> bool:
        """Whether to do the public-key work of a handshake of this pairing."""
        return (
            self._sources.admits(source_of(source), now)
            and self._pairings.admits(file_id, now)
            and self._all.admits(b"", now)
        )

    def may_look_back(self, source: Address, now: Instant) -> bool:
        """Whether to do the public-key work that tells who uses a superseded credential.

        `source` has repeated a cookie that was sent there: it is not forged.
        """
        return self._superseded_sources.admits(source_of(source), now) and self._superseded.admits(
            b"", now
        )


def source_of(address: Address) -> bytes:
    """What one sender has one of: an IPv4 address, or an IPv6 /64. Ports and zones are free."""
    family_and_host = encode_address(address)[:-2]
    return family_and_host[: 1 + PREFIX_V6]
