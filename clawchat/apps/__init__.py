"""Applications above the link: everything here is plain HTTP carried over streams.

Rules: an application sees a link only as something that opens or accepts byte streams, so each
one also runs over TCP or over memory in a test.
Left to others: the protocol (`clawchat.core`), sockets (`clawchat.drivers`), the terminal
(`clawchat.cli`).
"""
