"""Where HELLOs come in: who is answered, and which answered one becomes a link.

Rules: what costs a public-key operation comes after all that can be refused without one. A HELLO
is answered by a handshake once, and by repeating the answer while that is pending. Nothing else
comes of it until somebody proves that it is no recording.
Left to others: messages (`core.exchange`), copies of credentials (`core.clones`), how much is
worked for whom (`core.admission`), which files are live (`core.issuing`).
"""

from __future__ import annotations

from typing import Final

from clawchat.core.admission import source_of
from clawchat.core.clones import Clones
from clawchat.core.config import PENDING_LIFE, PENDING_PER_PAIRING, Config, Entropy
from clawchat.core.credential import Credential, Pairing, Path, Superseded
from clawchat.core.crypto.envelope import open_hello
from clawchat.core.exchange import EPHEMERAL_SIZE, Hello, answer, read_hello
from clawchat.core.instant import Instant
from clawchat.core.link import Link
from clawchat.core.links import Links
from clawchat.core.phases.answering import Answering, Phase
from clawchat.core.phases.bootstrap import Issuer
from clawchat.core.registry import Registry
from clawchat.errors import Drop, Malformed

ANSWERED_KEPT_MAX: Final = 64  # HELLOs of one pairing that are not answered anew


class Reception:
    """Of one endpoint. `files` says which bootstrap files may still be redeemed."""

    __slots__ = (
        "_answered",
        "_clones",
        "_config",
        "_entropy",
        "_files",
        "_last_id",
        "_links",
        "_registry",
    )

    def __init__(
        self,
        config: Config,
        entropy: Entropy,
        registry: Registry[Link],
        links: Links,
        files: Issuer,
        clones: Clones,
    ) -> None:
        self._config = config
        self._entropy = entropy
        self._registry = registry
        self._links = links
        self._files = files
        self._clones = clones
        self._answered: dict[bytes, dict[bytes, None]] = {}  # ephemeral keys, by file id
        self._last_id = 0  # ids of links that somebody else dialled are negative

    # --- from a HELLO to its answer -----------------------------------------------------------

    def take_hello(
        self,
        known: tuple[bytes, Credential | Superseded],
        datagram: bytes,
        path: Path,
        now: Instant,
    ) -> None:
        """A datagram under a hint of this pairing's. Raises `Malformed`."""
        file_id, credential = known
        message, cookie = open_hello(credential, datagram)
        pairing = self._registry.pairings[file_id]
        waiting = self._links.pending.get(message)
        if waiting is None and isinstance(credential, Credential):
            self._take_new(pairing, credential, message, path, now)
            return
        if not self._registry.admission.may_answer(path.remote, now):
            raise Malformed(Drop.LIMITED)
        if waiting is not None:
            waiting.answered.reply(path, now)
        else:
            assert isinstance(credential, Superseded)
            self._clones.refuse_generation(pairing, credential, message, cookie, path, now)

    def _take_new(
        self, pairing: Pairing, used: Credential, message: bytes, path: Path, now: Instant
    ) -> None:
        file_id = pairing.file_id
        if message[:EPHEMERAL_SIZE] in self._answered.get(file_id, ()):
            raise Malformed(Drop.REPLAY)
        if pairing.peer_static is None and not self._files.accepts(file_id, now):
            raise Malformed(Drop.EXPIRED)
        if self.is_saving(file_id) or len(self._links.pending) >= self._config.max_pending:
            raise Malformed(Drop.BUSY)
        if self._clones.was_refused(message):
            raise Malformed(Drop.WRONG_DEVICE)
        if not self._registry.admission.may_compute(file_id, path.remote, now):
            raise Malformed(Drop.LIMITED)
        hello = read_hello(self._config.identity, pairing, used.generation, message, self._entropy)
        static = hello.dialer_static
        if pairing.peer_static not in (None, static):
            self._clones.refuse_device(pairing, used.generation, static, message, path, now)
            raise Malformed(Drop.WRONG_DEVICE)
        self._answer(hello, pairing, used, message, path, now)

    def _answer(
        self,
        hello: Hello,
        pairing: Pairing,
        used: Credential,
        message: bytes,
        path: Path,
        now: Instant,
    ) -> None:
        agreed = answer(hello, pairing, used, self._config.limits)
        rivals = self._links.pending_of(pairing.file_id)
        if len(rivals) >= PENDING_PER_PAIRING:  # who asks often pushes out nobody but himself
            source = source_of(path.remote)
            own = (rival for rival in rivals if rival.answered.asked_by == source)
            self._displace(next(own, rivals[0]), now)
        model = Answering(used, agreed.agreement.next_credential, hello.dialer_static)
        self._last_id -= 1
        link = self._links.make(self._last_id, pairing, model, (path,))
        self._links.pending[message] = link
        self._note_answered(pairing.file_id, message[:EPHEMERAL_SIZE])
        link.answer(agreed, path, now + PENDING_LIFE, now)
        self._links.touch(link)

    def _note_answered(self, file_id: bytes, ephemeral: bytes) -> None:
        """This HELLO had its chance: a recording of it must not push others out."""
        answered = self._answered.setdefault(file_id, {})
        answered[ephemeral] = None
        if len(answered) > ANSWERED_KEPT_MAX:
            del answered[next(iter(answered))]

    # --- from an answered HELLO to a link -----------------------------------------------------

    def why_not_now(self, link: Link, path: Path) -> Drop | None:
        """Why a dialer's first packet is not even opened, if so."""
        if not link.answered.replied_to(path):
            return Drop.PATH
        if self._links.full or self.is_saving(link.file_id):
            return Drop.BUSY
        return None

    def is_saving(self, file_id: bytes) -> bool:
        """Whether a dialer proved itself and is being written down."""
        return any(
            link.handshake.phase is Phase.SAVING and link.file_id == file_id
            for link, _ in self._registry.saving.values()
        )

    def promote(self, link: Link, now: Instant) -> None:
        """A dialer proved itself: its other attempts lapse, its link gets an id.

        Nothing that an older link still hears may be written after what this one writes.
        """
        for older in self._links.incoming_of(link.file_id):
            older.displace(now)
        for rival in self._links.pending_of(link.file_id):
            if rival is not link:
                self._report_rival(link, rival, now)
                self._displace(rival, now)
        self._links.promote(link)

    def _report_rival(self, link: Link, rival: Link, now: Instant) -> None:
        """Two devices redeemed one bootstrap file at the same time: the other one has lost.

        No replay looks like this: a HELLO bears the key of a device that made it from the file.
        """
        won, lost = link.handshake, rival.handshake
        assert isinstance(won, Answering)
        assert isinstance(lost, Answering)
        if won.dialer_static != lost.dialer_static:
            pairing = self._registry.pairings[link.file_id]
            generation, path = lost.used.generation, rival.answered.called_from
            self._clones.report(pairing, generation, lost.dialer_static, path, now)

    def _displace(self, link: Link, now: Instant) -> None:
        link.displace(now)
        self._links.drop(link)

    # --- no more of them ----------------------------------------------------------------------

    def forget(self, file_id: bytes, now: Instant) -> None:
        """Neither a pairing's generations nor its answered HELLOs count any more."""
        pairing = self._registry.pairings.get(file_id)
        self._registry.forget(file_id)
        self._registry.untold.forget(file_id)
        self._answered.pop(file_id, None)
        if pairing is not None:
            pairing.wipe()
        for waiting in self._links.pending_of(file_id):
            if waiting.undoing is None:
                waiting.let_go(now)
                self._displace(waiting, now)
