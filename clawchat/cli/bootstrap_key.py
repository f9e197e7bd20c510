"""Where the user's bootstrap key comes from: a file, the environment, or the keyboard.

Rules: never from the command line, which every user of the machine can read; the variables are
removed from the environment as soon as they were read, so that no child process inherits them.
Left to others: what the key does (`core.crypto.bootstrap`).
"""

from __future__ import annotations

import getpass
import os
import secrets
import stat
from base64 import urlsafe_b64encode
from pathlib import Path

from clawchat.cli.failures import Usage
from clawchat.cli.terminal import stdin_is_terminal
from clawchat.core.crypto.bootstrap import BootstrapKey
from clawchat.drivers import files
from clawchat.errors import BootstrapError, BootstrapKeyInvalid, BootstrapKeyMissing

KEY_VARIABLE = "CLAWCHAT_BOOTSTRAP_KEY"
PASSPHRASE_VARIABLE = "CLAWCHAT_BOOTSTRAP_PASSPHRASE"
KEY_FILE_MAX = 4096  # bytes

# Who copies a bootstrap file may try passphrases for as long as they like, and afterwards whatever
# the same one seals. Four words, or some letters that a machine chose, have more.
PASSPHRASE_MIN = 12

WAYS = f"set {KEY_VARIABLE} or {PASSPHRASE_VARIABLE}, or name a file with --key-file"
HOW_TO_MAKE_ONE = "`clawchat sec key --out FILE` makes one"


def given_key(
    key_file: Path | None, *, ask: str = "", choosing: bool = False
) -> BootstrapKey | None:
    """The key the user gave; asked for at a terminal when `ask` says what for; else None.

    With `choosing`, a passphrase has `PASSPHRASE_MIN` characters at least, and one that is typed in
    has to be typed twice.

    Raises `BootstrapKeyInvalid`, `BootstrapError` for an unreadable or unprotected file, and
    `Usage` when the environment holds two.
    """
    key_text = os.environ.pop(KEY_VARIABLE, None)
    passphrase = os.environ.pop(PASSPHRASE_VARIABLE, None)
    if key_file is not None:
        text = _read(key_file)
        if not text.strip():
            raise BootstrapKeyInvalid(f"the key file {key_file} is empty: {HOW_TO_MAKE_ONE}")
        return BootstrapKey.from_base64url(text, name=str(key_file))
    if key_text and passphrase:
        raise Usage(f"{KEY_VARIABLE} and {PASSPHRASE_VARIABLE} are both set: keep one of them")
    if key_text:
        return BootstrapKey.from_base64url(key_text, name=KEY_VARIABLE)
    if passphrase:
        if choosing:
            _check_length(passphrase)
        return BootstrapKey.from_passphrase(passphrase)
    return _asked(ask, choosing=choosing) if ask and stdin_is_terminal() else None


def needed_key(key_file: Path | None, why: str) -> BootstrapKey:
    """The listener's key; raises `BootstrapKeyMissing` when none was given."""
    key = given_key(key_file, ask=why)
    if key is None:
        raise BootstrapKeyMissing(f"the listener's bootstrap key is needed to {why}: {WAYS}")
    return key


def new_key() -> str:
    """32 random bytes as base64url."""
    return urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")


def write_key(path: Path) -> None:
    """A new key in a new file, 0600. Raises `BootstrapError` when there is such a file already."""
    try:
        files.write_private(path, f"{new_key()}\n".encode(), replace=False)
    except FileExistsError:
        raise BootstrapError(f"{path} exists already: name a new file with --out") from None
    except OSError as error:
        raise BootstrapError(f"{path} cannot be written: {error.strerror or error}") from None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if os.name != "nt" and stat.S_ISREG(mode) and mode & 0o077:
                raise BootstrapError(
                    f"{path} can be read by others: if it is your key, run `chmod 600 {path}` first"
                )
            return file.read(KEY_FILE_MAX).decode("ascii")
    except OSError as error:
        raise BootstrapError(
            f"the key file {path} cannot be read: {error.strerror or error}; check --key-file"
        ) from None
    except UnicodeDecodeError:
        raise BootstrapKeyInvalid(
            f"{path} is not 32 bytes of base64url (43 characters): make one with "
            "`clawchat sec key --out FILE`"
        ) from None


def _check_length(text: str) -> None:
    if len(text) < PASSPHRASE_MIN:
        raise BootstrapKeyInvalid(
            f"a passphrase of {len(text)} characters can be found by trying: use {PASSPHRASE_MIN} "
            f"or more, several words say, or a key ({HOW_TO_MAKE_ONE})"
        )


def _asked(why: str, *, choosing: bool) -> BootstrapKey | None:
    try:
        text = getpass.getpass(f"Bootstrap key or passphrase, to {why}: ")
        try:
            return BootstrapKey.from_base64url(text)
        except BootstrapKeyInvalid:
            pass
        if choosing:
            _check_length(text)
        if choosing and getpass.getpass("The passphrase once more: ") != text:
            raise BootstrapKeyInvalid("the two passphrases differ: start again")
        return BootstrapKey.from_passphrase(text)
    except EOFError:
        return None
