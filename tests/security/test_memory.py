"""After a panic the memory of both processes is searched for every secret they ever had.

Two real processes make a link over loopback and tell their parent each secret as it is made:
keys and PSKs of all generations, roots, packet keys, shared secrets, Noise's chaining keys,
identities, the bootstrap file's secret. One of them panics; then all that either has mapped is
read from outside, as somebody would who has taken the machine over, and searched for each secret,
raw and as hexadecimal.

What is left is written down in docs/threat-model.md.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

import pytest

from tests.security.victim import KEY_VARIABLE
from tests.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
KEPT_ON_PURPOSE = {
    "bootstrap.from_base64url",  # the user's own key for bootstrap files: of no pairing
    "endpoint.__init__",  # a key for cookies (PROTOCOL.md 7.4): of no pairing
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/PID/mem"),
    pytest.mark.xdist_group("memory"),
]


class Victim:
    """One of the two processes."""

    def __init__(self, role: str, folder: Path, key: str) -> None:
        reading, writing = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.security.victim", role, str(folder), str(writing)],
            pass_fds=(writing,),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), KEY_VARIABLE: key},
        )
        os.close(writing)
        self._told = bytearray()
        Thread(target=self._listen, args=(reading,), daemon=True).start()

    def _listen(self, pipe: int) -> None:
        while data := os.read(pipe, 1 << 16):
            self._told += data

    def wait_for(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def secrets(self) -> dict[bytes, str]:
        """Everything it told, with what it is; the first name counts."""
        found: dict[bytes, str] = {}
        told, at = bytes(self._told), 0
        while at < len(told):
            end = told.index(b"\n", at)
            what, size = told[at:end].decode().split(" ")
            at = end + 1 + int(size)
            found.setdefault(told[end + 1 : at], what)
        return found

    def found(self) -> Counter[str]:
        """How many copies of each kind of secret its memory holds."""
        secrets = self.secrets()
        found = Counter[str]()
        for region in self._regions():
            for secret, what in secrets.items():
                for form, needle in (("", secret), (" in hex", secret.hex().encode())):
                    count = region.count(needle)
                    if count:
                        found[what + form] += count
        return found

    def _regions(self) -> Iterator[bytes]:
        maps = Path(f"/proc/{self.process.pid}/maps").read_text()
        with Path(f"/proc/{self.process.pid}/mem").open("rb", buffering=0) as memory:
            for start, end in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) r", maps, re.MULTILINE):
                try:
                    memory.seek(int(start, 16))
                    yield memory.read(int(end, 16) - int(start, 16)) or b""
                except (OSError, OverflowError):  # [vvar], [vsyscall], or unmapped meanwhile
                    continue

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def victims(tmp_path: Path) -> Iterator[dict[str, Victim]]:
    """A listener and a dialer with a link between them."""
    key = urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
    started = {"listener": Victim("listener", tmp_path, key)}
    try:
        started["listener"].wait_for("published")
        started["dialer"] = Victim("dialer", tmp_path, key)
        for victim in started.values():
            victim.wait_for("linked")
        yield started
    finally:
        for victim in started.values():
            victim.end()


def readable(victim: Victim) -> Counter[str]:
    try:
        return victim.found()
    except PermissionError:
        pytest.skip("this system lets no parent read its child's memory")


@pytest.mark.parametrize("declarer", ["dialer", "listener"])
def test_nothing_of_a_destroyed_pairing_is_left_in_memory(
    declarer: str, victims: dict[str, Victim]
) -> None:
    before = {role: readable(victim) for role, victim in victims.items()}
    for role, found in before.items():
        live = set(found) - KEPT_ON_PURPOSE
        assert len(live) >= 4, f"the search finds what is there in the {role}: {found}"
    victims[declarer].go_on()
    victims[declarer].wait_for("destroyed")
    for role, victim in victims.items():
        assert len(victim.secrets()) > 50
        kinds = set(victim.secrets().values())
        assert {"psk", "envelope", "root", "key", "mask", "ratchet", "noise", "x25519"} <= kinds
        spared = set(KEPT_ON_PURPOSE)
        if declarer == "listener" and role == "dialer":
            # A listener speaks for its own pairing alone: the device keeps its identity.
            spared.add("store.identity")
        assert left_in(victim, spared) == {}, f"left in the {role}"


def left_in(victim: Victim, spared: set[str]) -> dict[str, int]:
    """What its memory still holds; whoever was told may take a moment."""
    end = monotonic() + PATIENCE
    while True:
        left = {what: n for what, n in readable(victim).items() if what not in spared}
        if not left or monotonic() > end:
            return left
        sleep(0.5)
