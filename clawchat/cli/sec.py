"""`clawchat sec`: bootstrap files and their keys."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from clawchat.cli.bootstrap_file import outside, read_file
from clawchat.cli.bootstrap_key import given_key, new_key, write_key
from clawchat.cli.failures import NoLink
from clawchat.cli.local_socket import LocalSocket, NobodyHome, Refused
from clawchat.cli.options import Json, KeyFile, SecurityDir, StateDir
from clawchat.cli.places import SERVE_SOCKET, listener_folder
from clawchat.cli.terminal import harmless, one_line, put, put_json, say
from clawchat.core.actions import BootstrapContent
from clawchat.core.crypto.bootstrap import expiry_text, open_bootstrap
from clawchat.drivers.peer import fingerprint
from clawchat.errors import BootstrapKeyMissing


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
    say(
        "next: copy it to your other device within 10 minutes and run `clawchat connect FILE`, "
        "with the bootstrap key"
    )


def show(
    file: Annotated[Path, Parameter(help="The bootstrap file.")],
    /,
    *,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """What the file holds."""
    data = read_file(file)
    told: dict[str, Any] = {"file": str(file), "bytes": len(data), **outside(data, str(file))}
    key = given_key(key_file)
    if key is not None:
        content = open_bootstrap(data, key, name=str(file))
        told.update(_inside(content, str(file)))
    if json:
        put_json(told)
        return
    for name, value in told.items():
        shown = ", ".join(value) if isinstance(value, list) else str(value or "none")
        put(f"{name.replace('_', ' '):21}{harmless(shown)}\n")
    if key is None:
        say("more can be told with the key: CLAWCHAT_BOOTSTRAP_KEY or --key-file")


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
