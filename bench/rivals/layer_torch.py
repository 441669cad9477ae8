"""PyTorch's linear layer, dense and in compressed sparse rows, each in several ways of calling it."""

from __future__ import annotations

import numpy as np
import torch

from .layer_data import LayerData, Results
from .timing import Parts, timed


class DenseAutograd:
    """`nn.Linear` and its backward pass, as a user would call it."""

    def __init__(self, data: LayerData) -> None:
        rows, cols = data.weight.shape
        self.mask = data.mask
        self.x = torch.from_numpy(data.x.T.copy()).requires_grad_()
        self.dy = torch.from_numpy(data.dy.T.copy())
        self.linear = torch.nn.Linear(cols, rows, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(data.weight))

    def step(self) -> Parts:
        self.x.grad = self.linear.weight.grad = None
        forward = timed(self._forward)
        return {"forward": forward, "backward": timed(lambda: self.y.backward(self.dy))}

    def _forward(self) -> None:
        self.y = self.linear(self.x)

    def results(self) -> Results:
        assert self.x.grad is not None and self.linear.weight.grad is not None
        dw = self.linear.weight.grad.numpy()[self.mask]
        return Results(self.y.detach().numpy().T, self.x.grad.numpy().T, dw)


class DenseProducts:
    """The three products without autograd, into buffers that stay: the least that PyTorch can spend on them."""

    def __init__(self, data: LayerData) -> None:
        self.mask = data.mask
        self.weight = torch.from_numpy(data.weight)
        self.x = torch.from_numpy(data.x.T.copy())
        self.dy = torch.from_numpy(data.dy.T.copy())
        self.y, self.dx = torch.empty_like(self.dy), torch.empty_like(self.x)
        self.dw = torch.empty_like(self.weight)

    def step(self) -> Parts:
        return {
            "forward": timed(lambda: torch.mm(self.x, self.weight.t(), out=self.y)),
            "input_gradient": timed(lambda: torch.mm(self.dy, self.weight, out=self.dx)),
            "weight_gradient": timed(lambda: torch.mm(self.dy.t(), self.x, out=self.dw)),
        }

    def results(self) -> Results:
        return Results(self.y.numpy().T, self.dx.numpy().T, self.dw.numpy()[self.mask])


def csr(weight: torch.Tensor, index: torch.dtype) -> torch.Tensor:
    """The non-zeros of `weight` in compressed rows with indices of this type."""
    made = weight.to_sparse_csr()
    rows, columns = made.crow_indices().to(index), made.col_indices().to(index)
    return torch.sparse_csr_tensor(rows, columns, made.values(), size=made.shape)


class CsrProducts:
    """The three products by hand: CSR times dense, the same of the transposed weight (made once; its values gathered in
    every step, since training changes them), and `sampled_addmm`. CSR times dense is MKL's with 32-bit indices, which it
    takes as they are, or with `reduce` PyTorch's own, which is meant for graphs and often twice as fast."""

    def __init__(self, data: LayerData, *, reduce: bool) -> None:
        dense = torch.from_numpy(data.weight)
        index = torch.int64 if reduce else torch.int32
        self.reduce = reduce
        self.weight, self.transposed = csr(dense, index), csr(dense.t().contiguous(), index)
        numbered = np.zeros_like(data.weight, dtype=np.int64)
        numbered[data.mask] = np.arange(len(self.weight.values()))
        self.order = torch.from_numpy(numbered.T[data.mask.T])
        self.x, self.dy = torch.from_numpy(data.x), torch.from_numpy(data.dy)
        self.y, self.dx = torch.empty_like(self.dy), torch.empty_like(self.x)
        self.dw = csr(dense, index)

    def step(self) -> Parts:
        return {
            "forward": timed(self._forward),
            "input_gradient": timed(self._input_gradient),
            "weight_gradient": timed(self._weight_gradient),
        }

    def _forward(self) -> None:
        self.y = self._product(self.weight, self.x, self.y)

    def _input_gradient(self) -> None:
        torch.index_select(self.weight.values(), 0, self.order, out=self.transposed.values())
        self.dx = self._product(self.transposed, self.dy, self.dx)

    def _weight_gradient(self) -> None:
        torch.sparse.sampled_addmm(self.weight, self.dy, self.x.t(), beta=0.0, out=self.dw)

    def _product(self, sparse: torch.Tensor, dense: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        if self.reduce:
            return torch.sparse.mm(sparse, dense, "sum")
        return torch.mm(sparse, dense, out=out)

    def results(self) -> Results:
        return Results(self.y.numpy(), self.dx.numpy(), self.dw.values().numpy())


class CsrAutograd:
    """`torch.sparse.mm` with its `sum` reduction, which PyTorch differentiates with kernels of its own."""

    def __init__(self, data: LayerData) -> None:
        self.weight = csr(torch.from_numpy(data.weight), torch.int64).requires_grad_()
        self.x = torch.from_numpy(data.x).requires_grad_()
        self.dy = torch.from_numpy(data.dy)

    def step(self) -> Parts:
        self.x.grad = self.weight.grad = None
        forward = timed(self._forward)
        return {"forward": forward, "backward": timed(lambda: self.y.backward(self.dy))}

    def _forward(self) -> None:
        self.y = torch.sparse.mm(self.weight, self.x, "sum")

    def results(self) -> Results:
        assert self.x.grad is not None and self.weight.grad is not None
        return Results(self.y.detach().numpy(), self.x.grad.numpy(), self.weight.grad.values().numpy())
