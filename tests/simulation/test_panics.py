"""Panics at every moment of a bad day: destroyed is absorbing, and leaves no live key."""

from __future__ import annotations

from random import Random

import pytest

from clawchat.core.instant import MILLISECOND, MINUTE, SECOND
from clawchat.drivers.simulator.host import Host, Power
from clawchat.drivers.simulator.invariants import BLAMELESS, InvariantBroken
from clawchat.drivers.simulator.network import Conditions
from clawchat.drivers.simulator.panics import PanicWatch, panic
from clawchat.drivers.simulator.workload import Caller
from clawchat.errors import CloseCode, LocalError
from tests.scenarios.pairs import Pair, make_pair


def panicking_pair(
    seed: str, conditions: Conditions, *, write_ns: int = 0
) -> tuple[Pair, PanicWatch]:
    pair = make_pair(seed, conditions=conditions, write_ns=write_ns)
    watch = PanicWatch()
    for host in (pair.listener, pair.dialer):
        host.watchers.append(watch)
    pair.world.watch.blameless = BLAMELESS | {CloseCode.COMPROMISED}
    return pair, watch


def restart(pair: Pair, host: Host) -> None:
    if host is pair.listener:
        pair.start_listener()
    else:
        host.start()


@pytest.fixture(autouse=True)
def _a_caller_that_takes_no_for_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pairing may be gone for ever; so a driver refuses to dial with what is on the disk."""
    dial = Caller._dial

    def careful(self: Caller, host: Host) -> None:
        if self.pairing is None or self.pairing.file_id in host.disk.destroyed:
            return
        try:
            dial(self, host)
        except LocalError:
            self._dialling = 0

    monkeypatch.setattr(Caller, "_dial", careful)


@pytest.mark.parametrize("seed", range(60))
def test_whoever_panics_whenever_in_whatever_weather(seed: int) -> None:
    dice = Random(f"panic/{seed}")
    conditions = Conditions(
        latency_ns=dice.choice((1, 10, 100, 300)) * MILLISECOND,
        jitter_ns=dice.choice((0, 20)) * MILLISECOND,
        loss=dice.choice((0.0, 0.05, 0.2, 0.4)),
        burst=dice.choice((1, 3)),
        duplicate=dice.choice((0.0, 0.1)),
    )
    pair, watch = panicking_pair(f"panic/{seed}", conditions, write_ns=50 * MILLISECOND)
    pair.world.run(dice.randrange(5 * SECOND))
    assert pair.caller.pairing is not None
    file_id = pair.caller.pairing.file_id
    hosts = [pair.dialer, pair.listener]
    dice.shuffle(hosts)
    declared = [panic(hosts[0], file_id)]
    if dice.random() < 0.4:
        pair.world.run(dice.randrange(SECOND))
        declared.append(panic(hosts[1], file_id))
    for _ in range(dice.randrange(3)):
        pair.world.run(dice.randrange(3 * SECOND))
        victim = dice.choice(hosts)
        victim.kill()
        pair.world.run(dice.randrange(3 * SECOND))
        restart(pair, victim)
    pair.world.run(2 * MINUTE)
    assert declared[0]
    life_ended = hosts[0].incarnation > 1
    if not life_ended:
        (receipt, *_) = watch.receipts[hosts[0].name, file_id]
        assert not receipt.by_peer
        assert file_id in hosts[0].disk.destroyed
        assert file_id not in hosts[0].disk.kept
    for (name, doomed), receipts in watch.receipts.items():
        assert doomed == file_id
        assert len(receipts) <= 3, name


def test_a_peer_that_is_asleep_meets_silence_when_it_wakes() -> None:
    pair, watch = panicking_pair("asleep", Conditions())
    pair.link()
    pair.rest()
    assert pair.caller.pairing is not None
    file_id = pair.caller.pairing.file_id
    pair.dialer.suspend()
    assert panic(pair.listener, file_id)
    pair.world.run(MINUTE)
    pair.dialer.resume()
    pair.world.run(3 * MINUTE)
    (receipt,) = watch.receipts[pair.listener.name, file_id]
    assert receipt.told
    assert not receipt.confirmed
    assert (pair.dialer.name, file_id) not in watch.receipts
    assert pair.linked() is None
    assert pair.dialer.power is Power.RUNNING


def test_a_panic_that_is_not_possible_is_told_so() -> None:
    pair, _ = panicking_pair("twice", Conditions())
    talk = pair.link()
    assert pair.caller.pairing is not None
    file_id = pair.caller.pairing.file_id
    assert talk.alive
    assert panic(pair.dialer, file_id)
    assert not panic(pair.dialer, file_id)
    pair.listener.kill()
    assert not panic(pair.listener, file_id)


def test_the_watch_notices_a_key_that_was_left() -> None:
    """That a sabotaged core is caught says that the silence of the runs above means something."""
    pair, _ = panicking_pair("sabotage", Conditions())
    pair.link()
    assert pair.caller.pairing is not None
    file_id = pair.caller.pairing.file_id
    endpoint = pair.listener.endpoint
    assert endpoint is not None
    kept = endpoint._registry.pairings[file_id].own()  # type: ignore[attr-defined]
    panic(pair.listener, file_id)
    endpoint._registry.remember(kept)  # type: ignore[attr-defined]
    with pytest.raises(InvariantBroken, match="of a destroyed pairing"):
        pair.world.run(SECOND)
