"""The specification as a tester: one side has valid keys and everything else free.

Hypothesis writes the programs that `fuzz.session` and `fuzz.handshake` play: which frames, in which
packets, under which numbers, epochs and paths, in which order, with any values; what the network
repeats and changes; what the application asks meanwhile; time. These modules say what must hold
after every step. Here a failing program is made short, and it is added what must hold at the end:
whatever was said, every link is over in a bounded time once its peer says nothing more.
"""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clawchat.core.actions import Closed
from clawchat.core.config import DECLARING_LASTS
from clawchat.core.instant import HOUR, SECOND
from fuzz import fuzz_handshake, session
from fuzz.program import BLOB_MAX, BYTE, NUMBER, NUMBERS, Grammar, Kind, Op, Step, Value

BYTES = st.integers(0, 255)
NUMBERS_THAT_MATTER = st.one_of(st.integers(0, 64), st.sampled_from(NUMBERS))


def values(kind: Kind) -> st.SearchStrategy[Value]:
    if kind is BYTE:
        return BYTES
    if kind is NUMBER:
        return NUMBERS_THAT_MATTER
    return st.binary(max_size=BLOB_MAX)


def step(number: int, op: Op) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(number), st.tuples(*map(values, op.fields)).map(list))


def programs(grammar: Grammar) -> st.SearchStrategy[bytes]:
    """Programs of a grammar; where it has packets, they are sent as often as they are written."""
    steps = [step(number, op) for number, op in enumerate(grammar.ops)]
    if "send" in grammar.number_of:
        number = grammar.number_of["send"]
        plainly: Step = (number, [0, 0, 0, 0])
        steps += [st.just(plainly), st.just(plainly), step(number, grammar.ops[number])] * 5
    return st.builds(
        grammar.write,
        st.tuples(*map(values, grammar.head)).map(list),
        st.lists(st.one_of(steps), max_size=24),
    )


def ends(played: session.Session, *, dialer: bool) -> None:
    """Nobody says anything any more: what is left of the link goes by itself."""
    linked = played.linked
    linked.persists = True
    patience = 100 * SECOND if dialer else 25 * HOUR
    played.after(linked.wait(DECLARING_LASTS + patience, looks_max=100_000))
    assert not linked.endpoint.links
    assert not linked.endpoint._links.pending
    assert not linked.endpoint._registry.routes, "keys of a link that is over"
    ended = [notice for notice in linked.notices if isinstance(notice, Closed)]
    assert len(ended) <= 1
    assert not played.sockets.lent, "a port of a link that is over"


@pytest.mark.parametrize("dialer", [False, True], ids=["listener", "dialer"])
@settings(max_examples=200)
@given(program=programs(session.GRAMMAR))
@example(program=session.examples()[0])
def test_a_link_keeps_its_promises_whatever_its_peer_says(dialer: bool, program: bytes) -> None:
    (stage, controller), steps = session.GRAMMAR.read(program)
    assert isinstance(stage, int)
    assert isinstance(controller, int)
    played = session.begun(dialer, stage, controller)
    session.play(played, steps)
    ends(played, dialer=dialer)


@settings(max_examples=200)
@given(program=programs(fuzz_handshake.GRAMMAR))
def test_a_handshake_keeps_its_promises_whatever_a_holder_of_credentials_says(
    program: bytes,
) -> None:
    fuzz_handshake.check(program)
