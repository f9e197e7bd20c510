"""Horn clauses in TPTP, and the E prover that saturates them.

A theory says what an attacker can come to know and what honest peers do; its goal is the bad
thing. When E *saturates* it without deriving the goal, there is no derivation of any length: no
attack with any number of sessions. When E finds a proof, the clauses that it used are the steps
of an attack.

Rules: terms are strings in TPTP syntax; a name that begins with a capital is a variable, and each
clause has its own. Every run is bounded, and what neither saturates nor proves is `UNKNOWN`.
Left to others: what is modelled (`world`), what is asked (`symbolic`).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from enum import Enum, unique
from typing import Final

from attrs import define, field, frozen

PROVER: Final = "eprover"
SECONDS_MAX: Final = 600  # of processor time, forty times what the longest search takes
_STATUS: Final = re.compile(r"^# SZS status (\w+)", re.MULTILINE)
_USED: Final = re.compile(r"file\('[^']*', (\w+)\)")


@unique
class Verdict(Enum):
    """What became of a query."""

    HOLDS = "saturated: no derivation of any length"
    ATTACK = "a derivation was found"
    UNKNOWN = "neither within the time given"


@frozen
class Clause:
    """If all of `premises`, then `conclusion`; a goal has none. `says` is for people."""

    name: str
    premises: tuple[str, ...]
    conclusion: str | None
    says: str

    def as_tptp(self) -> str:
        literals = [f"~{premise}" for premise in self.premises]
        if self.conclusion is not None:
            literals.append(self.conclusion)
        role = "axiom" if self.conclusion is not None else "negated_conjecture"
        return f"% {self.says}\ncnf({self.name}, {role}, ({' | '.join(literals)})).\n"


@define
class Theory:
    """Clauses in the order in which the protocol takes its steps."""

    clauses: list[Clause] = field(factory=list)
    _names: dict[str, int] = field(factory=dict)

    def rule(self, name: str, says: str, premises: Iterable[str], *conclusions: str) -> None:
        """One clause for each conclusion."""
        for conclusion in conclusions:
            self.clauses.append(Clause(self._fresh(name), tuple(premises), conclusion, says))

    def fact(self, name: str, says: str, *conclusions: str) -> None:
        self.rule(name, says, (), *conclusions)

    def never(self, says: str, *atoms: str) -> None:
        """The goal: all of `atoms` together must not be derivable."""
        self.clauses.append(Clause(self._fresh("goal"), atoms, None, says))

    def as_tptp(self) -> str:
        return "".join(clause.as_tptp() for clause in self.clauses)

    def _fresh(self, name: str) -> str:
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name}_{count}"


@frozen
class Answer:
    """`steps`: the clauses that an attack uses, in the protocol's order."""

    verdict: Verdict
    steps: tuple[Clause, ...]
    seconds: float


def term(name: str, *arguments: str) -> str:
    """`name(arguments)`, or a constant."""
    return f"{name}({','.join(arguments)})" if arguments else name


def available() -> bool:
    """Whether the prover is installed."""
    return shutil.which(PROVER) is not None


def ask(theory: Theory, seconds_max: int = SECONDS_MAX) -> Answer:
    """Let E decide. Raises `RuntimeError` when E does not take the theory."""
    command = [PROVER, "--satauto", "--silent", "--proof-object=1", f"--cpu-limit={seconds_max}"]
    began = time.perf_counter()
    ran = subprocess.run(  # noqa: S603 - a fixed program, its input on stdin
        [*command, "-"], input=theory.as_tptp(), capture_output=True, text=True, check=False
    )
    took = time.perf_counter() - began
    status = _STATUS.search(ran.stdout)
    if status is None:
        raise RuntimeError(f"{PROVER} says: {(ran.stderr or ran.stdout).strip()[-400:]}")
    if status[1] == "Satisfiable":
        return Answer(Verdict.HOLDS, (), took)
    if status[1] == "Unsatisfiable":
        used = set(_USED.findall(ran.stdout))
        steps = tuple(clause for clause in theory.clauses if clause.name in used)
        return Answer(Verdict.ATTACK, steps, took)
    return Answer(Verdict.UNKNOWN, (), took)
