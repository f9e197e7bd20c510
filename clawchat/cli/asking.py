"""Asking a person to type a word before something that cannot be undone.

Left to others: saying what is about to happen (whoever asks).
"""

from __future__ import annotations

import sys

import trio

from clawchat.cli.failures import Cancelled, Usage
from clawchat.cli.terminal import say, stdin_is_terminal


async def must_type(word: str, *, otherwise: str) -> None:
    """Raises `Usage` when nobody can be asked, `Cancelled` when the answer is another word."""
    if not stdin_is_terminal():
        raise Usage("nobody is there to be asked: use --yes if you are sure")
    say(f"type {word} to go on:")
    answer = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    if answer.strip() != word:
        raise Cancelled(otherwise)
