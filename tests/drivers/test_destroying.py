"""What is destroyed on disk stays destroyed, whenever the process is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import clawchat
from clawchat.core.actions import Closed, Compromised, Destroy, DestroyIdentity
from clawchat.core.credential import Address, Credential, Pairing, Superseded
from clawchat.core.secret import Secret
from clawchat.drivers import files, secret_json
from clawchat.drivers.on_trio import NotErased
from clawchat.drivers.scrub import scrub
from clawchat.drivers.store import PairingGone, Store
from clawchat.errors import CloseCode, CompromiseReason, PairingDestroyed, StoreError
from tests.drivers.test_trio import KEY, Place
from tests.waiting import PATIENCE, until

FILE_ID = bytes(range(16))


def pairing(file_id: bytes = FILE_ID) -> Pairing:
    return Pairing(
        file_id,
        True,
        b"l" * 32,
        b"l" * 32,
        (Credential(7, b"h" * 16, Secret(b"e" * 32), Secret(b"p" * 32)),),
        (Superseded(6, b"g" * 16, Secret(b"f" * 32)),),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    store.save(pairing(), candidates=(Address("192.0.2.1", 5),))
    return store


def kept(store: Store, file_id: bytes = FILE_ID) -> Path:
    return store.folder / "pairings" / f"{file_id.hex()}.json"


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


# --- the store --------------------------------------------------------------------------------


def test_a_destroyed_pairing_leaves_its_id_and_no_secret(store: Store) -> None:
    store.destroy(FILE_ID)
    assert store.entries() == []
    assert store.get(FILE_ID) is None
    left = everything_in(store.folder)
    for secret in (b"e", b"p", b"f"):
        assert secret * 32 not in left
        assert (secret * 32).hex().encode() not in left
    (note,) = (store.folder / "destroyed").iterdir()
    assert note.name == FILE_ID.hex()
    assert note.stat().st_mode & 0o777 == 0o600


def test_what_stood_in_the_file_is_overwritten_before_it_is_removed(
    store: Store, tmp_path: Path
) -> None:
    other = tmp_path / "another name of the same bytes"
    os.link(kept(store), other)
    store.destroy(FILE_ID)
    assert set(other.read_bytes()) == {0}


def test_unfinished_writes_of_a_killed_process_go_as_well(store: Store) -> None:
    left = kept(store).with_name(f".{kept(store).name}.1.abcd{files.UNFINISHED}")
    left.write_bytes(b"secret")
    store.destroy(FILE_ID)
    assert not left.exists()


def test_a_pairing_that_is_not_there_is_destroyed_for_the_future(store: Store) -> None:
    other = b"o" * 16
    store.destroy(other)
    with pytest.raises(PairingGone, match=r"pair again"):
        store.save(pairing(other))


def test_a_backup_is_refused_and_the_user_is_told_what_to_remove(store: Store) -> None:
    backup = kept(store).read_bytes()
    store.destroy(FILE_ID)
    kept(store).write_bytes(backup)
    note = store.folder / "destroyed" / FILE_ID.hex()
    for use in (store.load, lambda: store.get(FILE_ID)):
        with pytest.raises(PairingGone) as caught:
            use()
        assert str(kept(store)) in str(caught.value)
        assert str(note) in str(caught.value)
    note.unlink()  # the user's word
    assert store.load() == [pairing()]


def test_other_pairings_are_not_touched(store: Store) -> None:
    store.save(pairing(b"o" * 16))
    store.destroy(FILE_ID)
    assert [entry.pairing.file_id for entry in store.entries()] == [b"o" * 16]


def test_our_own_key_is_destroyed_and_made_anew(store: Store, tmp_path: Path) -> None:
    before = store.identity().reveal()
    other = tmp_path / "another name of the same bytes"
    os.link(store.folder / "identity.json", other)
    store.destroy_identity()
    assert set(other.read_bytes()) == {0}
    assert store.identity().reveal() != before


def test_the_store_does_what_the_core_asks_for(store: Store) -> None:
    store.identity()
    store.erase(Destroy(FILE_ID))
    store.erase(DestroyIdentity())
    assert store.entries() == []
    assert not (store.folder / "identity.json").exists()


KILLED = """
import os, sys
from pathlib import Path
from clawchat.drivers import files
from clawchat.drivers.store import Store

steps = int(sys.argv[2])

def counted(call):
    def wrapped(*arguments, **named):
        global steps
        steps -= 1
        if steps < 0:
            os._exit(9)
        return call(*arguments, **named)
    return wrapped

for name in ("fsync", "write", "link", "unlink", "replace"):
    setattr(os, name, counted(getattr(os, name)))
Path.unlink = counted(Path.unlink)
Store(sys.argv[1]).destroy(bytes.fromhex(sys.argv[3]))
"""


@pytest.mark.parametrize("steps", range(18))
def test_a_process_killed_at_any_step_of_destroying_leaves_nothing_half_done(
    store: Store, steps: int
) -> None:
    """Either nothing happened yet, or whoever opens the store next finishes."""
    command = [sys.executable, "-c", KILLED, str(store.folder), str(steps), FILE_ID.hex()]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode in (0, 9), done.stderr
    note = store.folder / "destroyed" / FILE_ID.hex()
    if not note.exists():
        assert done.returncode == 9
        assert store.load() == [pairing()]
        return
    assert store.entries() == []
    assert not kept(store).exists()
    with pytest.raises(PairingGone):
        store.refuse_destroyed(FILE_ID)


def test_who_asks_for_a_half_destroyed_pairing_finishes_too(store: Store) -> None:
    backup = kept(store).read_bytes()
    store.destroy(FILE_ID)
    note = store.folder / "destroyed" / FILE_ID.hex()
    text = note.read_text()
    begun = "".join(
        line if '"destroyed":' not in line else ' "destroyed": 0,\n'
        for line in text.splitlines(keepends=True)
    )
    note.write_text(begun)
    kept(store).write_bytes(backup)
    with pytest.raises(PairingGone):
        store.save(pairing())
    assert not kept(store).exists()


# --- secrets in JSON --------------------------------------------------------------------------


def test_secrets_pass_through_json_as_they_always_did(store: Store) -> None:
    text = kept(store).read_text()
    assert (b"p" * 32).hex() in text
    assert store.load() == [pairing()]
    kept(store).write_text(text.replace((b"p" * 32).hex(), (b"\xab" * 32).hex().upper()))
    assert store.load()[0].newest.psk == Secret(b"\xab" * 32)


@pytest.mark.parametrize("wrong", ['"x"', '""', "7", '"here stands secret 0"', '"ab"'])
def test_a_secret_that_is_none_is_damage(store: Store, wrong: str) -> None:
    text = kept(store).read_text()
    kept(store).write_text(text.replace(f'"{(b"p" * 32).hex()}"', wrong))
    with pytest.raises(StoreError, match="damaged"):
        store.load()


def test_a_mark_for_a_secret_that_is_not_there_is_damage() -> None:
    secrets = [Secret(b"s" * 32)]
    marked = secret_json._marked(0, 64)
    assert secret_json.find(marked, secrets) is secrets[0]
    with pytest.raises(ValueError, match="no secret"):
        secret_json.find(secret_json._marked(1, 64), secrets)


def test_only_secrets_and_json_go_into_json() -> None:
    with pytest.raises(TypeError):
        secret_json.encode({"a": object()})


def test_scrubbing_leaves_what_is_in_use_alone() -> None:
    mine = [bytes((n,)) * n for n in range(256)]
    scrub()
    assert mine == [bytes((n,)) * n for n in range(256)]


# --- over a real link -------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_a_device_destroys_its_pairing_on_both_sides(place: Place) -> None:
    with trio.fail_after(PATIENCE):
        async with place.serving() as listener:
            heard = listener.notices()
            async with clawchat.connect(place.file, key=KEY, store=place.dialer) as peer:
                await peer.rotate_keys()
                (entry,) = place.dialer.entries()
                receipt = await peer.declare_compromised(
                    CompromiseReason.DEVICE_LOST, everything=False
                )
                assert receipt.confirmed
                assert peer.receipt == receipt
                assert (await peer.wait_closed()).code is CloseCode.COMPROMISED
                with pytest.raises(PairingDestroyed):
                    await peer.declare_compromised(everything=False)
                assert await peer.declare_compromised(everything=True) == receipt
            notice = await anext(heard)
            assert isinstance(notice, Compromised)
            assert notice.receipt.by_peer
            assert place.dialer.entries() == []
            await until(lambda: not place.listener.entries())
            for backup in (entry, entry.pairing):
                with pytest.raises(PairingGone):
                    async with clawchat.connect(backup, store=place.dialer):
                        pass


async def test_a_listener_destroys_everything(place: Place) -> None:
    with trio.fail_after(PATIENCE):
        async with place.serving() as listener:
            async with clawchat.connect(place.file, key=KEY, store=place.dialer) as peer:
                await peer.rotate_keys()
                (receipt,) = await listener.declare_compromised()
                assert receipt.confirmed
                assert receipt.kept.identity
                closed = await peer.wait_closed()
                assert closed == Closed(CloseCode.COMPROMISED, closed.reason, by_peer=True)
            assert not (place.listener.folder / "identity.json").exists()
            assert not place.file.exists()
            with pytest.raises(PairingDestroyed):
                await listener.publish()


async def test_a_file_that_cannot_be_removed_is_named_with_the_receipt(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> None:
        raise OSError(30, "Read-only file system")

    with trio.fail_after(PATIENCE):
        async with (
            place.serving(),
            clawchat.connect(place.file, key=KEY, store=place.dialer) as peer,
        ):
            await peer.rotate_keys()
            monkeypatch.setattr(files, "shred", refuse)
            with pytest.raises(NotErased, match="Read-only") as caught:
                await peer.declare_compromised(everything=False)
            (receipt,) = caught.value.receipts
            assert receipt.confirmed
