"""Replies to be streamed: tokens with the time to wait before each, of several classes.

All of them are synthetic in their timing; none was recorded from a model. Three sets:

- *topics*: five classes whose token lengths and gaps differ, lengths of replies alike. A token of
  English has some 4 characters (OpenAI, "What are tokens and how to count them"); code has more
  tokens of one or two, Chinese has tokens of one or two characters at 3 bytes each. Models write
  some 20 to 100 tokens a second and more; 40 here. Gaps depend on the content where tokens are
  decoded several at a time (arXiv 2410.17175): medians differ by up to 25 % between classes, and
  the share of tokens that come together with the one before by a factor of six.
- *texts*: five documents of this repository, cut into tokens as byte pair encoders do more or less
  (a word with the space before it, long words in pieces, signs alone). Gaps of all classes are
  alike, lengths too, so sizes alone can tell. Guesses are judged on parts of the documents that
  were not in the training.
- *lengths*: one topic, replies of five lengths, each twice the one before.

Rules: a reply depends on its class, its number and the seed alone.
Left to others: sending them (`course`).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from random import Random
from typing import Final, TypeAlias

from attrs import frozen

from clawchat.core.instant import MILLISECOND

Reply: TypeAlias = list[tuple[int, str]]
"""Tokens, each after so many nanoseconds."""

HOME: Final = Path(__file__).resolve().parents[2]
TOKENS_MEDIAN: Final = 100
TOKENS_SIGMA: Final = 0.5
GAP_MEDIAN: Final = 25 * MILLISECOND
GAP_SIGMA: Final = 0.5
FIRST_MEDIAN: Final = 400 * MILLISECOND  # until the first token, alike for all
PIECE: Final = re.compile(r" ?[A-Za-z]{1,8}|\s+|[^\sA-Za-z]")


@frozen
class Topic:
    """How one class of *topics* writes."""

    name: str
    chars: float  # of a token, on average
    wide: str  # what its words are made of
    gap: float  # of the median gap
    together: float  # the share of tokens that come at once with the one before


TOPICS: Final = (
    Topic("small talk", 4.3, "e", 1.00, 0.10),
    Topic("medicine", 5.2, "e", 1.12, 0.05),
    Topic("code", 2.9, "e", 0.90, 0.30),
    Topic("law", 4.7, "e", 1.05, 0.12),
    Topic("Chinese", 1.5, "\u6587", 0.95, 0.15),
)
TEXTS: Final = (
    "PROTOCOL.md",
    "docs/decisions.md",
    "docs/cli.md",
    "docs/embed.md",
    "clawchat/core/transport.py",
)
LENGTHS: Final = (25, 50, 100, 200, 400)
SETS: Final = {
    "topics": tuple(topic.name for topic in TOPICS),
    "texts": TEXTS,
    "lengths": tuple(f"{length} tokens" for length in LENGTHS),
}


def make_reply(what: str, kind: int, number: int, *, training: bool) -> Reply:
    """Reply `number` of class `kind` of the set `what`."""
    dice = Random(f"{what}/{kind}/{number}/{training}")
    if what == "lengths":
        count = max(5, round(LENGTHS[kind] * dice.lognormvariate(0, 0.1)))
        return timed(synthetic(TOPICS[0], count, dice), TOPICS[0], dice)
    count = max(5, round(TOKENS_MEDIAN * dice.lognormvariate(0, TOKENS_SIGMA)))
    if what == "topics":
        return timed(synthetic(TOPICS[kind], count, dice), TOPICS[kind], dice)
    return timed(excerpt(TEXTS[kind], count, dice, training=training), TOPICS[0], dice)


def timed(tokens: list[str], topic: Topic, dice: Random) -> Reply:
    """The tokens, with the gaps of a topic."""
    reply = [(round(FIRST_MEDIAN * dice.lognormvariate(0, 0.3)), tokens[0])]
    for token in tokens[1:]:
        gap = round(GAP_MEDIAN * topic.gap * dice.lognormvariate(0, GAP_SIGMA))
        reply.append((0 if dice.random() < topic.together else gap, token))
    return reply


def synthetic(topic: Topic, count: int, dice: Random) -> list[str]:
    """Tokens of geometric lengths."""
    stop = 1 / topic.chars
    tokens = []
    for _ in range(count):
        length = 1
        while dice.random() > stop and length < 16:
            length += 1
        tokens.append(topic.wide * length)
    return tokens


def excerpt(name: str, count: int, dice: Random, *, training: bool) -> list[str]:
    """`count` tokens in a row: from the first 60 % of a document, or from the rest."""
    tokens = document(name)
    border = len(tokens) * 6 // 10
    part = tokens[:border] if training else tokens[border:]
    start = dice.randrange(max(1, len(part) - count))
    return part[start : start + count]


@cache
def document(name: str) -> list[str]:
    """A document's tokens."""
    return PIECE.findall((HOME / name).read_text(encoding="utf-8"))
