//! Where C is kept changes nothing: the same θ⁰ by rank, and from a file in memory or left there, gives the same network, bit for
//! bit.

mod common;

use common::{Workplace, assert_same, given, tensors, theta, write_weights};
use topkast_nn::Linear;
use topkast_train::Trainer;

const STEPS: u64 = 500;

/// Trains all three for 500 steps with a refresh every 20, and compares losses, sets and values.
fn same_bits(overrides: &[&str]) {
    let place = Workplace::new();
    let steps = format!("train.steps={STEPS}");
    let mut settings = vec!["model.hidden=[40, 30]", "sparsity.refresh_every=20", &steps];
    settings.extend(overrides);
    let mut implicit = place.trainer(&[&settings[..], &["sparsity.reservoir=implicit"]].concat());
    let file = place.join("initial");
    write_weights(&file, &given(&mut implicit));
    let weights = format!("model.weights={}", file.display());
    let with = |kind| place.trainer(&[&settings[..], &[&weights[..], kind]].concat());
    let [mut dense, mut mapped] = ["sparsity.reservoir=dense", "sparsity.reservoir=mmap"].map(with);
    let (mut refreshes, mut entered) = (0, 0);
    for step in 0..STEPS {
        let report = implicit.step().unwrap();
        for other in [&mut dense, &mut mapped] {
            assert_eq!(report.loss.to_bits(), other.step().unwrap().loss.to_bits(), "loss of step {step}");
        }
        refreshes += u32::from(report.refresh.is_some());
        entered += report.refresh.map_or(0, |refresh| refresh.entered);
    }
    assert!(refreshes >= 20 && entered > 20, "{refreshes} refreshes, {entered} entries entered");
    let saved = |trainer: &mut Trainer, name| {
        trainer.save(&place.join(name), 0.0).unwrap();
        tensors(&place.join(name))
    };
    let [want, mapped_tensors] = [saved(&mut implicit, "implicit"), saved(&mut mapped, "mapped")];
    assert!(want.keys().any(|name| name.ends_with("dormant.indices")));
    assert_same(&mapped_tensors, &want, "mapped");
    // Values, sets, optimizer state and biases; of C it tells in its own way.
    let [got, want] = [saved(&mut dense, "dense"), want].map(|mut all| {
        all.retain(|name, _| !name.contains("dormant") && !name.ends_with("theta"));
        all
    });
    assert!(want.len() > 10);
    assert_same(&got, &want, "dense");
    let dormant = [&mut dense, &mut mapped].map(|other| same_theta(&mut implicit, other));
    assert!(dormant.iter().all(|&dormant| (1..entered).contains(&dormant)), "{dormant:?} of {entered}");
}

/// Compares θ and how much of it is dormant, which it returns.
fn same_theta(one: &mut Trainer, other: &mut Trainer) -> u64 {
    let mut dormant = 0;
    for ((name, layer), (_, other)) in one.network().linears().zip(other.network().linears()) {
        let (Linear::Sparse(layer), Linear::Sparse(other)) = (layer, other) else { continue };
        let bits = |weight| theta(weight).into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(&layer.weight), bits(&other.weight), "{name}");
        let reservoirs = [&layer.weight, &other.weight].map(|weight| weight.reservoir().unwrap());
        assert_eq!(reservoirs[0].dormant(), reservoirs[1].dormant(), "{name}");
        dormant += reservoirs[0].dormant();
    }
    dormant
}

const SGD: [&str; 2] = ["optimizer.kind=sgd", "optimizer.lr=0.05"];
const ADAMW: [&str; 2] = ["optimizer.kind=adamw", "optimizer.lr=0.003"];
const L2: [&str; 2] = ["optimizer.penalty_kind=l2", "optimizer.penalty=4e-3"];
const L1: [&str; 2] = ["optimizer.penalty_kind=l1", "optimizer.penalty=1e-3"];
/// AdamW's penalty is decoupled, and as large as its steps.
const ADAMW_PENALTY: [&str; 1] = ["optimizer.penalty=0.1"];

macro_rules! cases {
    ($($name:ident: $($part:expr),*;)*) => {
        $(#[test]
        fn $name() {
            let mut settings: Vec<&str> = Vec::new();
            $(settings.extend($part);)*
            same_bits(&settings);
        })*
    };
}

cases! {
    sgd_l2_magnitude: SGD, L2;
    sgd_l2_random: SGD, L2, ["sparsity.explore=random"];
    sgd_l2_mixed: SGD, L2, ["sparsity.explore=mixed"];
    sgd_l1_magnitude: SGD, L1;
    sgd_l1_random: SGD, L1, ["sparsity.explore=random"];
    adamw_l2_magnitude: ADAMW, L2, ADAMW_PENALTY;
    adamw_l2_random: ADAMW, L2, ADAMW_PENALTY, ["sparsity.explore=random"];
    adamw_l1_magnitude: ADAMW, L1, ADAMW_PENALTY;
    adamw_l1_random: ADAMW, L1, ADAMW_PENALTY, ["sparsity.explore=random"];
    no_exploration: SGD, L2, ["sparsity.explore=none"];
    all_layers_together: SGD, L2, ["sparsity.distribution=global"];
    all_layers_together_random: ADAMW, L1, ADAMW_PENALTY,
        ["sparsity.distribution=global", "sparsity.explore=random"];
    uniform_active_scale: SGD, L2, ["model.init=kaiming-uniform", "sparsity.init_scale=active"];
    truncated_normal: SGD, L2, ["model.init=xavier-truncated-normal", "sparsity.keep_dense=[]"];
}
