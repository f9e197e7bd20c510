"""The observer's guess: features of a trace, two classifiers, and how far better than chance.

Features are those of the attack (arXiv 2511.03675 and the literature before it): for each
direction counts, sums and duration; of sizes and of gaps mean, spread and quantiles; a histogram of
sizes; how sizes follow each other; and the first packets as they came. Gradient boosting and
extremely randomised trees learn on some links and guess on others, which they never saw.

Rules: random states are fixed; intervals are of 95 %, from 1,000 samples with replacement of the
guessed replies.
Left to others: where traces come from (`course`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from attrs import frozen
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from bench.shaped.course import Seen, Trace

Floats: TypeAlias = NDArray[np.float64]

FIRST: Final = 60  # packets that are features as they came
QUANTILES: Final = (0, 5, 10, 25, 50, 75, 90, 95, 100)
SIZE_BINS: Final = (*range(0, 160, 4), 200, 300, 400, 500, 513, 600, 800, 1000, 1201, 9000)
SAMPLES: Final = 1000


@frozen
class Verdict:
    """How one classifier did. Intervals are (low, high)."""

    classifier: str
    accuracy: float
    accuracy_between: tuple[float, float]
    auc: float
    auc_between: tuple[float, float]


def features(seen: Sequence[Seen]) -> Floats:
    """What a classifier is given of one trace."""
    parts = [np.array([len(seen), seen[-1].at])]
    for down in (True, False):
        mine = [one for one in seen if one.down is down]
        sizes = np.array([one.size for one in mine], dtype=np.float64)
        times = np.array([one.at for one in mine], dtype=np.float64)
        parts += [_of_direction(sizes, times)]
    return np.concatenate(parts)


def _of_direction(sizes: Floats, times: Floats) -> Floats:
    gaps = np.diff(times)
    after = 0.0
    if len(set(sizes[:-1])) > 1 and len(set(sizes[1:])) > 1:
        after = float(np.corrcoef(sizes[:-1], sizes[1:])[0, 1])
    totals = [len(sizes), sizes.sum(), times[-1] - times[0], times[0], len(set(sizes)), after]
    histogram = np.histogram(sizes, SIZE_BINS)[0]
    first = np.zeros(2 * FIRST)
    first[: min(FIRST, len(sizes))] = sizes[:FIRST]
    first[FIRST : FIRST + min(FIRST, len(gaps))] = gaps[:FIRST]
    return np.concatenate(
        [totals, _spread(sizes), _spread(gaps), histogram, histogram / len(sizes), first]
    )


def _spread(values: Floats) -> Floats:
    if not len(values):
        return np.zeros(len(QUANTILES) + 2)
    return np.concatenate([[values.mean(), values.std()], np.percentile(values, QUANTILES)])


def judge(traces: Sequence[Trace]) -> list[Verdict]:
    """Learn from the training links, guess the others."""
    table = np.array([features(trace.seen) for trace in traces])
    kinds = np.array([trace.kind for trace in traces])
    training = np.array([trace.training for trace in traces])
    verdicts = []
    for classifier in (
        HistGradientBoostingClassifier(max_iter=60, learning_rate=0.1, random_state=1),
        ExtraTreesClassifier(n_estimators=400, min_samples_leaf=2, random_state=1),
    ):
        classifier.fit(table[training], kinds[training])
        chances = classifier.predict_proba(table[~training])
        verdicts.append(_verdict(type(classifier).__name__, chances, kinds[~training]))
    return verdicts


def _verdict(name: str, chances: Floats, kinds: NDArray[np.int64]) -> Verdict:
    right = chances.argmax(axis=1) == kinds
    dice = np.random.default_rng(1)
    picks = [dice.integers(0, len(kinds), len(kinds)) for _ in range(SAMPLES)]
    picks = [pick for pick in picks if len(set(kinds[pick])) == len(set(kinds))]
    accuracies = [float(right[pick].mean()) for pick in picks]
    aucs = [_auc(chances[pick], kinds[pick]) for pick in picks]
    return Verdict(
        name,
        float(right.mean()),
        _between(accuracies),
        _auc(chances, kinds),
        _between(aucs),
    )


def _auc(chances: Floats, kinds: NDArray[np.int64]) -> float:
    """The area under the curve, one class against the others, mean of all."""
    return float(roc_auc_score(kinds, chances, multi_class="ovr", average="macro"))


def _between(values: Sequence[float]) -> tuple[float, float]:
    return float(np.percentile(values, 2.5)), float(np.percentile(values, 97.5))
