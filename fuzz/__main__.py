"""`python -m fuzz`: every target in bulk; see `python -m fuzz --help`."""

from __future__ import annotations

from fuzz.soak import main

if __name__ == "__main__":
    raise SystemExit(main())
