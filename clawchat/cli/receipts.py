"""Receipts of destroyed pairings, as JSON carries them and as people read them.

Left to others: what is destroyed (`core.undoing`), when (`cli.panic`, or a peer).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from attrs import asdict

from clawchat.cli.terminal import one_line
from clawchat.core.actions import Receipt

Told: TypeAlias = dict[str, Any]
"""One receipt as it is printed."""

NO_LINK = "there was no link"


def as_told(receipt: Receipt, name: str) -> Told:
    """A receipt as JSON carries it."""
    return {
        "name": name,
        "id": receipt.file_id.hex(),
        "reason": receipt.reason.name.lower(),
        "everything": receipt.everything,
        "by_peer": receipt.by_peer,
        "told": receipt.told,
        "confirmed": receipt.confirmed,
        "why": NO_LINK,  # that nobody was told
        "already": False,  # whether another declaration came before this one
        "epochs": list(receipt.epochs),
        **asdict(receipt.kept),
    }


def receipt_lines(told: Told) -> list[str]:
    """A receipt for people."""
    if told["already"]:
        answer = "not asked: another declaration, from there or from here, was first"
    elif told["confirmed"]:
        answer = "confirmed: it destroys its side too"
    elif told["told"]:
        answer = "told for ten seconds, and did not answer: declare it there as well"
    else:
        why = one_line(str(told.get("why", NO_LINK)))
        answer = f"not told, {why}: declare it there as well"
    lines = [
        f"destroyed     the pairing with {one_line(str(told['name']))} ({told['id'][:8]})",
        f"  peer        {answer}",
        f"  credentials {_numbers('generation', told['generations'])}"
        + (f", and what recognised {told['superseded']} older" if told["superseded"] else ""),
        f"  packet keys {_numbers('epoch', told['epochs'])}",
    ]
    if told["pinned_key"]:
        lines.append("  pinned key  of the peer")
    if told["bootstrap_files"]:
        lines.append(f"  files       {told['bootstrap_files']} bootstrap file(s) withdrawn")
    return lines


def _numbers(what: str, numbers: Sequence[int]) -> str:
    return f"{what} {', '.join(map(str, numbers))}" if numbers else "none"
