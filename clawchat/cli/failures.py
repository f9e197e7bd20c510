"""Turns whatever ended a command into one sentence and an exit code.

Rules: a failure that a user can do something about is one line, `clawchat: what, and what next`;
a traceback appears only under `CLAWCHAT_DEBUG=1`. Exception groups are searched for the failure
that explains the others.
Left to others: wording of failures in files and keys, which comes with the exception.
"""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterator

from clawchat import errors
from clawchat.cli.exit_codes import ExitCode
from clawchat.drivers.locks import StoreBusy
from clawchat.errors import CloseCode

DEBUG_VARIABLE = "CLAWCHAT_DEBUG"


class OutputFailed(errors.UserError):
    """Stdout does not take what was printed."""


class Usage(errors.UserError):
    """An option that parses but cannot be used."""


class NotPaired(errors.UserError):
    """There is no pairing to use."""


class NoLink(errors.UserError):
    """The peer could not be reached."""


class AgentTrouble(errors.UserError):
    """The agent at the other end is down, or its reply failed."""


class InUse(errors.UserError):
    """A port, or a folder, belongs to another running process."""


class Cancelled(errors.ClawChatError):
    """The user gave up with Ctrl-C."""


_CODES: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (KeyboardInterrupt, ExitCode.CANCELLED),
    (Cancelled, ExitCode.CANCELLED),
    (errors.BootstrapError, ExitCode.BOOTSTRAP),
    (StoreBusy, ExitCode.IN_USE),
    (errors.StoreError, ExitCode.STORE),
    (Usage, ExitCode.USAGE),
    (NotPaired, ExitCode.NOT_PAIRED),
    (InUse, ExitCode.IN_USE),
    (AgentTrouble, ExitCode.AGENT),
    (NoLink, ExitCode.NO_LINK),
    (errors.LinkClosed, ExitCode.NO_LINK),
    (errors.UserError, ExitCode.FAILURE),
)

# A script must not take these for a network that is down.
_ENDED = (CloseCode.REVOKED, CloseCode.SUPERSEDED, CloseCode.COMPROMISED)

# What to do about a link that ended, where its code says more than "try again".
_NEXT: dict[CloseCode, str] = {
    CloseCode.REPLACED: "another process or a copy of this device's folder took the link over; "
    "if it was no process of yours, `clawchat devices revoke` at the listener ends both",
    CloseCode.REVOKED: "somebody at the listener revoked this device, and the pairing is gone here "
    "as well. If that was not meant, `clawchat sec new` there makes a bootstrap file, and "
    "`clawchat connect FILE` here pairs anew",
    CloseCode.SUPERSEDED: "the listener has told its user as well. There, `clawchat devices` shows "
    "who is paired and what was refused, `clawchat devices revoke NAME` ends a pairing that is not "
    "yours, and `clawchat sec new` makes a file with which `clawchat connect FILE` pairs this "
    "device anew; `clawchat panic` destroys everything",
    CloseCode.COMPROMISED: "nothing of it is left; pair again with a new bootstrap file",
    CloseCode.STORE: "free some space or fix the permissions of the state folder",
}


def as_text(data: bytes, where: str) -> str:
    """What a user gave us `where`. Raises `Usage`: altered, it would be another message."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Usage(f"{where} is not UTF-8 text: convert it first, with `iconv` say") from None


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions inside a group, depth first; the exception itself when it is none."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def main_cause(error: BaseException) -> BaseException:
    """The leaf that explains a failure: a bug first, then the order of the table above."""
    found = list(leaves(error))

    def rank(leaf: BaseException) -> int:
        if isinstance(leaf, KeyboardInterrupt | Cancelled):
            return -2
        for place, (kind, _) in enumerate(_CODES):
            if isinstance(leaf, kind):
                return place
        return -1

    return min(found, key=rank)


def exit_code(error: BaseException) -> ExitCode:
    """The exit code of a failure; `FAILURE` for what the table does not know."""
    cause = main_cause(error)
    if isinstance(cause.__cause__, OSError) and cause.__cause__.errno == errno.EADDRINUSE:
        return ExitCode.IN_USE
    if isinstance(cause, errors.LinkClosed) and cause.code in _ENDED:
        return ExitCode.ENDED
    for kind, code in _CODES:
        if isinstance(cause, kind):
            return code
    return ExitCode.FAILURE


def explain(error: BaseException) -> str:
    """The sentence for the terminal, without the leading `clawchat: `; "" says nothing at all."""
    cause = main_cause(error)
    if isinstance(cause, KeyboardInterrupt | Cancelled):
        return str(cause)
    if isinstance(cause, errors.LinkClosed):
        after = _NEXT.get(cause.code)
        return f"{cause}; {after}" if after else str(cause)
    if isinstance(cause, errors.UserError):
        return str(cause)
    if isinstance(cause, OSError):
        return f"{cause} (`{DEBUG_VARIABLE}=1` shows where)"
    return f"internal error: {type(cause).__name__}: {cause} (`{DEBUG_VARIABLE}=1` shows where)"


def debugging() -> bool:
    """Whether the user asked for tracebacks."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def traceback_of(error: BaseException) -> str:
    """The whole story, for `CLAWCHAT_DEBUG=1`."""
    return "".join(traceback.format_exception(error))
