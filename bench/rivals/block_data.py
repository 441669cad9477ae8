"""The one-layer Transformer-XL that PyTorch trains: its initial parameters, its text, and the check of its first steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cases import BlockCase

LEARNING_RATE, EPSILON, CLIP_NORM = 1e-3, 1e-8, 0.25
"""Adam's other numbers are PyTorch's and ours: 0.9 and 0.999."""
VOCABULARY = 256
BATCHES = 64
CHECKED_STEPS = 3
TOLERANCE = 1e-3


@dataclass
class BlockData:
    """`tokens` [batches × streams × segment + 1] with the target of the last, and parameters by name: weights
    [outputs × inputs], with query, key and value in one, as they have one input; biases begin at 0."""

    case: BlockCase
    tokens: np.ndarray
    parameters: dict[str, np.ndarray]


def make(case: BlockCase) -> BlockData:
    """PyTorch trains the dense network, so the weights are dense."""
    rng = np.random.default_rng(1)
    d, ff = case.width, case.feed_forward
    tokens = rng.integers(0, VOCABULARY, (BATCHES, case.streams, case.segment + 1))
    parameters = {"embedding": rng.standard_normal((VOCABULARY, d)) / np.sqrt(d), "output.bias": np.zeros(VOCABULARY)}
    sizes = {"qkv": (3 * d, d), "position": (d, d), "output": (d, d), "inner": (ff, d), "outer": (d, ff)}
    for name, (outputs, inputs) in sizes.items():
        # Xavier's, of which query, key and value are three.
        deviation = np.sqrt(2 / ((d if name == "qkv" else outputs) + inputs))
        parameters[f"{name}.weight"] = rng.standard_normal((outputs, inputs)) * deviation
        parameters[f"{name}_bias"] = np.zeros(outputs)
    for name in ("u", "w", "attention.norm.bias", "feed_forward.norm.bias"):
        parameters[name] = np.zeros(d)
    for name in ("attention.norm.gain", "feed_forward.norm.gain"):
        parameters[name] = np.ones(d)
    return BlockData(case, tokens, {name: value.astype(np.float32) for name, value in parameters.items()})


def check(losses: list[float], expected: list[float]) -> None:
    """Raises where the losses of the first steps are not those of the plain network in float64."""
    for number, (got, want) in enumerate(zip(losses, expected, strict=True), 1):
        if not abs(got - want) <= TOLERANCE * abs(want):
            raise ValueError(f"the loss of step {number} is {got:.6g}, the plain network's {want:.6g}")
