"""The agent: an HTTP application on 127.0.0.1 that keeps conversations and streams replies.

Rules: one process owns one folder of conversations; whoever listens may come and go.
Left to others: being reached from elsewhere (`clawchat.apps.gateway`).
"""

from clawchat.apps.agent.server import (
    DEFAULT_PORT,
    DEFAULT_URL,
    Agent,
    AgentPortInUse,
    open_agent,
)

__all__ = ["DEFAULT_PORT", "DEFAULT_URL", "Agent", "AgentPortInUse", "open_agent"]
