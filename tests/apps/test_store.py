"""The file of the conversations: private, one agent's at a time, and never a riddle."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import apsw
import pytest

from clawchat.apps.agent import schema
from clawchat.apps.agent.schema import EncodedEvent, NewRun
from clawchat.apps.agent.store import FILE_NAME, ConversationStoreError, open_store

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes of files are POSIX's")


def new_run(conversation: str, key: str = "k") -> NewRun:
    return NewRun("r_" + key, conversation, "hello", key, b"fingerprint", "local", "", room=True)


@posix
async def test_the_file_is_0600_in_a_folder_0700(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "agent"
    folder.mkdir(parents=True, mode=0o755)
    async with open_store(folder) as store:
        await store.create("x", "local", None)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert FILE_NAME in modes
    assert set(modes.values()) == {0o600}


async def test_a_second_agent_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    async with open_store(tmp_path):
        with pytest.raises(ConversationStoreError, match="another agent") as refused:
            async with open_store(tmp_path):
                pass
    assert str(tmp_path) in str(refused.value)


async def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    db = apsw.Connection(str(tmp_path / FILE_NAME))
    db.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(ConversationStoreError, match="newer ClawChat"):
        async with open_store(tmp_path):
            pass


async def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    file.write_bytes(b"my shopping list" * 100)
    with pytest.raises(ConversationStoreError, match="damaged or no file of ClawChat's"):
        async with open_store(tmp_path):
            pass
    assert file.read_bytes().startswith(b"my shopping list")


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConversationStoreError) as refused:
        async with open_store(tmp_path / "file" / "agent"):
            pass
    assert str(tmp_path / "file" / "agent") in str(refused.value)


async def test_opening_again_keeps_what_was_there(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        made = await store.create("kept", "local", None)
    async with open_store(tmp_path) as store:
        assert await store.conversations(None, 10) == [made]


async def test_deleting_a_conversation_leaves_nothing_of_it(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        made = await store.create("", "local", None)
        await store.begin(new_run(made.id))
        await store.append("r_k", EncodedEvent(2, "token", '{"text": "x"}'))
        assert await store.delete(made.id)
    db = apsw.Connection(str(tmp_path / FILE_NAME))
    for table in ("conversations", "runs", "messages", "events"):
        assert db.execute(f"SELECT count(*) FROM {table}").fetchall() == [(0,)]
    db.close()


async def test_single_tokens_of_old_runs_are_forgotten_but_not_their_text(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        made = await store.create("", "local", None)
        await store.begin(new_run(made.id))
        await store.append("r_k", EncodedEvent(2, "token", '{"text": "x"}'))
        last = EncodedEvent(3, "run.finished", '{"text": "x"}')
        await store.finish("r_k", "finished", "x", last)
        assert [event.id for event in await store.events("r_k", 0, 10)] == [1, 2, 3]
    db = apsw.Connection(str(tmp_path / FILE_NAME))
    db.execute("UPDATE runs SET finished_ms = finished_ms - ?", (schema.TOKENS_KEPT_MS + 1000,))
    db.close()
    async with open_store(tmp_path) as store:
        assert [event.id for event in await store.events("r_k", 0, 10)] == [1, 3]
        (_, reply) = await store.messages(made.id, None, 10)
        assert reply.text == "x"
