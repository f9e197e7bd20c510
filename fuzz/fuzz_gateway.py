"""What the gateway passes on is one request, with its own framing and one caller, whatever came.

The first byte says whether the others are a peer's request or an agent's answer. h11 reads them as
the gateway has it read them; what the gateway writes then is read again by a fresh h11, as the
other side would: nothing is left over, the body is the same, and who calls stands there once.
"""

from __future__ import annotations

from typing import Final

import h11

from clawchat.apps.gateway.headers import HOP_BY_HOP, request_headers, response_headers

SIZE_MAX: Final = 16 * 1024
WHO: Final = {b"clawchat-device": b"ab12", b"clawchat-device-name": b"a%C3%A9 %22"}
GET: Final = h11.Request(method="GET", target="/", headers=[(b"host", b"a")])


def message_of(
    connection: h11.Connection, data: bytes
) -> tuple[h11.Request | h11.Response | None, bytes, bool]:
    """The head, the body, and whether all of it came."""
    head: h11.Request | h11.Response | None = None
    body = b""
    connection.receive_data(data)
    connection.receive_data(b"")
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request | h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return head, body, True
        elif not isinstance(event, h11.InformationalResponse):
            return head, body, False


def written(
    connection: h11.Connection, head: h11.Request | h11.Response, body: bytes
) -> bytes | None:
    parts = [connection.send(head)]
    if body:
        parts.append(connection.send(h11.Data(body)))
    parts.append(connection.send(h11.EndOfMessage()))
    return b"".join(part for part in parts if part)


def check_request(data: bytes) -> None:
    try:
        head, body, whole = message_of(
            h11.Connection(h11.SERVER, max_incomplete_event_size=SIZE_MAX), data
        )
    except h11.RemoteProtocolError:
        return
    if not isinstance(head, h11.Request) or not whole:
        return
    if head.method == b"CONNECT" or not head.target.startswith(b"/"):
        return
    fields = request_headers(head.headers, host="127.0.0.1:1", device="ab12", name='aé "')
    passed = h11.Request(method=head.method, target=head.target, headers=fields)
    sent = written(h11.Connection(h11.CLIENT), passed, body)
    assert sent is not None
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=4 * SIZE_MAX)
    again, body_again, whole_again = message_of(server, sent)
    assert isinstance(again, h11.Request)
    assert whole_again
    assert server.trailing_data == (b"", True)
    assert (again.method, again.target, body_again) == (head.method, head.target, body)
    names = [name.replace(b"_", b"-") for name, _ in again.headers]
    for name, value in WHO.items():
        assert [v for n, v in again.headers if n == name] == [value]
        assert names.count(name) == 1
    assert names.count(b"host") == 1
    only = HOP_BY_HOP - {b"connection", b"transfer-encoding"}
    assert not only & set(names)
    assert not (b"content-length" in names and b"transfer-encoding" in names)


def check_answer(data: bytes) -> None:
    agent = h11.Connection(h11.CLIENT, max_incomplete_event_size=4 * SIZE_MAX)
    agent.send(GET)
    agent.send(h11.EndOfMessage())
    try:
        head, body, whole = message_of(agent, data)
    except h11.RemoteProtocolError:
        return
    if not isinstance(head, h11.Response) or not whole:
        return
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert isinstance(peer.next_event(), h11.Request)
    assert isinstance(peer.next_event(), h11.EndOfMessage)
    fields = response_headers(head.headers)
    answer = h11.Response(status_code=head.status_code, reason=head.reason, headers=fields)
    sent = written(peer, answer, body)
    assert sent is not None
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=4 * SIZE_MAX)
    reader.send(GET)
    reader.send(h11.EndOfMessage())
    again, body_again, whole_again = message_of(reader, sent)
    assert isinstance(again, h11.Response)
    assert whole_again
    assert (again.status_code, body_again) == (head.status_code, body)


def check(data: bytes) -> None:
    (check_answer if data[:1] > b"\x7f" else check_request)(data[1:])


if __name__ == "__main__":
    from fuzz.harness import run

    run("gateway")
