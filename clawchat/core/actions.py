"""All that can come out of an `Endpoint`: what a driver must do, and notices to pass on.

Rules: frozen values; actions are done in the order given; `Persist` is answered by
`events.Persisted` once the bytes are durable, and the core waits for that where its write-ahead
order needs it. A driver may batch `Transmit`s; it never reorders within one path.
Left to others: doing it (`clawchat.drivers`).
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import field, frozen

from clawchat.core.credential import Address, Pairing, Path
from clawchat.core.events import Buffer
from clawchat.core.instant import Instant
from clawchat.core.secret import Secret
from clawchat.errors import CloseCode, CompromiseReason


@frozen
class BootstrapContent:
    """What a bootstrap file says (PROTOCOL.md "Bootstrap file"). Times are Unix seconds."""

    listener_static: bytes
    secret: Secret
    file_id: bytes
    candidates: tuple[Address, ...]
    issued: int
    expires: int
    rendezvous: str = ""


@frozen
class Transmit:
    """Send these datagrams over `path`. All have the size of the first, the last may be shorter."""

    path: Path
    datagrams: list[bytes]


@frozen
class Persist:
    """Make `pairing` durable, replacing what was kept for its `file_id`, then say `Persisted`."""

    link: int
    ticket: int
    pairing: Pairing


@frozen
class Publish:
    """Seal `content` under the bootstrap key and put it where the user finds it."""

    content: BootstrapContent


@frozen
class Withdraw:
    """Remove the published bootstrap file: it was redeemed, or issuing ended."""


@frozen
class HopPort:
    """No path answers: open another socket, and tell of its paths with `events.Disturbed`."""

    link: int
    remotes: tuple[Address, ...]


@frozen
class OpenPort:
    """Open a socket bound to `local`, and answer `events.PortOpened` or `events.PortRefused`."""

    link: int
    local: Address


@frozen
class ClosePort:
    """This link does not send from `local` any more: close the socket if nothing else needs it.

    A listener keeps the sockets that it began with, since credentials name them.
    """

    link: int
    local: Address


@frozen
class Destroy:
    """Overwrite and remove all that is kept of a pairing, and see that it is not used again.

    Like every write it comes after those asked for before. First make durable that it is to be
    destroyed, so that a process killed half way finishes when it starts again.
    """

    file_id: bytes


@frozen
class DestroyIdentity:
    """Overwrite and remove our own key: whoever starts next makes another."""


# --- notices ----------------------------------------------------------------------------------


@frozen
class Established:
    """The link carries data, and the credential for the next one is kept on this side."""

    peer_static: bytes
    file_id: bytes
    generation: int
    handshake_hash: bytes
    dialer: bool
    path: Path


@frozen
class Observed:
    """The address from which the peer saw us come."""

    address: Address


@frozen
class PathChanged:
    """Data goes over another path from now on."""

    path: Path


@frozen
class PathSuspect:
    """Nothing is answered; every known path is being probed. Ends with `PathRestored`."""


@frozen
class PathRestored:
    """The peer was heard again after `after_ns` without a word."""

    after_ns: int


@frozen
class StreamOpened:
    """The peer opened a stream."""

    stream: int


@frozen
class StreamData:
    """In-order bytes of a stream; `end` says that no more will come."""

    stream: int
    data: Buffer
    end: bool


@frozen
class StreamReset:
    """The peer gave up its sending side."""

    stream: int
    code: int


@frozen
class StreamStopped:
    """The peer wants no more of what we send on this stream."""

    stream: int
    code: int


@frozen
class StreamDrained:
    """Acknowledgements came: `buffered` bytes of this stream are not yet acknowledged.

    `finished` is true once, when everything including the end is acknowledged.
    """

    stream: int
    buffered: int
    finished: bool


@frozen
class StreamsGranted:
    """The peer allows us to open streams with sequence numbers below `limit`."""

    limit: int


@frozen
class DatagramArrived:
    """An unreliable datagram."""

    data: bytes


@frozen
class Ponged:
    """A `Ping` was acknowledged after `rtt_ns`."""

    token: int
    rtt_ns: int


@frozen
class KeysRotated:
    """Both sides use the keys of this epoch; `took_ns` is how long the exchange lasted."""

    epoch: int
    took_ns: int


@frozen
class PortRotated:
    """This side's datagrams leave from `local` now; `took_ns` is how long the move lasted."""

    local: Address
    took_ns: int


@frozen
class PortKept:
    """A move to another port was given up, and why: nothing is lost, and it is tried again."""

    why: str


@frozen
class CredentialReused:
    """Somebody holds a credential that is not theirs, or not current any more. For the user.

    `static` is the public key of whoever used it. With `same_device` it is the pinned device's:
    an old state of that device, from a backup or a copy. Without, another machine holds a copy,
    of a bootstrap file when `generation` is 0.
    """

    file_id: bytes
    generation: int
    path: Path
    static: bytes
    same_device: bool


@frozen
class CopyReported:
    """Our listener noticed that somebody else used a credential of this device. For the user.

    `count` times since it last said so; the last was `ago_ns` ago, from `remote` as the listener
    sees it. With `same_device` it was by this device's own key: an old state of it, from a backup
    or a copy of all it keeps. Without, another machine holds a copy, of the bootstrap file when
    `generation` is 0.
    """

    generation: int
    remote: Address
    same_device: bool
    count: int
    ago_ns: int


@frozen
class Kept:
    """What this side held of a pairing besides packet keys, and has wiped."""

    generations: tuple[int, ...] = ()  # of the credentials, newest first
    superseded: int = 0  # older generations that could still be recognised
    pinned_key: bool = False  # the peer's static key
    bootstrap_files: int = 0  # live ones, withdrawn
    identity: bool = False  # our own static key


@frozen
class Receipt:
    """What a declaration of compromise has destroyed on this side.

    `by_peer`: the peer declared it and we obeyed. `confirmed`: the peer is known to obey, or to
    have declared it itself. `told`: there was a link to tell it over. `epochs`: whose packet keys
    were wiped.
    """

    file_id: bytes
    reason: CompromiseReason
    everything: bool
    by_peer: bool
    told: bool
    confirmed: bool
    kept: Kept
    epochs: tuple[int, ...] = ()


@frozen
class Compromised:
    """A pairing was declared compromised; nothing of it is left in this endpoint."""

    receipt: Receipt


@frozen
class Closed:
    """The link is over; the last notice of its id."""

    code: CloseCode
    reason: str
    by_peer: bool


Notice: TypeAlias = (
    Established
    | Observed
    | PathChanged
    | PathSuspect
    | PathRestored
    | StreamOpened
    | StreamData
    | StreamReset
    | StreamStopped
    | StreamDrained
    | StreamsGranted
    | DatagramArrived
    | Ponged
    | KeysRotated
    | PortRotated
    | PortKept
    | CredentialReused
    | CopyReported
    | Compromised
    | Closed
)


@frozen
class Notify:
    """Tell the application. `link` is 0 for what concerns no link of ours."""

    link: int
    notice: Notice


Action: TypeAlias = (
    Transmit
    | Persist
    | Publish
    | Withdraw
    | Destroy
    | DestroyIdentity
    | HopPort
    | OpenPort
    | ClosePort
    | Notify
)


@frozen
class LinkStats:
    """A snapshot for `status`: times in ns, sizes in bytes."""

    phase: str
    epoch: int
    generation: int
    path: Path | None
    rtt_ns: int
    rtt_min_ns: int
    datagram_size: int
    congestion_window: int
    bytes_in_flight: int
    packets_sent: int
    packets_received: int
    packets_lost: int
    established_at: Instant
    streams: int = field(default=0)
    ports_left: int = field(default=0)  # how often this side has changed its port
