"""Our core and aioquic's over the same virtual links: `python -m bench.simulated`.

Both cores are sans-IO, so both run in the simulator's network, driven by the same `Host`, in
virtual time: the machine's speed plays no part, and a run is a seed.
Left to others: speed on a real machine (`bench.loopback`).
"""
