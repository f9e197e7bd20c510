"""aioquic's `QuicConnection` behind the face that the simulator's `Host` drives.

Rules: `now` comes from the host and becomes seconds; nothing of aioquic's asyncio layer is used.
aioquic draws connection ids and keys from the operating system, which changes bytes but no sizes
and no timing. The server knows the client's first connection id in advance, as aioquic's own
tests do it, and sends no Retry.
Left to others: what is transferred (`course`).
"""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable
from itertools import groupby
from math import ceil
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import HandshakeCompleted, StreamDataReceived

from bench.certificate import certificate
from clawchat.core.actions import Action, LinkStats, Transmit
from clawchat.core.credential import Address, Path
from clawchat.core.events import DatagramReceived, Event
from clawchat.core.instant import SECOND, Deadline, Instant
from clawchat.errors import Drop

IDLE_S = 3600.0


def configuration(*, client: bool, **settings: object) -> Any:  # noqa: ANN401
    """`settings` are attributes of aioquic's `QuicConfiguration`."""
    made = QuicConfiguration(is_client=client, alpn_protocols=["bench"], idle_timeout=IDLE_S)
    for name, value in settings.items():
        setattr(made, name, value)
    if client:
        made.verify_mode = ssl.CERT_NONE
    else:
        made.certificate, made.private_key = certificate()
    return made


class Quic:
    """One side. `on_ready()` once it may send; `on_data(data, end)` for a stream's bytes."""

    def __init__(
        self,
        connection: Any,  # noqa: ANN401
        local: Address,
        *,
        on_ready: Callable[[], None] = lambda: None,
        on_data: Callable[[bytes, bool], None] = lambda data, end: None,
    ) -> None:
        self.connection = connection
        self.drops: Counter[Drop] = Counter()
        self._begun = False  # before that it has no timers and nothing to say
        self._local = local
        self._on_ready = on_ready
        self._on_data = on_data

    def connect(self, remote: Address, now: Instant) -> None:
        self._begun = True
        self.connection.connect((remote.host, remote.port), now=now / SECOND)

    def write(self, data: bytes) -> None:
        """All of a stream at once: aioquic's buffer has no limit."""
        stream = self.connection.get_next_available_stream_id()
        self.connection.send_stream_data(stream, data, end_stream=True)

    def handle(self, event: Event, now: Instant) -> None:
        assert isinstance(event, DatagramReceived)
        self._begun = True
        remote, data = event.path.remote, bytes(event.data)
        size = event.segment or len(data)
        for at in range(0, len(data), size):
            self.connection.receive_datagram(
                data[at : at + size], (remote.host, remote.port), now=now / SECOND
            )
        self._take_events()

    def advance(self, now: Instant) -> None:
        at = self.connection.get_timer()
        self.connection.handle_timer(now=max(at, now / SECOND))
        self._take_events()

    def _take_events(self) -> None:
        while (event := self.connection.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                self._on_ready()
            elif isinstance(event, StreamDataReceived):
                self._on_data(event.data, event.end_stream)

    def actions(self, now: Instant) -> list[Action]:
        """Datagrams, those of one size and address together."""
        if not self._begun:
            return []
        sent = self.connection.datagrams_to_send(now=now / SECOND)
        return [
            Transmit(Path(self._local, Address(host, port)), [data for data, _ in group])
            for ((host, port, *_), _), group in groupby(sent, key=lambda d: (d[1], len(d[0])))
        ]

    @property
    def deadline(self) -> Deadline | None:
        at = self.connection.get_timer() if self._begun else None
        # One nanosecond late, so that rounding never makes it early and then for ever due.
        return None if at is None else Deadline(ceil(at * SECOND) + 1, "aioquic")

    @property
    def links(self) -> list[int]:
        """One connection at most, under any number."""
        return [1] if self._begun else []

    def link_stats(self, link: int) -> LinkStats:
        recovery = self.connection._loss
        return LinkStats(
            phase=self.connection._state.name,
            epoch=0,
            generation=0,
            path=None,
            rtt_ns=int(recovery._rtt_smoothed * SECOND),
            rtt_min_ns=int(recovery._rtt_min * SECOND) if recovery._rtt_initialized else 0,
            datagram_size=self.connection._max_datagram_size,
            congestion_window=recovery.congestion_window,
            bytes_in_flight=recovery.bytes_in_flight,
            packets_sent=self.connection._packet_number,
            packets_received=0,
            packets_lost=0,
            established_at=0,
        )


def pair(
    client_at: Address,
    server_at: Address,
    on_ready: Callable[[], None],
    on_data: Callable[[bytes, bool], None],
    **settings: object,
) -> tuple[Quic, Quic]:
    """A client that says when it may send, and a server that takes what comes."""
    client = QuicConnection(configuration=configuration(client=True, **settings))
    server = QuicConnection(
        configuration=configuration(client=False, **settings),
        original_destination_connection_id=client.original_destination_connection_id,
    )
    return (
        Quic(client, client_at, on_ready=on_ready),
        Quic(server, server_at, on_data=on_data),
    )
