"""docs/cli.md: every command's help and the exit codes, written from the code.

    python -m clawchat.cli.reference           write docs/cli.md
    python -m clawchat.cli.reference --check   exit with 1 when it is stale

Left to others: prose (README.md).
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from clawchat.cli.app import COMMANDS, SEC_COMMANDS, make_app
from clawchat.cli.exit_codes import MEANING

FILE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
WIDTH = 88

HEAD = """\
# The command line

<!-- Written by `python -m clawchat.cli.reference`; a test compares it with the code. -->

Data goes to stdout, everything else to stderr. `--json` prints one line of JSON whose `version`
is 1; members may be added to it, but none changes its meaning. No secret is ever taken from the
command line, where every user of the machine could read it. `CLAWCHAT_DEBUG=1` adds tracebacks
to errors; `NO_COLOR` is respected.

A reply is printed as it came when stdout is a file or a program. At a terminal characters that
would steer it are made visible instead; a program that passes text on to a terminal (`tee`,
`less -r`) has to do that itself. What comes in, on stdin or as TEXT, must be UTF-8.

## Exit codes

| code | meaning |
|-----:|---------|
"""

VARIABLES = """
## Environment

| variable | what it does |
|----------|--------------|
| `CLAWCHAT_STATE_DIR` | the folder that keeps everything: `device/`, `listener/`, `agent/` |
| `CLAWCHAT_SECURITY_DIR` | the listener's folder, and where the bootstrap file is published |
| `CLAWCHAT_BOOTSTRAP_KEY` | the bootstrap key, 32 bytes as base64url |
| `CLAWCHAT_BOOTSTRAP_PASSPHRASE` | a passphrase in its place; `serve` wants 12 characters or more |
| `CLAWCHAT_PEER` | the listener to use when several are paired |
| `CLAWCHAT_PROVIDER`, `CLAWCHAT_MODEL` | where the agent's replies come from |
| `OPENAI_API_KEY`, `OPENAI_BASE_URL` | the key and the address of that provider |
| `CLAWCHAT_DEBUG` | 1: errors come with tracebacks |

Secrets in variables are removed from the environment once they are read, so that no child process
inherits them; but what a process was started with stays visible to its own user (`ps e`). A
`--key-file` does not have that problem.

## Commands
"""


def text() -> str:
    """The whole file."""
    codes = "".join(f"| {int(code)} | {meaning} |\n" for code, meaning in MEANING.items())
    names = [[name] for name, _, _ in COMMANDS]
    names += [["devices", *name] for name in ([], ["name"], ["revoke"], ["forget"], ["ack"])]
    names += [["sec", name] for name, _ in SEC_COMMANDS]
    parts = [_section([])] + [_section(name) for name in names]
    return HEAD + codes + VARIABLES + "".join(parts)


def _section(command: list[str]) -> str:
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, width=WIDTH, color_system=None, legacy_windows=False)
    app = make_app(plain=True)
    app.help_print([*command], console=console)
    body = "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())
    return f"\n### {' '.join(['clawchat', *command])}\n\n```text\n{body}\n```\n"


def main(arguments: list[str]) -> int:
    """Write or check the file; the exit code."""
    os.environ.pop("CLAWCHAT_PEER", None)
    fresh = text()
    if "--check" in arguments:
        stale = not FILE.exists() or FILE.read_text("utf-8") != fresh
        if stale:
            print(f"{FILE} is stale: run python -m clawchat.cli.reference", file=sys.stderr)
        return int(stale)
    FILE.write_text(fresh, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
