"""The phase machines, one file each: a table of rows, its guards and its effects.

Here now: bootstrap (issuing files), dialing and answering (the handshake), established (a link's
life), rotating_keys (the ratchet), compromised (a pairing's end for good).
Rules: a machine appends to its own `out` list and nothing else; `Link` and `Endpoint` carry that
out and tell other machines. What reaches a table was parsed and verified before.
Left to others: punch and rotating ports have their rooms here but no file until they exist.
"""
