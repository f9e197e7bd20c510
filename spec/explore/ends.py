"""What must come of every situation once the network is fair.

Rules: an end plays its situation on, so it is the last thing that happens to it.
Left to others: reaching situations (`search`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from clawchat.core.config import DECLARING_LASTS
from clawchat.core.instant import MINUTE, SECOND
from clawchat.drivers.simulator.host import Host
from clawchat.drivers.simulator.invariants import require
from clawchat.drivers.simulator.shoulder import sights
from clawchat.errors import CloseCode
from spec.explore.situation import Situation

End: TypeAlias = Callable[[Situation], None]

SAID_AGAIN_NS: Final = 2 * SECOND  # a declaration is repeated within this time
LONG_NS: Final = 4 * MINUTE  # a link that is lost is given up after 90 s


def a_link_at_rest(situation: Situation) -> None:
    """There must be a link at rest, and one credential on both disks."""
    require(situation.fairly_until(situation.linked, LONG_NS), "no link under a fair network")
    watch = situation.world.watch
    require(
        situation.fairly_until(lambda: situation.linked() and not watch.restless()),
        f"no rest under a fair network: {watch.restless()}",
    )
    file_id = situation.file_id
    ours, theirs = situation.dialer.disk.kept[file_id], situation.listener.disk.kept[file_id]
    require(len(ours.credentials) == 1, "the dialer still keeps an older generation")
    require(ours.newest.psk == theirs.newest.psk, "the two disks differ")
    require(watch.reports == 0 or situation.reports_allowed, "a false alarm")


def an_alarm(situation: Situation) -> None:
    """The old generation must be reported, and never make a link."""
    told = situation.fairly_until(lambda: CloseCode.SUPERSEDED in situation.caller.closes)
    require(told, "the user of the backup was not told")
    require(situation.world.watch.reports > 0, "the listener's user was not told")
    require(not situation.caller.links, "an old generation made a link")


def a_file_that_works(situation: Situation) -> None:
    """Whatever became of the files before: a fresh one makes a link."""
    caller, answerer = situation.caller, situation.answerer
    situation.fairly_until(lambda: situation.linked() or not caller.dialling)
    if not situation.linked():
        situation.take(("publish", 0))
        situation.take(("redeem", len(answerer.files) - 1))
    require(situation.fairly_until(situation.linked), "a fresh file makes no link")


def nothing_left(situation: Situation) -> None:
    """Whoever declared or was told has nothing left; whoever can still be told, is."""
    must_hear = [host for host in situation.hosts if _will_be_told(situation, host)]
    situation.fairly_until(lambda: False)
    file_id = situation.file_id
    for host in situation.hosts:
        life, _ = situation.panicked.get(host.name, (0, 0))
        if life == host.incarnation:
            require(_destroyed(host, file_id), f"{host.name} declared, and still has the pairing")
            receipts = situation.panics.receipts.get((host.name, file_id))
            require(bool(receipts), f"{host.name} declared, and got no receipt")
    for host in must_hear:
        require(_destroyed(host, file_id), f"{host.name} could have been told, and was not")
    if any(_destroyed(host, file_id) for host in situation.hosts):
        require(not situation.linked(), "a destroyed pairing made a link")
    else:
        require(situation.linked(), "nobody destroyed anything, and there is no link")


def _destroyed(host: Host, file_id: bytes) -> bool:
    return file_id in host.disk.destroyed and file_id not in host.disk.kept


def _will_be_told(situation: Situation, host: Host) -> bool:
    """Whether the other side is still declaring, and this one has the keys to hear it."""
    [other] = (each for each in situation.hosts if each is not host)
    life, at = situation.panicked.get(other.name, (0, 0))
    waited = situation.world.timeline.now - at
    if life != other.incarnation or waited > DECLARING_LASTS - SAID_AGAIN_NS:
        return False
    return bool(_hashes(other) & _hashes(host))


def _hashes(host: Host) -> set[bytes]:
    """The links of which this host has packet keys."""
    assert host.endpoint is not None
    return {sight.hash for sight in sights(host.endpoint) if sight.epochs}
