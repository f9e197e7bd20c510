"""Every Python block of README.md and docs/*.md runs, in the order of its page.

A page's blocks share one namespace, as a reader who pastes them would have it. They run in an
empty folder in which a listener has published `clawchat-current.sec`, with its key in the
environment. A block that cannot run says so: ```python no-run.
"""

from __future__ import annotations

import os
import re
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

import clawchat
from clawchat import BootstrapKey, Publisher, Store
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```python[ ]*(?P<mark>[^\n]*)\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[str]:
    """The blocks of a page, each padded so that a traceback names the line of the page."""
    text = page.read_text(encoding="utf-8")
    return [
        "\n" * text.count("\n", 0, found.start("code")) + found["code"]
        for found in FENCE.finditer(text)
        if "no-run" not in found["mark"]
    ]


# The agent's page needs an agent: tests/apps/test_docs.py runs it.
DOCS = [page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "agent-api.md"]
PAGES = (ROOT / "README.md", *DOCS)


@contextmanager
def a_listener(folder: Path, key: BootstrapKey) -> Iterator[None]:
    """A listener in a thread, whose bootstrap file lies in `folder`."""
    ready = threading.Event()
    token: list[trio.lowlevel.TrioToken] = []
    leave = trio.Event()

    async def serve() -> None:
        token.append(trio.lowlevel.current_trio_token())
        publisher = Publisher(folder, key)
        async with clawchat.serve(
            Store(folder / "listener"), host="127.0.0.1", publisher=publisher
        ):
            ready.set()
            await leave.wait()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    try:
        assert ready.wait(PATIENCE), "the listener did not start"
        yield
    finally:
        token[0].run_sync_soon(leave.set)
        thread.join(PATIENCE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = blocks(page)
    if not code:
        pytest.skip("no Python on this page")
    text = urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
    monkeypatch.setenv("CLAWCHAT_BOOTSTRAP_KEY", text)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    with a_listener(tmp_path, BootstrapKey.from_base64url(text)):
        for block in code:
            exec(compile(block, str(page), "exec"), namespace)


def test_the_page_on_embedding_has_something_to_run() -> None:
    assert len(blocks(ROOT / "docs" / "embed.md")) == 4
