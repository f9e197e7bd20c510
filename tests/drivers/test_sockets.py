"""UDP sockets: batches arrive as they were sent, and one bad datagram harms no other."""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from clawchat.core.credential import Address
from clawchat.drivers.sockets import NOISE_MAX, UdpSocket


@pytest.fixture(params=["offload", "plain"])
def offload(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "offload")


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest, offload: bool) -> Iterator[tuple[UdpSocket, UdpSocket]]:
    try:
        one = UdpSocket(Address(request.param, 0), offload=offload)
    except OSError:
        pytest.skip("no such family here")
    with closing(one), closing(UdpSocket(Address(request.param, 0), offload=offload)) as other:
        yield one, other


def everything(sock: UdpSocket, count: int) -> list[bytes]:
    """The next `count` datagrams, taken out of the batches they came in."""
    datagrams: list[bytes] = []
    while len(datagrams) < count:
        assert select.select([sock], [], [], 5)[0], f"only {len(datagrams)} of {count} came"
        while (received := sock.receive()) is not None:
            size = received.segment or max(1, len(received.data))
            ends = range(0, max(1, len(received.data)), size)
            datagrams += [bytes(received.data[at : at + size]) for at in ends]
    return datagrams


@pytest.mark.parametrize("last", [1, 700, 1200])
@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 200])
def test_a_batch_arrives_as_it_was_sent(
    pair: tuple[UdpSocket, UdpSocket], count: int, last: int
) -> None:
    one, other = pair
    batch = [bytes([number % 256]) * 1200 for number in range(count - 1)] + [b"z" * last]
    assert one.send(other.address, batch) == count
    assert everything(other, count) == batch


def test_the_path_names_both_ends(pair: tuple[UdpSocket, UdpSocket]) -> None:
    one, other = pair
    one.send(other.address, [b"x"])
    select.select([other], [], [], 5)
    received = other.receive()
    assert received is not None
    assert received.path == (other.address, one.address)
    assert received.segment == 0
    assert other.receive() is None


def test_what_is_not_wanted_never_leaves_the_socket(pair: tuple[UdpSocket, UdpSocket]) -> None:
    one, other = pair
    asked: list[bytes] = []

    def wanted(head: bytes) -> bool:
        asked.append(head)
        return head[0] == 1

    datagrams = [bytes([number % 3]) * (100 + number) for number in range(30)]
    for data in (*datagrams, b"short"):
        one.send(other.address, [data])
    got = [received.data for _ in range(11) if (received := other.receive(wanted)) is not None]
    assert got == [*(data for data in datagrams if data[0] == 1), b"short"]
    assert {len(head) for head in asked} == {16}
    assert other.receive(wanted) is None


def test_a_socket_full_of_noise_gives_others_a_turn(pair: tuple[UdpSocket, UdpSocket]) -> None:
    one, other = pair
    for number in range(NOISE_MAX + 1):
        one.send(other.address, [bytes(100 + number % 2)])
    assert other.receive(lambda _head: False) is None
    assert other.receive() is not None


def test_large_datagrams_fit_a_batch(pair: tuple[UdpSocket, UdpSocket]) -> None:
    one, other = pair
    batch = [bytes([number]) * 9000 for number in range(20)]
    assert one.send(other.address, batch) == 20
    assert everything(other, 20) == batch


def test_a_bounced_datagram_is_noise(pair: tuple[UdpSocket, UdpSocket]) -> None:
    one, other = pair
    gone = UdpSocket(Address(one.address.host, 0))
    nowhere = gone.address
    gone.close()
    for _ in range(3):
        assert one.send(nowhere, [b"x" * 10] * 3) == 3
    assert one.receive() is None
    one.send(other.address, [b"still here"])
    assert everything(other, 1) == [b"still here"]


class FailingSocket:
    """A socket whose sends fail with an errno."""

    def __init__(self, real: socket.socket, *codes: int) -> None:
        self._real = real
        self._codes = list(codes)

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def _maybe(self) -> None:
        if self._codes and (code := self._codes.pop(0)):
            raise OSError(code, "made up")

    def sendmsg(self, *args: object) -> object:
        self._maybe()
        return self._real.sendmsg(*args)  # type: ignore[arg-type]

    def sendto(self, *args: object) -> object:
        self._maybe()
        return self._real.sendto(*args)  # type: ignore[call-overload]


def failing(sock: UdpSocket, *codes: int) -> UdpSocket:
    object.__setattr__(sock, "socket", FailingSocket(sock.socket, *codes))
    return sock


@pytest.mark.parametrize("code", [errno.EIO, errno.EINVAL, errno.EOPNOTSUPP])
def test_an_interface_without_offload_gets_datagrams_one_by_one(code: int) -> None:
    with (
        closing(UdpSocket(Address("127.0.0.1", 0))) as one,
        closing(UdpSocket(Address("127.0.0.1", 0))) as other,
    ):
        if not one.segments_sent:
            pytest.skip("no offload on this platform")
        batch = [bytes([number]) * 1200 for number in range(10)]
        assert failing(one, code).send(other.address, batch) == 10
        assert everything(other, 10) == batch
        assert not one.segments_sent


def test_an_interface_that_shrank_loses_what_is_too_large_but_keeps_its_offload() -> None:
    with (
        closing(UdpSocket(Address("127.0.0.1", 0))) as one,
        closing(UdpSocket(Address("127.0.0.1", 0))) as other,
    ):
        if not one.segments_sent:
            pytest.skip("no offload on this platform")
        failing(one, errno.EINVAL, errno.EMSGSIZE)
        assert one.send(other.address, [b"x" * 1200] * 10) == 10
        assert one.segments_sent
        assert one.send(other.address, [b"y" * 1000] * 10) == 10
        assert everything(other, 10) == [b"y" * 1000] * 10


@pytest.mark.parametrize(
    "code", [errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.EPERM, errno.EMSGSIZE]
)
def test_an_unreachable_network_only_loses_what_was_sent(offload: bool, code: int) -> None:
    with (
        closing(UdpSocket(Address("127.0.0.1", 0), offload=offload)) as one,
        closing(UdpSocket(Address("127.0.0.1", 0), offload=offload)) as other,
    ):
        failing(one, code)
        assert one.send(other.address, [b"lost"]) == 1
        assert one.send(other.address, [b"kept"]) == 1
        assert everything(other, 1) == [b"kept"]


def test_a_full_socket_says_where_to_go_on(offload: bool) -> None:
    with (
        closing(UdpSocket(Address("127.0.0.1", 0), offload=offload)) as one,
        closing(UdpSocket(Address("127.0.0.1", 0), offload=offload)) as other,
    ):
        batch = [bytes([number]) * 1000 for number in range(130)]
        failing(one, 0, errno.EAGAIN)
        done = one.send(other.address, batch)
        assert 0 < done < 130
        assert one.send(other.address, batch[done:]) == 130 - done
        assert everything(other, 130) == batch


def test_a_port_in_use_is_an_error_at_once() -> None:
    with closing(UdpSocket(Address("127.0.0.1", 0))) as one:
        with pytest.raises(OSError, match="in use") as caught:
            UdpSocket(one.address)
        assert caught.value.errno == errno.EADDRINUSE


def test_strangers_cannot_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[UdpSocket, UdpSocket]
) -> None:
    monkeypatch.setattr("clawchat.drivers.sockets.PATHS_MAX", 2)
    _, other = pair
    for _ in range(5):
        with closing(UdpSocket(Address(other.address.host, 0))) as stranger:
            stranger.send(other.address, [b"x"])
            everything(other, 1)
    assert len(other._paths) <= 2
