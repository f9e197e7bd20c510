"""A UDP socket that moves batches: segmentation offload where the platform has it.

Rules: never connected, never blocking, never fragmenting; an error that concerns one datagram
(`ECONNRESET`, `ENETUNREACH`, `EMSGSIZE`, ...) is noise, because losing it is what the core is
made for; only "would block" is reported.
Left to others: waiting until a socket can be used (each driver), meaning (the core).
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address, ip_address
from typing import Final

from clawchat.core.credential import Address, Path
from clawchat.core.events import DatagramReceived

BUFFER_BYTES: Final = 4 * 1024 * 1024  # the default of 208 KiB loses 13 % of a 1 MiB window
RECEIVE_BYTES: Final = 65_535  # the largest UDP datagram, and the largest GRO batch
SEGMENTS_MAX: Final = 64  # UDP_MAX_SEGMENTS of older kernels
OFFLOAD_BYTES: Final = 65_000  # payload of one segmented send, below 65,507 with room for headers
NOISE_MAX: Final = 64  # errors and strangers in a row until a socket is left alone for this time
HEAD_BYTES: Final = 16  # of a datagram, which tell whether it may be meant for us
PATHS_MAX: Final = 4096  # peers' addresses remembered per socket; strangers make entries too

# Linux, <linux/udp.h> and <linux/in.h>; `socket` does not name them all.
_SOL_UDP: Final = 17
_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_IPV6_DONTFRAG: Final = 62
_PMTUDISC_PROBE: Final = 3  # set "don't fragment", and ignore what routers claim about the MTU
_U16: Final = struct.Struct("=H")
_INT: Final = struct.Struct("=i")
_TOLD_BYTES: Final = 64  # room for control messages: GRO's one int, and some air
_LINUX: Final = sys.platform == "linux"

# The offload itself was refused: send one by one from now on.
_NO_OFFLOAD: Final = frozenset(
    (errno.EIO, errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.ENOSYS)
)


class UdpSocket:
    """One bound UDP socket. Raises `OSError` when it cannot be bound, never for a datagram."""

    def __init__(self, bind: Address, *, offload: bool = True) -> None:
        v6 = ":" in bind.host
        self.socket: Final = socket.socket(
            socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM
        )
        try:
            self.socket.setblocking(False)
            if v6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _never_fragment(self.socket, v6=v6)
            _large_buffers(self.socket)
            self.socket.bind(_sockaddr(bind))
        except BaseException:
            self.socket.close()
            raise
        host, port = self.socket.getsockname()[:2]
        self.address: Final = Address(str(ip_address(host)), port)
        self.segments_sent = offload and _accepts(self.socket, _UDP_SEGMENT)
        self.segments_received = offload and _accepts(self.socket, _UDP_GRO, 1)
        self._paths: dict[object, Path] = {}
        self._view = memoryview(bytearray(RECEIVE_BYTES))
        self._v6 = v6

    def __repr__(self) -> str:
        return f"<UdpSocket {self.address}>"

    def fileno(self) -> int:
        """For selectors."""
        return self.socket.fileno()

    def close(self) -> None:
        """Close it; harmless when repeated."""
        self.socket.close()

    # --- receiving ----------------------------------------------------------------------------

    def receive(
        self, wanted: Callable[[bytes], bool] = lambda _head: True
    ) -> DatagramReceived | None:
        """What one system call brings: a datagram or several, or None when there is none yet, or
        nothing but noise for a while. Lone datagrams whose first bytes are not `wanted` are noise.
        """
        view = self._view
        for _ in range(NOISE_MAX):
            try:
                if self.segments_received:
                    size, told, _, sender = self.socket.recvmsg_into((view,), _TOLD_BYTES)
                else:
                    size, sender = self.socket.recvfrom_into(view)
                    told = []
            except BlockingIOError:
                return None
            except OSError:
                continue  # an earlier send bounced (Windows says so here): noise
            segment = 0
            for level, kind, value in told:
                if level == _SOL_UDP and kind == _UDP_GRO:
                    segment = _INT.unpack_from(value)[0]
            if segment >= size:
                segment = 0
            if not segment and size >= HEAD_BYTES and not wanted(bytes(view[:HEAD_BYTES])):
                continue
            path = self._paths.get(sender) or self._new_path(sender)
            return DatagramReceived(path, bytes(view[:size]), segment)
        return None

    def _new_path(self, sender: tuple[str, int] | tuple[str, int, int, int]) -> Path:
        host = sender[0].partition("%")[0]
        if self._v6:
            host = str(IPv6Address(host))
            if len(sender) == 4 and sender[3]:
                host = f"{host}%{sender[3]}"  # link-local: the interface is part of the address
        if len(self._paths) >= PATHS_MAX:
            self._paths.clear()
        path = self._paths[sender] = Path(self.address, Address(host, sender[1]))
        return path

    # --- sending ------------------------------------------------------------------------------

    def send(self, remote: Address, datagrams: Sequence[bytes]) -> int:
        """Send a batch of equal datagrams (the last may be shorter); returns how many are dealt
        with. Fewer than all: the socket would block, try the rest when it is writable.
        """
        target = _sockaddr(remote) if self._v6 else remote
        done, count = 0, len(datagrams)
        while done < count:
            size = len(datagrams[done])
            fit = min(count - done, SEGMENTS_MAX, OFFLOAD_BYTES // max(size, 1) or 1)
            if fit > 1 and self.segments_sent:
                sent = self._send_segments(target, datagrams[done : done + fit], size)
            else:
                sent = int(self._send_one(target, datagrams[done]))
            if not sent:
                return done
            done += sent
        return count

    def _send_segments(self, target: tuple[object, ...], batch: Sequence[bytes], size: int) -> int:
        """How many of `batch` are dealt with; 0: the socket would block."""
        try:
            self.socket.sendmsg(batch, ((_SOL_UDP, _UDP_SEGMENT, _U16.pack(size)),), 0, target)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            if error.errno in _NO_OFFLOAD:
                return self._send_first(target, batch)
        return len(batch)

    def _send_first(self, target: tuple[object, ...], batch: Sequence[bytes]) -> int:
        """Find out what was refused: the offload, which is then off, or datagrams of this size."""
        try:
            self.socket.sendto(batch[0], target)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                return len(batch)  # the interface's MTU shrank: noise
        self.segments_sent = False
        return 1

    def _send_one(self, target: tuple[object, ...], datagram: bytes) -> bool:
        try:
            self.socket.sendto(datagram, target)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            pass  # noise: unreachable just now, or a path MTU probe too large for the interface
        return True


def _sockaddr(address: Address) -> tuple[object, ...]:
    host, scoped, scope = address.host.partition("%")
    if scoped:
        return (
            host,
            address.port,
            0,
            int(scope) if scope.isdigit() else socket.if_nametoindex(scope),
        )
    return host, address.port


def _accepts(sock: socket.socket, option: int, value: int = 0) -> bool:
    if not _LINUX:
        return False
    try:
        sock.setsockopt(_SOL_UDP, option, value)
    except OSError:
        return False
    return True


def _never_fragment(sock: socket.socket, *, v6: bool) -> None:
    """Best effort: where it fails, path MTU discovery finds smaller sizes than there are."""
    options: list[tuple[int, int, int]] = []
    if _LINUX:
        if v6:
            options.append((socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE))
            options.append((socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1))
        else:
            options.append((socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE))
    elif sys.platform == "darwin":
        options.append((socket.IPPROTO_IPV6, 62, 1) if v6 else (socket.IPPROTO_IP, 28, 1))
    elif sys.platform == "win32":
        options.append((socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP, 14, 1))
    for level, option, value in options:
        try:
            sock.setsockopt(level, option, value)
        except OSError:
            continue


def _large_buffers(sock: socket.socket) -> None:
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        except OSError:
            continue  # smaller buffers lose more: that is all
