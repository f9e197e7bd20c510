"""What an endpoint is made with, and the protocol's constants with the reason for each value.

Rules: every constant names its section of PROTOCOL.md; a value that a user may change is a field
of `Config`.
Left to others: constants of one algorithm alone stand in its file (`core.recovery`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from attrs import frozen

from clawchat.core.crypto.packets import EPOCH_PACKETS_MAX
from clawchat.core.instant import HOUR, MILLISECOND, MINUTE, SECOND
from clawchat.core.secret import Secret
from clawchat.core.wire.parameters import Limits

Entropy: TypeAlias = Callable[[int], bytes]
"""`n` random bytes, from the operating system or from a seed."""

# Handshake (PROTOCOL.md "Handshake")
HELLO_FIRST: Final = 250 * MILLISECOND  # wait this long for a REPLY, then send the HELLO again
HELLO_MAX: Final = 2 * SECOND  # the wait doubles up to this: gentle, yet quick after an outage
HELLO_TURN: Final = 3  # HELLOs of one generation before the other one gets its turn
PROVING_MAX: Final = 10 * SECOND  # the listener replied: it answers soon, or it has restarted
PENDING_LIFE: Final = 30 * SECOND  # an answered HELLO waits this long for its first packet
PENDING_PER_PAIRING: Final = (
    4  # one real dialer needs one; only holders of its credential make more
)
COOKIE_LIFE: Final = 30 * SECOND  # a REFUSAL's cookie proves freshness within this time
HANDSHAKES_PER_SECOND: Final = 32  # in all: X25519 for them takes a few percent of one core
HELD_MAX: Final = 64  # packets kept while a credential is being written; the peer resends more

# Established (PROTOCOL.md "Keeping, losing, closing and destroying a link")
KEEPALIVE_MIN: Final = 15 * SECOND  # well below the 30 s that NATs keep a UDP mapping
KEEPALIVE_SPAN: Final = 10 * SECOND  # random time on top, so that links do not beat in step
SUSPECT_PROBES: Final = 2  # unanswered probe timeouts until the path is suspect
MUTE_AFTER: Final = 3  # probe timeouts: as long as it takes until two went by without an answer
CHALLENGE_LIFE: Final = 30 * SECOND  # an answer that comes later says where the peer was once
PROBE_FIRST: Final = 200 * MILLISECOND  # between path probes while a path is suspect
PROBE_MAX: Final = 500 * MILLISECOND  # that wait doubles up to this, so that an end is noticed soon
BUSY_QUIET: Final = SECOND  # with a stream open and nothing heard for this long, ask
FOLLOW_EVERY: Final = 10 * MILLISECOND  # a peer that moves again is followed after this long
HOP_AFTER: Final = 10 * SECOND  # suspect for this long, a dialer tries another local port
ASLEEP_AFTER: Final = 30 * SECOND  # suspect for this long, a listener stops talking and waits
CLOSING_PROBES: Final = 3  # probe timeouts for which a closed link still answers with CLOSE

# Clone detection (PROTOCOL.md "Clone detection")
REPORT_EVERY: Final = MINUTE  # a device is told so often at most, however often a copy is used

# Compromised (PROTOCOL.md "Compromised")
DECLARING_LASTS: Final = 10 * SECOND  # the peer is told for so long; then the last keys go anyway
DECLARING_MIN: Final = 100 * MILLISECOND  # between two COMPROMISED; else a probe timeout ...
DECLARING_MAX: Final = SECOND  # ... up to this: at least ten of them
ECHOES: Final = 14  # COMPROMISED_ACKs, sealed at once and sent over ten seconds without any key

# Rotating keys (PROTOCOL.md "Key ratchet")
ROTATE_TRAFFIC: Final = 2 * MINUTE  # of an epoch that carried data
ROTATE_LATEST: Final = HOUR  # of any epoch, plus or minus a tenth
ROTATE_PACKETS: Final = 1 << 22  # half of the hard limit, so that there is time to rotate
EPOCH_PACKETS_KEPT: Final = 1024  # of the hard limit, kept for saying CLOSE
WIPE_PROBES: Final = 3  # probe timeouts for which stragglers of an old epoch are read
PATH_IDS_AHEAD: Final = 4  # ids recognised from the highest seen on, so that new paths are known
PATH_IDS_BEHIND: Final = 8  # ids below the highest seen that stay recognised

# Rotating ports (PROTOCOL.md "Rotating ports")
ROTATE_PORTS: Final = HOUR  # of one port, plus or minus a tenth
MOVE_LASTS: Final = 5 * SECOND  # a dozen challenges; a path that answers none of them does not work
OVERLAP_LASTS: Final = 30 * SECOND  # a NAT forgets the old port after about as long
MOVE_AGAIN: Final = MINUTE  # a move that gave way is tried again after this long
MOVE_FAILURES: Final = 3  # in a row: then the network does not allow it, and ...
MOVE_PATIENCE: Final = 24  # ... so many times the usual wait goes by before each further try

# Bootstrap file (PROTOCOL.md "Bootstrap file")
BOOTSTRAP_EVERY: Final = 10 * MINUTE  # a file that leaks later is worth nothing
BOOTSTRAP_VALID: Final = 11 * MINUTE  # one minute of overlap, so at most two files are live


# What a link may hold of undelivered data at first (a window grows once more is taken from it), and
# the largest datagram it takes: jumbo frames, which path MTU discovery finds where they exist
# (loopback, many local networks).
DEFAULT_LIMITS: Final = Limits(
    max_data=4 << 20, max_stream=1 << 20, max_streams=257, max_datagram=8952
)

# Growing windows (PROTOCOL.md "Flow control")
STREAM_WINDOW_MAX: Final = 16 << 20  # four bandwidth-delay products of 100 Mbit/s and 300 ms
LINK_WINDOW_MAX: Final = 24 << 20  # half as much again: one stream leaves room for others
GROWTH_MAX: Final = 256 << 20  # of all links together: eleven that have grown as far as they can


@frozen
class Config:
    """Settings of one endpoint.

    `identity` is the X25519 private key (32 bytes). A dialer closes a link from whose peer
    nothing came for `silence_ns_max`; a listener, who has nobody to call, keeps its end for
    `patience_ns_max`. With `rotate_ports_ns` 0 this side keeps its port. `max_links` bounds memory:
    a link takes some 20 kB idle, and up to `limits.max_data` of undelivered bytes. While an
    application takes what comes, its windows grow, a stream's to `stream_window_max` bytes, its
    link's to `link_window_max`, those of all links by `growth_max` together; 0: never.
    `handshakes_per_second` bounds the public-key work of all handshakes together;
    `core.admission` says what one source gets of it.
    """

    identity: Secret
    limits: Limits = DEFAULT_LIMITS
    stream_window_max: int = STREAM_WINDOW_MAX
    link_window_max: int = LINK_WINDOW_MAX
    growth_max: int = GROWTH_MAX
    dial_ns_max: int = 30 * SECOND
    silence_ns_max: int = 90 * SECOND
    patience_ns_max: int = 24 * HOUR
    max_links: int = 1024
    max_pending: int = 256
    handshakes_per_second: int = HANDSHAKES_PER_SECOND
    rotate_traffic_ns: int = ROTATE_TRAFFIC
    rotate_latest_ns: int = ROTATE_LATEST
    rotate_packets: int = ROTATE_PACKETS
    rotate_ports_ns: int = ROTATE_PORTS
    epoch_packets_max: int = EPOCH_PACKETS_MAX
