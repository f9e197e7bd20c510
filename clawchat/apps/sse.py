"""Server-sent events (WHATWG HTML, "Server-sent events"): bytes <-> frozen values.

Rules: no I/O; the parser takes bytes in any cut and holds a bounded amount of them.
Left to others: what the events mean (`events`), reconnecting (`chat_client`).
"""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

HEARTBEAT: Final = b": still here\n\n"
"""A comment: keeps the connection known to be alive, and no reader sees it."""

BLOCK_MAX: Final = 8 * 1024 * 1024
"""Bytes of one event that a parser holds. A finished reply of 1 MiB is at most 6 MiB as JSON."""

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


@frozen
class ServerEvent:
    """One event as it came: `id` is the last id the server named, also by an earlier event."""

    id: str
    name: str
    data: str


def encode(number: int, name: str, data: str) -> bytes:
    """One event. Neither `name` nor `data` holds a line end (JSON escapes them)."""
    return f"id: {number}\nevent: {name}\ndata: {data}\n\n".encode()


class Parser:
    """Turns a stream of bytes into events. Raises `ValueError` for an event without an end."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._scanned = 0
        self._held = 0
        self._id = ""
        self._name = ""
        self._data: list[str] = []

    def feed(self, received: bytes) -> list[ServerEvent]:
        """The events that `received` completes."""
        complete: list[ServerEvent] = []
        rest, at, look = self._rest, 0, self._scanned
        rest += received
        while (end := _LINE_END.search(rest, look)) is not None:
            if end.group() == b"\r" and end.end() == len(rest):
                break  # its "\n" may be in the next piece
            self._line(bytes(rest[at : end.start()]), complete)
            at = look = end.end()
        del rest[:at]
        # What was looked at is not looked at again, but for a "\r" at its end.
        self._scanned = max(0, len(rest) - 1)
        if len(rest) + self._held > BLOCK_MAX:
            raise ValueError(f"a server-sent event longer than {BLOCK_MAX} bytes")
        return complete

    def _line(self, line: bytes, complete: list[ServerEvent]) -> None:
        if not line:
            self._dispatch(complete)
            return
        field, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._held += len(line)
            self._data.append(value)
        elif field == "event":
            self._name = value
        elif field == "id" and "\0" not in value:
            self._id = value

    def _dispatch(self, complete: list[ServerEvent]) -> None:
        if self._data:
            name = self._name or "message"
            complete.append(ServerEvent(self._id, name, "\n".join(self._data)))
        self._name, self._data, self._held = "", [], 0
