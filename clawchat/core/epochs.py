"""The packet keys of one link: the epoch that sends, one before it and one after it.

Rules: at most one previous, one current and one next epoch exist. The connection ids of an epoch
lead here exactly as long as its keys exist; what is wiped is no longer found.
Left to others: when an epoch begins and ends (`core.ratchet`).
"""

from __future__ import annotations

from collections.abc import Callable

from clawchat.core.config import PATH_IDS_AHEAD, PATH_IDS_BEHIND
from clawchat.core.crypto.schedule import EpochKeys
from clawchat.core.instant import Instant
from clawchat.core.secret import Secret


class Epochs:
    """`current` sends. `newest` may be one ahead of it, `previous` is one behind it or None.

    `found(cid, keys, path_id)` is told of each connection id that may arrive, `lost(cid)` of each
    that may not any more. `carried` says whether the current epoch has carried data of the
    application, `began` when it began to send.
    """

    __slots__ = (
        "_dialer",
        "_found",
        "_ids",
        "_lost",
        "began",
        "carried",
        "current",
        "newest",
        "previous",
    )

    def __init__(
        self,
        root: Secret,
        *,
        dialer: bool,
        found: Callable[[bytes, EpochKeys, int], None],
        lost: Callable[[bytes], None],
        now: Instant,
    ) -> None:
        self._dialer = dialer
        self._found = found
        self._lost = lost
        self._ids = range(PATH_IDS_AHEAD)  # path ids under which packets are recognised
        self.current = self.newest = self._add(root, 0)
        self.previous: EpochKeys | None = None
        self.carried = False
        self.began = now

    @property
    def numbers(self) -> tuple[int, ...]:
        """The epochs whose keys exist, oldest first."""
        known = (self.previous, self.current, self.newest)
        return tuple(sorted({keys.epoch for keys in known if keys is not None}))

    def install(self, root: Secret, epoch: int) -> None:
        """Make the next epoch readable."""
        assert self.newest is self.current, "at most one next epoch"
        self.newest = self._add(root, epoch)

    def switch(self, now: Instant) -> None:
        """Send with the newest epoch; the one before it stays readable."""
        assert self.previous is None, "at most one previous epoch"
        self.previous, self.current = self.current, self.newest
        self.carried = False
        self.began = now

    def follow(self, path_id: int) -> None:
        """The peer uses this path id: recognise the ones after it, forget those long before."""
        low = max(self._ids.start, path_id - PATH_IDS_BEHIND)
        ids = range(low, max(self._ids.stop, path_id + PATH_IDS_AHEAD))
        if ids == self._ids:
            return
        for keys in self._all():
            for new in range(self._ids.stop, ids.stop):
                self._found(keys.open.cid(new), keys, new)
            for old in range(self._ids.start, ids.start):
                self._lost(keys.open.cid(old))
        self._ids = ids

    def is_new(self, keys: EpochKeys) -> bool:
        """Whether a packet under `keys` says that the peer uses the epoch of a rotation."""
        return keys is self.newest and (keys is not self.current or self.previous is not None)

    def wipe_previous(self) -> None:
        """Stragglers have had their time. Harmless when there is no previous epoch."""
        keys, self.previous = self.previous, None
        if keys is not None:
            self._wipe(keys)

    def wipe(self) -> None:
        """Wipe every key; nothing can be sent or read afterwards."""
        self.wipe_previous()
        for keys in self._all():
            self._wipe(keys)

    def _all(self) -> list[EpochKeys]:
        """Every epoch that can be read, each once."""
        known = (self.previous, self.current, self.newest)
        return list({keys.epoch: keys for keys in known if keys is not None}.values())

    def _add(self, root: Secret, epoch: int) -> EpochKeys:
        keys = EpochKeys(root, epoch, self._dialer)
        for path_id in self._ids:
            self._found(keys.open.cid(path_id), keys, path_id)
        return keys

    def _wipe(self, keys: EpochKeys) -> None:
        for path_id in self._ids:
            self._lost(keys.open.cid(path_id))
        keys.wipe()
