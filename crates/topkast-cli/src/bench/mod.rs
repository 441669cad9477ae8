//! `topkast bench`: times sparse against dense on this machine.

mod block;
mod convolution;
mod inference;
mod layer;
mod products;
mod refresh;
mod resnet;
mod sides;
mod step;
mod turns;
mod twin;

use std::time::Instant;

use clap::Subcommand;
use topkast_kernels::{Isa, fma_peak_gflops, l2_bandwidth_gbs, memory_bandwidth_gbs};

use crate::failure::Failure;

/// Time sparse against dense on this machine
#[derive(Subcommand)]
pub(crate) enum Command {
    Layer(layer::Arguments),
    Convolution(convolution::Arguments),
    Step(step::Arguments),
    Block(block::Arguments),
    Resnet(resnet::Arguments),
    Refresh(refresh::Arguments),
    Inference(inference::Arguments),
}

pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Layer(arguments) => layer::run(arguments),
        Command::Convolution(arguments) => convolution::run(arguments),
        Command::Step(arguments) => step::run(arguments),
        Command::Block(arguments) => block::run(arguments),
        Command::Resnet(arguments) => resnet::run(arguments),
        Command::Refresh(arguments) => refresh::run(arguments),
        Command::Inference(arguments) => inference::run(arguments),
    }
}

/// Calls `work` with the instruction set, on a rayon pool of so many threads (0: all cores).
fn in_pool(threads: u32, work: impl FnOnce(Isa) -> Result<(), Failure> + Send) -> Result<(), Failure> {
    let isa = Isa::current().map_err(|error| Failure::BadInput(error.to_string()))?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads as usize)
        .build()
        .map_err(|error| Failure::Failed(error.to_string()))?;
    pool.install(|| work(isa))
}

/// What times are measured against: what the threads of the current rayon pool can do at most.
struct Machine {
    isa: Isa,
    threads: usize,
    fma_peak_gflops: f64,
    bandwidth_gbs: f64,
    l2_bandwidth_gbs: f64,
}

impl Machine {
    fn measure(isa: Isa) -> Self {
        Self {
            isa,
            threads: rayon::current_num_threads(),
            fma_peak_gflops: fma_peak_gflops(isa),
            bandwidth_gbs: memory_bandwidth_gbs(isa),
            l2_bandwidth_gbs: l2_bandwidth_gbs(isa),
        }
    }

    /// Adds the fields that every report has.
    fn add_to(&self, report: &mut serde_json::Value) {
        report["isa"] = self.isa.name().into();
        report["threads"] = self.threads.into();
        report["fma_peak_gflops"] = self.fma_peak_gflops.into();
        report["bandwidth_gbs"] = self.bandwidth_gbs.into();
        report["l2_bandwidth_gbs"] = self.l2_bandwidth_gbs.into();
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}, {} thread(s): FMA peak {:.0} GFLOP/s, memory {:.0} GB/s, L2 {:.0} GB/s",
            self.isa.name(),
            self.threads,
            self.fma_peak_gflops,
            self.bandwidth_gbs,
            self.l2_bandwidth_gbs
        )
    }
}

/// Bytes to train on that nothing can be learnt from, others for other seeds.
fn random_bytes(seed: u64) -> impl Iterator<Item = u8> {
    let next = |&noise: &u32| Some(noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(next(&(seed as u32)), next).map(|noise| (noise >> 24) as u8)
}

/// Milliseconds that `work` takes.
fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e3
}

/// The first quartile, the median and the third quartile of some numbers; zeros where there are none.
fn quartiles(numbers: impl IntoIterator<Item = f64>) -> [f64; 3] {
    let mut sorted: Vec<f64> = numbers.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let at = |quarter: usize| sorted.get(sorted.len() * quarter / 4).copied().unwrap_or(0.0);
    [at(1), at(2), at(3)]
}

/// The middle one of some numbers; 0 where there are none.
fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    quartiles(numbers)[1]
}

/// Fails unless `got` is `want` but for rounding, given as a fraction of the largest number of `want`.
fn agree(what: &str, got: &[f32], want: &[f32], rounding: f32) -> Result<(), Failure> {
    let largest = want.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let off = |(got, want): (&f32, &f32)| (got - want).abs();
    // Not by `max`, which passes over NaN.
    let worst = got.iter().zip(want).map(off).max_by(f32::total_cmp).unwrap_or(0.0);
    if got.len() == want.len() && worst <= rounding * largest {
        return Ok(());
    }
    let message = format!("the {what} differs from its naive twin by {worst}; nothing was timed");
    Err(Failure::Failed(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_of_few_numbers() {
        assert_eq!(quartiles([]), [0.0; 3]);
        assert_eq!(quartiles([7.0]), [7.0; 3]);
        assert_eq!(quartiles([5.0, 1.0, 4.0, 2.0, 3.0]), [2.0, 3.0, 4.0]);
    }

    #[test]
    fn nothing_agrees_with_nan_or_another_length() {
        assert!(agree("sum", &[1.0, 2.0], &[1.0, 2.000_001], 1e-6).is_ok());
        assert!(agree("sum", &[1.0, f32::NAN], &[1.0, 2.0], 1e-6).is_err());
        assert!(agree("sum", &[1.0], &[1.0, 2.0], 1e-6).is_err());
    }
}
