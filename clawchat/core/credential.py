"""What lets two installations find and trust each other again: credentials and pairings.

A *credential* is one generation of shared secrets (PROTOCOL.md, "Generations"). A *pairing* is
what one side keeps about the other between links; its `file_id`, taken from the bootstrap file
that began it, names it for ever.

Rules: values are frozen; a new generation is a new `Pairing`, so that a driver can write it to
disk in full before the core goes on (write-ahead).
Left to others: deriving a generation (`core.crypto.schedule`), keeping it (`drivers.store`).
"""

from __future__ import annotations

from typing import NamedTuple

from attrs import evolve, field, frozen

from clawchat.core.secret import Secret

SUPERSEDED_MAX = 16  # PROTOCOL.md "Clone detection": old generations a listener can recognise
FILE_ID_SIZE = 16
HINT_SIZE = 16
STATIC_SIZE = 32


class Address(NamedTuple):
    """An IP address in its canonical text form, and a UDP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Path(NamedTuple):
    """One way a datagram can take: our socket's address and the peer's."""

    local: Address
    remote: Address


@frozen
class Credential:
    """One generation. `hint` is public; the other two are secret."""

    generation: int
    hint: bytes
    envelope_key: Secret
    psk: Secret

    def own(self) -> Credential:
        """The same with secrets of its own: wiping one does not wipe the other."""
        return evolve(self, envelope_key=self.envelope_key.copy(), psk=self.psk.copy())

    def wipe(self) -> None:
        """Overwrite both secrets. Harmless when repeated."""
        self.envelope_key.wipe()
        self.psk.wipe()


@frozen
class Superseded:
    """What a listener keeps of an old generation: enough to recognise it, not to accept it."""

    generation: int
    hint: bytes
    envelope_key: Secret


@frozen
class Pairing:
    """What this side keeps about one peer.

    `credentials` holds the newest generation first and at most one older: the older one goes
    when the peer has proved that it keeps the newer one. `peer_static` is the peer's X25519
    public key: the listener's is known from the bootstrap file, the dialer's is pinned on first
    use and is None until then. `listener_static` equals `peer_static` on the dialer's side.
    """

    file_id: bytes
    dialer: bool
    listener_static: bytes
    peer_static: bytes | None
    credentials: tuple[Credential, ...]
    superseded: tuple[Superseded, ...] = field(default=())

    @property
    def newest(self) -> Credential:
        return self.credentials[0]

    def own(self) -> Pairing:
        """As `Credential.own`, with every secret in it."""
        return evolve(
            self,
            credentials=tuple(known.own() for known in self.credentials),
            superseded=tuple(
                evolve(old, envelope_key=old.envelope_key.copy()) for old in self.superseded
            ),
        )

    def wipe(self) -> None:
        """Overwrite every secret in it. Harmless when repeated."""
        for known in self.credentials:
            known.wipe()
        for old in self.superseded:
            old.envelope_key.wipe()
