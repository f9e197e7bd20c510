"""From one secret to all the others (PROTOCOL.md "Credentials").

Rules: one label for each use; a secret that outlives the call that makes it is a `Secret`.
Left to others: when to derive, when to wipe (`core.phases`, `core.link`).
"""

from __future__ import annotations

from clawchat.core.credential import HINT_SIZE, Credential
from clawchat.core.crypto.packets import DIALER, LISTENER, OpenKeys, SealKeys
from clawchat.core.crypto.suite import (
    KEY_SIZE,
    LABEL,
    derive,
    expand_secret,
    extract,
    sha256_digest,
)
from clawchat.core.secret import Secret


def prologue(file_id: bytes, generation: int) -> bytes:
    """What both sides of a handshake must agree on beforehand."""
    return LABEL + file_id + generation.to_bytes(8, "big")


def derive_credential(file_id: bytes, generation: int, secret: Secret | bytes) -> Credential:
    """The credential of `generation` from that generation's 32-byte secret."""
    material = secret.view() if isinstance(secret, Secret) else secret
    return Credential(
        generation=generation,
        hint=bytes(derive(file_id, material, b"hint", HINT_SIZE)),
        envelope_key=Secret.adopt(derive(file_id, material, b"envelope", KEY_SIZE)),
        psk=Secret.adopt(derive(file_id, material, b"psk", KEY_SIZE)),
    )


def next_secret(chaining_key: bytes, handshake_hash: bytes) -> Secret:
    """The secret of the next generation, from a finished handshake."""
    return Secret.adopt(derive(handshake_hash, chaining_key, b"next", KEY_SIZE))


def first_root(chaining_key: bytes, handshake_hash: bytes) -> Secret:
    """The root of epoch 0, from a finished handshake."""
    return Secret.adopt(derive(handshake_hash, chaining_key, b"root", KEY_SIZE))


def ratchet_root(root: Secret, shared: bytes, epoch: int, offer: bytes, reply: bytes) -> Secret:
    """The root of `epoch` from that of the epoch before, an X-Wing secret and both messages."""
    transcript = sha256_digest(epoch.to_bytes(4, "big") + offer + reply)
    prk = extract(root.view(), shared)
    return Secret.adopt(expand_secret(prk, b"ratchet " + transcript, KEY_SIZE))


class EpochKeys:
    """The packet keys of one epoch: `seal` for what we send, `open` for what comes.

    Takes over `root`, which the next ratchet needs, and wipes it with the rest.
    """

    __slots__ = ("epoch", "open", "root", "seal")

    def __init__(self, root: Secret, epoch: int, dialer: bool) -> None:
        ours, theirs = (DIALER, LISTENER) if dialer else (LISTENER, DIALER)
        self.root = root
        self.epoch = epoch
        self.seal = SealKeys(root, epoch, ours)
        self.open = OpenKeys(root, epoch, theirs)

    def wipe(self) -> None:
        """Overwrite the root, drop every context. Harmless when repeated."""
        self.root.wipe()
        self.seal.wipe()
        self.open.wipe()
