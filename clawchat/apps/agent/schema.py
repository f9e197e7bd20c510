"""The SQL of the conversations: what is kept, and each thing that is done to it.

Rules: plain functions of a connection, each run inside one transaction that its caller opened;
times are Unix milliseconds and are given; no function waits or looks at the outside.
Left to others: the thread, the transaction and the errors (`store`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, TypeVar

import apsw
from attrs import frozen

from clawchat.apps.events import RunFailed, RunStarted, Token, decode_event, encode_event
from clawchat.apps.problems import Problem, ProblemError

T = TypeVar("T")

MIGRATIONS: Final = (
    """
    CREATE TABLE conversations (
        id TEXT PRIMARY KEY,
        title TEXT NOT NULL,
        caller TEXT NOT NULL,
        key TEXT,
        created_ms INTEGER NOT NULL,
        updated_ms INTEGER NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX conversation_keys ON conversations (caller, key) WHERE key IS NOT NULL;
    CREATE INDEX conversations_by_use ON conversations (updated_ms DESC, id DESC);

    CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        conversation TEXT NOT NULL REFERENCES conversations ON DELETE CASCADE,
        caller TEXT NOT NULL,
        key TEXT NOT NULL,
        fingerprint BLOB NOT NULL,
        state TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        finished_ms INTEGER,
        UNIQUE (caller, key)
    ) STRICT;
    CREATE INDEX runs_of_conversation ON runs (conversation);
    CREATE INDEX runs_under_way ON runs (state) WHERE state = 'running';
    CREATE INDEX runs_by_end ON runs (finished_ms);

    CREATE TABLE messages (
        conversation TEXT NOT NULL REFERENCES conversations ON DELETE CASCADE,
        position INTEGER NOT NULL,
        id TEXT NOT NULL UNIQUE,
        role TEXT NOT NULL,
        text TEXT NOT NULL,
        state TEXT NOT NULL,
        run TEXT NOT NULL,
        caller TEXT NOT NULL,
        caller_name TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        PRIMARY KEY (conversation, position)
    ) STRICT;

    CREATE TABLE events (
        run TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
        id INTEGER NOT NULL,
        name TEXT NOT NULL,
        data TEXT NOT NULL,
        PRIMARY KEY (run, id)
    ) STRICT, WITHOUT ROWID;
    """,
)
"""`PRAGMA user_version` counts those that were done. Add at the end; never change one."""

TOKENS_KEPT_MS: Final = 24 * 3600 * 1000
"""How long single tokens of an ended run stay. They are 20 times the size of the reply, and only
serve a listener that was away; later the last event, which holds the whole text, does."""

RunState = Literal["running", "finished", "failed", "cancelled"]


class NewerVersion(Exception):
    """The file has a `user_version` beyond the migrations known here."""


@frozen
class Conversation:
    id: str
    title: str
    created_ms: int
    updated_ms: int
    active_run: str | None


@frozen
class Message:
    """`state` is "complete", or how the run ended that left this reply unfinished."""

    id: str
    position: int
    role: str
    text: str
    state: str
    run: str
    caller: str
    caller_name: str
    created_ms: int


@frozen
class RunRecord:
    id: str
    conversation: str
    state: str
    created_ms: int
    finished_ms: int | None
    last_event: int


@frozen
class EncodedEvent:
    """An event as it is kept and sent: JSON data, rendered once."""

    id: int
    name: str
    data: str


@frozen
class NewRun:
    """A message to accept. `fingerprint` tells whether a repeated `key` means the same; without
    `room` only a repeated one is accepted."""

    id: str
    conversation: str
    text: str
    key: str
    fingerprint: bytes
    caller: str
    caller_name: str
    room: bool


INTERRUPTED: Final = Problem(
    kind="run-interrupted",
    title="The agent stopped while it was answering",
    status=500,
    detail="The part of the reply that was written is kept.",
    next="Send the message again.",
)


def configure(db: apsw.Connection) -> None:
    """Outside a transaction. The exclusive lock, held from here on, keeps a second agent out."""
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("PRAGMA journal_mode = WAL").fetchall()
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA foreign_keys = ON")


def transaction(db: apsw.Connection, work: Callable[[apsw.Connection], T]) -> T:
    """Do `work`, all of it or nothing."""
    db.execute("BEGIN")
    try:
        result = work(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk makes SQLite roll back by itself
            db.execute("ROLLBACK")
        raise
    return result


def migrate(db: apsw.Connection) -> None:
    """Bring the file to this version. Raises `NewerVersion`."""
    done = db.execute("PRAGMA user_version").fetchall()[0][0]
    assert isinstance(done, int)
    if done > len(MIGRATIONS):
        raise NewerVersion
    for sql in MIGRATIONS[done:]:
        db.execute(sql)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _rows(db: apsw.Connection, sql: str, *bindings: str) -> list[tuple[Any, ...]]:
    """Typed as what the tables' STRICT columns hold."""
    return db.execute(sql, bindings).fetchall()


# --- conversations ----------------------------------------------------------------------------

_CONVERSATION: Final = """
    SELECT id, title, created_ms, updated_ms,
        (SELECT id FROM runs WHERE conversation = c.id AND state = 'running')
    FROM conversations AS c
"""


def create(
    db: apsw.Connection, new_id: str, title: str, caller: str, key: str | None, now: int
) -> Conversation:
    if key is not None:
        same = _rows(db, _CONVERSATION + "WHERE caller = ? AND key = ?", caller, key)
        if same:
            return Conversation(*same[0])
    db.execute(
        "INSERT INTO conversations VALUES (?, ?, ?, ?, ?, ?)",
        (new_id, title, caller, key, now, now),
    )
    return Conversation(new_id, title, now, now, None)


def conversations(
    db: apsw.Connection, before: tuple[int, str] | None, limit: int
) -> list[Conversation]:
    where = "" if before is None else "WHERE (updated_ms, id) < (?, ?)"
    rows = db.execute(
        f"{_CONVERSATION} {where} ORDER BY updated_ms DESC, id DESC LIMIT ?",
        (*(before or ()), limit),
    )
    return [Conversation(*row) for row in rows]


def conversation(db: apsw.Connection, sought: str) -> Conversation | None:
    rows = _rows(db, _CONVERSATION + "WHERE id = ?", sought)
    return Conversation(*rows[0]) if rows else None


def messages(
    db: apsw.Connection, conversation: str, before: int | None, limit: int
) -> list[Message]:
    rows = db.execute(
        """
        SELECT id, position, role, text, state, run, caller, caller_name, created_ms
        FROM messages WHERE conversation = ? AND position < ?
        ORDER BY position DESC LIMIT ?
        """,
        (conversation, 2**62 if before is None else before, limit),
    )
    return [Message(*row) for row in rows][::-1]


def delete(db: apsw.Connection, conversation: str) -> bool:
    db.execute("DELETE FROM conversations WHERE id = ?", (conversation,))
    return db.changes() > 0


# --- runs -------------------------------------------------------------------------------------

_RUN: Final = """
    SELECT id, conversation, state, created_ms, finished_ms,
        (SELECT coalesce(max(id), 0) FROM events WHERE run = r.id)
    FROM runs AS r
"""


def begin(
    db: apsw.Connection, new: NewRun, message: str, now: int
) -> tuple[RunRecord, EncodedEvent | None]:
    same = db.execute(
        "SELECT id, fingerprint FROM runs WHERE caller = ? AND key = ?", (new.caller, new.key)
    ).fetchall()
    if same:
        if same[0][1] != new.fingerprint:
            raise ProblemError(_key_reused(new.key))
        found = run(db, str(same[0][0]))
        assert found is not None
        return found, None
    _check_room(db, new)
    db.execute(
        "INSERT INTO runs VALUES (?, ?, ?, ?, ?, 'running', ?, NULL)",
        (new.id, new.conversation, new.caller, new.key, new.fingerprint, now),
    )
    _add_message(db, new, message, now)
    started = RunStarted(1, new.id, new.conversation, message)
    event = EncodedEvent(1, *encode_event(started))
    append(db, new.id, event)
    return RunRecord(new.id, new.conversation, "running", now, None, 1), event


def _check_room(db: apsw.Connection, new: NewRun) -> None:
    found = conversation(db, new.conversation)
    if found is None:
        raise ProblemError(no_conversation(new.conversation))
    if found.active_run is not None:
        raise ProblemError(_busy(found.active_run))
    if not new.room:
        raise ProblemError(_TOO_MANY_RUNS)


def _add_message(db: apsw.Connection, new: NewRun, message: str, now: int) -> None:
    db.execute(
        """
        INSERT INTO messages SELECT ?1, coalesce(max(position), 0) + 1,
            ?2, 'user', ?3, 'complete', ?4, ?5, ?6, ?7 FROM messages WHERE conversation = ?1
        """,
        (new.conversation, message, new.text, new.id, new.caller, new.caller_name, now),
    )
    title = " ".join(new.text.split())[:60]
    db.execute(
        "UPDATE conversations SET updated_ms = ?, title = iif(title = '', ?, title) WHERE id = ?",
        (now, title, new.conversation),
    )


def append(db: apsw.Connection, run: str, event: EncodedEvent) -> None:
    db.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (run, event.id, event.name, event.data))


def finish(
    db: apsw.Connection,
    run: str,
    state: str,
    text: str,
    event: EncodedEvent,
    message: str,
    now: int,
) -> None:
    append(db, run, event)
    db.execute(
        "UPDATE runs SET state = ?, finished_ms = ? WHERE id = ? AND state = 'running'",
        (state, now, run),
    )
    if text:
        db.execute(
            """
            INSERT INTO messages SELECT r.conversation,
                (SELECT max(position) + 1 FROM messages WHERE conversation = r.conversation),
                ?2, 'assistant', ?3, ?4, r.id, 'agent', '', ?5 FROM runs AS r WHERE r.id = ?1
            """,
            (run, message, text, "complete" if state == "finished" else state, now),
        )
    db.execute(
        """
        UPDATE conversations SET updated_ms = ?
        WHERE id = (SELECT conversation FROM runs WHERE id = ?)
        """,
        (now, run),
    )
    # Looks back one more such time, not at all the runs there ever were.
    forget_old_tokens(db, now - 2 * TOKENS_KEPT_MS, now)


def forget_old_tokens(db: apsw.Connection, since: int, now: int) -> None:
    db.execute(
        """
        DELETE FROM events WHERE name = 'token'
        AND run IN (SELECT id FROM runs WHERE finished_ms BETWEEN ? AND ?)
        """,
        (since, now - TOKENS_KEPT_MS),
    )


def run(db: apsw.Connection, sought: str) -> RunRecord | None:
    rows = _rows(db, _RUN + "WHERE id = ?", sought)
    return RunRecord(*rows[0]) if rows else None


def events(db: apsw.Connection, run: str, after: int, limit: int) -> list[EncodedEvent]:
    rows = db.execute(
        "SELECT id, name, data FROM events WHERE run = ? AND id > ? ORDER BY id LIMIT ?",
        (run, after, limit),
    )
    return [EncodedEvent(*row) for row in rows]


def fail_interrupted(db: apsw.Connection, only: str | None, now: int) -> None:
    rows = db.execute(
        "SELECT id FROM runs WHERE state = 'running' AND (?1 IS NULL OR id = ?1)", (only,)
    ).fetchall()
    for (lost,) in rows:
        assert isinstance(lost, str)
        written = events(db, lost, 0, -1)
        tokens = (decode_event(event.id, event.name, event.data) for event in written)
        text = "".join(token.text for token in tokens if isinstance(token, Token))
        failed = RunFailed(written[-1].id + 1, INTERRUPTED, text)
        event = EncodedEvent(failed.id, *encode_event(failed))
        finish(db, lost, "failed", text, event, "m_" + lost, now)


# --- refusals ---------------------------------------------------------------------------------


def no_conversation(sought: str) -> Problem:
    return Problem(
        kind="no-such-conversation",
        title="There is no such conversation",
        status=404,
        detail=f"No conversation has the id {sought!r}; it may have been deleted.",
        next="List the conversations, or start a new one.",
    )


def _busy(run: str) -> Problem:
    return Problem(
        kind="conversation-busy",
        title="The agent is still answering in this conversation",
        status=409,
        detail=f"Run {run} is under way.",
        next="Wait for it, or cancel it.",
    )


def _key_reused(key: str) -> Problem:
    return Problem(
        kind="idempotency-key-reused",
        title="This Idempotency-Key was used for another message",
        status=422,
        detail=f"The key {key!r} belongs to a message with another text or conversation.",
        next="Use a new key for each message, and repeat it only to repeat that message.",
    )


_TOO_MANY_RUNS: Final = Problem(
    kind="too-many-runs",
    title="The agent is busy",
    status=503,
    detail="It is already writing as many replies as it may at a time.",
    next="Try again when one of them is done.",
)
