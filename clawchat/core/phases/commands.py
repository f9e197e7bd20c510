"""What a phase machine asks its owner to do.

Rules: frozen values; a machine appends them to its `out`, in order; whoever fired the event
carries them out before the next event.
Left to others: the doing (`core.link`, `core.ratchet`, `core.ports`, `core.undoing`).
"""

from __future__ import annotations

from attrs import frozen

from clawchat.core.credential import Address, Pairing
from clawchat.core.secret import Secret
from clawchat.core.wire.control import ControlMessage
from clawchat.errors import CloseCode


@frozen
class Save:
    """Make the pairing durable and report back."""

    pairing: Pairing


@frozen
class StartAttempt:
    """Make a new HELLO with the pairing's `turn`-th credential, carrying `cookie` if not empty."""

    turn: int
    cookie: bytes


@frozen
class SendHello:
    """Send the current HELLO on every path."""


@frozen
class SendReply:
    """Send the REPLY to where the HELLO came from."""


@frozen
class Announce:
    """Tell the application that the link can be used."""


@frozen
class Fail:
    """Tell the application that there is no link, and why."""

    code: CloseCode
    text: str


@frozen
class ProbePaths:
    """Ask on every known path whether the peer is there."""


@frozen
class AskForPort:
    """Ask for another local port."""


@frozen
class StopAsking:
    """Probe no more, and send nothing."""


@frozen
class ReportSuspect:
    """Tell the application that the path is suspect."""


@frozen
class ReportRestored:
    """Tell the application that the peer is back."""


@frozen
class SendClose:
    """Send a CLOSE now."""


@frozen
class Report:
    """Tell the application that the link is over."""

    code: CloseCode
    text: str
    by_peer: bool


@frozen
class DestroyKept:
    """Wipe all that is not needed to tell the peer, and see that nothing stored is left."""


@frozen
class SendDeclaration:
    """Send COMPROMISED on every path."""


@frozen
class SealEchoes:
    """Seal all the COMPROMISED_ACKs that will be sent."""


@frozen
class SendEcho:
    """Send the next of them."""


@frozen
class WipePackets:
    """Wipe the packet keys: nothing can be read or sealed any more."""


@frozen
class GiveReceipt:
    """Tell the application what was destroyed, and that the link is over."""


@frozen
class SendControl:
    """Send a message on the control stream."""

    message: ControlMessage


@frozen
class InstallEpoch:
    """Make the keys of the next epoch usable for receiving, and known for sending."""

    epoch: int
    root: Secret


@frozen
class SwitchSending:
    """Send with the newest epoch from now on."""


@frozen
class WipePrevious:
    """Forget and wipe the keys of the previous epoch."""


@frozen
class Rotated:
    """Tell the application that both sides use `epoch`."""

    epoch: int
    took_ns: int


@frozen
class WantSocket:
    """Ask the driver for a socket that is bound to `local`."""

    local: Address


@frozen
class PunchPort:
    """Challenge the peer from the new socket."""


@frozen
class UseNewPort:
    """Let data take the new path, which is proved."""


@frozen
class CloseNewPort:
    """Give the new socket back."""


@frozen
class CloseOldPorts:
    """Give back every socket that this link does not send from."""


@frozen
class PortMoved:
    """Tell the application that data takes `local` now."""

    local: Address
    took_ns: int


@frozen
class KeepPort:
    """Tell the application that the port stays; if the move `failed`, change the keys instead."""

    why: str
    failed: bool


@frozen
class PutOffMove:
    """Try again in a minute."""


@frozen
class PunchPeer:
    """Challenge the peer at these addresses."""

    addresses: tuple[Address, ...]


@frozen
class EndPunching:
    """Challenge it there no more."""
