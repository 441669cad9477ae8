//! Training against an oracle: Top-KAST in f64 on dense weights with masks, written plainly. Trainer and oracle start
//! from the same θ⁰ and see the same batches; after every step A, B, all of θ (also C), the biases and the loss must
//! agree.

mod data;
mod layer;
mod masked;
mod pass;
mod rule;
mod seen;

use topkast_nn::Linear;
use topkast_train::config::ProductsKind;
use topkast_train::{Config, LayerProducts, Products, Trainer};

use data::Batches;
use masked::Masked;
use seen::Seen;

/// How far f32 may be from f64, relative to 1 + |value|. Rounding adds up to at most 5e-6 in these runs. With other
/// settings it can be more: a ReLU's input may come so near 0 that rounding decides its sign.
const TOLERANCE: f64 = 2e-5;

/// The learning rate is constant, for where it goes to 0 two entries can stay at the border of a set, closer to each
/// other than rounding; larger initial weights (`active`) are further apart.
const BASE: [&str; 7] = [
    "data.kind=idx",
    "model.hidden=[24, 16]",
    "train.steps=200",
    "train.batch=32",
    "optimizer.schedule=constant",
    "sparsity.init_scale=active",
    // Which of others hold the same θ gives the same bits, as other tests show.
    "sparsity.reservoir=dense",
];

/// One selection over all layers; the first sets would depend on a scale that follows from them.
const GLOBAL: [&str; 3] =
    ["sparsity.distribution=global", "sparsity.init_scale=full", "sparsity.keep_dense=[]"];

/// λ is large for the run's length, so that B∖A is pulled below C and entries change places.
const SGD: [&str; 3] = ["optimizer.kind=sgd", "optimizer.lr=0.02", "optimizer.penalty=4e-3"];
const ADAM: [&str; 3] = ["optimizer.kind=adam", "optimizer.lr=2e-3", "optimizer.penalty=1e-3"];
const ADAMW: [&str; 3] = ["optimizer.kind=adamw", "optimizer.lr=2e-3", "optimizer.penalty=0.05"];

/// What came about in a run, for making sure that it tests something.
struct Course {
    first_loss: f64,
    last_loss: f64,
    /// How often an entry came into A.
    activated: u64,
}

/// Trains beside the oracle.
fn follow(settings: &[&str]) -> Course {
    let folder = tempfile::tempdir().unwrap();
    data::write(folder.path());
    let path = format!("data.path='{}'", folder.path().display());
    let settings = BASE.iter().chain(settings).map(|&setting| setting.to_owned()).chain([path]);
    let config = Config::load(None, &settings.collect::<Vec<_>>()).unwrap();
    let mut trainer = Trainer::new(config.clone()).unwrap();
    if config.sparsity.products == ProductsKind::Auto {
        let decided = all_dense(&mut trainer);
        trainer.use_products(decided);
    }
    let start = seen::layers(&mut trainer);
    let mut oracle = Masked::new(&config, &start);
    compare(&oracle, &start, "before training");
    let batches = Batches::of(&config);
    let mut losses = Vec::new();
    let mut activated = 0;
    for step in 0..config.train.steps {
        let report = trainer.step().unwrap();
        let seen = seen::layers(&mut trainer);
        let (samples, labels) = batches.at(step);
        let loss = oracle.step(step, &seen, &samples, &labels);
        let when = format!("step {step}");
        assert_close(report.loss, loss, &format!("{when}: loss"));
        compare(&oracle, &seen, &when);
        losses.push(loss);
        activated += report.refresh.map_or(0, |refresh| refresh.newly_active);
    }
    Course { first_loss: losses[0], last_loss: losses[losses.len() - 1], activated }
}

/// The decision to compute every sparse layer with dense products.
fn all_dense(trainer: &mut Trainer) -> Vec<LayerProducts> {
    let layer = |(name, linear): (&str, &mut Linear)| {
        let (name, sparse_ms, dense_ms) = (name.to_owned(), 2.0, 1.0);
        let products = Products::Dense;
        matches!(linear, Linear::Sparse(_)).then_some(LayerProducts { name, sparse_ms, dense_ms, products })
    };
    trainer.network().linears().filter_map(layer).collect()
}

fn compare(oracle: &Masked, seen: &[Seen], when: &str) {
    assert_eq!(oracle.layers.len(), seen.len());
    for (layer, seen) in oracle.layers.iter().zip(seen) {
        let place = format!("{when}: {}", seen.name);
        let entries = |wanted: &dyn Fn(usize) -> bool| {
            (0..layer.theta.len()).filter(|&entry| wanted(entry)).collect::<Vec<_>>()
        };
        assert_eq!(seen.active, entries(&|entry| layer.active[entry]), "{place}: A");
        let explore = entries(&|entry| layer.backward[entry] && !layer.active[entry]);
        assert_eq!(seen.explore, explore, "{place}: B\\A");
        for (entry, (&got, &want)) in seen.theta.iter().zip(&layer.theta).enumerate() {
            assert_close(got, want, &format!("{place}: entry {entry}"));
        }
        for (row, (&got, &want)) in seen.bias.iter().zip(&layer.bias).enumerate() {
            assert_close(got, want, &format!("{place}: bias {row}"));
        }
    }
}

fn assert_close(got: f64, want: f64, place: &str) {
    assert!((got - want).abs() <= TOLERANCE * (1.0 + want.abs()), "{place}: {got} against {want}");
}

/// A test for each name, with an optimizer's settings and those of its own.
macro_rules! cases {
    ($($name:ident: $optimizer:ident, $settings:expr;)*) => {
        $(#[test]
        fn $name() {
            let settings: Vec<&str> = $optimizer.iter().chain(&$settings).copied().collect();
            let course = follow(&settings);
            assert!(course.last_loss < 0.9 * course.first_loss, "nothing was learnt");
            let chooses = !settings.contains(&"sparsity.method=static");
            assert!(!chooses || course.activated > 10, "{} entries came into A", course.activated);
        })*
    };
}

cases! {
    sgd_90_80_every_step: SGD, ["sparsity.refresh_every=1"];
    sgd_90_80_every_7: SGD, ["sparsity.refresh_every=7"];
    sgd_50_25_every_step: SGD, ["sparsity.forward=0.5", "sparsity.backward=0.25", "sparsity.refresh_every=1"];
    sgd_50_25_every_7: SGD, ["sparsity.forward=0.5", "sparsity.backward=0.25", "sparsity.refresh_every=7"];
    sgd_95_0_every_step: SGD, ["sparsity.forward=0.95", "sparsity.backward=0.0", "sparsity.refresh_every=1"];
    sgd_95_0_every_7: SGD, ["sparsity.forward=0.95", "sparsity.backward=0.0", "sparsity.refresh_every=7"];
    adamw_90_80_every_step: ADAMW, ["sparsity.refresh_every=1"];
    adamw_90_80_every_7: ADAMW, ["sparsity.refresh_every=7"];
    adamw_50_25_every_step: ADAMW,
        ["sparsity.forward=0.5", "sparsity.backward=0.25", "sparsity.refresh_every=1"];
    adamw_50_25_every_7: ADAMW,
        ["sparsity.forward=0.5", "sparsity.backward=0.25", "sparsity.refresh_every=7"];
    adamw_95_0_every_step: ADAMW,
        ["sparsity.forward=0.95", "sparsity.backward=0.0", "sparsity.refresh_every=1", "optimizer.penalty=5e-3"];
    adamw_95_0_every_7: ADAMW,
        ["sparsity.forward=0.95", "sparsity.backward=0.0", "sparsity.refresh_every=7", "optimizer.penalty=5e-3"];
    adam: ADAM, ["sparsity.refresh_every=7"];
    nesterov: SGD, ["optimizer.nesterov=true", "sparsity.refresh_every=7"];
    no_momentum: SGD, ["optimizer.momentum=0.0", "optimizer.lr=0.1", "sparsity.refresh_every=7"];
    l1: SGD, ["optimizer.penalty_kind=l1", "optimizer.penalty=5e-4", "sparsity.refresh_every=7"];
    l1_decoupled: ADAMW,
        ["optimizer.penalty_kind=l1", "optimizer.penalty=0.01", "sparsity.refresh_every=7"];
    random_exploration: SGD, ["sparsity.explore=random", "sparsity.refresh_every=7"];
    mixed_exploration: SGD, ["sparsity.explore=mixed", "sparsity.refresh_every=7"];
    random_exploration_adamw: ADAMW, ["sparsity.explore=random", "sparsity.refresh_every=7"];
    no_exploration: SGD, ["sparsity.explore=none", "sparsity.refresh_every=7"];
    exploration_that_ends: SGD, ["sparsity.explore_until=0.5", "sparsity.refresh_every=7"];
    exploration_that_ends_adamw: ADAMW, ["sparsity.explore_until=0.5", "sparsity.refresh_every=1"];
    clipping: SGD, ["optimizer.clip_norm=0.3", "sparsity.refresh_every=7"];
    clipping_after_exploration: SGD,
        ["optimizer.clip_norm=0.3", "sparsity.explore_until=0.3", "sparsity.refresh_every=7"];
    gelu_and_label_smoothing: SGD,
        ["model.activation=gelu", "train.label_smoothing=0.1", "sparsity.refresh_every=7"];
    all_sparse: SGD, ["sparsity.keep_dense=[]", "sparsity.refresh_every=7"];
    cosine: SGD, ["optimizer.schedule=cosine", "optimizer.lr=0.05", "sparsity.refresh_every=7"];
    static_mask: SGD, ["sparsity.method=static"];
    static_mask_adamw: ADAMW, ["sparsity.method=static"];
    dense_products: SGD, ["sparsity.products=auto", "sparsity.keep_dense=[]", "sparsity.refresh_every=7"];
    dense_products_gelu: ADAMW,
        ["sparsity.products=auto", "model.activation=gelu", "sparsity.explore_until=0.5", "sparsity.refresh_every=1"];
    global_sgd_90_80_every_7: SGD, [GLOBAL[0], GLOBAL[1], GLOBAL[2], "sparsity.refresh_every=7"];
    global_sgd_every_step_last_layer_dense: SGD, [GLOBAL[0], GLOBAL[1], "sparsity.refresh_every=1"];
    global_adamw_50_25_every_7: ADAMW, [GLOBAL[0], GLOBAL[1], GLOBAL[2], "sparsity.forward=0.5",
        "sparsity.backward=0.25", "sparsity.refresh_every=7"];
    global_random_exploration: ADAMW,
        [GLOBAL[0], GLOBAL[1], GLOBAL[2], "sparsity.explore=random", "sparsity.refresh_every=7"];
    global_no_exploration: SGD,
        [GLOBAL[0], GLOBAL[1], GLOBAL[2], "sparsity.explore=none", "sparsity.refresh_every=7"];
    global_dense_products: SGD,
        [GLOBAL[0], GLOBAL[1], GLOBAL[2], "sparsity.products=auto", "sparsity.refresh_every=7"];
    global_static_mask: SGD, [GLOBAL[0], GLOBAL[2], "sparsity.method=static"];
    dense_products_static: SGD, ["sparsity.products=auto", "sparsity.method=static"];
}
