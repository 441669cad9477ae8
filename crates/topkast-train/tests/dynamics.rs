//! What is recorded of A and C at the ends of epochs is what sets of indices say, and a resumed run records the same.

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Workplace, advance, restored};
use topkast_train::{Event, MaskDynamics, Outcome, RunDir, Trainer, read_metrics, run};

/// Each with changes of A, entries that leave B, or neither.
const SETTINGS: [&[&str]; 8] = [
    &["optimizer.penalty=0.1", "sparsity.refresh_every=1"],
    &["optimizer.penalty=0.1", "sparsity.refresh_every=2", "sparsity.reservoir=dense"],
    &["sparsity.explore=random", "sparsity.keep_dense=[]"],
    &["sparsity.distribution=global", "sparsity.keep_dense=[]", "optimizer.penalty=0.1"],
    &["sparsity.method=set", "sparsity.update_until=1"],
    &["sparsity.method=rigl", "sparsity.update_until=1", "sparsity.distribution=erk"],
    &["sparsity.method=static"],
    &["sparsity.method=dense"],
];

/// A and B of every sparse layer.
fn sets(trainer: &mut Trainer) -> Vec<[BTreeSet<u64>; 2]> {
    let weights = trainer.network().sparse_weights();
    let sets = weights.iter().map(|weight| {
        let pattern = weight.pattern();
        let active: BTreeSet<u64> = pattern.active().flat_indices().collect();
        let backward = active.iter().copied().chain(pattern.explore().flat_indices()).collect();
        [active, backward]
    });
    sets.collect()
}

/// Trains to the end of every epoch and beyond, and has sets of indices say what the trainer should.
fn check(overrides: &[&str]) -> Vec<MaskDynamics> {
    let place = Workplace::new();
    let mut trainer = place.trainer(overrides);
    let first = sets(&mut trainer);
    let n: u64 = trainer.network().sparse_weights().iter().map(|weight| weight.pattern().total()).sum();
    let (mut before, mut seen) = (first.clone(), first.clone());
    let mut all = Vec::new();
    for step in 1..=10 {
        advance(&mut trainer, 1);
        let now = sets(&mut trainer);
        for ([_, seen], [_, backward]) in seen.iter_mut().zip(&now) {
            seen.extend(backward);
        }
        // In the middle of an epoch, what is to come must be in the checkpoint.
        if step == 7 {
            let path = place.join("middle");
            trainer.save(&path, 0.0).unwrap();
            trainer = restored(place.config(overrides), &path);
        }
        if step % 5 != 0 {
            continue;
        }
        let got = trainer.end_epoch();
        let changes: Vec<f64> = before
            .iter()
            .zip(&now)
            .map(|([before, _], [now, _])| now.difference(before).count() as f64 / now.len().max(1) as f64)
            .collect();
        before = now;
        if changes.is_empty() {
            assert!(got.is_none());
            continue;
        }
        let count = |sets: &[[BTreeSet<u64>; 2]]| sets.iter().map(|[_, set]| set.len()).sum::<usize>() as f64;
        let used = (count(&seen) - count(&first)) / (n as f64 - count(&first));
        let reservoir = trainer.network().sparse_weights().iter().all(|weight| weight.reservoir().is_some());
        let want = MaskDynamics {
            change_min: changes.iter().copied().fold(1.0, f64::min),
            change_mean: changes.iter().sum::<f64>() / changes.len() as f64,
            change_max: changes.iter().copied().fold(0.0, f64::max),
            reservoir_used: reservoir.then_some(used),
        };
        assert_eq!(got, Some(want), "{overrides:?}, step {step}");
        all.extend(got);
    }
    all
}

#[test]
fn epochs_are_told_as_sets_of_indices_tell_them() {
    for settings in SETTINGS {
        let told = check(settings);
        let still = ["sparsity.method=static", "sparsity.method=dense"].contains(&settings[0]);
        assert_eq!(told.iter().all(|epoch| epoch.change_max == 0.0), still, "{settings:?}: {told:?}");
        if settings.contains(&"sparsity.explore=random") || settings.contains(&"optimizer.penalty=0.1") {
            assert!(told.iter().all(|epoch| epoch.reservoir_used > Some(0.0)), "{settings:?}: {told:?}");
        }
    }
}

/// The records at the ends of epochs, without scores' times.
fn records(dir: &RunDir) -> Vec<Vec<(String, Option<f64>)>> {
    let records = read_metrics(&dir.metrics()).unwrap();
    let ends = records.into_iter().filter(|record| record.contains_key("test_accuracy"));
    let kept = |record: serde_json::Map<String, serde_json::Value>| {
        let values = record.into_iter().filter(|(name, _)| name != "seconds");
        values.map(|(name, value)| (name, value.as_f64())).collect()
    };
    ends.map(kept).collect()
}

#[test]
fn a_run_stopped_in_the_middle_of_epochs_records_the_same() {
    for settings in SETTINGS {
        let place = Workplace::new();
        let train = |name: &str, stop_every: u64| {
            let path = place.join(name);
            let mut dir = RunDir::create(&path).unwrap();
            loop {
                let stop = AtomicBool::new(false);
                let mut watch = |event: Event| {
                    if let Event::Step { report, .. } = event
                        && report.step.is_multiple_of(stop_every)
                    {
                        stop.store(true, Ordering::Relaxed);
                    }
                };
                match run(place.config(settings), &dir, &stop, &mut watch).unwrap() {
                    Outcome::Finished(_) => return dir,
                    Outcome::Interrupted(_) => dir = RunDir::open(&path).unwrap(),
                }
            }
        };
        let (whole, stopped) = (train("whole", u64::MAX), train("stopped", 3));
        let want = records(&whole);
        assert_eq!(want.len(), 2);
        assert_eq!(records(&stopped), want, "{settings:?}");
        let told = want[0].iter().any(|(name, _)| name == "mask_change_mean");
        assert_eq!(told, settings[0] != "sparsity.method=dense");
    }
}

#[test]
fn a_run_tells_where_its_time_and_operations_went() {
    let place = Workplace::new();
    let dir = RunDir::create(&place.join("run")).unwrap();
    let config = place.config(&["sparsity.method=rigl"]);
    let Outcome::Finished(summary) = run(config, &dir, &AtomicBool::new(false), &mut |_| {}).unwrap() else {
        panic!("nobody asked it to stop");
    };
    let phases = summary.phase_seconds;
    for (name, seconds) in [
        ("load", phases.load),
        ("refresh", phases.refresh),
        ("forward", phases.forward),
        ("loss", phases.loss),
        ("input_gradient", phases.input_gradient),
        ("weight_gradient", phases.weight_gradient),
        ("update", phases.update),
        ("evaluation", phases.evaluation),
    ] {
        assert!(0.0 < seconds && seconds < summary.seconds, "{name}: {phases:?}");
    }
    let flops = summary.flops;
    assert_eq!(flops.total(), summary.train_flops_ratio);
    assert!(flops.refresh > 0.0 && flops.input_gradient < flops.forward, "{flops:?}");
}
