"""The clock of the workers."""

from __future__ import annotations

import time
from collections.abc import Callable

Parts = dict[str, float]
"""Milliseconds by part of the work; parts that a rival cannot run apart come as one."""


def timed(work: Callable[[], object]) -> float:
    """Milliseconds that `work` takes."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3
