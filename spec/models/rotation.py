"""The world of the key rotation: both tables, a control stream, and packets of several epochs.

Property: as soon as the network is calm, every rotation ends, with both sides on the same epoch
and no other key left. Before that, packets are lost without limit, rotations are asked for by
time, traffic and both users, and the old keys are wiped as early as can be.

What is abstracted: epochs count modulo 4; each direction holds one packet; the control stream is a
queue whose head is repeated until it is acknowledged (one bit says which), as the streams do.
Rules: an assertion of `core.epochs` (at most one previous, one next epoch) is one here too, and so
is every case in which the code would close the link.
"""

from __future__ import annotations

from typing import Final

from clawchat.core.phases import rotating_keys
from spec.models.promela import Machine, Snippets, assemble

DIALER: Final = Machine.of("d", rotating_keys.DIALER, peer_must_fit=True)
LISTENER: Final = Machine.of("l", rotating_keys.LISTENER, peer_must_fit=True)
MACHINES: Final = (DIALER, LISTENER)

_INSTALL: Final = "@epoch = next(@epoch); assert(@new == @cur); @new = @epoch"
EFFECTS: Final[Snippets] = {
    rotating_keys.make_offer: "@asked = 0; @say(OFFER, next(@epoch))",
    rotating_keys.note_request: "@asked = 1; wanted = 1",
    rotating_keys.ask_dialer: "wanted = 1; @say(REQUEST, 0)",
    rotating_keys.answer_offer: f"wanted = 0; {_INSTALL}; @say(ANSWER, @epoch)",
    rotating_keys.take_reply: _INSTALL,
    rotating_keys.switch_sending: "assert(@prev == NONE); @prev = @cur; @cur = @new; @say(PING, 0)",
    rotating_keys.report_rotated: "skip",
    rotating_keys.wipe_previous: "@prev = NONE",
}
GUARDS: Final[Snippets] = {rotating_keys.another_was_asked_for: "@asked"}

_SIDE: Final = """
byte @epoch, @cur, @new, @prev = NONE;
chan @queue = [4] of { byte, byte };       /* the control stream: not yet acknowledged */
bit @number, @expected; bool @owes, @asked;
byte @in, @in_epoch, @in_what; bit @in_number, @in_ack;   /* on its way to this side */
inline @say(what, number) { assert(nfull(@queue)); @queue ! what, number }
inline @nothing_in() { @in = 0; @in_epoch = 0; @in_what = 0; @in_number = 0; @in_ack = 0 }
#define @reads(e) (e == @cur || e == @new || (@prev != NONE && e == @prev))
#define @is_new(e) (e == @new && (@new != @cur || @prev != NONE))
"""

_SEND: Final = """
inline @send() {
  if
  :: nempty(@queue) -> @queue ? <kind, what>; %in = kind; %in_what = what
  :: empty(@queue) -> %in = NOTHING; %in_what = 0
  fi;
  %in_epoch = @cur; %in_number = @number; %in_ack = @expected; @owes = 0; kind = 0; what = 0
}
inline @take() {
  kind = @in; what = @in_what; number = @in_number; ack = @in_ack; epoch = @in_epoch;
  @nothing_in();
  if
  :: !@reads(epoch) -> skip                 /* dropped: its keys are gone */
  :: else ->
     if :: @is_new(epoch) && @awaits_epoch -> @NewEpochHeard() :: else -> skip fi;
     if
     :: len(@queue) > 0 && ack != @number -> @queue ? _, _; @number = 1 - @number
     :: else -> skip
     fi;
     if
     :: kind != NOTHING -> @owes = 1
     :: else -> skip
     fi;
     if
     :: kind != NOTHING && number == @expected -> @expected = 1 - @expected; @hear()
     :: else -> skip
     fi;
     if :: @owes -> @send() :: else -> skip fi
  fi;
  kind = 0; what = 0; number = 0; ack = 0; epoch = 0
}
"""

_WORLD: Final = """
#define NONE 9
#define NOTHING 1
#define PING 2
#define OFFER 3
#define ANSWER 4
#define REQUEST 5
#define next(e) ((e + 1) % 4)
bool calm, wanted;
byte kind, what, epoch; bit number, ack;
#define quiet (d_in == 0 && l_in == 0)
#define patient (!calm || quiet)
#define d_awaits_epoch (d_phase == d_SWITCHED)
#define l_awaits_epoch (l_phase == l_ANSWERED)
#define same (d_epoch == l_epoch && d_cur == d_epoch && l_cur == l_epoch)
#define bare (d_prev == NONE && l_prev == NONE && d_new == d_cur && l_new == l_cur)
#define ended (d_phase == d_INITIAL && l_phase == l_INITIAL && same && bare)
"""

_HEAR: Final = """
inline d_hear() {
  if
  :: kind == REQUEST -> d_RotationDue()
  :: kind == ANSWER -> assert(what == next(d_epoch)); d_ReplyArrived()
  :: else -> skip
  fi
}
inline l_hear() {
  if
  :: kind == OFFER -> assert(what == next(l_epoch)); l_OfferArrived()
  :: else -> skip
  fi
}
"""

_PROCESSES: Final = """
active proctype dialer() {
  do
  :: atomic { d_in != 0 -> printf("STEP: the dialer takes a packet\\n"); d_take() }
  :: atomic { nempty(d_queue) && patient -> printf("STEP: the dialer sends\\n"); d_send() }
  :: atomic { d_phase == d_SETTLING && patient -> printf("STEP: the dialer wipes\\n"); d_WipeDue() }
  od
}
active proctype listener() {
  do
  :: atomic { l_in != 0 -> printf("STEP: the listener takes a packet\\n"); l_take() }
  :: atomic { nempty(l_queue) && patient -> printf("STEP: the listener sends\\n"); l_send() }
  :: atomic { l_phase == l_SETTLING && patient -> printf("STEP: the listener wipes\\n");
       l_WipeDue() }
  od
}
active proctype world() {
  do
  :: atomic { !calm && d_in != 0 -> printf("STEP: a packet is lost\\n"); d_nothing_in() }
  :: atomic { !calm && l_in != 0 -> printf("STEP: a packet is lost\\n"); l_nothing_in() }
  :: atomic { !calm -> printf("STEP: a rotation is due\\n"); d_RotationDue() }
  :: atomic { !calm -> printf("STEP: the dialer's user asks\\n"); d_RotationAsked() }
  :: atomic { !calm && empty(l_queue) -> printf("STEP: the listener wants one\\n");
       l_RotationDue() }
  :: atomic { !calm && empty(l_queue) -> printf("STEP: the listener's user asks\\n");
       l_RotationAsked() }
  :: atomic { !calm -> printf("STEP: the world is calm\\n"); calm = 1; break }
  od
}
"""

ENDS: Final = "ltl rotation_ends { [] (calm -> <> ended) }"
HAPPENS: Final = "ltl request_is_met { [] (calm -> <> !wanted) }"


def model(dialer: Machine = DIALER, listener: Machine = LISTENER, *, goal: str = ENDS) -> str:
    """The whole Promela text."""
    sides = [_SIDE.replace("@", "d_"), _SIDE.replace("@", "l_")]
    sends = [
        _SEND.replace("@", own).replace("%", other) for own, other in (("d_", "l_"), ("l_", "d_"))
    ]
    return assemble(
        (dialer, listener),
        EFFECTS,
        GUARDS,
        _WORLD + "".join(sides),
        _HEAR,
        *sends,
        _PROCESSES,
        goal,
    )
