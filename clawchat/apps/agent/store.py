"""Conversations, runs and their events on disk: one SQLite file that one agent owns.

Rules: every method is one transaction, run in the connection's own thread and never left half
done by a cancellation; the file is 0600 in a folder 0700; a second agent on the same folder is
refused. A run that was in flight when an agent died is marked failed on the next start, with the
part of the reply that was written.
Left to others: what a run does (`runs`), the SQL (`schema`).

Durability: `synchronous=NORMAL` in WAL mode. A crash of the agent loses nothing; a power cut may
lose the last moments (message and idempotency key together), and never damages the file.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import apsw
import apsw.aio
import trio
from attrs import frozen

from clawchat.apps.agent import schema
from clawchat.apps.agent.schema import Conversation, EncodedEvent, Message, NewRun, RunRecord
from clawchat.apps.problems import Problem, ProblemError
from clawchat.errors import UserError

FILE_NAME: Final = "conversations.sqlite3"

P = ParamSpec("P")
T = TypeVar("T")


class ConversationStoreError(UserError):
    """The folder of the conversations cannot be used. The text names it and the next step."""


@frozen
class Store:
    """The open file. Every method may raise `ProblemError` (full or failing disk: status 507)."""

    folder: Path
    _db: Any  # apsw types its asynchronous connection as a bare class of Any

    async def create(self, title: str, caller: str, key: str | None) -> Conversation:
        """A new conversation; the same one again for the same `caller` and `key`."""
        return await self._do(schema.create, _new_id("c"), title, caller, key, _now())

    async def conversations(self, before: tuple[int, str] | None, limit: int) -> list[Conversation]:
        """The most recently used ones first; `before` is (updated_ms, id) of the last one seen."""
        return await self._do(schema.conversations, before, limit)

    async def conversation(self, conversation: str) -> Conversation | None:
        return await self._do(schema.conversation, conversation)

    async def messages(self, conversation: str, before: int | None, limit: int) -> list[Message]:
        """The last `limit` messages below position `before`, oldest first."""
        return await self._do(schema.messages, conversation, before, limit)

    async def delete(self, conversation: str) -> bool:
        """Forget it with everything in it. False when there was none."""
        return await self._do(schema.delete, conversation)

    async def begin(self, new: NewRun) -> tuple[RunRecord, EncodedEvent | None]:
        """Accept a message and start a run, or find the one that this key already started.

        A new run comes with its first event. Raises `ProblemError`: no such conversation, key
        used for another message, conversation busy, too many runs.
        """
        return await self._do(schema.begin, new, _new_id("m"), _now())

    async def append(self, run: str, event: EncodedEvent) -> None:
        await self._do(schema.append, run, event)

    async def finish(self, run: str, state: str, text: str, event: EncodedEvent) -> None:
        """End a run: its last event, and what there is of the reply, as a message."""
        await self._do(schema.finish, run, state, text, event, _new_id("m"), _now())

    async def run(self, run: str) -> RunRecord | None:
        return await self._do(schema.run, run)

    async def events(self, run: str, after: int, limit: int) -> list[EncodedEvent]:
        return await self._do(schema.events, run, after, limit)

    async def fail_interrupted(self, run: str | None = None) -> None:
        """Mark runs that nobody works on any more as failed; None means all of them."""
        await self._do(schema.fail_interrupted, run, _now())

    async def _do(
        self, work: Callable[Concatenate[apsw.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work` in a transaction. Shielded: memory and file must not tell two stories."""

        with trio.CancelScope(shield=True):
            try:
                result: T = await self._db.async_run(
                    schema.transaction, self._db, lambda db: work(db, *args, **kwargs)
                )
            except (apsw.FullError, apsw.IOError, apsw.ReadOnlyError, apsw.CantOpenError) as error:
                raise ProblemError(_disk_problem(self.folder, error)) from None
        return result


@asynccontextmanager
async def open_store(folder: Path) -> AsyncIterator[Store]:
    """The conversations in `folder`, which is made when missing (0700).

    Raises `ConversationStoreError`: unusable folder, file of a newer version, damaged file,
    another agent at work in it.
    """
    file = _prepare(folder)
    before = apsw.async_controller.set(apsw.aio.Trio)  # type: ignore[arg-type]  # wants a class
    try:
        db = await apsw.Connection.as_async(str(file))
    finally:
        apsw.async_controller.reset(before)
    try:
        store = Store(folder, db)
        await _set_up(store)
        yield store
    finally:
        with trio.CancelScope(shield=True):  # its thread ends only when it is closed
            await db.aclose()


async def _set_up(store: Store) -> None:
    name = store.folder / FILE_NAME
    try:
        with trio.CancelScope(shield=True):
            await store._db.async_run(schema.configure, store._db)
        await store._do(schema.migrate)
        await store.fail_interrupted()
        await store._do(schema.forget_old_tokens, 0, _now())
    except apsw.BusyError:
        raise ConversationStoreError(
            f"{name} is in use: another agent keeps its conversations there. "
            "Use that one (clawchat serve --agent-url), or give this one another folder."
        ) from None
    except schema.NewerVersion:
        raise ConversationStoreError(
            f"{name} was written by a newer ClawChat. Update this one, or use another folder."
        ) from None
    except (apsw.NotADBError, apsw.CorruptError):
        raise ConversationStoreError(
            f"{name} is damaged or no file of ClawChat's. Move it away to start afresh."
        ) from None
    except ProblemError as error:
        raise ConversationStoreError(str(error)) from None


def _prepare(folder: Path) -> Path:
    """Make the folder 0700 and the file 0600 before SQLite opens it; its WAL inherits that."""
    file = folder / FILE_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        file.chmod(0o600)
    except OSError as error:
        raise ConversationStoreError(
            f"cannot keep conversations in {folder}: {error.strerror or error}. "
            "Make it a folder that you may write, or choose another one."
        ) from None
    return file


def _disk_problem(folder: Path, error: Exception) -> Problem:
    full = isinstance(error, apsw.FullError)
    return Problem(
        kind="storage-failed",
        title="The agent cannot write its conversations",
        status=507,
        detail=f"The disk of {folder} is full." if full else f"Writing to {folder} failed.",
        next="Free some space, then send the message again." if full else "Check that disk.",
    )


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(10)}"


def new_run_id() -> str:
    """An id nobody can guess or collide with."""
    return _new_id("r")


def _now() -> int:
    """Unix milliseconds: for people and for sorting, never for protocol decisions."""
    return time.time_ns() // 1_000_000
