"""PROTOCOL.md's prose: the names and sections it speaks of exist, and none is forgotten.

Left to others: the generated parts (`test_generated`), the meaning (`test_second_reader_live`).
"""

from __future__ import annotations

import re
from itertools import product

from clawchat.core.wire.control import ControlType
from clawchat.core.wire.frames import FrameType
from clawchat.errors import CloseCode, Drop
from spec.__main__ import PROTOCOL
from spec.document import MARKED

TEXT = PROTOCOL.read_text(encoding="utf-8")
PROSE = MARKED.sub("", TEXT)
NAMED = set(re.findall(r"`([A-Z][A-Z_]+)`", PROSE))
OTHERS = {"CLAWCHAT_BOOTSTRAP_KEY", "HMAC"}
FILES_ONLY = {Drop.MALFORMED_BOOTSTRAP, Drop.MALFORMED_VARINT, Drop.MALFORMED_FRAME}
"""Reasons that decoders give inside; what they lead to is said in other words."""


def test_every_code_and_reason_in_the_prose_exists() -> None:
    known = {*CloseCode.__members__, *Drop.__members__, *FrameType.__members__}
    assert NAMED - known - {kind.name for kind in ControlType} - OTHERS == set()


def test_the_prose_says_when_each_drop_reason_and_each_close_code_is_used() -> None:
    reasons = {drop.name for drop in Drop if drop not in FILES_ONLY}
    assert reasons - NAMED == set()
    codes = {code.name for code in CloseCode} - {"DONE", "INTERNAL"}
    assert codes - NAMED == set()


def test_every_section_that_is_referred_to_exists() -> None:
    headings = set(re.findall(r"^#{2,3} (\d+(?:\.\d+)?)", TEXT, re.MULTILINE))
    own = re.findall(r"(?<!RFC)\b[Ss]ections? (\d+(?:\.\d+)?)", re.sub(r"RFC \d+,\s", "RFC", PROSE))
    cited = re.findall(r"RFC \d+,\s+section (\d+(?:\.\d+)?)", PROSE)
    assert set(own) - set(cited) - headings == set()


def test_every_section_that_code_and_documents_point_at_exists() -> None:
    numbered = dict(re.findall(r"^#{2,3} (\d+(?:\.\d+)?)\.? (.+)$", TEXT, re.MULTILINE))
    root, found = PROTOCOL.parent, set[str]()
    for folder, kind in product(
        ("clawchat", "spec", "tests", "fuzz", "bench", "docs"), ("py", "md")
    ):
        for file in (root / folder).rglob(f"*.{kind}"):
            text = file.read_text(encoding="utf-8")
            found.update(re.findall(r'PROTOCOL\.md,?\s+"([^"\\]+)"', text))
            found.update(re.findall(r"PROTOCOL\.md,?\s+(?:sections?\s+)?(\d+(?:\.\d+)?)", text))
    assert len(found) > 20
    assert {" ".join(name.split()) for name in found} - {*numbered, *numbered.values()} == set()


def test_the_table_of_contents_leads_to_every_section() -> None:
    listed = re.findall(r"^(\d+)\. \[([^]]+)\]\(#([^)]+)\)$", TEXT, re.MULTILINE)
    titles = re.findall(r"^## (\d+)\. (.+)$", TEXT, re.MULTILINE)
    assert [(number, title) for number, title, _ in listed] == titles
    for number, title, anchor in listed:
        words = re.sub(r"[^a-z0-9 -]", "", f"{number} {title}".lower())
        assert anchor == words.replace(" ", "-")


def test_every_promise_rests_on_evidence_that_exists() -> None:
    promises = re.search(r"### 21\.2 .*?(?=### 21\.3)", TEXT, re.DOTALL)
    evidence = re.search(r"### 21\.5 .*?(?=## 22\.)", TEXT, re.DOTALL)
    assert promises
    assert evidence
    numbered = re.findall(r"^(\d+)\. \*\*", promises[0], re.MULTILINE)
    assert re.findall(r"^\| (\d+) ", evidence[0], re.MULTILINE) == numbered
    root = PROTOCOL.parent
    paths = re.findall(r"`((?:tests|docs)/[\w/.]+)`", evidence[0])
    paths += [name.replace(".", "/") for name in re.findall(r"python -m ([\w.]+)", evidence[0])]
    assert paths
    assert [p for p in paths if not ((root / p).exists() or (root / f"{p}.py").exists())] == []
