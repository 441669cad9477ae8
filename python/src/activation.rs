//! What a forward pass leaves for the weight gradient.

use pyo3::prelude::*;
use topkast_kernels::{Matrix, Planes};

use crate::convolution::Shared;
use crate::spare;

/// x as the kernels want it, kept from the forward pass until the graph is freed; its memory is then used again.
#[pyclass(frozen, module = "topkast._topkast")]
pub(crate) struct Activation {
    pub(crate) x: Matrix,
    /// In place of `x` where that is laid out for a convolution.
    pub(crate) planes: Option<(Planes, Shared)>,
}

impl Activation {
    pub(crate) fn new(x: Matrix) -> Self {
        Self { x, planes: None }
    }
}

impl Drop for Activation {
    fn drop(&mut self) {
        spare::give(std::mem::take(&mut self.x));
        if let Some((planes, shared)) = self.planes.take() {
            shared.give(planes);
        }
    }
}

#[pymethods]
impl Activation {
    /// Bytes held.
    #[getter]
    fn nbytes(&self) -> usize {
        self.x.capacity_bytes() + self.planes.as_ref().map_or(0, |(planes, _)| planes.capacity_bytes())
    }
}
