"""The packet keys of a link: at most three epochs, each found by its ids and no longer."""

from __future__ import annotations

import pytest

from clawchat.core.config import PATH_IDS_AHEAD
from clawchat.core.crypto.schedule import EpochKeys
from clawchat.core.epochs import Epochs
from clawchat.core.secret import Secret

ROOTS = tuple(bytes((number,)) * 32 for number in range(4))


class Routes:
    """Which connection ids lead to which epoch."""

    def __init__(self) -> None:
        self.known: dict[bytes, tuple[int, int]] = {}

    def found(self, cid: bytes, keys: EpochKeys, path_id: int) -> None:
        assert cid not in self.known
        self.known[cid] = (keys.epoch, path_id)

    def lost(self, cid: bytes) -> None:
        del self.known[cid]

    @property
    def epochs(self) -> list[int]:
        return sorted({epoch for epoch, _ in self.known.values()})


def make(*, dialer: bool = True) -> tuple[Epochs, Routes]:
    routes = Routes()
    epochs = Epochs(Secret(ROOTS[0]), dialer=dialer, found=routes.found, lost=routes.lost, now=7)
    return epochs, routes


def step(epochs: Epochs, epoch: int, now: int = 8) -> None:
    epochs.install(Secret(ROOTS[epoch]), epoch)
    epochs.switch(now)


def test_a_link_begins_with_epoch_zero_and_the_ids_of_a_few_paths() -> None:
    epochs, routes = make()
    assert epochs.current is epochs.newest
    assert (epochs.current.epoch, epochs.previous, epochs.began) == (0, None, 7)
    assert sorted(routes.known.values()) == [(0, path) for path in range(PATH_IDS_AHEAD)]


def test_the_two_sides_of_a_link_find_different_ids_and_read_each_other() -> None:
    ours, our_routes = make()
    theirs, their_routes = make(dialer=False)
    assert not our_routes.known.keys() & their_routes.known.keys()
    cid = ours.current.seal.cid(0)
    assert their_routes.known[cid] == (0, 0)
    (sealed,) = ours.current.seal.seal(0, 0, [b"hello"])
    assert theirs.current.open.open(0, cid, [sealed], -1) == [(0, b"hello")]


def test_no_connection_id_is_used_in_two_epochs() -> None:
    epochs, routes = make()
    first = set(routes.known)
    step(epochs, 1)
    assert len(routes.known) == 2 * PATH_IDS_AHEAD
    epochs.wipe_previous()
    assert not first & set(routes.known)


def test_the_next_epoch_can_be_read_before_anything_is_sent_with_it() -> None:
    epochs, routes = make()
    epochs.install(Secret(ROOTS[1]), 1)
    assert epochs.current.epoch == 0
    assert routes.epochs == [0, 1]


def test_after_the_switch_the_previous_epoch_is_still_read() -> None:
    epochs, routes = make()
    epochs.carried = True
    step(epochs, 1, now=99)
    assert (epochs.current.epoch, epochs.began, epochs.carried) == (1, 99, False)
    assert epochs.previous is not None
    assert routes.epochs == [0, 1]
    epochs.wipe_previous()
    assert routes.epochs == [1]
    epochs.wipe_previous()
    assert routes.epochs == [1]


def test_more_than_one_previous_or_next_epoch_is_a_bug_of_ours() -> None:
    epochs, _ = make()
    epochs.install(Secret(ROOTS[1]), 1)
    with pytest.raises(AssertionError, match="next"):
        epochs.install(Secret(ROOTS[2]), 2)
    epochs.switch(0)
    epochs.install(Secret(ROOTS[2]), 2)
    with pytest.raises(AssertionError, match="previous"):
        epochs.switch(0)


def test_only_keys_of_a_rotation_that_is_not_settled_are_new() -> None:
    epochs, _ = make()
    zero = epochs.current
    assert not epochs.is_new(zero)
    epochs.install(Secret(ROOTS[1]), 1)
    one = epochs.newest
    assert epochs.is_new(one)
    assert not epochs.is_new(zero)
    epochs.switch(0)
    assert epochs.is_new(one)
    assert not epochs.is_new(zero)
    epochs.wipe_previous()
    assert not epochs.is_new(one)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_wiping_leaves_no_key_and_no_id_at_any_stage(stage: int) -> None:
    epochs, routes = make()
    roots = [epochs.current.root]
    if stage:
        step(epochs, 1)
        roots.append(epochs.current.root)
    if stage > 1:
        epochs.install(Secret(ROOTS[2]), 2)
        roots.append(epochs.newest.root)
    if stage > 2:
        epochs.wipe_previous()
    keys = (epochs.current, epochs.newest)
    epochs.wipe()
    assert routes.known == {}
    assert all(root.wiped for root in roots)
    for wiped in keys:
        with pytest.raises(ValueError, match="wiped"):
            wiped.seal.seal(0, 0, [b"x"])
