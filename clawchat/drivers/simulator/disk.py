"""A virtual disk: what a host's process has made durable, and what a crash does to the rest.

Rules: writes of one host happen one after the other, each takes a while, each is atomic. A crash
keeps a prefix of the writes under way: the process may have died just before its write counted,
or just after and before it was told.
Left to others: who writes (`host`), real files (`clawchat.drivers.store`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random

from attrs import define, field

from clawchat.core.credential import Pairing
from clawchat.core.instant import MILLISECOND
from clawchat.drivers.simulator.clock import Timeline

Told = Callable[[bool], None]


@define
class _Writing:
    file_id: bytes
    pairing: Pairing | None  # None: what was kept is destroyed
    told: Told
    fails: bool
    afterwards: list[Callable[[], None]] = field(factory=list)


@define(slots=False)
class Disk:
    """Pairings by `file_id`. `write_ns` bounds how long one write takes (nanoseconds)."""

    timeline: Timeline
    rng: Random
    write_ns: int = 5 * MILLISECOND
    full: bool = False
    kept: dict[bytes, Pairing] = field(factory=dict)
    destroyed: dict[bytes, None] = field(factory=dict)
    on_durable: Callable[[Pairing], None] | None = None
    _under_way: deque[_Writing] = field(factory=deque)
    _life: int = 0

    def write(self, pairing: Pairing, told: Told) -> None:
        """Begin to make `pairing` durable; `told(True)` or `told(False)` follows."""
        self._enqueue(_Writing(pairing.file_id, pairing, told, self.full))

    def destroy(self, file_id: bytes) -> None:
        """Begin to destroy a pairing: it is never kept again. A full disk does not hinder that."""
        self._enqueue(_Writing(file_id, None, lambda _kept: None, False))

    def in_turn(self, act: Callable[[], None]) -> None:
        """Do this once all that is under way is durable; a crash before that forgets it."""
        if self._under_way:
            self._under_way[-1].afterwards.append(act)
        else:
            act()

    def _enqueue(self, writing: _Writing) -> None:
        self._under_way.append(writing)
        if len(self._under_way) == 1:
            self._begin()

    def crash(self, survivors: int | None = None) -> None:
        """The process is gone: the first `survivors` writes under way still count.

        None leaves the number to the dice.
        """
        pending = len(self._under_way)
        count = self.rng.randint(0, pending) if survivors is None else min(survivors, pending)
        for writing in list(self._under_way)[:count]:
            self._keep(writing)
        self._under_way.clear()
        self._life += 1

    @property
    def busy(self) -> bool:
        return bool(self._under_way)

    def _begin(self) -> None:
        delay = self.rng.randint(0, self.write_ns) if self.write_ns else 0
        self.timeline.after(delay, partial(self._finish, self._life))

    def _finish(self, life: int) -> None:
        if life != self._life:
            return  # that process has died since
        writing = self._under_way.popleft()
        self._keep(writing)
        if self._under_way:
            self._begin()
        writing.told(not writing.fails)

    def _keep(self, writing: _Writing) -> None:
        self._write(writing)
        for act in writing.afterwards:
            act()

    def _write(self, writing: _Writing) -> None:
        if writing.pairing is None:
            self.kept.pop(writing.file_id, None)
            self.destroyed[writing.file_id] = None
        elif not writing.fails:
            self.kept[writing.file_id] = writing.pairing
            if self.on_durable is not None:
                self.on_durable(writing.pairing)
