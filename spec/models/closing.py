"""The world of an established link: two of them facing each other, and a network that may be dead.

Property: once one side is over, both are in the end; and each side's application is told once.
Before the world is calm, packets are lost without limit, either side closes, breaks a rule, is
disturbed, sleeps, or has its pairing destroyed.

What is abstracted: each direction holds one packet, which is data or a CLOSE; 0 dials, 1 listens.
Rules: a timer of patience runs out early only before the calm; in the calm, silence is noticed
when the peer has nothing left to say.
"""

from __future__ import annotations

from typing import Final

from clawchat.core.phases import established
from spec.models.promela import Machine, Snippets, assemble

LIFE: Final = Machine.of("x", established.TABLE, indexed=True)
MACHINES: Final = (LIFE,)

_TELL: Final = "assert(!told[i]); told[i] = 1"
EFFECTS: Final[Snippets] = {
    established.report_own: _TELL,
    established.report_peers: _TELL,
    established.report_silence: _TELL,
    established.report_destroyed: _TELL,
    established.send_close: "in[1 - i] = CLOSE",
    established.probe_paths: "in[1 - i] = (in[1 - i] == CLOSE -> CLOSE : DATA)",
    established.report_suspect: "skip",
    established.report_restored: "skip",
    established.ask_for_port: "skip",
    established.stop_asking: "skip",
}
GUARDS: Final[Snippets] = {}

_WORLD: Final = """
#define DATA 1
#define CLOSE 2
bool calm;
bool told[2];
byte in[2];                       /* on its way to this side */
byte x_phase[2] = x_INITIAL;
#define quiet (in[0] == 0 && in[1] == 0)
#define patient (!calm || quiet)
#define over(i) (x_phase[i] == x_CLOSING || x_phase[i] == x_CLOSED)
#define lives(i) (x_phase[i] == x_LIVE || x_phase[i] == x_SUSPECT || x_phase[i] == x_ASLEEP)
#define closed (x_phase[0] == x_CLOSED && x_phase[1] == x_CLOSED)
"""

_PROCESSES: Final = """
inline take(i) {
  what = in[i]; in[i] = 0;
  if
  :: x_phase[i] == x_CLOSING && what == CLOSE -> x_PeerClosed(i)
  :: x_phase[i] == x_CLOSING && what == DATA -> x_Heard(i)
  :: lives(i) ->
     if :: x_phase[i] != x_LIVE -> x_Heard(i) :: else -> skip fi;
     if
     :: what == CLOSE -> x_PeerClosed(i)
     :: what == DATA && !calm -> x_Violated(i)
     :: what == DATA -> skip
     fi
  :: else -> skip                 /* not yet, or no longer, read */
  fi;
  what = 0
}
byte what;
inline clock(i) {
  if
  :: x_phase[i] == x_CLOSING && patient -> printf("STEP: %d has closed for long enough\\n", i);
     x_ClosingOver(i)
  :: x_phase[i] == x_LIVE && (!calm || (quiet && over(1 - i))) ->
     printf("STEP: %d misses answers\\n", i); x_ProbesUnanswered(i)
  :: lives(i) && (!calm || (quiet && over(1 - i))) ->
     printf("STEP: %d has heard nothing for long\\n", i); x_SilenceDue(i)
  fi
}
inline trouble(i) {
  if
  :: lives(i) && in[1 - i] == 0 -> printf("STEP: %d sends\\n", i); in[1 - i] = DATA
  :: in[i] != 0 -> printf("STEP: a packet to %d is lost\\n", i); in[i] = 0
  :: x_phase[i] == x_INITIAL -> printf("STEP: %d can begin\\n", i); x_Begun(i)
  :: !over(i) && x_phase[i] != x_ASLEEP -> printf("STEP: %d's handshake fails\\n", i);
     x_HandshakeFailed(i)
  :: x_phase[i] != x_CLOSED -> printf("STEP: %d's network changes\\n", i); x_Disturbed(i)
  :: x_phase[i] == x_SUSPECT -> printf("STEP: %d probes\\n", i); x_ProbeDue(i)
  :: x_phase[i] == x_SUSPECT && i == 0 -> printf("STEP: %d wants another port\\n", i);
     x_HopDue(i)
  :: x_phase[i] == x_SUSPECT && i == 1 -> printf("STEP: %d falls asleep\\n", i); x_AsleepDue(i)
  :: printf("STEP: %d is told to close\\n", i); x_CloseAsked(i)
  :: x_phase[i] != x_CLOSED -> printf("STEP: %d's pairing is destroyed\\n", i); x_Destroyed(i)
  fi
}
active proctype dialer() {
  do
  :: atomic { in[0] != 0 -> printf("STEP: 0 takes a packet\\n"); take(0) }
  :: atomic { clock(0) }
  od
}
active proctype listener() {
  do
  :: atomic { in[1] != 0 -> printf("STEP: 1 takes a packet\\n"); take(1) }
  :: atomic { clock(1) }
  od
}
active proctype world() {
  do
  :: atomic { !calm -> if :: trouble(0) :: trouble(1) fi }
  :: atomic { !calm && x_phase[0] != x_INITIAL && x_phase[1] != x_INITIAL ->
       printf("STEP: the world is calm\\n"); calm = 1; break }
  od
}
"""

BOTH_END: Final = "ltl both_end { [] ((calm && (over(0) || over(1))) -> <> closed) }"


def model(life: Machine = LIFE, *, goal: str = BOTH_END) -> str:
    """The whole Promela text."""
    return assemble((life,), EFFECTS, GUARDS, _WORLD, _PROCESSES, goal)
