//! Networks for always-sparse training: layers with explicit `forward` and `backward` into reused buffers.
//!
//! Activations are feature-major [`Matrix`](topkast_kernels::Matrix)es. Nothing here allocates once it has seen its
//! largest batch. This crate knows nothing of files or the command line.

mod activation;
mod linear;
mod mlp;
mod network;

pub use activation::Activation;
pub use linear::{DenseLinear, Linear, SparseLinear};
pub use mlp::{BackwardTimes, Mlp, MlpShape};
pub use network::{LayerPlan, Mode, ParameterMut};
