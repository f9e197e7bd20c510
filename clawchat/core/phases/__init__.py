"""The phase machines, one file each: a table of rows, its guards and its effects.

Bootstrap (issuing files), dialing and answering (the handshake), established (a link's life),
rotating_keys (the ratchet), rotating_ports and following_ports (a port's change, on its two sides),
compromised (a pairing's end for good).
Rules: a machine appends to its own `out` list and nothing else; who owns the machine carries that
out and tells other machines. What reaches a table was parsed and verified before.
Left to others: the owners (`core.link`, `core.ratchet`, `core.ports`, `core.undoing`,
`core.issuing`).
"""
