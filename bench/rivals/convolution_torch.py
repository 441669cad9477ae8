"""PyTorch's dense convolution, in several ways of calling it."""

from __future__ import annotations

import torch

from .convolution_data import ConvolutionData, Results
from .timing import Parts, timed


class DenseConvolution:
    """`nn.Conv2d` and its backward pass, as a user would call it, with either order of channels in memory."""

    def __init__(self, data: ConvolutionData, *, channels_last: bool) -> None:
        self.mask = data.weight != 0
        order = torch.channels_last if channels_last else torch.contiguous_format
        self.x = torch.from_numpy(data.x).to(memory_format=order).requires_grad_()
        self.dy = torch.from_numpy(data.dy).to(memory_format=order)
        case = data.case
        self.layer = torch.nn.Conv2d(case.inputs, case.outputs, case.kernel, padding=case.padding, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.from_numpy(data.weight))
        self.layer = self.layer.to(memory_format=order)

    def step(self) -> Parts:
        self.x.grad = self.layer.weight.grad = None
        forward = timed(self._forward)
        return {"forward": forward, "backward": timed(lambda: self.y.backward(self.dy))}

    def _forward(self) -> None:
        self.y = self.layer(self.x)

    def results(self) -> Results:
        assert self.x.grad is not None and self.layer.weight.grad is not None
        return Results(self.y.detach().numpy(), self.x.grad.numpy(), self.layer.weight.grad.numpy()[self.mask])
