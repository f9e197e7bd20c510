"""The only place that touches `cryptography`: suite, Noise, key schedule, packets, ratchet.

Rules: randomness comes in as an argument; no secret appears in a `repr` or an exception text;
`wipe()` overwrites what Python lets us overwrite and drops every context.
Left to others: when to use which key (`core.link`, `core.phases`).
"""
