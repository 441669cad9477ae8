//! Networks to test, texts, and what comes of them.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use topkast::{Counts, Explore, Init, ReservoirKind, Scale, Seed, Topology};
use topkast_kernels::Isa;
use topkast_nn::{
    Activation, Clusters, LayerPlan, Linear, Mode, ParameterMut, Tokens, TransformerXl, TransformerXlShape,
};

pub(crate) const INIT: Init = Init::kaiming_normal(Scale::Active);

pub(crate) const SMALL: TransformerXlShape = TransformerXlShape {
    vocabulary: 19,
    width: 24,
    layers: 2,
    heads: 3,
    feed_forward: 33,
    memory: 6,
    activation: Activation::Gelu,
    dropout: 0.0,
    adaptive: None,
};

/// With clusters of 5, 4 and 10 tokens.
pub(crate) fn adaptive() -> TransformerXlShape {
    TransformerXlShape { adaptive: Some(Clusters { cutoffs: vec![5, 9], div_value: 2 }), ..SMALL }
}

/// A network whose linear layers are dense or, with a third of the weights in A and a third in B∖A, sparse. All vectors are random, too.
pub(crate) fn network(shape: &TransformerXlShape, sparse: bool) -> TransformerXl {
    let linear = |(name, [outputs, inputs]): (String, [usize; 2])| {
        let total = outputs * inputs;
        let plan = match sparse {
            true => LayerPlan::Sparse {
                counts: Counts { active: total / 3, backward: 2 * total / 3 },
                topology: Topology::TopKast(Explore::Magnitude),
                init: INIT,
                reservoir: ReservoirKind::Implicit,
            },
            false => LayerPlan::Dense { init: INIT },
        };
        Linear::new(outputs, inputs, &plan, Seed::new(5).named(&name)).unwrap()
    };
    let linears = shape.layers().into_iter().map(linear).collect();
    let mut network = TransformerXl::from_layers(shape, linears, Seed::new(5));
    let mut random = ChaCha8Rng::seed_from_u64(8);
    network.visit(&mut |_, parameter| {
        if let ParameterMut::Bias(vector) = parameter {
            vector.values.iter_mut().for_each(|value| *value += random.random::<f32>() - 0.5);
        }
    });
    network
}

/// Whether a parameter adds the same to all scores of a query, which makes no difference.
pub(crate) fn has_no_effect(name: &str) -> bool {
    name.ends_with("attention.key.bias") || name.ends_with("attention.position.bias")
}

/// Random tokens.
pub(crate) fn text(vocabulary: usize, count: usize, seed: u64) -> Vec<u32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(0..vocabulary as u32)).collect()
}

/// The mean loss of a segment; its gradient is left for a backward pass.
pub(crate) fn loss(
    network: &mut TransformerXl,
    isa: Isa,
    tokens: Tokens<'_>,
    targets: &[u32],
    mode: Mode,
) -> f64 {
    network.forward(isa, tokens, mode);
    network.loss(isa, targets, 0.0, true).sum / targets.len() as f64
}

/// Each position's own loss in the last forward pass, in f64.
pub(crate) fn losses(network: &mut TransformerXl, isa: Isa, targets: &[u32]) -> Vec<f64> {
    let mut logits = Vec::new();
    let loss = |(position, &target): (usize, &u32)| {
        network.logits_at(isa, position, &mut logits);
        let total = logits.iter().map(|&logit| f64::from(logit).exp()).sum::<f64>();
        total.ln() - f64::from(logits[target as usize])
    };
    targets.iter().enumerate().map(loss).collect()
}

/// The values or gradients of all parameters, with their names.
pub(crate) fn all(network: &mut TransformerXl, gradients: bool) -> Vec<(String, Vec<f32>)> {
    let mut all = Vec::new();
    network.visit(&mut |name, parameter| {
        let parameter = parameter.trained().unwrap();
        let numbers = if gradients { &parameter.gradient } else { &parameter.values };
        all.push((name.to_owned(), numbers.to_vec()));
    });
    all
}
