"""A training step of a dense MLP in PyTorch."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from .step_data import LEARNING_RATE, MOMENTUM, StepData
from .timing import Parts, timed


class TrainingStep:
    """Forward, cross-entropy, backward and SGD with momentum on slices of samples that lie ready in memory. The options
    are PyTorch's: its three implementations of SGD, compiling network and loss, flushing denormal numbers."""

    def __init__(
        self,
        data: StepData,
        *,
        foreach: bool = False,
        fused: bool = False,
        compile: bool = False,
        flush: bool = False,
    ) -> None:
        torch.set_flush_denormal(flush)
        layers: list[nn.Module] = []
        for weight in data.weights:
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(weight))
                linear.bias.zero_()
            layers += [linear, nn.ReLU()]
        model = nn.Sequential(*layers[:-1])
        criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, foreach=foreach, fused=fused)

        def loss(x: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
            return criterion(model(x), classes)

        self.loss = torch.compile(loss) if compile else loss
        x, classes = torch.from_numpy(data.x), torch.from_numpy(data.classes)
        batches = range(0, len(x) - data.batch + 1, data.batch)
        self.batches = [(x[at : at + data.batch], classes[at : at + data.batch]) for at in batches]
        self.next = itertools.cycle(self.batches)

    def step(self) -> Parts:
        x, classes = next(self.next)
        return {"step": timed(lambda: self._train(x, classes))}

    def _train(self, x: torch.Tensor, classes: torch.Tensor) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(x, classes)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def first_losses(self) -> tuple[float, float]:
        """The first batch's loss before and after one step on it."""
        return self._train(*self.batches[0]), self._train(*self.batches[0])
