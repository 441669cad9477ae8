"""A training step of a dense residual network in PyTorch."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .cases import ResNetCase
from .timing import Parts, timed

CLASSES, LEARNING_RATE, MOMENTUM = 10, 0.002, 0.9
CHECKED_STEPS, CHECKED_IMAGES = 5, 4


class Block(nn.Module):
    """Two 3×3 convolutions, or a bottleneck with the stride in its 3×3 one, and the shortcut around them."""

    def __init__(self, inputs: int, inside: int, outputs: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        sizes = (
            [(inputs, inside, 1, 1), (inside, inside, 3, stride), (inside, outputs, 1, 1)]
            if bottleneck
            else [(inputs, inside, 3, stride), (inside, outputs, 3, 1)]
        )
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, k, s, k // 2, bias=False) for i, o, k, s in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(size[1]) for size in sizes)
        same = inputs == outputs and stride == 1
        projection = [] if same else [nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)]
        self.shortcut = nn.Sequential(*projection)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms)):
            y = norm(convolution(y))
            if number + 1 < len(self.norms):
                y = F.relu(y, inplace=True)
        return F.relu_(y + self.shortcut(x))


def network(depth: int) -> nn.Sequential:
    """ResNet-50 for large images, ResNets of 6n + 2 layers for small ones."""
    bottleneck = depth == 50
    stages, width = ([3, 4, 6, 3], 64) if bottleneck else ([(depth - 2) // 6] * 3, 16)
    stem = (
        [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
        if bottleneck
        else [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    )
    blocks, inputs = [], width
    for stage, count in enumerate(stages):
        inside = width << stage
        outputs = 4 * inside if bottleneck else inside
        for number in range(count):
            blocks.append(Block(inputs, inside, outputs, 2 if stage and not number else 1, bottleneck))
            inputs = outputs
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, CLASSES))


class TrainingStep:
    """Forward, cross-entropy, backward and SGD with momentum on random images that lie ready in memory. The options are PyTorch's: the order of
    channels in memory, and compiling network and loss."""

    def __init__(self, case: ResNetCase, *, channels_last: bool = False, compile: bool = False) -> None:
        torch.manual_seed(1)
        order = torch.channels_last if channels_last else torch.contiguous_format
        self.model = network(case.depth).to(memory_format=order)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, fused=True)
        self._check(torch.randn(CHECKED_IMAGES, 3, case.size, case.size).to(memory_format=order))
        self.loss = torch.compile(self._loss) if compile else self._loss
        images = [torch.randn(case.batch, 3, case.size, case.size).to(memory_format=order) for _ in range(2)]
        classes = torch.arange(case.batch) % CLASSES
        self.next = itertools.cycle([(x, classes) for x in images])

    def _loss(self, x: Tensor, classes: Tensor) -> Tensor:
        return F.cross_entropy(self.model(x), classes)

    def _check(self, x: Tensor) -> None:
        """Raises where the loss of one batch does not fall, as `topkast bench resnet` does."""
        self.loss = self._loss
        losses = [self._train(x, torch.arange(len(x)) % CLASSES) for _ in range(CHECKED_STEPS)]
        if not losses[-1] < losses[0]:
            raise ValueError(f"the loss goes from {losses[0]:.4g} to {losses[-1]:.4g}")

    def step(self) -> Parts:
        x, classes = next(self.next)
        return {"step": timed(lambda: self._train(x, classes))}

    def _train(self, x: Tensor, classes: Tensor) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(x, classes)
        loss.backward()
        self.optimizer.step()
        return loss.item()
