"""The list of commands, and running one of them.

Rules: a command is named here with its help and imported only when it runs; whatever it raises
becomes one line and an exit code.
Left to others: each command (its own file), what failures mean (`cli.failures`).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TextIO

from cyclopts import App, CycloptsError, Group, Parameter, UnusedCliTokensError

from clawchat.cli.exit_codes import ExitCode

OVERVIEW = """Chat with your own agent over an encrypted link.

Try `clawchat demo` first. On the machine with the agent run `clawchat serve`; copy the bootstrap
file it publishes to your other device and run `clawchat connect FILE` there, then `clawchat chat`.
"""

TALK = Group("Talk", sort_key=1)
LINK = Group("The link", sort_key=2)
HOST = Group("The agent's machine", sort_key=3)
REST = Group("Besides", sort_key=4)

COMMANDS: tuple[tuple[str, Group, str], ...] = (
    (
        "demo",
        TALK,
        """See it all at work on this machine.

        Runs an agent, a listener and a device as separate processes that talk over a real
        encrypted UDP link on the loopback address, and lets you chat. Everything is kept in a
        temporary folder and is gone at the end.""",
    ),
    (
        "chat",
        TALK,
        """Chat with the agent.

        Shows the end of the conversation and lets you go on with it; replies appear as they are
        written, and go on where they were when the link was lost in between. Ctrl-C stops a
        reply; at an empty prompt it leaves. Without a terminal, each line of stdin is a
        message.""",
    ),
    (
        "send",
        TALK,
        """Send one message and print the reply.

        The reply streams to stdout. TEXT `-`, or none, reads the message from stdin. Put `--`
        before a TEXT that begins with a hyphen.""",
    ),
    (
        "connect",
        LINK,
        """Pair with a listener, or hold the link to it.

        With FILE: redeem the bootstrap file, which pairs this device, and hold the link. Without:
        hold the link to a listener this device is paired with. Other commands share the link
        while it is held, and make one of their own when none is.""",
    ),
    (
        "status",
        LINK,
        """Say how this machine is set up, and how the link is doing.

        Dials when no process holds the link, unless --offline says not to.""",
    ),
    ("ping", LINK, "Measure the round trip time over the link."),
    ("rotate", LINK, "Change the keys of the link now, by the post-quantum ratchet; or its port."),
    (
        "panic",
        LINK,
        """Destroy this machine's pairings, here and on the other side.

        For a device that was lost, a file that leaked, a machine that had a visitor. On a device
        and on the agent's machine alike: keys and credentials are wiped in memory and on disk, a
        bootstrap file is withdrawn, and every peer that can be reached is told to do the same.
        Asks first. Prints what was destroyed, and whether the peer confirmed.""",
    ),
    ("disconnect", LINK, "End the process that holds the link."),
    (
        "serve",
        HOST,
        """Listen for your devices and carry their requests to the agent.

        Publishes a bootstrap file when no device is paired yet. Runs an agent inside, unless
        --agent-url names one that runs already. Ctrl-C ends it.""",
    ),
    (
        "agent",
        HOST,
        """Run the agent alone, on the loopback address.

        For `clawchat serve --agent-url`, or for programs on this machine. `clawchat serve` runs
        an agent by itself. Ctrl-C ends it.""",
    ),
)

DEVICES_HELP = """List whom this machine is paired with; name, revoke, forget.

On the agent's machine its devices, on a device its listeners: name, fingerprint, when paired, when
last seen, generation of the credential, and whether a link is up. Warnings about credentials that
were used by others, or too late, are shown on both until you acknowledge them there."""

SEC_HELP = """Bootstrap files and their keys.

A bootstrap file pairs one device. It is sealed under your bootstrap key, which both machines
need: CLAWCHAT_BOOTSTRAP_KEY, CLAWCHAT_BOOTSTRAP_PASSPHRASE, --key-file, or typed in."""

SEC_COMMANDS: tuple[tuple[str, str], ...] = (
    ("key", "Make a bootstrap key, on stdout or in a file."),
    (
        "new",
        """Have the running listener publish a file for a further device.

        Asks the `clawchat serve` of this machine.""",
    ),
    (
        "show",
        """Say what a bootstrap file holds, but never its secrets.

        Without the key, what can be told without it.""",
    ),
)


def _version() -> str:
    try:
        return f"clawchat {version('clawchat')}"
    except PackageNotFoundError:
        return "clawchat (not installed)"


def _flowing(text: str) -> str:
    """`text` with each paragraph on one line, for the terminal's width to wrap."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


def make_app(*, plain: bool = False) -> App:
    """The command line as Cyclopts sees it; `plain` without boxes in its help."""
    app = App(
        name="clawchat",
        help=_flowing(OVERVIEW),
        version=_version,
        backend="trio",
        suppress_keyboard_interrupt=False,
        help_format="plaintext",
        help_formatter="plain" if plain else "default",
        default_parameter=Parameter(show_default=False),
    )
    for place, (name, group, help_text) in enumerate(COMMANDS):
        home = f"clawchat.cli.{name}:{name}"
        app.command(home, name=name, help=_flowing(help_text), group=group, sort_key=place)
    app.command(
        "clawchat.cli.devices:app",
        name="devices",
        help=_flowing(DEVICES_HELP),
        group=LINK,
        sort_key=len(COMMANDS),
    )
    sec = App(name="sec", help=_flowing(SEC_HELP), group=HOST, sort_key=len(COMMANDS))
    for place, (name, help_text) in enumerate(SEC_COMMANDS):
        sec.command(f"clawchat.cli.sec:{name}", name=name, help=_flowing(help_text), sort_key=place)
    app.command(sec)
    app["--help"].group = app["--version"].group = REST
    return app


def run(tokens: Sequence[str]) -> int:
    """Run the command in `tokens`; the exit code. What went wrong is said on stderr."""
    code, logged = _run(tokens)
    trouble = _trouble_with_stdout()
    if trouble is None:
        return code
    _let_go_of_stdout()
    if isinstance(trouble, BrokenPipeError):
        return ExitCode.FAILURE
    return code or _failed(trouble, logged)


def _trouble_with_stdout() -> Exception | None:
    """What keeps that from being written which is not written yet."""
    from clawchat.cli.failures import OutputFailed

    try:
        if sys.stdout is not None:  # `>&-`
            sys.stdout.flush()
    except BrokenPipeError as error:
        return error
    except (OSError, ValueError) as error:  # full, or closed
        why = error.strerror if isinstance(error, OSError) else None
        return OutputFailed(f"stdout cannot be written: {why or error}")
    return None


def _run(tokens: Sequence[str]) -> tuple[int, _Handler]:
    with _log_to_stderr() as logged:
        try:
            result = make_app()(
                _without_dash(tokens),
                exit_on_error=False,
                print_error=False,
                result_action="return_value",
            )
            return (int(result) if isinstance(result, int) else ExitCode.OK), logged
        except CycloptsError as error:
            return _usage(error), logged
        except BrokenPipeError:
            return _nobody_reads(), logged
        except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:
            return _failed(error, logged), logged


@contextmanager
def _log_to_stderr() -> Iterator[_Handler]:
    """What libraries of ours log: errors, or everything when debugging.

    For as long as the command runs: whoever called `run` finds the log as it was.
    """
    from clawchat.cli.failures import debugging

    log = logging.getLogger("clawchat")
    before, level = log.handlers[:], log.level
    handler = _Handler()
    handler.setFormatter(logging.Formatter("clawchat: %(message)s"))
    handler.setLevel(logging.DEBUG if debugging() else logging.ERROR)
    if debugging():
        log.setLevel(logging.DEBUG)
    log.handlers[:] = [handler]
    try:
        yield handler
    finally:
        log.handlers[:] = before
        log.setLevel(level)


class _Handler(logging.StreamHandler[TextIO]):
    """Remembers what it said, for the error that ends a command is often logged before."""

    def __init__(self) -> None:
        super().__init__()
        self.said = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= self.level:
            self.said = record.getMessage()
        super().emit(record)


def _without_dash(tokens: Sequence[str]) -> list[str]:
    """`send -` as `send`, which means the same: Cyclopts takes a lone hyphen for an option."""
    if list(tokens[:1]) != ["send"] or "--" in tokens:
        return list(tokens)
    return [token for token in tokens if token != "-"]


def _usage(error: CycloptsError) -> int:
    from clawchat.cli.terminal import harmless, say

    app = error.app
    command = (
        " ".join(["clawchat", *(error.command_chain or ())]) if app is not None else "clawchat"
    )
    text = str(error).strip()
    if isinstance(error, UnusedCliTokensError):
        text = f"{harmless(' '.join(error.unused_tokens or ()))}: more than this command takes."
    say(f"clawchat: {text} See `{command} --help`.")
    return ExitCode.USAGE


def _failed(error: BaseException, logged: _Handler) -> int:
    from clawchat.cli import failures
    from clawchat.cli.terminal import harmless, say

    if any(isinstance(leaf, BrokenPipeError) for leaf in failures.leaves(error)):
        return _nobody_reads()
    if failures.debugging():
        say(failures.traceback_of(error))
    text = failures.explain(error)
    if text and text != logged.said:
        say(f"clawchat: {harmless(text)}")
    return failures.exit_code(error)


def _nobody_reads() -> int:
    # `clawchat send ... | head`: nothing to complain about.
    _let_go_of_stdout()
    return ExitCode.FAILURE


def _let_go_of_stdout() -> None:
    """What is left in its buffer goes nowhere; else Python would complain at exit."""
    with suppress(OSError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
