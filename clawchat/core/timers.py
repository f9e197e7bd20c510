"""Every timer of the core, each with the reason why somebody wakes up for it.

Rules: a timer is a name; its instant lives with whoever set it. PROTOCOL.md's table of timers is
made from this file.
Left to others: the values (`core.config`, `core.recovery`).
"""

from __future__ import annotations

from enum import Enum, unique


@unique
class Timer(Enum):
    """Name and reason. The order is the order in which timers due together are fired."""

    __hash__ = object.__hash__  # Enum's own runs in Python, and every step asks a dict of these

    ACK = "an acknowledgement was delayed as long as it may be"
    RECOVERY = "a packet is lost, or a probe is due because no acknowledgement came"
    PACING = "the pacer lets the next burst go"
    BEAT = "the next cells of shaped streams are due, with or without data"
    PATH_MTU = "a larger datagram size can be tried"
    HELLO = "no REPLY yet: the HELLO is sent again"
    DIAL = "the handshake took too long: the dial is given up"
    PENDING = "nobody proved an answered HELLO in time: its keys are forgotten"
    ROTATION = "this epoch is old enough to be replaced"
    WIPE = "the previous epoch's stragglers have had their time: its keys are wiped"
    KEEPALIVE = "nothing was sent for long enough that a NAT could forget us"
    PROBE = "the paths of a suspect link are probed again"
    PORT = "this side's local port is old enough to be left"
    PUNCH = "the new path of a moving port was not answered: it is challenged again"
    MOVE = "the new path of a moving port had its time: the port stays"
    OVERLAP = "what was under way to an old port has had its time: the port is closed"
    REPORT = "a device that was told of copies can be told of more"
    HOP = "a suspect path stays dead: another local port may do better"
    ASLEEP = "a dialer was lost long enough: keep its keys and wait for it"
    SILENCE = "nothing authenticated came for so long that the peer is gone"
    CLOSING = "packets in flight have had time to be answered with the CLOSE"
    DECLARING = "COMPROMISED, or an acknowledgement of it, is said again"
    WIPING = "the peer did not confirm in time that it destroys its side: the last keys go anyway"
    BOOTSTRAP = "the published bootstrap file is replaced by a fresh one"
