//! Sparse training kernels: pure functions on slices, with no framework and no global state.
//!
//! Activations are feature-major ([`Matrix`]: one row a feature, one column a *position*: a sample, a token, a
//! pixel), sparse structure is a checked [`Csr`], and values are plain slices in the structure's order. Every
//! kernel is one generic body over the small vector trait [`simd::Simd`], compiled once per instruction set and
//! picked by an [`Isa`] the caller passes; its naive twin in [`naive`] is what it is tested against.
//!
//! Work is split over the current rayon pool by equal shares of non-zeros. The split never changes the order of
//! a floating-point sum, so results are the same bits for any number of threads.

mod blocks;
mod buffer;
mod csr;
mod dense;
mod isa;
mod matrix;
pub mod naive;
mod sddmm;
mod share;
pub mod simd;
mod spmm;
#[cfg(test)]
mod testing;

pub use buffer::Buffer;
pub use csr::{Columns, Csr, CsrError, Transposed};
pub use dense::{dense_forward, dense_input_gradient, dense_weight_gradient};
pub use isa::{Isa, IsaError, Kernel};
pub use matrix::Matrix;
pub use sddmm::sddmm;
pub use spmm::{Epilogue, spmm, spmm_transposed};
