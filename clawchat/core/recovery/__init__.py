"""What was sent, what arrived, how fast to send: loss recovery after RFC 9002.

Rules: every call takes `now`; no randomness; records of batches, never an object per packet.
Left to others: what is in a packet (`core.streams`), putting packets together (`core.packing`).
"""
