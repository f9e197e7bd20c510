"""Hears from the system that addresses, routes or interfaces changed (Linux; elsewhere it is mute).

Rules: a hint and no more: what is said is not read, and where nothing can be heard, links find out
by themselves, a little later.
Left to others: what follows from a change (`engine`), waiting for one (each driver).
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from typing import Final, Protocol

# Linux, <linux/rtnetlink.h>: groups of NETLINK_ROUTE.
_LINK: Final = 0x1
_IPV4_IFADDR: Final = 0x10
_IPV4_ROUTE: Final = 0x40
_IPV6_IFADDR: Final = 0x100
_IPV6_ROUTE: Final = 0x400
GROUPS: Final = _LINK | _IPV4_IFADDR | _IPV4_ROUTE | _IPV6_IFADDR | _IPV6_ROUTE

MESSAGE_BYTES: Final = 65_536
MESSAGES_MAX: Final = 64  # read at one time; a change brings several


class Watch(Protocol):
    """Becomes readable when the network changed."""

    def fileno(self) -> int:
        """For selectors."""

    def drain(self) -> None:
        """Forget what was said, so that it is not readable any more."""

    def close(self) -> None:
        """Close it; harmless when repeated."""


class _Netlink:
    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> None:
        for _ in range(MESSAGES_MAX):
            try:
                self._socket.recv(MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue  # ENOBUFS: more happened than the kernel keeps for us

    def close(self) -> None:
        self._socket.close()


def open_watch() -> Watch | None:
    """A watch on this system's network, or None where there is no such thing."""
    if sys.platform == "linux":
        with suppress(OSError):  # forbidden here, by a sandbox for example
            sock = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
            )
            try:
                sock.setblocking(False)
                sock.bind((0, GROUPS))
            except OSError:
                sock.close()
                raise
            return _Netlink(sock)
    return None
