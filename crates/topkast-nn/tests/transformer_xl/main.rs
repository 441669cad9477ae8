//! The Transformer-XL: against PyTorch, its gradients against differences, its memory, and that threads do not show.

mod adaptive;
mod differences;
mod fixture;
mod gradients;
mod memory;
mod networks;
mod reference;
mod threads;
