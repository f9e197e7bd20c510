"""The world of the port rotation: either side leaves its port, both at once, under a bad network.

Properties: in the calm every move ends, at the mover and at its peer, and no socket is left over;
and a dialer's move that is under way gets through, whatever the listener began. Before that, moves
are begun by time and by both users, sockets are refused, links are lost, and time runs out early.

What is abstracted: the control stream holds one announcement in each direction and loses none (it
is repeated until it is acknowledged); a challenge is answered if the NATs let it (`open`), which
the world decides; challenges that are repeated change nothing and are left out.
Rules: at most one socket more than the one in use; who follows does not move.
"""

from __future__ import annotations

from typing import Final

from clawchat.core.phases import following_ports, rotating_ports
from spec.models.promela import Machine, Snippets, assemble

MOVE: Final = Machine.of("m", rotating_ports.TABLE, indexed=True)
FOLLOW: Final = Machine.of("f", following_ports.TABLE, indexed=True)
MACHINES: Final = (MOVE, FOLLOW)

EFFECTS: Final[Snippets] = {
    rotating_ports.want_socket: "tries[i] = 1",
    rotating_ports.want_another: "tries[i]++",
    rotating_ports.announce: (
        "sockets[i]++; assert(sockets[i] == 2); assert(!in[1 - i]); in[1 - i] = 1"
    ),
    rotating_ports.punch: "skip",
    rotating_ports.use_new_port: "moved[i] = 1",
    rotating_ports.report_moved: "skip",
    rotating_ports.close_new_port: "sockets[i]--",
    rotating_ports.close_old_ports: "sockets[i] = 1",
    rotating_ports.put_off: "skip",
    rotating_ports.keep_refused: "skip",
    rotating_ports.keep_unanswered: "skip",
    rotating_ports.keep_for_now: "skip",
    following_ports.take_addresses: "skip",
    following_ports.punch_peer: "skip",
    following_ports.end_punching: "skip",
}
GUARDS: Final[Snippets] = {
    rotating_ports.we_go_first: "i == 0",
    rotating_ports.tried_enough: "tries[i] >= TRIES",
}

_WORLD: Final = """
#define TRIES 2
bool calm;
bool open[2];                     /* whether a challenge from this side's new port is answered */
bool in[2];                       /* an announcement on its way to this side */
bool moved[2];
byte tries[2];
byte sockets[2] = 1;
byte m_phase[2] = m_INITIAL;
byte f_phase[2] = f_INITIAL;
#define begins(i) (m_phase[i] == m_OPENING || m_phase[i] == m_MOVING)
#define follows(i) (f_phase[i] == f_FOLLOWING)
#define rests(i) (m_phase[i] == m_STEADY && f_phase[i] == f_STEADY && sockets[i] == 1 && !in[i])
"""

_PROCESSES: Final = """
inline act(i) {
  assert(!(begins(i) && follows(i)));
  if
  :: in[i] -> printf("STEP: %d hears of a move\\n", i); in[i] = 0; m_PeerMoves(i);
     if
     :: begins(i) -> skip
     :: else -> f_PeerAnnounced(i)
     fi
  :: m_phase[i] == m_OPENING && !in[1 - i] -> printf("STEP: %d has a socket\\n", i);
     m_SocketOpened(i)
  :: m_phase[i] == m_MOVING && open[i] -> printf("STEP: %d is answered\\n", i); m_MoveProved(i)
  :: m_phase[i] == m_MOVING && !open[i] -> printf("STEP: %d gives up\\n", i); m_MoveLapsed(i)
  :: m_phase[i] == m_OVERLAPPING -> printf("STEP: %d closes its old port\\n", i); m_OverlapOver(i)
  :: follows(i) && m_phase[1 - i] == m_OVERLAPPING -> printf("STEP: %d meets it\\n", i);
     f_PeerMet(i)
  :: follows(i) && !begins(1 - i) -> printf("STEP: %d follows no longer\\n", i);
     f_FollowLapsed(i)
  fi
}
inline trouble(i) {
  if
  :: m_phase[i] == m_STEADY && !follows(i) -> printf("STEP: a move of %d is due\\n", i);
     moved[i] = 0; m_PortDue(i)
  :: !follows(i) -> printf("STEP: the user of %d asks\\n", i); moved[i] = 0; m_PortAsked(i)
  :: m_phase[i] == m_OPENING -> printf("STEP: %d gets no socket\\n", i); m_SocketRefused(i)
  :: begins(i) -> printf("STEP: %d waits no longer\\n", i); m_MoveLapsed(i)
  :: follows(i) -> printf("STEP: %d follows no longer\\n", i); f_FollowLapsed(i)
  :: printf("STEP: %d loses the link\\n", i); m_LinkLost(i); f_PeerLost(i)
  :: printf("STEP: other NATs\\n"); open[i] = !open[i]
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

END: Final = "ltl ports_end { [] (calm -> <> (rests(0) && rests(1))) }"
DIALER_MOVES: Final = """ltl dialer_moves {
  [] ((calm && open[0] && begins(0)) -> <> moved[0])
}"""


def model(move: Machine = MOVE, follow: Machine = FOLLOW, *, goal: str = END) -> str:
    """The whole Promela text."""
    return assemble((move, follow), EFFECTS, GUARDS, _WORLD, _PROCESSES, goal)
