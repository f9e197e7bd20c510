"""Copies of a credential: how a listener notices one, and what it does (PROTOCOL.md "Clone
detection").

Rules: a recorded HELLO proves nothing, so that for a superseded generation the alarm waits for a
HELLO that repeats our cookie. Only such a one costs public-key operations, and only once: who
merely has an old credential cannot use up what it takes to notice another that has it. A report
closes no link.
Left to others: HELLOs with which nothing is wrong (`core.reception`), telling the device
(`core.telling`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from clawchat.core.actions import CredentialReused, Notify, Transmit
from clawchat.core.config import Entropy
from clawchat.core.credential import Pairing, Path, Superseded
from clawchat.core.crypto.envelope import seal_refusal
from clawchat.core.exchange import check_cookie, make_cookie, read_hello
from clawchat.core.instant import Instant
from clawchat.core.registry import Registry
from clawchat.core.secret import Secret
from clawchat.core.untold import Untold
from clawchat.errors import Drop, Malformed

REFUSED_KEPT_MAX: Final = 64  # refused HELLOs that are known when they come again


class Clones:
    """`cookie_key` makes our cookies; `identity` is what HELLOs are verified with; `wake` has the
    links of a pairing look for what they are to say.
    """

    __slots__ = ("_cookie_key", "_entropy", "_identity", "_refused", "_registry", "_wake")

    def __init__(
        self,
        identity: Secret,
        cookie_key: Secret,
        registry: Registry[Any],
        entropy: Entropy,
        wake: Callable[[bytes], None],
    ) -> None:
        self._identity = identity
        self._cookie_key = cookie_key
        self._registry = registry
        self._entropy = entropy
        self._wake = wake
        self._refused: deque[bytes] = deque(maxlen=REFUSED_KEPT_MAX)  # Noise messages

    def was_refused(self, message: bytes) -> bool:
        """Whether this very HELLO was."""
        return message in self._refused

    def refuse_generation(
        self,
        pairing: Pairing,
        old: Superseded,
        message: bytes,
        cookie: bytes,
        path: Path,
        now: Instant,
    ) -> None:
        """A generation that was replaced: only a copy of it can still be in use.

        Raises `Malformed`.
        """
        fresh = check_cookie(self._cookie_key, cookie, old.hint, path.remote, now)
        if fresh and message not in self._refused:
            self._look_back(pairing, old, message, cookie, path, now)
        self._registry.drops[Drop.SUPERSEDED] += 1
        following = make_cookie(self._cookie_key, old.hint, path.remote, now)
        refusal = seal_refusal(old, message, following, self._entropy)
        self._registry.out.append(Transmit(path, [refusal]))

    def _look_back(
        self,
        pairing: Pairing,
        old: Superseded,
        message: bytes,
        cookie: bytes,
        path: Path,
        now: Instant,
    ) -> None:
        """Somebody at `path` has this generation now: who? Raises `Malformed`."""
        if not self._registry.admission.may_look_back(path.remote, now):
            raise Malformed(Drop.LIMITED)
        hello = read_hello(self._identity, pairing, old.generation, message, self._entropy)
        if hello.cookie != cookie:  # somebody else's HELLO in an envelope of his own
            raise Malformed(Drop.HANDSHAKE)
        self._refused.append(message)
        self.report(pairing, old.generation, hello.dialer_static, path, now)

    def refuse_device(
        self,
        pairing: Pairing,
        generation: int,
        static: bytes,
        message: bytes,
        path: Path,
        now: Instant,
    ) -> None:
        """A generation that counts, in the hands of another device than it was given to."""
        self._refused.append(message)
        self.report(pairing, generation, static, path, now)

    def report(
        self, pairing: Pairing, generation: int, static: bytes, path: Path, now: Instant
    ) -> None:
        """Tell the application of the device that used a copy; and the device whose it is."""
        same = static == pairing.peer_static
        notice = CredentialReused(pairing.file_id, generation, path, static, same)
        self._registry.out.append(Notify(0, notice))
        self._registry.untold.add(pairing.file_id, Untold(generation, same, path.remote, now))
        self._wake(pairing.file_id)
