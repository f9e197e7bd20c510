"""The folder that keeps what must outlive a process: our identity and our pairings.

    identity.json            our X25519 key, made on first use
    pairings/<file id>.json  one per peer: credentials, name, addresses
    locks/<name>             held while a process uses a pairing (`Store.lock`)
    destroyed/<file id>      of a pairing that was declared compromised: no secret, only its name

Rules: every change is one atomic, synced file (`files`); a damaged file is named in a
`StoreError` and never deleted or overwritten by itself; nothing is read twice, so two processes
see each other's changes. All methods block: async callers use a thread.
Left to others: when to save (the core's `Persist`), deriving credentials (the core).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
from clawchat.drivers import files, secret_json
from clawchat.drivers.address import parse_address
from clawchat.errors import StoreError

STATE_DIR_VARIABLE: Final = "CLAWCHAT_STATE_DIR"
FORMAT_VERSION: Final = 1
NAME_MAX: Final = 40  # characters
KEY_SIZE: Final = 32


class PairingGone(StoreError):
    """A pairing that was declared compromised is not used again."""


class StoreBusy(StoreError):
    """Another process holds the lock that was asked for."""


@frozen
class Entry:
    """A pairing and what a person needs with it. Times are Unix seconds, 0 for never."""

    pairing: Pairing
    name: str
    candidates: tuple[Address, ...] = field(default=())  # dialer: where the listener may be
    paired: int = 0
    used: int = 0


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
                    _write_file(self._identity, "identity", made, replace=False)
            content = _read_file("identity", self._identity)
            return content.secret("private")

    # --- pairings -----------------------------------------------------------------------------

    def save(self, pairing: Pairing, *, candidates: tuple[Address, ...] = ()) -> None:
        """Make `pairing` durable before returning; name and addresses already kept stay.

        `candidates` are where the listener may be, if nothing is known about that yet.
        """
        self.refuse_destroyed(pairing.file_id)
        entry = self._found(pairing.file_id)
        now = int(time())
        if entry is None:
            entry = Entry(pairing, self._fresh_name(pairing), (), now, now)
        where = entry.candidates or candidates
        self._write(evolve(entry, pairing=pairing, candidates=where, used=now))

    def load(self) -> list[Pairing]:
        """Every pairing, oldest first."""
        return [entry.pairing for entry in self.entries()]

    def entries(self) -> list[Entry]:
        """Every pairing with its name and addresses, oldest first."""
        with self._explained(self._pairings):
            if not self._pairings.exists():
                return []
            files.sweep(self._pairings)
            self._finish_what_was_begun()
            paths = sorted(self._pairings.glob("[0-9a-f]*.json"))
        entries = [self._read(path) for path in paths]
        return sorted(entries, key=lambda entry: (entry.paired, entry.pairing.file_id))

    def get(self, file_id: bytes) -> Entry | None:
        """The entry of one pairing, or None."""
        return self._found(file_id)

    def remove(self, file_id: bytes) -> None:
        """Forget a pairing for good; harmless when it is not there."""
        path = self._path(file_id)
        with self._explained(path):
            if path.exists():
                files.remove(path)

    def reached(self, file_id: bytes, address: Address) -> None:
        """Note that the listener answered at `address`: it is tried first from now on."""
        entry = self._found(file_id)
        if entry is None or entry.candidates[:1] == (address,):
            return
        others = tuple(other for other in entry.candidates if other != address)
        self._write(evolve(entry, candidates=(address, *others)[:16]))

    # --- compromised --------------------------------------------------------------------------

    def erase(self, action: Destroy | DestroyIdentity) -> None:
        """Do what the core asks for."""
        if isinstance(action, Destroy):
            self.destroy(action.file_id)
        else:
            self.destroy_identity()

    def destroy(self, file_id: bytes) -> None:
        """Overwrite and remove a pairing, and never take it back.

        The note comes first: whoever opens the store after a crash in between finishes.
        """
        note = self._note(file_id)
        with self._explained(note):
            files.private_folder(self.folder)
            files.private_folder(self._destroyed)
            _write_file(note, "note", {"destroyed": 0})
        self._finish_destroying(file_id)

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
            done = _read_file("note", note).count("destroyed")
        if not done:
            self._finish_destroying(file_id)
        path = self._path(file_id)
        again = f", and remove {path}, which has come back" if path.exists() else ""
        raise PairingGone(
            f"the pairing {file_id.hex()[:8]} was declared compromised and destroyed: pair again"
            f" with a new bootstrap file{again}. If you are sure that it may be used after all,"
            f" remove {note}"
        )

    def _finish_destroying(self, file_id: bytes) -> None:
        note, path = self._note(file_id), self._path(file_id)
        with self._explained(path):
            for left in (*files.unfinished(path), path):
                files.shred(left)
            _write_file(note, "note", {"destroyed": int(time())})

    def _finish_what_was_begun(self) -> None:
        """A process was killed between the note and the end of the pairing."""
        for note in sorted(self._destroyed.glob("[0-9a-f]*")):
            if not _read_file("note", note).count("destroyed"):
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
        entry = self._found(file_id)
        if entry is None:
            raise StoreError(f"{self.folder}: no pairing {file_id.hex()[:8]}; {self._known()}")
        if not (0 < len(name) <= NAME_MAX and name.isprintable() and name == name.strip()):
            raise StoreError(f"{name!r} is not a name: use 1 to {NAME_MAX} printable characters")
        for other in self.entries():
            if other.name == name and other.pairing.file_id != file_id:
                raise StoreError(f"{name!r} already names another pairing: choose another name")
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
    def lock(self, name: str = "store") -> Iterator[None]:
        """Hold a lock that dies with this process. Raises `StoreBusy` when another holds it.

        `connect` locks the pairing's id, `serve` locks "serve": two processes that dialled with
        one credential would look like a clone of this device.
        """
        path = self.folder / "locks" / name
        with self._explained(path):
            files.private_folder(self.folder)
            files.private_folder(path.parent)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _try_lock(handle):
                raise StoreBusy(_busy_text(path, handle))
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
            yield
            os.ftruncate(handle, 0)
        finally:
            os.close(handle)

    # --- inside -------------------------------------------------------------------------------

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
            entry = _to_entry(_read_file("pairing", path))
            if path.stem != entry.pairing.file_id.hex():
                raise ValueError("its name is not the id inside")
            return entry

    def _write(self, entry: Entry) -> None:
        path = self._path(entry.pairing.file_id)
        with self._explained(path):
            files.private_folder(self.folder)
            files.private_folder(self._pairings)
            _write_file(path, "pairing", _from_entry(entry))

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
        except _Newer as error:
            raise StoreError(f"{path} was written by a newer ClawChat: upgrade this one") from error
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{path} is damaged and was left as it is: restore it from a backup, or move it"
                " away and pair again with a new bootstrap file"
            ) from None if _quotes_content(error) else error


class _Newer(Exception):
    """The file says a format version that we do not know."""


def _quotes_content(error: Exception) -> bool:
    # A JSONDecodeError carries the whole document, secrets included, into a traceback.
    return isinstance(error, ValueError)


# --- bytes <-> values -------------------------------------------------------------------------


def _write_file(path: Path, kind: str, content: dict[str, object], *, replace: bool = True) -> None:
    head: dict[str, object] = {"format": f"clawchat {kind}", "version": FORMAT_VERSION}
    text = secret_json.encode(head | content)
    try:
        files.write_private(path, text, replace=replace)
    finally:
        text[:] = bytes(len(text))


def _read_file(kind: str, path: Path) -> _Content:
    values, secrets = secret_json.decode(files.read_private(path))
    if not isinstance(values, dict) or values.get("format") != f"clawchat {kind}":
        raise ValueError("another kind of file")
    version = values.get("version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise _Newer
    if version != FORMAT_VERSION:
        raise ValueError("no version")
    return _Content(values, secrets)


@frozen
class _Content:
    """An object of a file, with its members checked as they are asked for.

    Raises `ValueError`, `KeyError` or `TypeError` for what is not as it should be.
    """

    values: dict[str, object]
    secrets: list[Secret]

    def secret(self, name: str) -> Secret:
        return secret_json.find(self.values[name], self.secrets)

    def octets(self, name: str, size: int) -> bytes:
        value = bytes.fromhex(self.text(name))
        if len(value) != size:
            raise ValueError(name)
        return value

    def text(self, name: str) -> str:
        value = self.values[name]
        if not isinstance(value, str):
            raise TypeError(name)
        return value

    def count(self, name: str) -> int:
        value = self.values[name]
        if not isinstance(value, int) or value < 0:
            raise TypeError(name)
        return value

    def flag(self, name: str) -> bool:
        value = self.values[name]
        if not isinstance(value, bool):
            raise TypeError(name)
        return value

    def items(self, name: str) -> list[object]:
        value = self.values[name]
        if not isinstance(value, list):
            raise TypeError(name)
        return value

    def rows(self, name: str, most: int) -> list[_Content]:
        rows = self.items(name)
        if len(rows) > most:
            raise TypeError(name)
        return [_Content(_object(row), self.secrets) for row in rows]


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError("an object was expected")
    return value


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


def _to_entry(content: _Content) -> Entry:
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


# --- locks ------------------------------------------------------------------------------------


def _busy_text(path: Path, handle: int) -> str:
    try:
        holder = os.pread(handle, 20, 0).decode() if hasattr(os, "pread") else ""
    except OSError:
        holder = ""
    who = f"process {holder}" if holder.isdigit() else "another process"
    return f"{path.parent.parent} is in use by {who} ({path.name}): stop it, or use it instead"


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int) -> bool:
        try:
            os.lseek(handle, 64, os.SEEK_SET)  # beyond the process id, which stays readable
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
