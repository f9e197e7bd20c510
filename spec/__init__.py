"""PROTOCOL.md's generated parts, the machines as JSON, and the test vectors.

    python -m spec            writes what is stale
    python -m spec --check    fails when something is

Rules: what is generated comes from the code that runs; the same code gives the same bytes.
Left to others: `decode.py`, the second reading, which knows nothing of this package.
"""
