//! Sparse training kernels: pure functions on slices, with no framework and no global state.
//!
//! Activations are feature-major ([`Matrix`]: one row a feature, one column a *position*: a sample, a token, a
//! pixel), sparse structure is a checked [`Csr`], and values are plain slices in the structure's order. Every
//! kernel is one generic body over the small vector trait [`simd::Simd`], compiled once per instruction set and
//! picked by an [`Isa`] the caller passes; its naive twin (in [`naive`], or in its tests) is what it is tested against.
//!
//! Work is split over the current rayon pool: sparse products by equal shares of non-zeros, the rest in chunks of a
//! fixed size. The split never changes the order of a floating-point sum, so results are the same bits for any number
//! of threads.

mod activation;
mod adam;
mod attention;
mod awake;
mod bandwidth;
mod batch_norm;
mod bf16;
mod blocks;
mod buffer;
mod chunks;
mod columns;
mod convolution;
mod csr;
mod dense;
mod dropout;
mod embedding;
mod epilogue;
mod isa;
mod lanes;
mod layer_norm;
mod loss;
mod math;
mod matrix;
mod moves;
pub mod naive;
mod narrow;
mod outside;
mod peak;
mod penalty;
mod piece;
mod pooling;
mod reduce;
mod sddmm;
#[cfg(target_arch = "x86_64")]
mod sddmm_bf16;
mod sgd;
mod share;
pub mod simd;
mod single;
mod source;
mod spmm;
mod team;
#[cfg(test)]
mod testing;
mod transposition;

pub use activation::{add, add_bias, gelu, gelu_gradient, relu, relu_gradient};
pub use adam::{Adam, Corrections, adam};
pub use attention::{
    AttentionGradients, AttentionInputs, AttentionScratch, AttentionShape, AttentionState, Relative,
    RelativeGradients, attention, attention_gradient,
};
pub use awake::awake;
pub use bandwidth::{l2_bandwidth_gbs, memory_bandwidth_gbs};
pub use batch_norm::{Rectified, Statistics, batch_norm, batch_norm_gradient};
pub use bf16::{Bf16, sddmm_bf16, sddmm_bf16_pair};
pub use buffer::Buffer;
pub use convolution::{Convolution, GradientScratch, Maps, Planes, Turned, Window};
pub use csr::{Cell, Columns, Csr, CsrEdit, CsrError, Transposed};
pub use dense::{dense_forward, dense_input_gradient, dense_weight_gradient};
pub use dropout::dropout;
pub use embedding::{embed, embed_gradient};
pub use epilogue::Epilogue;
pub use isa::{Isa, IsaError, Kernel};
pub use layer_norm::{layer_norm, layer_norm_gradient};
pub use loss::{LossSums, softmax_cross_entropy, softmax_cross_entropy_among};
pub use matrix::{Matrix, Rows, RowsMut};
pub use moves::{Moves, gallop};
pub use outside::outside;
pub use peak::{fma_peak_gflops, sparse_peak_gflops};
pub use penalty::Penalty;
pub use pooling::{Pooling, pool, pool_gradient};
pub use reduce::{row_sums, sum_of_squares};
pub use sddmm::{sddmm, sddmm_pair, sddmm_pair_add};
pub use sgd::{Sgd, sgd};
pub use share::{alone, for_each_alone};
pub use single::Single;
pub use spmm::{spmm, spmm_transposed};
pub use team::Team;
pub use transposition::{by_feature, by_position};
