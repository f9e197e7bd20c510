"""Any endpoint that speaks OpenAI's chat completions: OpenAI itself, a local server, another host.

Rules: the `openai` library is imported when the provider is made, not before; its retries are
bounded; what an endpoint says in an error is not repeated, for it may quote the key.
Left to others: stalls (`runs`: the library's own limits are longer), what models there are.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from attrs import field, frozen

from clawchat.apps import sse
from clawchat.apps.agent.providers import (
    ChatMessage,
    Delta,
    ProviderFailed,
    ProviderSettingMissing,
    ProviderSettings,
)
from clawchat.apps.events import Usage
from clawchat.apps.http import unwind
from clawchat.apps.problems import Problem
from clawchat.errors import UserError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

DEFAULT_MODEL: Final = "gpt-5-mini"  # small, cheap; --model or CLAWCHAT_MODEL change it
NO_KEY: Final = "no-key"  # what a local server gets when the user gave none; it ignores it


def make_openai(settings: ProviderSettings) -> OpenAI:
    """Raises `ProviderSettingMissing` without a key, unless the endpoint is on this machine."""
    key = settings.api_key
    if not key and not _is_local(settings.base_url):
        raise ProviderSettingMissing(
            "the provider openai needs a key: set OPENAI_API_KEY in the environment of the agent, "
            "or choose a local endpoint (--base-url http://127.0.0.1:PORT/v1), "
            "or the built-in provider (--provider echo)."
        )
    if settings.base_url and urlsplit(settings.base_url).scheme not in ("http", "https"):
        raise UserError(
            f"the base URL {settings.base_url!r} is no http(s) URL. "
            "Use one like https://api.openai.com/v1 (--base-url or OPENAI_BASE_URL)."
        )
    import httpx2
    from openai import AsyncOpenAI, DefaultAsyncHttpx2Client

    certificates = httpx2.create_ssl_context()  # takes 30 ms, which no reply shall wait for

    def connect() -> AsyncOpenAI:
        return AsyncOpenAI(
            api_key=key or NO_KEY,
            base_url=settings.base_url or None,
            max_retries=settings.retries,
            http_client=DefaultAsyncHttpx2Client(verify=certificates),
        )

    return OpenAI(connect, settings.model or DEFAULT_MODEL)


@frozen
class OpenAI:
    """Streams replies of one model of one endpoint."""

    _connect: Callable[[], AsyncOpenAI] = field(repr=False)  # it holds the key
    model: str
    name: str = "openai"

    async def reply(self, messages: Sequence[ChatMessage]) -> AsyncGenerator[Delta, None]:
        import httpx2
        import openai

        history: Any = [{"role": one.role, "content": one.text} for one in messages]
        try:
            async with (
                self._connect() as client,
                client.chat.completions.with_streaming_response.create(
                    model=self.model,
                    messages=history,
                    stream=True,
                    stream_options={"include_usage": True},
                ) as response,
                aclosing(_deltas(response.iter_bytes())) as deltas,
            ):
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    raise ProviderFailed(GARBAGE)
                async for delta in deltas:
                    yield delta
        except openai.APIStatusError as error:
            raise ProviderFailed(_status_problem(error.status_code, self.model)) from None
        except openai.APIError:  # what is no status is the connection
            raise ProviderFailed(UNREACHABLE) from None
        except httpx2.HTTPError:  # the connection broke in the middle
            raise ProviderFailed(CUT_OFF) from None
        except (ValueError, RecursionError):
            raise ProviderFailed(GARBAGE) from None


async def _deltas(pieces: AsyncIterator[bytes]) -> AsyncGenerator[Delta, None]:
    """Read the stream. The library could too, but leaves open generators behind on Trio.

    Raises `ProviderFailed`, and `ValueError` for what is no chunk.
    """
    parser = sse.Parser()
    finish: str | None = None
    try:
        async for received in pieces:
            for event in parser.feed(received):
                if event.data == "[DONE]":
                    continue
                chunk = _read_chunk(event.data)
                finish = chunk.finish or finish
                if chunk.text:
                    yield chunk.text
                if chunk.usage is not None:
                    yield chunk.usage
    finally:
        await unwind(pieces)
    if finish is None:
        raise ProviderFailed(CUT_OFF)
    if finish == "content_filter":
        raise ProviderFailed(FILTERED)


@frozen
class _Chunk:
    """What is used of a `chat.completion.chunk`."""

    text: str
    finish: str | None
    usage: Usage | None


def _read_chunk(data: str) -> _Chunk:
    """Raises `ValueError`, and `ProviderFailed` for an error that came within the stream."""
    members = json.loads(data)
    try:
        if members.get("error"):
            raise ProviderFailed(BROKE_OFF)
        usage = members.get("usage")
        found = usage and Usage(int(usage["prompt_tokens"]), int(usage["completion_tokens"]))
        choices = members.get("choices") or [{}]
        text = (choices[0].get("delta") or {}).get("content") or ""
        finish = choices[0].get("finish_reason")
    except (AttributeError, LookupError, TypeError):  # JSON of another shape
        raise ValueError("not a chunk of a chat completion") from None
    if not isinstance(text, str):
        raise ValueError("a chunk whose text is none")
    return _Chunk(text, finish, found or None)


def _is_local(base_url: str) -> bool:
    return urlsplit(base_url).hostname in ("127.0.0.1", "localhost", "::1")


# --- what can go wrong ------------------------------------------------------------------------


def _status_problem(status: int, model: str) -> Problem:
    match status:
        case 401 | 403:
            title, next_ = "The provider refused the key", "Check OPENAI_API_KEY of the agent."
        case 404:
            title = f"The provider does not know the model {model!r}, or has no such address"
            next_ = "Check --model (CLAWCHAT_MODEL) and --base-url (OPENAI_BASE_URL)."
        case 429:
            title = "The provider's limit is reached"
            next_ = "Wait a little, then send the message again; or check your plan and quota."
        case _ if status >= 500:
            title, next_ = "The provider is out of order", "Send the message again later."
        case _:
            title = "The provider refused the request"
            next_ = "Shorten the conversation or choose another model (--model)."
    detail = f"It answered with HTTP status {status}."
    return Problem(f"provider-{status}", title, 502, detail, next_)


UNREACHABLE: Final = Problem(
    kind="provider-unreachable",
    title="The provider cannot be reached",
    status=502,
    detail="No connection came about, or it broke before an answer.",
    next="Check the network and --base-url (OPENAI_BASE_URL), then send the message again.",
)
CUT_OFF: Final = Problem(
    kind="provider-cut-off",
    title="The provider broke off in the middle of the reply",
    status=502,
    detail="The connection ended before the reply did; what came before is kept.",
    next="Send the message again.",
)
BROKE_OFF: Final = Problem(
    kind="provider-broke-off",
    title="The provider reported an error in the middle of the reply",
    status=502,
    detail="What came before is kept.",
    next="Send the message again later.",
)
GARBAGE: Final = Problem(
    kind="provider-garbage",
    title="The provider's answer cannot be understood",
    status=502,
    detail="It is not what an OpenAI-compatible endpoint sends.",
    next="Check --base-url (OPENAI_BASE_URL); it usually ends in /v1.",
)
FILTERED: Final = Problem(
    kind="provider-filtered",
    title="The provider withheld the reply",
    status=502,
    detail="Its content filter stopped it; what came before is kept.",
    next="Put the question in other words.",
)
