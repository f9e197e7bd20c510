"""Copies of a credential: how a listener notices one, and what it does (PROTOCOL.md "Clone
detection").

Rules: a recorded HELLO proves nothing, so that for a superseded generation the alarm waits for a
HELLO that repeats our cookie. A HELLO that was refused costs no public-key operation when it comes
again.
Left to others: HELLOs with which nothing is wrong (`core.reception`).
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from clawchat.core.actions import CredentialReused, Notify, Transmit
from clawchat.core.config import Entropy
from clawchat.core.credential import Pairing, Path, Superseded
from clawchat.core.crypto.envelope import seal_refusal
from clawchat.core.exchange import check_cookie, make_cookie, read_hello
from clawchat.core.instant import Instant
from clawchat.core.registry import Registry
from clawchat.core.secret import Secret
from clawchat.errors import Drop, Malformed

REFUSED_KEPT_MAX: Final = 64  # refused HELLOs that are known when they come again


class Clones:
    """`cookie_key` makes our cookies; `identity` is what HELLOs are verified with."""

    __slots__ = ("_cookie_key", "_entropy", "_identity", "_refused", "_registry")

    def __init__(
        self, identity: Secret, cookie_key: Secret, registry: Registry[Any], entropy: Entropy
    ) -> None:
        self._identity = identity
        self._cookie_key = cookie_key
        self._registry = registry
        self._entropy = entropy
        self._refused: deque[bytes] = deque(maxlen=REFUSED_KEPT_MAX)  # Noise messages

    def was_refused(self, message: bytes) -> bool:
        """Whether this very HELLO was."""
        return message in self._refused

    def refuse_generation(
        self, pairing: Pairing, old: Superseded, message: bytes, path: Path, now: Instant
    ) -> None:
        """A generation that was replaced: only a copy of it can still be in use.

        Raises `Malformed`.
        """
        if message not in self._refused:
            if not self._registry.admission.may_look_back(now):
                raise Malformed(Drop.LIMITED)
            hello = read_hello(self._identity, pairing, old.generation, message, self._entropy)
            self._refused.append(message)
            if check_cookie(self._cookie_key, hello.cookie, old.hint, path.remote, now):
                self.report(pairing, old.generation, hello.dialer_static, path)
        self._registry.drops[Drop.SUPERSEDED] += 1
        cookie = make_cookie(self._cookie_key, old.hint, path.remote, now)
        refusal = seal_refusal(old, cookie, self._entropy)
        self._registry.out.append(Transmit(path, [refusal]))

    def refuse_device(
        self, pairing: Pairing, generation: int, static: bytes, message: bytes, path: Path
    ) -> None:
        """A generation that counts, in the hands of another device than it was given to."""
        self._refused.append(message)
        self.report(pairing, generation, static, path)

    def report(self, pairing: Pairing, generation: int, static: bytes, path: Path) -> None:
        """Tell the application of the device that used a copy."""
        same = static == pairing.peer_static
        notice = CredentialReused(pairing.file_id, generation, path, static, same)
        self._registry.out.append(Notify(0, notice))
