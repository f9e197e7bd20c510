"""How much public-key work handshakes cost those who answer them.

Left to others: what is asserted.
"""

from __future__ import annotations

import pytest

from clawchat.core import clones, reception
from clawchat.core.config import Entropy
from clawchat.core.credential import Pairing
from clawchat.core.exchange import Hello, read_hello
from clawchat.core.secret import Secret


class Spent:
    """Counts, from now on, the HELLOs that anybody verifies."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        for module in (reception, clones):
            monkeypatch.setattr(module, "read_hello", self._counting)

    def _counting(
        self, identity: Secret, pairing: Pairing, generation: int, message: bytes, entropy: Entropy
    ) -> Hello:
        self.times += 1
        return read_hello(identity, pairing, generation, message, entropy)
