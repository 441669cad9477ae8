//! Gradients of whole networks against differences of their loss.

use topkast_kernels::{Isa, Matrix};
use topkast_nn::{Gradients, ParameterMut, ResNet};

use crate::made::{DENSE, gradients, images, network, pass, shapes, targets, top_kast};

/// How far a parameter is moved: in f32 a loss is known to some 1e-7, so its slope to less than 1e-3; further away more ReLUs bend it.
const STEP: f32 = 5e-4;

/// What of the named parameter the forward pass uses, moved by `step` times a direction.
fn moved(network: &mut ResNet, named: &str, before: &[f32], direction: &[f64], step: f32) {
    network.visit(&mut |name, parameter| {
        if name == named {
            let trained = parameter.trained().unwrap();
            let moved = before.iter().zip(direction).map(|(x, slope)| x + step * *slope as f32);
            trained.values.iter_mut().zip(moved).for_each(|(slot, x)| *slot = x);
        }
    });
}

/// How many entries the forward pass uses of each parameter, with its values.
fn used(network: &mut ResNet) -> Vec<(String, Vec<f32>)> {
    let mut all = Vec::new();
    network.visit(&mut |name, parameter| {
        let used = match &parameter {
            ParameterMut::Sparse(weight) => weight.active_values().to_vec(),
            ParameterMut::Statistic(_) => return,
            other => other.values().to_vec(),
        };
        all.push((name.to_owned(), used));
    });
    all
}

/// Along every parameter's gradient the loss rises as that says.
fn check(network: &mut ResNet, isa: Isa, x: &Matrix, targets: &[u32]) {
    pass(network, isa, x, targets, Gradients::All);
    let gradients = gradients(network);
    for (name, before) in used(network) {
        let gradient: Vec<f64> = gradients[&name][..before.len()].iter().copied().map(f64::from).collect();
        let norm = gradient.iter().map(|slope| slope.powi(2)).sum::<f64>().sqrt();
        assert!(norm > 1e-2, "{name}: a gradient of {norm} says nothing");
        let direction: Vec<f64> = gradient.iter().map(|slope| slope / norm).collect();
        let mut loss_at = |step| {
            moved(network, &name, &before, &direction, step);
            network.forward(isa, x, true);
            network.loss(isa, targets, 0.1, false).sum / targets.len() as f64
        };
        let mut slope = |step: f32| (loss_at(step) - loss_at(-step)) / f64::from(2.0 * step);
        // Without the error of third order (Richardson).
        let slope = (4.0 * slope(STEP / 2.0) - slope(STEP)) / 3.0;
        moved(network, &name, &before, &direction, 0.0);
        assert!((slope - norm).abs() <= 0.02 * norm + 1e-3, "{isa:?}, {name}: {slope} against {norm}");
    }
}

#[test]
fn every_parameter_by_differences() {
    for shape in shapes() {
        let (x, targets) = (images(&shape, 5, 1), targets(&shape, 5));
        for isa in Isa::available() {
            check(&mut network(&shape, top_kast), isa, &x, &targets);
        }
        let isa = Isa::current().unwrap();
        check(&mut network(&shape, |_, _| DENSE), isa, &x, &targets);
    }
}
