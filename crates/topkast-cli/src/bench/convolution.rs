//! `topkast bench convolution`

use std::time::Instant;

use clap::Args;
use serde_json::json;
use topkast::{
    Counts, Explore, Init, ReservoirKind, Scale, Seed, SparseWeight, Sparsity, Topology, kaiming_normal,
};
use topkast_kernels::{
    Buffer, Convolution, Csr, Epilogue, GradientScratch, Isa, Maps, Matrix, Planes, Window, dense_forward,
    dense_input_gradient, dense_weight_gradient, naive, spmm_transposed,
};

use super::products::{PRODUCTS, Times, times};
use super::{Machine, agree, in_pool, timed};
use crate::failure::{Failure, print_line};

/// Time one convolution: forward, input gradient and weight gradient, sparse and dense
#[derive(Args)]
#[command(
    after_help = "Example: topkast bench convolution --outputs 64 --inputs 64 --kernel 3 --size 32 --images 32 --threads 1"
)]
pub(crate) struct Arguments {
    /// Output channels
    #[arg(long, default_value_t = 64, value_parser = channels())]
    outputs: u32,
    /// Input channels
    #[arg(long, default_value_t = 64, value_parser = channels())]
    inputs: u32,
    /// Height and width of the window; its padding leaves maps as large as they are
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=31))]
    kernel: u32,
    /// Input pixels from one output pixel to the next
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    stride: u32,
    /// Height and width of the maps
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    size: u32,
    /// Images a step
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1 << 16))]
    images: u32,
    /// Forward sparsity
    #[arg(long, default_value_t = 0.9)]
    forward: f64,
    /// Backward sparsity
    #[arg(long, default_value_t = 0.8)]
    backward: f64,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=4096))]
    threads: u32,
    /// Rounds, in each of which sparse and dense take a turn of two passes, the second counted
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn channels() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=1 << 14)
}

/// Roundings in sums of some thousand products, relative to the largest sum.
const ROUNDING: f32 = 2e-5;
/// Numbers of a matrix at most: 4 GiB.
const LARGEST: u64 = 1 << 30;
/// Sides of the maps on which products are compared with their twins, at most, and images.
const CHECKED: (usize, usize) = (9, 3);

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let widest = u64::from(arguments.outputs.max(arguments.inputs));
    let numbers = widest * u64::from(arguments.size + arguments.kernel).pow(2) * u64::from(arguments.images);
    let weight =
        u64::from(arguments.outputs) * u64::from(arguments.inputs) * u64::from(arguments.kernel).pow(2);
    if numbers > LARGEST || weight > LARGEST {
        let message = "the layer, or the dense one that it is compared with, would need more than 4 GiB; choose smaller sizes";
        return Err(Failure::BadInput(message.to_owned()));
    }
    in_pool(arguments.threads, |isa| {
        let size = (arguments.size as usize).min(CHECKED.0);
        let mut small = Layer::new(arguments, isa, size, (arguments.images as usize).min(CHECKED.1))?;
        small.check()?;
        let machine = Machine::measure(isa);
        let mut layer = Layer::new(arguments, isa, arguments.size as usize, arguments.images as usize)?;
        let (mut sparse, mut dense) = (Vec::new(), Vec::new());
        let start = Instant::now();
        for _ in 0..arguments.rounds {
            // In a turn's first pass the caches still hold what the other side left there; in training they do not.
            layer.sparse_round();
            sparse.push(layer.sparse_round());
            layer.dense_round();
            dense.push(layer.dense_round());
            if start.elapsed().as_secs() > 120 {
                break;
            }
        }
        layer.report(arguments, &machine, [times(&sparse), times(&dense)])
    })
}

/// A convolution's inputs, output gradients, weights, and room for every result.
struct Layer {
    isa: Isa,
    convolution: Convolution,
    weight: SparseWeight,
    w: Buffer,
    dw: Buffer,
    x: Matrix,
    dy: Matrix,
    y: Matrix,
    dx: Matrix,
    planes: Planes,
    packed: Buffer,
    scratch: GradientScratch,
}

impl Layer {
    fn new(arguments: &Arguments, isa: Isa, size: usize, images: usize) -> Result<Self, Failure> {
        let bad_input = |message: String| Failure::BadInput(message);
        let [outputs, inputs] = [arguments.outputs, arguments.inputs].map(|count| count as usize);
        let window =
            Window { stride: [arguments.stride as usize; 2], ..Window::square(arguments.kernel as usize) };
        let maps = Maps { height: size, width: size, images };
        let convolution = Convolution::new(window, [outputs, inputs], maps)
            .ok_or_else(|| bad_input("--kernel is larger than the maps with its padding".to_owned()))?;
        let columns = inputs * window.taps();
        let sparsity = Sparsity::new(arguments.forward, arguments.backward)
            .map_err(|error| bad_input(error.to_string()))?;
        let counts: Counts =
            sparsity.counts((outputs * columns) as u64).map_err(|error| bad_input(error.to_string()))?;
        let (topology, init) = (Topology::TopKast(Explore::Magnitude), Init::kaiming_normal(Scale::Active));
        let implicit = ReservoirKind::Implicit;
        let weight = SparseWeight::new(outputs, columns, counts, topology, &init, implicit, Seed::new(1))
            .map_err(|error| bad_input(error.to_string()))?;
        let random = |features: usize, positions: usize, name: &str| {
            let numbers = kaiming_normal(Seed::new(1).named(name), features * positions, 2.0);
            Matrix::from_rows(features, positions, &numbers.collect::<Vec<f32>>())
        };
        let w: Vec<f32> = kaiming_normal(Seed::new(1), outputs * columns, columns as f64).collect();
        Ok(Self {
            isa,
            weight,
            dw: Buffer::zeros(w.len()),
            w: Buffer::from(&w[..]),
            x: random(inputs, maps.positions(), "x"),
            dy: random(outputs, convolution.output().positions(), "dy"),
            convolution,
            y: Matrix::default(),
            dx: Matrix::default(),
            planes: Planes::default(),
            packed: Buffer::default(),
            scratch: GradientScratch::default(),
        })
    }

    /// The three sparse products, as layers of a network have them: planes are filled for the forward pass and again for the weight
    /// gradient.
    fn sparse_round(&mut self) -> [f64; 3] {
        let Self { isa, convolution, weight, x, dy, y, dx, planes, packed, scratch, .. } = self;
        let (isa, pattern) = (*isa, weight.pattern().clone());
        let forward = timed(|| {
            let (structure, values) = (pattern.active(), weight.active_values());
            convolution.forward(isa, structure, values, x, planes, Epilogue::None, y);
        });
        let input = timed(|| {
            let (values, none) = (weight.active_values(), Epilogue::None);
            if convolution.window().is_pixel() {
                spmm_transposed(isa, pattern.transposed(), values, dy, none, packed, dx);
            } else {
                convolution.input_gradient(isa, pattern.turned(convolution), values, dy, none, scratch, dx);
            }
        });
        let (active, explore) = weight.parameter_mut().gradient.split_at_mut(pattern.active().entries());
        let weights = timed(|| {
            convolution.lay_out(x, planes);
            let structures = [pattern.active(), pattern.explore()];
            convolution.weight_gradient_pair(isa, structures, dy, x, planes, [active, explore]);
        });
        [forward, input, weights]
    }

    fn dense_round(&mut self) -> [f64; 3] {
        let Self { isa, convolution, w, dw, x, dy, y, dx, planes, packed, scratch, .. } = self;
        let (isa, [outputs, inputs]) = (*isa, convolution.channels());
        if convolution.window().is_pixel() {
            return [
                timed(|| dense_forward(isa, outputs, w, x, y)),
                timed(|| dense_input_gradient(isa, inputs, w, dy, dx)),
                timed(|| dense_weight_gradient(isa, dy, x, dw)),
            ];
        }
        [
            timed(|| convolution.dense_forward(isa, w, x, planes, packed, y)),
            timed(|| convolution.dense_input_gradient(isa, w, dy, scratch, dx)),
            timed(|| {
                convolution.lay_out(x, planes);
                convolution.dense_weight_gradient(isa, dy, x, planes, dw);
            }),
        ]
    }

    /// Compares the products, sparse and dense, with the naive twins.
    fn check(&mut self) -> Result<(), Failure> {
        self.sparse_round();
        let pattern = self.weight.pattern().clone();
        let (active, explore) = self.weight.parameter().gradient.split_at(pattern.active().entries());
        self.check_activations("", pattern.active(), self.weight.active_values())?;
        self.check_gradient("", pattern.active(), active)?;
        self.check_gradient("", pattern.explore(), explore)?;
        self.dense_round();
        let (rows, columns) = (pattern.rows(), pattern.width());
        let offsets = (0..=rows).map(|row| (row * columns) as u32).collect();
        let full = Csr::new(columns, offsets, (0..rows).flat_map(|_| 0..columns as u32).collect());
        let full = full.expect("a valid structure");
        let in_order = |numbers: &[f32]| -> Vec<f32> {
            full.flat_indices().map(|index| numbers[index as usize]).collect()
        };
        self.check_activations("dense ", &full, &in_order(&self.w))?;
        self.check_gradient("dense ", &full, &in_order(&self.dw))
    }

    /// Compares the outputs and the input gradient of the last round with those of a structure and its values.
    fn check_activations(&self, what: &str, csr: &Csr, values: &[f32]) -> Result<(), Failure> {
        let (window, maps) = (self.convolution.window(), self.convolution.input());
        let inputs = self.x.features();
        let want = naive::convolution(csr, values, &self.x, window, maps).expect("it fits");
        agree(&format!("{what}forward"), self.y.padded(), want.padded(), ROUNDING)?;
        let want = naive::convolution_input_gradient(csr, values, &self.dy, inputs, window, maps);
        let want = want.expect("it fits");
        agree(&format!("{what}input gradient"), self.dx.padded(), want.padded(), ROUNDING)
    }

    /// Compares the weight gradient of the last round.
    fn check_gradient(&self, what: &str, csr: &Csr, got: &[f32]) -> Result<(), Failure> {
        let (window, maps) = (self.convolution.window(), self.convolution.input());
        let want = naive::convolution_weight_gradient(csr, &self.dy, &self.x, window, maps);
        agree(&format!("{what}weight gradient"), got, &want.expect("it fits"), ROUNDING)
    }

    fn report(&self, arguments: &Arguments, machine: &Machine, times: [Times; 2]) -> Result<(), Failure> {
        let Counts { active, backward } = self.weight.counts();
        let all = self.w.len();
        let entries = [[active, active, backward, 2 * active + backward], [all, all, all, 3 * all]];
        let positions = self.convolution.output().positions() as f64;
        let gflops = |side: usize, product: usize| {
            2e-6 * entries[side][product] as f64 * positions / times[side][product][1]
        };
        if arguments.json {
            let mut report = json!({
                "outputs": arguments.outputs, "inputs": arguments.inputs, "kernel": arguments.kernel, "stride": arguments.stride,
                "size": arguments.size, "images": arguments.images, "active": active, "backward": backward,
            });
            machine.add_to(&mut report);
            for (side, prefix) in ["", "dense_"].into_iter().enumerate() {
                for (product, name) in PRODUCTS.into_iter().enumerate() {
                    let [low, median, high] = times[side][product];
                    report[format!("{prefix}{name}_ms")] = json!(median);
                    report[format!("{prefix}{name}_ms_spread")] = json!([low, high]);
                    report[format!("gflops_{prefix}{name}")] = json!(gflops(side, product));
                }
            }
            return print_line(report);
        }
        let Arguments { outputs, inputs, kernel, stride, size, images, .. } = arguments;
        print_line(format!(
            "{inputs} to {outputs} channels, {kernel}x{kernel}, stride {stride}, {images} images of {size}x{size}, |A| {active}, |B| {backward}"
        ))?;
        print_line(machine)?;
        print_line(format!(
            "{:<16} {:>10} {:>15} {:>9} {:>10} {:>15} {:>9} {:>8}",
            "", "sparse ms", "quartiles", "GFLOP/s", "dense ms", "quartiles", "GFLOP/s", "faster"
        ))?;
        for (product, name) in PRODUCTS.into_iter().enumerate() {
            let [ours, dense] = times.map(|side| side[product]);
            let spread = |[low, _, high]: [f64; 3]| format!("{low:.3}-{high:.3}");
            print_line(format!(
                "{:<16} {:>10.3} {:>15} {:>9.1} {:>10.3} {:>15} {:>9.1} {:>7.1}x",
                name.replace('_', " "),
                ours[1],
                spread(ours),
                gflops(0, product),
                dense[1],
                spread(dense),
                gflops(1, product),
                dense[1] / ours[1]
            ))?;
        }
        Ok(())
    }
}
