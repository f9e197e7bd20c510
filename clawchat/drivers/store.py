"""The folder that keeps what must outlive a process: our identity and our pairings.

    identity.json            our X25519 key, made on first use
    pairings/<file id>.json  one per peer: credentials, name, addresses
    locks/<name>             held while a process uses a pairing (`Store.lock`), or changes one
    destroyed/<file id>      of a pairing that was ended for good: no secret, only its name and why
    seen/<file id>           empty; its time says when a link of the pairing was last up

Rules: every change is one atomic, synced file (`files`); changes take turns (`_changing`), so that
none undoes another's, whichever process makes it; a damaged file is named in a `StoreError`, never
deleted or overwritten by itself, and keeps nobody from the other pairings; nothing is read twice,
so two processes see each other's changes. All methods block: async callers use a thread.
Left to others: when to save (the core's `Persist`), deriving credentials (the core).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum, unique
from pathlib import Path
from time import time
from typing import Final

from attrs import evolve, field, frozen

from clawchat.core.actions import Destroy, DestroyIdentity
from clawchat.core.credential import (
    FILE_ID_SIZE,
    HINT_SIZE,
    STATIC_SIZE,
    SUPERSEDED_MAX,
    Address,
    Credential,
    Pairing,
    Superseded,
)
from clawchat.core.secret import Secret
from clawchat.drivers import files, locks
from clawchat.drivers.address import parse_address
from clawchat.drivers.records import Content, Newer, read_record, write_record
from clawchat.errors import StoreError

STATE_DIR_VARIABLE: Final = "CLAWCHAT_STATE_DIR"
NAME_MAX: Final = 40  # characters: a line of `clawchat devices` must fit a terminal
NAME_RULE: Final = f"use 1 to {NAME_MAX} printable characters, none of them a space at an end"
KEY_SIZE: Final = 32
CHANGE_SECONDS: Final = 10.0  # for another process to finish a change; a full disk can be slow
CANDIDATES_MAX: Final = 16  # PROTOCOL.md "Bootstrap file"


class PairingGone(StoreError):
    """A pairing that was ended for good is not used again."""


@unique
class Ending(Enum):
    """How a pairing was ended for good; the value is what people read."""

    COMPROMISED = "declared compromised and destroyed"
    REVOKED = "revoked by the listener"
    FORGOTTEN = "forgotten here"


@frozen
class Ended:
    """What is left of a pairing that was ended for good. `when` is in Unix seconds."""

    file_id: bytes
    name: str
    dialer: bool
    why: Ending
    when: int


@frozen
class Entry:
    """A pairing and what a person needs with it. Times are Unix seconds, 0 for never."""

    pairing: Pairing
    name: str
    candidates: tuple[Address, ...] = field(default=())  # dialer: where the listener may be
    paired: int = 0
    used: int = 0


@frozen
class Unusable:
    """A pairing's file that is damaged, or may not be used any more; `error` says why."""

    file_id: bytes  # empty: it is not called as we call files
    path: Path
    error: StoreError


def is_name(text: str) -> bool:
    """Whether a pairing may be called so: `NAME_RULE`."""
    # `isprintable` is false for control characters, line ends, and marks that change the
    # direction of reading or take no room.
    return 0 < len(text) <= NAME_MAX and text.isprintable() and text == text.strip()


def default_folder() -> Path:
    """`$CLAWCHAT_STATE_DIR`, or the platform's place for a user's state."""
    named = os.environ.get(STATE_DIR_VARIABLE)
    if named:
        return Path(named)
    from platformdirs import user_state_path

    return user_state_path("clawchat")


class Store:
    """Identity and pairings in one folder. Raises `StoreError`, naming the file at fault."""

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        """Nothing is read or written yet. `folder` None: `default_folder()`."""
        self.folder: Final = Path(folder) if folder is not None else default_folder()
        self._pairings: Final = self.folder / "pairings"
        self._identity: Final = self.folder / "identity.json"
        self._destroyed: Final = self.folder / "destroyed"
        self._seen: Final = self.folder / "seen"

    def __repr__(self) -> str:
        return f"<Store {self.folder}>"

    # --- identity -----------------------------------------------------------------------------

    def identity(self) -> Secret:
        """Our X25519 private key, 32 bytes; made and saved on first use."""
        with self._explained(self._identity):
            if not self._identity.exists():
                files.private_folder(self.folder)
                made: dict[str, object] = {"private": Secret(os.urandom(KEY_SIZE))}
                with suppress(FileExistsError):  # another process was first: its key is ours too
                    write_record(self._identity, "identity", made, replace=False)
            content = read_record("identity", self._identity)
            return content.secret("private")

    # --- pairings -----------------------------------------------------------------------------

    def save(self, pairing: Pairing, *, candidates: tuple[Address, ...] = ()) -> None:
        """Make `pairing` durable before returning; name and addresses already kept stay.

        `candidates` are where the listener may be, if nothing is known about that yet.
        """
        with self._changing():
            self.refuse_destroyed(pairing.file_id)
            entry = self._found(pairing.file_id)
            now = int(time())
            if entry is None:
                entry = Entry(pairing, self._fresh_name(pairing), (), now, now)
            where = entry.candidates or candidates
            self._write(evolve(entry, pairing=pairing, candidates=where, used=now))

    def load(self) -> list[Pairing]:
        """Every pairing, oldest first. Raises `StoreError` when one cannot be used."""
        entries, unusable = self._survey()
        if unusable:
            raise unusable[0].error
        return [entry.pairing for entry in entries]

    def entries(self) -> list[Entry]:
        """Every pairing that can be used, with its name and addresses, oldest first."""
        return self._survey()[0]

    def unusable(self) -> list[Unusable]:
        """What `entries` leaves out: one damaged file is no reason to give the others up."""
        return self._survey()[1]

    def _survey(self) -> tuple[list[Entry], list[Unusable]]:
        with self._explained(self._pairings):
            if not self._pairings.exists():
                return [], []
            files.sweep(self._pairings)
            self._finish_what_was_begun()
            paths = sorted(self._pairings.glob("[0-9a-f]*.json"))
        entries: list[Entry] = []
        unusable: list[Unusable] = []
        for path in paths:
            try:
                entries.append(self._read(path))
            except StoreError as error:
                if path.exists():  # else another process has just ended it
                    unusable.append(Unusable(_id_in(path), path, error))
        return sorted(entries, key=lambda entry: (entry.paired, entry.pairing.file_id)), unusable

    def get(self, file_id: bytes) -> Entry | None:
        """The entry of one pairing, or None."""
        return self._found(file_id)

    def remove(self, file_id: bytes) -> None:
        """Remove a pairing that another took the place of; harmless when it is not there.

        It comes back if a backup is restored: `destroy` is for what must not.
        """
        path = self._path(file_id)
        with self._explained(path):
            if not path.exists():
                return
        with self._changing(), self._explained(path):
            files.remove(path)
            (self._seen / file_id.hex()).unlink(missing_ok=True)

    def reached(self, file_id: bytes, address: Address) -> None:
        """Note that the listener answered at `address`: it is tried first from now on."""
        with self._changing():
            entry = self._found(file_id)
            if entry is None or entry.candidates[:1] == (address,):
                return
            others = tuple(other for other in entry.candidates if other != address)
            self._write(evolve(entry, candidates=(address, *others)[:CANDIDATES_MAX]))

    # --- when ---------------------------------------------------------------------------------

    def note_seen(self, file_id: bytes) -> None:
        """A link of this pairing is up, or was up until now."""
        marker = self._seen / file_id.hex()
        with self._explained(marker):
            if self._path(file_id).exists():
                files.private_folder(self._seen)
                marker.touch(mode=0o600)

    def last_seen(self, entry: Entry) -> int:
        """When a link of this pairing was last known to be up; Unix seconds."""
        # Not a member of the pairing's file: each rewriting of that leaves another copy of
        # credentials in what the disk holds free.
        marker = self._seen / entry.pairing.file_id.hex()
        with self._explained(marker):
            seen = int(marker.stat().st_mtime) if marker.exists() else 0
        return max(entry.used, seen)

    # --- ended for good -----------------------------------------------------------------------

    def erase(self, action: Destroy | DestroyIdentity) -> None:
        """Do what the core asks for."""
        if isinstance(action, Destroy):
            self.destroy(action.file_id)
        else:
            self.destroy_identity()

    def destroy(self, file_id: bytes, why: Ending = Ending.COMPROMISED) -> None:
        """Overwrite and remove a pairing, and never take it back.

        The note comes first: whoever opens the store after a crash in between finishes. Without
        room for it the pairing goes first, which makes some.
        """
        with self._changing():
            told = self._last_words(file_id, why)
            try:
                self._write_note(file_id, told)
            except StoreError:
                self._shred(file_id)
                self._write_note(file_id, told)
            self._finish_destroying(file_id)

    def discard(self, unusable: Unusable) -> None:
        """Overwrite and remove a file that cannot be used, and never take its pairing back."""
        if unusable.file_id:
            self.destroy(unusable.file_id)
        else:
            with self._explained(unusable.path):
                files.shred(unusable.path)

    def ended(self) -> list[Ended]:
        """What was ended for good, oldest first."""
        with self._explained(self._destroyed):
            notes = sorted(self._destroyed.glob("[0-9a-f]*"))
            found = [_to_ended(note, read_record("note", note)) for note in notes]
        return sorted(found, key=lambda ended: ended.when)

    def destroy_identity(self) -> None:
        """Overwrite and remove our own key; `identity` makes another."""
        with self._explained(self._identity):
            for path in (*files.unfinished(self._identity), self._identity):
                files.shred(path)

    def refuse_destroyed(self, file_id: bytes) -> None:
        """Raises `PairingGone` when this pairing was declared compromised here."""
        note = self._note(file_id)
        with self._explained(note):
            if not note.exists():
                return
            ended = _to_ended(note, read_record("note", note))
        if not ended.when:
            self._finish_destroying(file_id)
        path = self._path(file_id)
        again = f", and remove {path}, which has come back" if path.exists() else ""
        raise PairingGone(
            f"the pairing {ended.name} was {ended.why.value}: pair again with a new bootstrap"
            f" file{again}. If you are sure that it may be used after all, remove {note}"
        )

    def _last_words(self, file_id: bytes, why: Ending) -> dict[str, object]:
        name, dialer = file_id.hex()[:8], False
        with suppress(StoreError):  # damaged or not there: it goes without a name
            entry = self._found(file_id)
            if entry is not None:
                name, dialer = entry.name, entry.pairing.dialer
        return {"destroyed": 0, "name": name, "dialer": dialer, "why": why.name.lower()}

    def _write_note(self, file_id: bytes, told: dict[str, object]) -> None:
        note = self._note(file_id)
        with self._explained(note):
            files.private_folder(self._destroyed)
            if not note.exists():
                write_record(note, "note", told)

    def _shred(self, file_id: bytes) -> None:
        path = self._path(file_id)
        with self._explained(path):
            for left in (*files.unfinished(path), path):
                files.shred(left)
            (self._seen / file_id.hex()).unlink(missing_ok=True)

    def _finish_destroying(self, file_id: bytes) -> None:
        self._shred(file_id)
        note = self._note(file_id)
        with self._explained(note):
            told = read_record("note", note).values
            write_record(note, "note", {**told, "destroyed": int(time())})

    def _finish_what_was_begun(self) -> None:
        """A process was killed between the note and the end of the pairing."""
        for note in sorted(self._destroyed.glob("[0-9a-f]*")):
            if not read_record("note", note).count("destroyed"):
                self._finish_destroying(bytes.fromhex(note.name))

    def _note(self, file_id: bytes) -> Path:
        return self._destroyed / file_id.hex()

    # --- names --------------------------------------------------------------------------------

    def label(self, file_id: bytes) -> str:
        """The name of a pairing; the start of its id when it is unknown."""
        entry = self._found(file_id)
        return entry.name if entry is not None else file_id.hex()[:8]

    def rename(self, file_id: bytes, name: str) -> None:
        """Give a pairing a name: 1-40 printable characters, unlike every other name."""
        with self._changing():
            entry = self._found(file_id)
            if entry is None:
                raise StoreError(f"{self.folder}: no pairing {file_id.hex()[:8]}; {self._known()}")
            if not is_name(name):
                raise StoreError(f"{name!r} is not a name: {NAME_RULE}")
            for other in self.entries():
                if other.name == name and other.pairing.file_id != file_id:
                    raise StoreError(f"{name!r} already names another pairing: choose another")
            self._write(evolve(entry, name=name))

    def find(self, name: str) -> Entry:
        """The entry with this name, or whose id begins with it (4 hex digits or more)."""
        entries = self.entries()
        for entry in entries:
            if entry.name == name:
                return entry
        wanted = name.lower()
        found = [entry for entry in entries if entry.pairing.file_id.hex().startswith(wanted)]
        if len(wanted) >= 4 and len(found) == 1:
            return found[0]
        raise StoreError(f"{self.folder}: no pairing is called {name!r}; {self._known()}")

    # --- one user at a time -------------------------------------------------------------------

    @contextmanager
    def lock(self, name: str = "store", *, wait_seconds: float = 0.0) -> Iterator[None]:
        """Hold a lock that dies with this process. Raises `StoreBusy` when another holds it.

        `connect` locks the pairing's id, `serve` locks "serve": two processes that dialled with
        one credential would look like a clone of this device.
        """
        path = self.folder / "locks" / name
        with self._explained(path):
            files.private_folder(self.folder)
            files.private_folder(path.parent)
            handle = locks.take(path, wait_seconds=wait_seconds)
        with locks.signed(handle):
            yield

    # --- inside -------------------------------------------------------------------------------

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Read, change and write without another process or thread in between.

        Otherwise a renaming that began before a handshake could bring back the generation that
        it read, and lock the pair out.
        """
        path = self.folder / "locks" / "change"
        with self._explained(path):
            files.private_folder(self.folder)
            files.private_folder(path.parent)
            handle = locks.take(path, wait_seconds=CHANGE_SECONDS)
        try:
            yield
        finally:
            os.close(handle)

    def _path(self, file_id: bytes) -> Path:
        return self._pairings / f"{file_id.hex()}.json"

    def _found(self, file_id: bytes) -> Entry | None:
        path = self._path(file_id)
        with self._explained(path):
            if not path.exists():
                return None
        return self._read(path)

    def _read(self, path: Path) -> Entry:
        with self._explained(path):
            file_id = bytes.fromhex(path.stem)
        if self._note(file_id).exists():
            self.refuse_destroyed(file_id)
        with self._explained(path):
            entry = _to_entry(read_record("pairing", path))
            if path.stem != entry.pairing.file_id.hex():
                raise ValueError("its name is not the id inside")
            return entry

    def _write(self, entry: Entry) -> None:
        path = self._path(entry.pairing.file_id)
        with self._explained(path):
            files.private_folder(self.folder)
            files.private_folder(self._pairings)
            write_record(path, "pairing", _from_entry(entry))

    def _fresh_name(self, pairing: Pairing) -> str:
        stem = "listener" if pairing.dialer else "device"
        return f"{stem}-{pairing.file_id.hex()[:6]}"

    def _known(self) -> str:
        names = ", ".join(entry.name for entry in self.entries())
        return f"known: {names}" if names else "nothing is paired yet"

    @contextmanager
    def _explained(self, path: Path) -> Iterator[None]:
        """Turn what the machine or a damaged file does into a `StoreError` that helps."""
        try:
            yield
        except files.ForeignFolder as error:
            raise StoreError(
                f"{error}: choose a folder of your own with {STATE_DIR_VARIABLE}"
            ) from error
        except OSError as error:
            raise StoreError(
                f"cannot use {path}: {error.strerror or error}. What was kept there before is"
                f" unchanged; free some space or allow writing to {self.folder}, or choose another"
                f" folder with {STATE_DIR_VARIABLE}"
            ) from error
        except Newer as error:
            raise StoreError(f"{path} was written by a newer ClawChat: upgrade this one") from error
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{path} is damaged and was left as it is: {self._remedy(path)}"
            ) from None if _quotes_content(error) else error

    def _remedy(self, path: Path) -> str:
        if path.parent != self._pairings:
            return (
                "restore it from a backup, or move it away and pair again with a new bootstrap file"
            )
        # A credential changes with every link: one from a backup would pass for a copy of it.
        return (
            f"end that pairing (`clawchat devices revoke {path.stem[:8]}` on the agent's machine,"
            " `forget` on a device) and pair again with a new bootstrap file; a backup of it is of"
            " no use, unless no link was made since"
        )


def _id_in(path: Path) -> bytes:
    """The id that the name of a pairing's file says; empty when that is none."""
    try:
        file_id = bytes.fromhex(path.stem)
    except ValueError:
        return b""
    return file_id if len(file_id) == FILE_ID_SIZE and file_id.hex() == path.stem else b""


def _quotes_content(error: Exception) -> bool:
    # A JSONDecodeError carries the whole document, secrets included, into a traceback.
    return isinstance(error, ValueError)


# --- bytes <-> values -------------------------------------------------------------------------


def _from_entry(entry: Entry) -> dict[str, object]:
    pairing = entry.pairing
    return {
        "name": entry.name,
        "paired": entry.paired,
        "used": entry.used,
        "file_id": pairing.file_id.hex(),
        "dialer": pairing.dialer,
        "listener_static": pairing.listener_static.hex(),
        "peer_static": None if pairing.peer_static is None else pairing.peer_static.hex(),
        "candidates": [str(address) for address in entry.candidates],
        "credentials": [
            {
                "generation": credential.generation,
                "hint": credential.hint.hex(),
                "envelope_key": credential.envelope_key,
                "psk": credential.psk,
            }
            for credential in pairing.credentials
        ],
        "superseded": [
            {
                "generation": old.generation,
                "hint": old.hint.hex(),
                "envelope_key": old.envelope_key,
            }
            for old in pairing.superseded
        ],
    }


def _to_entry(content: Content) -> Entry:
    peer = content.values["peer_static"]
    credentials = tuple(
        Credential(
            row.count("generation"),
            row.octets("hint", HINT_SIZE),
            row.secret("envelope_key"),
            row.secret("psk"),
        )
        for row in content.rows("credentials", 2)
    )
    if not credentials:
        raise ValueError("no credential")
    superseded = tuple(
        Superseded(
            row.count("generation"), row.octets("hint", HINT_SIZE), row.secret("envelope_key")
        )
        for row in content.rows("superseded", SUPERSEDED_MAX)
    )
    pairing = Pairing(
        content.octets("file_id", FILE_ID_SIZE),
        content.flag("dialer"),
        content.octets("listener_static", STATIC_SIZE),
        None if peer is None else content.octets("peer_static", STATIC_SIZE),
        credentials,
        superseded,
    )
    candidates = tuple(parse_address(str(text)) for text in content.items("candidates"))
    paired, used = content.count("paired"), content.count("used")
    return Entry(pairing, content.text("name"), candidates, paired, used)


def _to_ended(note: Path, content: Content) -> Ended:
    why = str(content.values.get("why", Ending.COMPROMISED.name)).upper()
    file_id = bytes.fromhex(note.name)
    return Ended(
        file_id,
        str(content.values.get("name", file_id.hex()[:8])),
        content.values.get("dialer") is True,
        Ending[why],
        content.count("destroyed"),
    )
