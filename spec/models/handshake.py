"""The world of the handshake: a dialer and a listener, a bad network, crashes, slow disks.

Property: from whatever state, as soon as the world is calm, a link that can talk gets
established. Before that, datagrams are lost without limit, either side crashes at any step (also
in the middle of a write), writes fail, timers run out early, users give up.

What is abstracted: credentials and attempts are numbers, and states that differ in the numbers
alone are one; each direction holds one datagram, and a newer one takes its place; at most two
answered HELLOs or links at a time on the listener; a HELLO is sent twice before the other
generation has its turn. After each write and each crash, both disks must share a credential.
Rules: in the calm, a timer runs out only when nothing is under way, and one that gives up only
when nobody could answer. What `Link` and `Endpoint` do around the rows is written here again.
Left to others: the rows (`clawchat.core.phases`).
"""

from __future__ import annotations

from typing import Final

from clawchat.core.phases import answering, dialing
from spec.models.promela import Machine, Snippets, assemble

DIALER: Final = Machine.of("d", dialing.TABLE)
LISTENER: Final = Machine.of("l", answering.TABLE, indexed=True)
MACHINES: Final = (DIALER, LISTENER)

EFFECTS: Final[Snippets] = {
    dialing.repeat_hello: "d_hellos++; to_listener(HELLO, d_att, d_used, d_cookie)",
    dialing.try_the_other: "d_turn = 1 - d_turn; d_cookie = 0; start_attempt(); send_hello()",
    dialing.answer_refusal: "d_cookie = 1; start_attempt(); send_hello()",
    dialing.stop_calling: "skip",
    dialing.save_next_and_used: "d_c1 = d_used; d_c0 = d_next; d_write()",
    dialing.save_next_alone: "d_c1 = 0; d_write()",
    dialing.announce: "skip",
    dialing.fail_unanswered: "skip",
    dialing.fail_slow_disk: "skip",
    dialing.fail_forsaken: "skip",
    dialing.fail_superseded: "skip",
    dialing.fail_store: "skip",
    answering.send_reply: "to_dialer(REPLY, l_att[i], l_next[i])",
    answering.save_next_and_used: "l_write(l_next[i], l_used[i], i)",
    answering.save_next_alone: "l_write(l_next[i], 0, i)",
    answering.announce: "skip",
    answering.fail_store: "skip",
}
GUARDS: Final[Snippets] = {
    dialing.the_other_has_its_turn: "d_c1 != 0 && d_hellos >= TURN",
    dialing.was_refused_before: "d_cookie",
}

_STATE: Final = """
#define SLOTS 2
#define IDS 16
#define NEW (IDS - 1)     /* a number that nothing has after `tidy` */
#define TURN 2
#define HELLO 1
#define PACKET 2
#define ACK 3
#define REPLY 4
#define REFUSAL 5

bool calm;                        /* nothing goes wrong any more */

byte d_c0 = 1, d_c1;              /* what the dialer holds, newest first */
byte dk0 = 1, dk1;                /* what its disk holds */
bool d_writing; byte dw0, dw1;
bit d_turn, d_cookie;
byte d_hellos, d_att = 1, d_next;
#define d_used (d_turn * d_c1 + (1 - d_turn) * d_c0)

byte l0 = 1, l1;                  /* what the listener accepts */
byte lk0 = 1, lk1;
byte l_count; byte lw0[2], lw1[2], lw_slot[2];
bool l_waits[SLOTS];              /* whether this slot awaits the outcome of the last write */
bool l_live[SLOTS];
byte l_phase[SLOTS] = l_LAPSED;
byte l_att[SLOTS], l_used[SLOTS], l_next[SLOTS];
bool l_super[IDS];                /* generations that were replaced */

byte up, up_a, up_c; bit up_cookie;   /* what is on its way to the listener */
byte down, down_a, down_b;            /* and to the dialer */
#define quiet (up == 0 && down == 0 && !d_writing && l_count == 0)
#define patient (!calm || quiet)

#define saving ((l_live[0] && l_phase[0] == l_SAVING) || (l_live[1] && l_phase[1] == l_SAVING))
#define knows(x) (x != 0 && ((l_live[0] && l_phase[0] != l_LAPSED && l_next[0] == x) || \\
  (l_live[1] && l_phase[1] != l_LAPSED && l_next[1] == x)))
#define runs(i) (l_live[i] && l_next[i] == d_next && \\
  (l_phase[i] == l_RUNNING || l_phase[i] == l_SETTLED))
#define linked (d_phase == d_UP && (runs(0) || runs(1)))
#define paired ((dk0 == lk0 || dk0 == lk1) || (dk1 != 0 && (dk1 == lk0 || dk1 == lk1)))

inline to_listener(kind, a, c, cookie) { up = kind; up_a = a; up_c = c; up_cookie = cookie }
inline to_dialer(kind, a, b) { down = kind; down_a = a; down_b = b }
inline nothing_up() { up = 0; up_a = 0; up_c = 0; up_cookie = 0 }
inline nothing_down() { down = 0; down_a = 0; down_b = 0 }
inline start_attempt() { d_hellos = 0; d_att = NEW }
inline send_hello() { d_hellos++; to_listener(HELLO, d_att, d_used, d_cookie) }
inline d_write() { assert(!d_writing); d_writing = 1; dw0 = d_c0; dw1 = d_c1 }
inline l_write(new, old, which) {
  assert(l_count < 2);
  lw0[l_count] = new; lw1[l_count] = old; lw_slot[l_count] = which + 1; l_count++;
  l_waits[which] = 1
}

/* Numbers are names: the same state under other numbers is the same state. */
hidden byte number[IDS]; hidden byte was_super[IDS]; hidden byte n;
inline see(x) {
  if
  :: x != 0 && number[x] == 0 -> n++; number[x] = n; l_super[n] = was_super[x]; x = n
  :: x != 0 && number[x] != 0 -> x = number[x]
  :: else -> skip
  fi
}
inline forget_numbers() {
  n = 0;
  do :: n < IDS -> number[n] = 0; n++ :: else -> n = 0; break od
}
inline tidy() {
  d_step {
    forget_numbers();
    do
    :: n < IDS -> was_super[n] = l_super[n]; l_super[n] = 0; n++
    :: else -> n = 0; break
    od;
    see(dk0); see(dk1); see(lk0); see(lk1); see(d_c0); see(d_c1); see(dw0); see(dw1);
    see(d_next); see(l0); see(l1); see(lw0[0]); see(lw1[0]); see(lw0[1]); see(lw1[1]);
    see(l_used[0]); see(l_next[0]); see(l_used[1]); see(l_next[1]);
    if
    :: up == HELLO -> see(up_c)
    :: up == PACKET || up == ACK -> see(up_a)
    :: else -> skip
    fi;
    if
    :: down == REPLY -> see(down_b)
    :: down == PACKET -> see(down_a)
    :: else -> skip
    fi;
    forget_numbers();
    see_att(d_att); see_att(l_att[0]); see_att(l_att[1]);
    if :: up == HELLO -> see_att(up_a) :: else -> skip fi;
    if :: down == REPLY || down == REFUSAL -> see_att(down_a) :: else -> skip fi;
    forget_numbers();
    skip
  }
}
inline see_att(x) {
  if
  :: x != 0 && number[x] == 0 -> n++; number[x] = n; x = n
  :: x != 0 && number[x] != 0 -> x = number[x]
  :: else -> skip
  fi
}
"""

_DIALER: Final = """
inline d_forget() { d_att = 0; d_hellos = 0; d_turn = 0; d_cookie = 0 }
inline d_redial() {
  d_c0 = dk0; d_c1 = dk1; d_forget(); d_next = 0;
  d_phase = d_INITIAL; start_attempt(); d_HelloDue()
}
inline d_takes() {
  if
  :: down == REPLY ->
     if
     :: d_phase == d_CALLING && down_a == d_att ->
        d_next = down_b; d_att = 0; nothing_down(); d_ReplyVerified(); d_forget()
     :: else -> nothing_down()
     fi
  :: down == REFUSAL ->
     if
     :: d_phase == d_CALLING && down_a == d_att -> nothing_down(); d_Refused()
     :: else -> nothing_down()
     fi
  :: down == PACKET ->
     if
     :: down_a == d_next && d_phase == d_PROVING -> nothing_down(); d_PeerProved()
     :: down_a == d_next && d_phase == d_UP ->
        nothing_down(); to_listener(ACK, d_next, 0, 0)
     :: else -> nothing_down()
     fi
  fi
}
inline d_written() {
  dk0 = dw0; dk1 = dw1; d_writing = 0; dw0 = 0; dw1 = 0;
  assert(paired);
  d_Saved();
  if
  :: d_phase == d_PROVING -> to_listener(PACKET, d_next, 0, 0)
  :: d_phase == d_UP -> to_listener(ACK, d_next, 0, 0)
  :: else -> skip
  fi
}
active proctype dialer() {
  do
  :: atomic {
    if
    :: d_phase == d_FAILED && !d_writing && patient -> printf("STEP: the dialer dials\\n");
         d_redial()
    :: d_phase == d_CALLING && patient -> printf("STEP: HELLO is due\\n"); d_HelloDue()
    :: down != 0 -> printf("STEP: the dialer takes a datagram\\n"); d_takes()
    :: d_writing -> printf("STEP: the dialer's write is durable\\n"); d_written()
    :: d_phase == d_PROVING && patient && (!calm || knows(d_next)) ->
         printf("STEP: the dialer probes\\n"); to_listener(PACKET, d_next, 0, 0)
    :: d_phase == d_PROVING && calm && quiet && !knows(d_next) ->
         printf("STEP: the dial lapses: nobody can answer\\n"); d_DialLapsed()
    :: d_phase == d_UP && patient && !knows(d_next) ->
         printf("STEP: the dialer notices that the listener is gone\\n"); d_phase = d_FAILED
    fi;
    tidy()
  }
  od
}
active proctype dialers_trouble() {
  do
  :: calm -> break
  :: atomic {
    if
    :: !calm && d_writing -> printf("STEP: the dialer cannot write\\n");
         d_writing = 0; dw0 = 0; dw1 = 0; d_SaveFailed()
    :: !calm && d_phase != d_FAILED && d_phase != d_UP -> printf("STEP: the dial lapses early\\n");
         d_DialLapsed()
    :: !calm && d_phase != d_FAILED -> printf("STEP: the user gives up\\n"); d_GivenUp();
         if :: d_phase == d_UP -> d_phase = d_FAILED :: else -> skip fi
    :: !calm -> printf("STEP: the dialer crashes\\n");
         if
         :: d_writing -> dk0 = dw0; dk1 = dw1
         :: skip
         fi;
         d_writing = 0; dw0 = 0; dw1 = 0; d_c0 = dk0; d_c1 = dk1; d_forget(); d_next = 0;
         d_phase = d_FAILED; assert(paired)
    fi;
    tidy()
  }
  od
}
"""

_LISTENER: Final = """
inline l_free(i) {
  l_live[i] = 0; l_waits[i] = 0; l_att[i] = 0; l_used[i] = 0; l_next[i] = 0; l_phase[i] = l_LAPSED
}
inline l_displace(i) {
  l_Displaced(i);
  if
  :: l_phase[i] == l_LAPSED -> l_free(i)
  :: else -> skip
  fi
}
inline l_answer(i) {
  l_live[i] = 1; l_att[i] = up_a; l_used[i] = up_c; l_phase[i] = l_INITIAL; l_waits[i] = 0;
  l_next[i] = NEW;
  nothing_up(); l_HelloRepeated(i)
}
#define pending(i) (l_live[i] && l_phase[i] == l_REPLIED)
inline l_takes_hello() {
  if
  :: pending(0) && l_att[0] == up_a && l_used[0] == up_c -> nothing_up(); l_HelloRepeated(0)
  :: pending(1) && l_att[1] == up_a && l_used[1] == up_c -> nothing_up(); l_HelloRepeated(1)
  :: else ->
     if
     :: up_c != l0 && up_c != l1 ->
        if
        :: l_super[up_c] -> to_dialer(REFUSAL, up_a, 0)
        :: else -> skip
        fi;
        nothing_up()
     :: (up_c == l0 || up_c == l1) && saving -> nothing_up()
     :: (up_c == l0 || up_c == l1) && !saving ->
        if
        :: !l_live[0] -> l_answer(0)
        :: l_live[0] && !l_live[1] -> l_answer(1)
        :: l_live[0] && l_live[1] && pending(0) -> l_displace(0); l_answer(0)
        :: l_live[0] && l_live[1] && !pending(0) && pending(1) -> l_displace(1); l_answer(1)
        :: else -> nothing_up()
        fi
     fi
  fi
}
inline l_promote(i) {
  if
  :: saving -> skip
  :: else ->
     l_DialerProved(i);
     if
     :: l_phase[i] == l_SAVING && l_live[1 - i] -> l_displace(1 - i)
     :: else -> skip
     fi
  fi
}
inline l_takes_packet(i) {
  if
  :: pending(i) -> l_promote(i)
  :: l_live[i] && l_phase[i] == l_RUNNING && up == ACK -> l_DialerSettled(i)
  :: l_live[i] && (l_phase[i] == l_RUNNING || l_phase[i] == l_SETTLED) && up == PACKET ->
     to_dialer(PACKET, l_next[i], 0)
  :: else -> skip
  fi
}
inline l_takes() {
  if
  :: up == HELLO -> l_takes_hello()
  :: else ->
     if
     :: l_live[0] && l_next[0] == up_a -> l_takes_packet(0)
     :: l_live[1] && l_next[1] == up_a -> l_takes_packet(1)
     :: else -> skip
     fi;
     nothing_up()
  fi
}
inline l_adopt() {
  if :: l0 != lw0[0] && l0 != lw1[0] -> l_super[l0] = 1 :: else -> skip fi;
  if :: l1 != 0 && l1 != lw0[0] && l1 != lw1[0] -> l_super[l1] = 1 :: else -> skip fi;
  l0 = lw0[0]; l1 = lw1[0]; lk0 = l0; lk1 = l1; l_super[l0] = 0
}
inline l_shift() {
  l_count--; lw0[0] = lw0[1]; lw1[0] = lw1[1]; lw_slot[0] = lw_slot[1];
  lw0[1] = 0; lw1[1] = 0; lw_slot[1] = 0
}
inline l_outcome(i, ok) {
  if
  :: l_waits[i] && !(l_count == 2 && lw_slot[1] == i + 1) ->
     l_waits[i] = 0;
     if
     :: ok && l_phase[i] == l_SAVING ->
        l_Saved(i);
        if :: l_live[1 - i] -> l_displace(1 - i); l_free(1 - i) :: else -> skip fi;
        to_dialer(PACKET, l_next[i], 0)
     :: ok && l_phase[i] != l_SAVING -> l_Saved(i)
     :: !ok -> l_SaveFailed(i); if :: l_phase[i] == l_LAPSED -> l_free(i) :: else -> skip fi
     fi
  :: else -> skip
  fi
}
inline l_written() {
  l_adopt();
  if
  :: lw_slot[0] == 1 -> l_outcome(0, 1)
  :: lw_slot[0] == 2 -> l_outcome(1, 1)
  fi;
  l_shift();
  assert(paired)
}
inline l_unwritten() {
  if
  :: lw_slot[0] == 1 -> l_outcome(0, 0)
  :: lw_slot[0] == 2 -> l_outcome(1, 0)
  fi;
  l_shift()
}
#define gone(i) (l_live[i] && (l_phase[i] == l_RUNNING || l_phase[i] == l_SETTLED) && \\
  !((d_phase == d_PROVING || d_phase == d_DROPPING || d_phase == d_UP) && d_next == l_next[i]))
#define stale(i) (pending(i) && !(d_phase == d_CALLING && d_att == l_att[i]) && \\
  !((d_phase == d_SAVING || d_phase == d_PROVING) && d_next == l_next[i]))
inline l_end(i) { l_displace(i); l_free(i) }
active proctype listener() {
  do
  :: atomic {
    if
    :: up != 0 -> printf("STEP: the listener takes a datagram\\n"); l_takes()
    :: l_count > 0 -> printf("STEP: the listener's write is durable\\n"); l_written()
    :: l_live[0] && l_phase[0] == l_RUNNING && patient && (!calm || !gone(0)) ->
         printf("STEP: the listener probes\\n"); to_dialer(PACKET, l_next[0], 0)
    :: l_live[1] && l_phase[1] == l_RUNNING && patient && (!calm || !gone(1)) ->
         printf("STEP: the listener probes\\n"); to_dialer(PACKET, l_next[1], 0)
    :: gone(0) && patient -> printf("STEP: the listener notices that a dialer is gone\\n"); l_end(0)
    :: gone(1) && patient -> printf("STEP: the listener notices that a dialer is gone\\n"); l_end(1)
    :: stale(0) && patient -> printf("STEP: a handshake lapses\\n"); l_PendingLapsed(0); l_free(0)
    :: stale(1) && patient -> printf("STEP: a handshake lapses\\n"); l_PendingLapsed(1); l_free(1)
    fi;
    tidy()
  }
  od
}
active proctype listeners_trouble() {
  do
  :: calm -> break
  :: atomic {
    if
    :: !calm && l_count > 0 -> printf("STEP: the listener cannot write\\n"); l_unwritten()
    :: !calm && pending(0) -> printf("STEP: a handshake lapses early\\n");
         l_PendingLapsed(0); l_free(0)
    :: !calm && pending(1) -> printf("STEP: a handshake lapses early\\n");
         l_PendingLapsed(1); l_free(1)
    :: !calm -> printf("STEP: the listener crashes\\n");
         do
         :: l_count > 0 -> l_adopt(); l_shift()
         :: break
         od;
         do :: l_count > 0 -> l_shift() :: else -> break od;
         l_free(0); l_free(1); l0 = lk0; l1 = lk1; assert(paired)
    :: !calm && up != 0 -> printf("STEP: a datagram is lost\\n"); nothing_up()
    :: !calm && down != 0 -> printf("STEP: a datagram is lost\\n"); nothing_down()
    :: !calm -> printf("STEP: the world is calm\\n"); calm = 1
    fi;
    tidy()
  }
  od
}
"""

ESTABLISHED: Final = "ltl established { [] (calm -> <> linked) }"


def model(
    dialer: Machine = DIALER, listener: Machine = LISTENER, *, goal: str = ESTABLISHED
) -> str:
    """The whole Promela text."""
    return assemble((dialer, listener), EFFECTS, GUARDS, _STATE, _DIALER, _LISTENER, goal)
