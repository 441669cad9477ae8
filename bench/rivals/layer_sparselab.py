"""sparselab's sparse linear layer."""

from __future__ import annotations

import numpy as np
import sparselab
import torch
from sparselab import _core
from sparselab.ops import _cached_transpose

from .layer_data import LayerData, Results
from .timing import Parts, timed


class Sparselab:
    """What `sparselab.ops._SpMMFunction` calls, without the layer's transposes, its row padding and autograd around it. Its
    cached transposed weight takes new values in every step, as in training."""

    def __init__(self, data: LayerData) -> None:
        self.weight = sparselab.PaddedCSR.from_dense(torch.from_numpy(data.weight), padding_ratio=0.0)
        self.x, self.dy = data.x, data.dy

    def step(self) -> Parts:
        return {
            "forward": timed(self._forward),
            "input_gradient": timed(self._input_gradient),
            "weight_gradient": timed(self._weight_gradient),
        }

    def _forward(self) -> None:
        self.y = _core.spmm_simd(self.weight, self.x)

    def _input_gradient(self) -> None:
        self.dx = _core.spmm_simd(_cached_transpose(self.weight), self.dy)

    def _weight_gradient(self) -> None:
        self.dw = _core.spmm_grad_w_simd(self.weight, self.dy, self.x)

    def results(self) -> Results:
        return Results(self.y, self.dx, np.asarray(self.dw))
