"""The terminal: `clawchat` and its commands.

Rules: data goes to stdout and talk to stderr; no secret is taken from the command line or printed;
every failure a user can cause is one sentence with the next step, and an exit code of
`cli.exit_codes`. What a command needs is imported when it runs, so that `--help` is quick.
Left to others: everything a program could use as well (`clawchat`, `clawchat.apps`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(tokens: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    from clawchat.cli.app import run

    sys.exit(run(sys.argv[1:] if tokens is None else tokens))
