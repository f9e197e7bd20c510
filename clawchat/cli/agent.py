"""`clawchat agent`: the agent alone, on the loopback address."""

from __future__ import annotations

import os
from typing import Annotated

from cyclopts import Parameter

from clawchat.apps.agent import DEFAULT_PORT, open_agent
from clawchat.apps.agent.providers import Provider, ProviderSettings, make_provider
from clawchat.cli.options import BaseUrl, ExitWithStdin, Model, ProviderName, StateDir
from clawchat.cli.places import agent_folder, private_folder
from clawchat.cli.terminal import one_line, say
from clawchat.cli.until_stopped import until_stopped

KEY_VARIABLES = ("OPENAI_API_KEY",)


async def agent(
    *,
    port: Annotated[int, Parameter(help="TCP port on 127.0.0.1; 0 takes a free one.")] = (
        DEFAULT_PORT
    ),
    provider: ProviderName = "",
    model: Model = "",
    base_url: BaseUrl = "",
    state_dir: StateDir = None,
    exit_with_stdin: ExitWithStdin = False,
) -> None:
    """Run the agent until it is stopped."""
    chosen = provider_of(provider, model, base_url)
    folder = private_folder(agent_folder(state_dir), "--state-dir")
    async with (
        until_stopped(with_stdin=exit_with_stdin),
        open_agent(folder, chosen, port=port) as running,
    ):
        what = describe(chosen.name, chosen.model)
        say(f"agent ({what}) at {running.url}, conversations in {folder}")
        await until_cancelled()


def provider_of(name: str, model: str, base_url: str) -> Provider:
    """The provider that options and environment name; its key leaves the environment."""
    settings = ProviderSettings.from_environment(name, model, base_url)
    for variable in KEY_VARIABLES:
        os.environ.pop(variable, None)
    return make_provider(settings)


def describe(provider: str, model: str) -> str:
    """A provider and its model, for people."""
    return one_line(provider if model in ("", provider) else f"{provider} {model}")


async def until_cancelled() -> None:
    """Wait for `until_stopped`."""
    import trio

    await trio.sleep_forever()
