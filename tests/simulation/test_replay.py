"""What went into an endpoint, fed to a fresh one, gives the same actions byte for byte."""

from __future__ import annotations

from random import Random

from clawchat.core.config import Entropy
from clawchat.core.instant import SECOND, Instant
from clawchat.drivers.simulator.build import build_endpoint
from clawchat.drivers.simulator.host import Driven, Host
from clawchat.drivers.simulator.replay import Recorder, replay
from clawchat.drivers.simulator.workload import Deed
from tests.scenarios.pairs import make_pair


def build_recorded(host: Host, now: Instant, unix_ns: int, entropy: Entropy) -> Driven:
    return Recorder(build_endpoint(host, now, unix_ns, entropy))


def test_a_recorded_session_replays_byte_for_byte_on_both_sides() -> None:
    pair = make_pair("replay", build=build_recorded)
    began = {host.name: host.now for host in (pair.listener, pair.dialer)}
    unix = {host.name: host.clock.unix(0) for host in (pair.listener, pair.dialer)}
    talk = pair.link()
    for deed in (Deed.CHAT, Deed.UPLOAD, Deed.DOWNLOAD, Deed.ROTATE, Deed.DATAGRAM, Deed.PING):
        pair.caller.act(talk, deed)
    assert pair.world.run_until(lambda: pair.settled(talk), 10 * SECOND)
    pair.rest()
    assert [epoch for _, epoch, _ in pair.caller.rotated] == [1, 2] or pair.caller.rotated
    for host in (pair.listener, pair.dialer):
        recorder = host.endpoint
        assert isinstance(recorder, Recorder)
        dice = Random(f"{host.seed}/{host.name}/{host.incarnation}").randbytes
        fresh = build_endpoint(host, began[host.name], unix[host.name], dice)
        assert replay(recorder.recording, fresh) == recorder.recording.answers
        assert len(recorder.recording.answers) > 20
