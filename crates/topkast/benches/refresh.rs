//! What a refresh costs: `cargo bench -p topkast --bench refresh`.
//!
//! Each round moves every value of B a little at random, as a step of training does, and refreshes; how far they move
//! decides how many entries change sets. One thread, SGD's momentum, and the transposed structure in use, as in all
//! layers but the first. Shown are the median and the fastest of the rounds, and which share of B changed sets or was
//! exchanged.

#![allow(clippy::print_stdout)]

use std::time::Instant;
use topkast::{
    Counts, Explore, Hyper, Init, Optimizer, PenaltyKind, ReservoirKind, Scale, Seed, SparseWeight, Topology,
};

const ROUNDS: usize = 101;

fn main() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool of one thread");
    println!("1024×1024, one thread, {ROUNDS} rounds: % of B changed, median ms, fastest ms\n");
    let kinds = [ReservoirKind::Implicit, ReservoirKind::Dense];
    for (explore, forward, backward) in [
        (Explore::Magnitude, 0.9, 0.8),
        (Explore::Magnitude, 0.98, 0.95),
        (Explore::None, 0.9, 0.9),
        (Explore::Random, 0.9, 0.8),
    ] {
        for kind in kinds {
            println!("{explore:?}, sparsity {forward} forward, {backward} backward, {kind:?} reservoir");
            for way in [0.0, 0.001, 0.02, 0.3] {
                pool.install(|| measure(explore, forward, backward, kind, way));
            }
        }
    }
}

fn measure(explore: Explore, forward: f64, backward: f64, kind: ReservoirKind, way: f32) {
    let (rows, width) = (1024, 1024);
    let of_all = |sparsity: f64| ((1.0 - sparsity) * (rows * width) as f64) as usize;
    let counts = Counts { active: of_all(forward), backward: of_all(backward) };
    let topology = Topology::TopKast(explore);
    let init = Init::kaiming_normal(Scale::Active);
    let mut weight = SparseWeight::new(rows, width, counts, topology, &init, kind, Seed::new(1))
        .expect("the counts fit the shape");
    let optimizer = Optimizer::new(Hyper::Sgd { momentum: 0.9, nesterov: false }, PenaltyKind::L2, 0.0);
    optimizer.prepare(weight.parameter_mut());
    weight.pattern().transposed();
    let typical = weight.active_values().iter().map(|value| value.abs()).sum::<f32>() / counts.active as f32;
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    let mut unit = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 40) as f32 / (1 << 24) as f32
    };
    let (mut times, mut changed) = (Vec::with_capacity(ROUNDS), 0);
    for round in 0..ROUNDS as u64 {
        let values = &mut weight.parameter_mut().values;
        values.iter_mut().for_each(|value| *value += way * typical * (unit() + unit() - 1.0));
        let start = Instant::now();
        let remap = weight.refresh(round).expect("not static");
        times.push(1e3 * start.elapsed().as_secs_f64());
        changed += remap.newly_active() + remap.entered();
    }
    times.sort_by(f64::total_cmp);
    let share = 100.0 * changed as f64 / (ROUNDS * counts.backward) as f64;
    println!("  {share:8.3} {:8.3} {:8.3}", times[ROUNDS / 2], times[0]);
}
