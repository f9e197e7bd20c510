"""`python -m bench`: every measurement against others. For now that is `bench.loopback`."""

from __future__ import annotations

from bench.loopback import main

if __name__ == "__main__":
    main()
