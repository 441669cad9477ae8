"""From turns to the figures of the tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from .measure import Cell
from .timing import Parts


@dataclass(frozen=True)
class Spread:
    """The median over turns and the quartiles around it."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Best:
    """A rival's best variant in one cell."""

    label: str
    total: Spread


def spread(values: list[float]) -> Spread:
    """Quartiles with the ends included: a few turns are all there are, not a sample of more."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    return Spread(*statistics.quantiles(values, n=4, method="inclusive"))


def totals(series: list[Parts]) -> list[float]:
    """Each turn's milliseconds, all parts together."""
    return [sum(parts.values()) for parts in series]


def part_median(series: list[Parts], part: str) -> float:
    """The median of one part; the gradients are one where a rival computes them in one go."""
    if part == "backward":
        return statistics.median(sum(parts.values()) - parts["forward"] for parts in series)
    return statistics.median(parts[part] for parts in series)


def best(cell: Cell, name: str) -> Best | None:
    """The variant of this rival with the smallest median, or None where all failed."""
    found = [Best(label, spread(totals(series))) for (who, label), series in cell.series.items() if who == name]
    return min(found, key=lambda one: one.total.median, default=None)


def names(cells: Iterable[Cell]) -> list[str]:
    """Everyone in these cells, in order of appearance, whether timed or failed."""
    return list(dict.fromkeys(name for cell in cells for name, _ in [*cell.series, *cell.failures]))


def ratio(cell: Cell, name: str, ours: str) -> float | None:
    """How many times as fast as this rival we are, medians over medians."""
    theirs, own = best(cell, name), best(cell, ours)
    return theirs.total.median / own.total.median if theirs and own else None


def geometric_mean(values: list[float]) -> float:
    return math.exp(statistics.fmean(math.log(value) for value in values))
