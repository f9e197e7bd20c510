"""connect and serve over real loopback UDP."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import copy, copytree

import pytest
import trio

import clawchat
from clawchat import Address, BootstrapKey, CloseCode, LinkClosed, Listener, Peer, Publisher, Store
from clawchat.core.actions import Closed, CredentialReused
from clawchat.drivers import connecting
from clawchat.drivers.listener import WAITING_MAX
from clawchat.drivers.locks import StoreBusy
from clawchat.drivers.sockets import UdpSocket
from clawchat.drivers.store import Ending
from clawchat.errors import (
    BootstrapError,
    BootstrapExpired,
    BootstrapKeyMissing,
    BootstrapKeyWrong,
    StoreError,
    UserError,
)
from tests.waiting import LOOK, PATIENCE, until

KEY = BootstrapKey.from_base64url("A" * 43)


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    with trio.fail_after(PATIENCE):
        yield


class Place:
    """Folders of both sides, and a way to run them."""

    def __init__(self, folder: Path) -> None:
        self.listener = Store(folder / "listener")
        self.dialer = Store(folder / "dialer")
        self.publisher = Publisher(folder / "security", KEY)
        self.file = self.publisher.path

    @asynccontextmanager
    async def serving(
        self, host: str = "127.0.0.1", port: int = 0, *, echo: bool = True
    ) -> AsyncIterator[Listener]:
        async with (
            clawchat.serve(
                self.listener, host=host, port=port, publisher=self.publisher
            ) as listener,
            trio.open_nursery() as nursery,
        ):
            if echo:
                nursery.start_soon(echo_all, listener)
            yield listener
            nursery.cancel_scope.cancel()

    def entry(self) -> object:
        (entry,) = self.dialer.entries()
        return entry


async def echo_all(listener: Listener) -> None:
    async with trio.open_nursery() as nursery:
        async for peer in listener:
            nursery.start_soon(echo_peer, peer)


async def echo_peer(peer: Peer) -> None:
    async with trio.open_nursery() as nursery:
        async for stream in peer:
            nursery.start_soon(echo_stream, stream)


async def echo_stream(stream: clawchat.LinkStream) -> None:
    try:
        async with stream:
            async for data in stream:
                await stream.send_all(data)
            await stream.send_eof()
    except trio.BrokenResourceError:
        pass


async def ask(peer: Peer, data: bytes) -> bytes:
    """What the echo says."""
    async with await peer.open_stream() as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            await stream.send_all(data)
            await stream.send_eof()

        nursery.start_soon(send)
        return b"".join([part async for part in stream])


async def settled(listener: Listener, generation: int) -> None:
    """The only device's older generations are over: the disk says so, and the core knows."""
    while True:
        (entry,) = await listener.pairings()
        if [known.generation for known in entry.pairing.credentials] == [generation]:
            return
        await trio.sleep(LOOK)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# --- pairing ------------------------------------------------------------------------------------


async def test_a_file_pairs_two_stores_and_is_never_needed_again(place: Place) -> None:
    async with place.serving() as listener:
        assert place.file.stat().st_size <= 2048
        async with clawchat.connect(place.file, key=KEY, store=place.dialer) as peer:
            assert await ask(peer, b"hello") == b"hello"
            assert peer.observed is not None
            assert peer.observed.host == "127.0.0.1"
            assert peer.remote == listener.address
            assert peer.fingerprint == listener.fingerprint
            (other,) = listener.peers
            assert other.handshake_hash == peer.handshake_hash
            assert other.file_id == peer.file_id
            assert other.generation == peer.generation == 1
        await until(lambda: not place.file.exists())  # a redeemed file is withdrawn
        for generation in (2, 3):
            async with clawchat.connect(place.entry(), store=place.dialer) as peer:  # type: ignore[arg-type]
                assert await ask(peer, b"again") == b"again"
                assert peer.generation == generation


async def test_a_pairing_survives_a_restart_of_both_sides(place: Place) -> None:
    async with place.serving() as listener:
        address = listener.address
        async with clawchat.connect(place.file, key=KEY, store=place.dialer) as peer:
            fingerprint = peer.fingerprint
    async with place.serving(port=address.port):
        assert not place.file.exists(), "somebody is paired: no file unless asked for"
        async with clawchat.connect(place.dialer.load()[0], store=place.dialer) as peer:
            assert peer.fingerprint == fingerprint
            assert await ask(peer, b"still here") == b"still here"


async def test_connecting_twice_with_one_file_is_harmless(place: Place) -> None:
    async with place.serving() as listener:
        content = connecting.read_bootstrap(place.file, KEY)
        for generation in (1, 2):
            async with clawchat.connect(content, store=place.dialer) as peer:
                assert peer.generation == generation
        assert len(await listener.pairings()) == 1
    assert len(place.dialer.load()) == 1


async def test_a_second_device_needs_and_gets_a_file_of_its_own(
    place: Place, tmp_path: Path
) -> None:
    async with place.serving() as listener:
        async with clawchat.connect(place.file, key=KEY, store=place.dialer):
            pass
        assert await listener.publish() == place.file
        second = Store(tmp_path / "second")
        async with clawchat.connect(place.file, key=KEY, store=second) as peer:
            assert await ask(peer, b"me too") == b"me too"
        assert len(await listener.pairings()) == 2


async def test_a_withdrawn_file_is_gone_and_no_longer_accepted(place: Place) -> None:
    async with place.serving() as listener:
        content = connecting.read_bootstrap(place.file, KEY)
        await listener.withdraw()
        with pytest.raises(LinkClosed, match="no answer"):
            async with clawchat.connect(content, store=place.dialer, timeout=0.6):
                pass
        await until(lambda: not place.file.exists())
        assert not place.dialer.load()


async def test_leaving_takes_the_published_file_away(place: Place) -> None:
    async with place.serving():
        assert place.file.exists()
    assert not place.file.exists()


async def test_a_listener_on_ipv6(place: Place) -> None:
    try:
        UdpSocket(Address("::1", 0)).close()
    except OSError:
        pytest.skip("no IPv6 here")
    async with (
        place.serving("::1"),
        clawchat.connect(place.file, key=KEY, store=place.dialer) as peer,
    ):
        assert await ask(peer, b"six") == b"six"
        assert peer.remote.host == "::1"


async def test_a_listener_on_every_address_is_reached_by_any(place: Place) -> None:
    async with place.serving("") as listener:
        loopback = [Address("127.0.0.1", listener.address.port)]
        async with clawchat.connect(
            place.file, key=KEY, store=place.dialer, candidates=loopback
        ) as peer:
            assert await ask(peer, b"any") == b"any"
        (entry,) = place.dialer.entries()
        assert entry.candidates[0] == loopback[0], "what worked is tried first"
        assert set(listener.candidates) <= set(entry.candidates)


# --- what goes wrong ----------------------------------------------------------------------------


async def test_nobody_there_is_said_with_what_to_check(place: Place) -> None:
    silent = UdpSocket(Address("127.0.0.1", 0))
    async with place.serving():
        content = connecting.read_bootstrap(place.file, KEY)
    began = trio.current_time()
    with pytest.raises(LinkClosed, match="firewall") as caught:
        async with clawchat.connect(
            content, store=place.dialer, timeout=0.5, candidates=[silent.address]
        ):
            pass
    assert caught.value.code == CloseCode.TIMEOUT
    assert str(silent.address) in str(caught.value)
    assert trio.current_time() - began < 20, "sooner than without a word about time"
    silent.close()


async def test_an_expired_file_is_named_as_the_likely_reason(place: Place) -> None:
    from attrs import evolve

    async with place.serving():
        content = connecting.read_bootstrap(place.file, KEY)
    old = evolve(content, issued=1, expires=661)
    with pytest.raises(BootstrapExpired, match="newest"):
        async with clawchat.connect(old, store=place.dialer, timeout=0.3):
            pass


async def test_unusable_files_are_refused_by_name(place: Place, tmp_path: Path) -> None:
    async with place.serving():
        other = BootstrapKey.from_base64url("B" * 43)
        cut = tmp_path / "cut.sec"
        cut.write_bytes(place.file.read_bytes()[:50])
        cases: list[tuple[Path, BootstrapKey | None, type[BootstrapError]]] = [
            (place.file, other, BootstrapKeyWrong),
            (place.file, None, BootstrapKeyMissing),
            (cut, KEY, BootstrapError),
            (tmp_path / "none.sec", KEY, BootstrapError),
        ]
        for path, key, kind in cases:
            with pytest.raises(kind) as caught:
                async with clawchat.connect(path, key=key, store=place.dialer):
                    pass
            assert path.name in str(caught.value)


async def test_a_port_in_use_is_said_with_the_option_to_change(place: Place) -> None:
    taken = UdpSocket(Address("127.0.0.1", 0))
    with pytest.raises(UserError, match=rf"{taken.address.port}.*in use.*--port"):
        async with place.serving(port=taken.address.port):
            pass
    taken.close()
    with pytest.raises(UserError, match=r"not an address of this machine.*--ip"):
        async with place.serving("192.0.2.1"):
            pass


async def test_one_store_serves_and_dials_once_at_a_time(place: Place) -> None:
    async with place.serving():
        with pytest.raises(StoreBusy):
            async with place.serving():
                pass
        async with clawchat.connect(place.file, key=KEY, store=place.dialer):
            with pytest.raises(StoreBusy):
                async with clawchat.connect(place.entry(), store=place.dialer):  # type: ignore[arg-type]
                    pass


def break_disk(monkeypatch: pytest.MonkeyPatch, store: Store) -> Callable[[], None]:
    """Make replacing files under one store fail as a full disk does; returns the repair."""
    real, broken = os.replace, [True]

    def replace(source: Path, target: Path) -> None:
        if broken and str(target).startswith(str(store.folder)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    return broken.clear


async def test_a_dialer_that_cannot_keep_the_credential_says_so_and_can_try_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place.serving():
        repair = break_disk(monkeypatch, place.dialer)
        with pytest.raises(StoreError, match="No space left") as caught:
            async with clawchat.connect(place.file, key=KEY, store=place.dialer):
                pass
        assert str(place.dialer.folder) in str(caught.value)
        assert place.file.exists(), "nothing was redeemed"
        repair()
        async with clawchat.connect(place.file, key=KEY, store=place.dialer) as peer:
            assert await ask(peer, b"now") == b"now"


async def test_a_listener_that_cannot_keep_the_credential_serves_on(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with place.serving():
        repair = break_disk(monkeypatch, place.listener)

        async def attempt() -> None:
            async with clawchat.connect(place.file, key=KEY, store=place.dialer) as peer:
                await peer.ping()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(attempt)
            await until(lambda: "No space left" in caplog.text and place.dialer.entries())
            nursery.cancel_scope.cancel()
        repair()
        async with clawchat.connect(place.entry(), store=place.dialer) as peer:  # type: ignore[arg-type]
            assert await ask(peer, b"now") == b"now"


async def test_a_bootstrap_file_that_cannot_be_written_stops_the_start(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("clawchat.drivers.files.write_private", full)
    place.listener.folder.mkdir(mode=0o700)
    (place.listener.folder / "identity.json").write_text(
        '{"format": "clawchat identity", "version": 1, "private": "%s"}' % ("11" * 32)
    )
    with pytest.raises(StoreError, match="--security-dir"):
        async with place.serving():
            pass


async def test_a_copied_store_is_noticed_on_both_sides(place: Place, tmp_path: Path) -> None:
    async with place.serving() as listener:
        async with clawchat.connect(place.file, key=KEY, store=place.dialer):
            pass
        copytree(place.dialer.folder, tmp_path / "stolen")
        alarms = listener.notices()
        async with clawchat.connect(place.entry(), store=place.dialer) as peer:  # type: ignore[arg-type]
            await settled(listener, 2)
            thief = Store(tmp_path / "stolen")
            with pytest.raises(LinkClosed) as caught:
                async with clawchat.connect(thief.load()[0], store=thief):
                    pass
            assert caught.value.code == CloseCode.SUPERSEDED
            alarm = await anext(alarms)
            assert isinstance(alarm, CredentialReused)
            assert alarm.file_id == peer.file_id
            assert await ask(peer, b"unharmed") == b"unharmed"


# --- leaving ------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
@pytest.mark.parametrize("how", ["clean", "cancelled", "raised"])
async def test_the_peer_is_told_however_the_block_ends(place: Place, how: str, host: str) -> None:
    async with place.serving(host, echo=False) as listener:
        here = [Address("127.0.0.1", listener.address.port)]
        others: list[Peer] = []
        with trio.CancelScope() as scope:
            try:
                async with clawchat.connect(
                    place.file, key=KEY, store=place.dialer, candidates=here
                ):
                    others.append(await listener.accept())
                    if how == "cancelled":
                        scope.cancel()
                        await trio.sleep_forever()
                    elif how == "raised":
                        raise LookupError("as it is, in no group")
            except LookupError:
                assert how == "raised"
        assert scope.cancelled_caught == (how == "cancelled")
        closed = await others[0].wait_closed()
        assert closed == Closed(CloseCode.DONE, "", by_peer=True)


async def test_a_listener_that_leaves_tells_its_peers(place: Place) -> None:
    async with trio.open_nursery() as nursery:
        ready = trio.Event()
        leave = trio.Event()

        async def serve() -> None:
            async with place.serving():
                ready.set()
                await leave.wait()

        nursery.start_soon(serve)
        await ready.wait()
        async with clawchat.connect(place.file, key=KEY, store=place.dialer) as peer:
            stream = await peer.open_stream()
            leave.set()
            with pytest.raises(trio.BrokenResourceError) as caught:
                await stream.receive_some()
            assert isinstance(caught.value.__cause__, LinkClosed)
            assert caught.value.__cause__.by_peer


async def test_what_was_sent_on_an_ended_stream_arrives_although_we_leave(place: Place) -> None:
    data = os.urandom(3_000_000)
    async with place.serving(echo=False) as listener:
        got: list[bytes] = []

        async def take() -> None:
            stream = await (await listener.accept()).accept_stream()
            got.extend([bytes(part) async for part in stream])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            async with clawchat.connect(place.file, key=KEY, store=place.dialer) as peer:
                stream = await peer.open_stream(bulk=True)
                await stream.send_all(data)
                await stream.send_eof()
        assert b"".join(got) == data


async def test_links_that_ended_before_anybody_accepted_them_do_not_pile_up(place: Place) -> None:
    async with place.serving(echo=False) as listener:
        for number in range(3 * WAITING_MAX):
            peer = Peer(listener._runner, -number, dialer=False)
            if number != 7:
                peer.closed = Closed(CloseCode.REPLACED, "", True)
            listener._arrived(peer)
            assert len(listener._accepted) <= WAITING_MAX
        assert -7 in {peer.link for peer in listener._accepted}


async def test_a_forgotten_device_is_closed_and_refused(place: Place, tmp_path: Path) -> None:
    async with place.serving() as listener:
        async with clawchat.connect(place.file, key=KEY, store=place.dialer) as peer:
            await peer.ping()
            copytree(place.dialer.folder, tmp_path / "backup")
            assert await listener.forget(peer.file_id)
            assert (await peer.wait_closed()).code == CloseCode.REVOKED
        assert not await listener.pairings()
        assert place.dialer.entries() == []
        assert [ended.why for ended in place.dialer.ended()] == [Ending.REVOKED]
        backup = Store(tmp_path / "backup")
        with pytest.raises(LinkClosed, match="knows this device"):
            async with clawchat.connect(backup.load()[0], store=backup, timeout=0.5):
                pass


async def test_a_listener_restored_from_a_backup_is_silent_and_the_device_learns_what_may_be_wrong(
    place: Place, tmp_path: Path
) -> None:
    pairings = place.listener.folder / "pairings"
    async with place.serving():
        async with clawchat.connect(place.file, key=KEY, store=place.dialer) as peer:
            await peer.ping()
        copytree(pairings, tmp_path / "backup")
        for _ in range(2):
            async with clawchat.connect(place.entry(), store=place.dialer) as peer:  # type: ignore[arg-type]
                await peer.ping()
    copytree(tmp_path / "backup", pairings, dirs_exist_ok=True)
    async with place.serving() as listener:
        here = [Address("127.0.0.1", listener.address.port)]
        entry = place.entry()
        with pytest.raises(LinkClosed, match="restored from an old backup") as caught:
            async with clawchat.connect(
                entry,  # type: ignore[arg-type]
                store=place.dialer,
                candidates=here,
                timeout=1,
            ):
                pass
        assert caught.value.code == CloseCode.TIMEOUT
        assert "Pairing anew" in str(caught.value)


async def test_a_listener_whose_disk_is_full_is_told_from_one_that_is_off(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StoreError("No space left on device")

    monkeypatch.setattr(place.listener, "save", full)
    async with place.serving():
        with pytest.raises(trio.BrokenResourceError) as caught:
            async with clawchat.connect(place.file, key=KEY, store=place.dialer, timeout=1) as peer:
                await peer.ping()
        why = caught.value.__cause__
        assert isinstance(why, LinkClosed)
        assert "cannot write what it must keep" in str(why)
        assert not connecting.is_silence(why)


async def test_a_file_that_is_met_with_silence_may_be_the_wrong_one(
    place: Place, tmp_path: Path
) -> None:
    async with place.serving():
        stale = tmp_path / "stale.sec"
        copy(place.file, stale)
    async with place.serving() as listener:
        here = [Address("127.0.0.1", listener.address.port)]
        with pytest.raises(LinkClosed, match="the listener was restarted"):
            async with clawchat.connect(
                stale, key=KEY, store=place.dialer, candidates=here, timeout=1
            ):
                pass


async def test_a_file_that_another_device_redeemed_is_refused_with_the_reason(
    place: Place, tmp_path: Path
) -> None:
    async with place.serving() as listener:
        kept = tmp_path / "kept.sec"
        copy(place.file, kept)
        alarms = listener.notices()
        async with clawchat.connect(kept, key=KEY, store=place.dialer) as peer:
            await settled(listener, 1)
            with pytest.raises(LinkClosed, match="was redeemed before") as caught:
                async with clawchat.connect(kept, key=KEY, store=Store(tmp_path / "second")):
                    pass
            assert caught.value.code == CloseCode.SUPERSEDED
            alarm = await anext(alarms)
            assert isinstance(alarm, CredentialReused)
            assert not alarm.same_device
            assert await ask(peer, b"unharmed") == b"unharmed"


async def test_a_device_without_a_link_is_forgotten_untold(place: Place) -> None:
    async with place.serving(echo=False) as listener:
        async with clawchat.connect(place.file, key=KEY, store=place.dialer) as peer:
            await peer.ping()
        other = await listener.accept()
        await other.wait_closed()
        assert not await listener.forget(other.file_id)
        assert not await listener.pairings()
        assert len(place.dialer.entries()) == 1


# --- using a link -------------------------------------------------------------------------------


async def test_megabytes_arrive_intact_in_both_directions_at_once(place: Place) -> None:
    data = os.urandom(4_000_000)
    async with (
        place.serving(),
        clawchat.connect(place.file, key=KEY, store=place.dialer) as peer,
    ):
        assert await ask(peer, data) == data


async def test_a_reader_that_stops_holds_up_the_sender_and_nobody_else(place: Place) -> None:
    async with (
        place.serving(echo=False) as listener,
        clawchat.connect(place.file, key=KEY, store=place.dialer) as peer,
        trio.open_nursery() as nursery,
    ):
        other = await listener.accept()
        slow = await peer.open_stream(bulk=True)
        sent = 0

        async def send() -> None:
            nonlocal sent
            while True:
                await slow.send_all(bytes(65536))
                sent += 65536

        nursery.start_soon(send)
        unread = await other.accept_stream()
        held = -1
        while sent != held:  # until nothing more is taken for a while
            held = sent
            await trio.sleep(0.3)
            assert sent < 4 << 20
        nursery.start_soon(echo_peer, other)
        assert await ask(peer, b"not held up") == b"not held up"
        got = 0
        while got <= held:
            got += len(await unread.receive_some())
        nursery.cancel_scope.cancel()


async def test_many_streams_at_once_each_get_their_own_answer(place: Place) -> None:
    async with (
        place.serving(),
        clawchat.connect(place.file, key=KEY, store=place.dialer) as peer,
    ):
        answers: dict[int, bytes] = {}

        async def one(number: int) -> None:
            answers[number] = await ask(peer, b"%d" % number)

        async with trio.open_nursery() as nursery:
            for number in range(600):  # more than are granted at first
                nursery.start_soon(one, number)
    assert answers == {number: b"%d" % number for number in range(600)}


async def test_datagrams_pings_and_key_rotation(place: Place) -> None:
    async with (
        place.serving(echo=False) as listener,
        clawchat.connect(place.file, key=KEY, store=place.dialer) as peer,
    ):
        other = await listener.accept()
        await peer.send_datagram(b"there")
        assert await other.receive_datagram() == b"there"
        await other.send_datagram(b"and back")
        assert await peer.receive_datagram() == b"and back"
        assert 0 < await peer.ping() < PATIENCE
        assert 0 < await other.ping() < PATIENCE
        epoch = await peer.rotate_keys()
        assert await other.rotate_keys() > epoch - 1
        assert peer.stats().phase == "live"


async def test_unread_streams_of_a_link_that_ended_are_still_answered_with_its_end(
    place: Place,
) -> None:
    async with place.serving(echo=False) as listener:
        async with clawchat.connect(place.file, key=KEY, store=place.dialer) as peer:
            stream = await peer.open_stream()
            await stream.send_all(b"last words")
            other = await listener.accept()
            heard = await other.accept_stream()
            await peer.aclose(CloseCode.DONE, "tired")
        assert (await other.wait_closed()).reason == "tired"
        assert await heard.receive_some() == b"last words"
        with pytest.raises(trio.BrokenResourceError):
            await heard.send_all(b"x")
