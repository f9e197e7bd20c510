"""What an endpoint does when a pairing, or everything, is declared compromised.

Rules: what is destroyed stays destroyed while this endpoint lives. With everything go the
identity, every pairing and every bootstrap file; each peer is told over the links there are.
Left to others: one link's part, and when (`core.undoing`), files (drivers).
"""

from __future__ import annotations

from attrs import evolve

from clawchat.core.actions import Destroy, DestroyIdentity, Kept, Withdraw
from clawchat.core.credential import FILE_ID_SIZE
from clawchat.core.events import DeclareCompromised
from clawchat.core.instant import Instant
from clawchat.core.issuing import Issuing
from clawchat.core.link import Link
from clawchat.core.links import Links
from clawchat.core.phases import established
from clawchat.core.reception import Reception
from clawchat.core.registry import Registry
from clawchat.core.secret import Secret
from clawchat.core.table import Trace
from clawchat.core.undoing import Undoing
from clawchat.errors import CompromiseReason, LocalError, PairingDestroyed


class Destruction:
    """`own` are the endpoint's own secrets, which go with everything."""

    __slots__ = (
        "_destroyed",
        "_issuing",
        "_links",
        "_own",
        "_reception",
        "_registry",
        "_trace",
        "of_everything",
    )

    def __init__(
        self,
        own: tuple[Secret, ...],
        registry: Registry[Link],
        links: Links,
        reception: Reception,
        issuing: Issuing,
        trace: Trace | None,
    ) -> None:
        self.of_everything = False
        self._destroyed: dict[bytes, None] = {}  # pairings that must never be used again
        self._own = own
        self._registry = registry
        self._links = links
        self._reception = reception
        self._issuing = issuing
        self._trace = trace

    # --- what the application asks ------------------------------------------------------------

    def check(self, file_id: bytes) -> None:
        """Whether a pairing may still be used. Raises `PairingDestroyed` when not."""
        if self.of_everything or file_id in self._destroyed:
            raise PairingDestroyed(
                f"pairing {file_id.hex()[:8]} was declared compromised and destroyed"
            )

    def declare(self, event: DeclareCompromised, now: Instant) -> None:
        """The application says so. Raises `LocalError`."""
        if len(event.file_id) != FILE_ID_SIZE and (event.file_id or not event.everything):
            raise LocalError("say which pairing is compromised: its file id has 16 bytes")
        if self.of_everything or not event.everything:
            self.check(event.file_id)
        if event.file_id and event.file_id not in self._destroyed:
            self._declare(event.file_id, event.reason, event.everything, now)
        else:
            self._fall(event.reason, now)

    def _declare(
        self, file_id: bytes, reason: CompromiseReason, everything: bool, now: Instant
    ) -> None:
        """Over every link of the pairing; over none when there is none."""
        able = [
            link
            for link in self._links.of(file_id)
            if link.undoing is None and link.life.phase is not established.Phase.CLOSING
        ]
        for link in able:
            link.begin_undoing()
        for link in able:
            self._links.touch(link)
            link.declare_compromised(reason, everything, now)
        if not able:
            undoing = Undoing(file_id, None, self._registry, self._trace)
            undoing.declare(reason, everything, False, now)

    # --- what follows, for what a link does not keep itself -----------------------------------

    def destroy(
        self, file_id: bytes, reason: CompromiseReason, everything: bool, now: Instant
    ) -> Kept:
        """Wipe what is kept of a pairing; with `everything`, all the others and our identity."""
        kept = Kept()
        if file_id not in self._destroyed:
            self._destroyed[file_id] = None
            kept = self._wipe_pairing(file_id, now)
            self._registry.out.append(Destroy(file_id))
            for link in self._links.of(file_id):
                if link.undoing is None:  # nothing is said over these
                    self._links.touch(link)
                    link.vanish(now)
        if everything:
            kept = evolve(kept, identity=True)
            if not self.of_everything:
                files = len(self._issuing.model.live)
                self._fall(reason, now)
                kept = evolve(kept, bootstrap_files=kept.bootstrap_files + files)
        return kept

    def _wipe_pairing(self, file_id: bytes, now: Instant) -> Kept:
        registry, files = self._registry, 0
        pairing = registry.pairings.get(file_id)
        if file_id in self._issuing.model.live:
            files = len(self._issuing.model.live)
            self._issuing.stop(now)
        self._reception.forget(file_id, now)
        written = [saving for saving in registry.saving.items() if saving[1][1].file_id == file_id]
        for ticket, (_, being_written) in written:
            del registry.saving[ticket]
            being_written.wipe()
        if pairing is None:
            return Kept(bootstrap_files=files)
        return Kept(
            generations=tuple(known.generation for known in pairing.credentials),
            superseded=len(pairing.superseded),
            pinned_key=pairing.peer_static is not None,
            bootstrap_files=files,
        )

    def _fall(self, reason: CompromiseReason, now: Instant) -> None:
        """Nothing here is to be trusted any more."""
        self.of_everything = True
        self._issuing.stop(now)
        registry = self._registry
        linked = [link.file_id for link in self._links.by_id.values()]
        written = [
            pairing.file_id for _, pairing in registry.saving.values()
        ]  # of lapsed dials too
        known = [*registry.pairings, *linked, *written]
        for secret in self._own:
            secret.wipe()
        registry.out += [Withdraw(), DestroyIdentity()]
        for file_id in known:
            if file_id not in self._destroyed:
                self._declare(file_id, reason, True, now)
