"""The virtual host drives an endpoint as any driver must, and dies as any process may."""

from __future__ import annotations

import pytest

from clawchat.core.actions import Persist, Transmit
from clawchat.core.credential import Pairing
from clawchat.core.events import DatagramReceived, Persisted, PersistFailed
from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.drivers.simulator.host import Host, Power
from clawchat.drivers.simulator.network import Parcel
from tests.simulation.fakes import fake_of, path_between, two_hosts


def received(host: Host) -> list[DatagramReceived]:
    return [event for _, event in fake_of(host).events if isinstance(event, DatagramReceived)]


def some_pairing(name: bytes = b"f" * 16) -> Pairing:
    return Pairing(name, True, bytes(32), None, ())


def test_a_datagram_goes_there_and_its_echo_back() -> None:
    timeline, _, one, other = two_hosts()
    one.start()
    other.start()
    fake_of(one).out.append(Transmit(path_between(one, other), [b"hello"]))
    one.do(Persisted(1, 1))  # any event wakes the loop
    timeline.run_until(SECOND)
    assert [bytes(event.data) for event in received(other)] == [b"hello"]
    assert [bytes(event.data) for event in received(one)] == [b"#hello"]
    assert received(one)[0].path == path_between(one, other)


def test_equal_datagrams_of_one_burst_come_as_one_batch_that_a_shorter_one_ends() -> None:
    timeline, _, one, other = two_hosts()
    one.start()
    other.start()
    fake_of(one).out.append(Transmit(path_between(one, other), [b"#aaa", b"#bbb", b"#c"]))
    fake_of(one).out.append(Transmit(path_between(one, other), [b"#ddd"]))
    one.do(Persisted(1, 1))
    timeline.run_until(SECOND)
    assert [(bytes(e.data), e.segment) for e in received(other)] == [
        (b"#aaa#bbb#c", 4),
        (b"#ddd", 0),
    ]


def test_a_strangers_datagram_is_never_batched_with_a_genuine_one() -> None:
    timeline, network, one, other = two_hosts()
    one.start()
    other.start()
    network.send(Parcel(one.address, other.address, b"#xxx", None))
    fake_of(one).out.append(Transmit(path_between(one, other), [b"#aaa", b"#bbb"]))
    one.do(Persisted(1, 1))
    timeline.run_until(SECOND)
    assert [bytes(event.data) for event in received(other)] == [b"#xxx", b"#aaa#bbb"]


def test_a_deadline_is_met_by_the_hosts_own_clock() -> None:
    timeline, _, one, _ = two_hosts()
    one.start()
    wake = one.now + SECOND
    fake_of(one).wake = wake
    one.do(Persisted(1, 1))
    timeline.run_until(2 * SECOND)
    assert len(fake_of(one).advanced) == 1
    assert wake <= fake_of(one).advanced[0] <= wake + 2


def test_a_killed_process_hears_nothing_and_a_new_one_has_other_dice() -> None:
    timeline, network, one, other = two_hosts()
    one.start()
    first = fake_of(one)
    one.kill()
    assert one.power is Power.DOWN
    network.send(Parcel(other.address, one.address, b"#lost", None))
    timeline.run_until(SECOND)
    assert network.tally.nowhere == 1
    one.start()
    assert fake_of(one).dice != first.dice
    assert one.incarnation == 2
    one.kill()
    one.kill()  # harmless


def test_a_suspended_host_sleeps_through_datagrams_and_timers() -> None:
    timeline, network, one, other = two_hosts()
    one.start()
    fake_of(one).wake = one.now + MILLISECOND
    one.do(Persisted(1, 1))
    timeline.run_until(1000)
    one.suspend()
    network.send(Parcel(other.address, one.address, b"#lost", None))
    timeline.run_until(SECOND)
    assert fake_of(one).advanced == []
    assert received(one) == []
    one.resume()
    timeline.run_until(2 * SECOND)
    assert len(fake_of(one).advanced) == 1


def test_a_write_is_answered_when_it_is_durable_and_a_full_disk_says_so() -> None:
    timeline, _, one, _ = two_hosts()
    one.start()
    fake_of(one).out.append(Persist(3, 7, some_pairing()))
    one.do(Persisted(0, 0))
    assert one.disk.kept == {}
    timeline.run_until(SECOND)
    assert list(one.disk.kept) == [b"f" * 16]
    assert fake_of(one).events[-1][1] == Persisted(3, 7)
    one.disk.full = True
    fake_of(one).out.append(Persist(3, 8, some_pairing(b"g" * 16)))
    one.do(Persisted(0, 0))
    timeline.run_until(2 * SECOND)
    assert list(one.disk.kept) == [b"f" * 16]
    assert fake_of(one).events[-1][1] == PersistFailed(3, 8)


@pytest.mark.parametrize(("survivors", "kept"), [(0, 0), (1, 1), (2, 2), (9, 2)])
def test_a_crash_keeps_a_prefix_of_the_writes_under_way(survivors: int, kept: int) -> None:
    timeline, _, one, _ = two_hosts()
    one.start()
    names = [b"1" * 16, b"2" * 16]
    fake_of(one).out += [Persist(1, n, some_pairing(name)) for n, name in enumerate(names)]
    one.do(Persisted(0, 0))
    timeline.step()
    while not one.disk.busy:
        timeline.step()
    one.kill(survivors)
    timeline.run_until(SECOND)
    assert list(one.disk.kept) == names[:kept]


def test_an_endpoint_that_wants_to_wake_up_for_ever_is_found_out() -> None:
    timeline, _, one, _ = two_hosts()
    one.start()
    fake = fake_of(one)

    class Restless(type(fake)):  # type: ignore[misc]  # a class of the fake at hand
        def advance(self, now: int) -> None:
            self.wake = now

    restless = Restless(b"")
    restless.wake = one.now
    one.endpoint = restless
    with pytest.raises(AssertionError, match="without end at one instant"):
        timeline.run_until(SECOND)
