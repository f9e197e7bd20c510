"""The bootstrap file: sealed and put where the user finds it.

Rules: one file, `clawchat-current.sec`, 0600 in a 0700 folder, replaced atomically; its content
is sealed under the user's bootstrap key before it touches the disk. All methods block.
Left to others: when to publish and withdraw (the core), reading such a file (`connecting`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from clawchat.core.actions import BootstrapContent
from clawchat.core.crypto.bootstrap import BootstrapKey, seal_bootstrap
from clawchat.drivers import files
from clawchat.errors import StoreError

FILE_NAME: Final = "clawchat-current.sec"


class Publisher:
    """Publishes bootstrap files into one folder. Raises `StoreError`, naming the folder."""

    def __init__(self, folder: str | os.PathLike[str], key: BootstrapKey) -> None:
        self.path: Final = Path(folder) / FILE_NAME
        self._key = key

    def __repr__(self) -> str:
        return f"<Publisher {self.path}>"

    def publish(self, content: BootstrapContent) -> Path:
        """Seal and write; returns the file's path."""
        data = seal_bootstrap(content, self._key, os.urandom)
        try:
            files.private_folder(self.path.parent)
            files.sweep(self.path.parent)
            files.write_private(self.path, data)
        except OSError as error:
            raise self._explained(error) from error
        return self.path

    def withdraw(self) -> None:
        """Remove the file; harmless when there is none."""
        try:
            for left in (*files.unfinished(self.path), self.path):
                files.shred(left)
        except OSError as error:
            raise self._explained(error) from error

    def _explained(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot write the bootstrap file in {self.path.parent}: {error.strerror or error}."
            " Free some space, allow writing there, or choose another folder"
            " (--security-dir or CLAWCHAT_SECURITY_DIR)"
        )
