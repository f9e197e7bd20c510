"""Options that several commands share, with one wording.

Rules: none of them takes a secret.
Left to others: options of a single command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import Parameter

StateDir: TypeAlias = Annotated[
    Path | None,
    Parameter(
        name="--state-dir",
        help="Folder that keeps everything (else CLAWCHAT_STATE_DIR, else the platform's).",
    ),
]
SecurityDir: TypeAlias = Annotated[
    Path | None,
    Parameter(
        name="--security-dir",
        help="Folder of the listener's keys and its bootstrap file "
        "(else CLAWCHAT_SECURITY_DIR, else in the state folder).",
    ),
]
KeyFile: TypeAlias = Annotated[
    Path | None,
    Parameter(
        name="--key-file",
        help="File that holds the bootstrap key, mode 0600 (else CLAWCHAT_BOOTSTRAP_KEY or "
        "CLAWCHAT_BOOTSTRAP_PASSPHRASE, else asked for).",
    ),
]
PeerName: TypeAlias = Annotated[
    str | None,
    Parameter(
        name="--peer",
        env_var="CLAWCHAT_PEER",
        help="Which listener, when several are paired: its name.",
    ),
]
NoShape: TypeAlias = Annotated[
    bool,
    Parameter(
        name="--no-shape",
        negative="",
        env_var="CLAWCHAT_NO_SHAPE",
        help="Let packets leave as they come: who watches the network can then guess from their "
        "sizes and times what is talked about. Saves some 15 kB a second of talk, and up to 50 ms.",
    ),
]
Json: TypeAlias = Annotated[
    bool, Parameter(name="--json", negative="", help="Print one line of JSON instead.")
]
Conversation: TypeAlias = Annotated[
    str | None,
    Parameter(
        name=("--conversation", "-c"),
        help="The conversation to go on with, by its id (else the latest).",
    ),
]
ProviderName: TypeAlias = Annotated[
    str,
    Parameter(
        name="--provider",
        help="Where replies come from: echo (needs nothing) or openai, which is any endpoint that "
        "speaks its protocol (key in OPENAI_API_KEY). Else CLAWCHAT_PROVIDER, else echo.",
    ),
]
Model: TypeAlias = Annotated[
    str,
    Parameter(
        name="--model", help="The provider's model (else CLAWCHAT_MODEL).", show_default=False
    ),
]
BaseUrl: TypeAlias = Annotated[
    str,
    Parameter(
        name="--base-url",
        help="The provider's address (else OPENAI_BASE_URL, else OpenAI's).",
    ),
]
ExitWithStdin: TypeAlias = Annotated[
    bool,
    Parameter(
        name="--exit-with-stdin",
        negative="",
        show=False,
        help="End when stdin does: for a parent process.",
    ),
]
