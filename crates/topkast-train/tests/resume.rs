//! A run resumed from any step is the uninterrupted run, bit for bit.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Workplace, advance, assert_same, finish, restored, tensors};
use topkast_train::{
    Event, LayerProducts, Outcome, Products, RunDir, layer_summaries, load_trained, read_metrics, run,
};

const STEPS: u64 = 12;

/// Saves after every step of one run, and compares what becomes of each of these checkpoints with that run's end.
fn resumes_at_every_step(overrides: &[&str]) {
    let place = Workplace::new();
    let after = |step: u64| place.join(&format!("after-{step}"));
    let mut trainer = place.trainer(overrides);
    trainer.save(&after(0), 0.0).unwrap();
    let mut losses = Vec::new();
    for step in 1..=STEPS {
        losses.push(trainer.step().unwrap().loss.to_bits());
        trainer.save(&after(step), 0.0).unwrap();
    }
    assert_eq!(trainer.total_steps(), STEPS);
    let want = tensors(&after(STEPS));
    for step in 0..=STEPS {
        let mut resumed = restored(place.config(overrides), &after(step));
        assert_eq!(resumed.steps_done(), step);
        assert_eq!(finish(&mut resumed), losses[step as usize..], "losses after step {step}");
        let end = place.join("end");
        resumed.save(&end, 0.0).unwrap();
        assert_same(&tensors(&end), &want, &format!("resumed after step {step}"));
    }
}

#[test]
fn sgd() {
    resumes_at_every_step(&[]);
}

#[test]
fn sgd_without_momentum() {
    resumes_at_every_step(&["optimizer.momentum=0"]);
}

#[test]
fn adamw() {
    resumes_at_every_step(&["optimizer.kind=adamw", "optimizer.lr=0.01", "optimizer.clip_norm=0.5"]);
}

#[test]
fn snip() {
    resumes_at_every_step(&["sparsity.method=snip"]);
    resumes_at_every_step(&["sparsity.method=snip", "sparsity.distribution=global", "optimizer.kind=adamw"]);
}

/// Both layers change from dense to sparse products in the second update of A or before.
#[test]
fn pruning() {
    resumes_at_every_step(&["sparsity.method=pruning"]);
    let adamw = ["optimizer.kind=adamw", "optimizer.lr=0.01", "sparsity.refresh_every=2"];
    resumes_at_every_step(&[&["sparsity.method=pruning", "sparsity.distribution=erk"], &adamw[..]].concat());
}

#[test]
fn random_exploration() {
    resumes_at_every_step(&["sparsity.explore=random"]);
    resumes_at_every_step(&["sparsity.explore=random", "sparsity.reservoir=dense"]);
    resumes_at_every_step(&["sparsity.explore=mixed"]);
}

/// At this penalty entries leave B and return.
#[test]
fn other_reservoirs() {
    resumes_at_every_step(&["sparsity.reservoir=dense", "optimizer.penalty=0.1"]);
    resumes_at_every_step(&["sparsity.reservoir=implicit", "optimizer.penalty=0.1"]);
}

/// From a file of weights, biases too.
#[test]
fn given_weights() {
    let place = Workplace::new();
    let weights = place.weights(&[]);
    for exploration in ["optimizer.penalty=0.1", "sparsity.explore=random", "sparsity.distribution=global"] {
        resumes_at_every_step(&[&weights, "sparsity.reservoir=dense", exploration]);
        resumes_at_every_step(&[&weights, "sparsity.reservoir=mmap", exploration]);
    }
    resumes_at_every_step(&[&weights, "sparsity.method=static"]);
    resumes_at_every_step(&[&weights, "sparsity.method=dense"]);
}

/// A is updated after steps 3 and 6 and, where it is until the end, 9.
#[test]
fn methods_that_drop_and_grow() {
    let adamw = ["optimizer.kind=adamw", "optimizer.lr=0.01"];
    let often = ["sparsity.refresh_every=1", "sparsity.drop_fraction=0.9", "sparsity.update_until=1"];
    for method in ["sparsity.method=set", "sparsity.method=rigl"] {
        resumes_at_every_step(&[method]);
        resumes_at_every_step(
            &[&[method, "model.dropout=0.3", "sparsity.distribution=erk"], &adamw[..]].concat(),
        );
        resumes_at_every_step(
            &[&[method, "sparsity.keep_dense=[]", "model.activation=gelu"], &often[..]].concat(),
        );
    }
}

#[test]
fn exploration_that_ends_midway() {
    resumes_at_every_step(&["sparsity.explore_until=0.5", "optimizer.kind=adam", "optimizer.lr=0.01"]);
}

#[test]
fn dropout() {
    resumes_at_every_step(&["model.dropout=0.3"]);
}

#[test]
fn gelu_with_all_layers_sparse() {
    resumes_at_every_step(&["model.activation=gelu", "sparsity.keep_dense=[]"]);
}

/// The last layer is wide enough for several blocks of columns.
#[test]
fn a_wide_layer() {
    resumes_at_every_step(&["model.hidden=[700]", "optimizer.kind=adam", "sparsity.keep_dense=[]"]);
}

const GLOBAL: [&str; 2] = ["sparsity.distribution=global", "sparsity.keep_dense=[]"];

#[test]
fn one_selection_over_all_layers() {
    resumes_at_every_step(&[GLOBAL[0], GLOBAL[1], "sparsity.refresh_every=1"]);
    resumes_at_every_step(&[GLOBAL[0], "optimizer.kind=adamw", "optimizer.lr=0.01"]);
    resumes_at_every_step(&[GLOBAL[0], GLOBAL[1], "sparsity.explore=random", "optimizer.kind=adam"]);
    resumes_at_every_step(&[GLOBAL[0], GLOBAL[1], "sparsity.explore=none", "model.hidden=[700]"]);
    resumes_at_every_step(&[GLOBAL[0], GLOBAL[1], "sparsity.method=static"]);
}

/// So few entries in all that some layers have none, and layers empty and fill.
#[test]
fn layers_without_entries() {
    let place = Workplace::new();
    let drawn = ["sparsity.explore=random", "sparsity.forward=0.995", "sparsity.backward=0.993"];
    let shape = ["model.hidden=[8, 32, 8]", "sparsity.refresh_every=1", "optimizer.kind=adamw"];
    let few = [&GLOBAL[..], &drawn, &shape].concat();
    let mut trainer = place.trainer(&few);
    let (mut emptied, mut filled) = (0, 0);
    let mut before: Option<Vec<usize>> = None;
    for _ in 0..STEPS {
        advance(&mut trainer, 1);
        let counts: Vec<_> =
            trainer.network().sparse_weights().iter().map(|weight| weight.counts()).collect();
        let sum = |of: fn(&topkast::Counts) -> usize| counts.iter().map(of).sum::<usize>();
        assert_eq!((sum(|counts| counts.active), sum(|counts| counts.backward)), (5, 7));
        assert!(counts.iter().any(|counts| counts.active == 0), "{counts:?}");
        let backward: Vec<usize> = counts.iter().map(|counts| counts.backward).collect();
        for (&before, &after) in before.iter().flatten().zip(&backward) {
            emptied += usize::from(before > 0 && after == 0);
            filled += usize::from(before == 0 && after > 0);
        }
        before = Some(backward);
    }
    assert!(emptied > 0 && filled > 0, "{emptied} emptied, {filled} filled");
    resumes_at_every_step(&few);
    let config = trainer.config().clone();
    trainer.measure_products();
    let products = trainer.products().to_vec();
    assert_eq!(products.len(), 4);
    let layers = layer_summaries(trainer.network(), &config, &products);
    assert_eq!(layers.iter().map(|layer| layer.active).sum::<u64>(), 5);
}

#[test]
fn a_static_mask() {
    resumes_at_every_step(&["sparsity.method=static"]);
}

#[test]
fn a_dense_network() {
    resumes_at_every_step(&["sparsity.method=dense"]);
}

/// The other tests would mean little if nothing changed in a run that short.
#[test]
fn sets_and_moments_change_in_these_runs() {
    let place = Workplace::new();
    let mut trainer =
        place.trainer(&["optimizer.kind=adamw", "optimizer.lr=0.01", "sparsity.reservoir=dense"]);
    advance(&mut trainer, 1);
    trainer.save(&place.join("early"), 0.0).unwrap();
    finish(&mut trainer);
    trainer.save(&place.join("late"), 0.0).unwrap();
    let (early, late) = (tensors(&place.join("early")), tensors(&place.join("late")));
    let parts = ["values", "first", "second", "age", "active.columns", "explore.columns", "theta", "dormant"];
    for part in parts {
        let name = format!("hidden.0.weight.{part}");
        assert_ne!(early[&name], late[&name], "{name}");
    }
}

/// What a checkpoint says of the products holds, whatever would be measured now; scoring and resuming follow it.
#[test]
fn dense_products_stay_as_decided() {
    let place = Workplace::new();
    let overrides = ["sparsity.products=auto"];
    let mut trainer = place.trainer(&overrides);
    let decided = [("hidden.0", Products::Dense), ("hidden.1", Products::Sparse)].map(|(name, products)| {
        LayerProducts { name: name.to_owned(), sparse_ms: 2.5, dense_ms: 0.0625, products }
    });
    trainer.use_products(decided.to_vec());
    advance(&mut trainer, 5);
    trainer.save(&place.join("middle"), 0.0).unwrap();
    let losses = finish(&mut trainer);
    trainer.save(&place.join("want"), 0.0).unwrap();
    let mut resumed = restored(place.config(&overrides), &place.join("middle"));
    resumed.measure_products();
    assert_eq!(resumed.products(), decided);
    assert_eq!(finish(&mut resumed), losses);
    resumed.save(&place.join("got"), 0.0).unwrap();
    assert_same(&tensors(&place.join("got")), &tensors(&place.join("want")), "resumed");
    let mut loaded = load_trained(&place.join("want")).unwrap();
    assert_eq!(loaded.score(&place.join("")).unwrap().0, trainer.test().unwrap());
    let layers = layer_summaries(&mut loaded.network, &loaded.config, &loaded.state.products);
    let told = layers.iter().map(|layer| (layer.products, layer.sparse_ms, layer.dense_ms));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            (Products::Dense, Some(2.5), Some(0.0625)),
            (Products::Sparse, Some(2.5), Some(0.0625)),
            (Products::Dense, None, None),
        ]
    );
    let sparse = layer_summaries(place.trainer(&[]).network(), &loaded.config, &[]);
    assert_eq!(layers[0].training_bytes, sparse[0].training_bytes + 8 * layers[0].n);
    assert_eq!(layers[1].training_bytes, sparse[1].training_bytes);
}

/// Timing the products leaves no trace in what is trained.
#[test]
fn measuring_products_changes_nothing() {
    let place = Workplace::new();
    let [mut measured, mut other] = [place.trainer(&[]), place.trainer(&[])];
    measured.measure_products();
    let products = measured.products();
    assert_eq!(products.iter().map(|layer| &layer.name[..]).collect::<Vec<_>>(), ["hidden.0", "hidden.1"]);
    let sound = |layer: &LayerProducts| layer.sparse_ms > 0.0 && layer.dense_ms > 0.0;
    assert!(products.iter().all(|layer| sound(layer) && layer.products == Products::Sparse), "{products:?}");
    assert_eq!(finish(&mut measured), finish(&mut other));
    [&mut measured, &mut other].into_iter().zip(["got", "want"]).for_each(|(trainer, name)| {
        trainer.save(&place.join(name), 0.0).unwrap();
    });
    assert_same(&tensors(&place.join("got")), &tensors(&place.join("want")), "measured");
}

/// Runs in `dir` until the end, or until a step that is a multiple of `every` is made.
fn run_until(place: &Workplace, dir: &RunDir, every: u64) -> Outcome {
    let stop = AtomicBool::new(false);
    let mut watch = |event: Event| {
        if let Event::Step { report, .. } = event
            && report.step.is_multiple_of(every)
        {
            stop.store(true, Ordering::Relaxed);
        }
    };
    run(place.config(&["sparsity.explore=random"]), dir, &stop, &mut watch).unwrap()
}

/// The steps of the metrics records that have `name`.
fn logged(path: &Path, name: &str) -> Vec<u64> {
    let records = read_metrics(path).unwrap();
    records.iter().filter(|record| record.contains_key(name)).map(|r| r["step"].as_u64().unwrap()).collect()
}

#[test]
fn a_run_stopped_again_and_again_ends_as_one_that_never_was() {
    let place = Workplace::new();
    let whole = RunDir::create(&place.join("whole")).unwrap();
    assert!(matches!(run_until(&place, &whole, u64::MAX), Outcome::Finished(_)));
    for every in [1, 2, 3, 5, 7] {
        let dir = RunDir::create(&place.join(&format!("stopped-{every}"))).unwrap();
        let mut stops = Vec::new();
        while let Outcome::Interrupted(step) = run_until(&place, &dir, every) {
            stops.push(step);
        }
        assert_eq!(stops, (1..STEPS).filter(|step| step.is_multiple_of(every)).collect::<Vec<_>>());
        assert_same(&tensors(&dir.checkpoint()), &tensors(&whole.checkpoint()), &format!("every {every}"));
        assert_eq!(logged(&dir.metrics(), "loss"), (1..=STEPS).collect::<Vec<_>>());
        assert_eq!(logged(&dir.metrics(), "test_accuracy"), [5, 10]);
    }
}

/// As after a crash: the metrics are ahead of the checkpoint, and the last line is cut.
#[test]
fn steps_made_again_after_a_crash_are_logged_once() {
    let place = Workplace::new();
    let dir = RunDir::create(&place.join("crashed")).unwrap();
    assert!(matches!(run_until(&place, &dir, 4), Outcome::Interrupted(4)));
    let checkpoint = std::fs::read(dir.checkpoint()).unwrap();
    assert!(matches!(run_until(&place, &dir, 7), Outcome::Interrupted(7)));
    std::fs::write(dir.checkpoint(), checkpoint).unwrap();
    let metrics = std::fs::read_to_string(dir.metrics()).unwrap();
    std::fs::write(dir.metrics(), &metrics[..metrics.len() - 9]).unwrap();
    assert!(matches!(run_until(&place, &dir, u64::MAX), Outcome::Finished(_)));
    assert_eq!(logged(&dir.metrics(), "loss"), (1..=STEPS).collect::<Vec<_>>());
}

#[test]
fn a_refresh_shows_in_the_next_logged_step() {
    let place = Workplace::new();
    let dir = RunDir::create(&place.join("logged")).unwrap();
    let config = place.config(&["train.log_every=2", "sparsity.refresh_every=3"]);
    run(config, &dir, &AtomicBool::new(false), &mut |_| {}).unwrap();
    // Steps 4, 7 and 10 begin with a refresh.
    assert_eq!(logged(&dir.metrics(), "mask_change"), [4, 8, 10]);
}

#[test]
fn resuming_a_finished_run_leaves_its_summary_as_it_was() {
    let place = Workplace::new();
    let dir = RunDir::create(&place.join("finished")).unwrap();
    run_until(&place, &dir, u64::MAX);
    let summary = std::fs::read(dir.summary()).unwrap();
    assert!(matches!(run_until(&place, &dir, u64::MAX), Outcome::Finished(_)));
    assert_eq!(std::fs::read(dir.summary()).unwrap(), summary);
}
