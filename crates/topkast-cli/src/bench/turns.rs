//! What the benches of whole steps have in common of arguments, limits and settings.

use clap::Args;

use crate::failure::Failure;

/// What is timed of a network, whatever its kind.
#[derive(Args, Clone, Copy)]
pub(super) struct Turns {
    /// Forward sparsity
    #[arg(long, default_value_t = 0.9)]
    pub(super) forward: f64,
    /// Backward sparsity
    #[arg(long, default_value_t = 0.8)]
    pub(super) backward: f64,
    /// Steps from refresh to refresh
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) refresh_every: u32,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=4096))]
    pub(super) threads: u32,
    /// Turns of each network
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) rounds: u32,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn size() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=1 << 20)
}

/// Steps of a turn that count, at least; a step before them finds the caches full of the other network and does not.
pub(super) const TURN: u64 = 10;
/// Weights of the largest network that is timed dense: 4 GiB with gradients and optimizer state.
pub(super) const LARGEST_DENSE: u64 = 1 << 28;
/// Entries of B at most: as much memory with their indices.
const LARGEST_SPARSE: f64 = 1.6e8;
/// Numbers that activations and their gradients have at most.
const LARGEST_ACTIVATIONS: f64 = (1u64 << 29) as f64;

impl Turns {
    /// Fails where a network of so many weights, and as many numbers in activations and their gradients, would not fit.
    /// `smaller` is what else helps than smaller sizes and a higher sparsity.
    pub(super) fn check_memory(self, weights: u64, activations: f64, smaller: &str) -> Result<(), Failure> {
        let trained = weights as f64 * (1.0 - self.backward.clamp(0.0, 1.0));
        if trained <= LARGEST_SPARSE && activations <= LARGEST_ACTIVATIONS {
            return Ok(());
        }
        Err(Failure::BadInput(format!(
            "the network would need more than 4 GiB for its weights and optimizer state or 2 GiB for its activations; \
             choose smaller sizes, a higher --backward or {smaller}"
        )))
    }

    /// What a config says of sparsity, and of steps, of which `warm_up` come before the first turn.
    pub(super) fn settings(self, method: &str, warm_up: u64) -> Vec<String> {
        vec![
            format!("train.steps={}", warm_up + u64::from(self.rounds) * (1 + self.turn())),
            format!("sparsity.method={method}"),
            format!("sparsity.forward={:?}", self.forward),
            format!("sparsity.backward={:?}", self.backward),
            format!("sparsity.refresh_every={}", self.refresh_every),
            // λ/D of at most 1e-3: the recipe's λ would empty B∖A of layers far sparser than its own.
            format!("optimizer.penalty={:e}", 1e-5f64.min(1e-3 * (1.0 - self.forward).max(0.0))),
        ]
    }

    /// Steps of a sparse turn that count: there is a refresh among them.
    pub(super) fn turn(self) -> u64 {
        TURN.max(self.refresh_every.into())
    }
}
