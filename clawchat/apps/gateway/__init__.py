"""The gateway: carries each HTTP request of a paired peer to the agent, and its answer back.

Rules: transparent; it adds who is calling and strips whatever claims to, and nothing else. It
keeps nothing, so it can be restarted under a conversation.
Left to others: links (`clawchat.drivers`), answers (`clawchat.apps.agent`).
"""

from clawchat.apps.gateway.agent_address import (
    AgentAddress,
    AgentUnreachable,
    check_agent,
    parse_agent_url,
)
from clawchat.apps.gateway.exchange import RelayLimits
from clawchat.apps.gateway.relaying import Relayed, device_id, relay

__all__ = [
    "AgentAddress",
    "AgentUnreachable",
    "RelayLimits",
    "Relayed",
    "check_agent",
    "device_id",
    "parse_agent_url",
    "relay",
]
