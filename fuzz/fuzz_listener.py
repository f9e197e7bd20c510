"""A listener whose authenticated peer says anything keeps all of its promises.

The input is a program of frames, packets, time and wishes of the application; see `fuzz.session`,
which also says the promises.
"""

from __future__ import annotations

from fuzz.session import GRAMMAR, check_session, examples

__all__ = ["GRAMMAR", "check", "examples"]


def check(data: bytes) -> None:
    check_session(data, dialer=False)


if __name__ == "__main__":
    from fuzz.harness import run

    run("listener")
