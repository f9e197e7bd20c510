"""Warnings wait for a user who was not looking: bounded, counted, and gone when read."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from attrs import evolve

from clawchat.core.actions import CopyReported, CredentialReused
from clawchat.core.credential import Address
from clawchat.core.credential import Path as LinkPath
from clawchat.core.instant import SECOND
from clawchat.drivers.alarms import (
    AGAIN_SECONDS,
    ALARMS_MAX,
    Alarm,
    AlarmLog,
    Kind,
    alarm_of,
    alarm_told,
)
from clawchat.errors import StoreError

PATH = LinkPath(Address("127.0.0.1", 1), Address("192.0.2.7", 5))


def reused(number: int = 1, generation: int = 0, *, same: bool = False) -> CredentialReused:
    return CredentialReused(bytes([number]) * 16, generation, PATH, b"s" * 32, same)


@pytest.fixture
def log(tmp_path: Path) -> AlarmLog:
    return AlarmLog(tmp_path)


@pytest.mark.parametrize(
    ("notice", "kind"),
    [
        (reused(), Kind.FILE),
        (reused(generation=3), Kind.COPY),
        (reused(generation=3, same=True), Kind.OLD),
        (reused(generation=0, same=True), Kind.OLD),
    ],
)
def test_what_was_used_by_whom_is_told_apart(notice: CredentialReused, kind: Kind) -> None:
    before = int(time.time())
    alarm = alarm_of(notice, "phone")
    assert (alarm.kind, alarm.name, alarm.remote) == (kind, "phone", "192.0.2.7:5")
    assert before <= alarm.last <= time.time()


def reported(generation: int = 0, *, same: bool = False) -> CopyReported:
    return CopyReported(generation, PATH.remote, same, count=3, ago_ns=90 * SECOND)


@pytest.mark.parametrize(
    ("notice", "kind"),
    [
        (reported(), Kind.FILE),
        (reported(3), Kind.COPY),
        (reported(3, same=True), Kind.OLD),
        (reported(same=True), Kind.OLD),
    ],
)
def test_what_a_listener_tells_its_device_is_kept_there_with_when_and_how_often(
    notice: CopyReported, kind: Kind, log: AlarmLog
) -> None:
    before = int(time.time())
    alarm = alarm_told(notice, b"f" * 16, "home")
    assert (alarm.kind, alarm.name, alarm.remote) == (kind, "home", "192.0.2.7:5")
    assert (alarm.static, alarm.count) == (None, 3)
    assert before - 90 <= alarm.last <= time.time() - 90
    log.note(alarm)
    assert log.note(alarm) is None
    later = evolve(alarm, last=alarm.last + 61)
    assert log.note(later) == evolve(later, count=9)
    assert AlarmLog(log.path.parent).all() == [evolve(later, count=9)]


def test_one_folder_for_both_roles_keeps_what_each_was_told(log: AlarmLog) -> None:
    ours = alarm_told(reported(), bytes([1]) * 16, "home")
    theirs = alarm_of(reused(), "phone")
    assert log.note(ours) == ours
    assert log.note(theirs) == theirs
    assert log.all() == [ours, theirs]


def test_an_alarm_waits_on_disk_until_it_is_acknowledged(log: AlarmLog) -> None:
    alarm = alarm_of(reused(), "phone")
    assert log.note(alarm) == alarm
    again = AlarmLog(log.path.parent)
    assert again.all() == [alarm]
    assert log.path.stat().st_mode & 0o777 == 0o600
    assert again.clear() == 1
    assert (log.all(), log.clear()) == ([], 0)


def test_the_same_again_only_counts_and_a_flood_of_it_costs_one_write_a_minute(
    log: AlarmLog,
) -> None:
    alarm = alarm_of(reused(), "phone")
    assert log.note(alarm) is not None
    written = log.path.stat().st_mtime_ns
    for _ in range(1000):
        assert log.note(alarm) is None
    assert log.path.stat().st_mtime_ns == written
    later = evolve(alarm, last=alarm.last + int(AGAIN_SECONDS), remote="198.51.100.1:9")
    (kept,) = [log.note(later)]
    assert kept is not None
    assert (kept.count, kept.first, kept.remote) == (1002, alarm.first, "198.51.100.1:9")
    assert log.all() == [kept]


def test_a_clock_that_was_set_back_silences_nothing(log: AlarmLog) -> None:
    alarm = alarm_of(reused(), "phone")
    log.note(alarm)
    assert log.note(evolve(alarm, last=alarm.last - 3600)) is not None


def test_at_most_so_many_are_kept_and_the_latest_stay(log: AlarmLog) -> None:
    for number in range(ALARMS_MAX + 5):
        log.note(alarm_of(reused(number), f"device {number}"))
    names = [alarm.name for alarm in log.all()]
    assert names == [f"device {number}" for number in range(5, ALARMS_MAX + 5)]


def test_a_damaged_file_is_named_and_left_alone(log: AlarmLog) -> None:
    log.note(alarm_of(reused(), "phone"))
    told = json.loads(log.path.read_text())
    told["alarms"][0]["kind"] = "gossip"
    log.path.write_text(json.dumps(told))
    before = log.path.read_bytes()
    for use in (log.all, log.clear, lambda: AlarmLog(log.path.parent).note(_another())):
        with pytest.raises(StoreError, match=r"alarms\.json is damaged"):
            use()
    assert log.path.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_named(
    log: AlarmLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StoreError, match="No space left"):
            log.note(_another())
    assert log.all() == []


def _another() -> Alarm:
    return alarm_of(reused(7), "laptop")
