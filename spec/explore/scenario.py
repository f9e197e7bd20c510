"""A counterexample in a file: which exploration, which choices, and what was found.

Choices and not times: the adversary decides what happens next, so there is no clock to write down.
(A scenario of the simulator is another thing: faults that strike at their times.)

Rules: the file is JSON, says its format, and is read strictly; what it tells in words is for
people, and is not read.
Left to others: finding one (`search`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from attrs import frozen

from clawchat.drivers.simulator.printer import Printer
from spec.explore.catalogue import ALL
from spec.explore.search import Counterexample, Way
from spec.explore.situation import Choice, Situation

FORMAT: Final = "clawchat exploration 1"


class Unreadable(ValueError):
    """Not a file of ours, or of another version."""


@frozen
class Scenario:
    """`exploration` is a name of the catalogue."""

    exploration: str
    way: Way
    found: str

    def save(self, path: Path) -> None:
        text = {
            "format": FORMAT,
            "exploration": self.exploration,
            "found": self.found,
            "way": [list(choice) for choice in self.way],
            "in words": self.words(),
        }
        path.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Scenario:
        """Raises `Unreadable`."""
        try:
            text = json.loads(path.read_text(encoding="utf-8"))
            if text["format"] != FORMAT or text["exploration"] not in ALL:
                raise Unreadable(f"{path}: not a scenario that this version knows")
            way = tuple((str(name), int(place)) for name, place in text["way"])
            return cls(text["exploration"], way, str(text["found"]))
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, Unreadable):
                raise
            raise Unreadable(f"{path}: not a scenario of an exploration") from None

    def words(self) -> list[str]:
        """One line for each choice."""
        situation = ALL[self.exploration].make()
        lines = []
        for choice in self.way:
            lines.append(in_words(situation, choice))
            try:
                situation.take(choice)
            except AssertionError:
                break
        return lines

    def replay(self, write: Callable[[str], object], *, trace: bool) -> Counterexample | None:
        """Play it again, aloud; what was found this time."""
        world = ALL[self.exploration]
        exploration = world.exploration()
        situation = world.make()
        if trace:
            for host in situation.hosts:
                host.watchers.insert(0, Printer(write))
        exploration.setup = lambda: situation
        for number, choice in enumerate(self.way, 1):
            write(f"{number}. {in_words(situation, choice)}\n")
            try:
                situation.take(choice)
            except AssertionError as error:
                return Counterexample(f"{type(error).__name__}: {error}", self.way[:number])
        write("then the network is fair\n")
        try:
            exploration.finish(situation, self.way)
        except Counterexample as counterexample:
            return counterexample
        return None


def in_words(situation: Situation, choice: Choice) -> str:
    """What this choice does in this situation."""
    name, place = choice
    if name in ("deliver", "copy"):
        sender, kind, phases = situation.flying[place].label
        how = "arrives" if name == "deliver" else "arrives, and is kept to come again"
        was = f" (sent when it was {', '.join(phases)})" if phases else ""
        return f"what the {sender} sent ({kind}) {how}{was}"
    said = _WORDS[name]
    return said.format(host=situation.hosts[min(place, 1)].name, place=place)


_WORDS: Final = {
    "written": "the {host}'s write ends",
    "failed": "the {host}'s write fails",
    "kill": "the {host} is killed, its write is lost, and it starts again",
    "killed after writing": "the {host} is killed right after its write, and starts again",
    "rotate": "the {host}'s user asks for new keys",
    "leave port": "the {host}'s user asks for another port",
    "close": "the {host}'s user closes",
    "forget": "the listener's user revokes the device, and lends it a new file",
    "day": "ten hours pass in peace",
    "lose all": "all that is on its way is lost",
    "wait": "time passes until something can be seen",
    "minutes": "331 s pass, and nothing arrives",
    "publish": "the listener's user asks for a file",
    "withdraw": "the listener's user withdraws the files",
    "redeem": "the dialer is given file {place}",
    "panic": "the {host}'s user declares the pairing compromised",
    "panic, everything": "the {host}'s user declares everything compromised",
    "sleep": "the {host} falls asleep",
    "wake": "the {host} wakes up",
    "move": "the dialer's NAT forgets it and shows another address",
    "move, noticed": "the dialer moves to another address, and notices",
}
