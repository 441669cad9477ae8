//! What the product holds, layer by layer, read through its public interface.

use topkast::SparseWeight;
use topkast_nn::ParameterMut;
use topkast_train::Trainer;

pub(crate) struct Seen {
    pub(crate) name: String,
    /// Zero where the product keeps no value: outside the mask of a static layer.
    pub(crate) theta: Vec<f64>,
    pub(crate) active: Vec<usize>,
    pub(crate) explore: Vec<usize>,
    pub(crate) bias: Vec<f64>,
    pub(crate) sparse: bool,
}

/// All layers, input first.
pub(crate) fn layers(trainer: &mut Trainer) -> Vec<Seen> {
    let mut layers: Vec<Seen> = Vec::new();
    trainer.network().visit(&mut |name, parameter| match parameter {
        ParameterMut::Sparse(weight) => layers.push(sparse(name, weight)),
        ParameterMut::Weight { parameter, .. } => layers.push(Seen {
            name: name.to_owned(),
            theta: widened(&parameter.values),
            active: (0..parameter.values.len()).collect(),
            explore: Vec::new(),
            bias: Vec::new(),
            sparse: false,
        }),
        ParameterMut::Bias(parameter) => layers.last_mut().unwrap().bias = widened(&parameter.values),
        ParameterMut::Statistic(_) => {}
    });
    layers
}

fn sparse(name: &str, weight: &SparseWeight) -> Seen {
    let pattern = weight.pattern();
    let [active, explore] = [pattern.active(), pattern.explore()]
        .map(|part| part.flat_indices().map(|index| index as usize).collect::<Vec<_>>());
    let outside = |index| weight.reservoir().map_or(0.0, |reservoir| reservoir.value(index));
    let mut theta: Vec<f64> = (0..pattern.total()).map(|index| f64::from(outside(index))).collect();
    for (&index, &value) in active.iter().chain(&explore).zip(&weight.parameter().values[..]) {
        theta[index] = f64::from(value);
    }
    Seen { name: name.to_owned(), theta, active, explore, bias: Vec::new(), sparse: true }
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}
