"""The pairings of this machine, in both of its roles, and finding the one that a person means.

Rules: a pairing is meant by its name, or by the beginning of its fingerprint or id (4 digits or
more); what could mean two is refused, and what means none is answered with all there is.
Left to others: what is done with it (`cli.devices`, `cli.panic`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from attrs import frozen

from clawchat.cli.failures import NotPaired, Usage
from clawchat.cli.terminal import clock, one_line
from clawchat.core.crypto.suite import public_key
from clawchat.drivers.peer import fingerprint
from clawchat.drivers.store import Entry, Store, Unusable

DIGITS_MIN = 4  # of a fingerprint or id: fewer are typed by mistake


@frozen
class Known:
    """One pairing and the store that keeps it."""

    store: Store
    entry: Entry

    @property
    def name(self) -> str:
        return one_line(self.entry.name)

    @property
    def file_id(self) -> bytes:
        return self.entry.pairing.file_id

    @property
    def dialer(self) -> bool:
        """Whether this machine is the device, and the other the listener."""
        return self.entry.pairing.dialer

    @property
    def fingerprint(self) -> str:
        """Of the other side; empty before a device is pinned."""
        static = self.entry.pairing.peer_static
        return "" if static is None else fingerprint(static)

    @property
    def title(self) -> str:
        """For people: name and fingerprint."""
        return f"{self.name} ({self.fingerprint or self.file_id.hex()[:8]})"

    def is_meant_by(self, text: str) -> bool:
        if self.entry.name == text:
            return True
        digits = text.replace(" ", "").lower()
        whole = (self.fingerprint.replace(" ", ""), self.file_id.hex())
        return len(digits) >= DIGITS_MIN and any(one.startswith(digits) for one in whole)


@frozen
class Broken:
    """A file of a pairing that cannot be used, and the store that keeps it."""

    store: Store
    unusable: Unusable
    dialer: bool  # as far as its folder tells

    @property
    def file_id(self) -> bytes:
        return self.unusable.file_id

    @property
    def name(self) -> str:
        return self.file_id.hex()[:8] or one_line(self.unusable.path.name)

    @property
    def title(self) -> str:
        return f"{self.name} (damaged)"

    def is_meant_by(self, text: str) -> bool:
        return len(text) >= DIGITS_MIN and self.file_id.hex().startswith(text.lower())

    def told(self) -> dict[str, Any]:
        """As JSON carries it."""
        error, path = str(self.unusable.error), str(self.unusable.path)
        return {"id": self.file_id.hex(), "path": path, "trouble": error}


AnyKnown = TypeVar("AnyKnown", Known, Known | Broken)


def known_in(*folders: Path) -> list[Known]:
    """What the stores in `folders` hold, oldest first in each. Blocks."""
    return [Known(store, entry) for store in _stores(*folders) for entry in store.entries()]


def broken_in(device: Path, listener: Path) -> list[Broken]:
    """What cannot be used of what the stores in these folders hold. Blocks."""
    return [
        Broken(store, unusable, store.folder == device)
        for store in _stores(device, listener)
        for unusable in store.unusable()
    ]


def all_in(device: Path, listener: Path) -> list[Known | Broken]:
    """Every pairing in these folders, whether or not it can be used. Blocks."""
    return [*known_in(device, listener), *broken_in(device, listener)]


def last_ended(*folders: Path) -> str:
    """What became of the pairing in these folders that was ended last; "" if none was. Blocks."""
    ended = [one for store in _stores(*folders) for one in store.ended()]
    if not ended:
        return ""
    last = max(ended, key=lambda one: one.when)
    return f"{one_line(last.name)} was {last.why.value}, {clock(last.when)}"


def _stores(*folders: Path) -> list[Store]:
    return [Store(folder) for folder in dict.fromkeys(folders) if folder.is_dir()]


def own_fingerprint(folder: Path) -> str:
    """What a listener shows as the fingerprint of the device that keeps its state in `folder`."""
    identity = Store(folder).identity()  # wiped when it is let go of
    return fingerprint(public_key(identity.view()))


def pick(known: Sequence[AnyKnown], text: str) -> AnyKnown:
    """The one that `text` means. Raises `NotPaired` or `Usage`, which list what there is."""
    found = [one for one in known if one.is_meant_by(text)]
    if not found:
        there = ", ".join(one.title for one in known)
        raise NotPaired(f"nothing is paired here under {text!r}; paired: {there or 'nothing'}")
    if len(found) > 1:
        which = ", ".join(one.title for one in found)
        raise Usage(f"{text!r} could be {which}: use a fingerprint, or more of it")
    return found[0]
