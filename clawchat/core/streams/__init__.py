"""Streams of a link: what to send next, what arrived, and who may send how much.

Rules: bounded everywhere; bytes are handed on as they came, not joined; a finished stream leaves
one bit behind.
Left to others: packets (`core.packing`), what was lost (`core.recovery`).
"""
