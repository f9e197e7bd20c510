"""The socket by which commands share one link."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, memory_stream_pair

from clawchat.cli.local_socket import (
    HAS_UNIX,
    LocalSocket,
    LocalStream,
    Message,
    NobodyHome,
    Refused,
    splice,
)
from clawchat.errors import StoreError
from tests.waiting import PATIENCE


async def echo(message: Message, stream: LocalStream) -> None:
    if message["verb"] == "no":
        raise Refused("never", "because I said so")
    await stream.send_message({"ok": True, "said": message["verb"]})
    while data := await stream.receive_some():
        await stream.send_all(data.upper())


async def test_a_caller_is_answered_and_may_go_on_with_bytes(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    place = LocalSocket(tmp_path / "s")
    await nursery.start(place.serve, echo)
    answer, stream = await place.call({"verb": "hello"})
    assert answer["said"] == "hello"
    await stream.send_all(b"abc")
    await stream.send_eof()
    assert await stream.receive_some() == b"ABC"
    assert await stream.receive_some() == b""
    await stream.aclose()


async def test_a_refusal_carries_its_code_and_reason(tmp_path: Path, nursery: trio.Nursery) -> None:
    place = LocalSocket(tmp_path / "s")
    await nursery.start(place.serve, echo)
    with pytest.raises(Refused, match="because I said so") as caught:
        await place.ask({"verb": "no"})
    assert caught.value.code == "never"


async def test_a_request_that_fails_harms_no_other(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Nor the process that serves: a full disk or a senseless message must not end a listener."""

    async def handler(message: Message, stream: LocalStream) -> None:
        if message["verb"] == "full":
            raise StoreError("no space left")
        if message["verb"] == "late":
            await stream.send_message({"ok": True})
            await stream.send_all(b"ab")
            raise ZeroDivisionError
        await echo(message, stream)

    place = LocalSocket(tmp_path / "s")
    await nursery.start(place.serve, handler)
    _, stream = await place.call({"verb": "hello"})
    with pytest.raises(StoreError, match="no space left"):
        await place.ask({"verb": "full"})
    with pytest.raises(Refused, match="KeyError"):
        await place.ask({"word": "hello"})
    _, late = await place.call({"verb": "late"})
    assert await late.receive_some() == b"ab"
    assert await late.receive_some() == b"", "and not a second answer in the middle of a stream"
    await late.aclose()
    await stream.send_all(b"abc")
    assert await stream.receive_some() == b"ABC"
    await stream.aclose()


async def test_nobody_answers_where_nobody_ever_listened(tmp_path: Path) -> None:
    with pytest.raises(NobodyHome):
        await LocalSocket(tmp_path / "s").ask({"verb": "hello"})


async def test_the_socket_of_a_killed_process_is_nobody_and_can_be_taken_over(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    place = LocalSocket(tmp_path / "s")
    left = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    await left.bind(str(place.path))
    left.close()
    assert place.path.exists()
    with pytest.raises(NobodyHome):
        await place.ask({"verb": "hello"})
    await nursery.start(place.serve, echo)
    assert (await place.ask({"verb": "hello"}))["said"] == "hello"


@pytest.mark.skipif(not HAS_UNIX, reason="modes are a Unix matter")
async def test_only_its_user_may_call(tmp_path: Path, nursery: trio.Nursery) -> None:
    place = LocalSocket(tmp_path / "s")
    await nursery.start(place.serve, echo)
    assert place.path.stat().st_mode & 0o777 == 0o600


async def test_without_unix_sockets_a_secret_token_is_asked_for(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clawchat.cli.local_socket.HAS_UNIX", False)
    place = LocalSocket(tmp_path / "s")
    await nursery.start(place.serve, echo)
    assert place.path.stat().st_mode & 0o777 == 0o600
    assert (await place.ask({"verb": "hello"}))["said"] == "hello"
    monkeypatch.setattr(LocalSocket, "_proof", lambda self: {"token": "guess"})
    with pytest.raises(NobodyHome):
        await place.ask({"verb": "hello"})


async def test_a_path_too_long_for_a_socket_still_works(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    with tempfile.TemporaryDirectory() as short:
        monkeypatch.setattr("tempfile.tempdir", short)
        place = LocalSocket(folder / "s")
        await nursery.start(place.serve, echo)
        assert (await place.ask({"verb": "hello"}))["said"] == "hello"
        made = Path(short) / f"clawchat-{os.getuid()}"
        assert made.stat().st_mode & 0o777 == 0o700


async def test_a_first_line_that_never_ends_is_cut_off(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    place = LocalSocket(tmp_path / "s")
    await nursery.start(place.serve, echo)
    stream = await trio.open_unix_socket(str(place.path))
    with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
        await stream.send_all(bytes(64 << 20))
    await stream.aclose()


Far = trio.StapledStream[MemorySendStream, MemoryReceiveStream]


async def lent(tmp_path: Path, nursery: trio.Nursery) -> tuple[LocalStream, Far, trio.Event]:
    """A caller's stream, the far end of the link stream it is spliced to, and when that is over."""
    near, far = memory_stream_pair()
    over = trio.Event()

    async def lend(message: Message, stream: LocalStream) -> None:
        await stream.send_message({"ok": True})
        await splice(near, stream)
        over.set()

    place = LocalSocket(tmp_path / "s")
    await nursery.start(place.serve, lend)
    _, stream = await place.call({"verb": "stream"})
    return stream, far, over


async def test_a_lent_stream_carries_both_directions_and_both_ends(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    stream, far, _ = await lent(tmp_path, nursery)
    await stream.send_all(b"question")
    await stream.send_eof()
    assert await far.receive_some() == b"question"
    assert await far.receive_some() == b""
    await far.send_all(b"answer")
    await far.send_eof()
    assert await stream.receive_some() == b"answer"
    assert await stream.receive_some() == b""
    await stream.aclose()


async def test_a_caller_that_leaves_ends_the_lent_stream_even_when_the_peer_is_silent(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    stream, far, over = await lent(tmp_path, nursery)
    await stream.send_all(b"question")
    assert await far.receive_some() == b"question"
    await stream.aclose()
    with trio.fail_after(PATIENCE):
        assert await far.receive_some() == b""
        await over.wait()  # the look whether the caller is still there comes now and then
        with pytest.raises(trio.BrokenResourceError):
            await far.send_all(b"tokens")


async def test_a_link_that_dies_ends_the_callers_stream(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    stream, far, _ = await lent(tmp_path, nursery)
    await trio.aclose_forcefully(far)
    with trio.fail_after(PATIENCE):
        assert await stream.receive_some() == b""
    await stream.aclose()
