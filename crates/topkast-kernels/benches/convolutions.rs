//! Convolutions with sparse weights: `cargo bench -p topkast-kernels --bench convolutions`, on one thread, or with `-- N` on N.
//!
//! The passes take turns, round after round. Shown are the median and the fastest round, and the rate of the fastest, counting two
//! operations for each multiply-add that the non-zeros need, padding included, also as a share of the peak that is measured before each
//! shape.

#![allow(clippy::print_stdout)]

mod operands;

use operands::Random;
use std::time::Instant;
use topkast_kernels::*;

const ROUNDS: usize = 11;

/// Window, channels out and in, height and width, images.
const SHAPES: [(usize, [usize; 2], usize, usize); 5] = [
    (3, [64, 64], 32, 32),
    (1, [64, 256], 56, 16),
    (1, [256, 64], 56, 16),
    (3, [256, 256], 14, 32),
    (3, [512, 512], 7, 32),
];

fn main() {
    let threads = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of threads");
    let isa = Isa::current().expect("TOPKAST_ISA names an instruction set of this machine");
    println!(
        "{isa:?}, {threads} thread(s), {ROUNDS} rounds: median ms, fastest ms, GF/s at the fastest, % of the peak\n"
    );
    for (size, channels, side, images) in SHAPES {
        for (forward, backward) in [(0.1, 0.2), (0.05, 0.05), (0.02, 0.02)] {
            let [outputs, inputs] = channels;
            println!(
                "{size}×{size} {inputs}→{outputs}, {images}×{side}×{side}, {forward} forward, {backward} backward"
            );
            let maps = Maps { height: side, width: side, images };
            pool.install(|| time(isa, Window::square(size), channels, maps, [forward, backward]));
        }
    }
}

fn time(isa: Isa, window: Window, channels: [usize; 2], maps: Maps, [forward, backward]: [f32; 2]) {
    let mut random = Random::new();
    let [outputs, inputs] = channels;
    let convolution = Convolution::new(window, channels, maps).expect("a window that fits");
    let [a, explore, b] = random.structures([outputs, inputs * window.taps()], forward, backward);
    let turned = convolution.turned(&a);
    let values = random.numbers(a.entries());
    let positions = maps.positions();
    let x = Matrix::from_rows(inputs, positions, &random.numbers(inputs * positions));
    let dy = Matrix::from_rows(outputs, positions, &random.numbers(outputs * positions));
    let (mut planes, mut scratch) = (Planes::default(), GradientScratch::default());
    let (mut y, mut dx) = (Matrix::default(), Matrix::default());
    let (mut of_a, mut of_explore) = (vec![0.0; a.entries()], vec![0.0; explore.entries()]);

    let peak = fma_peak_gflops(isa);
    let mut times: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        let mut time = |pass: usize, compute: &mut dyn FnMut()| {
            let start = Instant::now();
            compute();
            times[pass].push(1e3 * start.elapsed().as_secs_f64());
        };
        time(0, &mut || convolution.forward(isa, &a, &values, &x, &mut planes, Epilogue::None, &mut y));
        time(1, &mut || {
            convolution.input_gradient(isa, &turned, &values, &dy, Epilogue::None, &mut scratch, &mut dx);
        });
        time(2, &mut || {
            let gradients = [&mut of_a[..], &mut of_explore[..]];
            convolution.weight_gradient_pair(isa, [&a, &explore], &dy, &x, &planes, gradients);
        });
    }
    let mut total = 0.0;
    for ((name, entries), times) in
        [("forward", a.entries()), ("input gradient", a.entries()), ("weight gradient", b.entries())]
            .into_iter()
            .zip(&mut times)
    {
        times.sort_by(f64::total_cmp);
        let rate = 2e-6 * (entries * positions) as f64 / times[0];
        let share = 100.0 * rate / peak;
        total += times[ROUNDS / 2];
        println!("  {name:22} {:8.3} {:8.3} {rate:6.1} {share:4.0}%", times[ROUNDS / 2], times[0]);
    }
    println!("  {:22} {total:8.3}\n", "all three");
}
