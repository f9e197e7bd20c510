"""Formal models: what exploring and simulating the code cannot say.

    python -m spec.models.symbolic     the cryptography, against a Dolev-Yao attacker, by E
    python -m spec.models.liveness     the phase machines, under fair loss, by Spin

Rules: what the code has as data is taken from the code (the Noise pattern, the phase tables), so
that a change there changes the model; what is written down a second time is listed in
`docs/evidence.md` with the limits of both methods. A tool that is missing is named, never skipped
in silence.
Left to others: exploring the shipped code (`tests/exploration`), simulation (`fuzz`).
"""
