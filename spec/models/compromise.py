"""The world of a compromise: either side declares it, both at once, under a bad network.

Properties: whoever declared or was told has destroyed everything in the end; in the calm the peer
of a declarer hears of it. Before that, packets are lost without limit, patience ends early, and
either user declares at any moment, with keys to tell the peer or without.

What is abstracted: each direction holds one packet; the number of sealed acknowledgements.
Rules: no packet is read without keys, and none is made without them, but for the acknowledgements
that were sealed before; a receipt is given once, and only when no key is left.
"""

from __future__ import annotations

from typing import Final

from clawchat.core.phases import compromised
from spec.models.promela import Machine, Snippets, assemble

COMPROMISE: Final = Machine.of("x", compromised.TABLE, indexed=True)
MACHINES: Final = (COMPROMISE,)

EFFECTS: Final[Snippets] = {
    compromised.destroy_kept: "kept[i] = 0",
    compromised.send_declaration: "assert(keys[i]); in[1 - i] = DECLARATION",
    compromised.note_peers_word: "skip",
    compromised.note_confirmed: "skip",
    compromised.seal_echoes: "assert(keys[i]); echoes[i] = ECHOES",
    compromised.send_echo: "assert(echoes[i] > 0); echoes[i]--; in[1 - i] = ECHO",
    compromised.wipe_packets: "keys[i] = 0",
    compromised.give_receipt: ("assert(!kept[i] && !keys[i] && !receipt[i]); receipt[i] = 1"),
}
GUARDS: Final[Snippets] = {
    compromised.peer_can_hear: "can_hear",
    compromised.echoes_are_left: "echoes[i] > 0",
}

_WORLD: Final = """
#define ECHOES 3
#define DECLARATION 1
#define ECHO 2
bool calm;
bool can_hear;
bool kept[2] = 1;                 /* what outlives a link */
bool keys[2] = 1;                 /* packet keys */
bool receipt[2];
byte echoes[2];
byte in[2];                       /* on its way to this side */
byte x_phase[2] = x_INITIAL;
#define quiet (in[0] == 0 && in[1] == 0)
#define patient (!calm || quiet)
#define begun(i) (x_phase[i] != x_INITIAL)
#define gone(i) (x_phase[i] == x_DESTROYED && !keys[i] && !kept[i] && receipt[i])
#define waits(i) (x_phase[i] == x_DECLARING || x_phase[i] == x_ECHOING)
"""

_PROCESSES: Final = """
inline take(i) {
  what = in[i]; in[i] = 0;
  if
  :: !keys[i] -> skip
  :: keys[i] && what == DECLARATION -> x_PeerDeclared(i)
  :: keys[i] && what == ECHO -> x_PeerObeyed(i)
  fi;
  what = 0
}
byte what;
inline act(i) {
  if
  :: in[i] != 0 -> printf("STEP: %d takes a packet\\n", i); take(i)
  :: waits(i) && patient && (!calm || x_phase[i] == x_ECHOING || keys[1 - i]) ->
     printf("STEP: %d says it again\\n", i); x_SayAgain(i)
  :: x_phase[i] == x_DECLARING && calm && quiet && !keys[1 - i] && echoes[1 - i] == 0 ->
     printf("STEP: %d's patience is over\\n", i); x_PatienceOver(i)
  fi
}
inline trouble(i) {
  if
  :: in[i] != 0 -> printf("STEP: a packet to %d is lost\\n", i); in[i] = 0
  :: x_phase[i] == x_INITIAL -> printf("STEP: %d declares, and can tell\\n", i);
     can_hear = 1; x_Declared(i); can_hear = 0
  :: x_phase[i] == x_INITIAL -> printf("STEP: %d declares, and has no keys\\n", i);
     x_Declared(i)
  :: x_phase[i] == x_DECLARING -> printf("STEP: %d's patience is over early\\n", i);
     x_PatienceOver(i)
  fi
}
active proctype dialer() { do :: atomic { act(0) } od }
active proctype listener() { do :: atomic { act(1) } od }
active proctype world() {
  do
  :: atomic { !calm -> if :: trouble(0) :: trouble(1) fi }
  :: atomic { !calm -> printf("STEP: the world is calm\\n"); calm = 1; break }
  od
}
"""

DESTROYED: Final = """ltl destroyed {
  [] (calm -> ((begun(0) -> <> gone(0)) && (begun(1) -> <> gone(1))))
}"""
HEARD: Final = """ltl heard {
  [] (calm -> ((x_phase[0] == x_DECLARING -> <> gone(1)) &&
               (x_phase[1] == x_DECLARING -> <> gone(0))))
}"""


def model(compromise: Machine = COMPROMISE, *, goal: str = DESTROYED) -> str:
    """The whole Promela text."""
    return assemble((compromise,), EFFECTS, GUARDS, _WORLD, _PROCESSES, goal)
