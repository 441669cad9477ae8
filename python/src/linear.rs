//! The three products of a linear layer, on tensors `[positions × features]`.

use std::ops::Range;

use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use topkast_kernels::{Epilogue, Isa, Matrix, by_feature, by_position, row_sums, spmm};

use crate::portions::{Cuts, PANEL, add_up, cut, cut_some, each, of, of_mut};
use crate::tensor::{Claims, Tensor, output};
use crate::weight::Weight;
use crate::{spare, threads, wrong};

fn cuts(weight: &Weight, positions: usize) -> Cuts {
    let pattern = weight.pattern();
    Cuts::new(positions, None, pattern.rows() + pattern.width(), pattern.backward_len())
}

/// `y = x·Wᵀ + bias` with A alone: x is `[positions × inputs]`, y `[positions × outputs]`, values are of B.
#[pyfunction]
#[pyo3(signature = (weight, values, x, bias, y, threads))]
pub(crate) fn linear_forward(
    py: Python<'_>,
    weight: &Weight,
    values: &Bound<'_, PyCapsule>,
    x: &Bound<'_, PyCapsule>,
    bias: Option<&Bound<'_, PyCapsule>>,
    y: &Bound<'_, PyCapsule>,
    threads: usize,
) -> PyResult<()> {
    let pattern = weight.pattern();
    let (rows, width) = (pattern.rows(), pattern.width());
    let values = Tensor::<f32>::shaped(values, &[pattern.backward_len()], "values")?.numbers();
    let x = Tensor::<f32>::of(x, "x")?;
    let &[positions, features] = x.shape() else { return Err(wrong("x must have two dimensions")) };
    if features != width {
        return Err(wrong(format!("x has {features} features, the weight {width} columns")));
    }
    let x = x.numbers();
    let bias = bias.map(|bias| Tensor::<f32>::shaped(bias, &[rows], "bias")).transpose()?;
    let bias = bias.map(|bias| bias.numbers());
    let y = Tensor::<f32>::shaped(y, &[positions, rows], "y")?;
    let y = y.numbers_mut(&mut Claims::reading(&[values, x, bias.unwrap_or(&[])]))?;
    let isa = Isa::current().map_err(wrong)?;
    let cuts = cuts(weight, positions).into_shares(if positions / PANEL >= threads { threads } else { 1 });
    threads::run(py, threads, || {
        weight.with_scratch(|scratch, _| {
            let active = weight.active_values(values, scratch);
            let compute = |share: &Range<usize>, y: &mut [f32]| {
                let [mut x_part, mut y_part] =
                    [width, rows].map(|features| spare::take(features, cuts.part().min(share.len())));
                for positions in cuts.parts(share) {
                    let epilogue = bias.map_or(Epilogue::None, Epilogue::Bias);
                    by_feature(isa, of(x, &positions, width), [positions.len(), width, 1], &mut x_part);
                    spmm(isa, pattern.active(), active, &x_part, epilogue, &mut y_part);
                    let y = of_mut(y, share, &positions, rows);
                    by_position(isa, &y_part, [positions.len(), rows, 1], y);
                }
                [x_part, y_part].into_iter().for_each(spare::give);
            };
            let shares = cuts.shares();
            let ys = cut(y, &shares, rows);
            each(shares.into_iter().zip(ys), |(share, y)| compute(&share, y));
        });
    })
}

/// The gradients that are asked for, overwriting them: of x, of the values (all of B) and of the bias. Only the values' gradient needs `x`.
#[pyfunction]
#[pyo3(signature = (weight, values, x, dy, dx, dvalues, dbias, threads))]
#[allow(clippy::too_many_arguments, reason = "what the products take")]
pub(crate) fn linear_backward(
    py: Python<'_>,
    weight: &Weight,
    values: &Bound<'_, PyCapsule>,
    x: &Bound<'_, PyCapsule>,
    dy: &Bound<'_, PyCapsule>,
    dx: Option<&Bound<'_, PyCapsule>>,
    dvalues: Option<&Bound<'_, PyCapsule>>,
    dbias: Option<&Bound<'_, PyCapsule>>,
    threads: usize,
) -> PyResult<()> {
    let pattern = weight.pattern();
    let (rows, width, len) = (pattern.rows(), pattern.width(), pattern.backward_len());
    let values = Tensor::<f32>::shaped(values, &[len], "values")?.numbers();
    let dy = Tensor::<f32>::of(dy, "dy")?;
    let &[positions, features] = dy.shape() else { return Err(wrong("dy must have two dimensions")) };
    if features != rows {
        return Err(wrong(format!("dy has {features} features, the weight {rows} rows")));
    }
    let dy = dy.numbers();
    let x = Tensor::<f32>::shaped(x, &[positions, width], "x")?.numbers();
    let claims = &mut Claims::reading(&[values, dy, x]);
    let dx = output(dx, &[positions, width], "dx", claims)?;
    let dvalues = output(dvalues, &[len], "dvalues", claims)?;
    let dbias = output(dbias, &[rows], "dbias", claims)?;
    let isa = Isa::current().map_err(wrong)?;
    let backward = Backward { isa, weight, values, x, dy, cuts: cuts(weight, positions) };
    threads::run(py, threads, || backward.run(dx, dvalues, dbias))
}

/// A backward pass that is ready to run.
struct Backward<'a> {
    isa: Isa,
    weight: &'a Weight,
    values: &'a [f32],
    x: &'a [f32],
    dy: &'a [f32],
    cuts: Cuts,
}

impl Backward<'_> {
    fn run(&self, dx: Option<&mut [f32]>, dvalues: Option<&mut [f32]>, dbias: Option<&mut [f32]>) {
        let pattern = self.weight.pattern();
        let shares = self.cuts.shares();
        let dxs = cut_some(dx, &shares, pattern.width());
        self.weight.with_scratch(|scratch, gathered| {
            if dxs[0].is_some() {
                self.weight.transposed_values(self.values, scratch, gathered);
            }
            self.weight.values_gradient(dvalues, scratch, |dvalues| {
                add_up(shares, dxs, [dvalues, dbias], |share, dx, gradients| {
                    self.portion(&share, dx, gradients, gathered);
                });
            });
        });
    }

    /// Part after part of the positions, of which dy is laid out once for all products.
    fn portion(
        &self,
        share: &Range<usize>,
        mut dx: Option<&mut [f32]>,
        [mut dvalues, mut dbias]: [Option<&mut [f32]>; 2],
        gathered: &[f32],
    ) {
        let &Self { isa, weight, x, dy, .. } = self;
        let pattern = weight.pattern();
        let (rows, width) = (pattern.rows(), pattern.width());
        let take = |features| spare::take(features, self.cuts.part().min(share.len()));
        let [mut dy_part, mut x_part, mut dx_part] = [rows, width, width].map(take);
        for positions in self.cuts.parts(share) {
            let count = positions.len();
            by_feature(isa, of(dy, &positions, rows), [count, rows, 1], &mut dy_part);
            if let Some(dbias) = &mut dbias {
                add_row_sums(isa, &dy_part, dbias);
            }
            if let Some(dvalues) = &mut dvalues {
                by_feature(isa, of(x, &positions, width), [count, width, 1], &mut x_part);
                weight.add_gradient(isa, &dy_part, &x_part, dvalues);
            }
            if let Some(dx) = &mut dx {
                spmm(isa, pattern.transposed().csr(), gathered, &dy_part, Epilogue::None, &mut dx_part);
                by_position(isa, &dx_part, [count, width, 1], of_mut(dx, share, &positions, width));
            }
        }
        [dy_part, x_part, dx_part].into_iter().for_each(spare::give);
    }
}

/// Adds the gradient of a bias.
pub(crate) fn add_row_sums(isa: Isa, dy: &Matrix, dbias: &mut [f32]) {
    let mut sums = vec![0.0; dbias.len()];
    row_sums(isa, dy, &mut sums);
    dbias.iter_mut().zip(&sums).for_each(|(dbias, sum)| *dbias += sum);
}
