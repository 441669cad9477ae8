//! The extension of the Python package `topkast`: kernels and core on memory that PyTorch owns.
//!
//! Tensors come as DLPack capsules (`tensor`): no copies, no link to PyTorch, and shape, type and layout are checked before a
//! number is read. Values, gradients and optimizer state stay with PyTorch; a `Weight` is where they are:
//! the sets, their structure, and the reservoir. Kernels run without the GIL, on PyTorch's threads (`lent`) or pools of ours (`threads`).

use pyo3::prelude::*;

mod activation;
mod between;
mod convolution;
mod lent;
mod linear;
mod portions;
mod shapes;
mod spare;
mod tensor;
mod threads;
mod two_layers;
mod weight;

#[pymodule]
mod _topkast {
    #[pymodule_export]
    use super::activation::Activation;
    #[pymodule_export]
    use super::between::Between;
    #[pymodule_export]
    use super::convolution::{convolution_backward, convolution_forward, convolution_output};
    #[pymodule_export]
    use super::linear::{linear_backward, linear_forward};
    #[pymodule_export]
    use super::shapes::{counts, drop_fraction, isa, name_matches, pruned};
    #[pymodule_export]
    use super::spare::release_memory;
    #[pymodule_export]
    use super::two_layers::{Hidden, two_layers_backward, two_layers_forward};
    #[pymodule_export]
    use super::weight::Weight;
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}

/// A `ValueError`: what a caller can mend.
fn wrong(message: impl ToString) -> PyErr {
    pyo3::exceptions::PyValueError::new_err(message.to_string())
}
