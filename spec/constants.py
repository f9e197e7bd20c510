"""PROTOCOL.md's tables of constants, timers, close codes and drop reasons, read from the code.

A constant is listed when its line is `NAME: Final = value  # why`. The comment is the why, so a
constant without one is private to its file.

Rules: values come from the imported module, comments from its source.
Left to others: which constants exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from inspect import getsource
from types import ModuleType
from typing import Final

from attrs import NOTHING, fields

from clawchat.core.config import Config
from clawchat.core.instant import HOUR, MICROSECOND, MILLISECOND, MINUTE, SECOND
from clawchat.core.timers import Timer
from clawchat.core.wire.parameters import Limits
from clawchat.errors import CloseCode, CompromiseReason, Drop

MODULES: Final = (
    "clawchat.core.credential",
    "clawchat.core.config",
    "clawchat.core.admission",
    "clawchat.core.crypto.bootstrap",
    "clawchat.core.crypto.envelope",
    "clawchat.core.crypto.packets",
    "clawchat.core.crypto.replay",
    "clawchat.core.wire.parameters",
    "clawchat.core.wire.frames",
    "clawchat.core.wire.control",
    "clawchat.core.streams.windows",
    "clawchat.core.streams.streams",
    "clawchat.core.streams.beat",
    "clawchat.core.recovery.rtt",
    "clawchat.core.recovery.recovery",
    "clawchat.core.recovery.received",
    "clawchat.core.recovery.path_mtu",
)
_LINE: Final = re.compile(r"^([A-Z][A-Z0-9_]*)(?:: Final)? = ([^#\n]+?)\s+# (.+)$", re.MULTILINE)
_MEMBER: Final = re.compile(r"^    ([A-Z][A-Z0-9_]*) = 0x[0-9A-Fa-f]+\s+# (.+)$", re.MULTILINE)
_TIME: Final = re.compile(r"\b(MICROSECOND|MILLISECOND|SECOND|MINUTE|HOUR)\b")
_UNITS: Final = ((HOUR, "h"), (MINUTE, "min"), (SECOND, "s"), (MILLISECOND, "ms"))


def constants() -> Iterator[tuple[str, str, str]]:
    """Name, value and why, of every constant that gives a reason; each once."""
    listed = set()
    for module in MODULES:
        for name, value, why in documented(import_module(module)):
            if name not in listed:
                yield f"`{name}`", value, why
            listed.add(name)


def documented(module: ModuleType) -> Iterator[tuple[str, str, str]]:
    """The same for one module."""
    for name, expression, why in _LINE.findall(getsource(module)):
        if not why.startswith("noqa"):
            yield name, shown(getattr(module, name), timed=bool(_TIME.search(expression))), why


def shown(value: object, *, timed: bool = False) -> str:
    """A value as people write it."""
    if timed and isinstance(value, int):
        return duration(value)
    if isinstance(value, int) and value >= 1 << 16:
        low = (value & -value).bit_length() - 1
        if value == 1 << low:
            return f"2^{low}"
        if value >> low < 1 << 4:
            return f"{value >> low} * 2^{low}"
        if value + 1 == 1 << value.bit_length():
            return f"2^{value.bit_length()} - 1"
    return str(value)


def duration(ns: int) -> str:
    """Nanoseconds in the largest unit that leaves a whole number."""
    for size, unit in _UNITS:
        if ns and ns % size == 0:
            return f"{ns // size} {unit}"
    return f"{ns / MICROSECOND:g} us"


def settings() -> Iterator[tuple[str, str]]:
    """Name and default of everything that an endpoint can be configured with."""
    for setting in fields(Config):
        if isinstance(setting.default, Limits):
            for limit in fields(Limits):
                yield f"`{limit.name}`", shown(getattr(setting.default, limit.name))
        elif setting.default is not NOTHING:
            timed = "_ns" in setting.name
            name = setting.name.replace("_ns", "") if timed else setting.name
            yield f"`{name}`", shown(setting.default, timed=timed)


def close_codes() -> Iterator[tuple[str, str, str]]:
    """Number, name and meaning."""
    why = dict(_MEMBER.findall(getsource(CloseCode)))
    for code in CloseCode:
        local = "never sent: " if code >= 0x40 else ""
        yield f"0x{code:02x}", code.name, local + why[code.name]


def reasons() -> Iterator[tuple[str, str, str]]:
    """Number, name and meaning of why a pairing is destroyed."""
    why = dict(_MEMBER.findall(getsource(CompromiseReason)))
    for reason in CompromiseReason:
        yield f"0x{reason:02x}", reason.name, why[reason.name]


def drops() -> Iterator[tuple[str, str]]:
    """Name and meaning."""
    for drop in Drop:
        yield drop.name, drop.value


def timers() -> Iterator[tuple[str, str]]:
    """Name and reason, in the order in which timers that are due together fire."""
    for timer in Timer:
        yield timer.name, timer.value
