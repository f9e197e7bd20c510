"""Server-sent events come out the same in whatever pieces they come, and mean something or nothing.

The first byte says how long the pieces are. An event of the agent decodes to what encodes to an
equal one, or is skipped, or is a `ValueError`.
"""

from __future__ import annotations

from clawchat.apps.events import RunFailed, decode_event, encode_event
from clawchat.apps.sse import BLOCK_MAX, Parser, ServerEvent, encode


def parsed(data: bytes, step: int) -> list[ServerEvent]:
    parser, events = Parser(), list[ServerEvent]()
    for at in range(0, len(data), step):
        events += parser.feed(data[at : at + step])
        assert len(parser._rest) <= BLOCK_MAX
    return events


def check(data: bytes) -> None:
    step, data = 1 + (data[0] if data else 0), data[1:]
    events = parsed(data, step)
    assert events == parsed(data, len(data) or 1)
    for event in events:
        if not any(end in event.data + event.name for end in "\r\n"):
            again = parsed(encode(7, event.name, event.data), step)
            assert again == [ServerEvent("7", event.name, event.data)]
        try:
            meant = decode_event(7, event.name, event.data)
        except ValueError:
            continue
        if meant is not None and not isinstance(meant, RunFailed):
            assert decode_event(7, *encode_event(meant)) == meant


if __name__ == "__main__":
    from fuzz.harness import run

    run("sse")
