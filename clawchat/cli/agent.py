"""`clawchat agent`: the agent alone, on the loopback address."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from clawchat.apps.agent import DEFAULT_PORT, Agent, AgentPortInUse, open_agent
from clawchat.apps.agent.providers import Provider, ProviderSettings, make_provider
from clawchat.apps.agent.store import ConversationStoreError
from clawchat.cli.failures import InUse, Usage
from clawchat.cli.options import BaseUrl, ExitWithStdin, Model, ProviderName, StateDir
from clawchat.cli.places import agent_folder, private_folder
from clawchat.cli.terminal import describe, say
from clawchat.cli.until_stopped import until_stopped
from clawchat.errors import StoreError, UserError

PORT_RANGE = Number(gte=0, lte=65535)
KEY_VARIABLES = ("OPENAI_API_KEY",)


async def agent(
    *,
    port: Annotated[
        int,
        Parameter(
            help="TCP port on 127.0.0.1; 0 takes a free one.",
            validator=PORT_RANGE,
            show_default=True,
        ),
    ] = DEFAULT_PORT,
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
        running_agent(folder, chosen, port) as running,
    ):
        what = describe(chosen.name, chosen.model)
        say(f"agent ({what}) at {running.url}, conversations in {folder}")
        await until_cancelled()


def provider_of(name: str, model: str, base_url: str) -> Provider:
    """The provider that options and environment name; its key leaves the environment."""
    settings = ProviderSettings.from_environment(name, model, base_url)
    for option, given in (("--model", model), ("--base-url", base_url)):
        if given and settings.name == "echo":  # who names an endpoint wants its answers
            raise Usage(f"{option} belongs to --provider openai: name that as well")
    for variable in KEY_VARIABLES:
        os.environ.pop(variable, None)
    try:
        return make_provider(settings)
    except UserError as error:
        raise Usage(str(error)) from None


@asynccontextmanager
async def running_agent(folder: Path, provider: Provider, port: int) -> AsyncIterator[Agent]:
    """An agent in this process. Raises `InUse` for its port, `StoreError` for its folder."""
    try:
        async with open_agent(folder, provider, port=port) as agent:
            yield agent
    except AgentPortInUse as error:
        raise InUse(str(error)) from None
    except ConversationStoreError as error:
        raise StoreError(str(error)) from None


async def until_cancelled() -> None:
    """Wait for `until_stopped`."""
    import trio

    await trio.sleep_forever()
