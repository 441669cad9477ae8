"""Which parts of a step PyTorch's time goes to, by its own profiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .timing import Parts

LINEAR, ATTENTION, UPDATE = "linear", "attention", "update"
OTHER = "other"
STEPS = 5
BACKWARD = "autograd::engine::evaluate_function: "


def measure(step: Callable[[], object]) -> Parts:
    """Milliseconds of a step by part, mean over some: the forward pass by its spans, the backward pass by whose forward
    operation each function belongs to, the rest as `other`."""
    from torch.profiler import ProfilerActivity, profile, record_function

    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(STEPS):
            with record_function("step"):
                step()
    return {part: micros / STEPS / 1e3 for part, micros in by_part(list(profiled.events())).items()}


def by_part(events: list) -> Parts:
    """Microseconds of all steps together."""
    owner = {
        inner.sequence_nr: span.name
        for span in events
        if span.name in (LINEAR, ATTENTION)
        for inner in within(span)
        if inner.sequence_nr >= 0
    }
    times = {LINEAR: 0.0, ATTENTION: 0.0, UPDATE: 0.0, OTHER: 0.0}
    for event in events:
        if event.name == "step":
            times[OTHER] += event.cpu_time_total
            continue
        part = owner.get(event.sequence_nr) if event.name.startswith(BACKWARD) else event.name
        if part in (LINEAR, ATTENTION, UPDATE):
            times[part] += event.cpu_time_total
            times[OTHER] -= event.cpu_time_total
    return times


def within(event) -> Iterator:
    """Everything that happened during an event."""
    for inner in event.cpu_children:
        yield inner
        yield from within(inner)
