"""Reading the vectors that lie outside the repository."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

h = bytes.fromhex


def load(folder: Path, name: str) -> Any:
    """A file of vectors, as JSON."""
    return json.loads((folder / name).read_text())


def wycheproof(folder: Path, name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each test of a Wycheproof file, with its group."""
    for group in load(folder, f"wycheproof_{name}_test.json")["testGroups"]:
        for test in group["tests"]:
            yield group, test
