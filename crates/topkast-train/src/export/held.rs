//! What a network computes with, by name.

use topkast_kernels::Csr;
use topkast_nn::{Network, ParameterMut};

/// One parameter.
#[derive(Clone, Copy)]
pub(super) enum Held<'a> {
    /// A of a sparse weight, the values in the order of its entries.
    Sparse(&'a Csr, &'a [f32]),
    /// A dense weight `[outputs × inputs]`, row-major.
    Weight([usize; 2], &'a [f32]),
    /// A number for each feature; also a norm's running statistics.
    Vector(&'a [f32]),
}

/// All parameters, in the network's order.
pub(super) fn held(network: &mut Network) -> Vec<(&str, Held<'_>)> {
    let mut all = Vec::new();
    network.visit(&mut |name, parameter| {
        let held = match parameter {
            ParameterMut::Sparse(weight) => {
                let weight = &*weight;
                Held::Sparse(weight.pattern().active(), weight.active_values())
            }
            ParameterMut::Weight { parameter, shape } => Held::Weight(shape, &parameter.values),
            ParameterMut::Bias(parameter) => Held::Vector(&parameter.values),
            ParameterMut::Statistic(values) => Held::Vector(values),
        };
        all.push((name, held));
    });
    all
}
