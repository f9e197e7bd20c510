"""`clawchat.serve`: a listener for as long as a block runs.

Rules: one listener per store at a time (`Store.lock`); on the way out every link is told, the
published bootstrap file is withdrawn and the sockets are closed, in bounded time.
Left to others: what a listener can do (`listener`), running it (`on_trio`).
"""

from __future__ import annotations

import errno
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from clawchat.core.config import ROTATE_PORTS, Config
from clawchat.core.credential import Address
from clawchat.core.events import Remember
from clawchat.drivers.address import own_hosts, resolve
from clawchat.drivers.listener import Listener
from clawchat.drivers.on_trio import open_runner
from clawchat.drivers.publisher import Publisher
from clawchat.drivers.sockets import UdpSocket
from clawchat.drivers.store import Store
from clawchat.errors import UserError

EVERYWHERE: Final = ("", "*")
CANDIDATES_MAX: Final = 16  # PROTOCOL.md "Bootstrap file"

log = logging.getLogger("clawchat")


@asynccontextmanager
async def serve(
    store: Store,
    *,
    host: str = "",
    port: int = 0,
    advertise: Sequence[Address] = (),
    publisher: Publisher | None = None,
    rotate_ports: bool = True,
) -> AsyncIterator[Listener]:
    """Listen for the devices paired in `store`.

    `host` empty: every address, IPv4 and IPv6. `port` 0: one the system chooses. `advertise`:
    the addresses to put into bootstrap files; empty: those of this machine. With a `publisher`
    and nothing paired yet, a bootstrap file is published before the block begins; otherwise
    call `Listener.publish`. `rotate_ports`: whether links leave that port every hour for another
    one, where the network allows it; devices find the listener at `port` all the same.

    Raises `UserError` when the address cannot be used, `StoreError` when the store cannot be
    read or another listener uses it. A pairing whose file is damaged is logged and left out.
    """
    with store.lock("serve"):
        pairings = [entry.pairing for entry in store.entries() if not entry.pairing.dialer]
        unusable = store.unusable()
        for one in unusable:
            log.error("without a device: %s", one.error)
        config = Config(identity=store.identity(), rotate_ports_ns=ROTATE_PORTS * rotate_ports)
        sockets = _bind(host, port)  # last, for nothing would close them if the store were damaged
        running = open_runner(
            config, sockets, persist=store.save, erase=store.erase, publisher=publisher
        )
        del config
        async with running as runner:
            candidates = tuple(advertise) or _candidates(runner.addresses)
            listener = Listener(runner, store, candidates[:CANDIDATES_MAX], publisher)
            paired = bool(pairings or unusable)
            while pairings:  # the endpoint has copies of its own, which it can wipe
                runner.handle(Remember(pairings.pop(0)))
            if publisher is not None and not paired:
                await listener.publish()
            yield listener


def _bind(host: str, port: int) -> list[UdpSocket]:
    try:
        if host not in EVERYWHERE:
            return [UdpSocket(resolve(host, port)[0])]
        first = UdpSocket(Address("0.0.0.0", port))  # noqa: S104
        try:
            return [first, UdpSocket(Address("::", first.address.port))]
        except OSError:
            return [first]  # no IPv6 here, or its port is taken: IPv4 alone will do
    except UnicodeError as error:  # what the resolver makes of `a..b`
        raise UserError(f"{host!r} is no address: choose another with --ip") from error
    except OSError as error:
        raise UserError(_why_not(host, port, error)) from error


def _why_not(host: str, port: int, error: OSError) -> str:
    where = f"UDP port {port} on {host or 'every address'}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use by another program: choose another with --port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where} is not allowed for this user: choose one above 1023 with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine: choose another with --ip"
    return f"cannot listen on {where}: {error.strerror or error}; choose others with --ip, --port"


def _candidates(addresses: Sequence[Address]) -> tuple[Address, ...]:
    bound = addresses[0]
    if bound.host not in ("0.0.0.0", "::"):  # noqa: S104
        return (bound,)
    both = len(addresses) > 1
    hosts = [host for host in own_hosts() if both or (":" in host) == (":" in bound.host)]
    return tuple(Address(host, bound.port) for host in hosts) or (Address("127.0.0.1", bound.port),)
