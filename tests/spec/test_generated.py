"""What is generated is fresh, and the vectors are opened a second way.

Left to others: whether the tables are right (`tests/core/phases`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from clawchat.core.credential import Credential
from clawchat.core.crypto import bootstrap, envelope
from clawchat.core.crypto.packets import DIALER, LISTENER, OpenKeys
from clawchat.core.secret import Secret
from clawchat.core.wire.control import ControlReader
from clawchat.core.wire.frames import parse_frames
from clawchat.core.wire.parameters import decode_parameters
from clawchat.errors import BootstrapError, Malformed
from spec.__main__ import ROOT, VECTORS, left_over, outputs, stale
from spec.decode import verify

FILES = sorted(VECTORS.glob("*.json"))


def cases(what: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((VECTORS / f"{what}.json").read_text())["cases"]
    return found


def test_nothing_generated_is_stale() -> None:
    files = outputs()
    assert [str(path.relative_to(ROOT)) for path in (*stale(files), *left_over(files))] == []


def test_the_second_reader_opens_every_vector_without_importing_clawchat() -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['spec/decode.py', 'spec/vectors']\n"
        "try:\n    runpy.run_path('spec/decode.py', run_name='__main__')\n"
        "finally:\n    assert not [name for name in sys.modules if name.startswith('clawchat')]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" 0 wrong\n")


def test_the_second_reader_notices_a_wrong_vector(tmp_path: Path) -> None:
    vectors = json.loads((VECTORS / "credential.json").read_text())
    vectors["cases"][0]["out"]["psk"] = "00" * 32
    assert verify("credential", vectors["cases"][0]) == "differs in psk"
    (tmp_path / "credential.json").write_text(json.dumps(vectors))
    done = subprocess.run(
        [sys.executable, "spec/decode.py", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "differs in psk" in done.stdout


def test_every_vector_file_is_known_and_has_cases() -> None:
    assert len(FILES) >= 9
    for file in FILES:
        content = json.loads(file.read_text())
        assert content["what"] == file.stem
        assert content["cases"]


def test_a_vector_is_the_same_whenever_it_is_made() -> None:
    once, again = outputs(), outputs()
    assert once == again


# --- the refusals, by the code that runs --------------------------------------------------------


def given(case: dict[str, object]) -> dict[str, object]:
    inputs = case["in"]
    assert isinstance(inputs, dict)
    return inputs


@pytest.mark.parametrize(
    "case", [c for c in cases("frames") if "refused" in c], ids=lambda c: c["name"]
)
def test_a_payload_to_refuse_is_refused(case: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        parse_frames(bytes.fromhex(str(given(case)["payload"])))


@pytest.mark.parametrize(
    "case", [c for c in cases("control") if "refused" in c], ids=lambda c: c["name"]
)
def test_a_control_message_to_refuse_is_refused(case: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        ControlReader().feed(bytes.fromhex(str(given(case)["stream"])))


@pytest.mark.parametrize(
    "case", [c for c in cases("parameters") if "refused" in c], ids=lambda c: c["name"]
)
def test_parameters_to_refuse_are_refused(case: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        decode_parameters(bytes.fromhex(str(given(case)["parameters"])))


@pytest.mark.parametrize(
    "case", [c for c in cases("envelope") if "refused" in c], ids=lambda c: c["name"]
)
def test_an_envelope_to_refuse_is_refused(case: dict[str, object]) -> None:
    inputs = given(case)
    key = Credential(0, b"", Secret(bytes.fromhex(str(inputs["envelope_key"]))), Secret(b""))
    datagram = bytes.fromhex(str(inputs["datagram"]))
    with pytest.raises(Malformed):
        envelope.open_hello(key, datagram) if inputs["kind"] == "hello" else envelope.open_reply(
            key, datagram
        )


@pytest.mark.parametrize(
    "case", [c for c in cases("bootstrap") if "refused" in c], ids=lambda c: c["name"]
)
def test_a_bootstrap_file_to_refuse_is_refused_by_name(case: dict[str, object]) -> None:
    inputs = given(case)
    key = bootstrap.BootstrapKey(bootstrap.Kdf.KEY, Secret(bytes.fromhex(str(inputs["key"]))))
    with pytest.raises(BootstrapError, match=r"file\.sec"):
        bootstrap.open_bootstrap(bytes.fromhex(str(inputs["file"])), key, name="file.sec")


@pytest.mark.parametrize("case", cases("packets"), ids=lambda c: c["name"])
def test_a_packet_opens_or_does_not_as_its_vector_says(case: dict[str, object]) -> None:
    inputs = given(case)
    side = {"dialer": DIALER, "listener": LISTENER}[str(inputs["side"])]
    epoch, path_id, largest = (inputs[name] for name in ("epoch", "path_id", "largest_received"))
    assert isinstance(epoch, int)
    assert isinstance(path_id, int)
    assert isinstance(largest, int)
    keys = OpenKeys(Secret(bytes.fromhex(str(inputs["root"]))), epoch, side)
    datagram = bytes.fromhex(str(inputs["datagram"]))
    cid = keys.cid(path_id)
    (opened,) = keys.open(path_id, cid, [datagram], largest)
    out = case.get("out")
    if not isinstance(out, dict):
        assert opened is None or datagram[:8] != cid
    else:
        assert opened == (out["packet_number"], bytes.fromhex(out["payload"]))
