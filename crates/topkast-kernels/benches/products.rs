//! The sparse products against the dense ones: `cargo bench -p topkast-kernels`, on one thread, or with `-- N` on N.
//!
//! The products take turns, round after round, so that a machine shared with others slows all alike. In its turn each is
//! called twice, and the second call counts, so that it finds in the caches what its first call left there and no other
//! product's matrices. Shown are the median and the fastest round, and the rate of the fastest, counting two operations for
//! each multiply-add that the non-zeros need, also as a share of the peak that is measured before each shape.

#![allow(clippy::print_stdout)]

mod operands;

use operands::Random;
use std::time::Instant;
use topkast_kernels::*;

const ROUNDS: usize = 41;

fn main() {
    let threads = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of threads");
    let isa = Isa::current().expect("TOPKAST_ISA names an instruction set of this machine");
    println!(
        "{isa:?}, {threads} thread(s), {ROUNDS} rounds: median ms, fastest ms, GF/s at the fastest, % of the peak\n"
    );
    for (rows, width, positions, forward, backward) in [
        (1024, 1024, 128, 0.1, 0.2),
        (1024, 1024, 128, 0.02, 0.05),
        (2048, 512, 1024, 0.1, 0.2),
        (2048, 512, 1024, 0.02, 0.05),
        (4096, 1024, 256, 0.1, 0.2),
    ] {
        println!("{rows}×{width}, {positions} positions, {forward} forward, {backward} backward");
        pool.install(|| compare(isa, [rows, width, positions], forward, backward));
    }
}

fn compare(isa: Isa, [rows, width, positions]: [usize; 3], forward: f32, backward: f32) {
    let mut random = Random::new();
    let [a, explore, b] = random.structures([rows, width], forward, backward);
    let transposed = a.transposed();
    let mut numbers = |count: usize| random.numbers(count);
    let values = numbers(a.entries());
    let bias = numbers(rows);
    let w = numbers(rows * width);
    let x = Matrix::from_rows(width, positions, &numbers(width * positions));
    let dy = Matrix::from_rows(rows, positions, &numbers(rows * positions));
    let (mut y, mut dx, mut gathered) = (Matrix::default(), Matrix::default(), Buffer::default());
    let (mut gradient_a, mut gradient_b) = (vec![0.0; a.entries()], vec![0.0; b.entries()]);
    let mut gradient_explore = vec![0.0; explore.entries()];
    let mut dw = vec![0.0; w.len()];

    let peak = fma_peak_gflops(isa);
    spmm(isa, &a, &values, &x, Epilogue::None, &mut y);
    check(y.row(rows / 2), naive::spmm(&a, &values, &x).row(rows / 2));
    let names = [
        "spmm",
        "spmm transposed",
        "sddmm over A",
        "sddmm over B",
        "sddmm over A, B∖A",
        "dense forward",
        "dense input gradient",
        "dense weight gradient",
        "sddmm over A, bf16",
        "sddmm over B, bf16",
    ];
    let dense = rows * width;
    let entries = [
        a.entries(),
        a.entries(),
        a.entries(),
        b.entries(),
        b.entries(),
        dense,
        dense,
        dense,
        a.entries(),
        b.entries(),
    ];
    let mut times: [Vec<f64>; 10] = Default::default();
    for _ in 0..ROUNDS {
        let mut time = |product: usize, compute: &mut dyn FnMut()| {
            compute();
            let start = Instant::now();
            compute();
            times[product].push(1e3 * start.elapsed().as_secs_f64());
        };
        time(0, &mut || spmm(isa, &a, &values, &x, Epilogue::BiasRelu(&bias), &mut y));
        time(1, &mut || {
            spmm_transposed(isa, &transposed, &values, &dy, Epilogue::None, &mut gathered, &mut dx)
        });
        time(2, &mut || sddmm(isa, &a, &dy, &x, &mut gradient_a));
        time(3, &mut || sddmm(isa, &b, &dy, &x, &mut gradient_b));
        time(4, &mut || sddmm_pair(isa, [&a, &explore], &dy, &x, [&mut gradient_a, &mut gradient_explore]));
        time(5, &mut || dense_forward(isa, rows, &w, &x, &mut y));
        time(6, &mut || dense_input_gradient(isa, width, &w, &dy, &mut dx));
        time(7, &mut || dense_weight_gradient(isa, &dy, &x, &mut dw));
        if let Some(bf16) = isa.bf16() {
            time(8, &mut || sddmm_bf16(bf16, &a, &dy, &x, &mut gradient_a));
            time(9, &mut || sddmm_bf16(bf16, &b, &dy, &x, &mut gradient_b));
        }
    }
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    for ((name, entries), times) in
        names.iter().zip(entries).zip(&times).filter(|(_, times)| !times.is_empty())
    {
        let rate = 2e-6 * (entries * positions) as f64 / times[0];
        let share = 100.0 * rate / peak;
        println!("  {name:22} {:8.3} {:8.3} {rate:6.1} {share:4.0}%", times[ROUNDS / 2], times[0]);
    }
    let sum = |products: &[usize], at: usize| products.iter().map(|&p| times[p][at]).sum::<f64>();
    let ratio = |products: &[usize], at: usize| sum(&[5, 6, 7], at) / sum(products, at);
    for (name, products) in [("A", [0, 1, 2]), ("A and B∖A", [0, 1, 4])] {
        let (median, fastest) = (ratio(&products, ROUNDS / 2), ratio(&products, 0));
        println!("  dense ÷ sparse, weight gradient over {name}: {median:.2} median, {fastest:.2} fastest");
    }
    println!();
}

fn check(got: &[f32], want: &[f32]) {
    assert!(
        got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-3),
        "a wrong result is not worth timing"
    );
}
