"""The cryptography's promises hold in the symbolic model, and fall when a step is left out."""

from __future__ import annotations

import pytest
from attrs import evolve

from spec.models.horn import PROVER, Theory, Verdict, ask, available
from spec.models.symbolic import Query, queries, trace
from spec.models.world import World

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not available(), reason=f"{PROVER} is not installed"),
]
QUERIES = list(queries())
WITH_THE_EQUATION = ("identity", "hello-origin", "kci-listener", "forward-secrecy", "healing")


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: str(query.name))
def test_the_prover_finds_what_is_expected(query: Query) -> None:
    answer = ask(query.theory())
    assert answer.verdict is query.expected, "\n".join(trace(answer))


@pytest.mark.parametrize(
    "query",
    [query for query in QUERIES if query.claim.name in WITH_THE_EQUATION],
    ids=lambda query: str(query.name),
)
def test_the_equation_itself_gives_the_same_verdict_as_its_compiled_form(query: Query) -> None:
    setting = evolve(query.claim.setting, omit=frozenset(query.without))
    theory = World(setting, compiled=False).theory
    theory.never("the bad thing", *query.claim.bad)
    assert ask(theory).verdict is query.expected


def test_an_attack_comes_with_its_steps() -> None:
    [query] = (query for query in QUERIES if query.name == "file-before-limit")
    steps = list(trace(ask(query.theory())))
    assert "the attacker has s0" in steps
    assert "the listener answers a HELLO at generation 0" in steps


def test_a_search_that_is_cut_short_is_no_verdict() -> None:
    [query] = (query for query in QUERIES if query.name == "data-dialer")
    assert ask(query.theory(), seconds_max=1).verdict is Verdict.UNKNOWN


def test_a_theory_that_the_prover_cannot_read_is_an_error() -> None:
    theory = Theory()
    theory.fact("broken", "no term", "p(,)")
    with pytest.raises(RuntimeError, match=PROVER):
        ask(theory)
