"""Finds the peer again: probes the paths of a link, and moves it to one that answers.

The machine *established* says when to search and when to stop; a path is used only after the peer
answered a challenge on it (PROTOCOL.md "Paths").

Rules: a move costs no key and no byte; nothing is sent to an address that nobody named or that
was not heard from, and little before it answers.
Left to others: what a path is (`core.paths`), opening sockets (drivers, asked by `HopPort`).
"""

from __future__ import annotations

from typing import Final

from clawchat.core.actions import Action, HopPort, PathChanged
from clawchat.core.config import (
    ASLEEP_AFTER,
    BUSY_QUIET,
    FOLLOW_EVERY,
    HOP_AFTER,
    KEEPALIVE_MIN,
    KEEPALIVE_SPAN,
    PROBE_FIRST,
    PROBE_MAX,
    Config,
    Entropy,
)
from clawchat.core.credential import Address, Path
from clawchat.core.inbound import Facts
from clawchat.core.instant import Instant
from clawchat.core.paths import Way
from clawchat.core.timers import Timer
from clawchat.core.transport import Transport

CANDIDATES_MAX: Final = 16  # paths that one event may name


class Roaming:
    """Where one link's peer is. `timers` is the link's own, `candidates` its first paths."""

    __slots__ = (
        "_config",
        "_dialer",
        "_entropy",
        "_fresh",
        "_moved_at",
        "_patient_from",
        "_probe_ns",
        "_searching",
        "_suspect_since",
        "_timers",
        "_transport",
        "_wanted",
        "candidates",
    )

    def __init__(
        self,
        transport: Transport,
        timers: dict[Timer, Instant],
        candidates: tuple[Path, ...],
        *,
        dialer: bool,
        config: Config,
        entropy: Entropy,
    ) -> None:
        self._transport = transport
        self._timers = timers
        self.candidates = candidates[:CANDIDATES_MAX] if dialer else ()
        self._dialer = dialer
        self._config = config
        self._entropy = entropy
        self._fresh = False  # whether we may be elsewhere since the last probe
        self._searching = False  # whether the next way that answers is to be used
        self._wanted: Way | None = None  # where the peer moved to, until it answers there
        self._moved_at: Instant = -FOLLOW_EVERY
        self._suspect_since: Instant = 0
        self._patient_from: Instant = 0  # silence counts from here at the earliest
        self._probe_ns = PROBE_FIRST

    # --- keeping in touch ---------------------------------------------------------------------

    def start_clock(self, now: Instant) -> None:
        """The link begins."""
        self._patient_from = now
        self._timers[Timer.SILENCE] = now + self._patience_ns
        self._timers[Timer.KEEPALIVE] = now + self._keepalive_ns()

    def keep_alive(self, now: Instant) -> None:
        """Timers are not moved by packets: the one that fires looks when the last packet went.

        A dialer with a stream open asks much sooner: if its NAT has forgotten it, the listener's
        words go nowhere until it speaks.
        """
        self.greet()
        transport = self._transport
        if self._is_busy:
            heard = transport.inbound.last_heard
            if now - heard >= BUSY_QUIET:
                transport.probe()
                heard = now
            self._timers[Timer.KEEPALIVE] = heard + BUSY_QUIET
            return
        quiet_since = transport.last_sent
        if now - quiet_since >= KEEPALIVE_MIN:
            transport.probe()
            quiet_since = now
        self._timers[Timer.KEEPALIVE] = quiet_since + self._keepalive_ns()

    def greet(self) -> None:
        """Ask on the dialled paths that are not used, so that a proved one is at hand when the one
        in use dies.
        """
        for path in self.candidates:
            way = self._transport.paths.candidate(path)
            if not way.validated:
                self._transport.paths.ask(way)

    def look(self, now: Instant) -> None:
        """Once a batch: when a stream was opened, the keepalive must not be far away."""
        at = self._timers.get(Timer.KEEPALIVE)
        if at is not None and at > now + BUSY_QUIET and self._is_busy:
            self._timers[Timer.KEEPALIVE] = now + BUSY_QUIET

    def is_silent(self, now: Instant) -> bool:
        """Whether the peer is to be given up; if not, the timer is set for the next look."""
        heard = max(self._transport.inbound.last_heard, self._patient_from)
        ends = heard + self._patience_ns
        if ends > now:
            self._timers[Timer.SILENCE] = ends
        return ends <= now

    @property
    def _is_busy(self) -> bool:
        return self._dialer and len(self._transport.streams) > 0

    @property
    def _patience_ns(self) -> int:
        config = self._config
        return config.silence_ns_max if self._dialer else config.patience_ns_max

    def _keepalive_ns(self) -> int:
        return KEEPALIVE_MIN + int.from_bytes(self._entropy(4), "big") * KEEPALIVE_SPAN // 2**32

    # --- searching ----------------------------------------------------------------------------

    def disturbed(self, paths: tuple[Path, ...], now: Instant) -> None:
        """The network changed or we woke up; `paths` may lead to the peer as well."""
        for path in paths[:CANDIDATES_MAX]:
            self._transport.paths.candidate(path)
        self._patient_from = now
        self._probe_ns = PROBE_FIRST
        self._fresh = True

    def suspect(self, now: Instant) -> None:
        """Nothing is answered any more."""
        self._suspect_since = now
        self._probe_ns = PROBE_FIRST
        if self._dialer:
            self._timers[Timer.HOP] = now + HOP_AFTER
        else:
            self._timers[Timer.ASLEEP] = now + ASLEEP_AFTER

    def restored(self, now: Instant) -> int:
        """The peer was heard; for how long it was not, in ns."""
        for timer in (Timer.PROBE, Timer.HOP, Timer.ASLEEP):
            self._timers.pop(timer, None)
        self._transport.resume(now)
        return now - self._suspect_since

    def probe(self, now: Instant, *, again: bool) -> None:
        """Ask on every path whether the peer is there, and if `again`, in a while once more."""
        transport = self._transport
        self._searching = True
        for path in self.candidates:
            transport.paths.candidate(path)
        fresh, self._fresh = self._fresh, False
        for way in transport.paths:
            transport.paths.ask(way, fully=fresh)
        if fresh:  # the peer is to learn at once where we are, and what we lack
            transport.resume(now)
        if again:
            self._timers[Timer.PROBE] = now + self._probe_ns
            self._probe_ns = min(2 * self._probe_ns, PROBE_MAX)
            if not self._dialer:  # one that was asleep must fall asleep again
                self._timers.setdefault(Timer.ASLEEP, now + ASLEEP_AFTER)

    def sleep(self) -> None:
        """Stop asking; the peer will come."""
        self._timers.pop(Timer.PROBE, None)

    def port_wanted(self, link: int) -> Action:
        """What a driver is asked when no path answers."""
        remotes = dict.fromkeys(path.remote for path in self.candidates)
        return HopPort(link, tuple(remotes))

    # --- moving -------------------------------------------------------------------------------

    def found(self) -> None:
        """The peer is where we wanted it: there is nothing to look for."""
        self._searching = False

    def left_port(self, local: Address, instead: Address) -> None:
        """A socket of ours is about to be closed; what was tried from it is tried from another."""
        self.candidates = moved_local(self.candidates, local, instead)

    def _may_follow(self, where: Way, now: Instant) -> bool:
        """Whether the peer talks from `where` now, and not from the other end of the path in use.

        Two that follow each other at once would swap their paths for ever, so a dialer waits until
        the listener, who may be following it just now, is not heard any more where it was.
        """
        active = self._transport.paths.active
        if where is active:
            return False
        told = self._transport.whereabouts.was_told
        return not self._dialer or told or now - active.heard_at >= self._transport.recovery.pto_ns

    def follow(self, facts: Facts, now: Instant, *, gently: bool = False) -> PathChanged | None:
        """The peer may have moved, or may be found where we looked for it: go there.

        `gently`: it told us that it would, and left nothing behind.
        """
        if facts.where is not None:
            self._wanted = facts.where if self._may_follow(facts.where, now) else None
        found = facts.validated
        if self._wanted is not None and self._wanted.validated:
            found = self._wanted
        if found is None or not (self._searching or found is self._wanted):
            return None
        unasked = found is self._wanted and not (self._searching or gently)
        if unasked and now - self._moved_at < FOLLOW_EVERY:
            return None  # at the next packet: nobody moves that often but to keep us busy
        self._searching, self._wanted = False, None
        if found is self._transport.paths.active:
            return None
        if gently:
            self._transport.move_gently(found)
        else:
            self._moved_at = now
            self._transport.move(found, now)
        return PathChanged(found.path)


def moved_local(paths: tuple[Path, ...], local: Address, instead: Address) -> tuple[Path, ...]:
    """The same paths, with one of our own addresses replaced."""
    found = (path._replace(local=instead) if path.local == local else path for path in paths)
    return tuple(dict.fromkeys(found))
