//! What is between two linear layers that are computed as one: an activation, or attention.

use pyo3::prelude::*;
use topkast::Seed;
use topkast_kernels::{
    AttentionGradients, AttentionInputs, AttentionShape, AttentionState, Epilogue, Isa, Matrix, attention,
    attention_gradient, dropout,
};

use crate::{spare, wrong};

/// From the first layer's outputs to the second one's inputs.
#[pyclass(frozen, module = "topkast._topkast")]
#[derive(Clone, Copy)]
pub(crate) struct Between(Kind);

#[derive(Clone, Copy)]
enum Kind {
    Relu(Dropout),
    Gelu(Dropout),
    /// Of streams of so many positions; the first layer's outputs are queries, keys and values.
    Attention {
        heads: usize,
        length: usize,
        causal: bool,
        dropped: Dropout,
    },
}

/// What drops out, units or attention's weights: seed and rate.
type Dropout = Option<(u64, f32)>;

#[pymethods]
impl Between {
    /// "relu" or "gelu", after which units drop out by a seed at a rate.
    #[staticmethod]
    #[pyo3(signature = (name, dropped=None))]
    fn activation(name: &str, dropped: Dropout) -> PyResult<Self> {
        check(dropped)?;
        match name {
            "relu" => Ok(Self(Kind::Relu(dropped))),
            "gelu" => Ok(Self(Kind::Gelu(dropped))),
            _ => Err(wrong(format!("the activation must be relu or gelu, not {name:?}"))),
        }
    }

    /// Attention among every `length` neighbouring positions, whose weights drop out.
    #[staticmethod]
    #[pyo3(signature = (heads, length, causal, dropped=None))]
    fn attention(heads: usize, length: usize, causal: bool, dropped: Dropout) -> PyResult<Self> {
        check(dropped)?;
        if heads == 0 || length == 0 {
            return Err(wrong("attention needs at least one head and one position"));
        }
        Ok(Self(Kind::Attention { heads, length, causal, dropped }))
    }
}

/// What the first layer leaves for some positions.
#[derive(Default)]
pub(crate) struct Part {
    /// What the second layer takes.
    pub(crate) units: Matrix,
    /// What the first layer puts out, where `units` does not tell.
    before: Matrix,
    attention: AttentionState,
}

impl Drop for Part {
    fn drop(&mut self) {
        spare::give(std::mem::take(&mut self.units));
        spare::give(std::mem::take(&mut self.before));
    }
}

impl Part {
    pub(crate) fn bytes(&self) -> usize {
        self.units.capacity_bytes() + self.before.capacity_bytes()
    }
}

impl Between {
    /// The layer's inputs for so many outputs of the one before.
    pub(crate) fn units(self, outputs: usize) -> PyResult<usize> {
        match self.0 {
            Kind::Relu(_) | Kind::Gelu(_) => Ok(outputs),
            Kind::Attention { heads, .. }
                if outputs.is_multiple_of(3) && (outputs / 3).is_multiple_of(heads) =>
            {
                Ok(outputs / 3)
            }
            Kind::Attention { heads, .. } => {
                Err(wrong(format!("{outputs} outputs are not queries, keys and values of {heads} heads")))
            }
        }
    }

    /// Positions that belong together; there must be a whole number of them.
    pub(crate) fn together(self) -> Option<usize> {
        match self.0 {
            Kind::Relu(_) | Kind::Gelu(_) => None,
            Kind::Attention { length, .. } => Some(length),
        }
    }

    /// Numbers of a position that are kept, for so many outputs of the first layer.
    pub(crate) fn kept(self, outputs: usize) -> usize {
        match self.0 {
            Kind::Relu(_) => outputs,
            Kind::Gelu(_) => 2 * outputs,
            Kind::Attention { .. } => outputs + outputs / 3,
        }
    }

    /// What the first layer leaves for `count` positions from `first` on: `product(epilogue, to)` computes its outputs, with such a bias.
    pub(crate) fn forward(
        self,
        isa: Isa,
        [first, count]: [usize; 2],
        bias: &[f32],
        product: impl FnOnce(Epilogue<'_>, &mut Matrix),
    ) -> Part {
        let mut part = Part::default();
        match self.0 {
            Kind::Relu(dropped) => {
                part.units = spare::take(bias.len(), count);
                product(Epilogue::BiasRelu(bias), &mut part.units);
                drop_out(isa, dropped, first, &mut part.units);
            }
            Kind::Gelu(dropped) => {
                [part.units, part.before] = [(); 2].map(|()| spare::take(bias.len(), count));
                product(Epilogue::BiasGelu { bias, pre: &mut part.before }, &mut part.units);
                drop_out(isa, dropped, first, &mut part.units);
            }
            Kind::Attention { heads, length, causal, dropped } => {
                part.before = spare::take(bias.len(), count);
                product(Epilogue::Bias(bias), &mut part.before);
                part.units = spare::take(bias.len() / 3, count);
                let mut scratch = spare::take_scratch();
                let inputs = inputs(&part.before);
                let shape = shape([heads, count, length], causal, of_part(dropped, first));
                attention(isa, shape, inputs, &mut part.attention, &mut scratch, &mut part.units);
                spare::give_scratch(scratch);
            }
        }
        part
    }

    /// The gradient with respect to the first layer's outputs at the part's positions, from `first` on, in either of two matrices: `product(epilogue, to)` computes the one with respect to
    /// what the second layer took.
    pub(crate) fn backward<'a>(
        self,
        isa: Isa,
        first: usize,
        part: &Part,
        [d_units, d_before]: [&'a mut Matrix; 2],
        product: impl FnOnce(Epilogue<'_>, &mut Matrix),
    ) -> &'a Matrix {
        match self.0 {
            Kind::Relu(dropped) => {
                product(Epilogue::ReluGradient(&part.units), d_units);
                drop_out(isa, dropped, first, d_units);
                d_units
            }
            Kind::Gelu(dropped) => {
                product(Epilogue::GeluGradient(&part.before), d_units);
                drop_out(isa, dropped, first, d_units);
                d_units
            }
            Kind::Attention { heads, length, causal, dropped } => {
                product(Epilogue::None, d_units);
                let count = part.before.positions();
                d_before.ensure(part.before.features(), count);
                let [query, key, value] = d_before.blocks_mut();
                let gradients = AttentionGradients { query, key, value, relative: None };
                let mut scratch = spare::take_scratch();
                let inputs = inputs(&part.before);
                let shape = shape([heads, count, length], causal, of_part(dropped, first));
                let Part { units, attention, .. } = part;
                attention_gradient(isa, shape, inputs, attention, &mut scratch, units, d_units, gradients);
                spare::give_scratch(scratch);
                d_before
            }
        }
    }
}

/// Each part of the positions has a key of its own.
fn of_part(dropped: Dropout, first: usize) -> Dropout {
    dropped.map(|(seed, rate)| (Seed::new(seed).numbered(first as u64).key(), rate))
}

fn drop_out(isa: Isa, dropped: Dropout, first: usize, units: &mut Matrix) {
    if let Some((key, rate)) = of_part(dropped, first) {
        dropout(isa, key, rate, units);
    }
}

fn check(dropped: Dropout) -> PyResult<()> {
    match dropped {
        Some((_, rate)) if !(0.0..1.0).contains(&rate) => {
            Err(wrong(format!("the dropout rate must be at least 0 and below 1, not {rate}")))
        }
        _ => Ok(()),
    }
}

fn inputs(joined: &Matrix) -> AttentionInputs<'_> {
    let [query, key, value] = joined.blocks();
    AttentionInputs { query, key, value, relative: None }
}

fn shape([heads, positions, queries]: [usize; 3], causal: bool, dropout: Dropout) -> AttentionShape {
    AttentionShape {
        heads,
        streams: positions / queries,
        queries,
        memory: 0,
        span: usize::MAX,
        causal,
        dropout,
    }
}
