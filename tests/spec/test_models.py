"""The formal models are made from the code, and say so when the code has moved on.

What the provers make of them: `test_models_symbolic`, `test_models_liveness`.
"""

from __future__ import annotations

from collections import Counter
from types import ModuleType

import pytest
from attrs import evolve

from clawchat.core.phases import dialing
from clawchat.core.table import Row
from spec.models import closing, compromise, handshake, ports, rotation
from spec.models.liveness import PROPERTIES, checks
from spec.models.promela import Machine, Snippets, Untranslated, row_name, translate, untranslated
from spec.models.symbolic import GROUPS, queries
from spec.models.world import Keys, Setting, Step, World
from spec.models.world import handshake as symbolic_handshake

WORLDS: tuple[ModuleType, ...] = (handshake, rotation, closing, compromise, ports)
CLAIMS = [claim for group in GROUPS.values() for claim in group]
HONEST = Keys("ed", "a", "el", "b")


def machines(world: ModuleType) -> tuple[Machine, ...]:
    found: tuple[Machine, ...] = world.MACHINES
    return found


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: str(world.__name__).split(".")[-1])
def test_every_effect_and_guard_of_a_modelled_table_has_its_promela(world: ModuleType) -> None:
    effects: Snippets = world.EFFECTS
    guards: Snippets = world.GUARDS
    assert [untranslated(machine, effects, guards) for machine in machines(world)] == [
        [] for _ in machines(world)
    ]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: str(world.__name__).split(".")[-1])
def test_nothing_is_translated_that_no_table_has(world: ModuleType) -> None:
    rows = [row for machine in machines(world) for row in machine.rows]
    used = {effect for row in rows for effect in row.do}
    assert set(world.EFFECTS) == used
    assert set(world.GUARDS) == {guard for row in rows for guard in row.guards}


def test_a_new_effect_is_refused_by_name() -> None:
    def do_something_new(_dialing: object, _event: object) -> None: ...

    row: Row[dialing.Dialing] = evolve(dialing.TABLE.rows[0], do=(do_something_new,))
    machine = evolve(handshake.DIALER, rows=(row,))
    with pytest.raises(Untranslated, match="do_something_new"):
        translate(machine, handshake.EFFECTS, handshake.GUARDS)


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: str(world.__name__).split(".")[-1])
def test_each_row_becomes_one_option_and_leaves_with_it(world: ModuleType) -> None:
    for machine in machines(world):
        options = Counter(translate(machine, world.EFFECTS, world.GUARDS).splitlines())
        for row in machine.rows:
            fewer = translate(machine.without(row), world.EFFECTS, world.GUARDS).splitlines()
            [gone] = (options - Counter(fewer)).elements()
            [instead] = (Counter(fewer) - options).elements()
            assert instead.endswith(f"{machine.prefix}_{row.source.name} -> skip")
            assert f"{machine.prefix}_{row.source.name}" in gone
            assert gone.endswith(f"= {machine.prefix}_{row.dest.name}"), row_name(row)


def test_every_promise_is_asked_again_with_something_left_out() -> None:
    assert [claim.name for claim in CLAIMS if claim.holds and not claim.without] == []
    assert [prop.name for prop in PROPERTIES if prop.holds and not prop.needs] == []


def test_every_step_that_can_be_left_out_is_left_out_somewhere() -> None:
    assert {step for claim in CLAIMS for steps in claim.without for step in steps} == set(Step)


def test_names_are_unique() -> None:
    for names in ([q.name for q in queries()], [check.name for check in checks()]):
        assert [name for name, count in Counter(names).items() if count > 1] == []


def test_the_symbolic_handshake_takes_its_tokens_from_the_noise_pattern_of_the_code() -> None:
    whole = symbolic_handshake(HONEST, "psk", "prologue", ("p", "q"), frozenset())
    assert len(whole.hello) == 3, "e, s and the parameters"
    assert len(whole.reply) == 2, "e and the parameters"
    agreed = ["dh(ed,b)", "dh(a,b)", "dh(ed,el)", "dh(a,el)", "psk"]
    at = [whole.chain.index(thing) for thing in agreed]
    assert at == sorted(at), "es, ss, ee, se, psk"
    assert whole.chain.count("mix(") == len(agreed) + 2, "both ephemeral keys are mixed in as well"


@pytest.mark.parametrize("step", [Step.EE, Step.ES, Step.SE, Step.SS, Step.PSK])
def test_a_token_left_out_is_nowhere_in_the_handshake(step: Step) -> None:
    whole = symbolic_handshake(HONEST, "psk", "prologue", ("p", "q"), frozenset())
    part = symbolic_handshake(HONEST, "psk", "prologue", ("p", "q"), frozenset({step}))
    assert part.chain.count("mix(") < whole.chain.count("mix(")


def test_the_clauses_are_horn() -> None:
    theory = World(Setting(generations=2, epochs=1)).theory
    for line in theory.as_tptp().splitlines():
        if line.startswith("cnf"):
            literals = line.split(", (", 1)[1].removesuffix(")).").split(" | ")
            assert sum(not literal.startswith("~") for literal in literals) <= 1
