//! Single layers, sparse and dense.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use topkast::{Counts, Explore, ReservoirKind, Seed, Topology};
use topkast_kernels::{Isa, Matrix, add, gelu_gradient, relu_gradient};
use topkast_nn::{Activation, LayerPlan, Linear, ParameterMut};

use crate::numbers::{assert_all_close, assert_close, columns, fill_random, random_matrix, slope};
use crate::twin::{Affine, activate, gradient_of, twin};
use crate::{ACTIVATIONS, INIT, sparse_plan};

/// What a layer's objective depends on.
#[derive(Clone)]
struct Point {
    layer: Affine,
    x: Vec<Vec<f64>>,
}

/// What a layer and a batch must give for the objective Σ weights·y.
struct Expected {
    outputs: Vec<Vec<f64>>,
    weight: Vec<f64>,
    bias: Vec<f64>,
    input: Vec<Vec<f64>>,
}

impl Expected {
    fn new(point: &Point, activation: Activation, weights: &Matrix) -> Self {
        let weights = columns(weights);
        let outputs = |point: &Point| -> Vec<Vec<f64>> {
            let apply = |x: &Vec<f64>| point.layer.apply(x).into_iter().map(|x| activate(activation, x));
            point.x.iter().map(|x| apply(x).collect()).collect()
        };
        let objective = |point: &Point| -> f64 {
            let pairs = outputs(point).into_iter().flatten().zip(weights.iter().flatten());
            pairs.map(|(y, weight)| y * weight).sum()
        };
        let entries = point.layer.entries.iter();
        let rows = 0..point.layer.bias.len();
        Self {
            outputs: outputs(point),
            weight: entries.map(|&at| slope(point, |p| &mut p.layer.weight[at], objective)).collect(),
            bias: rows.map(|row| slope(point, |p| &mut p.layer.bias[row], objective)).collect(),
            input: (0..point.x.len())
                .map(|position| {
                    let features = 0..point.layer.inputs;
                    features.map(|at| slope(point, |p| &mut p.x[position][at], objective)).collect()
                })
                .collect(),
        }
    }
}

/// A layer of `shape` `[outputs, inputs]`, all its values random.
fn layer([outputs, inputs]: [usize; 2], plan: &LayerPlan, random: &mut ChaCha8Rng) -> Linear {
    let mut layer = Linear::new(outputs, inputs, plan, Seed::new(3)).unwrap();
    for parameter in layer.parameters() {
        match parameter {
            ParameterMut::Sparse(weight) => fill_random(&mut weight.parameter_mut().values, random),
            ParameterMut::Weight { parameter, .. } | ParameterMut::Bias(parameter) => {
                fill_random(&mut parameter.values, random);
            }
            ParameterMut::Statistic(_) => {}
        }
    }
    layer
}

/// With dense products in a sparse layer where `dense` says so.
fn check_layer(shape: [usize; 2], positions: usize, plan: &LayerPlan, activation: Activation, dense: bool) {
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let mut layer = layer(shape, plan, &mut random);
    if dense {
        use_dense_products(&mut layer);
    }
    let x = random_matrix(shape[1], positions, &mut random);
    let weights = random_matrix(shape[0], positions, &mut random);
    let [weight, bias] = layer.parameters();
    let point = Point { layer: twin(&weight, &bias), x: columns(&x) };
    let expected = Expected::new(&point, activation, &weights);
    for isa in Isa::available() {
        let place = format!("{shape:?} × {positions}, {activation:?}, {isa:?}");
        let (mut pre, mut y) = (Matrix::default(), Matrix::default());
        layer.forward(isa, &x, activation, &mut pre, &mut y);
        let mut dy = weights.clone();
        match activation {
            Activation::Identity => {}
            Activation::Relu => relu_gradient(isa, &y, &mut dy),
            Activation::Gelu => gelu_gradient(isa, &pre, &mut dy),
        }
        let mut dx = Matrix::default();
        layer.input_gradient(isa, &dy, None, &mut dx);
        layer.weight_gradient(isa, &x, &dy, true);
        let mut sum = Matrix::default();
        layer.add_input_gradient(isa, &dy, &x, &mut sum);
        let mut want = dx.clone();
        add(isa, &x, &mut want);
        assert_eq!(sum, want, "{place}: with another gradient");
        for position in 0..positions {
            for (feature, &want) in expected.outputs[position].iter().enumerate() {
                assert_close(
                    y.get(feature, position),
                    want,
                    &format!("{place}: output {feature}, {position}"),
                );
            }
            for (feature, &want) in expected.input[position].iter().enumerate() {
                assert_close(
                    dx.get(feature, position),
                    want,
                    &format!("{place}: input {feature}, {position}"),
                );
            }
        }
        let [weight, bias] = layer.parameters();
        assert_all_close(gradient_of(&weight), &expected.weight, &format!("{place}: weight"));
        assert_all_close(gradient_of(&bias), &expected.bias, &format!("{place}: bias"));
    }
}

fn use_dense_products(layer: &mut Linear) {
    let Linear::Sparse(layer) = layer else { panic!("a dense layer always has them") };
    assert!(layer.dense_bytes() == 0 && layer.use_dense_products());
    assert_eq!(layer.dense_bytes(), 8 * layer.weight.pattern().total());
}

const LAYERS: [([usize; 2], usize); 9] = [
    ([1, 1], 1),
    ([1, 33], 17),
    ([33, 1], 16),
    ([15, 17], 15),
    ([17, 15], 1),
    ([17, 33], 16),
    ([33, 15], 17),
    ([15, 1], 17),
    ([33, 33], 1),
];

#[test]
fn sparse_layers() {
    for (shape, positions) in LAYERS {
        for activation in ACTIVATIONS {
            let plan = sparse_plan(shape[0], shape[1], Explore::Magnitude);
            check_layer(shape, positions, &plan, activation, false);
            check_layer(shape, positions, &plan, activation, true);
        }
    }
}

#[test]
fn dense_layers() {
    for (shape, positions) in LAYERS {
        for activation in ACTIVATIONS {
            check_layer(shape, positions, &LayerPlan::Dense { init: INIT }, activation, false);
        }
    }
}

#[test]
fn without_exploration_only_a_gets_gradients() {
    without_exploration(false);
    without_exploration(true);
}

fn without_exploration(dense: bool) {
    let plan = sparse_plan(15, 17, Explore::Random);
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut layer = layer([15, 17], &plan, &mut random);
    if dense {
        use_dense_products(&mut layer);
    }
    let (x, dy) = (random_matrix(17, 16, &mut random), random_matrix(15, 16, &mut random));
    for isa in Isa::available() {
        let gradients = [true, false].map(|explore| {
            layer.weight_gradient(isa, &x, &dy, explore);
            gradient_of(&layer.parameters()[0]).to_vec()
        });
        let active = (15usize * 17).div_ceil(3);
        assert_eq!(gradients[0][..active], gradients[1][..active]);
        assert!(gradients[0][active..].iter().all(|&slope| slope != 0.0));
        assert!(gradients[1][active..].iter().all(|&slope| slope == 0.0));
    }
}

/// Timing it takes no more than a slice of its dense form, and dense products are out of the question.
#[test]
fn a_weight_too_large_to_be_written_out() {
    let counts = Counts { active: 9000, backward: 9000 };
    let plan = LayerPlan::Sparse {
        counts,
        topology: Topology::Static,
        init: INIT,
        reservoir: ReservoirKind::Implicit,
    };
    let layer = Linear::new(9000, 9000, &plan, Seed::new(1)).unwrap();
    let Linear::Sparse(mut layer) = layer else { panic!("planned sparse") };
    let times = layer.time_products(Isa::available()[0], 1, true, true);
    assert!(times.sparse > 0.0 && times.dense > 0.0, "{times:?}");
    assert_eq!(layer.time_copies(true), None);
    assert!(!layer.use_dense_products());
    assert_eq!(layer.dense_bytes(), 0);
}
