"""The protocol and its attacker as Horn clauses: PROTOCOL.md sections 4 to 8 and 16.

Honest are one device (static key `a`) and one listener (`b`), paired by a bootstrap file; the
listener also serves a pairing of the attacker's own. The attacker reads, keeps back, alters and
sends everything, and starts as many attempts as it likes. The order of tokens comes from the
Noise pattern that the code runs.

Rules: names stand for all sessions of one role at one generation and epoch: to identify sessions
can only add attacks, never hide one. Constructors are free but for `dh(X,Y) = dh(Y,X)`, where X
and Y are private keys. What a message is made under matters to the attacker, what it is made
*about* does not: associated data, transcripts and salts cost it nothing.
Left to others: the prover (`horn`), the questions (`symbolic`).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, unique
from functools import partial
from itertools import combinations
from typing import Final

from attrs import frozen

from clawchat.core.crypto.noise import PATTERN, Token, messages_of
from spec.models.horn import Theory, term

DEVICE: Final = "a"
LISTENER: Final = "b"
ATTACKER: Final = "m"
PAIRING: Final = "f"
PARAMETERS: Final = "parameters"
COMPUTES: Final = "the attacker by itself: "


@unique
class Step(Enum):
    """What a variant leaves out."""

    EE = "the Noise token ee"
    ES = "the Noise token es"
    SE = "the Noise token se"
    SS = "the Noise token ss"
    PSK = "the Noise token psk"
    ENVELOPE = "the envelope"
    GENERATION = "the generation in the prologue"
    PIN = "the check of the pinned device"
    RETIRE = "giving up a generation that was replaced"
    CONFIRM = "waiting for the dialer's first packet"
    CHAIN = "taking the next secret from the handshake"
    COOKIE = "the cookie before an alarm"
    RATCHET = "a fresh secret in the ratchet"
    KEM = "ML-KEM in the ratchet"
    CURVE = "X25519 in the ratchet"
    SEAL = "the sealing of ratchet messages"
    ROOT = "the old root in the new one"
    ONE_WAY = "one-wayness of the ratchet"


_TOKENS: Final = {
    Step.EE: Token.EE,
    Step.ES: Token.ES,
    Step.SE: Token.SE,
    Step.SS: Token.SS,
    Step.PSK: Token.PSK,
}


@unique
class Oracle(Enum):
    """What the attacker can break."""

    CURVE = "X25519: private keys from public ones"
    KEM = "ML-KEM: private keys from public ones"


@frozen
class Setting:
    """One world. What is in `known` the attacker has from the start, what is in `revealed` only
    after all honest sessions are over; `broken` and `broken_later` likewise.
    """

    first: int = 0
    generations: int = 1
    epochs: int = 0
    known: tuple[str, ...] = ()
    revealed: tuple[str, ...] = ()
    broken: tuple[Oracle, ...] = ()
    broken_later: tuple[Oracle, ...] = ()
    dialled: tuple[int, ...] | None = None  # generations in which the device dials; None: all
    device_finishes: bool = True
    listener_answers: bool = True
    device_is_known: bool = True
    agreed_root: bool = False  # begin with the root of epoch 0 instead of a handshake
    passive: bool = False  # during the first ratchet the attacker only listens
    leaked_epoch: int | None = None  # whose root the attacker gets afterwards
    superseded: bool = False  # the listener also knows generation `first` - 1 as replaced
    omit: frozenset[Step] = frozenset()


# --- terms ------------------------------------------------------------------------------------


def public(private: str) -> str:
    return term("pk", private)


def shared(first: str, second: str, *, turned: bool = False) -> str:
    """A Diffie-Hellman result of two private keys, in one of its two spellings."""
    return term("dh", second, first) if turned else term("dh", first, second)


def secret_of(generation: int) -> str:
    """The secret with which a world begins."""
    return f"s{generation}"


def dialers_data(generation: int, epoch: int) -> str:
    """What the device's application says."""
    return term("data", "dialer", f"g{generation}", f"e{epoch}")


def listeners_data(generation: int, epoch: int) -> str:
    """What the listener's application says to the device."""
    return term("data", "listener", f"g{generation}", f"e{epoch}")


def knows(thing: str) -> str:
    """While sessions run."""
    return term("att", thing)


def learns(thing: str) -> str:
    """After they are over."""
    return term("later", thing)


# --- Noise ------------------------------------------------------------------------------------


@frozen
class Keys:
    """Private keys of one handshake; a variable is the other side's, whoever that is."""

    dialer_ephemeral: str
    dialer: str
    listener_ephemeral: str
    listener: str

    def pair(self, token: Token) -> tuple[str, str]:
        """The two keys that a token of two letters names, the dialer's first."""
        first = self.dialer_ephemeral if token.value[0] == "e" else self.dialer
        second = self.listener_ephemeral if token.value[1] == "e" else self.listener
        return first, second

    def doubtful(self) -> list[Token]:
        """Tokens that may have to be spelled the other way round: one key is a variable.

        A normal form needs one order of all keys. `b` is the last of them, so what is agreed with
        it always ends in it; two names are spelled one way everywhere.
        """
        pairs = {token: self.pair(token) for token in (Token.EE, Token.ES, Token.SE, Token.SS)}
        return [
            token
            for token, (first, second) in pairs.items()
            if (first.isupper() or second.isupper()) and LISTENER not in (first, second)
        ]


class _Symmetric:
    """Noise's SymmetricState as terms."""

    def __init__(self, prologue: str) -> None:
        self.chain = "ck"
        self.transcript = prologue
        self._key = ""

    def mix_hash(self, thing: str) -> None:
        self.transcript = term("hash", self.transcript, thing)

    def mix_key(self, thing: str) -> None:
        self.chain = term("mix", self.chain, thing)
        self._key = term("key", self.chain)

    def seal(self, thing: str) -> str:
        sealed = term("aead", self._key, self.transcript, thing) if self._key else thing
        self.mix_hash(sealed)
        return sealed


@frozen
class Handshake:
    """Both messages as the parts that travel, and what both sides have at the end."""

    hello: tuple[str, ...]
    reply: tuple[str, ...]
    chain: str
    transcript: str


def handshake(
    keys: Keys,
    psk: str,
    prologue: str,
    payloads: tuple[str, str],
    omit: frozenset[Step],
    turned: frozenset[Token] = frozenset(),
) -> Handshake:
    """Run the pattern of the code, without the tokens in `omit`."""
    pattern, rows = messages_of(PATTERN)
    assert (pattern.initiator_known, pattern.responder_known) == (False, True)
    left_out = {_TOKENS[step] for step in omit if step in _TOKENS}
    psk_mode = Token.PSK not in left_out and any(Token.PSK in row for row in rows)
    state = _Symmetric(term("hash", prologue, public(keys.listener)))
    owners = (keys.dialer_ephemeral, keys.dialer), (keys.listener_ephemeral, keys.listener)
    messages = []
    for row, (ephemeral, static), payload in zip(rows, owners, payloads, strict=True):
        parts = []
        for token in row:
            if token is Token.E:
                parts.append(public(ephemeral))
                state.mix_hash(parts[-1])
                if psk_mode:
                    state.mix_key(parts[-1])
            elif token in left_out:
                continue
            elif token is Token.S:
                parts.append(state.seal(public(static)))
            elif token is Token.PSK:
                state.mix_key(psk)
                state.mix_hash(term("tmp", state.chain))
            else:
                state.mix_key(shared(*keys.pair(token), turned=token in turned))
        parts.append(state.seal(payload))
        messages.append(tuple(parts))
    return Handshake(messages[0], messages[1], state.chain, state.transcript)


# --- the world --------------------------------------------------------------------------------


class World:
    """Writes the clauses of a setting into a theory."""

    def __init__(self, setting: Setting, *, compiled: bool = True) -> None:
        self.theory = Theory()
        self._setting = setting
        self._compiled = compiled
        self._omit = setting.omit
        if not compiled:
            self.theory.fact("commutes", "Diffie-Hellman commutes", "dh(X,Y) = dh(Y,X)")
        later = bool(setting.revealed or setting.broken_later) or setting.leaked_epoch is not None
        self._attacker("att", setting.broken)
        self._has_later = later
        if later:
            self._attacker("later", setting.broken + setting.broken_later)
        self._beginning()
        if setting.agreed_root:
            self._agreed()
        else:
            for generation in self._generations():
                self._device(generation)
                self._listener(generation)
            self._agreement()
        if setting.superseded:
            self._superseded(setting.first - 1)
        for epoch in range(setting.epochs):
            if epoch == 0 and setting.passive:
                self._overheard_ratchet(epoch)
            else:
                self._ratchet(epoch)
        self._data()

    # --- who knows what -------------------------------------------------------------------------

    def _beginning(self) -> None:
        setting, theory = self._setting, self.theory
        public_things = ["ck", PARAMETERS, ATTACKER, public(LISTENER), "s_own"]
        if setting.device_is_known:
            public_things.append(public(DEVICE))
        theory.fact(
            "public", "the attacker has keys and a pairing of its own", *map(knows, public_things)
        )
        for thing in setting.known:
            theory.fact("stolen", f"the attacker has {thing}", knows(thing))
        if self._has_later:
            theory.rule("recorded", "everything was recorded", [knows("X")], learns("X"))
        for thing in setting.revealed:
            theory.fact("revealed", f"afterwards the attacker gets {thing}", learns(thing))
        if setting.leaked_epoch is not None:
            epoch = f"e{setting.leaked_epoch}"
            says = f"afterwards the attacker gets the device's root of epoch {setting.leaked_epoch}"
            theory.rule("leaked", says, [term("droot", "G", epoch, "R")], learns("R"))
        if setting.agreed_root:
            return
        first, secret = f"g{setting.first}", secret_of(setting.first)
        theory.fact("device_has", "the device holds its credential", term("dcred", first, secret))
        pinned = "Z" if setting.first == 0 or Step.PIN in self._omit else DEVICE
        theory.fact(
            "listener_has",
            "the listener accepts that credential" + (" from any device" if pinned == "Z" else ""),
            term("lcred", PAIRING, first, secret, pinned),
        )
        if Step.RETIRE in self._omit and setting.first > 0:
            theory.fact(
                "not_retired",
                "the listener still accepts the generation before",
                term("lcred", PAIRING, f"g{setting.first - 1}", secret_of(setting.first - 1), "Z"),
            )
        theory.fact(
            "own_pairing",
            "the listener also serves the attacker's own device",
            term("lcred", "f_own", first, "s_own", "Z"),
        )

    def _computes(self, phase: str, name: str, says: str, has: tuple[str, ...], *gets: str) -> None:
        suffix = "" if phase == "att" else f"_{phase}"
        premises = [term(phase, thing) for thing in has]
        gets = tuple(term(phase, thing) for thing in gets)
        self.theory.rule(name + suffix, f"{COMPUTES}{says}", premises, *gets)

    def _attacker(self, phase: str, broken: tuple[Oracle, ...]) -> None:
        """All that can be computed. Associated data and transcripts are variables: no cost."""
        rule = partial(self._computes, phase)
        agreed = (shared("X", "Y"), shared("Y", "X")) if self._compiled else (shared("X", "Y"),)
        rule("public_key", "public keys", ("X",), public("X"))
        rule("agree", "Diffie-Hellman results", ("X", public("Y")), *agreed)
        rule("mix", "chaining keys", ("X", "Y"), "mix(X,Y)")
        rule("key", "handshake keys", ("X",), "key(X)")
        rule("root", "roots", ("X",), "root(X,H)")
        rule("next", "next secrets", ("X",), "next(X,H)")
        rule("credential", "credentials from secrets", ("S",), "envelope(S)", "psk(S)")
        rule("packet_key", "packet keys from roots", ("R",), "packets(R,D)")
        rule("encrypt", "encrypting", ("K", "P"), "aead(K,H,P)")
        rule("decrypt", "decrypting", ("K", "aead(K,H,P)"), "P")
        rule("kem_public", "KEM public keys", ("K",), "kpk(K)")
        rule("encapsulate", "encapsulating", ("kpk(K)", "N"), "kct(K,N)", "kss(K,N)")
        rule("decapsulate", "decapsulating", ("K", "kct(K,N)"), "kss(K,N)")
        rule("combine", "X-Wing secrets", ("X", "Y"), "xwing(X,Y)")
        rule("ratchet_root", "next roots", ("R", "X"), "ratchet(R,X,T)")
        if Step.CHAIN in self._omit:
            rule("next_of_secret", "next secrets from secrets", ("S",), "successor(S)")
        if Step.ONE_WAY in self._omit:
            rule("unratchet", "roots before a ratchet", ("ratchet(R,X,T)",), "R")
        if Oracle.CURVE in broken:
            rule("log", "breaking X25519", (public("X"),), "X")
        if Oracle.KEM in broken:
            rule("kem_log", "breaking ML-KEM", ("kpk(K)",), "K")
        self._attacker_messages(phase)

    def _attacker_messages(self, phase: str) -> None:
        """Envelopes and control messages, put together and taken apart."""
        rule = partial(self._computes, phase)
        if Step.ENVELOPE not in self._omit:
            for kind, size in (("hello", 3), ("reply", 2), ("refusal", 1)):
                parts = tuple(f"P{at}" for at in range(size))
                whole = term(kind, "K", *parts)
                rule(f"wrap_{kind}", f"making a {kind.upper()}", ("K", *parts), whole)
                rule(f"open_{kind}", f"opening a {kind.upper()}", ("K", whole), *parts)
        rule("make_offer", "ratchet offers", (public("X"), "kpk(K)"), "offer(pk(X),kpk(K))")
        rule("read_offer", "reading ratchet offers", ("offer(X,Y)",), "X", "Y")
        rule("make_answer", "ratchet replies", (public("Y"), "C"), "answer(pk(Y),C)")
        rule("read_answer", "reading ratchet replies", ("answer(X,Y)",), "X", "Y")

    # --- the handshake --------------------------------------------------------------------------

    def _envelope(self, kind: str, secret: str, parts: tuple[str, ...]) -> list[str]:
        """The atoms that say: this is on the wire."""
        if Step.ENVELOPE in self._omit:
            return [knows(part) for part in parts]
        return [knows(term(kind, term("envelope", secret), *parts))]

    def _prologue(self, pairing: str, generation: str) -> str:
        if Step.GENERATION in self._omit:
            return term("prologue", pairing)
        return term("prologue", pairing, generation)

    def _device(self, number: int) -> None:
        """HELLO, then the REPLY and what follows from it."""
        setting = self._setting
        if setting.dialled is not None and number not in setting.dialled:
            return
        generation = f"g{number}"
        keys = Keys(term("ed", generation), DEVICE, "Y", LISTENER)
        prologue = self._prologue(PAIRING, generation)
        for done in self._spelled(keys, "psk(S)", prologue, (PARAMETERS, "Q")):
            self._device_steps(number, done)

    def _device_steps(self, number: int, done: Handshake) -> None:
        setting, rule, generation = self._setting, self.theory.rule, f"g{number}"
        dials = term("dcred", generation, "S")
        says = f"the device sends HELLO at generation {number}"
        rule(f"d_hello_{number}", says, [dials], *self._envelope("hello", "S", done.hello))
        if not setting.device_finishes:
            return
        heard = [dials, *self._envelope("reply", "S", done.reply)]
        says = f"the device accepts a REPLY at generation {number}"
        agreed = term("dagreed", generation, "S", done.chain, done.transcript)
        rule(f"d_accepts_{number}", says, heard, agreed)

    def _listener(self, number: int) -> None:
        """A HELLO answered, then a packet that confirms it."""
        if not self._setting.listener_answers:
            return
        generation = f"g{number}"
        keys = Keys("X", "Z", term("el", generation), LISTENER)
        prologue = self._prologue("F", generation)
        for done in self._spelled(keys, "psk(S)", prologue, ("P", PARAMETERS)):
            self._listener_steps(number, done)

    def _listener_steps(self, number: int, done: Handshake) -> None:
        rule, generation = self.theory.rule, f"g{number}"
        accepts = term("lcred", "F", generation, "S", "Z")
        heard = [accepts, *self._envelope("hello", "S", done.hello)]
        says = f"the listener answers a HELLO at generation {number}"
        rule(
            f"l_reply_{number}",
            says,
            heard,
            *self._envelope("reply", "S", done.reply),
            term("answered", "F", generation, "Z"),
        )
        agreed = term("lagreed", "F", generation, "S", "Z", done.chain, done.transcript)
        rule(f"l_agrees_{number}", says, heard, agreed)

    def _agreement(self) -> None:
        """What both sides make of a finished handshake."""
        rule, root, following = self.theory.rule, "root(C,H)", "next(C,H)"
        if Step.CHAIN in self._omit:
            following = "successor(S)"
        for number in self._generations():
            now, then = f"g{number}", f"g{number + 1}"
            agreed = [term("dagreed", now, "S", "C", "H")]
            rule(
                f"d_root_{number}", "the device has a link", agreed, term("droot", now, "e0", root)
            )
            says = "the device keeps the next generation"
            rule(f"d_next_{number}", says, agreed, term("dcred", then, following))
            proved = [term("lagreed", "F", now, "S", "Z", "C", "H")]
            if Step.CONFIRM not in self._omit:
                proved.append(self._packet(root, "dialer", "D"))
            says = f"a packet confirms the handshake of generation {number} to the listener"
            rule(f"l_root_{number}", says, proved, term("lroot", "F", now, "e0", "Z", root))
            pinned = "V" if Step.PIN in self._omit else "Z"
            says = "the listener keeps the next generation"
            rule(f"l_next_{number}", says, proved, term("lcred", "F", then, following, pinned))

    def _generations(self) -> range:
        setting = self._setting
        first = setting.first - (Step.RETIRE in setting.omit)
        return range(first, setting.first + setting.generations)

    def _spelled(
        self, keys: Keys, psk: str, prologue: str, payloads: tuple[str, str]
    ) -> Iterator[Handshake]:
        """The handshake, once for each way to spell its Diffie-Hellman results."""
        doubtful = keys.doubtful() if self._compiled else []
        for count in range(len(doubtful) + 1):
            for turned in combinations(doubtful, count):
                yield handshake(keys, psk, prologue, payloads, self._omit, frozenset(turned))

    def _superseded(self, number: int) -> None:
        """A HELLO of a generation that was replaced, and what makes it an alarm."""
        rule, generation, secret = self.theory.rule, f"g{number}", secret_of(number)
        earlier = Keys(term("ed", generation), DEVICE, "Y", LISTENER)
        prologue = self._prologue(PAIRING, generation)
        psk = term("psk", secret)
        sent = handshake(earlier, psk, prologue, (PARAMETERS, "Q"), self._omit)
        says = f"the device sent a HELLO at generation {number}, long ago"
        rule("d_old_hello", says, [], *self._envelope("hello", secret, sent.hello))
        keys = Keys("X", "Z", "Y", LISTENER)
        cookie = term("cookie", generation)
        asked = handshake(keys, psk, prologue, ("P", "Q"), self._omit)
        says = "the listener refuses it, with a cookie"
        refusal = self._envelope("refusal", secret, (cookie,))
        rule("l_refuses", says, self._envelope("hello", secret, asked.hello), *refusal)
        payload = "P" if Step.COOKIE in self._omit else cookie
        repeated = handshake(keys, psk, prologue, (payload, "Q"), self._omit)
        says = "the listener reports that the old generation is in use"
        heard = self._envelope("hello", secret, repeated.hello)
        rule("l_reports", says, heard, term("reported", generation))

    # --- the link -------------------------------------------------------------------------------

    def _agreed(self) -> None:
        generation = f"g{self._setting.first}"
        self.theory.fact(
            "agreed",
            "device and listener have agreed on the root r0",
            term("droot", generation, "e0", "r0"),
            term("lroot", PAIRING, generation, "e0", DEVICE, "r0"),
        )

    def _control(self, root: str, side: str, thing: str) -> str:
        """A message on the control stream."""
        return knows(thing) if Step.SEAL in self._omit else self._packet(root, side, thing)

    def _packet(self, root: str, side: str, thing: str) -> str:
        return knows(term("aead", term("packets", root, side), "hdr", thing))

    def _next_root(self, root: str, kem: str, curve: str, offer: str, answer: str) -> str:
        if Step.RATCHET in self._omit:
            kem = curve = "ck"
        if Step.KEM in self._omit:
            kem = "ck"
        if Step.CURVE in self._omit:
            curve = "ck"
        secret = term("xwing", kem, curve)
        if Step.ROOT in self._omit:
            root = "ck"
        return term("ratchet", root, secret, term("transcript", offer, answer))

    def _ratchet(self, number: int) -> None:
        """Offer, reply and the next root on both sides, over the network of the attacker."""
        rule, now, then = self.theory.rule, f"e{number}", f"e{number + 1}"
        ours, theirs = term("xd", now), term("xl", now)
        kem, draw = term("kd", now), term("nl", now)
        device = term("droot", "G", now, "R")
        offer = term("offer", public(ours), term("kpk", kem))
        says = f"the device offers a ratchet key in epoch {number}"
        rule(f"d_offers_{number}", says, [device], self._control("R", "dialer", offer))

        listener = term("lroot", "F", "G", now, "Z", "R")
        heard = term("offer", public("X"), "kpk(K)")
        answer = term("answer", public(theirs), term("kct", "K", draw))
        taken = [listener, self._control("R", "dialer", heard)]
        says = f"the listener answers a ratchet offer in epoch {number}"
        rule(f"l_answers_{number}", says, taken, self._control("R", "listener", answer))
        for turned in self._turns():
            agreed = shared("X", theirs, turned=turned)
            root = self._next_root("R", term("kss", "K", draw), agreed, heard, answer)
            after = term("lroot", "F", "G", then, "Z", root)
            rule(f"l_ratchets_{number}", says, taken, after)

        heard = term("answer", public("Y"), term("kct", kem, "N"))
        taken = [device, self._control("R", "listener", heard)]
        says = f"the device takes a ratchet reply in epoch {number}"
        for turned in self._turns():
            agreed = shared(ours, "Y", turned=turned)
            root = self._next_root("R", term("kss", kem, "N"), agreed, offer, heard)
            rule(f"d_ratchets_{number}", says, taken, term("droot", "G", then, root))

    def _turns(self) -> tuple[bool, ...]:
        return (False, True) if self._compiled else (False,)

    def _overheard_ratchet(self, number: int) -> None:
        """The same, with what one side sent being what the other received."""
        now, then = f"e{number}", f"e{number + 1}"
        ours, theirs = term("xd", now), term("xl", now)
        kem, draw = term("kd", now), term("nl", now)
        offer = term("offer", public(ours), term("kpk", kem))
        answer = term("answer", public(theirs), term("kct", kem, draw))
        root = self._next_root("R", term("kss", kem, draw), shared(ours, theirs), offer, answer)
        self.theory.rule(
            f"overheard_{number}",
            f"the ratchet of epoch {number} goes through, overheard",
            [term("droot", "G", now, "R"), term("lroot", "F", "G", now, "Z", "R")],
            self._control("R", "dialer", offer),
            self._control("R", "listener", answer),
            term("droot", "G", then, root),
            term("lroot", "F", "G", then, "Z", root),
        )

    def _data(self) -> None:
        rule = self.theory.rule
        device = [term("droot", "G", "E", "R")]
        rule("d_ping", "the device sends a packet", device, self._packet("R", "dialer", PARAMETERS))
        said = term("data", "dialer", "G", "E")
        rule("d_data", "the device sends data", device, self._packet("R", "dialer", said))
        listener = [term("lroot", PAIRING, "G", "E", DEVICE, "R")]
        said = term("data", "listener", "G", "E")
        says = "the listener sends data to the device"
        rule("l_data", says, listener, self._packet("R", "listener", said))
