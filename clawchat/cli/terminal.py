"""What reaches the user's terminal: data on stdout, talk on stderr, nothing that steers it.

Rules: text that came from elsewhere (an agent's reply, a peer's reason, a name) passes
`harmless` first, so that it can move no cursor, set no title, fill no clipboard and reverse no
reading direction. JSON is written as ASCII and needs no such care; a reply that goes to a file or
a program is left as it is.
Left to others: reading keys (`cli.line_editor`, `cli.prompt`).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import Any, TextIO

from clawchat.cli.failures import OutputFailed

JSON_VERSION = 1


def _table() -> dict[int, str | None]:
    table: dict[int, str | None] = {code: chr(0x2400 + code) for code in range(0x20)}
    table[0x09] = "\t"
    table[0x0A] = "\n"
    table[0x0D] = None  # alone it would write over the line; before \n it means nothing
    table[0x7F] = "\u2421"
    directions = [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]  # overrides, not mere marks
    replaced = [*range(0x80, 0xA0), *directions, *range(0xD800, 0xE000)]
    table.update(dict.fromkeys(replaced, "\ufffd"))
    return table


_HARMLESS = _table()


def harmless(text: str) -> str:
    """`text` with every control and direction character made visible; newlines and tabs stay."""
    return text.translate(_HARMLESS)


def one_line(text: str) -> str:
    """`text` as one harmless line, for names and reasons."""
    return harmless(" ".join(text.split()))


def describe(provider: str, model: str) -> str:
    """A provider and its model, for people."""
    return one_line(provider if model in ("", provider) else f"{provider} {model}")


def clock(unix: int) -> str:
    """A moment for people, in their own time."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix))
    except (OverflowError, OSError, ValueError):  # no time this computer knows
        return str(unix)


def say(text: str) -> None:
    """One line of talk, on stderr. A closed stderr is no reason to fail."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def put(text: str) -> None:
    """Data, on stdout, at once.

    Raises `BrokenPipeError` when nobody reads it any more, and `OutputFailed`.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailed(f"stdout cannot be written: {error.strerror or error}") from error


def put_text(text: str) -> None:
    """A reply, on stdout: harmless at a terminal, and as it is for a program or a file."""
    # Half a surrogate pair is no text, and cannot be written.
    put(harmless(text) if stdout_is_terminal() else text.encode("utf-8", "replace").decode())


def put_json(value: dict[str, Any]) -> None:
    """One JSON document of our versioned form on stdout, as one line of ASCII."""
    put(json.dumps({"version": JSON_VERSION, **value}) + "\n")


def stdin_is_terminal() -> bool:
    """Whether a person sits at the keyboard."""
    return _is_terminal(sys.stdin)


def stdout_is_terminal() -> bool:
    """Whether what we print is seen rather than processed."""
    return _is_terminal(sys.stdout)


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and bool(stream.isatty())
    except ValueError:  # closed
        return False


class Style:
    """A little colour, where the stream is a terminal and NO_COLOR is not set."""

    def __init__(self, stream: TextIO | None) -> None:
        plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb" or os.name == "nt"
        self.on = _is_terminal(stream) and not plain

    def dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self.on else text

    def bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self.on else text

    def accent(self, text: str) -> str:
        return f"\x1b[36m{text}\x1b[0m" if self.on else text
