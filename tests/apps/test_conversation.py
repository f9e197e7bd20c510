"""A whole conversation: client, transport, gateway, agent, provider."""

from __future__ import annotations

from clawchat.apps.events import RunFinished, RunStarted, Token
from tests.apps.world import World


async def test_a_message_is_answered_token_by_token(world: World) -> None:
    conversation = await world.client.create_conversation()
    async with world.client.send(conversation.id, "one two three") as events:
        seen = [event async for event in events]
    assert isinstance(seen[0], RunStarted)
    assert [event.text for event in seen if isinstance(event, Token)] == ["one", " two", " three"]
    assert isinstance(seen[-1], RunFinished)
    assert seen[-1].text == "one two three"
    assert [event.id for event in seen] == [1, 2, 3, 4, 5]
    page = await world.client.conversation(conversation.id)
    assert [(one.role, one.text) for one in page.messages] == [
        ("user", "one two three"),
        ("assistant", "one two three"),
    ]
    assert page.messages[0].caller_name == "Ann's phone"
    assert page.conversation.title == "one two three"
