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

_FLAGS_AND_NUMBER: Final = "a header is its flags above its number, and so not less than that"
_COUNTED: Final = "it is counted one by one, and then begins again"
_COUNTED_UP: Final = "it is counted one by one, and goes no further"
_NEGATIVE: Final = "nobody asks whether a number below 0 has come"
_NOT_FINISHED: Final = "any turn will do that is not the last: a handshake that is not finished"

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
    # --- core/phases/established.py ---------------------------------------------------------------
    "phases.established.Disturbed.origin: origin = Origin.LOCAL => origin = Origin.PEER": _EXPECTED,
    "phases.established.Disturbed.origin: origin = Origin.LOCAL => "
    "origin = Origin.TIMER": _EXPECTED,
    "phases.established.CloseAsked.origin: origin = Origin.LOCAL => "
    "origin = Origin.PEER": _EXPECTED,
    "phases.established.CloseAsked.origin: origin = Origin.LOCAL => "
    "origin = Origin.TIMER": _EXPECTED,
    # --- core/phases/following_ports.py -----------------------------------------------------------
    "phases.following_ports.PeerAnnounced.origin: origin = Origin.PEER => "
    "origin = Origin.LOCAL": _EXPECTED,
    "phases.following_ports.PeerAnnounced.origin: origin = Origin.PEER => "
    "origin = Origin.TIMER": _EXPECTED,
    "phases.following_ports.PeerLost.origin: origin = Origin.LOCAL => "
    "origin = Origin.PEER": _EXPECTED,
    "phases.following_ports.PeerLost.origin: origin = Origin.LOCAL => "
    "origin = Origin.TIMER": _EXPECTED,
    # --- core/phases/rotating_keys.py -------------------------------------------------------------
    "phases.rotating_keys.Rotation.asked: asked: bool = False  # whether one more rotation follows "
    "as soon as this one has settled => asked: bool = True  # whether one more rotation follows "
    "as soon as this one has settled": f"it {_SURE}",
    "phases.rotating_keys.Rotation.began: began: Instant = 0 => began: Instant = 1": f"it {_SURE}",
    "phases.rotating_keys.Rotation.began: began: Instant = 0 => began: Instant = -1": f"it {_SURE}",
    'phases.rotating_keys.Rotation.offer: offer: bytes = b"" => '
    "offer: bytes = b'X'": f"it {_SURE}",
    "phases.rotating_keys.RotationDue.origin: origin = Origin.TIMER => "
    "origin = Origin.LOCAL": _EXPECTED,
    "phases.rotating_keys.RotationDue.origin: origin = Origin.TIMER => "
    "origin = Origin.PEER": _EXPECTED,
    "phases.rotating_keys.RotationAsked.origin: origin = Origin.LOCAL => "
    "origin = Origin.PEER": _EXPECTED,
    "phases.rotating_keys.RotationAsked.origin: origin = Origin.LOCAL => "
    "origin = Origin.TIMER": _EXPECTED,
    # --- core/phases/rotating_ports.py ------------------------------------------------------------
    "phases.rotating_ports.PortAsked.origin: origin = Origin.LOCAL => "
    "origin = Origin.PEER": _EXPECTED,
    "phases.rotating_ports.PortAsked.origin: origin = Origin.LOCAL => "
    "origin = Origin.TIMER": _EXPECTED,
    "phases.rotating_ports.PeerMoves.origin: origin = Origin.PEER => "
    "origin = Origin.LOCAL": _EXPECTED,
    "phases.rotating_ports.PeerMoves.origin: origin = Origin.PEER => "
    "origin = Origin.TIMER": _EXPECTED,
    "phases.rotating_ports.LinkLost.origin: origin = Origin.LOCAL => "
    "origin = Origin.PEER": _EXPECTED,
    "phases.rotating_ports.LinkLost.origin: origin = Origin.LOCAL => "
    "origin = Origin.TIMER": _EXPECTED,
    "phases.rotating_ports.Move.tries: tries: int = 0 => tries: int = 1": f"it {_SURE}",
    "phases.rotating_ports.Move.tries: tries: int = 0 => tries: int = -1": f"it {_SURE}",
    "phases.rotating_ports.Move.began: began: Instant = 0 => began: Instant = 1": f"it {_SURE}",
    "phases.rotating_ports.Move.began: began: Instant = 0 => began: Instant = -1": f"it {_SURE}",
    "phases.rotating_ports.tried_enough: return move.tries >= SOCKET_TRIES => "
    "return move.tries == SOCKET_TRIES": _COUNTED,
    "phases.rotating_ports.Move.draw: ports = (PORT_FROM + (drawn + k & PORT_MASK) "
    "for k in range(len(taken) + 1)) => ports = (PORT_FROM + (drawn + k & PORT_MASK) "
    "for k in range(len(taken) + 2))": "of one more than are taken, one is free",
    # --- core/crypto/bootstrap.py -----------------------------------------------------------------
    "crypto.bootstrap._check_version: if version < VERSION: => "
    "if version != VERSION:": "a newer one was refused before",
    # --- core/crypto/envelope.py ------------------------------------------------------------------
    "crypto.envelope.open_reply: if inside[:1] == _REFUSAL: => if inside[:1] <= _REFUSAL:": (
        "nothing is less than a zero byte, but the empty text, which no envelope has inside"
    ),
    "crypto.envelope._seal: size = fitting[entropy(1)[0] % len(fitting)] => "
    "size = fitting[entropy(1)[ -1] % len(fitting)]": "the first of one byte is the last",
    # --- core/crypto/noise.py ---------------------------------------------------------------------
    "crypto.noise._Reader.take: if len(piece) != size: => "
    "if len(piece) < size:": "a piece cannot be longer",
    "crypto.noise.HandshakeState.finished: return self._turn == len(self._messages) => "
    "return self._turn >= len(self._messages)": _COUNTED_UP,
    "crypto.noise.HandshakeState._next_psk: if self._psks_used == len(self._psks): => "
    "if self._psks_used >= len(self._psks):": _COUNTED_UP,
    "crypto.noise.HandshakeState._row: if self._e is None or self.finished or "
    "(self._turn % 2 == 0) == (self._initiator != ours): => if self._e is None or self.finished or "
    "(self._turn % 2 <= 0) == (self._initiator != ours):": "the rest is 0 or 1",
    'crypto.noise.HandshakeState._dh: public = self._re if theirs == "e" else self._rs => '
    'public = self._re if theirs <= "e" else self._rs': "a key's letter is e or s",
    'crypto.noise.HandshakeState._dh: return self._own(ephemeral=ours == "e").dh(public) => '
    'return self._own(ephemeral=ours <= "e").dh(public)': "a key's letter is e or s",
    'crypto.noise.HandshakeState.wipe: self._sym = _Symmetric("SHA256", b"", b"") => '
    'self._sym = _Symmetric("XX", b"", b"")': "nothing is hashed after it",
    "crypto.noise.HandshakeState.wipe: self._turn = -1 => self._turn = +1": _NOT_FINISHED,
    "crypto.noise.HandshakeState.wipe: self._turn = -1 => self._turn = ~1": _NOT_FINISHED,
    "crypto.noise.HandshakeState.wipe: self._turn = -1 => self._turn = not 1": _NOT_FINISHED,
    "crypto.noise.HandshakeState.wipe: self._turn = -1 => self._turn = 1": _NOT_FINISHED,
    "crypto.noise.HandshakeState.wipe: self._turn = -1 => self._turn = - 2": _NOT_FINISHED,
    "crypto.noise.HandshakeState.wipe: self._turn = -1 => self._turn = - 0": _NOT_FINISHED,
    # --- core/crypto/packets.py -------------------------------------------------------------------
    "crypto.packets._DirectionKeys._contexts: if self._aead is None or self._ecb is None: => "
    "if self._aead is None and self._ecb is None:": "both are wiped together",
    "crypto.packets.SealKeys.__init__: self._path_id = -1  # the path of the last batch, whose "
    "connection id is kept => self._path_id = ~1  # the path of the last batch, whose connection "
    "id is kept": "no path has a number below 0",
    "crypto.packets.SealKeys.__init__: self._path_id = -1  # the path of the last batch, whose "
    "connection id is kept => self._path_id = - 2  # the path of the last batch, whose connection "
    "id is kept": "no path has a number below 0",
    'crypto.packets.SealKeys.__init__: self._path_cid = b"" => pass': f"it {_SURE}",
    'crypto.packets.SealKeys.__init__: self._path_cid = b"" => '
    "self._path_cid = b'X'": f"it {_SURE}",
    "crypto.packets.OpenKeys.open: start = head if header == number else "
    "cid + bytes((header >> 32,)) => start = head if header < number else "
    "cid + bytes((header >> 32,))": "a short cut: the long way gives the same",
    "crypto.packets.OpenKeys.open: start = head if header == number else "
    "cid + bytes((header >> 32,)) => start = head if header <= number else "
    "cid + bytes((header >> 32,))": _FLAGS_AND_NUMBER,
    "crypto.packets.OpenKeys.open: if header == number: => if header <= number:": _FLAGS_AND_NUMBER,
    "crypto.packets.OpenKeys.open: if pn < 0: => if pn <= 0:": "number 0 is 0 either way",
    "crypto.packets.OpenKeys.open: if pn < 0: => if pn < 1:": "number 0 is 0 either way",
    # --- core/crypto/replay.py --------------------------------------------------------------------
    "crypto.replay.ReplayWindow._advance: gaps = self._missing << gap | ((1 << gap) - 1) => "
    "gaps = self._missing << gap ^ ((1 << gap) - 1)": "the two have no bit in common",
    "crypto.replay.ReplayWindow.check: return age < 0 or self._missing >> age & 1 == 1 => "
    "return age < 0 or self._missing >> age & 1 >= 1": "one bit is 0 or 1",
    "crypto.replay.ReplayWindow.__init__: self._missing = 0 => self._missing = 1": _NEGATIVE,
    "crypto.replay.ReplayWindow.__init__: self._missing = 0 => self._missing = -1": _NEGATIVE,
    "crypto.replay.ReplayWindow.mark_run: self._clear(first, top - 1) => "
    "self._clear(first, top - 2)": "the highest number is never missing",
    "crypto.replay.ReplayWindow.mark_run: if first < top: => if first <= top:": (
        "from `top` to `top - 1` there is nothing to clear"
    ),
    "crypto.replay.ReplayWindow._advance: if run >= width: => if run == width:": _SHIFTED_OUT,
    "crypto.replay.ReplayWindow._advance: if run >= width: => if run > width:": _SHIFTED_OUT,
    "crypto.replay.ReplayWindow._advance: elif gap >= width: => elif gap > width:": _SHIFTED_OUT,
    # --- core/crypto/xwing.py ---------------------------------------------------------------------
    "crypto.xwing.XWingPrivate.decapsulate: if self._mlkem is None or self._x25519 is None: => "
    "if self._mlkem is None and self._x25519 is None:": "both are wiped together",
    "crypto.xwing.mlkem_of_openssl: del entropy => pass": "it only says that it is not used",
}


def why_equivalent(key: str) -> str | None:
    """Why this mutant behaves as the code it was made of; None when nobody said so."""
    return EQUIVALENT.get(key)
