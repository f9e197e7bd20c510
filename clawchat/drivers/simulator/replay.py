"""A session is a seed plus what went in: record it, run it again, get the same actions.

A `Recorder` stands between a host and its endpoint and keeps every call with its `now`. `replay`
feeds a fresh endpoint the same and returns what it answered, call by call.

Rules: the only input that is not a call is the randomness of ML-KEM, which OpenSSL draws itself;
it is taped while recording and played back in the replay, so the two agree byte for byte.
Left to others: making the endpoint again (the caller knows its configuration and seed).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, unique
from functools import partial

from attrs import define, field, frozen

from clawchat.core import ratchet
from clawchat.core.actions import Action, LinkStats
from clawchat.core.crypto.xwing import encapsulate, mlkem_of_openssl
from clawchat.core.events import Event
from clawchat.core.instant import Deadline, Instant
from clawchat.drivers.simulator.host import Driven, Entropy
from clawchat.errors import Drop, LocalError

Encapsulated = tuple[bytes, bytes]


@unique
class Verb(Enum):
    """The three ways into an endpoint."""

    HANDLE = "handle"
    ADVANCE = "advance"
    ACTIONS = "actions"


@frozen
class Call:
    """One call of an endpoint."""

    verb: Verb
    now: Instant
    event: Event | None = None


@define
class Recording:
    """All that is needed, besides configuration and dice, to live through it again."""

    calls: list[Call] = field(factory=list)
    encapsulations: list[Encapsulated] = field(factory=list)
    answers: list[list[Action]] = field(factory=list)


@contextmanager
def _encapsulating(with_: Callable[[bytes, Entropy], Encapsulated]) -> Iterator[None]:
    """The ratchet's ML-KEM is `with_` inside this block."""
    replacement = partial(encapsulate, mlkem=with_)
    setattr(ratchet, "encapsulate", replacement)  # noqa: B010  # a seam, said in the rules
    try:
        yield
    finally:
        setattr(ratchet, "encapsulate", encapsulate)  # noqa: B010


@define(slots=False)
class Recorder:
    """An endpoint that remembers what it was told. It is `Driven` like the one inside."""

    inside: Driven
    recording: Recording = field(factory=Recording)

    def handle(self, event: Event, now: Instant) -> None:
        self.recording.calls.append(Call(Verb.HANDLE, now, event))
        with _encapsulating(self._tape):
            self.inside.handle(event, now)

    def advance(self, now: Instant) -> None:
        self.recording.calls.append(Call(Verb.ADVANCE, now))
        self.inside.advance(now)

    def actions(self, now: Instant) -> list[Action]:
        self.recording.calls.append(Call(Verb.ACTIONS, now))
        answer = self.inside.actions(now)
        self.recording.answers.append(answer)
        return answer

    @property
    def deadline(self) -> Deadline | None:
        return self.inside.deadline

    @property
    def drops(self) -> Counter[Drop]:
        return self.inside.drops

    @property
    def links(self) -> list[int]:
        return self.inside.links

    def link_stats(self, link: int) -> LinkStats:
        return self.inside.link_stats(link)

    def _tape(self, public: bytes, entropy: Entropy) -> Encapsulated:
        made = mlkem_of_openssl(public, entropy)
        self.recording.encapsulations.append(made)
        return made


def replay(recording: Recording, endpoint: Driven) -> list[list[Action]]:
    """Feed a fresh endpoint what was recorded; its answers, one list for each drain."""
    tape = deque(recording.encapsulations)

    def played_back(_public: bytes, _entropy: Entropy) -> Encapsulated:
        return tape.popleft()

    answers: list[list[Action]] = []
    with _encapsulating(played_back):
        for call in recording.calls:
            if call.verb is Verb.ADVANCE:
                endpoint.advance(call.now)
            elif call.verb is Verb.ACTIONS:
                answers.append(endpoint.actions(call.now))
            else:
                assert call.event is not None
                try:
                    endpoint.handle(call.event, call.now)
                except LocalError:
                    continue  # it was refused the first time, too
    return answers
