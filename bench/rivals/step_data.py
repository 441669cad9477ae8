"""The network and the samples that every rival trains on, and the check of its first step."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from .cases import StepCase

LEARNING_RATE = 0.01
MOMENTUM = 0.9
TOLERANCE = 1e-3
SAMPLES = 8192
"""Enough to be larger than the caches, few enough to be at hand at once."""
FASHION = Path(__file__).resolve().parents[2] / "data" / "fashion-mnist"


@dataclass
class StepData:
    """Samples [positions × features], classes, and initial weights [outputs × inputs] of each layer; biases start at 0."""

    batch: int
    x: np.ndarray
    classes: np.ndarray
    weights: list[np.ndarray]


def make(case: StepCase) -> StepData:
    """The repository's Fashion-MNIST for networks of its size, random samples for others. PyTorch trains the dense network,
    so the weights are dense."""
    rng = np.random.default_rng(1)
    inputs, outputs = case.widths[0], case.widths[-1]
    if (inputs, outputs) == (784, 10):
        x, classes = fashion_mnist()
    else:
        x = rng.standard_normal((SAMPLES, inputs), dtype=np.float32)
        classes = rng.integers(0, outputs, SAMPLES)
    weights = [
        rng.standard_normal((fan_out, fan_in), dtype=np.float32) * np.float32(np.sqrt(2 / fan_in))
        for fan_in, fan_out in pairwise(case.widths)
    ]
    return StepData(case.batch, x, classes.astype(np.int64), weights)


def fashion_mnist() -> tuple[np.ndarray, np.ndarray]:
    """The first training images, normalised, and their classes."""
    images = np.frombuffer(gzip.decompress((FASHION / "train-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    classes = np.frombuffer(gzip.decompress((FASHION / "train-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    x = images.reshape(-1, 784)[:SAMPLES].astype(np.float32)
    return (x - x.mean()) / x.std(), classes[:SAMPLES]


def check(data: StepData, losses: tuple[float, float]) -> None:
    """Raises where the first batch's loss, before or after one step on it, is not the one that numpy finds."""
    for what, got, want in zip(("before", "after"), losses, reference_losses(data)):
        if not abs(got - want) <= TOLERANCE * abs(want):
            raise ValueError(f"the loss {what} the first step is {got:.6g}, numpy's is {want:.6g}")


def reference_losses(data: StepData) -> tuple[float, float]:
    """The first batch's loss before and after one step of SGD, written out."""
    weights = [weight.copy() for weight in data.weights]
    biases = [np.zeros((len(weight), 1), np.float32) for weight in weights]
    x, classes = data.x[: data.batch].T, data.classes[: data.batch]
    samples = np.arange(data.batch)

    def forward() -> tuple[list[np.ndarray], np.ndarray, float]:
        inputs, y = [], x
        for layer, (weight, bias) in enumerate(zip(weights, biases)):
            inputs.append(np.maximum(y, 0) if layer else y)
            y = weight @ inputs[-1] + bias
        shifted = np.exp(y - y.max(axis=0))
        chances = shifted / shifted.sum(axis=0)
        return inputs, chances, float(-np.log(chances[classes, samples]).mean())

    inputs, dy, before = forward()
    dy[classes, samples] -= 1
    dy /= data.batch
    for layer in reversed(range(len(weights))):
        dw, db = dy @ inputs[layer].T, dy.sum(axis=1, keepdims=True)
        dy = (weights[layer].T @ dy) * (inputs[layer] > 0)
        weights[layer] -= LEARNING_RATE * dw
        biases[layer] -= LEARNING_RATE * db
    return before, forward()[2]
