"""Throwing bytes at every decoder.

`fuzz_X.py` holds one function, `check(data)`, which fails when target X breaks its invariant;
`fuzz/corpus/X` holds a few inputs that are valid or nearly so. The same functions are run by
atheris (`python -m fuzz.fuzz_X`), in bulk without it (`python -m fuzz`), and by Hypothesis in the
test suite (`tests/fuzz`).
"""
