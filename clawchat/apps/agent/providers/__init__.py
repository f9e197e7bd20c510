"""Where replies come from: one small interface, and the providers that are built in.

Rules: a provider streams; it says what went wrong as `ProviderFailed`, in words for the user and
without secrets; its library is imported when it is first used. A missing setting is a `UserError`
when the provider is made, before anybody chats.
Left to others: stall detection, limits and keeping the reply (`clawchat.apps.agent.runs`).
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final, Literal, Protocol, TypeAlias

from attrs import field, frozen

from clawchat.apps.events import Usage
from clawchat.apps.problems import Problem
from clawchat.errors import ClawChatError, UserError

Role: TypeAlias = Literal["system", "user", "assistant"]
Delta: TypeAlias = str | Usage
"""A piece of the reply, or, once, what it cost."""

NAMES: Final = ("echo", "openai")


@frozen
class ChatMessage:
    """One message of the history that a provider is shown."""

    role: Role
    text: str


class Provider(Protocol):
    """A source of replies. `name` and `model` are shown to the user."""

    @property
    def name(self) -> str: ...
    @property
    def model(self) -> str: ...

    def reply(self, messages: Sequence[ChatMessage]) -> AsyncGenerator[Delta, None]:
        """Stream the reply to the last of `messages`. Raises `ProviderFailed`."""
        ...


class ProviderFailed(ClawChatError):
    """No (whole) reply will come; the problem says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class ProviderSettingMissing(UserError):
    """A provider lacks a setting. The text names it."""


@frozen
class ProviderSettings:
    """What a user can choose. Empty means: the provider's own default.

    `retries` are repeats of a request that the endpoint refused with 429 or 5xx.
    """

    name: str = "echo"
    model: str = ""
    base_url: str = ""
    api_key: str = field(default="", repr=False)
    retries: int = 2

    @classmethod
    def from_environment(
        cls,
        name: str = "",
        model: str = "",
        base_url: str = "",
        env: Mapping[str, str] = os.environ,
    ) -> ProviderSettings:
        """Options given win over CLAWCHAT_PROVIDER, CLAWCHAT_MODEL and OPENAI_BASE_URL.

        The key comes from OPENAI_API_KEY only: an option would show in the process list.
        """
        return cls(
            name=name or env.get("CLAWCHAT_PROVIDER", "") or "echo",
            model=model or env.get("CLAWCHAT_MODEL", ""),
            base_url=base_url or env.get("OPENAI_BASE_URL", ""),
            api_key=env.get("OPENAI_API_KEY", ""),
        )


def make_provider(settings: ProviderSettings) -> Provider:
    """The provider that `settings` name. Raises `UserError`."""
    match settings.name:
        case "echo":
            from clawchat.apps.agent.providers.echo import Echo

            return Echo()
        case "openai":
            from clawchat.apps.agent.providers.openai import make_openai

            return make_openai(settings)
        case unknown:
            raise UserError(f"no provider is called {unknown!r}. Use one of: {', '.join(NAMES)}.")
