"""Where things are kept, and how to make a private folder there.

    STATE/device     what this machine knows of the listeners it is paired with
    STATE/listener   the identity, pairings and bootstrap file of `clawchat serve`
    STATE/agent      conversations

STATE is `--state-dir`, else `CLAWCHAT_STATE_DIR`, else the platform's folder for program state.
Rules: a folder of ours is 0700; a failure names the folder and the option that moves it.
Left to others: what is in the folders.
"""

from __future__ import annotations

import os
from pathlib import Path

from clawchat.drivers import files
from clawchat.errors import StoreError

STATE_VARIABLE = "CLAWCHAT_STATE_DIR"
SECURITY_VARIABLE = "CLAWCHAT_SECURITY_DIR"
SERVE_SOCKET = "serve.sock"  # in the listener's folder: where `clawchat serve` takes commands


def state_folder(given: Path | None = None) -> Path:
    """The folder that holds all others."""
    if given is not None:
        return given.expanduser().absolute()
    named = os.environ.get(STATE_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    from platformdirs import user_state_path

    return user_state_path("clawchat", appauthor=False)


def device_folder(state: Path | None = None) -> Path:
    """What this machine keeps as the device that dials."""
    return state_folder(state) / "device"


def agent_folder(state: Path | None = None) -> Path:
    """What the agent keeps."""
    return state_folder(state) / "agent"


def listener_folder(security: Path | None = None, state: Path | None = None) -> Path:
    """What `clawchat serve` keeps: `--security-dir`, its variable, or the place in the state."""
    named = os.environ.get(SECURITY_VARIABLE)
    if security is None and named:
        security = Path(named)
    if security is not None:
        return security.expanduser().absolute()
    return state_folder(state) / "listener"


def private_folder(folder: Path, option: str) -> Path:
    """Make `folder` 0700 and see that it can be written. Raises `StoreError` naming `option`."""
    advice = f"choose another with {option}, or fix its permissions"
    try:
        files.private_folder(folder)
    except FileExistsError:
        raise StoreError(f"{folder} is not a folder; {advice}") from None
    except files.ForeignFolder as error:
        raise StoreError(f"{error}; {advice}") from None
    except OSError as error:
        raise StoreError(
            f"the folder {folder} cannot be made: {error.strerror}; {advice}"
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreError(f"the folder {folder} cannot be written; {advice}")
    return folder
