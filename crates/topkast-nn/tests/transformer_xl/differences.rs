//! Gradients of the whole network against differences of its loss.

use topkast::{Parameter, Seed};
use topkast_kernels::Isa;
use topkast_nn::{Gradients, Memory, Mode, ParameterMut, Tokens, TransformerXl, TransformerXlShape};

use crate::networks::{SMALL, adaptive, all, has_no_effect, loss, network, text};

const STREAMS: usize = 3;
/// How far a parameter is moved: in f32 a loss is known to about 1e-7, so its slope to some 1e-5.
const STEP: f32 = 0.01;

/// Calls `change` with what of the numbered parameter the forward pass uses.
fn with_used(network: &mut TransformerXl, number: usize, change: &mut dyn FnMut(&mut Parameter, usize)) {
    let mut at = 0;
    network.visit(&mut |_, parameter| {
        if at == number {
            match parameter {
                ParameterMut::Sparse(weight) => {
                    let active = weight.counts().active;
                    change(weight.parameter_mut(), active);
                }
                ParameterMut::Weight { parameter, .. } | ParameterMut::Bias(parameter) => {
                    let len = parameter.values.len();
                    change(parameter, len);
                }
                ParameterMut::Statistic(_) => {}
            }
        }
        at += 1;
    });
}

/// The derivative of `objective` along `direction` at the numbered parameter's values `before`, where it is in the end.
fn slope_along(
    network: &mut TransformerXl,
    number: usize,
    before: &[f32],
    direction: &[f64],
    objective: &dyn Fn(&mut TransformerXl) -> f64,
) -> f64 {
    let mut moved_by = |step: f32| {
        with_used(network, number, &mut |parameter, used| {
            let moved = before.iter().zip(direction).map(|(x, slope)| x + step * *slope as f32);
            parameter.values[..used].iter_mut().zip(moved).for_each(|(slot, x)| *slot = x);
        });
        objective(network)
    };
    let mut slope = |step: f32| (moved_by(step) - moved_by(-step)) / f64::from(2.0 * step);
    // Without the error of third order (Richardson).
    let slope = (4.0 * slope(STEP / 2.0) - slope(STEP)) / 3.0;
    moved_by(0.0);
    slope
}

/// Along every parameter's gradient the loss rises as that says, on text that follows `memory` and whose targets are among the first
/// `known` tokens.
fn check(network: &mut TransformerXl, memory: &Memory, isa: Isa, known: usize) {
    let ids = text(SMALL.vocabulary, STREAMS * 7, 3);
    let targets = text(known, STREAMS * 7, 4);
    let without_target = |name: &str| known < SMALL.vocabulary && name == "embedding.2.bias";
    let tokens = Tokens { ids: &ids, streams: STREAMS };
    let objective = |network: &mut TransformerXl| {
        network.replace_memory(memory.clone());
        loss(network, isa, tokens, &targets, Mode::Train(Seed::new(4)))
    };
    objective(network);
    network.backward(isa, tokens, Gradients::All);
    // At once, as a loss overwrites some.
    let gradients = all(network, true);
    for (number, (named, gradient)) in gradients.into_iter().enumerate() {
        let mut before = Vec::new();
        with_used(network, number, &mut |parameter, used| before = parameter.values[..used].to_vec());
        let gradient: Vec<f64> = gradient[..before.len()].iter().copied().map(f64::from).collect();
        let norm = gradient.iter().map(|slope| slope.powi(2)).sum::<f64>().sqrt();
        if has_no_effect(&named) || without_target(&named) {
            assert!(norm < 1e-6, "{named}: {norm}");
            continue;
        }
        assert!(norm > 1e-3, "{named}: a gradient of {norm} says nothing");
        let direction: Vec<f64> = gradient.iter().map(|slope| slope / norm).collect();
        let slope = slope_along(network, number, &before, &direction, &objective);
        assert!((slope - norm).abs() <= 5e-4 * norm + 1e-4, "{named}: {slope} against {norm}");
    }
}

/// With dropout, whose mask is the same in every pass, and with memory.
#[test]
fn every_parameter_by_differences() {
    let shape = TransformerXlShape { dropout: 0.2, ..SMALL };
    let adaptive = TransformerXlShape { dropout: 0.2, ..adaptive() };
    let every = SMALL.vocabulary;
    // At last with a cluster that no target is in.
    for (shape, sparse, known) in
        [(&shape, false, every), (&shape, true, every), (&adaptive, true, every), (&adaptive, true, 9)]
    {
        let mut network = network(shape, sparse);
        for isa in Isa::available() {
            check(&mut network, &Memory::empty(shape.memory, 9), isa, known);
            let earlier = text(SMALL.vocabulary, STREAMS * 5, 2);
            network.replace_memory(Memory::empty(shape.memory, 9));
            network.forward(isa, Tokens { ids: &earlier, streams: STREAMS }, Mode::Evaluate);
            let memory = network.memory().clone();
            assert_eq!(memory.held(), 5);
            check(&mut network, &memory, isa, known);
        }
    }
}
