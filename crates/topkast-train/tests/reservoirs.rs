//! Where C is kept changes nothing: the same θ⁰ by rank and written out gives the same network, bit for bit.

mod common;

use common::{Workplace, tensors};
use topkast::reservoir::DenseReservoir;
use topkast::{Seed, SparseWeight};
use topkast_nn::Linear;
use topkast_train::{Config, Trainer};

const STEPS: u64 = 500;

/// θ of a layer, in B and in C.
fn theta(weight: &SparseWeight) -> Vec<f32> {
    let reservoir = weight.reservoir().unwrap();
    let mut theta: Vec<f32> = (0..weight.pattern().total()).map(|index| reservoir.value(index)).collect();
    let values = &weight.parameter().values;
    weight.pattern().for_each_by_index(|index, entry| theta[index as usize] = values[entry]);
    theta
}

/// A trainer whose sparse layers begin with the θ of those of `other`, written out.
fn written_out(config: Config, other: &mut Trainer) -> Trainer {
    let seed = Seed::new(config.seed).named("network");
    let mut trainer = Trainer::new(config).unwrap();
    for ((name, layer), (_, from)) in trainer.network().linears().zip(other.network().linears()) {
        match (layer, from) {
            (Linear::Sparse(layer), Linear::Sparse(from)) => {
                let (pattern, counts, topology) =
                    (layer.weight.pattern(), layer.weight.counts(), layer.weight.topology());
                let (rows, width) = (pattern.rows(), pattern.width());
                let reservoir = Box::new(DenseReservoir::new(theta(&from.weight)));
                let moments = layer.weight.parameter().moments.clone();
                layer.weight =
                    SparseWeight::from_theta(rows, width, counts, topology, reservoir, seed.named(name))
                        .unwrap();
                layer.weight.parameter_mut().moments = moments;
            }
            (Linear::Dense(layer), Linear::Dense(from)) => layer.weight = from.weight.clone(),
            _ => unreachable!("both networks have the same layers"),
        }
    }
    trainer
}

/// Trains both for 500 steps with a refresh every 20, and compares losses, sets and values.
fn same_bits(overrides: &[&str]) {
    let place = Workplace::new();
    let steps = format!("train.steps={STEPS}");
    let mut settings = vec!["model.hidden=[40, 30]", "sparsity.refresh_every=20", &steps];
    settings.extend(overrides);
    let with = |reservoir| {
        let mut settings = settings.clone();
        settings.push(reservoir);
        place.config(&settings)
    };
    let mut implicit = Trainer::new(with("sparsity.reservoir=implicit")).unwrap();
    let mut dense = written_out(with("sparsity.reservoir=dense"), &mut implicit);
    let (mut refreshes, mut entered) = (0, 0);
    for step in 0..STEPS {
        let (left, right) = (implicit.step().unwrap(), dense.step().unwrap());
        assert_eq!(left.loss.to_bits(), right.loss.to_bits(), "loss of step {step}");
        refreshes += u32::from(left.refresh.is_some());
        entered += left.refresh.map_or(0, |refresh| refresh.entered);
    }
    assert!(refreshes >= 20 && entered > 20, "{refreshes} refreshes, {entered} entries entered");
    let files = ["implicit", "dense"].map(|name| place.join(name));
    implicit.save(&files[0], 0.0).unwrap();
    dense.save(&files[1], 0.0).unwrap();
    // Values, sets, optimizer state and biases; of C each tells in its own way.
    let [left, right] = files.map(|file| {
        let mut all = tensors(&file);
        all.retain(|name, _| !name.contains("dormant") && !name.ends_with("theta"));
        all
    });
    assert!(left.len() > 10 && left == right);
    let (mut dormant, mut returned) = (0, 0);
    for ((name, layer), (_, other)) in implicit.network().linears().zip(dense.network().linears()) {
        let (Linear::Sparse(layer), Linear::Sparse(other)) = (layer, other) else { continue };
        let bits = |weight| theta(weight).into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(&layer.weight), bits(&other.weight), "{name}");
        let reservoirs = [&layer.weight, &other.weight].map(|weight| weight.reservoir().unwrap());
        assert_eq!(reservoirs[0].dormant(), reservoirs[1].dormant(), "{name}");
        dormant += reservoirs[0].dormant();
        returned += entered.saturating_sub(dormant);
    }
    assert!(dormant > 0 && returned > 0, "{dormant} dormant, {returned} returned");
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
    sgd_l1_magnitude: SGD, L1;
    sgd_l1_random: SGD, L1, ["sparsity.explore=random"];
    adamw_l2_magnitude: ADAMW, L2, ADAMW_PENALTY;
    adamw_l2_random: ADAMW, L2, ADAMW_PENALTY, ["sparsity.explore=random"];
    adamw_l1_magnitude: ADAMW, L1, ADAMW_PENALTY;
    adamw_l1_random: ADAMW, L1, ADAMW_PENALTY, ["sparsity.explore=random"];
    no_exploration: SGD, L2, ["sparsity.explore=none"];
    uniform_active_scale: SGD, L2, ["model.init=kaiming-uniform", "sparsity.init_scale=active"];
    truncated_normal: SGD, L2, ["model.init=xavier-truncated-normal", "sparsity.keep_dense=[]"];
}
