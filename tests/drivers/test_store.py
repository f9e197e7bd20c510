"""The store keeps credentials through full disks, killed processes and damaged files."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from clawchat.core.credential import Address, Credential, Pairing, Superseded
from clawchat.core.secret import Secret
from clawchat.drivers import files
from clawchat.drivers.locks import StoreBusy
from clawchat.drivers.store import Ending, Store, default_folder
from clawchat.errors import StoreError

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes and owners are POSIX")


def a_pairing(file_id: int = 1, generation: int = 0, *, dialer: bool = True) -> Pairing:
    def made(number: int) -> Credential:
        return Credential(
            number,
            bytes([number % 256]) * 16,
            Secret(bytes([1, number % 256]) * 16),
            Secret(bytes([2, number % 256]) * 16),
        )

    older = (made(generation - 1),) if generation else ()
    gone = (Superseded(0, bytes(16), Secret(bytes(32))),) if generation > 1 else ()
    return Pairing(
        bytes([file_id]) * 16,
        dialer,
        b"L" * 32,
        b"L" * 32 if dialer else None,
        (made(generation), *older),
        gone,
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state")


def test_the_identity_is_made_once_and_kept(store: Store) -> None:
    first = store.identity()
    assert len(first) == 32
    assert store.identity() == first == Store(store.folder).identity()


def test_two_threads_that_make_the_identity_at_once_get_the_same(store: Store) -> None:
    found: list[Secret] = []
    gate = threading.Barrier(4)

    def make() -> None:
        gate.wait()
        found.append(Store(store.folder).identity())

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(secret == found[0] for secret in found)


@pytest.mark.parametrize("generation", [0, 1, 5])
@pytest.mark.parametrize("dialer", [True, False])
def test_a_saved_pairing_is_loaded_as_it_was(store: Store, generation: int, dialer: bool) -> None:
    pairing = a_pairing(1, generation, dialer=dialer)
    store.save(pairing)
    assert Store(store.folder).load() == [pairing]


def test_a_change_in_another_process_is_waited_for_and_not_undone(store: Store) -> None:
    """Renaming reads, changes and writes: a generation that is saved meanwhile must stay."""
    store.save(a_pairing(1, 3))
    done: list[str] = []

    def rename() -> None:
        Store(store.folder).rename(bytes([1]) * 16, "phone")
        done.append("renamed")

    with store._changing():
        thread = threading.Thread(target=rename)
        thread.start()
        thread.join(0.2)
        assert not done
        entry = store._found(bytes([1]) * 16)
        assert entry is not None
        store._write(evolve(entry, pairing=a_pairing(1, 4)))
    thread.join()
    (entry,) = store.entries()
    assert (entry.name, entry.pairing.newest.generation) == ("phone", 4)


def test_many_changes_at_once_are_all_kept(store: Store) -> None:
    store.save(a_pairing(1, 0))
    names = [f"name {number}" for number in range(20)]

    def rename() -> None:
        for name in names:
            Store(store.folder).rename(bytes([1]) * 16, name)

    thread = threading.Thread(target=rename)
    thread.start()
    for generation in range(1, 21):
        store.save(a_pairing(1, generation))
    thread.join()
    (entry,) = store.entries()
    assert (entry.name, entry.pairing.newest.generation) == (names[-1], 20)


def test_when_a_device_was_last_seen_is_kept_beside_its_credentials(store: Store) -> None:
    store.save(a_pairing(1, 2))
    (entry,) = store.entries()
    assert store.last_seen(entry) == entry.used
    before = (store.folder / "pairings" / f"{'01' * 16}.json").stat()
    store.note_seen(bytes([1]) * 16)
    marker = store.folder / "seen" / ("01" * 16)
    os.utime(marker, (entry.used + 500, entry.used + 500))
    assert store.last_seen(entry) == entry.used + 500
    after = (store.folder / "pairings" / f"{'01' * 16}.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    store.remove(bytes([1]) * 16)
    assert not marker.exists()
    store.note_seen(bytes([1]) * 16)
    assert not marker.exists(), "nobody is paired under this id any more"


@pytest.mark.parametrize("why", list(Ending))
def test_what_was_ended_says_who_ended_it_and_when(store: Store, why: Ending) -> None:
    store.save(a_pairing(1, 2))
    store.rename(bytes([1]) * 16, "home")
    store.destroy(bytes([1]) * 16, why)
    (ended,) = store.ended()
    assert (ended.name, ended.dialer, ended.why) == ("home", True, why)
    assert ended.when > 0
    with pytest.raises(StoreError, match=f"the pairing home was {why.value}"):
        store.save(a_pairing(1, 3))


def test_a_damaged_pairing_can_be_ended_too(store: Store) -> None:
    store.save(a_pairing(1, 2))
    path = store.folder / "pairings" / f"{'01' * 16}.json"
    path.write_text("{")
    store.destroy(bytes([1]) * 16, Ending.REVOKED)
    assert not path.exists()
    assert [ended.name for ended in store.ended()] == ["01010101"]


def test_a_full_disk_keeps_no_pairing_from_being_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(a_pairing(1, 2))
    path = store.folder / "pairings" / f"{'01' * 16}.json"
    write = os.write

    def full(handle: int, data: bytes) -> int:
        if path.exists() and bytes(data).startswith(b'{"format": "clawchat note"'):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, data)

    monkeypatch.setattr(os, "write", full)
    store.destroy(bytes([1]) * 16)
    assert not path.exists()
    assert len(store.ended()) == 1


def test_a_file_that_is_no_pairing_of_ours_is_named_and_can_be_overwritten(store: Store) -> None:
    store.save(a_pairing(1, 2))
    copy = store.folder / "pairings" / "01 (copy).json"
    copy.write_bytes((store.folder / "pairings" / f"{'01' * 16}.json").read_bytes())
    (unusable,) = store.unusable()
    assert (unusable.file_id, unusable.path) == (b"", copy)
    assert len(store.entries()) == 1
    store.discard(unusable)
    assert not copy.exists()
    assert store.load() == [a_pairing(1, 2)]


def test_an_empty_folder_holds_no_pairings(store: Store) -> None:
    assert store.load() == []
    assert store.get(bytes(16)) is None
    store.remove(bytes(16))
    assert not store.folder.exists(), "looking must not make folders"


def test_saving_a_new_generation_keeps_name_and_addresses(store: Store) -> None:
    home = (Address("192.0.2.7", 5000), Address("2001:db8::1", 5001))
    store.save(a_pairing(1, 0), candidates=home)
    store.rename(bytes([1]) * 16, "home")
    store.save(a_pairing(1, 1))
    entry = store.find("home")
    assert entry.candidates == home
    assert entry.pairing.newest.generation == 1


def test_the_address_that_answered_comes_first_next_time(store: Store) -> None:
    one, two, new = (Address("192.0.2.1", port) for port in (1, 2, 3))
    store.save(a_pairing(), candidates=(one, two))
    store.reached(bytes([1]) * 16, two)
    assert store.entries()[0].candidates == (two, one)
    store.reached(bytes([1]) * 16, new)
    assert store.entries()[0].candidates == (new, two, one)
    store.reached(bytes([9]) * 16, new)  # not kept here: nothing to note


def test_a_removed_pairing_is_gone(store: Store) -> None:
    store.save(a_pairing(1))
    store.save(a_pairing(2))
    store.remove(bytes([1]) * 16)
    assert store.load() == [a_pairing(2)]


def test_pairings_are_found_by_name_or_by_the_start_of_their_id(store: Store) -> None:
    store.save(a_pairing(0x11))
    store.save(a_pairing(0x22, dialer=False))
    store.rename(bytes([0x11]) * 16, "desk")
    assert store.find("desk").pairing.file_id == bytes([0x11]) * 16
    assert store.find("2222").pairing.file_id == bytes([0x22]) * 16
    assert store.label(bytes([0x11]) * 16) == "desk"
    assert store.label(bytes([0x22]) * 16) == "device-222222"
    assert store.label(bytes([0x33]) * 16) == "33333333"
    with pytest.raises(StoreError, match=r"'sofa'.*desk, device-222222|'sofa'.*known: "):
        store.find("sofa")
    with pytest.raises(StoreError, match="22"):
        store.find("22")


def test_a_name_is_refused_when_it_is_taken_or_unprintable(store: Store) -> None:
    store.save(a_pairing(1))
    store.save(a_pairing(2))
    store.rename(bytes([1]) * 16, "desk")
    store.rename(bytes([1]) * 16, "desk")
    for name in ("desk", "", " sofa", "so\nfa", "x" * 41):
        with pytest.raises(StoreError):
            store.rename(bytes([2]) * 16, name)
    with pytest.raises(StoreError, match="no pairing"):
        store.rename(bytes([3]) * 16, "sofa")


@posix
def test_files_are_0600_in_folders_of_0700_and_loose_ones_are_tightened(store: Store) -> None:
    store.folder.mkdir(mode=0o755)
    store.folder.chmod(0o755)
    store.identity()
    store.save(a_pairing())
    kept = store.folder / "pairings" / f"{'01' * 16}.json"
    for path, mode in (
        (store.folder, 0o700),
        (kept.parent, 0o700),
        (kept, 0o600),
        (store.folder / "identity.json", 0o600),
    ):
        assert path.stat().st_mode & 0o777 == mode, path
    kept.chmod(0o644)
    store.load()
    assert kept.stat().st_mode & 0o777 == 0o600


@posix
def test_a_folder_of_another_user_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.folder.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(StoreError, match=r"another user.*CLAWCHAT_STATE_DIR") as caught:
        store.identity()
    assert str(store.folder) in str(caught.value)


def _cut(text: str) -> str:
    return text[: len(text) // 2]


def _flip(text: str) -> str:
    content = json.loads(text)
    content["credentials"][0]["psk"] = "00"
    return json.dumps(content)


def _empty_of_credentials(text: str) -> str:
    return json.dumps(json.loads(text) | {"credentials": []})


def _other_id(text: str) -> str:
    return json.dumps(json.loads(text) | {"file_id": "ff" * 16})


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        _flip,
        _empty_of_credentials,
        _other_id,
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace("clawchat pairing", "something else"),
        lambda text: json.dumps(json.loads(text) | {"version": 0}),
        lambda text: json.dumps(json.loads(text) | {"name": 3}),
        lambda text: json.dumps(json.loads(text) | {"dialer": 1}),
        lambda text: json.dumps(json.loads(text) | {"paired": -1}),
        lambda text: json.dumps(json.loads(text) | {"candidates": {}}),
        lambda text: json.dumps(json.loads(text) | {"candidates": ["nowhere"]}),
        lambda text: json.dumps(json.loads(text) | {"superseded": [1]}),
        lambda text: json.dumps(json.loads(text) | {"superseded": [{}] * 17}),
    ],
)
def test_a_damaged_file_is_named_and_left_alone(store: Store, damage: Callable[[str], str]) -> None:
    store.save(a_pairing(1, 3))
    path = store.folder / "pairings" / f"{'01' * 16}.json"
    secret = json.loads(path.read_text())["credentials"][0]["psk"]
    damaged = damage(path.read_text())
    path.write_text(damaged)
    for attempt in (store.load, lambda: store.save(a_pairing(1, 4))):
        with pytest.raises(StoreError, match="damaged") as caught:
            attempt()
        assert str(path) in str(caught.value)
        assert caught.value.__cause__ is None or secret not in repr(caught.value.__cause__)
    assert path.read_text() == damaged


def test_a_file_of_a_newer_version_asks_for_an_upgrade(store: Store) -> None:
    store.save(a_pairing())
    path = store.folder / "pairings" / f"{'01' * 16}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))
    with pytest.raises(StoreError, match="newer ClawChat: upgrade"):
        store.load()


class FullDisk:
    """Makes one system call fail, the `at`-th time it is used."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, at: int, code: int) -> None:
        real = getattr(os, name)
        self.calls = 0

        def call(*args: object, **named: object) -> object:
            self.calls += 1
            if self.calls == at:
                raise OSError(code, os.strerror(code))
            if name == "write" and self.calls < at:
                return real(args[0], args[1][:7])  # type: ignore[index]  # short writes
            return real(*args, **named)

        monkeypatch.setattr(os, name, call)


@posix
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize(
    ("name", "at"),
    [("open", 1), ("open", 2), ("write", 1), ("write", 3), ("fsync", 1), ("replace", 1)],
)
def test_a_disk_that_fails_at_any_step_leaves_the_old_credential(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str, at: int, code: int
) -> None:
    store.save(a_pairing(1, 3))
    with monkeypatch.context() as patch:
        FullDisk(patch, name, at, code)
        with pytest.raises(StoreError) as caught:
            store.save(a_pairing(1, 4))
    assert str(store.folder) in str(caught.value)
    assert "CLAWCHAT_STATE_DIR" in str(caught.value)
    assert Store(store.folder).load() == [a_pairing(1, 3)]
    assert not list(store.folder.rglob("*.unfinished"))
    store.save(a_pairing(1, 4))
    assert store.load() == [a_pairing(1, 4)]


@posix
def test_a_folder_that_cannot_be_synced_is_not_called_durable(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(a_pairing(1, 3))
    FullDisk(monkeypatch, "fsync", 2, errno.EIO)  # the file's, then the folder's
    with pytest.raises(StoreError):
        store.save(a_pairing(1, 4))


@posix
def test_a_full_disk_on_first_use_leaves_no_half_identity(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        FullDisk(patch, "write", 1, errno.ENOSPC)
        with pytest.raises(StoreError, match="No space left"):
            store.identity()
    assert not (store.folder / "identity.json").exists()
    assert len(store.identity()) == 32


SAVE_FOREVER = """
import sys
from tests.drivers.test_store import a_pairing
from clawchat.drivers.store import Store
store = Store(sys.argv[1])
generation = int(sys.argv[2])
while True:
    generation += 1
    store.save(a_pairing(1, generation))
    print(generation, flush=True)
"""


@posix
def test_a_process_killed_in_the_middle_of_saving_loses_no_credential(store: Store) -> None:
    store.save(a_pairing(1, 0))
    said = 0
    for round_ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", SAVE_FOREVER, str(store.folder), str(said)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        ) as child:
            assert child.stdout is not None
            for _ in range(20 + 7 * round_):
                said = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            said = max([said, *map(int, child.stdout.read().split())])
        (kept,) = Store(store.folder).load()
        assert kept == a_pairing(1, kept.newest.generation)
        # One more may be durable than the child had time to say; never one fewer.
        assert kept.newest.generation in (said, said + 1)
        said = kept.newest.generation


def test_what_a_killed_process_left_unfinished_is_swept_away(store: Store) -> None:
    store.save(a_pairing())
    fresh = store.folder / "pairings" / ".x.json.1.ab.unfinished"
    stale = store.folder / "pairings" / ".y.json.1.ab.unfinished"
    fresh.write_bytes(b"")
    stale.write_bytes(b"")
    os.utime(stale, (1, 1))
    assert store.load() == [a_pairing()]
    assert fresh.exists()
    assert not stale.exists()


def test_a_lock_is_exclusive_and_says_who_holds_it(store: Store) -> None:
    with store.lock("one"):
        with (
            pytest.raises(StoreBusy, match=rf"process {os.getpid()}.*\(one\)"),
            Store(store.folder).lock("one"),
        ):
            pass
        with store.lock("two"):
            pass
    with store.lock("one"):
        pass


def test_a_lock_holds_on_a_full_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the name of its process is missing: what the disk is needed for says so itself."""
    with store.lock("one"):
        pass

    def full(_handle: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with (
        store.lock("one"),
        pytest.raises(StoreBusy, match="another process"),
        Store(store.folder).lock("one"),
    ):
        pass


@posix
def test_a_lock_dies_with_its_process(store: Store) -> None:
    code = (
        "import sys, time; from clawchat.drivers.store import Store\n"
        "with Store(sys.argv[1]).lock('dial'): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store.folder)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(StoreBusy, match=f"process {child.pid}"), store.lock("dial"):
            pass
        child.kill()
    with store.lock("dial"):
        pass


def test_the_state_folder_can_be_named_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CLAWCHAT_STATE_DIR", str(tmp_path / "here"))
    assert default_folder() == Store().folder == tmp_path / "here"
    monkeypatch.delenv("CLAWCHAT_STATE_DIR")
    assert default_folder().name == "clawchat"


def test_no_secret_is_in_a_repr(store: Store) -> None:
    store.save(a_pairing())
    secret = a_pairing().newest.psk.reveal()
    for shown in (repr(store), repr(store.entries()), repr(store.identity())):
        assert secret.hex() not in shown
        assert repr(secret) not in shown


@posix
def test_a_private_file_does_not_follow_a_planted_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "kept").symlink_to(victim)
    files.write_private(tmp_path / "kept", b"ours")
    assert victim.read_text() == "precious"
    assert (tmp_path / "kept").read_bytes() == b"ours"
