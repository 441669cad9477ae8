//! What a Transformer does between its products, against memory bandwidth: `cargo bench -p topkast-kernels --bench elementwise`, on
//! one thread, or with `-- N` on N.
//!
//! The kernels take turns, round after round, so that a machine shared with others slows all alike. In its turn each is called twice,
//! and the second call counts, so that operands that fit the caches are found there. Shown are the median and the fastest round, and
//! the bytes that a kernel has to read and write, once each, by the second of the fastest.

#![allow(clippy::print_stdout)]

use std::time::Instant;
use topkast_kernels::*;

const ROUNDS: usize = 101;
const VOCABULARY: usize = 20_000;

fn main() {
    let threads = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of threads");
    let isa = Isa::current().expect("TOPKAST_ISA names an instruction set of this machine");
    pool.install(|| {
        let (memory, l2) = (memory_bandwidth_gbs(isa), l2_bandwidth_gbs(isa));
        println!(
            "{isa:?}, {threads} thread(s), {ROUNDS} rounds: median ms, fastest ms, GB/s at the fastest\n\
             memory moves {memory:.1} GB/s, L2 {l2:.1} GB/s\n"
        );
        for [features, positions] in [[512, 1024], [1024, 2048]] {
            println!("{features} features, {positions} positions");
            time(isa, features, positions);
        }
    });
}

fn time(isa: Isa, features: usize, positions: usize) {
    let numbers =
        |count: usize| (0..count).map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5).collect::<Vec<_>>();
    let matrix = |numbers: Vec<f32>| Matrix::from_rows(features, positions, &numbers);
    let (x, branch) = (matrix(numbers(features * positions)), matrix(numbers(features * positions)));
    let (gain, bias) = (numbers(features), numbers(features));
    let table = numbers(VOCABULARY * features);
    let tokens: Vec<u32> = (0..positions).map(|p| (p * 7919 % VOCABULARY) as u32).collect();
    let mut gradient = vec![0.0; table.len()];
    let (mut normalized, mut scale, mut y) = (Matrix::default(), Vec::new(), Matrix::default());
    let (mut dx, mut d_branch) = (Matrix::default(), Matrix::default());
    let (mut d_gain, mut d_bias) = (vec![0.0; features], vec![0.0; features]);
    let (mut dropped, mut embedded) = (x.clone(), Matrix::default());

    let names = [
        ("layer_norm", 4),
        ("layer_norm with dropout", 4),
        ("layer_norm_gradient", 4),
        ("  with dropout", 4),
        ("dropout", 2),
        ("relu", 2),
        ("gelu", 2),
        ("gelu_gradient", 3),
        ("embed", 2),
        ("embed_gradient", 3),
    ];
    let mut times: [Vec<f64>; 10] = Default::default();
    for _ in 0..ROUNDS {
        let mut time = |kernel: usize, compute: &mut dyn FnMut()| {
            compute();
            let start = Instant::now();
            compute();
            times[kernel].push(1e3 * start.elapsed().as_secs_f64());
        };
        for (number, dropout) in [None, Some((7, 0.1))].into_iter().enumerate() {
            let scale = &mut scale;
            time(number, &mut || {
                layer_norm(isa, &x, &branch, dropout, &gain, &bias, &mut normalized, scale, &mut y);
            });
            let (dx, d_branch) = (&mut dx, &mut d_branch);
            let (d_gain, d_bias) = (&mut d_gain, &mut d_bias);
            time(2 + number, &mut || {
                layer_norm_gradient(
                    isa,
                    &x,
                    &normalized,
                    scale,
                    &gain,
                    dropout,
                    dx,
                    d_branch,
                    d_gain,
                    d_bias,
                );
            });
        }
        time(4, &mut || dropout(isa, 7, 0.1, &mut dropped));
        time(5, &mut || relu(isa, &mut dropped));
        time(6, &mut || gelu(isa, &x, &mut y));
        time(7, &mut || gelu_gradient(isa, &x, &mut dropped));
        time(8, &mut || embed(isa, &table, features, &tokens, 1.0, &mut embedded));
        time(9, &mut || embed_gradient(isa, features, &tokens, 1.0, &x, &mut gradient));
        // Whatever round it is, what is dropped out are ordinary numbers.
        dropped.clone_from(&x);
    }
    for ((name, matrices), times) in names.into_iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let bytes = (matrices * size_of::<f32>() * features * positions) as f64;
        let (median, fastest) = (times[ROUNDS / 2], times[0]);
        println!("  {name:24} {median:8.3} {fastest:8.3} {:6.1}", 1e-6 * bytes / fastest);
    }
    println!();
}
