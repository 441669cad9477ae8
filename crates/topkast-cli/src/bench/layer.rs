//! `topkast bench layer`

use std::time::Instant;

use clap::Args;
use serde_json::json;
use topkast::{Counts, Explore, Parameter, Scale, Seed, SparseWeight, Sparsity, Topology, kaiming_normal};
use topkast_kernels::{
    Buffer, Epilogue, Isa, Matrix, dense_forward, dense_input_gradient, dense_weight_gradient,
    fma_peak_gflops, naive, sddmm, spmm, spmm_transposed,
};

use super::{in_pool, timed};
use crate::failure::{Failure, print_line};

/// Time one linear layer: forward, input gradient and weight gradient, sparse and dense
#[derive(Args)]
#[command(after_help = "Example: topkast bench layer --rows 1024 --cols 1024 --positions 128 --threads 1")]
pub(crate) struct Arguments {
    /// Outputs
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    rows: u32,
    /// Inputs
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    cols: u32,
    /// Positions (samples) a step
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    positions: u32,
    /// Forward sparsity
    #[arg(long, default_value_t = 0.9)]
    forward: f64,
    /// Backward sparsity
    #[arg(long, default_value_t = 0.8)]
    backward: f64,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=4096))]
    threads: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Milliseconds of the three products, each the median over rounds in which sparse and dense take turns.
#[derive(Clone, Copy)]
struct Times {
    forward: f64,
    input_gradient: f64,
    weight_gradient: f64,
}

impl Times {
    fn total(self) -> f64 {
        self.forward + self.input_gradient + self.weight_gradient
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let bytes = u64::from(arguments.rows.max(arguments.cols)) * u64::from(arguments.positions) * 4;
    let weight_bytes = u64::from(arguments.rows) * u64::from(arguments.cols) * 4;
    if bytes > 1 << 32 || weight_bytes > 1 << 32 {
        let message =
            "the dense layer this compares with would need matrices over 4 GiB; choose smaller sizes";
        return Err(Failure::BadInput(message.to_owned()));
    }
    in_pool(arguments.threads, |isa| {
        let mut layer = Layer::new(arguments, isa)?;
        let mut sparse = layer.sparse_weight(arguments.forward, arguments.backward)?;
        layer.check(&mut sparse)?;
        let (ours, dense) = layer.time(&mut sparse);
        let break_even = layer.break_even(arguments, dense.total())?;
        layer.report(arguments, &sparse, ours, dense, break_even)
    })
}

/// One layer's inputs, output gradients, dense weight, and room for every result.
struct Layer {
    isa: Isa,
    rows: usize,
    cols: usize,
    x: Matrix,
    dy: Matrix,
    y: Matrix,
    dx: Matrix,
    dense: Parameter,
    gathered: Buffer,
}

impl Layer {
    fn new(arguments: &Arguments, isa: Isa) -> Result<Self, Failure> {
        let (rows, cols) = (arguments.rows as usize, arguments.cols as usize);
        let positions = arguments.positions as usize;
        let random = |features: usize, name: &str| {
            let values: Vec<f32> =
                kaiming_normal(Seed::new(1).named(name), features * positions, 2.0).collect();
            Matrix::from_rows(features, positions, &values)
        };
        let weights: Vec<f32> = kaiming_normal(Seed::new(1), rows * cols, cols as f64).collect();
        Ok(Self {
            isa,
            rows,
            cols,
            x: random(cols, "x"),
            dy: random(rows, "dy"),
            y: Matrix::zeros(rows, positions),
            dx: Matrix::zeros(cols, positions),
            dense: Parameter::new(Buffer::from(&weights[..])),
            gathered: Buffer::default(),
        })
    }

    fn sparse_weight(&self, forward: f64, backward: f64) -> Result<SparseWeight, Failure> {
        let bad_input = |message: String| Failure::BadInput(message);
        let sparsity = Sparsity::new(forward, backward).map_err(|error| bad_input(error.to_string()))?;
        let total = self.rows as u64 * self.cols as u64;
        let counts: Counts = sparsity.counts(total).map_err(|error| bad_input(error.to_string()))?;
        let topology = Topology::TopKast(Explore::Magnitude);
        SparseWeight::new(self.rows, self.cols, counts, topology, Scale::Active, Seed::new(1))
            .map_err(|error| bad_input(error.to_string()))
    }

    /// The three sparse products, timed one by one.
    fn sparse_round(&mut self, weight: &mut SparseWeight) -> [f64; 3] {
        let pattern = weight.pattern().clone();
        let Self { isa, x, dy, y, dx, gathered, .. } = self;
        let forward = timed(|| spmm(*isa, pattern.active(), weight.active_values(), x, Epilogue::None, y));
        let input = timed(|| {
            spmm_transposed(*isa, pattern.transposed(), weight.active_values(), dy, gathered, dx);
        });
        let (active, explore) = weight.parameter_mut().gradient.split_at_mut(pattern.active().entries());
        let weights = timed(|| {
            sddmm(*isa, pattern.active(), dy, x, active);
            sddmm(*isa, pattern.explore(), dy, x, explore);
        });
        [forward, input, weights]
    }

    fn dense_round(&mut self) -> [f64; 3] {
        let Self { isa, rows, cols, x, dy, y, dx, dense, .. } = self;
        [
            timed(|| dense_forward(*isa, *rows, &dense.values, x, y)),
            timed(|| dense_input_gradient(*isa, *cols, &dense.values, dy, dx)),
            timed(|| dense_weight_gradient(*isa, dy, x, &mut dense.gradient)),
        ]
    }

    /// Compares a sparse round with the naive twins.
    fn check(&mut self, weight: &mut SparseWeight) -> Result<(), Failure> {
        self.sparse_round(weight);
        let pattern = weight.pattern();
        let values = weight.active_values();
        let transposed = pattern.transposed();
        let turned: Vec<f32> = transposed.order.iter().map(|&entry| values[entry as usize]).collect();
        let explored = naive::sddmm(pattern.explore(), &self.dy, &self.x);
        let gradient: Vec<f32> =
            naive::sddmm(pattern.active(), &self.dy, &self.x).into_iter().chain(explored).collect();
        for (what, got, want) in [
            ("forward", self.y.padded(), naive::spmm(pattern.active(), values, &self.x).padded()),
            ("input gradient", self.dx.padded(), naive::spmm(&transposed.csr, &turned, &self.dy).padded()),
            ("weight gradient", &weight.parameter().gradient[..], &gradient[..]),
        ] {
            let largest = want.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let error = got.iter().zip(want).fold(0.0f32, |worst, (got, want)| worst.max((got - want).abs()));
            // Rounding of sums of some thousand products, relative to the largest sum.
            if got.len() != want.len() || error > 1e-5 * largest {
                let message = format!("the {what} differs from its naive twin by {error}; nothing was timed");
                return Err(Failure::Failed(message));
            }
        }
        Ok(())
    }

    fn time(&mut self, weight: &mut SparseWeight) -> (Times, Times) {
        let (mut sparse, mut dense) = (Vec::new(), Vec::new());
        self.sparse_round(weight);
        self.dense_round();
        let start = Instant::now();
        while sparse.len() < 15 || (start.elapsed().as_secs_f64() < 2.0 && sparse.len() < 500) {
            sparse.push(self.sparse_round(weight));
            dense.push(self.dense_round());
        }
        (medians(&sparse), medians(&dense))
    }

    /// The sparsity at which sparse takes as long as dense, B keeping its size relative to A, by bisection; 0 where
    /// sparse is never slower.
    fn break_even(&mut self, arguments: &Arguments, dense_ms: f64) -> Result<f64, Failure> {
        let share = (1.0 - arguments.backward) / (1.0 - arguments.forward);
        let (mut low, mut high) = (0.0, arguments.forward);
        for _ in 0..6 {
            let forward = (low + high) / 2.0;
            let backward = (1.0 - (1.0 - forward) * share).clamp(0.0, forward);
            let mut weight = self.sparse_weight(forward, backward)?;
            self.sparse_round(&mut weight);
            let rounds: Vec<[f64; 3]> = (0..5).map(|_| self.sparse_round(&mut weight)).collect();
            if medians(&rounds).total() > dense_ms { low = forward } else { high = forward }
        }
        Ok(high)
    }

    fn report(
        &self,
        arguments: &Arguments,
        weight: &SparseWeight,
        ours: Times,
        dense: Times,
        break_even: f64,
    ) -> Result<(), Failure> {
        let Counts { active, backward } = weight.counts();
        let gflops = |entries: usize, ms: f64| 2e-6 * entries as f64 * f64::from(arguments.positions) / ms;
        let all = self.rows * self.cols;
        let peak = fma_peak_gflops(self.isa);
        let rows = [
            ("forward", ours.forward, dense.forward, active),
            ("input_gradient", ours.input_gradient, dense.input_gradient, active),
            ("weight_gradient", ours.weight_gradient, dense.weight_gradient, backward),
            ("total", ours.total(), dense.total(), 2 * active + backward),
        ];
        if arguments.json {
            let mut report = json!({
                "rows": self.rows, "cols": self.cols, "positions": arguments.positions,
                "active": active, "backward": backward,
                "threads": rayon::current_num_threads(), "isa": self.isa.name(),
                "fma_peak_gflops": peak, "break_even_sparsity": break_even,
            });
            for (name, sparse_ms, dense_ms, entries) in rows {
                let dense_entries = if name == "total" { 3 * all } else { all };
                report[format!("{name}_ms")] = json!(sparse_ms);
                report[format!("dense_{name}_ms")] = json!(dense_ms);
                report[format!("gflops_{name}")] = json!(gflops(entries, sparse_ms));
                report[format!("gflops_dense_{name}")] = json!(gflops(dense_entries, dense_ms));
            }
            return print_line(report);
        }
        print_line(format!(
            "{}x{}, {} positions, |A| {active}, |B| {backward}, {}, {} thread(s), FMA peak {peak:.0} GFLOP/s",
            self.rows,
            self.cols,
            arguments.positions,
            self.isa.name(),
            rayon::current_num_threads()
        ))?;
        print_line(format!(
            "{:<16} {:>10} {:>9} {:>10} {:>8}",
            "", "sparse ms", "GFLOP/s", "dense ms", "faster"
        ))?;
        for (name, sparse_ms, dense_ms, entries) in rows {
            let name = name.replace('_', " ");
            let speed = gflops(entries, sparse_ms);
            print_line(format!(
                "{name:<16} {sparse_ms:>10.3} {speed:>9.1} {dense_ms:>10.3} {:>7.1}x",
                dense_ms / sparse_ms
            ))?;
        }
        print_line(format!("sparse is as fast as dense at {:.0}% forward sparsity", break_even * 100.0))
    }
}

fn medians(rounds: &[[f64; 3]]) -> Times {
    let median = |which: usize| {
        let mut times: Vec<f64> = rounds.iter().map(|round| round[which]).collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    Times { forward: median(0), input_gradient: median(1), weight_gradient: median(2) }
}
