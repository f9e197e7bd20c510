"""The protocol itself, without input or output (PROTOCOL.md).

Rules: no clock, dice, socket, file, thread or log; the same events give the same actions.
Left to others: everything that touches the outside world (`clawchat.drivers`).
"""
