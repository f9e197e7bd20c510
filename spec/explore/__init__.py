"""Exploring the shipped core: two real endpoints, and an adversary who decides everything.

`python -m spec.explore` runs it. Every situation that the adversary can afford to bring about is
tried, breadth first; in each of its steps the simulator's invariants hold, and from each of them a
fair network must lead to a good end. A counterexample is a list of choices, kept in a file, and
`--replay` plays it again.

Rules: what is explored is the code itself, never a model of it. What this cannot see is said in
`docs/evidence.md`.
"""
