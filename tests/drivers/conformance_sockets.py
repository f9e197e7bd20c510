"""What the drivers on real sockets share in the conformance suite: a loopback address, a disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TypeVar

from attrs import define, evolve, field

from clawchat.core.actions import BootstrapContent, Destroy, DestroyIdentity
from clawchat.core.config import Config
from clawchat.core.credential import Address, Pairing
from clawchat.core.crypto.bootstrap import BootstrapKey
from clawchat.core.instant import SECOND
from clawchat.drivers.publisher import Publisher
from clawchat.drivers.sockets import UdpSocket
from tests.drivers.conformance import Scenario
from tests.waiting import PATIENCE

D = TypeVar("D")
LOOPBACK = "127.0.0.1"


class Desk(Publisher):
    """Keeps the content of the file instead of writing it."""

    def __init__(self) -> None:
        super().__init__("nowhere", BootstrapKey.from_base64url("A" * 43))
        self.content: BootstrapContent | None = None
        self.written = Event()

    def publish(self, content: BootstrapContent) -> Path:
        self.content = content
        self.written.set()
        return self.path

    def withdraw(self) -> None:
        """The scenarios read it only right after it was published."""


@define
class Machine:
    """What outlives a crash of one side: identity, address, what was saved."""

    _config: Config
    address: Address
    _first: UdpSocket | None  # kept open until it is wanted: nobody else gets its port
    kept: dict[bytes, Pairing] = field(factory=dict)
    desk: Desk = field(factory=Desk)

    @staticmethod
    def fresh(scenario: Scenario) -> Machine:
        sock = UdpSocket(Address(LOOPBACK, 0))
        return Machine(scenario.config(os.urandom(32)), sock.address, sock)

    def bind(self) -> UdpSocket:
        sock, self._first = self._first, None
        return sock or UdpSocket(self.address)

    def next_config(self) -> Config:
        """The scenario's for the first process; later ones have time to dial."""
        config = self._config
        self._config = evolve(config, dial_ns_max=int(PATIENCE * SECOND))
        return config

    def driver(self, kind: Callable[..., D]) -> D:
        """One of that kind, on the machine's address and disk."""
        return kind(
            self.next_config(),
            [self.bind()],
            persist=self.save,
            erase=self.erase,
            publisher=self.desk,
        )

    def save(self, pairing: Pairing) -> None:
        self.kept[pairing.file_id] = pairing

    def erase(self, action: Destroy | DestroyIdentity) -> None:
        if isinstance(action, Destroy):
            del self.kept[action.file_id]

    def saved(self) -> list[Pairing]:
        return list(self.kept.values())
