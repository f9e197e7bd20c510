"""Commands as a user runs them: what they print, and how they end."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clawchat.cli import reference
from clawchat.cli.app import run
from clawchat.cli.bootstrap_key import KEY_VARIABLE, PASSPHRASE_VARIABLE, new_key
from clawchat.cli.exit_codes import MEANING, ExitCode
from clawchat.core.actions import BootstrapContent
from clawchat.core.credential import Address
from clawchat.core.crypto.bootstrap import BootstrapKey, seal_bootstrap
from clawchat.core.secret import Secret
from clawchat.drivers.store import Ending, Store
from tests.cli.machine import Machine, paired
from tests.waiting import PATIENCE

SECRET = bytes(range(100, 132))


@pytest.fixture(autouse=True)
def clean_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty state folder, and no settings of the developer's."""
    for name in list(os.environ):
        if name.startswith(("CLAWCHAT_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CLAWCHAT_STATE_DIR", str(tmp_path / "state"))
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        yield tmp_path


def failing(code: ExitCode, *tokens: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail with `code`; the one line it says."""
    assert run(tokens) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("clawchat: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def key_file(folder: Path, text: str | None = None) -> str:
    path = folder / "key"
    path.write_text(text or new_key())
    path.chmod(0o600)
    return str(path)


def bootstrap_file(folder: Path, key: BootstrapKey, *, issued: int | None = None) -> Path:
    begin = int(time.time()) if issued is None else issued
    content = BootstrapContent(
        bytes(32), Secret(SECRET), bytes(range(16)), (Address("192.0.2.7", 5),), begin, begin + 660
    )
    path = folder / "clawchat-current.sec"
    path.write_bytes(seal_bootstrap(content, key, os.urandom))
    return path


# --- before anything is set up ----------------------------------------------------------------


@pytest.mark.parametrize("command", ["chat", "send hi", "ping", "connect", "rotate", "disconnect"])
def test_an_unpaired_device_is_told_how_to_pair(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = failing(ExitCode.NOT_PAIRED, *command.split(), capsys=capsys)
    assert "clawchat serve" in told
    assert "clawchat connect FILE" in told


def test_status_of_a_machine_without_anything_is_no_error_text_but_a_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["status", "--json"]) == ExitCode.NOT_PAIRED
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["peers"], told["serve"]) == (1, [], None)


@pytest.mark.parametrize(
    "tokens",
    [
        ["frobnicate"],
        ["chat", "--frobnicate"],
        ["serve", "--port", "70000"],
        ["serve", "--port", "x"],
        ["ping", "-c", "0"],
        ["chat", "--new", "--conversation", "c_1"],
        ["connect", "--name", "home"],
        ["send", ""],
    ],
)
def test_what_cannot_be_used_is_a_usage_error(
    tokens: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(ExitCode.USAGE, *tokens, capsys=capsys)


# --- keys -------------------------------------------------------------------------------------


def test_serve_without_a_key_says_every_way_to_give_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = failing(ExitCode.BOOTSTRAP, "serve", capsys=capsys)
    for way in (KEY_VARIABLE, PASSPHRASE_VARIABLE, "--key-file", "clawchat sec key"):
        assert way in told


def test_what_is_no_bootstrap_file_is_said_before_a_key_is_asked_for(
    clean_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing, foreign = clean_home / "missing.sec", clean_home / "letter.txt"
    foreign.write_text("Dear reader")
    for file, why in ((missing, "No such file"), (foreign, "not a ClawChat bootstrap file")):
        told = failing(ExitCode.BOOTSTRAP, "connect", str(file), capsys=capsys)
        assert why in told
        assert KEY_VARIABLE not in told


@pytest.mark.parametrize(
    ("name", "content", "advice"),
    [
        ("port", b"99999999\n", "--port"),
        ("port", b"\xff\xfe", "--port"),
        ("identity.json", b"{}", "restore it from a backup"),
    ],
)
def test_a_damaged_folder_of_the_listener_is_named_with_what_helps(
    clean_home: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes,
    advice: str,
) -> None:
    file = clean_home / "state" / "listener" / name
    file.parent.mkdir(parents=True, mode=0o700)
    file.write_bytes(content)
    serve = ("serve", "--ip", "127.0.0.1", "--key-file", key_file(clean_home))
    told = failing(ExitCode.STORE, *serve, capsys=capsys)
    assert str(file) in told
    assert advice in told


def test_a_key_file_that_others_can_read_is_refused(
    clean_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = key_file(clean_home)
    Path(path).chmod(0o644)
    assert f"chmod 600 {path}" in failing(
        ExitCode.BOOTSTRAP, "serve", "--key-file", path, capsys=capsys
    )


def test_an_empty_key_file_is_called_empty(
    clean_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = key_file(clean_home, "\n")
    told = failing(ExitCode.BOOTSTRAP, "serve", "--key-file", path, capsys=capsys)
    assert f"the key file {path} is empty" in told


def test_one_argument_too_many_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    told = failing(ExitCode.USAGE, "send", "a", "b c", capsys=capsys)
    assert "b c: more than this command takes" in told


def test_status_says_what_became_of_the_last_pairing(
    clean_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(clean_home / "state" / "device").destroy(bytes(16), Ending.REVOKED)
    assert run(["status"]) == ExitCode.NOT_PAIRED
    assert "00000000 was revoked by the listener" in capsys.readouterr().out


def test_a_key_made_into_a_file_is_private_and_never_overwritten(
    clean_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = clean_home / "new.key"
    assert run(["sec", "key", "--out", str(path)]) == 0
    made = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made.strip() not in capsys.readouterr().err
    failing(ExitCode.BOOTSTRAP, "sec", "key", "--out", str(path), capsys=capsys)
    assert path.read_text() == made


def test_a_key_on_stdout_is_all_that_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sec", "key"]) == 0
    BootstrapKey.from_base64url(capsys.readouterr().out)


def test_secrets_leave_the_environment_once_they_are_read(
    clean_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, new_key())
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "correct horse battery staple")
    file = bootstrap_file(clean_home, BootstrapKey.from_base64url(new_key()))
    told = failing(ExitCode.USAGE, "connect", str(file), capsys=capsys)
    assert KEY_VARIABLE in told
    assert not {KEY_VARIABLE, PASSPHRASE_VARIABLE} & set(os.environ)


@pytest.mark.parametrize("text", ["a", "elevenchars"])
def test_a_passphrase_that_can_be_guessed_seals_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    monkeypatch.setenv(PASSPHRASE_VARIABLE, text)
    told = failing(ExitCode.BOOTSTRAP, "serve", capsys=capsys)
    assert "12 or more" in told


def test_no_option_takes_a_secret() -> None:
    for word in ("--key ", "--passphrase", "--api-key", "--token"):
        assert word not in reference.text()


# --- bootstrap files --------------------------------------------------------------------------


def test_show_tells_what_a_file_holds_but_no_secret(
    clean_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = new_key()
    path = bootstrap_file(clean_home, BootstrapKey.from_base64url(text))
    assert run(["sec", "show", str(path), "--json"]) == 0
    outside = json.loads(capsys.readouterr().out)
    assert outside["sealed_with"] == "a key"
    assert "candidates" not in outside
    assert run(["sec", "show", str(path), "--json", "--key-file", key_file(clean_home, text)]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["candidates"] == ["192.0.2.7:5"]
    assert SECRET.hex() not in out


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda data: data[:60], "copy it again"),
        (lambda data: b"PK" + data, "not a ClawChat bootstrap file"),
        (lambda data: data[:7] + b"\x09" + data[8:], "newer ClawChat"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "does not open with this key"),
        (lambda data: data + b"x", "copy it again"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_next_step(
    clean_home: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: object,
    word: str,
) -> None:
    text = new_key()
    path = bootstrap_file(clean_home, BootstrapKey.from_base64url(text))
    assert callable(spoil)
    path.write_bytes(spoil(path.read_bytes()))
    told = failing(
        ExitCode.BOOTSTRAP,
        *("connect", str(path), "--key-file", key_file(clean_home, text)),
        capsys=capsys,
    )
    assert str(path) in told
    assert word in told


def test_an_old_file_is_warned_about_when_shown(
    clean_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = new_key()
    path = bootstrap_file(clean_home, BootstrapKey.from_base64url(text), issued=1_700_000_000)
    assert run(["sec", "show", str(path), "--key-file", key_file(clean_home, text)]) == 0
    assert "expired" in capsys.readouterr().out


def test_a_further_file_needs_a_running_listener(capsys: pytest.CaptureFixture[str]) -> None:
    assert "clawchat serve" in failing(ExitCode.NO_LINK, "sec", "new", capsys=capsys)


# --- the listener's and the agent's options -----------------------------------------------------


def test_an_agent_that_does_not_answer_is_said_before_anything_is_served(
    clean_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = failing(
        ExitCode.AGENT,
        *("serve", "--key-file", key_file(clean_home), "--agent-url", "http://127.0.0.1:9"),
        capsys=capsys,
    )
    assert "clawchat agent --port 9" in told


@pytest.mark.parametrize(
    ("tokens", "word"),
    [
        (["--agent-url", "https://example.com"], "--agent-url"),
        (["--ip", "192.0.2.99"], "--ip"),
        (["--ip", "no..name"], "--ip"),
        (["--advertise", "no such host.invalid"], "--advertise"),
        (["--provider", "openai"], "OPENAI_API_KEY"),
        (["--provider", "nobody"], "echo"),
        (["--base-url", "http://127.0.0.1:9/v1"], "--base-url belongs to --provider openai"),
        (["--model", "small"], "--model belongs to --provider openai"),
        (["--agent-url", "http://127.0.0.1:9", "--provider", "echo"], "leave out"),
    ],
)
def test_serve_names_the_option_at_fault(
    clean_home: Path, tokens: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = failing(
        ExitCode.USAGE, "serve", "--key-file", key_file(clean_home), *tokens, capsys=capsys
    )
    assert word in told


def test_a_state_folder_that_is_a_file_is_named_with_its_option(
    clean_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (clean_home / "state").write_text("not a folder")
    for command in (["status"], ["agent", "--port", "0"], ["chat"]):
        told = failing(ExitCode.STORE, *command, capsys=capsys)
        assert str(clean_home / "state") in told
        assert "--state-dir" in told


# --- what goes in and out -----------------------------------------------------------------------


@pytest.mark.parametrize("command", [["send"], ["send", "-"], ["chat"]])
def test_what_is_not_utf_8_is_refused_and_not_altered(
    server: Machine, device: Machine, command: list[str]
) -> None:
    paired(server, device)
    done = subprocess.run(
        device.command(*command),
        env=device.variables,
        input=b"caf\xe9\n",
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert b"stdin is not UTF-8 text" in done.stderr
    assert done.stdout == b""


def test_an_argument_that_is_not_utf_8_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "TEXT is not UTF-8" in failing(
        ExitCode.USAGE, "send", os.fsdecode(b"caf\xe9"), capsys=capsys
    )


def test_a_reply_reaches_a_program_unaltered(server: Machine, device: Machine) -> None:
    paired(server, device)
    text = "\x1b[31mred\x00\u202e end"
    done = device.run("send", stdin=text)  # the agent says it again
    assert (done.returncode, done.stdout) == (0, text + "\n"), done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full")
@pytest.mark.parametrize("tokens", [["sec", "key"], ["--help"], ["status"]])
def test_a_full_stdout_is_one_line_and_a_failure(device: Machine, tokens: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            device.command(*tokens),
            env=device.variables,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("clawchat: ")
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


# --- Ctrl-C -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["connect"], ["connect", "--once"], ["rotate"]])
def test_ctrl_c_while_nobody_answers_is_no_success_and_no_traceback(
    server: Machine, device: Machine, command: list[str]
) -> None:
    paired(server, device).stop()
    dialling = device.start(*command)
    dialling.wait_for("no answer yet")
    assert dialling.interrupt() == ExitCode.CANCELLED
    assert "Traceback" not in dialling.said
    assert "the link is closed" not in dialling.said


def test_ctrl_c_before_the_command_is_there_is_no_traceback() -> None:
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'cyclopts': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from clawchat.cli import main\n"
        "main(['status'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.CANCELLED, "", "")


# --- the whole ----------------------------------------------------------------------------------


def test_every_exit_code_is_explained() -> None:
    assert set(MEANING) == set(ExitCode)


def test_the_reference_is_what_the_code_says() -> None:
    assert reference.main(["--check"]) == 0, "run python -m clawchat.cli.reference"


def test_help_starts_without_the_heavy_libraries() -> None:
    heavy = "{'trio', 'httpx2', 'starlette', 'cryptography', 'openai', 'apsw', 'transitions'}"
    code = (
        "import sys\nfrom clawchat.cli.app import run\nrun(['--help'])\n"
        f"assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_command_leaves_the_log_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what is logged later in this process goes to a stream that is closed by then."""
    log = logging.getLogger("clawchat")
    before = (log.handlers[:], log.level)
    monkeypatch.setenv("CLAWCHAT_DEBUG", "1")
    assert run(["chat"]) == ExitCode.NOT_PAIRED
    assert (log.handlers, log.level) == before


def test_a_traceback_comes_only_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLAWCHAT_DEBUG", "1")
    assert run(["chat"]) == ExitCode.NOT_PAIRED
    assert "Traceback" in capsys.readouterr().err
