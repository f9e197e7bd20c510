"""The terminal: `clawchat` and its commands.

Rules: data goes to stdout and talk to stderr; no secret is taken from the command line or printed;
every failure a user can cause is one sentence with the next step, and an exit code of
`cli.exit_codes`. What a command needs is imported when it runs, so that `--help` is quick.
Left to others: everything a program could use as well (`clawchat`, `clawchat.apps`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

CANCELLED = 130  # `ExitCode.CANCELLED`, which is not imported yet


def main(tokens: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    try:
        from clawchat.cli.app import run

        code = run(sys.argv[1:] if tokens is None else tokens)
    except KeyboardInterrupt:  # before there was a command to interrupt
        code = CANCELLED
    sys.exit(code)
