"""`python -m spec.models.symbolic`: what the cryptography promises, and what it rests on.

Each claim is asked twice: as the protocol is, where it must hold for any number of sessions, and
with one step left out, where an attack must appear. Limits, which PROTOCOL.md admits, must be
attacks as well: a model in which they are none would be too weak to find others.

Rules: exit code 1 on any surprise. What the method cannot say is in `docs/evidence.md`.
Left to others: the clauses (`world`), the prover (`horn`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from typing import Final

from attrs import evolve, frozen

from spec.models.horn import PROVER, SECONDS_MAX, Answer, Theory, Verdict, ask, available
from spec.models.world import (
    ATTACKER,
    COMPUTES,
    DEVICE,
    LISTENER,
    PAIRING,
    Oracle,
    Setting,
    Step,
    World,
    dialers_data,
    knows,
    learns,
    listeners_data,
    public,
    secret_of,
)

FILE: Final = secret_of(0)
EVERYTHING_LONG_TERM: Final = (DEVICE, LISTENER, FILE)


@frozen
class Claim:
    """`bad`: atoms that must not be derivable together. `without`: steps without which it falls.

    A claim with `holds=False` is a limit: the attack must exist.
    """

    name: str
    says: str
    setting: Setting
    bad: tuple[str, ...]
    without: tuple[tuple[Step, ...], ...] = ()
    holds: bool = True


@frozen
class Query:
    """A claim as it is, or without some step."""

    claim: Claim
    without: tuple[Step, ...] = ()

    @property
    def expected(self) -> Verdict:
        return Verdict.HOLDS if self.claim.holds and not self.without else Verdict.ATTACK

    @property
    def name(self) -> str:
        return " ".join([self.claim.name, *(f"-{step.name.lower()}" for step in self.without)])

    def theory(self) -> Theory:
        setting = self.claim.setting
        setting = evolve(setting, omit=setting.omit | set(self.without))
        theory = World(setting).theory
        theory.never(f"the bad thing: {' and '.join(self.claim.bad)}", *self.claim.bad)
        return theory


def accepted(pairing: str, generation: int, device: str) -> str:
    """The listener has a confirmed link with `device`."""
    return f"lroot({pairing},g{generation},e0,{device},R)"


def answered(generation: int, device: str) -> str:
    return f"answered({PAIRING},g{generation},{device})"


SOUNDNESS: Final = (
    Claim(
        "completes",
        "device and listener do meet, twice (or else every promise would hold for nothing)",
        Setting(generations=2),
        ("droot(g1,e0,R)", accepted(PAIRING, 1, DEVICE)),
        holds=False,
    ),
    Claim(
        "ratchets",
        "and ratchet, twice, to equal roots",
        Setting(first=1, agreed_root=True, epochs=2),
        ("droot(g1,e2,R)", f"lroot({PAIRING},g1,e2,{DEVICE},R)"),
        holds=False,
    ),
)

SECRECY: Final = (
    Claim(
        "data-dialer",
        "nobody reads what the device says, over two generations",
        Setting(generations=2),
        (knows("data(dialer,G,E)"),),
        ((Step.PSK, Step.ES, Step.SS, Step.ENVELOPE),),
    ),
    Claim(
        "data-listener",
        "nobody reads what the listener says to the device, from its second link on",
        Setting(first=1, generations=2),
        (knows("data(listener,G,E)"),),
        ((Step.PSK, Step.SE, Step.SS, Step.ENVELOPE),),
    ),
    Claim(
        "data-ratcheted",
        "nobody reads what either says, over two ratchets",
        Setting(first=1, agreed_root=True, epochs=2),
        (knows("data(X,G,E)"),),
        ((Step.SEAL, Step.ROOT),),
    ),
    Claim(
        "next-secret-dialer",
        "whoever has the file's secret does not get the device's next one",
        Setting(known=(FILE,)),
        ("dcred(g1,S)", knows("S")),
        ((Step.CHAIN,),),
    ),
    Claim(
        "next-secret-listener",
        "whoever has one generation's secret does not get the listener's next one",
        Setting(first=1, known=(secret_of(1),)),
        (f"lcred({PAIRING},g2,S,Z)", knows("S")),
        (
            (Step.CHAIN,),
            (Step.PIN,),
        ),
    ),
    Claim(
        "identity",
        "who has the listener's key but no credential does not learn which device calls",
        Setting(known=(LISTENER,), device_is_known=False),
        (knows(public(DEVICE)),),
        ((Step.ENVELOPE,),),
    ),
    Claim(
        "identity-limit",
        "who has the listener's key and the credential does (21.3)",
        Setting(known=(LISTENER, FILE), device_is_known=False),
        (knows(public(DEVICE)),),
        holds=False,
    ),
)

AUTHENTICATION: Final = (
    Claim(
        "silence",
        "no stranger gets an answer from the listener",
        Setting(dialled=()),
        (answered(0, "Z"),),
        ((Step.ENVELOPE,),),
    ),
    Claim(
        "device-accepted",
        "no device is accepted at a later generation that did not dial at it, even by a thief of "
        "the listener's key and the credential",
        Setting(first=1, dialled=(), known=(LISTENER, secret_of(1))),
        (accepted(PAIRING, 1, "Z"),),
        (
            (Step.SE,),
            (Step.PIN,),
        ),
    ),
    Claim(
        "listener-accepted",
        "the device accepts no listener that did not answer, even when its own key and the file "
        "are stolen",
        Setting(listener_answers=False, known=(DEVICE, FILE)),
        ("droot(g0,e0,R)",),
        ((Step.ES,),),
    ),
    Claim(
        "hello-origin",
        "nobody makes a HELLO in the device's name, even with the credential",
        Setting(first=1, dialled=(), known=(secret_of(1),)),
        (answered(1, DEVICE),),
        ((Step.SS,),),
    ),
    Claim(
        "hello-generation",
        "a HELLO of one generation is none of the next, even for who has both credentials",
        Setting(first=1, dialled=(), superseded=True, known=(FILE, secret_of(1))),
        (answered(1, DEVICE),),
        ((Step.GENERATION,),),
    ),
    Claim(
        "replay",
        "recorded HELLOs confirm nothing: a device that never takes a REPLY is never accepted",
        Setting(first=1, device_finishes=False),
        (accepted(PAIRING, 1, "Z"),),
        ((Step.CONFIRM,),),
    ),
)

THEFT: Final = (
    Claim(
        "kci-device",
        "who has the device's key and the credential cannot play the listener to it",
        Setting(known=(DEVICE, FILE)),
        (knows(dialers_data(0, 0)),),
        ((Step.ES,),),
    ),
    Claim(
        "kci-listener",
        "who has the listener's key and the credential cannot play the device to it",
        Setting(first=1, known=(LISTENER, secret_of(1))),
        (knows(listeners_data(1, 0)),),
        ((Step.SE,),),
    ),
    Claim(
        "listener-key",
        "who has the listener's key and the envelope key cannot play the listener to a device",
        Setting(known=(LISTENER, f"envelope({FILE})")),
        (knows(dialers_data(0, 0)),),
        ((Step.PSK,),),
    ),
    Claim(
        "listener-key-limit",
        "who has the listener's key and the credential can (21.3)",
        Setting(known=(LISTENER, FILE)),
        (knows(dialers_data(0, 0)),),
        holds=False,
    ),
    Claim(
        "both-keys",
        "who has both static keys and the envelope key, but no psk, reads nothing",
        Setting(first=1, known=(DEVICE, LISTENER, f"envelope({secret_of(1)})")),
        (knows("data(X,g1,e0)"),),
        ((Step.PSK,),),
    ),
    Claim(
        "forward-secrecy",
        "all static keys and the credential, revealed later, open no recorded link",
        Setting(revealed=EVERYTHING_LONG_TERM),
        (learns("data(X,G,E)"),),
        ((Step.EE,),),
    ),
    Claim(
        "forward-secrecy-next",
        "nor do they give the next generation's secret",
        Setting(revealed=EVERYTHING_LONG_TERM),
        ("dcred(g1,S)", learns("S")),
        (
            (Step.EE,),
            (Step.CHAIN,),
        ),
    ),
)

FILE_THEFT: Final = (
    Claim(
        "file-before-limit",
        "who steals the file and its key before it is redeemed can redeem it (21.3)",
        Setting(known=(FILE,)),
        (accepted(PAIRING, 0, ATTACKER),),
        holds=False,
    ),
    Claim(
        "file-before-owner",
        "but neither reads what the owner's device then says, nor plays the listener to it",
        Setting(known=(FILE,)),
        (knows("data(dialer,G,E)"),),
        ((Step.ES, Step.SS),),
    ),
    Claim(
        "file-after",
        "who steals it after it was redeemed is never accepted",
        Setting(first=1, superseded=True, known=(FILE,)),
        (f"lroot({PAIRING},G,E,{ATTACKER},R)",),
        ((Step.RETIRE,),),
    ),
    Claim(
        "file-after-answer",
        "nor answered with anything but a refusal",
        Setting(first=1, dialled=(), superseded=True, known=(FILE,)),
        (f"answered({PAIRING},G,Z)",),
        ((Step.RETIRE,),),
    ),
    Claim(
        "file-after-noticed",
        "but can be noticed: its use raises the alarm (7.4)",
        Setting(first=1, dialled=(), superseded=True, known=(FILE,)),
        ("reported(g0)",),
        holds=False,
    ),
    Claim(
        "no-false-alarm",
        "a recorded HELLO in the hands of who has no credential raises no alarm",
        Setting(first=1, superseded=True, known=(LISTENER,)),
        ("reported(g0)",),
        ((Step.COOKIE,),),
    ),
)

RATCHET: Final = (
    Claim(
        "healing",
        "who learns a root and only listens during one ratchet is out again",
        Setting(first=1, agreed_root=True, epochs=2, passive=True, known=("r0",)),
        (knows("data(X,g1,e1)"),),
        ((Step.RATCHET,),),
    ),
    Claim(
        "healing-lasts",
        "and stays out of the epoch after, although active again",
        Setting(first=1, agreed_root=True, epochs=2, passive=True, known=("r0",)),
        (knows("data(X,g1,e2)"),),
        ((Step.RATCHET,),),
    ),
    Claim(
        "healing-limit",
        "who learns a root and stays active keeps the link (21.2, 6)",
        Setting(first=1, agreed_root=True, epochs=1, known=("r0",)),
        (knows("data(X,g1,e1)"),),
        holds=False,
    ),
    Claim(
        "earlier-epochs",
        "who learns the root of an epoch does not read the epoch before",
        Setting(first=1, agreed_root=True, epochs=1, leaked_epoch=1),
        (learns("data(X,g1,e0)"),),
        ((Step.ONE_WAY,),),
    ),
)

QUANTUM: Final = (
    Claim(
        "quantum-psk",
        "a recorded link stays closed to who breaks X25519 later, if no psk ever leaked",
        Setting(revealed=(f"envelope({FILE})",), broken_later=(Oracle.CURVE,)),
        (learns("data(X,G,E)"),),
        ((Step.PSK,),),
    ),
    Claim(
        "quantum-active",
        "even one who breaks X25519 today does not get in without a psk",
        Setting(known=(f"envelope({FILE})",), broken=(Oracle.CURVE,)),
        (knows("data(X,G,E)"),),
        ((Step.PSK,),),
    ),
    Claim(
        "quantum-file-limit",
        "with the file as well, epoch 0 of the recorded link opens (21.2, 5)",
        Setting(revealed=EVERYTHING_LONG_TERM, broken_later=(Oracle.CURVE,)),
        (learns(dialers_data(0, 0)),),
        holds=False,
    ),
    Claim(
        "quantum-ratchet",
        "but nothing after the first ratchet does",
        Setting(
            first=1,
            agreed_root=True,
            epochs=1,
            revealed=("r0",),
            broken_later=(Oracle.CURVE,),
        ),
        (learns(dialers_data(1, 1)),),
        (
            (Step.KEM,),
            (Step.RATCHET,),
        ),
    ),
    Claim(
        "hybrid",
        "if ML-KEM falls instead, and the root leaks, X25519 in the ratchet still holds",
        Setting(
            first=1,
            agreed_root=True,
            epochs=1,
            passive=True,
            known=("r0",),
            broken=(Oracle.KEM,),
        ),
        (knows("data(X,g1,e1)"),),
        (
            (Step.CURVE,),
            (Step.RATCHET,),
        ),
    ),
)

GROUPS: Final = {
    "the model lives": SOUNDNESS,
    "secrecy": SECRECY,
    "authentication": AUTHENTICATION,
    "theft of keys": THEFT,
    "theft of a file": FILE_THEFT,
    "ratchet": RATCHET,
    "post-quantum": QUANTUM,
}


def queries() -> Iterator[Query]:
    """Every claim as it is, then without each of its steps."""
    for group in GROUPS.values():
        for claim in group:
            yield Query(claim)
            for without in claim.without:
                yield Query(claim, without)


def trace(answer: Answer) -> Iterator[str]:
    """What an attack uses: what it starts from, the protocol's steps, and what it computes."""
    says = list(dict.fromkeys(step.says for step in answer.steps))
    computes = [line for line in says if line.startswith(COMPUTES)]
    yield from (line for line in says if line not in computes)
    if computes:
        yield COMPUTES + ", ".join(line.removeprefix(COMPUTES) for line in computes)


_WORDS: Final = {
    Verdict.HOLDS: "holds",
    Verdict.ATTACK: "attack",
    Verdict.UNKNOWN: "unknown",
}


def run(seconds_max: int, traces: bool, only: list[str], jobs: int) -> int:
    """Ask everything, print the table. Returns the number of surprises."""
    asked = [query for query in queries() if not only or query.claim.name in only]
    surprises = 0
    print(f"{'query':40} {'expected':9} {'found':8} {'seconds':>7}")
    with ThreadPoolExecutor(jobs) as pool:
        answers = pool.map(lambda query: ask(query.theory(), seconds_max), asked)
        for query, answer in zip(asked, answers, strict=True):
            surprise = answer.verdict is not query.expected
            surprises += surprise
            print(
                f"{query.name:40} {_WORDS[query.expected]:9} {_WORDS[answer.verdict]:8} "
                f"{answer.seconds:7.2f}{'  <-- SURPRISE' if surprise else ''}"
            )
            if answer.steps and (traces or surprise):
                print(f"    against: {query.claim.says}")
                print("\n".join(f"    - {line}" for line in trace(answer)))
    print(f"{len(asked)} queries, {surprises} surprises")
    return surprises


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m spec.models.symbolic", description=__doc__)
    parser.add_argument("claims", nargs="*", help="names of claims; all when none is given")
    parser.add_argument("--traces", action="store_true", help="print the steps of every attack")
    parser.add_argument("--tptp", action="store_true", help="print the clauses instead of asking")
    parser.add_argument("--seconds", type=int, default=SECONDS_MAX, help="for each query")
    parser.add_argument("--jobs", type=int, default=min(4, cpu_count() or 1))
    arguments = parser.parse_args()
    unknown = set(arguments.claims) - {query.claim.name for query in queries()}
    if unknown:
        parser.error(f"no such claim: {', '.join(sorted(unknown))}")
    if arguments.tptp:
        for query in queries():
            if query.claim.name in arguments.claims:
                print(f"% --- {query.name}\n{query.theory().as_tptp()}")
        return 0
    if not available():
        print(f"{PROVER} is not installed (Debian: apt-get install {PROVER})", file=sys.stderr)
        return 2
    return int(run(arguments.seconds, arguments.traces, arguments.claims, arguments.jobs) > 0)


if __name__ == "__main__":
    sys.exit(main())
