//! Residual networks: against PyTorch's on the same weights, against differences of the loss, and sparse ones against dense ones.

mod differences;
mod fixture;
mod made;
mod sparse;
