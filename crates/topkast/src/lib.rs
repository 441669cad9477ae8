//! The Top-KAST core (Jayakumar et al., NeurIPS 2020): always-sparse weights and what moves them.
//!
//! A [`SparseWeight`] computes with its *active set* A, receives gradients on its *backward set* B ⊇ A, and keeps the
//! rest, C, in a [`Reservoir`]. [`SparseWeight::refresh`] is the one path by which A and B change: it leads to the
//! next [`Pattern`] and a [`Remap`] through which everything of length |B| goes. [`Global`] takes its place where several
//! weights are chosen for together, [`SparseWeight::set`] and [`SparseWeight::rigl`] where methods drop and grow,
//! [`SparseWeight::prune`] where entries only go. This crate knows nothing of networks, files or the command line.

mod changes;
mod clip;
mod density;
mod drop_schedule;
mod erk;
mod init;
mod optimizer;
mod parameter;
mod pattern;
mod permutation;
mod prune_schedule;
mod quantile;
mod remap;
pub mod reservoir;
mod schedule;
mod seed;
mod selection;
mod weight;

pub use clip::clip_scale;
pub use density::{Counts, DensityError, Sparsity, name_matches};
pub use drop_schedule::DropSchedule;
pub use erk::erk_counts;
pub use init::{Init, Scale, Variance, kaiming_normal};
pub use optimizer::{Hyper, Optimizer, PenaltyKind};
pub use parameter::{Moments, Parameter};
pub use pattern::{Pattern, PatternError};
pub use prune_schedule::PruneSchedule;
pub use quantile::Distribution;
pub use remap::Remap;
pub use reservoir::{Reservoir, ReservoirKind};
pub use schedule::{Schedule, Shape};
pub use seed::Seed;
pub use selection::Entry;
pub use weight::{
    Changed, DenseGradient, Explore, Global, GradientTile, Largest, SparseWeight, Topology, WeightError,
    random_counts,
};
