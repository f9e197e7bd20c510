"""Inputs that are programs: a head and steps, each an operation with fields, and their mutation.

    grammar = Grammar(head=(BYTE,), ops=(Op("ping"), Op("stream", NUMBER, NUMBER, BLOB, BYTE)))
    head, steps = grammar.read(data)       any bytes are a program
    grammar.write(head, steps)             the bytes of a program
    grammar.mutated(data, random)          another program, not far from this one

A fuzzer that changes bytes breaks the structure of nearly every input that it makes. Here whole
steps are inserted, removed, repeated, swapped and taken over from another program, and fields get
values at which code tends to be wrong.

Rules: reading never fails: an operation is taken modulo their number, what is missing is zero.
A program that was written reads as the same program.
Left to others: what a step does (the targets), bytes without structure (`fuzz.mutate`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto, unique
from random import Random
from typing import Final, TypeAlias

from clawchat.core.wire import varint
from clawchat.errors import Malformed

SIZE_MAX: Final = 2048  # bytes of a program: more steps find nothing that fewer do not
BLOB_MAX: Final = 255


@unique
class Kind(Enum):
    """What a field holds."""

    BYTE = auto()
    NUMBER = auto()  # a varint of QUIC
    BLOB = auto()  # a byte that says its length, and so many


BYTE, NUMBER, BLOB = Kind.BYTE, Kind.NUMBER, Kind.BLOB
Value: TypeAlias = int | bytes
Step: TypeAlias = tuple[int, list[Value]]

NUMBERS: Final = tuple(
    sorted(
        {
            number
            for power in (0, 1, 2, 3, 6, 8, 10, 14, 16, 20, 22, 30, 31, 32, 48, 62)
            for number in ((1 << power) - 1, 1 << power, (1 << power) + 1)
            if number <= varint.MAX
        }
    )
)
BYTES: Final = (0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 254, 255)


class Op:
    """An operation: its name and its fields."""

    def __init__(self, name: str, *fields: Kind) -> None:
        self.name: Final = name
        self.fields: Final = fields


class Grammar:
    """How one target's programs are written."""

    def __init__(self, *, head: tuple[Kind, ...] = (), ops: Sequence[Op]) -> None:
        self.head: Final = head
        self.ops: Final = tuple(ops)
        self.number_of: Final = {op.name: number for number, op in enumerate(self.ops)}

    # --- bytes <-> programs -------------------------------------------------------------------

    def read(self, data: bytes) -> tuple[list[Value], list[Step]]:
        """The head and the steps."""
        head, at = _read_fields(data, 0, self.head)
        steps: list[Step] = []
        while at < len(data):
            op = data[at] % len(self.ops)
            values, at = _read_fields(data, at + 1, self.ops[op].fields)
            steps.append((op, values))
        return head, steps

    def write(self, head: Sequence[Value], steps: Sequence[Step]) -> bytes:
        """The bytes that `read` reads as this program."""
        parts = [_write_fields(self.head, head)]
        for op, values in steps:
            parts += [bytes((op,)), _write_fields(self.ops[op].fields, values)]
        return b"".join(parts)

    def program(self, head: Sequence[Value], *steps: tuple[str, *tuple[Value, ...]]) -> bytes:
        """The bytes of steps by name, as a person writes them: `("stream", 4, 0, b"x", 1)`."""
        return self.write(head, [(self.number_of[name], list(rest)) for name, *rest in steps])

    # --- other programs -----------------------------------------------------------------------

    def mutated(self, data: bytes, random: Random, size_max: int = SIZE_MAX) -> bytes:
        """A few changes."""
        head, steps = self.read(data)
        for _ in range(random.choice((1, 1, 1, 2, 2, 4, 8))):
            if head and random.randrange(16) == 0:
                self._tweak(head, self.head, random)
            else:
                random.choice(_CHANGES)(self, steps, random)
        return self._cut_to(head, steps, size_max)

    def crossed(self, one: bytes, other: bytes, random: Random, size_max: int = SIZE_MAX) -> bytes:
        """A program that begins as one and goes on, or has something in it, as the other."""
        head, steps = self.read(one)
        _, others = self.read(other)
        if not others:
            return self._cut_to(head, steps, size_max)
        at, start = random.randrange(len(steps) + 1), random.randrange(len(others))
        if random.randrange(2):
            steps[at:] = others[start:]
        else:
            steps[at:at] = others[start : start + random.randrange(1, 9)]
        return self._cut_to(head, steps, size_max)

    def from_corpus(self, corpus: Sequence[bytes], random: Random) -> bytes:
        """A new program from some of these; now and then one that owes them nothing."""
        if not corpus or random.randrange(16) == 0:
            steps = [self.random_step(random) for _ in range(random.randrange(1, 12))]
            return self.write([_random_value(kind, random) for kind in self.head], steps)
        data = random.choice(corpus)
        if random.randrange(3) == 0:
            data = self.crossed(data, random.choice(corpus), random)
        return self.mutated(data, random)

    def _cut_to(self, head: list[Value], steps: list[Step], size_max: int) -> bytes:
        data = self.write(head, steps)
        while len(data) > size_max and steps:
            del steps[-1 - len(steps) // 4 :]
            data = self.write(head, steps)
        return data[:size_max]

    def random_step(self, random: Random) -> Step:
        op = random.randrange(len(self.ops))
        return op, [_random_value(kind, random) for kind in self.ops[op].fields]

    def _tweak(self, values: list[Value], kinds: tuple[Kind, ...], random: Random) -> None:
        at = random.randrange(len(values))
        values[at] = _tweaked(values[at], kinds[at], random)

    def _insert(self, steps: list[Step], random: Random) -> None:
        steps.insert(random.randrange(len(steps) + 1), self.random_step(random))

    def _delete(self, steps: list[Step], random: Random) -> None:
        if steps:
            at = random.randrange(len(steps))
            del steps[at : at + random.choice((1, 1, 1, 2, 4))]

    def _repeat(self, steps: list[Step], random: Random) -> None:
        if steps:
            at = random.randrange(len(steps))
            piece = steps[at : at + random.choice((1, 1, 2, 3))]
            for _ in range(random.choice((1, 1, 2, 8))):
                steps[at:at] = [(op, list(values)) for op, values in piece]

    def _swap(self, steps: list[Step], random: Random) -> None:
        if steps:
            one, other = random.randrange(len(steps)), random.randrange(len(steps))
            steps[one], steps[other] = steps[other], steps[one]

    def _tweak_field(self, steps: list[Step], random: Random) -> None:
        if steps:
            op, values = random.choice(steps)
            if values:
                self._tweak(values, self.ops[op].fields, random)

    def _replace(self, steps: list[Step], random: Random) -> None:
        if steps:
            steps[random.randrange(len(steps))] = self.random_step(random)


_CHANGES: Final[tuple[Callable[[Grammar, list[Step], Random], None], ...]] = (
    Grammar._insert,
    Grammar._insert,
    Grammar._delete,
    Grammar._repeat,
    Grammar._swap,
    Grammar._tweak_field,
    Grammar._tweak_field,
    Grammar._tweak_field,
    Grammar._replace,
)


def _read_fields(data: bytes, at: int, kinds: Sequence[Kind]) -> tuple[list[Value], int]:
    values: list[Value] = []
    for kind in kinds:
        if kind is NUMBER:
            try:
                number, at = varint.decode(data, at)
            except Malformed:
                number, at = 0, len(data)
            values.append(number)
            continue
        byte = data[at] if at < len(data) else 0
        at += 1
        if kind is BLOB:
            values.append(data[at : at + byte])
            at += byte
        else:
            values.append(byte)
    return values, at


def _write_fields(kinds: Sequence[Kind], values: Sequence[Value]) -> bytes:
    parts: list[bytes] = []
    for kind, value in zip(kinds, values, strict=True):
        if isinstance(value, bytes):
            parts += [bytes((len(value),)), value]
        else:
            parts.append(varint.encode(value) if kind is NUMBER else bytes((value,)))
    return b"".join(parts)


def _random_value(kind: Kind, random: Random) -> Value:
    if kind is BYTE:
        return random.choice(BYTES) if random.randrange(2) else random.randrange(256)
    if kind is NUMBER:
        return random.choice(NUMBERS) if random.randrange(2) else random.randrange(32)
    return _random_blob(random)


def _random_blob(random: Random) -> bytes:
    return random.randbytes(random.choice((0, 1, 2, 8, 16, 40)))


def _tweaked(value: Value, kind: Kind, random: Random) -> Value:
    how = random.randrange(4)
    if isinstance(value, bytes):
        return _tweaked_blob(bytearray(value), random)
    top = varint.MAX if kind is NUMBER else 255
    if how == 0:
        return min(top, max(0, value + random.choice((-2, -1, 1, 2))))
    if how == 1:
        return value ^ (1 << random.randrange(top.bit_length()))
    return _random_value(kind, random)


def _tweaked_blob(blob: bytearray, random: Random) -> bytes:
    how, at = random.randrange(5), random.randrange(len(blob) + 1)
    if how == 0:
        blob[at:at] = random.randbytes(random.choice((1, 2, 8)))
    elif how == 1:
        del blob[at : at + random.choice((1, 2, 8))]
    elif how == 2 and at < len(blob):
        blob[at] = random.choice(BYTES)
    elif how == 3 and at < len(blob):
        blob[at] ^= 1 << random.randrange(8)
    else:
        return _random_blob(random)
    return bytes(blob[:BLOB_MAX])
