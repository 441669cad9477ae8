//! Networks for always-sparse training: layers with explicit `forward` and `backward` into reused buffers.
//!
//! Activations are feature-major [`Matrix`](topkast_kernels::Matrix)es. Nothing here allocates once it has seen its
//! largest batch. This crate knows nothing of files or the command line.

mod activation;
mod adaptive;
mod dense_products;
mod linear;
mod loss;
mod mlp;
mod named;
mod network;
mod part_times;
mod pass;
mod product_times;
mod resnet;
mod single_position;
mod tiled_convolutions;
mod tiled_products;
mod transformer_xl;

pub use activation::{Activation, Applied};
pub use adaptive::{AdaptiveError, AdaptiveShape, AdaptiveTable};
pub use linear::{DENSE_ABOVE, DenseLinear, Linear, SparseLinear, prunes_densely};
pub use loss::Loss;
pub use mlp::{Mlp, MlpShape};
pub use network::{BackwardTimes, Gradients, Input, LayerPlan, Mode, Network, NetworkShape, ParameterMut};
pub use part_times::PartTimes;
pub use product_times::ProductTimes;
pub use resnet::{BlockKind, ConvolutionShape, ResNet, ResNetShape, Stem};
pub use transformer_xl::{Clusters, Memory, MemoryError, Tokens, TransformerXl, TransformerXlShape};
