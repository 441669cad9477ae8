//! Whole networks with dropout and their loss.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use topkast::{Explore, GradientTile, Seed};
use topkast_kernels::{Isa, Matrix, softmax_cross_entropy};
use topkast_nn::{Activation, Gradients, LayerPlan, Mlp, MlpShape, Mode, ParameterMut};

use crate::numbers::{assert_all_close, assert_close, columns, fill_random, random_matrix, slope};
use crate::twin::{Affine, activate, gradient_of, twins};
use crate::{ACTIVATIONS, INIT, sparse_plan};

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
            ParameterMut::Sparse(_) | ParameterMut::Weight { .. } | ParameterMut::Statistic(_) => {}
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
    let mut network =
        Mlp::new(&shape, &vec![LayerPlan::Dense { init: INIT }; number + 2], Seed::new(0)).unwrap();
    let (last, ones) = ("output.weight", format!("hidden.{number}.bias"));
    network.visit(&mut |name, parameter| match parameter {
        ParameterMut::Weight { parameter, .. } => {
            parameter.values.fill(0.0);
            if name == last {
                parameter.values.iter_mut().step_by(units + 1).for_each(|value| *value = 1.0);
            }
        }
        ParameterMut::Bias(parameter) => parameter.values.fill(if name == ones { 1.0 } else { 0.0 }),
        ParameterMut::Sparse(_) | ParameterMut::Statistic(_) => panic!("the network is dense"),
    });
    let x = Matrix::zeros(shape.inputs, positions);
    columns(network.forward(Isa::portable(), &x, mode))
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
        network.backward(isa, &setting.x, Gradients::All);
        let computed: Vec<Vec<f32>> = gradients(&mut network);
        network.backward(isa, &setting.x, Gradients::Activations);
        assert_eq!(gradients(&mut network), computed, "{place}: gradients of parameters stay");
        let mut expected = expected.iter();
        network.visit(&mut |name, parameter| {
            let want = expected.next().unwrap();
            assert_all_close(gradient_of(&parameter), want, &format!("{place}: {name}"));
        });
        network.for_each_gradient(&setting.x, |weight, gradient| {
            let mut tile = GradientTile::default();
            let all = tile.compute(isa, gradient, 0..weight.pattern().rows());
            weight.pattern().for_each_by_index(|index, entry| {
                let want = weight.parameter().gradient[entry];
                assert_close(all[index as usize], want.into(), &format!("{place}: dense gradient"));
            });
        });
    }
}

/// Those of all parameters.
fn gradients(network: &mut Mlp) -> Vec<Vec<f32>> {
    let mut gradients = Vec::new();
    network.visit(&mut |_, parameter| gradients.push(gradient_of(&parameter).to_vec()));
    gradients
}

fn shape(inputs: usize, hidden: &[usize], outputs: usize, activation: Activation, dropout: f32) -> MlpShape {
    MlpShape { inputs, hidden: hidden.to_vec(), outputs, activation, dropout }
}

/// All layers sparse but the last, which is if `all`.
fn plans(shape: &MlpShape, all: bool) -> Vec<LayerPlan> {
    let sizes = shape.layers();
    let last = sizes.len() - 1;
    let plan = |(number, &(_, [outputs, inputs])): (usize, &(String, [usize; 2]))| {
        if number < last || all {
            sparse_plan(outputs, inputs, Explore::Magnitude)
        } else {
            LayerPlan::Dense { init: INIT }
        }
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
