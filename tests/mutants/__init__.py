"""Mutation testing of the phase machines and the cryptography: `python -m tests.mutants`.

Each mutant is the shipped code with one small thing wrong. A mutant that no test notices is either
a test that is missing, or no mistake at all; the latter are listed, with why, in `equivalent.py`.

Rules: a mutant counts as killed only by a test of behaviour, so comparisons with generated files
(spec/machines) are left out. Left to others: tests of what the mutants found.
"""
