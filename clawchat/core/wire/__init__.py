"""Bytes to frozen values and back: everything that has a layout in PROTOCOL.md, and no keys.

Rules: a decoder returns a value that encodes to an equal value, or raises `Malformed`; it never
trusts a length before checking it.
Left to others: sealing and opening (`core.crypto`), meaning (`core.link`, `core.streams`).
"""
