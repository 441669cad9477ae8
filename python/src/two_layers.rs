//! Two linear layers and what is between them as one: hidden units stay as the kernels have them, and are never laid out for PyTorch.

use std::ops::Range;

use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use topkast_kernels::{Epilogue, Isa, by_feature, by_position, spmm};

use crate::between::{Between, Part};
use crate::linear::add_row_sums;
use crate::portions::{Cuts, add_up, cut, cut_some, each, of, of_mut};
use crate::tensor::{Claims, Tensor, output};
use crate::weight::Weight;
use crate::{spare, threads, wrong};

/// What a forward pass leaves for the backward pass: hidden units, by share and part of the positions.
#[pyclass(frozen, module = "topkast._topkast")]
pub(crate) struct Hidden {
    between: Between,
    cuts: Cuts,
    /// The first layer's outputs.
    rows: usize,
    shares: Vec<(Range<usize>, Vec<Part>)>,
}

#[pymethods]
impl Hidden {
    /// Bytes held.
    #[getter]
    fn nbytes(&self) -> usize {
        self.shares.iter().flat_map(|(_, parts)| parts).map(Part::bytes).sum()
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

/// Both layers, and what is between them.
#[derive(Clone, Copy)]
struct Both<'a> {
    first: Layer<'a>,
    second: Layer<'a>,
    between: Between,
}

impl<'a> Both<'a> {
    fn of(
        weights: [&'a Weight; 2],
        values: &'a [Bound<'_, PyCapsule>; 2],
        between: Between,
    ) -> PyResult<Self> {
        let [first, second] = [Layer::of(weights[0], &values[0])?, Layer::of(weights[1], &values[1])?];
        let units = between.units(first.rows())?;
        if units != second.width() {
            return Err(wrong(format!("the second layer has {} inputs, not {units}", second.width())));
        }
        Ok(Self { first, second, between })
    }

    /// How so many positions are cut.
    fn cuts(self, positions: usize) -> PyResult<Cuts> {
        let together = self.between.together();
        if together.is_some_and(|together| !positions.is_multiple_of(together)) {
            return Err(wrong("x must hold whole streams"));
        }
        let features = self.first.width() + self.between.kept(self.first.rows()) + self.second.rows();
        Ok(Cuts::new(positions, together, features, self.first.len() + self.second.len()))
    }
}

/// `y = W₂·between(W₁·x + b₁) + b₂` with A alone: x is `[positions × inputs]`, y `[positions × outputs]`. With `keep` returns what
/// `two_layers_backward` takes.
#[pyfunction]
#[pyo3(signature = (first, second, values, biases, between, x, y, keep, threads))]
#[allow(clippy::too_many_arguments, reason = "what two layers take")]
pub(crate) fn two_layers_forward(
    py: Python<'_>,
    first: &Weight,
    second: &Weight,
    values: [Bound<'_, PyCapsule>; 2],
    biases: [Option<Bound<'_, PyCapsule>>; 2],
    between: &Between,
    x: &Bound<'_, PyCapsule>,
    y: &Bound<'_, PyCapsule>,
    keep: bool,
    threads: usize,
) -> PyResult<Option<Hidden>> {
    let both = Both::of([first, second], &values, *between)?;
    let Both { first, second, between } = both;
    let x = Tensor::<f32>::of(x, "x")?;
    let &[positions, width] = x.shape() else { return Err(wrong("x must have two dimensions")) };
    if width != first.width() {
        return Err(wrong(format!("x has {width} features, the weight {} columns", first.width())));
    }
    let x = x.numbers();
    let bias = |at: usize, rows: usize| {
        let bias = biases[at].as_ref().map(|bias| Tensor::<f32>::shaped(bias, &[rows], "bias"));
        Ok::<_, PyErr>(bias.transpose()?.map(|bias| bias.numbers()))
    };
    let biases = [bias(0, first.rows())?, bias(1, second.rows())?];
    let y = Tensor::<f32>::shaped(y, &[positions, second.rows()], "y")?;
    let read = [first.values, second.values, x, biases[0].unwrap_or(&[]), biases[1].unwrap_or(&[])];
    let y = y.numbers_mut(&mut Claims::reading(&read))?;
    let zeros = vec![0.0; first.rows().max(second.rows())];
    let biases = [biases[0].unwrap_or(&zeros[..first.rows()]), biases[1].unwrap_or(&zeros[..second.rows()])];
    let isa = Isa::current().map_err(wrong)?;
    let cuts = both.cuts(positions)?;
    let forward = Forward { isa, both, biases, cuts, keep };
    threads::run(py, threads, || {
        first.weight.with_scratch(|scratch, _| {
            second.weight.with_scratch(|other, _| {
                let active = [
                    first.weight.active_values(first.values, scratch),
                    second.weight.active_values(second.values, other),
                ];
                let shares = cuts.shares();
                let ys = cut(y, &shares, second.rows());
                let mut kept: Vec<_> = shares.into_iter().map(|share| (share, Vec::new())).collect();
                each(kept.iter_mut().zip(ys), |((share, kept), y)| forward.share(active, x, share, y, kept));
                keep.then(|| Hidden { between, cuts, rows: first.rows(), shares: kept })
            })
        })
    })
}

/// A forward pass that is ready to run.
struct Forward<'a> {
    isa: Isa,
    both: Both<'a>,
    biases: [&'a [f32]; 2],
    cuts: Cuts,
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
        let &Self { isa, both: Both { first, second, between }, biases, .. } = self;
        let take = |features| spare::take(features, self.cuts.part().min(share.len()));
        let [mut x_part, mut y_part] = [first.width(), second.rows()].map(take);
        for positions in self.cuts.parts(share) {
            let count = positions.len();
            by_feature(isa, of(x, &positions, first.width()), [count, first.width(), 1], &mut x_part);
            let hidden = between.forward(isa, [positions.start, count], biases[0], |epilogue, to| {
                spmm(isa, first.weight.pattern().active(), active[0], &x_part, epilogue, to);
            });
            let bias = Epilogue::Bias(biases[1]);
            spmm(isa, second.weight.pattern().active(), active[1], &hidden.units, bias, &mut y_part);
            let y = of_mut(y, share, &positions, second.rows());
            by_position(isa, &y_part, [count, second.rows(), 1], y);
            if self.keep {
                kept.push(hidden);
            }
        }
        [x_part, y_part].into_iter().for_each(spare::give);
    }
}

/// The gradients that are asked for, overwriting them: of x, of both layers' values (all of B) and of their biases.
#[pyfunction]
#[pyo3(signature = (first, second, values, hidden, x, dy, dx, dvalues, dbiases, threads))]
#[allow(clippy::too_many_arguments, reason = "what two layers take")]
pub(crate) fn two_layers_backward(
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
    let both = Both::of([first, second], &values, hidden.between)?;
    let Both { first, second, .. } = both;
    let positions = hidden.cuts.positions();
    if hidden.rows != first.rows() {
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
    let backward = Backward { isa, both, hidden, x, dy };
    threads::run(py, threads, || {
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
                        add_up(shares, own, gradients, |share, (parts, dx), gradients| {
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
    both: Both<'a>,
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
        let &Self { isa, both: Both { first, second, between }, hidden, x, dy } = self;
        let [mut first_values, mut first_bias, mut second_values, mut second_bias] = gradients;
        let take = |features| spare::take(features, hidden.cuts.part().min(share.len()));
        let widths = [first.width(), first.width(), second.width(), first.rows(), second.rows()];
        let [mut x_part, mut dx_part, mut d_units, mut d_before, mut dy_part] = widths.map(take);
        for (positions, kept) in hidden.cuts.parts(share).zip(kept) {
            let count = positions.len();
            by_feature(isa, of(dy, &positions, second.rows()), [count, second.rows(), 1], &mut dy_part);
            if let Some(dbias) = &mut second_bias {
                add_row_sums(isa, &dy_part, dbias);
            }
            if let Some(dvalues) = &mut second_values {
                second.weight.add_gradient(isa, &dy_part, &kept.units, dvalues);
            }
            let scratch = [&mut d_units, &mut d_before];
            let d_first = between.backward(isa, positions.start, kept, scratch, |epilogue, to| {
                spmm(isa, second.weight.pattern().transposed().csr(), gathered[1], &dy_part, epilogue, to);
            });
            if let Some(dbias) = &mut first_bias {
                add_row_sums(isa, d_first, dbias);
            }
            if let Some(dvalues) = &mut first_values {
                by_feature(isa, of(x, &positions, first.width()), [count, first.width(), 1], &mut x_part);
                first.weight.add_gradient(isa, d_first, &x_part, dvalues);
            }
            if let Some(dx) = &mut dx {
                let transposed = first.weight.pattern().transposed().csr();
                spmm(isa, transposed, gathered[0], d_first, Epilogue::None, &mut dx_part);
                let dx = of_mut(dx, share, &positions, first.width());
                by_position(isa, &dx_part, [count, first.width(), 1], dx);
            }
        }
        [x_part, dx_part, d_units, d_before, dy_part].into_iter().for_each(spare::give);
    }
}
