"""Editing a line, key by key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from clawchat.cli.line_editor import Key, LineEditor

UP, DOWN, RIGHT, LEFT = b"\x1b[A", b"\x1b[B", b"\x1b[C", b"\x1b[D"
HOME, END, DELETE = b"\x1b[H", b"\x1b[F", b"\x1b[3~"


def typed(*keys: bytes) -> LineEditor:
    editor = LineEditor()
    for key in keys:
        editor.feed(key)
    return editor


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ((b"abc", LEFT, b"X"), "abXc"),
        ((b"abc", HOME, b"X", END, b"Y"), "XabcY"),
        ((b"abc", b"\x7f"), "ab"),
        ((b"abc", HOME, DELETE), "bc"),
        ((b"abc", HOME, b"\x04"), "bc"),
        ((b"one two", b"\x17"), "one "),
        ((b"one two", b"\x17", b"\x19", b"\x19"), "one twotwo"),
        ((b"one two", b"\x15", b"new"), "new"),
        ((b"one two", b"\x1b[1;5D", b"\x0b"), "one "),
        ((b"one two", HOME, b"\x1bf", b"!"), "one! two"),
        (("grüße".encode(), LEFT, LEFT, b"\x7f"), "grße"),
    ],
)
def test_keys_edit_as_a_shell_user_expects(keys: tuple[bytes, ...], line: str) -> None:
    assert typed(*keys).line == line


def test_characters_and_sequences_may_come_in_pieces() -> None:
    whole = "é😀".encode() + LEFT + b"x"
    assert typed(*(bytes([byte]) for byte in whole)).line == "éx😀"


def test_enter_ends_the_line_and_what_follows_waits() -> None:
    editor = LineEditor()
    assert editor.feed(b"first\rsecond\r") is Key.ENTER
    assert editor.take() == "first"
    assert editor.feed(b"") is Key.ENTER
    assert editor.take() == "second"
    assert editor.feed(b"") is None


def test_control_d_ends_the_input_only_on_an_empty_line() -> None:
    assert LineEditor().feed(b"\x04") is Key.END_OF_INPUT
    assert LineEditor().feed(b"a\x04") is None


def test_a_paste_keeps_its_newlines_and_runs_no_keys() -> None:
    editor = typed(b"\x1b[200~one\r\x01two\x1b[201~!")
    assert editor.line == "one\ntwo!"
    assert editor.view(80)[0] == "one⏎two!"


def test_the_arrows_walk_through_earlier_lines_and_back_to_the_draft() -> None:
    editor = LineEditor()
    for line in (b"one\r", b"two\r"):
        editor.feed(line)
        editor.take()
    editor.feed(b"draft" + UP)
    assert editor.line == "two"
    editor.feed(UP + UP)
    assert editor.line == "one"
    editor.feed(DOWN + DOWN + DOWN)
    assert editor.line == "draft"


def test_unknown_keys_leave_no_trace() -> None:
    assert typed(b"a\x1b[15~\x1b[99;9X\x1bOP\x1bzb\x00\x02\x02").line == "ab"


@given(
    st.lists(
        st.one_of(st.binary(max_size=8), st.sampled_from([UP, LEFT, HOME, END, b"\x1b[200~"]))
    ),
    st.integers(2, 40),
)
def test_no_keys_break_the_editor_or_overflow_its_row(keys: list[bytes], width: int) -> None:
    editor = LineEditor()
    for key in keys:
        if editor.feed(key) is Key.ENTER:
            editor.take()
        assert 0 <= editor.cursor <= len(editor.line)
        shown, column = editor.view(width)
        assert cell_len(shown) <= width
        assert 0 <= column <= max(cell_len(shown), 0)
        assert not any(char < " " or char == "\x7f" for char in shown)
