//! What a training step takes from the allocator: nothing, and a refresh little. The largest layer here has a dense
//! weight of 16 MB; nothing of that size may ever come into being in a step.
//!
//! There is one test, so that nothing else runs while it counts.

mod common;
#[path = "common/counting.rs"]
mod counting;

use common::Workplace;
use counting::{Allocated, allocated_by};
use topkast_train::Trainer;

/// Bytes of the largest layer's dense weight, 2000 × 2000.
const DENSE: usize = 2000 * 2000 * 4;

const REFRESH_EVERY: u64 = 2;

/// A is updated until the end.
const SET: [&str; 2] = ["sparsity.method=set", "sparsity.update_until=1"];
const SNIP: &str = "sparsity.method=snip";
const RIGL: [&str; 2] = ["sparsity.method=rigl", "sparsity.update_until=1"];

/// What each of the first 20 steps allocated, with nine refreshes among them and the end of four epochs.
fn steps(place: &Workplace, overrides: &[&str]) -> Vec<Allocated> {
    let refresh_every = format!("sparsity.refresh_every={REFRESH_EVERY}");
    let mut settings = vec!["model.hidden=[2000, 2000]", "train.steps=20", "optimizer.lr=0.01"];
    settings.extend(["sparsity.forward=0.99", "sparsity.backward=0.98", &refresh_every]);
    settings.extend(overrides);
    let (mut trainer, allocated) = allocated_by(|| place.trainer(&settings));
    assert!(allocated.largest < DENSE / 2, "{settings:?}, made: {allocated:?}");
    (0..20).map(|_| step(&mut trainer)).collect()
}

fn step(trainer: &mut Trainer) -> Allocated {
    let refreshes = trainer.steps_done() > 0 && trainer.steps_done().is_multiple_of(REFRESH_EVERY);
    let (report, allocated) = allocated_by(|| trainer.step().unwrap());
    assert_eq!(report.refresh.is_some(), refreshes && trainer.config().sparsity.refreshes());
    allocated
}

/// Steps without a refresh allocate nothing once every buffer has its size, which is so after the second step; refreshes
/// next to nothing, to grow their lists, unless they draw at random or sizes change; and no step anything near the dense
/// weight.
fn nothing_allocated(place: &Workplace, overrides: &[&str]) {
    let mut settings = vec!["sparsity.keep_dense=[]"];
    settings.extend(overrides);
    let anew = ["sparsity.explore=random", "sparsity.distribution=global", SET[0], RIGL[0]];
    let anew = anew.iter().any(|setting| settings.contains(setting)) && !settings.contains(&SNIP);
    let steps = steps(place, &settings);
    assert!(steps[0].count > 0, "the first step makes every buffer: {:?}", steps[0]);
    for (number, allocated) in steps.into_iter().enumerate() {
        let refreshes = (number as u64).is_multiple_of(REFRESH_EVERY);
        // Drawn at random, a tenth of all entries become dormant in these steps, and the table of these doubles its room.
        let most = match (number, anew) {
            // The lists of what grows, tiles of the dense gradient, and what gemm packs of them: as much as the L2 cache holds.
            _ if settings.contains(&RIGL[0]) => DENSE / 4,
            (_, true) => DENSE / 2,
            (..8, _) => DENSE / 8,
            _ => DENSE / 1024,
        };
        assert!(allocated.largest < most, "{settings:?}, step {number}: {allocated:?}");
        assert!(
            number < 2 || refreshes || allocated.count == 0,
            "{settings:?}, step {number}: {allocated:?}"
        );
    }
}

#[test]
fn steps_allocate_nothing_and_refreshes_little() {
    let place = Workplace::new();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    pool.install(|| {
        nothing_allocated(&place, &[]);
        nothing_allocated(&place, &["optimizer.kind=adamw", "sparsity.explore=random"]);
        nothing_allocated(&place, &["optimizer.clip_norm=1", "model.dropout=0.2"]);
        nothing_allocated(&place, &["model.activation=gelu", "sparsity.explore_until=0.5"]);
        nothing_allocated(&place, &["sparsity.method=static", "data.augment=crop-flip"]);
        nothing_allocated(&place, &SET);
        nothing_allocated(&place, &RIGL);
        // Its choice is made before the steps, from tiles of θ⁰ and of the gradient.
        nothing_allocated(&place, &[SNIP]);
        nothing_allocated(&place, &[SNIP, "sparsity.distribution=global"]);
        nothing_allocated(&place, &["sparsity.distribution=global", "optimizer.kind=adamw"]);
        let weights =
            place.weights(&["model.hidden=[2000, 2000]", "sparsity.forward=0.99", "sparsity.backward=0.98"]);
        nothing_allocated(&place, &[&weights, "sparsity.reservoir=mmap"]);
        nothing_allocated(&place, &[&weights, "sparsity.reservoir=mmap", "sparsity.explore=random"]);
        // The default: the output layer is dense, with few outputs.
        nothing_allocated(&place, &["sparsity.keep_dense=['last']"]);
    });
}
