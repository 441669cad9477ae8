"""The record of a run: a page to read and the raw times beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from .cases import to_json
from .measure import Cell
from .stats import Best, best, geometric_mean, names, part_median, ratio
from .topkast import DENSE, NAME

NONE = "–"


@dataclass
class Record:
    """Everything that a page needs."""

    date: str
    command: str
    rounds: int
    machine: dict[str, str]
    cells: list[Cell]


def raw(record: Record) -> dict:
    """All turns of all variants, and what failed."""
    return {
        "date": record.date,
        "command": record.command,
        "rounds": record.rounds,
        "machine": record.machine,
        "cells": [
            {
                "kind": cell.case.kind,
                "threads": cell.threads,
                "case": to_json(cell.case),
                "topkast_report": cell.report,
                "times_ms": [{"rival": name, "variant": label, "turns": series} for (name, label), series in cell.series.items()],
                "parts_ms": [{"rival": name, "variant": label, **parts} for (name, label), parts in cell.parts.items()],
                "failures": [{"rival": name, "variant": label, "why": why} for (name, label), why in cell.failures.items()],
            }
            for cell in record.cells
        ],
    }


HEADINGS = {
    "layer": "One layer: forward, input gradient and weight gradient",
    "step": "Whole training steps",
    "block": "Whole training steps of one Transformer-XL block",
    "convolution": "One convolution: forward, input gradient and weight gradient",
    "resnet": "Whole training steps of residual networks",
}


def page(record: Record) -> str:
    """The record in Markdown."""
    parts = [
        f"# Beside other ways to train on a CPU, {record.date}",
        f"```sh\n{record.command}\n```",
        "What was run and how each rival is called: [bench/README.md](../../bench/README.md). Medians of "
        f"{record.rounds} turns in milliseconds, quartiles in brackets, for each rival the best of its variants. "
        "The rivals know no backward set: theirs is the forward set, so only rows with equal sparsities are the same work.",
        table(["", ""], [[name, value] for name, value in record.machine.items()]),
    ]
    for kind, heading in HEADINGS.items():
        if cells := [cell for cell in record.cells if cell.case.kind == kind]:
            parts += [f"## {heading}", *sections(cells)]
    parts += failures(record.cells)
    return "\n\n".join(parts) + "\n"


def sections(cells: list[Cell]) -> list[str]:
    """For each number of threads the times, the ratios and who was best how."""
    parts = []
    for threads in sorted({cell.threads for cell in cells}):
        some = [cell for cell in cells if cell.threads == threads]
        everyone = [NAME, *(name for name in names(some) if name != NAME)]
        rivals = [name for name in everyone if name not in (NAME, DENSE)]
        parts += [
            f"### {threads} thread{'s' if threads > 1 else ''}",
            by_case(some, everyone, lambda cell, name: time_text(best(cell, name))),
            "How many times as fast as them Topkast is:",
            by_case(some, [*rivals, BEST_RIVAL] if len(rivals) > 1 else rivals, partial(ratio_cell, rivals)),
            *summary(some, rivals),
        ]
        if some[0].case.kind in ("layer", "convolution"):
            parts += ["Forward alone + both gradients:", by_case(some, everyone, halves)]
        if some[0].case.kind == "block":
            parts += blocks(some, rivals)
        parts += ["The best variants:", by_case(some, rivals, lambda cell, name: label_text(best(cell, name)))]
    return parts


def blocks(cells: list[Cell], rivals: list[str]) -> list[str]:
    """Our dense path against the dense rivals, and what everyone's step goes to."""

    def dense_ratio(cell: Cell, name: str) -> str:
        value = ratio(cell, name, DENSE)
        return f"{value:.2f}×" if value is not None else NONE

    rows = [
        [cell.case.name, cell.case.sparsity, name, label, *(ms(parts[part]) for part in PARTS)]
        for cell in cells
        for (name, label), parts in cell.parts.items()
    ]
    return [
        "How many times as fast as them our dense path is:",
        by_case(cells, rivals, dense_ratio),
        "What a step goes to, in milliseconds (Topkast's without its share of a refresh; PyTorch's by its profiler, of what is not "
        "compiled): the products of the linear layers, attention with scores and softmax, clipping and Adam, all else.",
        table(["", "forward/backward sparsity", "", "variant", *PARTS], rows),
    ]


PARTS = ("linear", "attention", "update", "other")
BEST_RIVAL = "the best of them"


def against(cell: Cell, name: str, rivals: list[str]) -> float | None:
    """The ratio to a rival, or to the fastest of all."""
    if name != BEST_RIVAL:
        return ratio(cell, name, NAME)
    ratios = [value for rival in rivals if (value := ratio(cell, rival, NAME)) is not None]
    return min(ratios, default=None)


def summary(cells: list[Cell], rivals: list[str]) -> list[str]:
    """One line on all ratios to the best rival; nothing where there are none."""
    ratios = [value for cell in cells if (value := against(cell, BEST_RIVAL, rivals)) is not None]
    if not ratios:
        return []
    middle = geometric_mean(ratios)
    return [f"Against the best of them: {min(ratios):.2f}× to {max(ratios):.2f}×, geometric mean {middle:.2f}×."]


def by_case(cells: list[Cell], columns: list[str], text: Callable[[Cell, str], str]) -> str:
    """A row for each case, a column for each name."""
    rows = [[cell.case.name, cell.case.sparsity, *(text(cell, name) for name in columns)] for cell in cells]
    return table(["", "forward/backward sparsity", *columns], rows)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def time_text(one: Best | None) -> str:
    return f"{ms(one.total.median)} ({ms(one.total.low)}–{ms(one.total.high)})" if one else NONE


def ratio_cell(rivals: list[str], cell: Cell, name: str) -> str:
    value = against(cell, name, rivals)
    return f"{value:.2f}×" if value is not None else NONE


def label_text(one: Best | None) -> str:
    return one.label if one else NONE


def halves(cell: Cell, name: str) -> str:
    one = best(cell, name)
    if not one:
        return NONE
    series = cell.series[name, one.label]
    return f"{ms(part_median(series, 'forward'))} + {ms(part_median(series, 'backward'))}"


def ms(value: float) -> str:
    """Three significant digits, never in powers of ten."""
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"


def failures(cells: list[Cell]) -> list[str]:
    """Who was not timed and why, each reason once."""
    seen: dict[tuple[str, str, str], list[str]] = {}
    for cell in cells:
        for (name, label), why in cell.failures.items():
            where = f"{cell.case.name}, {cell.case.sparsity}, {cell.threads} thread(s)"
            seen.setdefault((name, label, why), []).append(where)
    if not seen:
        return []
    lines = [
        f"- {name}, {label}, {places[0]}{f' and {len(places) - 1} more' if len(places) > 1 else ''}: {why}"
        for (name, label, why), places in seen.items()
    ]
    return ["## Not timed", "\n".join(lines)]
