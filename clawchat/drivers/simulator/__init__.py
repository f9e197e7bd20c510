"""A whole small internet in one process: virtual time, virtual hosts, faults from a seed.

`Simulation` (simulation.py) is the entry; `python -m clawchat.drivers.simulator --seed 7` runs one.
Nothing is imported here, so that each part can be used alone.
Left to others: what the protocol does (`clawchat.core`), which seeds CI runs (`fuzz.campaign`).
"""
