"""How a command tells a script what happened.

Rules: a number never changes its meaning; `docs/cli.md` prints this table.
Left to others: choosing one for an exception (`cli.failures`).
"""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class ExitCode(IntEnum):
    """The exit codes of every command."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_PAIRED = 3
    NO_LINK = 4
    AGENT = 5
    BOOTSTRAP = 6
    STORE = 7
    IN_USE = 8
    UNCONFIRMED = 9
    ENDED = 10
    CANCELLED = 130


MEANING: dict[ExitCode, str] = {
    ExitCode.OK: "it worked",
    ExitCode.FAILURE: "anything that has no number of its own; `CLAWCHAT_DEBUG=1` shows more",
    ExitCode.USAGE: "an option or argument cannot be used",
    ExitCode.NOT_PAIRED: "this device is not paired yet, or not with the peer that was named",
    ExitCode.NO_LINK: "the peer did not answer, or the link was lost and did not come back; "
    "stderr says how far a message came",
    ExitCode.AGENT: "the link is fine, but the agent is down or silent, or its reply ended in an "
    "error",
    ExitCode.BOOTSTRAP: "the bootstrap file or its key cannot be used",
    ExitCode.STORE: "a folder of ClawChat cannot be read or written, or is damaged",
    ExitCode.IN_USE: "a port or a folder is in use by another process",
    ExitCode.UNCONFIRMED: "`panic` destroyed this side; a peer did not confirm that it obeys",
    ExitCode.ENDED: "the pairing is over, and trying again is of no use: the listener revoked it, "
    "one side declared it compromised, or what this device keeps of it was used by a copy or is "
    "too old; stderr says which",
    ExitCode.CANCELLED: "ended by Ctrl-C",
}
