//! `topkast bench layer`

use std::time::Instant;

use clap::Args;
use serde_json::json;
use topkast::{
    Counts, Explore, Init, Parameter, ReservoirKind, Scale, Seed, SparseWeight, Sparsity, Topology,
    kaiming_normal,
};
use topkast_kernels::{
    Bf16, Buffer, Csr, Epilogue, Isa, Matrix, dense_forward, dense_input_gradient, dense_weight_gradient,
    naive, sddmm_bf16_pair, sddmm_pair, spmm, spmm_transposed,
};

use super::products::{PRODUCTS, Times, times};
use super::{Machine, agree, in_pool, timed};
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
    /// What the sparse weight gradient is computed from; bf16 needs AVX512-BF16
    #[arg(long, default_value = "f32", value_parser = ["f32", "bf16"])]
    weight_gradient: String,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=4096))]
    threads: u32,
    /// Rounds, in each of which sparse and dense take a turn of two passes, the second counted [default: as many as take 2 s, 15 to 500]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: Option<u32>,
    /// Leave out the search for the sparsity at which sparse is as fast as dense
    #[arg(long)]
    no_break_even: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Roundings in sums of some thousand products, relative to the largest sum.
const ROUNDING: f32 = 1e-5;
/// Products that a naive twin is given to compute: some tenths of a second. Where there are more, it computes some rows.
const CHECKED: usize = 20_000_000;

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
        layer.check_dense()?;
        let machine = Machine::measure(isa);
        let (ours, dense) = layer.time(&mut sparse, arguments.rounds);
        let search = || layer.break_even(arguments, ours[3][1], dense[3][1]);
        let break_even = (!arguments.no_break_even).then(search).transpose()?;
        layer.report(arguments, &machine, sparse.counts(), [ours, dense], break_even)
    })
}

/// One layer's inputs, output gradients, dense weight, and room for every result.
struct Layer {
    isa: Isa,
    /// Where the sparse weight gradient's inputs are rounded.
    bf16: Option<Bf16>,
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
        let bf16 = match arguments.weight_gradient.as_str() {
            "bf16" => Some(isa.bf16().ok_or_else(|| {
                let message = "--weight-gradient bf16 needs the instructions AVX512-BF16, which this machine lacks or TOPKAST_ISA \
                               excludes; use f32";
                Failure::BadInput(message.to_owned())
            })?),
            _ => None,
        };
        Ok(Self {
            isa,
            bf16,
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
        SparseWeight::new(
            self.rows,
            self.cols,
            counts,
            topology,
            &Init::kaiming_normal(Scale::Active),
            ReservoirKind::Implicit,
            Seed::new(1),
        )
        .map_err(|error| bad_input(error.to_string()))
    }

    /// The three sparse products, timed one by one.
    fn sparse_round(&mut self, weight: &mut SparseWeight) -> [f64; 3] {
        let pattern = weight.pattern().clone();
        let Self { isa, bf16, x, dy, y, dx, gathered, .. } = self;
        let forward = timed(|| spmm(*isa, pattern.active(), weight.active_values(), x, Epilogue::None, y));
        let input = timed(|| {
            let (values, none) = (weight.active_values(), Epilogue::None);
            spmm_transposed(*isa, pattern.transposed(), values, dy, none, gathered, dx);
        });
        let (active, explore) = weight.parameter_mut().gradient.split_at_mut(pattern.active().entries());
        let structures = [pattern.active(), pattern.explore()];
        let weights = timed(|| match *bf16 {
            Some(bf16) => sddmm_bf16_pair(bf16, structures, dy, x, [active, explore]),
            None => sddmm_pair(*isa, structures, dy, x, [active, explore]),
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
        let (pattern, values) = (weight.pattern(), weight.active_values());
        let transposed = pattern.transposed();
        let turned: Vec<f32> = transposed.order().iter().map(|&entry| values[entry as usize]).collect();
        agree_by_row("forward", pattern.active(), values, &self.x, &self.y)?;
        agree_by_row("input gradient", transposed.csr(), &turned, &self.dy, &self.dx)?;
        let (active, explore) = weight.parameter().gradient.split_at(pattern.active().entries());
        let rounded = self.bf16.map(|_| [&self.dy, &self.x].map(naive::rounded_to_bf16));
        let [dy, x] = rounded.as_ref().map_or([&self.dy, &self.x], |[dy, x]| [dy, x]);
        for (set, got) in [(pattern.active(), active), (pattern.explore(), explore)] {
            let rows = sample(self.rows, set.entries() * self.x.positions());
            let want = rows.flat_map(|row| naive::sddmm_row(set, dy, x, row));
            let (got, want): (Vec<f32>, Vec<f32>) = want.map(|(entry, want)| (got[entry], want)).unzip();
            agree("weight gradient", &got, &want, ROUNDING)?;
        }
        Ok(())
    }

    /// Compares some rows of a dense round with those of a sparse layer with all entries there.
    fn check_dense(&mut self) -> Result<(), Failure> {
        self.dense_round();
        let Self { rows, cols, x, dy, y, dx, dense, .. } = self;
        let (rows, cols) = (*rows, *cols);
        let products = rows * cols * x.positions();
        let (mut got, mut want): ([Vec<f32>; 3], [Vec<f32>; 3]) = Default::default();
        for row in sample(rows, products) {
            let (full, at) = (full_row(rows, cols, row), row * cols);
            got[0].extend(y.row(row));
            want[0].extend(naive::spmm_row(&full, &dense.values[at..][..cols], x, row));
            got[2].extend(&dense.gradient[at..][..cols]);
            want[2].extend(naive::sddmm_row(&full, dy, x, row).map(|(_, sum)| sum));
        }
        for column in sample(cols, products) {
            let turned: Vec<f32> = dense.values.iter().skip(column).step_by(cols).copied().collect();
            got[1].extend(dx.row(column));
            want[1].extend(naive::spmm_row(&full_row(cols, rows, column), &turned, dy, column));
        }
        for (product, (got, want)) in PRODUCTS.iter().zip(got.iter().zip(&want)) {
            agree(&format!("dense {}", product.replace('_', " ")), got, want, ROUNDING)?;
        }
        Ok(())
    }

    fn time(&mut self, weight: &mut SparseWeight, asked: Option<u32>) -> (Times, Times) {
        let (mut sparse, mut dense) = (Vec::new(), Vec::new());
        let start = Instant::now();
        let more = |done: usize| match asked {
            Some(rounds) => done < rounds as usize,
            None => done < 15 || (start.elapsed().as_secs_f64() < 2.0 && done < 500),
        };
        while more(sparse.len()) {
            // In a turn's first pass the caches still hold what the other side left there; in training they do not.
            self.sparse_round(weight);
            sparse.push(self.sparse_round(weight));
            self.dense_round();
            dense.push(self.dense_round());
        }
        (times(&sparse), times(&dense))
    }

    /// The sparsity at which sparse takes as long as dense, B keeping its size relative to A, by bisection from the one that
    /// was timed: about 0 where sparse is never slower, about 1 where it always is.
    fn break_even(&mut self, arguments: &Arguments, sparse_ms: f64, dense_ms: f64) -> Result<f64, Failure> {
        let share = (1.0 - arguments.backward) / (1.0 - arguments.forward);
        // At least an entry stays.
        let highest = 1.0 - 2.0 / (self.rows * self.cols) as f64;
        let (mut low, mut high) = match arguments.forward {
            timed if sparse_ms > dense_ms => (timed, highest.max(timed)),
            timed => (0.0, timed),
        };
        for _ in 0..6 {
            let forward = (low + high) / 2.0;
            let backward = (1.0 - (1.0 - forward) * share).clamp(0.0, forward);
            let mut weight = self.sparse_weight(forward, backward)?;
            self.sparse_round(&mut weight);
            let rounds: Vec<[f64; 3]> = (0..5).map(|_| self.sparse_round(&mut weight)).collect();
            if times(&rounds)[3][1] > dense_ms { low = forward } else { high = forward }
        }
        Ok(high)
    }

    fn report(
        &self,
        arguments: &Arguments,
        machine: &Machine,
        Counts { active, backward }: Counts,
        times: [Times; 2],
        break_even: Option<f64>,
    ) -> Result<(), Failure> {
        let all = self.rows * self.cols;
        let entries = [[active, active, backward, 2 * active + backward], [all, all, all, 3 * all]];
        let gflops = |side: usize, product: usize| {
            2e-6 * entries[side][product] as f64 * f64::from(arguments.positions) / times[side][product][1]
        };
        let share = |side, product| gflops(side, product) / machine.fma_peak_gflops;
        if arguments.json {
            let mut report = json!({
                "rows": self.rows, "cols": self.cols, "positions": arguments.positions,
                "weight_gradient": arguments.weight_gradient,
                "active": active, "backward": backward, "break_even_sparsity": break_even,
            });
            machine.add_to(&mut report);
            for (side, prefix) in ["", "dense_"].into_iter().enumerate() {
                for (product, name) in PRODUCTS.into_iter().enumerate() {
                    let [low, median, high] = times[side][product];
                    report[format!("{prefix}{name}_ms")] = json!(median);
                    report[format!("{prefix}{name}_ms_spread")] = json!([low, high]);
                    report[format!("gflops_{prefix}{name}")] = json!(gflops(side, product));
                    report[format!("fma_share_{prefix}{name}")] = json!(share(side, product));
                }
            }
            return print_line(report);
        }
        print_line(format!(
            "{}x{}, {} positions, |A| {active}, |B| {backward}",
            self.rows, self.cols, arguments.positions
        ))?;
        print_line(machine)?;
        print_line(format!(
            "{:<16} {:>10} {:>15} {:>9} {:>8} {:>10} {:>15} {:>8} {:>8}",
            "", "sparse ms", "quartiles", "GFLOP/s", "of peak", "dense ms", "quartiles", "of peak", "faster"
        ))?;
        for (product, name) in PRODUCTS.into_iter().enumerate() {
            let [ours, dense] = times.map(|side| side[product]);
            let spread = |[low, _, high]: [f64; 3]| format!("{low:.3}-{high:.3}");
            print_line(format!(
                "{:<16} {:>10.3} {:>15} {:>9.1} {:>7.0}% {:>10.3} {:>15} {:>7.0}% {:>7.1}x",
                name.replace('_', " "),
                ours[1],
                spread(ours),
                gflops(0, product),
                share(0, product) * 100.0,
                dense[1],
                spread(dense),
                share(1, product) * 100.0,
                dense[1] / ours[1]
            ))?;
        }
        if times[0][3][1] > times[1][3][1] {
            print_line(
                "sparse is slower than dense here: choose a higher --forward and --backward sparsity",
            )?;
        }
        let line =
            |at| print_line(format!("sparse is as fast as dense at {:.0}% forward sparsity", at * 100.0));
        break_even.map_or(Ok(()), line)
    }
}

/// As many of `rows` rows, evenly spread, as make [`CHECKED`] products of the `products` that all of them are; at least one.
fn sample(rows: usize, products: usize) -> impl Iterator<Item = usize> {
    (0..rows).step_by(products.div_ceil(CHECKED).max(1))
}

/// The structure of a matrix of which one row is full and the others are empty.
fn full_row(rows: usize, width: usize, full: usize) -> Csr {
    let offsets = (0..=rows).map(|row| if row > full { width as u32 } else { 0 }).collect();
    Csr::new(width, offsets, (0..width as u32).collect()).expect("a valid structure")
}

/// Compares rows of `y` with those of `W·x`.
fn agree_by_row(what: &str, csr: &Csr, values: &[f32], x: &Matrix, y: &Matrix) -> Result<(), Failure> {
    let rows = || sample(csr.rows(), csr.entries() * x.positions());
    let got: Vec<f32> = rows().flat_map(|row| y.row(row)).copied().collect();
    let want: Vec<f32> = rows().flat_map(|row| naive::spmm_row(csr, values, x, row)).collect();
    agree(what, &got, &want, ROUNDING)
}
