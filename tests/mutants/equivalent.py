"""Mutants that no test can kill, because they are no mistakes. Each with why.

Rules: a mutant is named by its key (`operators.Mutant.key`), so an entry is void as soon as its
lines change; `python -m tests.mutants` says which entries no survivor needs any more.
"""

from __future__ import annotations

from typing import Final

_SURE: Final = "is written before it is read"
_FLAGS: Final = "the effects that change places set different flags, which are read after both"
_EXPECTED: Final = "no phase finds it unexpected, and only then its origin matters"
_SHIFTED_OUT: Final = "past the window's width every bit is shifted out, by whichever branch"

_COUNTED: Final = "it is counted one by one, and begins again when the turn goes over"

EQUIVALENT: Final[dict[str, str]] = {
    # --- core/phases/answering.py -----------------------------------------------------------------
    "phases.answering.Displaced.origin: origin = Origin.LOCAL => origin = Origin.PEER": _EXPECTED,
    "phases.answering.Displaced.origin: origin = Origin.LOCAL => origin = Origin.TIMER": _EXPECTED,
    # --- core/phases/bootstrap.py -----------------------------------------------------------------
    "phases.bootstrap.IssueAsked.origin: origin = Origin.LOCAL => origin = Origin.PEER": _EXPECTED,
    "phases.bootstrap.IssueAsked.origin: origin = Origin.LOCAL => origin = Origin.TIMER": _EXPECTED,
    "phases.bootstrap.IssueStopped.origin: origin = Origin.LOCAL => "
    "origin = Origin.PEER": _EXPECTED,
    "phases.bootstrap.IssueStopped.origin: origin = Origin.LOCAL => "
    "origin = Origin.TIMER": _EXPECTED,
    "phases.bootstrap.FileRedeemed.origin: origin = Origin.PEER => "
    "origin = Origin.LOCAL": _EXPECTED,
    "phases.bootstrap.FileRedeemed.origin: origin = Origin.PEER => "
    "origin = Origin.TIMER": _EXPECTED,
    # --- core/phases/compromised.py ---------------------------------------------------------------
    "phases.compromised.echoes_are_left: return compromise.echoes > 0 => "
    "return compromise.echoes != 0": "it counts down to 0 and is then not counted any more",
    "phases.compromised.Compromise.everything: everything: bool = False => "
    "everything: bool = True": f"the scope {_SURE}",
    "phases.compromised.Compromise.echoes: echoes: int = 0 => echoes: int = 1": (
        f"the number of acknowledgements {_SURE}"
    ),
    "phases.compromised.Compromise.echoes: echoes: int = 0 => echoes: int = -1": (
        f"the number of acknowledgements {_SURE}"
    ),
    "phases.compromised.TABLE SwapEffects Phase.SAFE x PeerDeclared: "
    "do=(note_peers_word, destroy_kept, seal_echoes, wipe_packets, give_receipt, send_echo,),": (
        _FLAGS
    ),
    "phases.compromised.TABLE SwapEffects Phase.SAFE x PeerDeclared: "
    "do=(destroy_kept, seal_echoes, note_peers_word, wipe_packets, give_receipt, send_echo,),": (
        _FLAGS
    ),
    "phases.compromised.TABLE SwapEffects Phase.DECLARING x PeerObeyed: "
    "do=(wipe_packets, note_confirmed, give_receipt,),": _FLAGS,
    "phases.compromised.TABLE SwapEffects Phase.DECLARING x PeerDeclared: "
    "do=(seal_echoes, note_confirmed, wipe_packets, give_receipt, send_echo,),": _FLAGS,
    # --- core/phases/dialing.py -------------------------------------------------------------------
    "phases.dialing.GivenUp.origin: origin = Origin.LOCAL => origin = Origin.PEER": _EXPECTED,
    "phases.dialing.GivenUp.origin: origin = Origin.LOCAL => origin = Origin.TIMER": _EXPECTED,
    "phases.dialing.Dialing.called_at: called_at: Instant = 0  # when the last one left => "
    "called_at: Instant = 1  # when the last one left": f"it {_SURE}",
    "phases.dialing.Dialing.called_at: called_at: Instant = 0  # when the last one left => "
    "called_at: Instant = -1  # when the last one left": f"it {_SURE}",
    "phases.dialing.the_other_has_its_turn: return len(dialing.pairing.credentials) > 1 and "
    "dialing.hellos >= HELLO_TURN => return len(dialing.pairing.credentials) != 1 and "
    "dialing.hellos >= HELLO_TURN": "who has no credential cannot dial",
    "phases.dialing.the_other_has_its_turn: return len(dialing.pairing.credentials) > 1 and "
    "dialing.hellos >= HELLO_TURN => return len(dialing.pairing.credentials) > 1 and "
    "dialing.hellos == HELLO_TURN": _COUNTED,
    "phases.dialing.the_other_has_its_turn: return len(dialing.pairing.credentials) > 1 and "
    "dialing.hellos >= HELLO_TURN => return len(dialing.pairing.credentials) > 1 and "
    "dialing.hellos is HELLO_TURN": _COUNTED,
    # --- core/crypto/replay.py --------------------------------------------------------------------
    "crypto.replay.ReplayWindow._advance: gaps = self._missing << gap | ((1 << gap) - 1) => "
    "gaps = self._missing << gap ^ ((1 << gap) - 1)": "the two have no bit in common",
    "crypto.replay.ReplayWindow.check: return age < 0 or self._missing >> age & 1 == 1 => "
    "return age < 0 or self._missing >> age & 1 >= 1": "one bit is 0 or 1",
    "crypto.replay.ReplayWindow.mark_run: if first == top and not self._missing: => "
    "if first is top and not self._missing:": "a short cut: the long way gives the same",
    "crypto.replay.ReplayWindow.mark_run: if first < top: => if first <= top:": (
        "from `top` to `top - 1` there is nothing to clear"
    ),
    "crypto.replay.ReplayWindow._advance: if run >= width: => if run == width:": _SHIFTED_OUT,
    "crypto.replay.ReplayWindow._advance: if run >= width: => if run > width:": _SHIFTED_OUT,
    "crypto.replay.ReplayWindow._advance: if run >= width: => if run is width:": _SHIFTED_OUT,
    "crypto.replay.ReplayWindow._advance: elif gap >= width: => elif gap > width:": _SHIFTED_OUT,
}


def why_equivalent(key: str) -> str | None:
    """Why this mutant behaves as the code it was made of; None when nobody said so."""
    return EQUIVALENT.get(key)
