"""The keyboard and the screen of a chat: asks for lines, prints replies, keeps the two apart.

    Prompt            a line at a time, and the user's Ctrl-C
      TerminalPrompt  a person at a terminal: editing, history, notes above the line
      PlainPrompt     a pipe, a file, or a console without termios: whole lines

Rules: the prompt and notes go to stderr, replies to stdout; Ctrl-C reaches a `Prompt` as a call of
`interrupted`, never as an exception in the middle of things; the terminal is left as it was found.
Left to others: what a line means (`cli.chat`), editing (`cli.line_editor`).
"""

from __future__ import annotations

import codecs
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from clawchat.cli.failures import Usage
from clawchat.cli.line_editor import Key, LineEditor
from clawchat.cli.terminal import Style, harmless, put, put_text, say, stdin_is_terminal

_PASTE_ON, _PASTE_OFF = "\x1b[?2004h", "\x1b[?2004l"
_CLEAR_ROW = "\r\x1b[K"


class Prompt(Protocol):
    """What a chat needs of keyboard and screen."""

    interrupted: Callable[[], None]
    style: Style

    async def ask(self, question: str) -> str | None:
        """The next line; None at the end of the input."""

    def clear(self) -> bool:
        """Throw away what is being written; False when there was nothing."""

    def note(self, text: str) -> None:
        """Say something on stderr without disturbing what is on the screen."""

    def history(self, text: str) -> None:
        """Something that was said earlier, harmless already."""

    def reply_begins(self, who: str) -> None:
        """A reply follows."""

    def reply(self, text: str) -> None:
        """The next piece of a reply on stdout, made harmless for a terminal."""

    def reply_over(self) -> None:
        """The reply is complete."""


class _Screen:
    """What both kinds share: replies on stdout, and which column they left off in."""

    def __init__(self) -> None:
        self.style = Style(sys.stderr)
        self.interrupted: Callable[[], None] = lambda: None
        self._within_line = False

    def note(self, text: str) -> None:
        if self._within_line:
            say("")
            self._within_line = False
        for line in text.splitlines():
            say(self.style.dim(harmless(line)))

    def history(self, text: str) -> None:
        say(text)

    def reply_begins(self, who: str) -> None:
        pass

    def reply(self, text: str) -> None:
        shown = harmless(text)
        if shown:
            put_text(text)
            self._within_line = not shown.endswith("\n")

    def reply_over(self) -> None:
        if self._within_line:
            put("\n")
            self._within_line = False


class PlainPrompt(_Screen):
    """Lines from something that is not a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._buffer = ""
        self._ended = False

    async def ask(self, question: str) -> str | None:
        while "\n" not in self._buffer and not self._ended:
            data = await trio.to_thread.run_sync(_read_some, abandon_on_cancel=True)
            self._ended = not data
            try:
                self._buffer += self._decoder.decode(data, final=self._ended)
            except UnicodeDecodeError:
                raise Usage("stdin is not UTF-8 text: convert it first") from None
        if not self._buffer:
            return None
        line, _, self._buffer = self._buffer.partition("\n")
        return line.rstrip("\r")

    def clear(self) -> bool:
        return False


def _read_some() -> bytes:
    # Neither sys.stdin nor its buffer: their locks would be held by an abandoned thread at exit.
    raw = getattr(getattr(sys.stdin, "buffer", None), "raw", None)
    if raw is None:
        return b""
    return raw.read(64 * 1024) or b""


class TerminalPrompt(_Screen):
    """A person at a terminal. Use through `open_prompt`, which prepares the terminal."""

    def __init__(self, mode: _Terminal) -> None:
        super().__init__()
        self._mode = mode
        self._editor = LineEditor()
        self._question: str | None = None

    async def ask(self, question: str) -> str | None:
        self._question = question
        self._mode.deliver_control_c(as_key=True)  # in its place among the other keys
        self.redraw()
        try:
            ended = await self._edit()
        except BaseException:
            _draw("\n")
            raise
        finally:
            self._question = None
            self._mode.deliver_control_c(as_key=False)
        line = harmless(self._editor.line)  # all of it, now that it needs no row of its own
        _draw(f"{_CLEAR_ROW}{self.style.accent(question)}{line}\n")
        if ended is Key.END_OF_INPUT:
            return None
        return self._editor.take()

    async def _edit(self) -> Key:
        """Take keys until the line ends."""
        ended = self._editor.feed(b"")
        while ended is None or ended is Key.INTERRUPT:
            if ended is Key.INTERRUPT:
                self.interrupted()
                ended = self._editor.feed(b"")
            else:
                await trio.lowlevel.wait_readable(sys.stdin.fileno())
                data = os.read(sys.stdin.fileno(), 4096)
                ended = self._editor.feed(data) if data else Key.END_OF_INPUT
            self.redraw()
        return ended

    def clear(self) -> bool:
        had = bool(self._editor.line)
        self._editor.clear()
        if self._question is not None:
            self.redraw()
        return had

    def note(self, text: str) -> None:
        if self._question is not None:
            _draw(_CLEAR_ROW)
        super().note(text)
        if self._question is not None:
            self.redraw()

    def reply_begins(self, who: str) -> None:
        _draw(self.style.bold(who))
        self._within_line = True

    def redraw(self) -> None:
        """Draw the line being written; harmless when none is."""
        if self._question is None:
            return
        columns = shutil.get_terminal_size().columns
        shown, column = self._editor.view(max(columns - len(self._question) - 1, 8))
        back = f"\r\x1b[{len(self._question) + column}C"
        _draw(f"{_CLEAR_ROW}{self.style.accent(self._question)}{shown}{back}")


def _draw(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


@asynccontextmanager
async def open_prompt() -> AsyncIterator[Prompt]:
    """The prompt that fits stdin, with the terminal prepared and Ctrl-C caught meanwhile."""
    async with trio.open_nursery() as nursery:
        if stdin_is_terminal() and _HAS_TERMIOS and os.environ.get("TERM") != "dumb":
            with (
                _Terminal(sys.stdin.fileno()) as mode,
                trio.open_signal_receiver(*_TERMINAL_SIGNALS) as signals,
            ):
                terminal = TerminalPrompt(mode)
                nursery.start_soon(_dispatch, signals, terminal, mode)
                yield terminal
                nursery.cancel_scope.cancel()
        else:
            plain = PlainPrompt()
            with trio.open_signal_receiver(signal.SIGINT) as signals:
                nursery.start_soon(_dispatch, signals, plain, None)
                yield plain
                nursery.cancel_scope.cancel()


async def _dispatch(
    signals: AsyncIterator[int], prompt: PlainPrompt | TerminalPrompt, mode: _Terminal | None
) -> None:
    async for number in signals:
        if number == signal.SIGINT:
            prompt.interrupted()
            continue
        if mode is not None and number != _RESIZED:  # we were stopped, and the shell had its way
            mode.prepare()
        if isinstance(prompt, TerminalPrompt):
            prompt.redraw()


try:
    import termios
except ImportError:  # pragma: no cover - Windows
    _HAS_TERMIOS = False
    _RESIZED = None
    _TERMINAL_SIGNALS: tuple[signal.Signals, ...] = (signal.SIGINT,)
else:
    _HAS_TERMIOS = True
    _RESIZED = signal.SIGWINCH
    _TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGWINCH, signal.SIGCONT)


_NO_KEY = b"\0"  # _POSIX_VDISABLE on the systems we know


class _Terminal:
    """Keys at once and unechoed, pastes marked; everything as before at the end."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._before = termios.tcgetattr(file)
        self._interrupt = self._before[6][termios.VINTR]
        self._as_key = False

    def deliver_control_c(self, *, as_key: bool) -> None:
        """As a key among others, or, as usual, as a signal at once."""
        self._as_key = as_key
        self._set()

    def prepare(self) -> None:
        """Set the terminal up, at first and after somebody else had it."""
        self._set()
        _draw(_PASTE_ON)

    def _set(self) -> None:
        mode = termios.tcgetattr(self._file)
        mode[0] &= ~(termios.ICRNL | termios.IXON)
        mode[3] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        mode[6][termios.VINTR] = _NO_KEY if self._as_key else self._interrupt
        termios.tcsetattr(self._file, termios.TCSADRAIN, mode)

    def __enter__(self) -> _Terminal:
        self.prepare()
        return self

    def __exit__(self, *_: object) -> None:
        _draw(_PASTE_OFF)
        termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)
