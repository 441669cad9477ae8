//! Two linear layers and the activation between them, as one: hidden units stay as the kernels have them, and are never laid out for PyTorch.

use std::ops::Range;

use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use topkast::Seed;
use topkast_kernels::{Epilogue, Isa, Matrix, by_feature, by_position, dropout, spmm};

use crate::linear::add_row_sums;
use crate::portions::{add_up, count, cut, cut_some, of, of_mut, part_len, parts, shares};
use crate::tensor::{Claims, Tensor, output};
use crate::weight::Weight;
use crate::{spare, threads, wrong};

/// What is between the layers.
#[derive(Clone, Copy)]
enum Activation {
    Relu,
    Gelu,
}

impl Activation {
    fn named(name: &str) -> PyResult<Self> {
        match name {
            "relu" => Ok(Self::Relu),
            "gelu" => Ok(Self::Gelu),
            _ => Err(wrong(format!("the activation must be relu or gelu, not {name:?}"))),
        }
    }
}

/// Which hidden units drop out: seed and rate.
type Dropout = Option<(u64, f32)>;

/// The key of a part of the positions.
fn drop_out(isa: Isa, dropped: Dropout, positions: &Range<usize>, units: &mut Matrix) {
    if let Some((seed, rate)) = dropped {
        dropout(isa, Seed::new(seed).numbered(positions.start as u64).key(), rate, units);
    }
}

/// The hidden units of some positions, after the activation and, for GELU, before it.
#[derive(Default)]
struct Part {
    units: Matrix,
    before: Matrix,
}

impl Part {
    fn give(&mut self) {
        spare::give(std::mem::take(&mut self.units));
        spare::give(std::mem::take(&mut self.before));
    }
}

/// What a forward pass leaves for the backward pass: hidden units, by share and part of the positions.
#[pyclass(frozen, module = "topkast._topkast")]
pub(crate) struct Hidden {
    activation: Activation,
    dropped: Dropout,
    /// Positions, hidden units.
    shape: [usize; 2],
    part: usize,
    shares: Vec<(Range<usize>, Vec<Part>)>,
}

impl Drop for Hidden {
    fn drop(&mut self) {
        self.shares.iter_mut().flat_map(|(_, parts)| parts).for_each(Part::give);
    }
}

#[pymethods]
impl Hidden {
    /// Bytes held.
    #[getter]
    fn nbytes(&self) -> usize {
        let parts = self.shares.iter().flat_map(|(_, parts)| parts);
        parts.map(|part| part.units.capacity_bytes() + part.before.capacity_bytes()).sum()
    }
}

/// A layer as the calls take it.
#[derive(Clone, Copy)]
struct Layer<'a> {
    weight: &'a Weight,
    values: &'a [f32],
}

impl<'a> Layer<'a> {
    fn of(weight: &'a Weight, values: &'a Bound<'_, PyCapsule>) -> PyResult<Self> {
        let len = weight.pattern().backward_len();
        Ok(Self { weight, values: Tensor::<f32>::shaped(values, &[len], "values")?.numbers() })
    }

    fn rows(self) -> usize {
        self.weight.pattern().rows()
    }

    fn width(self) -> usize {
        self.weight.pattern().width()
    }

    fn len(self) -> usize {
        self.weight.pattern().backward_len()
    }
}

/// Numbers of a position in all that is laid out.
fn features([first, second]: [Layer<'_>; 2]) -> usize {
    first.width() + first.rows() + second.rows()
}

fn check([first, second]: [Layer<'_>; 2]) -> PyResult<()> {
    if first.rows() == second.width() {
        return Ok(());
    }
    Err(wrong(format!("the first layer has {} outputs, the second {} inputs", first.rows(), second.width())))
}

/// `y = W₂·drop(activation(W₁·x + b₁)) + b₂` with A alone: x is `[positions × inputs]`, y `[positions × outputs]`. With `keep` returns what
/// `feed_forward_backward` takes.
#[pyfunction]
#[pyo3(signature = (first, second, values, biases, activation, dropped, x, y, keep, threads))]
#[allow(clippy::too_many_arguments, reason = "what two layers take")]
pub(crate) fn feed_forward(
    py: Python<'_>,
    first: &Weight,
    second: &Weight,
    values: [Bound<'_, PyCapsule>; 2],
    biases: [Option<Bound<'_, PyCapsule>>; 2],
    activation: &str,
    dropped: Dropout,
    x: &Bound<'_, PyCapsule>,
    y: &Bound<'_, PyCapsule>,
    keep: bool,
    threads: usize,
) -> PyResult<Option<Hidden>> {
    let layers = [Layer::of(first, &values[0])?, Layer::of(second, &values[1])?];
    check(layers)?;
    let activation = Activation::named(activation)?;
    if let Some((_, rate)) = dropped.filter(|(_, rate)| !(0.0..1.0).contains(rate)) {
        return Err(wrong(format!("the dropout rate must be at least 0 and below 1, not {rate}")));
    }
    let [first, second] = layers;
    let x = Tensor::<f32>::of(x, "x")?;
    let &[positions, width] = x.shape() else { return Err(wrong("x must have two dimensions")) };
    if width != first.width() {
        return Err(wrong(format!("x has {width} features, the weight {} columns", first.width())));
    }
    let x = x.numbers();
    let bias = |at: usize| {
        let bias = biases[at].as_ref().map(|bias| Tensor::<f32>::shaped(bias, &[layers[at].rows()], "bias"));
        Ok::<_, PyErr>(bias.transpose()?.map(|bias| bias.numbers()))
    };
    let biases = [bias(0)?, bias(1)?];
    let y = Tensor::<f32>::shaped(y, &[positions, second.rows()], "y")?;
    let read = [first.values, second.values, x, biases[0].unwrap_or(&[]), biases[1].unwrap_or(&[])];
    let y = y.numbers_mut(&mut Claims::reading(&read))?;
    let zeros = vec![0.0; first.rows().max(second.rows())];
    let isa = Isa::current().map_err(wrong)?;
    let count = count(positions, features(layers), first.len() + second.len());
    let forward = Forward {
        isa,
        layers,
        biases: [0, 1].map(|at| biases[at].unwrap_or(&zeros[..layers[at].rows()])),
        activation,
        dropped,
        keep,
    };
    threads::run_shares(py, threads, count, |team| {
        first.weight.with_scratch(|scratch, _| {
            second.weight.with_scratch(|other, _| {
                let active = [
                    first.weight.active_values(first.values, scratch),
                    second.weight.active_values(second.values, other),
                ];
                let shares = shares(positions, count);
                let ys = cut(y, &shares, second.rows());
                let mut kept: Vec<_> = shares.into_iter().map(|share| (share, Vec::new())).collect();
                team.each(kept.iter_mut().zip(ys).collect(), |((share, kept), y)| {
                    forward.share(active, x, share, y, kept)
                });
                let shape = [positions, first.rows()];
                keep.then(|| Hidden {
                    activation,
                    dropped,
                    shape,
                    part: part_len(features(layers)),
                    shares: kept,
                })
            })
        })
    })
}

/// A forward pass that is ready to run.
struct Forward<'a> {
    isa: Isa,
    layers: [Layer<'a>; 2],
    biases: [&'a [f32]; 2],
    activation: Activation,
    dropped: Dropout,
    keep: bool,
}

impl Forward<'_> {
    fn share(
        &self,
        active: [&[f32]; 2],
        x: &[f32],
        share: &Range<usize>,
        y: &mut [f32],
        kept: &mut Vec<Part>,
    ) {
        let &Self { isa, layers: [first, second], biases, .. } = self;
        let part = part_len(features(self.layers));
        let take = |features| spare::take(features, part.min(share.len()));
        let [mut x_part, mut y_part] = [first.width(), second.rows()].map(take);
        for positions in parts(share, part) {
            let count = positions.len();
            let mut hidden = Part { units: take(first.rows()), before: Matrix::default() };
            by_feature(isa, of(x, &positions, first.width()), [count, first.width(), 1], &mut x_part);
            let epilogue = match self.activation {
                Activation::Relu => Epilogue::BiasRelu(biases[0]),
                Activation::Gelu => {
                    hidden.before = take(first.rows());
                    Epilogue::BiasGelu { bias: biases[0], pre: &mut hidden.before }
                }
            };
            spmm(isa, first.weight.pattern().active(), active[0], &x_part, epilogue, &mut hidden.units);
            drop_out(isa, self.dropped, &positions, &mut hidden.units);
            let bias = Epilogue::Bias(biases[1]);
            spmm(isa, second.weight.pattern().active(), active[1], &hidden.units, bias, &mut y_part);
            by_position(isa, &y_part, [count, second.rows(), 1], of_mut(y, share, &positions, second.rows()));
            if self.keep {
                kept.push(hidden);
            } else {
                hidden.give();
            }
        }
        [x_part, y_part].into_iter().for_each(spare::give);
    }
}

/// The gradients that are asked for, overwriting them: of x, of both layers' values (all of B) and of their biases.
#[pyfunction]
#[pyo3(signature = (first, second, values, hidden, x, dy, dx, dvalues, dbiases, threads))]
#[allow(clippy::too_many_arguments, reason = "what two layers take")]
pub(crate) fn feed_forward_backward(
    py: Python<'_>,
    first: &Weight,
    second: &Weight,
    values: [Bound<'_, PyCapsule>; 2],
    hidden: &Hidden,
    x: &Bound<'_, PyCapsule>,
    dy: &Bound<'_, PyCapsule>,
    dx: Option<&Bound<'_, PyCapsule>>,
    dvalues: [Option<Bound<'_, PyCapsule>>; 2],
    dbiases: [Option<Bound<'_, PyCapsule>>; 2],
    threads: usize,
) -> PyResult<()> {
    let layers = [Layer::of(first, &values[0])?, Layer::of(second, &values[1])?];
    check(layers)?;
    let [first, second] = layers;
    let [positions, units] = hidden.shape;
    if units != first.rows() || hidden.part != part_len(features(layers)) {
        return Err(wrong("the hidden units are of a forward pass of another shape"));
    }
    let x = Tensor::<f32>::shaped(x, &[positions, first.width()], "x")?.numbers();
    let dy = Tensor::<f32>::shaped(dy, &[positions, second.rows()], "dy")?.numbers();
    let claims = &mut Claims::reading(&[first.values, second.values, x, dy]);
    let dx = output(dx, &[positions, first.width()], "dx", claims)?;
    let [first_values, second_values] = &dvalues;
    let first_values = output(first_values.as_ref(), &[first.len()], "dvalues", claims)?;
    let second_values = output(second_values.as_ref(), &[second.len()], "dvalues", claims)?;
    let [first_bias, second_bias] = &dbiases;
    let first_bias = output(first_bias.as_ref(), &[first.rows()], "dbias", claims)?;
    let second_bias = output(second_bias.as_ref(), &[second.rows()], "dbias", claims)?;
    let isa = Isa::current().map_err(wrong)?;
    let backward = Backward { isa, layers, hidden, x, dy };
    threads::run_shares(py, threads, hidden.shares.len(), |team| {
        first.weight.with_scratch(|scratch, gathered| {
            second.weight.with_scratch(|other, other_gathered| {
                first.weight.transposed_values(first.values, scratch, gathered);
                second.weight.transposed_values(second.values, other, other_gathered);
                let gathered = [&gathered[..], other_gathered];
                first.weight.values_gradient(first_values, scratch, |first_values| {
                    second.weight.values_gradient(second_values, other, |second_values| {
                        let shares: Vec<_> = hidden.shares.iter().map(|(share, _)| share.clone()).collect();
                        let dxs = cut_some(dx, &shares, first.width());
                        let own = hidden.shares.iter().map(|(_, parts)| parts).zip(dxs).collect();
                        let gradients = [first_values, first_bias, second_values, second_bias];
                        add_up(team, shares, own, gradients, |share, (parts, dx), gradients| {
                            backward.share(gathered, &share, parts, dx, gradients);
                        });
                    });
                });
            });
        });
    })
}

/// A backward pass that is ready to run.
struct Backward<'a> {
    isa: Isa,
    layers: [Layer<'a>; 2],
    hidden: &'a Hidden,
    x: &'a [f32],
    dy: &'a [f32],
}

impl Backward<'_> {
    fn share(
        &self,
        gathered: [&[f32]; 2],
        share: &Range<usize>,
        kept: &[Part],
        mut dx: Option<&mut [f32]>,
        gradients: [Option<&mut [f32]>; 4],
    ) {
        let &Self { isa, layers: [first, second], hidden, x, dy } = self;
        let [mut first_values, mut first_bias, mut second_values, mut second_bias] = gradients;
        let take = |features| spare::take(features, hidden.part.min(share.len()));
        let widths = [first.width(), first.width(), first.rows(), second.rows()];
        let [mut x_part, mut dx_part, mut d_hidden, mut dy_part] = widths.map(take);
        for (positions, kept) in parts(share, hidden.part).zip(kept) {
            let count = positions.len();
            by_feature(isa, of(dy, &positions, second.rows()), [count, second.rows(), 1], &mut dy_part);
            if let Some(dbias) = &mut second_bias {
                add_row_sums(isa, &dy_part, dbias);
            }
            if let Some(dvalues) = &mut second_values {
                second.weight.add_gradient(isa, &dy_part, &kept.units, dvalues);
            }
            let epilogue = match hidden.activation {
                Activation::Relu => Epilogue::ReluGradient(&kept.units),
                Activation::Gelu => Epilogue::GeluGradient(&kept.before),
            };
            let transposed = second.weight.pattern().transposed().csr();
            spmm(isa, transposed, gathered[1], &dy_part, epilogue, &mut d_hidden);
            drop_out(isa, hidden.dropped, &positions, &mut d_hidden);
            if let Some(dbias) = &mut first_bias {
                add_row_sums(isa, &d_hidden, dbias);
            }
            if let Some(dvalues) = &mut first_values {
                by_feature(isa, of(x, &positions, first.width()), [count, first.width(), 1], &mut x_part);
                first.weight.add_gradient(isa, &d_hidden, &x_part, dvalues);
            }
            if let Some(dx) = &mut dx {
                let transposed = first.weight.pattern().transposed().csr();
                spmm(isa, transposed, gathered[0], &d_hidden, Epilogue::None, &mut dx_part);
                by_position(
                    isa,
                    &dx_part,
                    [count, first.width(), 1],
                    of_mut(dx, share, &positions, first.width()),
                );
            }
        }
        [x_part, dx_part, d_hidden, dy_part].into_iter().for_each(spare::give);
    }
}
