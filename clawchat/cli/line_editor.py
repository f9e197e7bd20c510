"""Editing one line of text: keys in, line and screen column out. No terminal in here.

Rules: takes bytes as they come, in any pieces; what is not understood is ignored, never shown.
A pasted newline stays inside the line (shown as ⏎); Enter ends it. The view is one row that
scrolls sideways, so that no terminal's wrapping rules matter.
Left to others: reading the keys, drawing (`cli.prompt`).
"""

from __future__ import annotations

import codecs
from enum import Enum

from rich.cells import cell_len

from clawchat.cli.terminal import harmless

HISTORY_MAX = 200
LINE_MAX = 64 * 1024  # characters; more is ignored, as a paste gone wrong
_SEQUENCE_MAX = 32  # bytes of one escape sequence

PASTE_BEGIN, PASTE_END = "\x1b[200~", "\x1b[201~"


class Key(Enum):
    """What ends an edit, or at least asks for attention."""

    ENTER = "enter"
    END_OF_INPUT = "end of input"
    INTERRUPT = "interrupt"


class LineEditor:
    """The line being written. `feed` takes keys; `line`, `cursor` and `view` say what to show."""

    def __init__(self) -> None:
        self.line = ""
        self.cursor = 0
        self._history: list[str] = []
        self._at = 0  # where in the history the line is; len(history) is the new line
        self._draft = ""
        self._killed = ""
        self._pasting = False
        self._sequence = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        self._waiting = ""  # keys that came after the one that ended the line

    # --- keys -------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> Key | None:
        """Take keys, up to one that ends the line; the rest waits for the next call."""
        keys = self._waiting + self._decoder.decode(data)
        for place, char in enumerate(keys):
            ended = self._key(char)
            if ended is not None:
                self._waiting = keys[place + 1 :]
                return ended
        self._waiting = ""
        return None

    def take(self) -> str:
        """The finished line, remembered in the history; the editor is empty afterwards."""
        line = self.line
        if line.strip() and (not self._history or self._history[-1] != line):
            self._history.append(line)
            del self._history[:-HISTORY_MAX]
        self.clear()
        return line

    def clear(self) -> None:
        """Throw the line away."""
        self.line, self.cursor, self._draft = "", 0, ""
        self._at = len(self._history)

    def _key(self, char: str) -> Key | None:
        if self._sequence or char == "\x1b":
            self._escape(char)
            return None
        if self._pasting:
            self._insert("\n" if char == "\r" else char)
            return None
        if char in "\r\n":
            return Key.ENTER
        if char == "\x03":
            return Key.INTERRUPT
        if char == "\x04":
            if not self.line:
                return Key.END_OF_INPUT
            self._delete(self.cursor, self.cursor + 1)
            return None
        action = _CONTROL.get(char)
        if action is not None:
            action(self)
        elif char >= " ":
            self._insert(char)
        return None

    def _escape(self, char: str) -> None:
        self._sequence += char
        known = self._sequence
        if known == PASTE_BEGIN:
            self._pasting = True
        elif known == PASTE_END:
            self._pasting = False
        elif known in _SEQUENCES:
            if not self._pasting:
                _SEQUENCES[known](self)
        elif not _is_finished(known):
            return
        self._sequence = ""

    def _insert(self, char: str) -> None:
        if len(self.line) < LINE_MAX and (char >= " " or char in "\n\t") and char != "\x7f":
            self.line = self.line[: self.cursor] + char + self.line[self.cursor :]
            self.cursor += 1

    def _delete(self, begin: int, end: int) -> str:
        begin = max(begin, 0)
        gone = self.line[begin:end]
        self.line = self.line[:begin] + self.line[end:]
        self.cursor = begin
        return gone

    # --- what single keys do ----------------------------------------------------------------------

    def backspace(self) -> None:
        if self.cursor:
            self._delete(self.cursor - 1, self.cursor)

    def delete(self) -> None:
        self._delete(self.cursor, self.cursor + 1)

    def left(self) -> None:
        self.cursor = max(self.cursor - 1, 0)

    def right(self) -> None:
        self.cursor = min(self.cursor + 1, len(self.line))

    def home(self) -> None:
        self.cursor = 0

    def end(self) -> None:
        self.cursor = len(self.line)

    def word_left(self) -> None:
        self.cursor = self._word_start()

    def word_right(self) -> None:
        rest = self.line[self.cursor :]
        skipped = len(rest) - len(rest.lstrip())
        word = rest[skipped:].split(maxsplit=1)
        self.cursor += skipped + (len(word[0]) if word else 0)

    def kill_word(self) -> None:
        self._killed = self._delete(self._word_start(), self.cursor)

    def kill_before(self) -> None:
        self._killed = self._delete(0, self.cursor)

    def kill_after(self) -> None:
        self._killed = self._delete(self.cursor, len(self.line))

    def yank(self) -> None:
        for char in self._killed:
            self._insert(char)

    def older(self) -> None:
        if self._at == len(self._history):
            self._draft = self.line
        self._show(max(self._at - 1, 0))

    def newer(self) -> None:
        self._show(min(self._at + 1, len(self._history)))

    def _show(self, at: int) -> None:
        if at != self._at:
            self._at = at
            self.line = self._history[at] if at < len(self._history) else self._draft
            self.cursor = len(self.line)

    def _word_start(self) -> int:
        before = self.line[: self.cursor].rstrip()
        cut = max(before.rfind(" "), before.rfind("\n"))
        return cut + 1

    # --- the row to show --------------------------------------------------------------------------

    def view(self, width: int) -> tuple[str, int]:
        """What fits into `width` cells around the cursor, and the cursor's cell in it."""
        shown = [_glyph(char) for char in self.line]
        widths = [cell_len(glyph) for glyph in shown]
        room = max(width - 1, 1)  # the cursor stands behind the last character
        begin, before = self.cursor, 0
        while begin and before + widths[begin - 1] <= room * 3 // 4:
            begin -= 1
            before += widths[begin]
        end, used = self.cursor, before
        while end < len(shown) and used + widths[end] <= room:
            used += widths[end]
            end += 1
        while begin and used + widths[begin - 1] <= room:
            begin -= 1
            used += widths[begin]
            before += widths[begin]
        return "".join(shown[begin:end]), before


def _glyph(char: str) -> str:
    if char == "\n":
        return "⏎"
    return " " if char == "\t" else harmless(char) or "\ufffd"


def _is_finished(sequence: str) -> bool:
    if len(sequence) >= _SEQUENCE_MAX:
        return True
    if len(sequence) == 1:
        return False
    if sequence[1] == "[":
        return len(sequence) > 2 and "@" <= sequence[-1] <= "~"
    return not (sequence[1] == "O" and len(sequence) == 2)


_CONTROL = {
    "\x01": LineEditor.home,
    "\x02": LineEditor.left,
    "\x05": LineEditor.end,
    "\x06": LineEditor.right,
    "\x08": LineEditor.backspace,
    "\x0b": LineEditor.kill_after,
    "\x0e": LineEditor.newer,
    "\x10": LineEditor.older,
    "\x15": LineEditor.kill_before,
    "\x17": LineEditor.kill_word,
    "\x19": LineEditor.yank,
    "\x7f": LineEditor.backspace,
}

_SEQUENCES = {
    "\x1b[A": LineEditor.older,
    "\x1bOA": LineEditor.older,
    "\x1b[B": LineEditor.newer,
    "\x1bOB": LineEditor.newer,
    "\x1b[C": LineEditor.right,
    "\x1bOC": LineEditor.right,
    "\x1b[D": LineEditor.left,
    "\x1bOD": LineEditor.left,
    "\x1b[H": LineEditor.home,
    "\x1bOH": LineEditor.home,
    "\x1b[1~": LineEditor.home,
    "\x1b[F": LineEditor.end,
    "\x1bOF": LineEditor.end,
    "\x1b[4~": LineEditor.end,
    "\x1b[3~": LineEditor.delete,
    "\x1b[1;5D": LineEditor.word_left,
    "\x1bb": LineEditor.word_left,
    "\x1b[1;5C": LineEditor.word_right,
    "\x1bf": LineEditor.word_right,
    "\x1b\x7f": LineEditor.kill_word,
}
