"""Prints what happens in a world, one line each, for `--trace`.

Rules: it only reads; secrets never get here, because a pairing's are hidden from `repr`.
Left to others: judging (`invariants`).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from attrs import define

from clawchat.core.actions import Action, Notify, Persist, StreamData, StreamDrained, Transmit
from clawchat.core.events import Consumed, DatagramReceived, Dial, Event, Remember, Write
from clawchat.core.instant import SECOND
from clawchat.drivers.simulator.host import Host
from clawchat.drivers.simulator.network import Parcel


def told_event(event: Event, parcels: list[Parcel]) -> str:
    if isinstance(event, DatagramReceived):
        truth = "genuine" if parcels and parcels[0].origin is not None else "STRANGER"
        age = ""
        if parcels and parcels[0].origin is not None:
            age = f" no {parcels[0].origin.serial} of {parcels[0].origin.host}"
        count = max(1, len(parcels))
        return f"< {count} x {len(event.data) // count} B from {event.path.remote} {truth}{age}"
    if isinstance(event, Write):
        how = " shaped" if event.shaped else ""
        what = f"{len(event.data)} B end={event.end}{how}"
        return f"Write link {event.link} stream {event.stream} {what}"
    if isinstance(event, Consumed):
        return f"Consumed link {event.link} stream {event.stream} {event.size}"
    if isinstance(event, Dial):
        kept = [credential.generation for credential in event.pairing.credentials]
        return f"Dial link {event.link} with generations {kept}"
    if isinstance(event, Remember):
        kept = [credential.generation for credential in event.pairing.credentials]
        return f"Remember generations {kept}"
    return str(event)


def told_action(action: Action) -> str:
    if isinstance(action, Transmit):
        sizes = [len(datagram) for datagram in action.datagrams]
        return f"> {len(sizes)} x {sizes[0]} B to {action.path.remote}"
    if isinstance(action, Persist):
        kept = [credential.generation for credential in action.pairing.credentials]
        return f"Persist link {action.link} ticket {action.ticket} generations {kept}"
    if isinstance(action, Notify):
        notice = action.notice
        if isinstance(notice, StreamData):
            what = f"StreamData {notice.stream} {len(notice.data)} B end={notice.end}"
        elif isinstance(notice, StreamDrained):
            what = f"StreamDrained {notice.stream} {notice.buffered} {notice.finished}"
        else:
            what = str(notice)
        return f"! link {action.link} {what[:160]}"
    return str(action)[:120]


@define
class Printer:
    """A watcher that prints."""

    write: Callable[[str], object]

    def _line(self, host: Host, text: str) -> None:
        at = host.timeline.now / SECOND
        self.write(f"{at:12.6f} {host.name:9} {text}\n")

    def handling(self, host: Host, event: Event, parcels: list[Parcel]) -> None:
        self._line(host, told_event(event, parcels))

    def handled(self, host: Host, event: Event, parcels: list[Parcel]) -> None:
        """Told before."""

    def acting(self, host: Host, action: Action) -> None:
        self._line(host, told_action(action))

    def acted(self, host: Host, action: Action) -> None:
        """Told before."""

    def sent(self, host: Host, parcels: list[Parcel]) -> None:
        """Told as an action."""

    def woke(self, host: Host) -> None:
        """Too often to tell."""

    def changed(self, host: Host, what: str) -> None:
        self._line(host, f"=== {what}")

    def traced(self, host: Host, table: str, source: Enum, event: str, dest: Enum) -> None:
        self._line(host, f"  [{table}] {source.name} -- {event} --> {dest.name}")
