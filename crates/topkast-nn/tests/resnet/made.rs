//! Networks, images, and what was computed.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use topkast::{Counts, Explore, Init, ReservoirKind, Scale, Seed, Topology};
use topkast_kernels::{Isa, Matrix};
use topkast_nn::{BlockKind, Gradients, LayerPlan, Linear, ParameterMut, ResNet, ResNetShape, Stem};

pub(crate) const INIT: Init = Init::kaiming_normal(Scale::Active);
pub(crate) const DENSE: LayerPlan = LayerPlan::Dense { init: INIT };

/// Two thirds of the weights in A, half of the others in B∖A: little would go wrong in an emptier network.
pub(crate) fn sparse_plan(topology: Topology, [outputs, inputs]: [usize; 2]) -> LayerPlan {
    let total = outputs * inputs;
    let backward = if matches!(topology, Topology::TopKast(_)) {
        (5 * total).div_ceil(6)
    } else {
        (2 * total).div_ceil(3)
    };
    let counts = Counts { active: (2 * total).div_ceil(3), backward };
    LayerPlan::Sparse { counts, topology, init: INIT, reservoir: ReservoirKind::Implicit }
}

pub(crate) fn top_kast(_: usize, size: [usize; 2]) -> LayerPlan {
    sparse_plan(Topology::TopKast(Explore::Magnitude), size)
}

/// One of each kind of block and stem, of odd sizes.
pub(crate) fn shapes() -> [ResNetShape; 2] {
    let small = ResNetShape {
        channels: 3,
        size: [7, 6],
        classes: 4,
        stem: Stem::Small,
        block: BlockKind::Basic,
        stages: vec![1, 2],
        width: 5,
        widen: 2,
        zero_last_norm: false,
    };
    let large = ResNetShape {
        size: [19, 17],
        stem: Stem::Large,
        block: BlockKind::Bottleneck,
        stages: vec![2, 1],
        widen: 1,
        ..small.clone()
    };
    [small, large]
}

/// A network whose layers are made as `plan(number, size)` says, with gains and biases that are not all alike.
pub(crate) fn network(shape: &ResNetShape, plan: impl Fn(usize, [usize; 2]) -> LayerPlan) -> ResNet {
    let linear = |(number, (name, [outputs, inputs])): (usize, (String, [usize; 2]))| {
        Linear::new(outputs, inputs, &plan(number, [outputs, inputs]), Seed::new(5).named(&name)).unwrap()
    };
    let mut network =
        ResNet::from_layers(shape, shape.layers().into_iter().enumerate().map(linear).collect());
    let mut random = ChaCha8Rng::seed_from_u64(8);
    network.visit(&mut |_, parameter| {
        if let ParameterMut::Bias(vector) = parameter {
            vector.values.iter_mut().for_each(|value| *value += 0.5 * (random.random::<f32>() - 0.5));
        }
    });
    network
}

/// So many images for a network of this shape.
pub(crate) fn images(shape: &ResNetShape, count: usize, seed: u64) -> Matrix {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let positions = shape.size[0] * shape.size[1] * count;
    let values: Vec<f32> =
        (0..shape.channels * positions).map(|_| random.random::<f32>() * 2.0 - 1.0).collect();
    Matrix::from_rows(shape.channels, positions, &values)
}

pub(crate) fn targets(shape: &ResNetShape, count: usize) -> Vec<u32> {
    (0..count).map(|image| (image % shape.classes) as u32).collect()
}

/// The loss on these images, and every gradient that is wanted.
pub(crate) fn pass(network: &mut ResNet, isa: Isa, x: &Matrix, targets: &[u32], wanted: Gradients) -> f64 {
    network.forward(isa, x, true);
    let loss = network.loss(isa, targets, 0.1, true).sum / targets.len() as f64;
    network.backward(isa, x, wanted);
    loss
}

/// Gradients by name.
pub(crate) fn gradients(network: &mut ResNet) -> BTreeMap<String, Vec<f32>> {
    let mut all = BTreeMap::new();
    network.visit(&mut |name, parameter| {
        if let Some(trained) = parameter.trained() {
            all.insert(name.to_owned(), trained.gradient.to_vec());
        }
    });
    all
}

/// Values by name: statistics, too.
pub(crate) fn values(network: &mut ResNet) -> BTreeMap<String, Vec<f32>> {
    let mut all = BTreeMap::new();
    network.visit(&mut |name, parameter| {
        all.insert(name.to_owned(), parameter.values().to_vec());
    });
    all
}

/// That numbers differ by no more than `tolerance` times the norm of what is wanted.
#[track_caller]
pub(crate) fn assert_near(got: &[f32], want: &[f32], tolerance: f64, place: &str) {
    assert_eq!(got.len(), want.len(), "{place}");
    let norm =
        |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|number| number * number).sum::<f64>().sqrt();
    let apart = norm(&mut got.iter().zip(want).map(|(&got, &want)| f64::from(got) - f64::from(want)));
    let size = norm(&mut want.iter().map(|&want| f64::from(want)));
    assert!(apart <= tolerance * (size + 1e-3), "{place}: {apart:.2e} apart of {size:.2e}");
}
