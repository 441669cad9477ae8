"""Takes turns: every round, every contestant does the same work once, so that what else the machine does hits all alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from .cases import Case
from .contestants import Contestant, Failed
from .timing import Parts

Turn = TypeVar("Turn")

Key = tuple[str, str]
"""A rival's name and the variant it was called in."""


@dataclass
class Cell:
    """One case on so many threads: a series of turns for each variant, or why there is none."""

    threads: int
    case: Case
    series: dict[Key, list[Parts]] = field(default_factory=dict)
    failures: dict[Key, str] = field(default_factory=dict)
    parts: dict[Key, Parts] = field(default_factory=dict)
    """What a step's milliseconds go to, of those who know, told after the last turn."""
    report: dict = field(default_factory=dict)
    """All that `topkast bench` printed in its last turn."""


SETTLE_SECONDS = 0.02
"""Between turns, so that a predecessor's busily waiting threads have gone to sleep."""


def measure(contestants: Sequence[Contestant], case: Case, threads: int, rounds: int) -> Cell:
    """Everyone is prepared, and thereby checked, before the first turn; who fails is recorded and left out."""
    cell = Cell(threads, case)
    for contestant in contestants:
        try:
            contestant.prepare(case)
        except Failed as why:
            cell.failures[contestant.key] = str(why)
    for number in range(rounds):
        for contestant in rotated(contestants, number):
            if contestant.key in cell.failures:
                continue
            time.sleep(SETTLE_SECONDS)
            try:
                for key, parts in contestant.visit().items():
                    cell.series.setdefault(key, []).append(parts)
            except Failed as why:
                cell.failures[contestant.key] = str(why)
                cell.series.pop(contestant.key, None)
    for contestant in contestants:
        if contestant.key not in cell.series:
            continue
        try:
            cell.parts.update(contestant.parts())
        except Failed as why:
            cell.failures[contestant.key] = f"timed, but not told by part: {why}"
    return cell


def rotated(contestants: Sequence[Turn], number: int) -> list[Turn]:
    """Round `number` starts with another contestant, so that all are first equally often."""
    start = number % len(contestants)
    return [*contestants[start:], *contestants[:start]]
