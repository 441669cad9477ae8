"""SparseProp's sparse convolution."""

from __future__ import annotations

import torch
from sparseprop import backend
from sparseprop.modules.utils import to_sparse_format_conv2d

from .convolution_data import ConvolutionData, Results
from .timing import Parts, timed


class SparsePropConvolution:
    """What `sparseprop.modules.functions.SparseConvFunction` calls, without its permutations and autograd around it: with images innermost, or
    vectorised over pixels. One kernel computes both gradients. The kernels add to what is there, so zeroing it belongs to the work."""

    def __init__(self, data: ConvolutionData, *, over_pixels: bool) -> None:
        self.kernel, self.padding, self.over_pixels = data.case.kernel, data.case.padding, over_pixels
        self.values, self.index = to_sparse_format_conv2d(torch.from_numpy(data.weight))
        self.x, self.dy = (self._ordered(torch.from_numpy(array)) for array in (data.x, data.dy))
        self.y, self.dx = torch.zeros_like(self.dy), torch.zeros_like(self.x)
        self.dw = torch.zeros_like(self.values)
        kind = "_over_on" if over_pixels else ""
        self.forward = getattr(backend, f"sparse_conv2d_vectorized_forward{kind}_stride_1")
        self.backward = getattr(backend, f"sparse_conv2d_vectorized_backward{kind}_stride_1")

    def _ordered(self, images: torch.Tensor) -> torch.Tensor:
        return images if self.over_pixels else images.permute(1, 2, 3, 0).contiguous()

    def step(self) -> Parts:
        return {"forward": timed(self._forward), "backward": timed(self._backward)}

    def _forward(self) -> None:
        self.y.zero_()
        self.forward(self.x, *self.index, self.values, self.y, self.kernel, self.padding)

    def _backward(self) -> None:
        self.dx.zero_()
        self.dw.zero_()
        self.backward(self.x, *self.index, self.values, self.dy, self.dx, self.dw, self.kernel, self.padding)

    def results(self) -> Results:
        y, dx = (t if self.over_pixels else t.permute(3, 0, 1, 2) for t in (self.y, self.dx))
        return Results(y.numpy(), dx.numpy(), self.dw.numpy())
