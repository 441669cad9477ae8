//! Attention and its gradient: `cargo bench -p topkast-kernels --bench attention`, on one thread, or with `-- N` on N.
//!
//! Eight streams of 128 queries, eight heads of 64: causal with distances, without memory and with as much again, and plain. Shown are the median
//! and the fastest round, and the share of the peak, measured before, of the multiply-adds that the pairs of a query and a key it sees need: with
//! distances 3 for each feature forward and 8 backward, of which 2 are the scores again, without 2 and 5.

#![allow(clippy::print_stdout)]

use std::time::Instant;
use topkast_kernels::*;

const ROUNDS: usize = 101;
const HEADS: usize = 8;
const FEATURES: usize = 64;
const STREAMS: usize = 8;
const QUERIES: usize = 128;

fn main() {
    let threads = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of threads");
    let isa = Isa::current().expect("TOPKAST_ISA names an instruction set of this machine");
    println!(
        "{isa:?}, {threads} thread(s), {ROUNDS} rounds: median ms, fastest ms, % of the peak at the fastest"
    );
    for (memory, causal, relative) in
        [(0, true, true), (128, true, true), (0, true, false), (0, false, false)]
    {
        pool.install(|| time(isa, memory, causal, relative));
    }
}

fn time(isa: Isa, memory: usize, causal: bool, relative: bool) {
    let span = usize::MAX;
    let shape = AttentionShape {
        heads: HEADS,
        streams: STREAMS,
        queries: QUERIES,
        memory,
        span,
        causal,
        dropout: None,
    };
    let (width, keys) = (HEADS * FEATURES, STREAMS * (memory + QUERIES));
    let numbers = |count: usize, seed: f32| -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.618 + seed).fract() * 2.0 - 1.0).collect()
    };
    let matrix = |columns, seed| Matrix::from_rows(width, columns, &numbers(width * columns, seed));
    let [query, d_output] = [0.1, 0.2].map(|seed| matrix(STREAMS * QUERIES, seed));
    let [key, value] = [0.3, 0.4].map(|seed| matrix(keys, seed));
    let position = matrix(memory + QUERIES, 0.5);
    let [u, w] = [0.6, 0.7].map(|seed| numbers(width, seed));
    let distances = Relative { position: &position, content_bias: &u, position_bias: &w };
    let inputs = AttentionInputs {
        query: (&query).into(),
        key: (&key).into(),
        value: (&value).into(),
        relative: relative.then_some(distances),
    };
    let (mut state, mut scratch, mut output) = Default::default();
    let mut gradients = [&query, &key, &value, &position].map(Matrix::clone);
    let (mut d_u, mut d_w) = (vec![0.0; width], vec![0.0; width]);

    let peak = fma_peak_gflops(isa);
    let mut times: [Vec<f64>; 2] = Default::default();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        attention(isa, shape, inputs, &mut state, &mut scratch, &mut output);
        times[0].push(1e3 * start.elapsed().as_secs_f64());
        let [query, key, value, position] = gradients.each_mut().map(Matrix::rows_mut);
        let distances = RelativeGradients { position, content_bias: &mut d_u, position_bias: &mut d_w };
        let gradients = AttentionGradients { query, key, value, relative: relative.then_some(distances) };
        let start = Instant::now();
        attention_gradient(isa, shape, inputs, &state, &mut scratch, &output, &d_output, gradients);
        times[1].push(1e3 * start.elapsed().as_secs_f64());
    }
    check(&output, naive::attention(shape, &inputs.into()));

    let seen = |query: usize| memory + if causal { query } else { QUERIES };
    let pairs: usize = (1..=QUERIES).map(seen).sum();
    let multiply_adds = (pairs * HEADS * STREAMS * FEATURES) as f64;
    println!(
        "memory {memory}{}{}",
        if causal { ", causal" } else { "" },
        if relative { ", distances" } else { "" }
    );
    let products = if relative { [3.0, 8.0] } else { [2.0, 5.0] };
    for ((name, products), times) in ["forward", "backward"].iter().zip(products).zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let share = 100.0 * 2e-6 * products * multiply_adds / times[0] / peak;
        println!("  {name:8} {:8.3} {:8.3} {share:4.0}%", times[ROUNDS / 2], times[0]);
    }
}

fn check(output: &Matrix, want: Vec<f64>) {
    let near = naive::numbers(output).iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-4);
    assert!(near, "a wrong result is not worth timing");
}
