"""`clawchat chat`: a conversation in the terminal.

Rules: a message that was sent is answered whatever happens to the link or this process; what is
shown of a reply is shown once. Ctrl-C cancels the reply under way; a second one, or one at an
empty prompt, leaves.
Left to others: keyboard and screen (`cli.prompt`), resuming (`apps.chat_client`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter

from clawchat.apps.chat_client import AgentClient, Conversation, Message, RunEvents
from clawchat.apps.events import LastEvent, RunCancelled, RunFailed, Token
from clawchat.apps.problems import ProblemError
from clawchat.cli import options
from clawchat.cli.alarms import News
from clawchat.cli.device import the_link
from clawchat.cli.exit_codes import ExitCode
from clawchat.cli.failures import AgentTrouble, Cancelled, NoLink, Usage, exit_code
from clawchat.cli.places import device_folder
from clawchat.cli.prompt import PlainPrompt, Prompt, open_prompt
from clawchat.cli.shared_link import SharedLink
from clawchat.cli.talk import LAST, Sending, agent_client, find_conversation, plainly
from clawchat.cli.terminal import describe, harmless, one_line
from clawchat.errors import LASTING, LinkClosed

SHOWN_AT_START = 6  # messages
SHOWN_BY_HISTORY = 30

HELP = """\
/new             begin a new conversation
/history [N]     show the last N messages (30)
/status          how the link is doing
/quit            leave (so do Ctrl-D, and Ctrl-C at an empty prompt)
Ctrl-C           stop the reply that is being written
Anything else is a message; // begins one with a slash."""


async def chat(
    *,
    conversation: options.Conversation = None,
    new: Annotated[bool, Parameter(negative="", help="Begin a new conversation.")] = False,
    no_shape: options.NoShape = False,
    peer: options.PeerName = None,
    state_dir: options.StateDir = None,
) -> int:
    """Chat until the user leaves."""
    if new and conversation is not None:
        raise Usage("--new and --conversation exclude each other: choose one")
    wanted = None if new else conversation or LAST
    return await run_chat(state_dir, peer, wanted, shaped=not no_shape)


async def run_chat(
    state: Path | None, peer: str | None, conversation: str | None, *, shaped: bool = True
) -> int:
    """The chat of `clawchat chat` and `clawchat demo`; the exit code."""
    code: int = ExitCode.OK
    async with open_prompt() as prompt:
        with trio.CancelScope() as whole:
            prompt.interrupted = whole.cancel
            news = News(device_folder(state))
            await _warn(prompt, news)
            async with (
                the_link(state, peer, prompt.note) as link,
                agent_client(link, shaped=shaped) as client,
            ):
                code = await Chat(prompt, link, client, whole, news).run(conversation)
        if whole.cancelled_caught:
            raise Cancelled("")
    return code


async def _warn(prompt: Prompt, news: News, *, told: bool = False) -> None:
    """Show what this device was warned of, unless the user was `told` already."""
    lines = await news.lines()
    if lines and not told:
        prompt.note("\n".join(lines))


class Chat:
    """One conversation at a time between a prompt and an agent."""

    def __init__(
        self,
        prompt: Prompt,
        link: SharedLink,
        client: AgentClient,
        whole: trio.CancelScope,
        news: News,
    ) -> None:
        self._prompt = prompt
        self._link = link
        self._client = client
        self._whole = whole
        self._news = news
        self._conversation: Conversation | None = None
        self._code = ExitCode.OK

    @property
    def _plain(self) -> bool:
        return isinstance(self._prompt, PlainPrompt)

    async def run(self, wanted: str | None) -> int:
        """Until the user leaves; the exit code."""
        self._conversation = await find_conversation(self._client, wanted)
        await self._welcome()
        while (line := await self._next_line()) is not None:
            text = line.strip()
            if text.startswith("/") and not text.startswith("//") and not self._plain:
                if not await self._command(text):
                    break
            elif text:
                await self._say(text[1:] if text.startswith("//") and not self._plain else line)
        return self._code

    async def _next_line(self) -> str | None:
        # Who holds the link tells it: this process, or another at whose terminal nobody may be.
        await _warn(self._prompt, self._news, told=self._link.own)
        with trio.CancelScope() as asking:
            if not self._plain:
                self._prompt.interrupted = lambda: None if self._prompt.clear() else asking.cancel()
            try:
                return await self._prompt.ask("you> ")
            finally:
                self._prompt.interrupted = self._whole.cancel
        return None

    # --- what there was -------------------------------------------------------------------------

    async def _welcome(self) -> None:
        if not self._plain:
            agent = await self._client.agent()
            who = describe(agent.provider, agent.model)
            how = "its own link" if self._link.own else "the link that is held here"
            self._prompt.note(f"chatting with {who} at {one_line(self._link.name)}, over {how}")
            self._prompt.note("/help lists commands; Ctrl-C stops a reply, Ctrl-D leaves\n")
            await self._history(SHOWN_AT_START)
        if self._conversation is not None and self._conversation.active_run is not None:
            self._prompt.note("a reply is still being written:")
            await self._follow(self._client.events(self._conversation.active_run))

    async def _history(self, count: int) -> None:
        if self._conversation is None:
            self._prompt.note("a new conversation")
            return
        page = await self._client.conversation(self._conversation.id, limit=count)
        title = one_line(page.conversation.title) or page.conversation.id
        earlier = " (earlier messages: /history)" if page.before is not None else ""
        self._prompt.note(f"conversation {page.conversation.id}: {title}{earlier}")
        for message in page.messages:
            self._show(message)

    def _show(self, message: Message) -> None:
        style = self._prompt.style
        mine = message.role == "user"
        who = style.accent("you> ") if mine else style.bold("agent> ")
        state = "" if message.state == "complete" else style.dim(f" [{message.state}]")
        self._prompt.history(f"{who}{harmless(message.text.rstrip())}{state}")

    # --- what is said ---------------------------------------------------------------------------

    async def _say(self, text: str) -> None:
        sending = Sending()
        try:
            async with plainly(self._link, sending):
                if self._conversation is None:
                    self._conversation = await self._client.create_conversation()
                sending.look = self._look(self._conversation)
                sending.events = self._client.send(self._conversation.id, text)
                await self._follow(sending.events)
        except (AgentTrouble, NoLink) as error:
            self._failed(str(error), exit_code(error))
        except LinkClosed:  # for good: the chat ends, and says why
            self._prompt.reply_over()
            raise

    async def _follow(self, events: RunEvents) -> None:
        """Show a reply; Ctrl-C cancels it, and again leaves."""
        async with trio.open_nursery() as nursery, events:
            self._prompt.interrupted = lambda: self._interrupt(nursery, events)
            self._prompt.reply_begins("agent> ")
            shown = ""
            async for event in events:
                if isinstance(event, Token):
                    shown += event.text
                    self._prompt.reply(event.text)
                elif isinstance(event, LastEvent):
                    if event.text.startswith(shown):
                        self._prompt.reply(event.text.removeprefix(shown))
                    self._ended(event)
            self._prompt.reply_over()
            nursery.cancel_scope.cancel()
        self._prompt.interrupted = self._whole.cancel

    def _interrupt(self, nursery: trio.Nursery, events: RunEvents) -> None:
        self._prompt.interrupted = self._whole.cancel
        self._prompt.note("stopping the reply (Ctrl-C again leaves)")
        if events.run is None:
            nursery.cancel_scope.cancel()
        else:
            nursery.start_soon(self._cancel, events)

    async def _cancel(self, events: RunEvents) -> None:
        try:
            await events.cancel()
        except ProblemError as error:
            self._failed(str(error.problem))

    def _ended(self, event: LastEvent) -> None:
        self._prompt.reply_over()
        if isinstance(event, RunFailed):
            self._failed(str(event.problem))
        elif isinstance(event, RunCancelled):
            self._prompt.note("[cancelled]")

    def _failed(self, text: str, code: ExitCode = ExitCode.AGENT) -> None:
        self._prompt.reply_over()
        self._prompt.note(f"clawchat: {text}")
        if self._plain:
            self._code = code

    def _look(self, conversation: Conversation) -> str:
        return f"`clawchat chat -c {conversation.id}`" if self._plain else "/history"

    # --- what is asked for ----------------------------------------------------------------------

    async def _command(self, text: str) -> bool:
        """False to leave."""
        name, _, rest = text[1:].partition(" ")
        if name in ("quit", "exit", "q"):
            return False
        try:
            async with plainly(self._link):
                await self._known_command(name, rest.strip())
        except (AgentTrouble, NoLink, LinkClosed) as error:
            if isinstance(error, LinkClosed) and error.code in LASTING:
                raise
            self._failed(str(error), exit_code(error))
        return True

    async def _known_command(self, name: str, rest: str) -> None:
        if name == "help":
            self._prompt.note(HELP)
        elif name == "new":
            self._conversation = None
            self._prompt.note("a new conversation")
        elif name == "history":
            await self._history(int(rest) if rest.isdecimal() else SHOWN_BY_HISTORY)
        elif name == "status":
            await self._status()
        else:
            self._prompt.note(f"there is no /{name}; /help lists what there is")

    async def _status(self) -> None:
        begin = time.monotonic()
        status = await self._link.ask({"verb": "status"})
        if status.get("link") != "up":
            self._prompt.note(f"no link at the moment: {status.get('trouble') or 'dialling'}")
            return
        rtt = (await self._link.ask({"verb": "ping"}))["rtt_ms"]
        whole = (time.monotonic() - begin) * 1000
        self._prompt.note(
            f"link to {self._link.name} at {status['remote']}, key epoch {status['epoch']}, "
            f"round trip {rtt:.1f} ms ({whole:.1f} ms with all in between)\n"
            f"fingerprint {status['fingerprint']}, held by process {status['holder_pid']}"
        )
