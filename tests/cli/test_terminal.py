"""What reaches the user's terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawchat.cli.terminal import harmless, one_line, put_json


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("a\x1b]0;title\x07b", "a␛]0;title␇b"),
        ("\x1b[2Jgone", "␛[2Jgone"),
        ("\x9b2J", "\ufffd2J"),
        ("secret\rpublic", "secretpublic"),
        ("a\u202eb", "a\ufffdb"),
        ("del\x7f", "del␡"),
        ("tab\tand\nnewline", "tab\tand\nnewline"),
        ("shalom שלום 😀 é", "shalom שלום 😀 é"),
    ],
)
def test_a_reply_cannot_steer_the_terminal(sent: str, shown: str) -> None:
    assert harmless(sent) == shown


@given(st.text())
def test_nothing_but_newlines_and_tabs_controls_anything(text: str) -> None:
    left = harmless(text).replace("\n", "").replace("\t", "")
    assert all(ord(char) >= 0x20 and not 0x7F <= ord(char) < 0xA0 for char in left)
    left.encode()


def test_names_and_reasons_stay_on_one_line() -> None:
    assert one_line("a\n\n b\x1b") == "a b␛"


def test_json_is_one_versioned_line_of_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    put_json({"reply": "é\x1b\n"})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.isascii()
    assert "\x1b" not in out
    assert json.loads(out) == {"version": 1, "reply": "é\x1b\n"}
