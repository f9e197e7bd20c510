"""What all links of an endpoint share: hints of every generation, tickets of every write."""

from __future__ import annotations

from attrs import evolve

from clawchat.core.credential import Credential, Pairing, Superseded
from clawchat.core.crypto.schedule import derive_credential
from clawchat.core.registry import Registry


def generation(file_id: bytes, number: int) -> Credential:
    return derive_credential(file_id, number, bytes((number,)) * 32)


def superseded(credential: Credential) -> Superseded:
    return Superseded(credential.generation, credential.hint, credential.envelope_key)


FIRST, SECOND = b"1" * 16, b"2" * 16
OLDER, NEWER = generation(FIRST, 1), generation(FIRST, 2)
PAIRING = Pairing(
    FIRST, False, b"L" * 32, b"D" * 32, (NEWER, OLDER), (superseded(generation(FIRST, 0)),)
)
OTHER = Pairing(SECOND, False, b"L" * 32, None, (generation(SECOND, 0),))


def test_every_generation_is_found_by_its_hint() -> None:
    registry: Registry[str] = Registry()
    registry.remember(PAIRING)
    registry.remember(OTHER)
    assert registry.hints[NEWER.hint] == (FIRST, NEWER)
    assert registry.hints[OLDER.hint] == (FIRST, OLDER)
    assert registry.hints[PAIRING.superseded[0].hint] == (FIRST, PAIRING.superseded[0])
    assert registry.hints[OTHER.newest.hint] == (SECOND, OTHER.newest)


def test_a_newer_pairing_replaces_what_was_known_of_its_file() -> None:
    registry: Registry[str] = Registry()
    registry.remember(PAIRING)
    registry.remember(evolve(PAIRING, credentials=(NEWER,), superseded=(superseded(OLDER),)))
    assert registry.hints == {
        NEWER.hint: (FIRST, NEWER),
        OLDER.hint: (FIRST, superseded(OLDER)),
    }


def test_a_generation_that_is_accepted_wins_over_the_same_one_superseded() -> None:
    registry: Registry[str] = Registry()
    registry.remember(evolve(PAIRING, superseded=(superseded(NEWER),)))
    assert registry.hints[NEWER.hint] == (FIRST, NEWER)


def test_a_forgotten_pairing_is_found_by_none_of_its_hints() -> None:
    registry: Registry[str] = Registry()
    registry.remember(PAIRING)
    registry.remember(OTHER)
    registry.forget(FIRST)
    assert list(registry.pairings) == [SECOND]
    assert list(registry.hints) == [OTHER.newest.hint]


def test_forgetting_what_was_never_known_is_harmless() -> None:
    registry: Registry[str] = Registry()
    registry.forget(FIRST)
    assert not registry.pairings


def test_every_write_has_a_ticket_of_its_own() -> None:
    registry: Registry[str] = Registry()
    first = registry.next_ticket("a link", PAIRING)
    second = registry.next_ticket("another", OTHER)
    assert first != second
    assert registry.saving == {first: ("a link", PAIRING), second: ("another", OTHER)}
