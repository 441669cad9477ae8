//! The same weights and text as in PyTorch give the same losses and gradients.

use topkast::reservoir::DenseReservoir;
use topkast::{Counts, Explore, Hyper, Optimizer, Parameter, PenaltyKind, Seed, SparseWeight, Topology};
use topkast_kernels::{Buffer, Isa};
use topkast_nn::{
    Activation, DenseLinear, Gradients, Linear, Memory, Mode, ParameterMut, SparseLinear, Tokens,
    TransformerXl, TransformerXlShape,
};

use crate::fixture::Fixture;
use crate::networks::{has_no_effect, loss, losses};

/// As the constants in fixtures/transformer_xl.py, from where those of the training come, too.
const SHAPE: TransformerXlShape = TransformerXlShape {
    vocabulary: 17,
    width: 12,
    layers: 2,
    heads: 3,
    feed_forward: 20,
    memory: 7,
    activation: Activation::Gelu,
    dropout: 0.0,
    adaptive: None,
};
const SEGMENT: usize = 5;
const STEPS: usize = 10;
const SPAN: usize = 6;
const SGD: Hyper = Hyper::Sgd { momentum: 0.0, nesterov: false };
const ADAM: Hyper = Hyper::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-5 };

/// How far a number may be from PyTorch's, relative to the largest of its tensor. Adam divides small gradients by their size, and
/// with them how they round.
const TOLERANCE: f64 = 1e-5;
const ADAM_TOLERANCE: f64 = 1e-4;

/// The network with the fixture's initial values, its linear layers sparse or dense.
fn network(fixture: &Fixture, activation: Activation, sparse: bool) -> TransformerXl {
    let initial = |name: &str| fixture.floats(&format!("initial.{name}"));
    let shape = TransformerXlShape { activation, ..SHAPE };
    let linears = shape.layers().into_iter().map(|(name, [outputs, inputs])| {
        let theta = initial(&format!("{name}.weight"));
        let bias = Buffer::from(&initial(&format!("{name}.bias"))[..]);
        if !sparse {
            return Linear::Dense(DenseLinear::new(Buffer::from(&theta[..]), bias));
        }
        let mask = fixture.mask(&format!("mask.{name}"));
        let count = |least| mask.iter().filter(|&&set| set >= least).count();
        let counts = Counts { active: count(2), backward: count(1) };
        let reservoir = Box::new(DenseReservoir::new(theta));
        let topology = Topology::TopKast(Explore::Magnitude);
        let weight =
            SparseWeight::from_theta(outputs, inputs, counts, topology, reservoir, Seed::new(1)).unwrap();
        assert_eq!(sets(&weight), mask, "A and B of {name}");
        Linear::Sparse(SparseLinear::new(weight, bias))
    });
    let linears = linears.collect();
    let mut network = TransformerXl::from_layers(&shape, linears, Seed::new(1));
    network.visit(&mut |name, parameter| match parameter {
        ParameterMut::Sparse(_) => {}
        ParameterMut::Weight { parameter, .. } | ParameterMut::Bias(parameter) => {
            parameter.values.copy_from_slice(&initial(name));
        }
        ParameterMut::Statistic(_) => {}
    });
    network
}

/// Where each entry of B is in the dense weight.
fn entries(weight: &SparseWeight) -> impl Iterator<Item = usize> {
    let pattern = weight.pattern();
    pattern.active().flat_indices().chain(pattern.explore().flat_indices()).map(|index| index as usize)
}

/// 2 on A, 1 on B∖A, 0 on C.
fn sets(weight: &SparseWeight) -> Vec<u8> {
    let mut sets = vec![0; weight.pattern().total() as usize];
    for (number, index) in entries(weight).enumerate() {
        sets[index] = if number < weight.counts().active { 2 } else { 1 };
    }
    sets
}

/// Trains as the fixture's `setting` did, checks each loss, and has `check` look at the network after each backward pass.
fn train(
    fixture: &Fixture,
    setting: &str,
    network: &mut TransformerXl,
    (hyper, lr): (Hyper, f32),
    mut check: impl FnMut(usize, &mut TransformerXl),
) {
    let isa = Isa::current().unwrap();
    let optimizer = Optimizer::new(hyper, PenaltyKind::L2, 0.0);
    let (text, expected) = (fixture.tokens("text"), fixture.floats(&format!("{setting}.losses")));
    assert_eq!(expected.len(), STEPS);
    for (step, &expected) in expected.iter().enumerate() {
        let cut = |first: usize| text.iter().flat_map(move |stream| stream[first..][..SEGMENT].to_vec());
        let (ids, targets): (Vec<_>, Vec<_>) =
            (cut(step * SEGMENT).collect(), cut(step * SEGMENT + 1).collect());
        let tokens = Tokens { ids: &ids, streams: text.len() };
        let loss = loss(network, isa, tokens, &targets, Mode::Train(Seed::new(step as u64)));
        assert_near(&[loss as f32], &[expected], TOLERANCE, &format!("{setting}: loss of step {step}"));
        network.backward(isa, tokens, Gradients::All);
        check(step, network);
        network.visit(&mut |_, parameter| match parameter {
            ParameterMut::Sparse(weight) => {
                weight.update(&optimizer, isa, lr, 1.0, true);
            }
            ParameterMut::Weight { parameter, .. } | ParameterMut::Bias(parameter) => {
                optimizer.prepare(parameter);
                optimizer.update(isa, lr, 1.0, parameter, 0..parameter.values.len(), 0.0);
            }
            ParameterMut::Statistic(_) => {}
        });
    }
    assert_eq!(network.memory().held(), SHAPE.memory);
}

/// Checks every parameter's numbers, those that `of` picks, against the `step`-th of the fixture's tensors under `prefix`.
fn check_all(
    fixture: &Fixture,
    network: &mut TransformerXl,
    (prefix, step): (&str, usize),
    tolerance: f64,
    of: impl Fn(&Parameter) -> &Buffer,
) {
    network.visit(&mut |name, parameter| {
        if prefix == "adam.final" && has_no_effect(name) {
            return; // Adam makes steps of rounding errors.
        }
        let expected = fixture.floats(&format!("{prefix}.{name}"));
        let place = format!("{prefix}.{name} of step {step}");
        let step = |len: usize| &expected[step * len..][..len];
        match parameter {
            ParameterMut::Sparse(weight) => {
                let expected = step(weight.pattern().total() as usize);
                let on_b: Vec<f32> = entries(weight).map(|index| expected[index]).collect();
                assert_near(of(weight.parameter()), &on_b, tolerance, &place);
            }
            ParameterMut::Weight { parameter, .. } | ParameterMut::Bias(parameter) => {
                assert_near(of(parameter), step(parameter.values.len()), tolerance, &place);
            }
            ParameterMut::Statistic(_) => {}
        }
    });
}

fn assert_near(got: &[f32], want: &[f32], tolerance: f64, place: &str) {
    assert_eq!(got.len(), want.len(), "{place}");
    // Where a parameter has no effect, the largest gradient is nothing but rounding.
    let largest = want.iter().fold(0.0f32, |largest, want| largest.max(want.abs())).max(0.01);
    for (at, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = f64::from(got - want).abs() / f64::from(largest);
        assert!(error <= tolerance, "{place}, entry {at}: {got} against {want}");
    }
}

#[test]
fn ten_steps_of_a_dense_network() {
    let fixture = Fixture::read();
    let mut network = network(&fixture, Activation::Relu, false);
    train(&fixture, "dense", &mut network, (SGD, 0.1), |step, network| {
        check_all(&fixture, network, ("dense.gradients", step), TOLERANCE, |parameter| &parameter.gradient);
    });
}

#[test]
fn ten_steps_of_a_sparse_network() {
    let fixture = Fixture::read();
    let mut network = network(&fixture, Activation::Gelu, true);
    train(&fixture, "sparse", &mut network, (SGD, 0.1), |step, network| {
        check_all(&fixture, network, ("sparse.gradients", step), TOLERANCE, |parameter| &parameter.gradient);
    });
}

#[test]
fn ten_steps_with_adam() {
    let fixture = Fixture::read();
    let mut network = network(&fixture, Activation::Gelu, true);
    train(&fixture, "adam", &mut network, (ADAM, 0.01), |_, _| {});
    check_all(&fixture, &mut network, ("adam.final", 0), ADAM_TOLERANCE, |parameter| &parameter.values);
}

#[test]
fn a_span_limits_what_is_seen() {
    let fixture = Fixture::read();
    let text = fixture.tokens("span.text").swap_remove(0);
    let count = text.len() - 1;
    for (setting, sparse) in [("dense", false), ("sparse", true)] {
        let expected = fixture.floats(&format!("span.{setting}.losses"));
        let mut network = network(&fixture, Activation::Gelu, sparse);
        network.replace_memory(Memory::empty(0, SPAN));
        let tokens = Tokens { ids: &text[..count], streams: 1 };
        let isa = Isa::current().unwrap();
        network.forward(isa, tokens, Mode::Evaluate);
        let got: Vec<f32> = losses(&mut network, isa, &text[1..]).iter().map(|&loss| loss as f32).collect();
        assert_near(&got, &expected, TOLERANCE, setting);
    }
}
