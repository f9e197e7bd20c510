"""The simulator notices sabotage: each invariant breaks when the core breaks it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

import pytest

from clawchat.core import clones, ratchet, telling
from clawchat.core.actions import (
    Closed,
    CopyReported,
    CredentialReused,
    Established,
    Notice,
    Notify,
    Transmit,
)
from clawchat.core.credential import Address, Pairing, Path
from clawchat.core.crypto.packets import DIALER, SealKeys
from clawchat.core.events import Buffer, DatagramReceived, Event, Persisted
from clawchat.core.instant import SECOND, Instant
from clawchat.core.secret import Secret
from clawchat.core.streams.receive import ReceiveStream
from clawchat.drivers.simulator.disk import Disk, Told
from clawchat.drivers.simulator.faults import PLANS
from clawchat.drivers.simulator.host import Host
from clawchat.drivers.simulator.invariants import InvariantBroken, Watch
from clawchat.drivers.simulator.network import Origin, Parcel
from clawchat.drivers.simulator.shoulder import NonceReused, Seals
from clawchat.drivers.simulator.simulation import Simulation
from clawchat.errors import CloseCode, Drop
from tests.simulation.fakes import Fake, fake_of, two_hosts

ELSEWHERE = Address("192.0.2.9", 9)


class Dummy(Enum):
    ONE = auto()
    TWO = auto()


def watched() -> tuple[Watch, Host, Host]:
    watch = Watch()
    _, _, one, other = two_hosts([watch])
    watch.hosts = {one.name: one, other.name: other}
    one.start()
    other.start()
    return watch, one, other


def act(host: Host, action: Transmit | Notify) -> None:
    """Let the fake endpoint of `host` want this."""
    fake_of(host).out.append(action)
    host.do(Persisted(0, 0))
    host.timeline.run_until(host.timeline.now + SECOND)


def test_sealing_one_number_twice_with_one_key_is_noticed() -> None:
    keys = SealKeys(Secret(bytes(32)), 0, DIALER)
    with Seals():
        keys.seal(0, 5, [b"a", b"b"])
        keys.seal(0, 7, [b"c"])
        with pytest.raises(NonceReused):
            keys.seal(0, 7, [b"d"])
    keys.seal(0, 7, [b"outside nobody looks"])


def test_sending_to_an_address_that_never_sent_anything_genuine_is_noticed() -> None:
    _, one, other = watched()
    with pytest.raises(InvariantBroken, match="without a reason"):
        act(one, Transmit(Path(one.address, ELSEWHERE), [b"x"]))
    one.network.send(Parcel(ELSEWHERE, other.address, b"#garbage", None))
    with pytest.raises(InvariantBroken, match="without a reason"):
        act(other, Transmit(Path(other.address, ELSEWHERE), [b"x"]))


def test_more_than_three_times_what_came_is_noticed() -> None:
    _, one, other = watched()
    origin = Origin(other.name, 1, 0, 1, other.address)
    one.network.send(Parcel(ELSEWHERE, one.address, b"#" * 100, origin))
    one.timeline.run_until(SECOND)
    act(one, Transmit(Path(one.address, ELSEWHERE), [bytes(300)]))
    with pytest.raises(InvariantBroken, match="not validated"):
        act(one, Transmit(Path(one.address, ELSEWHERE), [b"x"]))


def test_unequal_datagrams_in_one_batch_are_noticed() -> None:
    _, one, other = watched()
    with pytest.raises(InvariantBroken, match="unequal"):
        act(one, Transmit(Path(one.address, other.address), [b"xx", b"yyy"]))


@pytest.mark.parametrize("genuine", [False, True])
def test_a_phase_that_a_stranger_or_a_replay_changes_is_noticed(genuine: bool) -> None:
    _, one, other = watched()
    fake = fake_of(one)

    class Gullible(Fake):
        def handle(self, event: Event, now: Instant) -> None:
            if isinstance(event, DatagramReceived):
                one.traced("table", Dummy.ONE, "Event", Dummy.TWO)

    one.endpoint = Gullible(fake.dice)
    origin = Origin(other.name, 1, 0, 1, other.address) if genuine else None
    for copy in range(2):
        one.network.send(Parcel(other.address, one.address, b"#hello", origin))
        if genuine and copy == 0:
            one.timeline.run_until(SECOND)
    with pytest.raises(InvariantBroken, match="stranger"):
        one.timeline.run_until(2 * SECOND)


def test_a_copy_that_is_opened_because_the_first_one_was_not_is_no_replay() -> None:
    _, one, other = watched()
    fake = fake_of(one)

    class BusyOnce(Fake):
        def handle(self, event: Event, now: Instant) -> None:
            if isinstance(event, DatagramReceived) and not self.drops[Drop.BUSY]:
                self.drops[Drop.BUSY] += 1
            elif isinstance(event, DatagramReceived):
                one.traced("table", Dummy.ONE, "Event", Dummy.TWO)

    one.endpoint = BusyOnce(fake.dice)
    origin = Origin(other.name, 1, 0, 1, other.address)
    for copy in range(2):
        one.network.send(Parcel(other.address, one.address, b"#packet", origin))
        one.timeline.run_until((copy + 1) * SECOND)
    one.network.send(Parcel(other.address, one.address, b"#packet", origin))
    with pytest.raises(InvariantBroken, match="stranger"):
        one.timeline.run_until(3 * SECOND)


def established(generation: int, *, dialer: bool) -> Established:
    path = Path(ELSEWHERE, ELSEWHERE)
    return Established(bytes(32), b"f" * 16, generation, b"h" * 32, dialer, path)


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        (established(1, dialer=True), established(2, dialer=False), "two credentials"),
        (established(1, dialer=True), established(1, dialer=True), "established twice"),
        (
            CredentialReused(b"f" * 16, 0, Path(ELSEWHERE, ELSEWHERE), b"s" * 32, False),
            None,
            "there is none",
        ),
        (CopyReported(0, ELSEWHERE, False, 1, 0), None, "that no listener noticed"),
        (Closed(CloseCode.FLOW_CONTROL, "", by_peer=True), None, "FLOW_CONTROL"),
    ],
)
def test_links_that_nothing_authorised_and_faultless_peers_blamed_are_noticed(
    first: Notice, second: Notice | None, text: str
) -> None:
    _, one, other = watched()

    def tell() -> None:
        act(one, Notify(1, first))
        if second is not None:
            act(other, Notify(1, second))

    with pytest.raises(InvariantBroken, match=text):
        tell()


def broken(plan: str, seeds: range) -> str:
    """The first trouble of these seeds."""
    for seed in seeds:
        try:
            Simulation(seed, PLANS[plan]).run()
        except InvariantBroken as error:
            return str(error)
    return ""


def test_keys_that_are_wiped_at_once_lose_packets_and_that_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ratchet, "WIPE_PROBES", 0)
    assert "unreadable" in broken("lossy", range(40))


def test_an_alarm_without_a_cookie_is_a_false_alarm_and_that_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def anything(*_: object) -> bool:
        return True

    monkeypatch.setattr(clones, "check_cookie", anything)
    assert "a clone was reported" in broken("hostile", range(40))


def test_a_clone_that_nobody_reports_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> bool:
        return False

    monkeypatch.setattr(clones, "check_cookie", nothing)
    assert "nobody was told" in broken("clone", range(3))


def test_a_device_that_is_not_told_of_its_clone_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telling.Telling, "look", lambda *_: None)
    assert "was not told" in broken("clone", range(3))


def test_a_disk_that_lies_bricks_pairs_and_that_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Saying that a write is durable before it is: what write-ahead is there to prevent."""
    write: Callable[[Disk, Pairing, Told], None] = Disk.write

    def lying(disk: Disk, pairing: Pairing, told: Told) -> None:
        disk.write_ns = 300_000_000
        write(disk, pairing, lambda _kept: None)
        disk.timeline.after(1, lambda: told(True))

    monkeypatch.setattr(Disk, "write", lying)
    trouble = broken("crashes", range(60))
    assert "a clone was reported" in trouble or "no link" in trouble


def test_stream_bytes_that_are_not_the_written_ones_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take = ReceiveStream.take

    def altered(stream: ReceiveStream, offset: int, data: Buffer) -> list[Buffer]:
        return take(stream, offset, bytes(data[:-1]) + b"!" if len(data) > 100 else data)

    monkeypatch.setattr(ReceiveStream, "take", altered)
    assert "calm" in broken("calm", range(5))
