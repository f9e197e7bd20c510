"""`clawchat sec`: bootstrap files and their keys."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from clawchat.cli.bootstrap_key import given_key, new_key, write_key
from clawchat.cli.failures import NoLink
from clawchat.cli.local_socket import LocalSocket, NobodyHome, Refused
from clawchat.cli.options import Json, KeyFile, SecurityDir, StateDir
from clawchat.cli.places import SERVE_SOCKET, listener_folder
from clawchat.cli.terminal import harmless, one_line, put, put_json, say
from clawchat.core.actions import BootstrapContent
from clawchat.core.crypto.bootstrap import MAGIC, BootstrapKey, Kdf, expiry_text, open_bootstrap
from clawchat.drivers.connecting import BOOTSTRAP_FILE_MAX
from clawchat.drivers.peer import fingerprint
from clawchat.errors import BootstrapError, BootstrapKeyMissing, BootstrapKeyWrong


def key(
    *,
    out: Annotated[Path | None, Parameter(help="Write it to this new file, 0600.")] = None,
) -> None:
    """32 random bytes as base64url."""
    if out is None:
        put(new_key() + "\n")
        say("keep it: both machines need it, as CLAWCHAT_BOOTSTRAP_KEY or in a --key-file (0600)")
    else:
        write_key(out)
        say(f"a new bootstrap key is in {out}: both machines need it (--key-file {out})")


async def new(
    *, security_dir: SecurityDir = None, state_dir: StateDir = None, json: Json = False
) -> None:
    """Ask the running listener."""
    folder = listener_folder(security_dir, state_dir)
    try:
        answer = await LocalSocket(folder / SERVE_SOCKET).ask({"verb": "publish"})
    except NobodyHome:
        raise NoLink(
            f"no `clawchat serve` runs with the folder {folder}: start it, or name its folder "
            "with --security-dir"
        ) from None
    except Refused as refusal:
        raise BootstrapKeyMissing(str(refusal)) from None
    if json:
        put_json({"path": answer["path"], "expires": answer.get("expires")})
        return
    put(f"{answer['path']}\n")
    say("next: copy it to your other device within 10 minutes and run `clawchat connect FILE`")


def show(
    file: Annotated[Path, Parameter(help="The bootstrap file.")],
    /,
    *,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """What the file holds."""
    data = _read(file)
    told: dict[str, Any] = {"file": str(file), "bytes": len(data), **_outside(data, str(file))}
    key = given_key(key_file)
    if key is not None:
        content = open_bootstrap(data, key, name=str(file))
        told.update(_inside(content, str(file)))
    if json:
        put_json(told)
        return
    for name, value in told.items():
        shown = ", ".join(value) if isinstance(value, list) else str(value)
        put(f"{name.replace('_', ' '):21}{harmless(shown)}\n")
    if key is None:
        say("more can be told with the key: CLAWCHAT_BOOTSTRAP_KEY or --key-file")


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(BOOTSTRAP_FILE_MAX + 1)
    except OSError as error:
        raise BootstrapError(
            f"cannot read {file}: {error.strerror or error}; check the path"
        ) from None


def _outside(data: bytes, name: str) -> dict[str, Any]:
    """What needs no key. Raises a `BootstrapError` for anything but a whole bootstrap file."""
    guess = BootstrapKey.from_base64url(new_key())
    with suppress(BootstrapKeyWrong):  # which says that everything before the seal is in order
        open_bootstrap(data, guess, name=name)
    version, kdf = data[len(MAGIC)], Kdf(data[len(MAGIC) + 1])
    return {"format": version, "sealed_with": "a key" if kdf is Kdf.KEY else "a passphrase"}


def _inside(content: BootstrapContent, name: str) -> dict[str, Any]:
    told = {
        "listener_fingerprint": fingerprint(content.listener_static),
        "file_id": content.file_id.hex(),
        "candidates": [str(address) for address in content.candidates],
        "rendezvous": one_line(content.rendezvous) or None,
        "issued": _time(content.issued),
        "expires": _time(content.expires),
    }
    warning = expiry_text(content, int(time.time()), name=os.path.basename(name))
    return {**told, "warning": warning} if warning else told


def _time(unix: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(unix))
    except (OverflowError, OSError, ValueError):
        return f"{unix} (no time this computer knows)"
