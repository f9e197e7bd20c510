"""Simulation campaigns: `python -m fuzz.campaign --seeds A:B`. See fuzz/README.md.

`__main__` has the options, `engines` run worlds on this machine or on a cluster, `tally` adds up
and keeps what came out, `coverage` says what was met, `corpus` keeps the seeds that met it first,
`shrinking` makes of a failing seed a small scenario.
"""
