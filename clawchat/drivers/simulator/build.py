"""Makes the endpoints that virtual hosts drive.

Rules: the configuration follows from the host alone, so that a restart finds the same one.
Left to others: everything else.
"""

from __future__ import annotations

from random import Random

from clawchat.core.config import Config, Entropy
from clawchat.core.endpoint import Endpoint
from clawchat.core.instant import SECOND, Instant
from clawchat.core.secret import Secret
from clawchat.core.wire.parameters import Limits
from clawchat.drivers.simulator.host import Driven, Host

KIB = 1024


def build_endpoint(host: Host, now: Instant, unix_ns: int, entropy: Entropy) -> Driven:
    """An endpoint with the defaults that the product uses."""
    config = Config(identity=Secret(host.identity))
    return Endpoint(config, now=now, unix_ns=unix_ns, entropy=entropy, trace=host.traced)


def build_any_endpoint(host: Host, now: Instant, unix_ns: int, entropy: Entropy) -> Driven:
    """An endpoint with limits of its own on every other host, so that every window is met and grows
    a little, far or not at all, and with ports that change often or never.
    """
    dice = Random(f"limits/{host.seed}/{host.name}")
    if dice.random() < 0.5:
        return build_endpoint(host, now, unix_ns, entropy)
    limits = Limits(
        max_data=dice.choice((32, 64, 256, 1024)) * KIB,
        max_stream=dice.choice((16, 64, 256)) * KIB,
        max_streams=dice.choice((4, 10, 257)),
        max_datagram=dice.choice((1024, 1200, 1472, 9000)),
    )
    ports_ns = dice.choice((0, 2 * SECOND, 40 * SECOND))
    most = dice.choice((0, 128, 512, 16384)) * KIB
    config = Config(
        identity=Secret(host.identity),
        limits=limits,
        stream_window_max=most,
        link_window_max=most + most // 2,
        rotate_ports_ns=ports_ns,
    )
    return Endpoint(config, now=now, unix_ns=unix_ns, entropy=entropy, trace=host.traced)
