"""Tells what was measured: Markdown tables, JSON, and a plot as SVG.

Rules: medians over seeds; in each cell the better of aioquic's congestion controllers stands for
it; "ahead" is the ratio of completion times. The plot is written by hand, so that measuring needs
no plotting library.
Left to others: measuring (`runs`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from attrs import field, frozen

from bench.simulated.cells import (
    LOSSES_PERCENT,
    MEGABYTE,
    OURS,
    RATES_MBIT,
    RTTS_MS,
    SHIPPED,
    THEIRS,
    Link,
    Run,
)
from bench.simulated.course import Result

NEVER = 1e9  # for a transfer that did not end
GOAL_LOSS_PERCENT, GOAL_SHARE = 1, 0.8  # what was asked for, of a stream without end
WITH_THE_START = (
    "The handshake and the start count, so the share *of bottleneck*, which is ours, is the lower "
    "the shorter the transfer is for its path."
)
WITHOUT_THE_START = "The second half of one run each, seed 1: our share once the start is over."


@frozen(order=True)
class Cell:
    """One link and size. Seconds by contestant, or for a steady run bits per second."""

    link: Link
    size_mb: int
    values: dict[str, float] = field(factory=dict, order=False)

    @property
    def rival(self) -> str:
        """Which of aioquic's controllers did better here."""
        known = [name for name in THEIRS if name in self.values]
        pick = min if self.size_mb else max
        return pick(known, key=self.values.__getitem__)

    @property
    def ahead(self) -> float:
        """How many times faster we are."""
        ours, theirs = self.values[OURS], self.values[self.rival]
        return theirs / ours if self.size_mb else ours / theirs

    @property
    def shipped_ahead(self) -> float | None:
        """The same with the defaults of each, where both were measured."""
        ours, theirs = (self.values.get(who) for who in SHIPPED)
        return None if ours is None or theirs is None else theirs / ours

    @property
    def behind(self) -> bool:
        """Whether we are not faster, in one way or the other."""
        shipped = self.shipped_ahead
        return self.ahead <= 1 or (shipped is not None and shipped <= 1)

    @property
    def share(self) -> float:
        """The share of the bottleneck that our application's bytes had."""
        ours = self.values[OURS]
        bits = self.size_mb * MEGABYTE * 8 / ours if self.size_mb else ours
        return bits / (self.link.mbit * 1_000_000)


def cells(
    runs: Sequence[Run], results: dict[str, Result], known: Sequence[Cell] = ()
) -> list[Cell]:
    """Medians over seeds, of all cells in which somebody of each side was measured.

    `known` has values of contestants who are not among `runs`.
    """
    found: dict[tuple[int, Link], dict[str, list[float]]] = {}
    for run in runs:
        result = results[run.name]
        value = result.seconds if run.size_mb else result.bits_per_second
        if run.size_mb and value < 0:
            value = NEVER
        found.setdefault((run.size_mb, run.link), {}).setdefault(run.who, []).append(value)
    others = {(cell.size_mb, cell.link): cell.values for cell in known}
    made = []
    for at, by in sorted(found.items()):
        values = {who: float(median(measured)) for who, measured in by.items()}
        values |= others.get(at, {})
        told = {who: values[who] for who in (OURS, *THEIRS, *SHIPPED) if who in values}
        made.append(Cell(at[1], at[0], told))
    return made


def from_json(written: Sequence[dict[str, Any]], contestants: Sequence[str]) -> list[Cell]:
    """What `as_json` said of these contestants."""
    return [
        Cell(
            Link(cell["mbit"], cell["rtt_ms"], cell["loss_percent"]),
            cell["size_mb"],
            {
                who: value
                for who, value in cell["seconds" if cell["size_mb"] else "bits_per_second"].items()
                if who in contestants
            },
        )
        for cell in written
    ]


def as_json(made: Sequence[Cell]) -> list[dict[str, Any]]:
    return [
        {
            "mbit": cell.link.mbit,
            "rtt_ms": cell.link.rtt_ms,
            "loss_percent": cell.link.loss_percent,
            "queue_bytes": cell.link.queue_bytes,
            "size_mb": cell.size_mb,
            ("seconds" if cell.size_mb else "bits_per_second"): cell.values,
            "ahead": round(cell.ahead, 4),
            "share_of_bottleneck": round(cell.share, 4),
        }
        for cell in made
    ]


# --- Markdown ---------------------------------------------------------------------------------


def as_markdown(made: Sequence[Cell]) -> str:
    """All tables, with what is best and worst in a line before each."""
    lines: list[str] = []
    for size in sorted({cell.size_mb for cell in made if cell.size_mb}):
        some = [cell for cell in made if cell.size_mb == size]
        lines += [f"### {size} MB: seconds until the last byte has arrived", "", _tally(some), ""]
        lines += [f"{WITH_THE_START} {_low(some)}", "", *_completion_table(some), ""]
    steady = [cell for cell in made if not cell.size_mb]
    if steady:
        lines += ["### A stream without end: share of the bottleneck", "", _tally(steady), ""]
        lines += [f"{WITHOUT_THE_START} {_low(steady)}", "", *_steady_table(steady), ""]
    return "\n".join(lines)


def _tally(some: Sequence[Cell]) -> str:
    told = f"With equal settings {_ahead([(cell.ahead, cell.link) for cell in some])}"
    shipped = [(ahead, cell.link) for cell in some if (ahead := cell.shipped_ahead) is not None]
    return f"{told}\nAs shipped {_ahead(shipped)}" if shipped else told


def _ahead(ratios: Sequence[tuple[float, Link]]) -> str:
    least, most = min(ratios), max(ratios)
    return (
        f"ahead in {sum(ahead > 1 for ahead, _ in ratios)} of {len(ratios)} cells, by "
        f"{least[0]:.3f} ({_told(least[1])}) to {most[0]:.1f} times ({_told(most[1])})."
    )


def _low(some: Sequence[Cell]) -> str:
    lossy = [cell for cell in some if cell.link.loss_percent == GOAL_LOSS_PERCENT]
    low = sum(cell.share < GOAL_SHARE for cell in lossy)
    goal = f"below {GOAL_SHARE:.0%} in {low} of {len(lossy)} cells"
    return f"At {GOAL_LOSS_PERCENT} % loss it is {goal}."


def _told(link: Link) -> str:
    return f"{link.mbit} Mbit/s, {link.rtt_ms} ms, {link.loss_percent} %"


def _row(values: Sequence[str]) -> str:
    return "| " + " | ".join(values) + " |"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return "never" if value >= NEVER else f"{value:.3f}"


def _completion_table(some: Sequence[Cell]) -> list[str]:
    head = ["Mbit/s", "RTT ms", "loss", OURS, *THEIRS, "ahead", "of bottleneck", *SHIPPED]
    rows = [_row(head), _row(["---:"] * len(head))]
    for cell in some:
        link, values = cell.link, cell.values
        rows.append(
            _row(
                [
                    str(link.mbit),
                    str(link.rtt_ms),
                    f"{link.loss_percent} %",
                    *(_number(values.get(who)) for who in (OURS, *THEIRS)),
                    f"{cell.ahead:.3f}" if cell.ahead < 2 else f"{cell.ahead:.1f}",
                    f"{cell.share:.0%}",
                    *(_number(values.get(who)) for who in SHIPPED),
                ]
            )
        )
    return rows


def _steady_table(some: Sequence[Cell]) -> list[str]:
    head = ["Mbit/s", "RTT ms", "loss", OURS, *THEIRS]
    rows = [_row(head), _row(["---:"] * len(head))]
    for cell in some:
        link = cell.link
        rows.append(
            _row(
                [
                    str(link.mbit),
                    str(link.rtt_ms),
                    f"{link.loss_percent} %",
                    *(f"{cell.values[w] / link.mbit / 1e6:.1%}" for w in (OURS, *THEIRS)),
                ]
            )
        )
    return rows


# --- the plot ---------------------------------------------------------------------------------

PANEL_W, PANEL_H, GAP_X, GAP_Y = 250, 150, 34, 52
LEFT, TOP = 62, 92
INK, FAINT, OUR_INK, THEIR_INK = "#222", "#ddd", "#0b6e4f", "#c1440e"


def as_svg(made: Sequence[Cell], size_mb: int) -> str:
    """Small multiples, a panel for each rate and round trip: share of the bottleneck over loss."""
    wide = LEFT + len(RTTS_MS) * (PANEL_W + GAP_X)
    high = TOP + len(RATES_MBIT) * (PANEL_H + GAP_Y)
    some = {cell.link: cell for cell in made if cell.size_mb == size_mb}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}"',
        f' height="{high}" font-family="sans-serif" font-size="12" fill="{INK}">',
        f'<rect width="{wide}" height="{high}" fill="#fff"/>',
        f'<text x="{LEFT}" y="26" font-size="16" font-weight="bold">{size_mb} MB: share of the',
        " bottleneck, handshake and start included</text>",
        f'<circle cx="{LEFT + 5}" cy="48" r="4" fill="{OUR_INK}"/>',
        f'<text x="{LEFT + 15}" y="52">ClawChat</text>',
        f'<circle cx="{LEFT + 95}" cy="48" r="4" fill="{THEIR_INK}"/>',
        f'<text x="{LEFT + 105}" y="52">aioquic, the better of reno and cubic</text>',
    ]
    for row, mbit in enumerate(RATES_MBIT):
        for column, rtt_ms in enumerate(RTTS_MS):
            x = LEFT + column * (PANEL_W + GAP_X)
            y = TOP + row * (PANEL_H + GAP_Y)
            parts += _panel(x, y, mbit, rtt_ms, some)
    return "\n".join([*parts, "</svg>", ""])


def _panel(x: int, y: int, mbit: int, rtt_ms: int, some: dict[Link, Cell]) -> Iterator[str]:
    yield f'<text x="{x}" y="{y - 8}" font-weight="bold">{mbit} Mbit/s, {rtt_ms} ms</text>'
    for percent in (0, 50, 100):
        at = y + PANEL_H * (1 - percent / 100)
        yield f'<line x1="{x}" y1="{at}" x2="{x + PANEL_W}" y2="{at}" stroke="{FAINT}"/>'
        if x == LEFT:
            yield f'<text x="{x - 8}" y="{at + 4}" text-anchor="end">{percent} %</text>'
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    for loss in LOSSES_PERCENT:
        along = x + 12 + (PANEL_W - 24) * loss / max(LOSSES_PERCENT)
        yield (
            f'<text x="{along:.1f}" y="{y + PANEL_H + 16}" text-anchor="middle">{loss} %'
            f"{' loss' if loss == LOSSES_PERCENT[-1] else ''}</text>"
        )
        cell = some.get(Link(mbit, rtt_ms, loss))
        if cell is not None:
            ours.append((along, y + PANEL_H * (1 - cell.share)))
            theirs.append((along, y + PANEL_H * (1 - cell.share / cell.ahead)))
    for points, ink in ((theirs, THEIR_INK), (ours, OUR_INK)):
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        yield f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="2"/>'
        for a, b in points:
            yield f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{ink}"/>'
