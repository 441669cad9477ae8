"""SparseProp's sparse linear layer."""

from __future__ import annotations

import backend  # SparseProp's compiled module, which it installs under this name
import numpy as np
from scipy.sparse import csr_matrix

from .layer_data import LayerData, Results
from .timing import Parts, timed


class SparseProp:
    """What `sparseprop.modules.functions.SparseLinearFunction` calls, without its transposes and autograd around it. One
    kernel computes both gradients. The kernels add to what is there, so zeroing it belongs to the work."""

    def __init__(self, data: LayerData) -> None:
        weight = csr_matrix(data.weight)
        self.starts, self.columns, self.values = weight.indptr, weight.indices, weight.data
        self.x, self.dy = data.x, data.dy
        self.y, self.dx = np.zeros_like(data.dy), np.zeros_like(data.x)
        self.dw = np.zeros_like(self.values)

    def step(self) -> Parts:
        return {"forward": timed(self._forward), "backward": timed(self._backward)}

    def _forward(self) -> None:
        self.y.fill(0)
        backend.sparse_linear_vectorized_forward(self.x, self.starts, self.columns, self.values, self.y)

    def _backward(self) -> None:
        self.dx.fill(0)
        backend.sparse_linear_vectorized_backward(self.x, self.starts, self.columns, self.values, self.dy, self.dx, self.dw)

    def results(self) -> Results:
        return Results(self.y, self.dx, self.dw)
