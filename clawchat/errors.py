"""Everything that can go wrong, named once, by whose fault it is.

| fault                               | what happens                                              |
|-------------------------------------|-----------------------------------------------------------|
| the application                     | a `LocalError` is raised and nothing changed              |
| the peer or network, before proof   | dropped in silence, counted under one `Drop`              |
| the peer, authenticated             | `Violation` inside the core; the link closes with a code  |
| a file or setting of the user       | a `UserError` that names the culprit and the next step    |
| us                                  | `assert`                                                  |

Rules: no text here ever contains a secret; nothing finer than a `CloseCode` goes on the wire.
Left to others: exit codes and wording for the terminal (`clawchat.cli`).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, IntEnum, unique
from typing import Final


@unique
class CloseCode(IntEnum):
    """Why a link ended, as one varint on the wire (PROTOCOL.md, "Close codes")."""

    DONE = 0x00  # the application is finished
    INTERNAL = 0x01  # the closing side failed; the peer did nothing wrong
    FRAME = 0x02  # a frame that does not parse, or is not allowed where it came
    FLOW_CONTROL = 0x03  # more bytes than the window allowed
    STREAM_LIMIT = 0x04  # more streams than were granted
    STREAM_STATE = 0x05  # a frame for a stream that cannot take it
    FINAL_SIZE = 0x06  # a stream's end moved, or data came beyond it
    ACK = 0x07  # an acknowledgement for a packet that was never sent
    KEYS = 0x08  # a ratchet message that does not fit the ratchet's state
    # 0x09 is not used: parameters that cannot be used are dropped with the HELLO they came in.
    REPLACED = 0x0A  # the same device made a newer link
    REVOKED = 0x0B  # the listener no longer accepts this device
    LIMIT = 0x0C  # a resource limit of the closing side was reached
    KEYS_EXHAUSTED = 0x0D  # the packet limit of an epoch was reached without a rotation
    # The ones below are never sent: they say locally why no word came from the peer.
    TIMEOUT = 0x40  # the peer did not answer in time
    UNREACHABLE = 0x41  # the operating system would not send
    STORE = 0x42  # the credential could not be written, so the link was not used
    SUPERSEDED = 0x43  # the listener has already seen a newer generation of this credential
    COMPROMISED = 0x44  # the pairing was declared compromised: both sides destroy it


# After these, dialling again would fail again, or take the link from another process in turn.
LASTING: Final = frozenset(
    {
        CloseCode.REPLACED,
        CloseCode.REVOKED,
        CloseCode.STORE,
        CloseCode.SUPERSEDED,  # and each attempt is another alarm at the listener
        CloseCode.COMPROMISED,
    }
)


@unique
class CompromiseReason(IntEnum):
    """Why a pairing was declared compromised (PROTOCOL.md, "Compromised")."""

    UNSPECIFIED = 0x00  # no reason is given, or one that only a later version knows
    USER = 0x01  # a person decided so and said no more
    CREDENTIAL_REUSED = 0x02  # somebody used an old or foreign copy of the credential
    DEVICE_LOST = 0x03  # a device is lost, stolen or given away
    FILE_LEAKED = 0x04  # somebody else saw a bootstrap file and its key, or a backup
    INTRUSION = 0x05  # somebody else was, or may have been, on one of the machines


@unique
class Drop(Enum):
    """Why a datagram was dropped without an answer. One counter each; never a phase change."""

    __hash__ = object.__hash__  # Enum's own runs in Python, and a flood is counted with these

    EMPTY = "too short to be anything of ours"
    OVERSIZED = "longer than any datagram of ours"
    STRANGER = "neither a connection id nor a hint that we know"
    ENVELOPE = "a known hint, but the envelope does not open"
    HANDSHAKE = "the envelope opened, but the Noise message does not verify"
    WRONG_DEVICE = "a valid handshake by a device other than the pinned one"
    SUPERSEDED = "a valid envelope of a generation that was already replaced"
    EXPIRED = "a valid envelope of a bootstrap file whose time is over"
    BUSY = "a limit on handshakes or links was reached"
    LIMITED = "one more handshake than its source, its pairing or all of them are worth per second"
    PATH = "an answer, or a dialer's first packet, from an address to which nothing of ours went"
    SEAL = "a known connection id, but the packet does not authenticate"
    REPLAY = (
        "a HELLO that was answered, or a packet number that came, before; or one too old to tell"
    )
    RESERVED = "an authenticated header with reserved bits set"
    MALFORMED_VARINT = "a varint that runs past its end"
    MALFORMED_FRAME = "a frame that does not parse"
    MALFORMED_ENVELOPE = "an envelope whose inside does not parse"
    MALFORMED_PARAMETERS = "handshake parameters that do not parse"
    MALFORMED_BOOTSTRAP = "a bootstrap file that does not parse"


class ClawChatError(Exception):
    """The root of every exception this package raises on purpose."""


# --- the peer or the network ------------------------------------------------------------------


class Malformed(ClawChatError):
    """Bytes that do not parse. Every decoder raises this and nothing else."""

    def __init__(self, drop: Drop) -> None:
        super().__init__(drop.value)
        self.drop = drop


class Violation(ClawChatError):
    """An authenticated peer broke a rule; the link closes with `code`. Never leaves the core."""

    def __init__(self, code: CloseCode, text: str) -> None:
        super().__init__(text)
        self.code = code


# --- the application --------------------------------------------------------------------------


class LocalError(ClawChatError):
    """The application asked for what cannot be done. Nothing changed."""


class UnknownLink(LocalError):
    """No link with this id, or it is already closed."""


class LinkTaken(LocalError):
    """The id is in use, or the pairing is being dialled already."""


class PairingDestroyed(LocalError):
    """The pairing was declared compromised and destroyed; it is never used again."""


class LinkLimit(LocalError):
    """This endpoint holds as many links as it may."""


class UnknownStream(LocalError):
    """No such stream on this link, or its side in question is already finished."""


class StreamLimit(LocalError):
    """The peer has not granted another stream yet."""


class DatagramTooLarge(LocalError):
    """An unreliable datagram that does not fit one packet of this path."""


class BufferFull(LocalError):
    """A send buffer is at its limit; wait for `StreamDrained`."""


class LinkClosed(ClawChatError):
    """A link ended. Raised by drivers to whoever still waits on it.

    `code` is the reason; `by_peer` tells who said it.
    """

    def __init__(self, code: CloseCode, text: str = "", *, by_peer: bool = False) -> None:
        who = "the peer" if by_peer else "this side"
        super().__init__(text or f"the link was closed by {who} ({code.name.lower()})")
        self.code = code
        self.by_peer = by_peer


def lasting_cause(error: BaseException) -> LinkClosed | None:
    """The end of a link that no patience mends, somewhere behind `error`."""
    for cause in causes(error):
        if isinstance(cause, LinkClosed) and cause.code in LASTING:
            return cause
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error`, what it came from, what that came from, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


# --- files and settings of the user -----------------------------------------------------------


class UserError(ClawChatError):
    """A file, setting or option is at fault. The text names it and the next thing to do."""


class BootstrapError(UserError):
    """A bootstrap file that cannot be used."""


class BootstrapKeyMissing(BootstrapError):
    """No bootstrap key was given; there is no default."""


class BootstrapKeyInvalid(BootstrapError):
    """The bootstrap key given is not 32 bytes of base64url."""


class BootstrapKeyWrong(BootstrapError):
    """The file is whole, but this key does not open it (or the file was altered)."""


class BootstrapForeign(BootstrapError):
    """Not a ClawChat bootstrap file at all."""


class BootstrapTruncated(BootstrapError):
    """The file ends early or is longer than it says."""


class BootstrapVersion(BootstrapError):
    """Written by a newer ClawChat."""


class BootstrapExpired(BootstrapError):
    """The file's time is over."""


class StoreError(UserError):
    """The folder that keeps credentials cannot be read or written, or its content is damaged."""
