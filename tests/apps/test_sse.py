"""Server-sent events, in any cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawchat.apps import sse
from clawchat.apps.events import (
    RunCancelled,
    RunEvent,
    RunFailed,
    RunFinished,
    RunStarted,
    Token,
    Usage,
    decode_event,
    encode_event,
)
from clawchat.apps.problems import Problem
from clawchat.apps.sse import Parser, ServerEvent

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
counts = st.integers(0, 2**31)
problems = st.builds(Problem, st.just("some-kind"), st.just("T"), counts, texts, texts)
events = st.one_of(
    st.builds(RunStarted, counts, texts, texts, texts),
    st.builds(Token, counts, texts),
    st.builds(RunFinished, counts, texts, st.none() | st.builds(Usage, counts, counts)),
    st.builds(RunFailed, counts, problems, texts),
    st.builds(RunCancelled, counts, texts),
)


def encoded(event: RunEvent) -> bytes:
    return sse.encode(event.id, *encode_event(event))


@given(st.lists(events, max_size=5), st.data())
def test_what_is_encoded_is_read_again_in_any_cut(
    sent: list[RunEvent], data: st.DataObject
) -> None:
    stream = b"".join(sse.HEARTBEAT + encoded(event) for event in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    parser = Parser()
    got: list[ServerEvent] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += parser.feed(stream[start:end])
    assert [decode_event(int(one.id), one.name, one.data) for one in got] == sent


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_all_three_line_ends_are_understood_byte_by_byte(end: bytes) -> None:
    lines = [b"id: 1", b"event: a", b"data: x", b"data: y", b"", b": c", b"data:z", b"", b""]
    stream = end.join(lines)
    parser = Parser()
    got = [event for at in range(len(stream)) for event in parser.feed(stream[at : at + 1])]
    got += parser.feed(b": end\n")
    assert got == [ServerEvent("1", "a", "x\ny"), ServerEvent("1", "message", "z")]


def test_an_event_without_data_is_none() -> None:
    assert Parser().feed(b"id: 1\nevent: a\n\nretry: 5\nunknown\n\n") == []


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 65536, b"data: " + b"x" * 65536 + b"\n"])
def test_an_event_without_an_end_is_given_up(piece: bytes) -> None:
    parser = Parser()
    for _ in range(sse.BLOCK_MAX // len(piece)):
        parser.feed(piece)
    with pytest.raises(ValueError, match="longer than"):
        parser.feed(piece)


def test_a_long_event_is_read_in_time_linear_in_its_size() -> None:
    parser, data = Parser(), b"x" * (sse.BLOCK_MAX - 1000)
    stream = b"data: " + data + b"\n\n"
    got = [
        event for at in range(0, len(stream), 1024) for event in parser.feed(stream[at : at + 1024])
    ]
    assert len(got[0].data) == len(data)


def test_an_unknown_event_is_skipped_and_a_damaged_one_is_told() -> None:
    assert decode_event(1, "something.new", "not even JSON") is None
    for data in ("{", "[]", "{}", '{"text": 5}'):
        with pytest.raises(ValueError, match=r"token event|Expecting"):
            decode_event(1, "token", data)


def test_a_problem_is_read_leniently() -> None:
    assert Problem.from_json("nonsense", status=502).status == 502
    assert Problem.from_json({"title": 5, "status": "x"}).title == "The request failed"
    problem = Problem("some-kind", "Title", 404, "Détail.", "Next.")
    assert Problem.from_json(problem.to_json()) == problem
    assert str(problem) == "Title. Détail. Next."
