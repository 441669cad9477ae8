//! Forward and backward passes against f64: the forward written naively, the gradients by central differences of it,
//! on every instruction set.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use topkast::{Counts, Explore, Scale, Seed, SparseWeight, Topology};
use topkast_kernels::{Buffer, Isa, Matrix, gelu_gradient, relu_gradient, softmax_cross_entropy};
use topkast_nn::{Activation, LayerPlan, Linear, Mlp, MlpShape, Mode, ParameterMut};

/// Half the distance over which the f64 forward is differenced.
const STEP: f64 = 1e-6;

/// How far f32 may be from f64, relative to 1 + |value|: sums of up to 33 terms of size about 1.
const TOLERANCE: f64 = 1e-5;

const ACTIVATIONS: [Activation; 3] = [Activation::Identity, Activation::Relu, Activation::Gelu];

/// A layer in f64: α written out densely, bias, and where each entry of B is in the dense weight.
#[derive(Clone)]
struct Affine {
    inputs: usize,
    weight: Vec<f64>,
    bias: Vec<f64>,
    /// Flat index of each entry, in the order of the product's gradient.
    entries: Vec<usize>,
}

impl Affine {
    /// Wᵀ·x + b for one position.
    fn apply(&self, x: &[f64]) -> Vec<f64> {
        let dot = |row: &[f64]| row.iter().zip(x).map(|(weight, x)| weight * x).sum::<f64>();
        self.weight.chunks(self.inputs).zip(&self.bias).map(|(row, bias)| dot(row) + bias).collect()
    }
}

fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Relu => x.max(0.0),
        Activation::Gelu => x * normal(x),
    }
}

/// The normal distribution function: 1/2 + φ(x)·(x + x³/3 + x⁵/(3·5) + …).
fn normal(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for odd in 1..150 {
        term *= x * x / f64::from(2 * odd + 1);
        sum += term;
    }
    0.5 + (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt() * sum
}

/// The derivative of `objective` with respect to the number that `at` picks.
fn slope<T: Clone>(point: &T, at: impl Fn(&mut T) -> &mut f64, objective: impl Fn(&T) -> f64) -> f64 {
    let shifted = |shift| {
        let mut point = point.clone();
        *at(&mut point) += shift;
        objective(&point)
    };
    (shifted(STEP) - shifted(-STEP)) / (2.0 * STEP)
}

fn assert_close(got: f32, want: f64, place: &str) {
    let error = (f64::from(got) - want).abs();
    assert!(error <= TOLERANCE * (1.0 + want.abs()), "{place}: {got} against {want}");
}

fn assert_all_close(got: &[f32], want: &[f64], place: &str) {
    assert_eq!(got.len(), want.len(), "{place}");
    got.iter().zip(want).enumerate().for_each(|(at, (&got, &want))| {
        assert_close(got, want, &format!("{place}, entry {at}"));
    });
}

fn random_matrix(features: usize, positions: usize, random: &mut ChaCha8Rng) -> Matrix {
    let values: Vec<f32> = (0..features * positions).map(|_| random.random::<f32>() * 2.0 - 1.0).collect();
    Matrix::from_rows(features, positions, &values)
}

/// The columns of `x`: position by position.
fn columns(x: &Matrix) -> Vec<Vec<f64>> {
    let column = |position| (0..x.features()).map(|feature| f64::from(x.get(feature, position))).collect();
    (0..x.positions()).map(column).collect()
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

fn fill_random(values: &mut Buffer, random: &mut ChaCha8Rng) {
    values.iter_mut().for_each(|value| *value = random.random::<f32>() - 0.5);
}

/// About a third of the weights in A and a third in B∖A.
fn sparse_plan(outputs: usize, inputs: usize, explore: Explore) -> LayerPlan {
    let total = outputs * inputs;
    let counts = Counts { active: total.div_ceil(3), backward: (2 * total).div_ceil(3) };
    LayerPlan::Sparse { counts, topology: Topology::TopKast(explore), scale: Scale::Active }
}

/// The f64 twin of a layer with these parameters.
fn twin(weight: &ParameterMut<'_>, bias: &ParameterMut<'_>) -> Affine {
    let ParameterMut::Bias(bias) = bias else { panic!("the bias comes second") };
    let bias = widened(&bias.values);
    match weight {
        ParameterMut::Sparse(weight) => sparse_twin(weight, bias),
        ParameterMut::Weight { parameter, shape: [_, inputs] } => {
            let weight = widened(&parameter.values);
            Affine { inputs: *inputs, entries: (0..weight.len()).collect(), weight, bias }
        }
        ParameterMut::Bias(_) => panic!("the weight comes first"),
    }
}

fn sparse_twin(weight: &SparseWeight, bias: Vec<f64>) -> Affine {
    let pattern = weight.pattern();
    let entries = pattern.active().flat_indices().chain(pattern.explore().flat_indices());
    let entries: Vec<usize> = entries.map(|index| index as usize).collect();
    let mut dense = vec![0.0; pattern.total() as usize];
    for (&index, &value) in entries.iter().zip(weight.active_values()) {
        dense[index] = f64::from(value);
    }
    Affine { inputs: pattern.width(), weight: dense, bias, entries }
}

fn gradient_of<'a>(parameter: &'a ParameterMut<'_>) -> &'a [f32] {
    match parameter {
        ParameterMut::Sparse(weight) => &weight.parameter().gradient,
        ParameterMut::Weight { parameter, .. } | ParameterMut::Bias(parameter) => &parameter.gradient,
    }
}

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
        }
    }
    layer
}

fn check_layer(shape: [usize; 2], positions: usize, plan: &LayerPlan, activation: Activation) {
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let mut layer = layer(shape, plan, &mut random);
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
        layer.backward(isa, &x, &dy, Some(&mut dx), true);
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
            check_layer(shape, positions, &plan, activation);
        }
    }
}

#[test]
fn dense_layers() {
    for (shape, positions) in LAYERS {
        for activation in ACTIVATIONS {
            check_layer(shape, positions, &LayerPlan::Dense, activation);
        }
    }
}

#[test]
fn without_exploration_only_a_gets_gradients() {
    let plan = sparse_plan(15, 17, Explore::Random);
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut layer = layer([15, 17], &plan, &mut random);
    let (x, dy) = (random_matrix(17, 16, &mut random), random_matrix(15, 16, &mut random));
    for isa in Isa::available() {
        let gradients = [true, false].map(|explore| {
            layer.backward(isa, &x, &dy, None, explore);
            gradient_of(&layer.parameters()[0]).to_vec()
        });
        let active = (15usize * 17).div_ceil(3);
        assert_eq!(gradients[0][..active], gradients[1][..active]);
        assert!(gradients[0][active..].iter().all(|&slope| slope != 0.0));
        assert!(gradients[1][active..].iter().all(|&slope| slope == 0.0));
    }
}

/// A network's batch, what is done with it, and what dropout keeps.
struct Setting {
    shape: MlpShape,
    plans: Vec<LayerPlan>,
    x: Matrix,
    labels: Vec<u32>,
    smoothing: f32,
    mode: Mode,
    /// What dropout multiplies each hidden unit by: hidden layer, position, unit.
    masks: Vec<Vec<Vec<f64>>>,
}

impl Setting {
    fn new(shape: MlpShape, plans: Vec<LayerPlan>, positions: usize, smoothing: f32, mode: Mode) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let x = random_matrix(shape.inputs, positions, &mut random);
        let labels = (0..positions).map(|_| random.random_range(0..shape.outputs as u32)).collect();
        let masks = (0..shape.hidden.len()).map(|number| mask(&shape, number, positions, mode)).collect();
        Self { shape, plans, x, labels, smoothing, mode, masks }
    }

    fn network(&self) -> Mlp {
        let mut network = Mlp::new(&self.shape, &self.plans, Seed::new(1)).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(8);
        network.visit(&mut |_, parameter| match parameter {
            ParameterMut::Bias(parameter) => fill_random(&mut parameter.values, &mut random),
            ParameterMut::Sparse(_) | ParameterMut::Weight { .. } => {}
        });
        network
    }

    fn logits(&self, layers: &[Affine], position: usize) -> Vec<f64> {
        let mut x: Vec<f64> = columns(&self.x).swap_remove(position);
        for (number, layer) in layers.iter().enumerate() {
            x = layer.apply(&x);
            if let Some(mask) = self.masks.get(number) {
                x.iter_mut().zip(&mask[position]).for_each(|(x, kept)| {
                    *x = activate(self.shape.activation, *x) * kept;
                });
            }
        }
        x
    }

    fn loss(&self, layers: &[Affine]) -> f64 {
        let own = |(position, &label): (usize, &u32)| {
            let logits = self.logits(layers, position);
            cross_entropy(&logits, label as usize, f64::from(self.smoothing))
        };
        self.labels.iter().enumerate().map(own).sum::<f64>() / self.labels.len() as f64
    }
}

/// −Σ q·log softmax(logits), where q mixes the label with the uniform distribution.
fn cross_entropy(logits: &[f64], label: usize, smoothing: f64) -> f64 {
    let log_total = logits.iter().map(|x| x.exp()).sum::<f64>().ln();
    let mean = logits.iter().sum::<f64>() / logits.len() as f64;
    log_total - (1.0 - smoothing) * logits[label] - smoothing * mean
}

/// What dropout multiplies hidden layer `number` by, read off the outputs of a network that ends right after it: its
/// units are all 1 before dropout, and each is an output.
fn mask(shape: &MlpShape, number: usize, positions: usize, mode: Mode) -> Vec<Vec<f64>> {
    let units = shape.hidden[number];
    let shape = MlpShape {
        hidden: shape.hidden[..=number].to_vec(),
        outputs: units,
        activation: Activation::Relu,
        ..*shape
    };
    let mut network = Mlp::new(&shape, &vec![LayerPlan::Dense; number + 2], Seed::new(0)).unwrap();
    let (last, ones) = ("output.weight", format!("hidden.{number}.bias"));
    network.visit(&mut |name, parameter| match parameter {
        ParameterMut::Weight { parameter, .. } => {
            parameter.values.fill(0.0);
            if name == last {
                parameter.values.iter_mut().step_by(units + 1).for_each(|value| *value = 1.0);
            }
        }
        ParameterMut::Bias(parameter) => parameter.values.fill(if name == ones { 1.0 } else { 0.0 }),
        ParameterMut::Sparse(_) => panic!("the network is dense"),
    });
    let x = Matrix::zeros(shape.inputs, positions);
    columns(network.forward(Isa::portable(), &x, mode))
}

fn twins(network: &mut Mlp) -> Vec<Affine> {
    let (mut layers, mut weight) = (Vec::new(), None);
    network.visit(&mut |_, parameter| match weight.take() {
        None => weight = Some(parameter),
        Some(weight) => layers.push(twin(&weight, &parameter)),
    });
    layers
}

fn check_network(setting: &Setting) {
    let mut network = setting.network();
    let layers = twins(&mut network);
    let mut expected = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let loss = |layers: &Vec<Affine>| setting.loss(layers);
        let entries = layer.entries.iter();
        expected.push(
            entries
                .map(|&at| slope(&layers, |layers| &mut layers[number].weight[at], loss))
                .collect::<Vec<_>>(),
        );
        let rows = 0..layer.bias.len();
        expected.push(rows.map(|row| slope(&layers, |layers| &mut layers[number].bias[row], loss)).collect());
    }
    for isa in Isa::available() {
        let place = format!("{:?}, {isa:?}", setting.shape);
        network.forward(isa, &setting.x, setting.mode);
        let (logits, gradient) = network.logits_and_gradient();
        for position in 0..setting.labels.len() {
            for (class, want) in setting.logits(&layers, position).into_iter().enumerate() {
                let what = format!("{place}: logit {class}, {position}");
                assert_close(logits.get(class, position), want, &what);
            }
        }
        let sums =
            softmax_cross_entropy(isa, logits, &setting.labels, setting.smoothing, Some(&mut *gradient));
        let loss = sums.loss / setting.labels.len() as f64;
        assert_close(loss as f32, setting.loss(&layers), &format!("{place}: loss"));
        network.backward(isa, &setting.x, true);
        let mut expected = expected.iter();
        network.visit(&mut |name, parameter| {
            let want = expected.next().unwrap();
            assert_all_close(gradient_of(&parameter), want, &format!("{place}: {name}"));
        });
    }
}

fn shape(inputs: usize, hidden: &[usize], outputs: usize, activation: Activation, dropout: f32) -> MlpShape {
    MlpShape { inputs, hidden: hidden.to_vec(), outputs, activation, dropout }
}

/// All layers sparse but the last, which is if `all`.
fn plans(shape: &MlpShape, all: bool) -> Vec<LayerPlan> {
    let sizes = shape.layers();
    let last = sizes.len() - 1;
    let plan = |(number, &(_, [outputs, inputs])): (usize, &(String, [usize; 2]))| {
        if number < last || all { sparse_plan(outputs, inputs, Explore::Magnitude) } else { LayerPlan::Dense }
    };
    sizes.iter().enumerate().map(plan).collect()
}

#[test]
fn networks() {
    for activation in ACTIVATIONS {
        for (positions, hidden, all) in
            [(1, &[17, 15][..], false), (15, &[15], true), (16, &[1, 17], true), (17, &[], true)]
        {
            let shape = shape(15, hidden, 3, activation, 0.0);
            let plans = plans(&shape, all);
            check_network(&Setting::new(shape, plans, positions, 0.0, Mode::Evaluate));
        }
    }
}

#[test]
fn networks_with_dropout_and_label_smoothing() {
    for activation in ACTIVATIONS {
        for (positions, dropout, all) in [(1, 0.5, false), (16, 0.25, true), (17, 0.5, false)] {
            let shape = shape(15, &[17, 15], 5, activation, dropout);
            let plans = plans(&shape, all);
            let mode = Mode::Train(Seed::new(11));
            let setting = Setting::new(shape, plans, positions, 0.1, mode);
            let dropped = |mask: &Vec<Vec<f64>>| mask.iter().flatten().any(|&kept| kept == 0.0);
            assert!(setting.masks.iter().all(dropped), "the masks must drop something");
            check_network(&setting);
        }
    }
}

#[test]
fn dropout_is_of_the_seed_the_layer_and_training_only() {
    let shape = shape(1, &[33, 33], 1, Activation::Relu, 0.5);
    let of = |number, mode| mask(&shape, number, 17, mode);
    let (one, other) = (Mode::Train(Seed::new(1)), Mode::Train(Seed::new(2)));
    assert_eq!(of(0, one), of(0, one));
    assert_ne!(of(0, one), of(0, other));
    assert_ne!(of(0, one), of(1, one));
    assert!(of(0, one).iter().flatten().all(|&kept| kept == 0.0 || kept == 2.0));
    assert!(of(0, Mode::Evaluate).iter().flatten().all(|&kept| kept == 1.0));
}
