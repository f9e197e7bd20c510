"""What went wrong, told over HTTP: RFC 9457 problem documents with a next step.

Rules: every text is for a person; none contains a secret, a message or a traceback. `next` says
what the reader can do about it.
Left to others: exceptions that never cross HTTP (`clawchat.errors`).
"""

from __future__ import annotations

import json
from typing import Final

from attrs import frozen

from clawchat.errors import ClawChatError

MEDIA_TYPE: Final = "application/problem+json"
_TYPE_PREFIX: Final = "urn:clawchat:problem:"


@frozen
class Problem:
    """One RFC 9457 document. `kind` is the last part of its `type`; `next` is an extension."""

    kind: str
    title: str
    status: int
    detail: str
    next: str = ""

    def to_json(self) -> dict[str, object]:
        """As the members of the document."""
        members: dict[str, object] = {
            "type": _TYPE_PREFIX + self.kind,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.next:
            members["next"] = self.next
        return members

    def encode(self) -> bytes:
        """As the body of a response."""
        return json.dumps(self.to_json(), ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, members: object, *, status: int = 500) -> Problem:
        """Read a document leniently: a member that is missing or of a wrong type is left out."""
        known = members if isinstance(members, dict) else {}

        def text(name: str) -> str:
            value = known.get(name)
            return value if isinstance(value, str) else ""

        said = known.get("status")
        return cls(
            kind=text("type").removeprefix(_TYPE_PREFIX) or "unknown",
            title=text("title") or "The request failed",
            status=said if isinstance(said, int) else status,
            detail=text("detail"),
            next=text("next"),
        )

    def __str__(self) -> str:
        return " ".join(part for part in (f"{self.title}.", self.detail, self.next) if part)


class ProblemError(ClawChatError):
    """A request that cannot be served, with the document that says why.

    Raised inside the agent to answer with it, and by `chat_client` when it was the answer.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem
