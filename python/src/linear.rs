//! The three products of a linear layer, on tensors `[positions × features]`.

use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use std::ops::Range;
use topkast_kernels::{Epilogue, Isa, by_feature, by_position, row_sums, sddmm_pair_add, spmm};

use crate::tensor::{Claims, Tensor, output};
use crate::threads::Team;
use crate::weight::Weight;
use crate::{spare, threads, wrong};

/// Numbers of x and y, laid out by feature, that are worked on at a time: 2 MiB, which the L2 cache holds until the product after the
/// layout has used them.
const NUMBERS: usize = 512 << 10;

/// Positions in a panel of the kernels: parts of whole panels add up as all positions at once would.
const PANEL: usize = 64;

/// Positions in a part: by the shapes alone, as it shows in the rounding of sums.
fn part_len(rows: usize, width: usize) -> usize {
    (NUMBERS / (rows + width).max(1)).next_multiple_of(PANEL).max(PANEL)
}

/// Portions of the positions that have gradients of their own, which are added at the end: so many, or none, that these are small beside
/// x and dy. By the shapes alone, too.
const PORTIONS: usize = 16;
const OUTWEIGHED: usize = 8;

/// Cuts the positions into `count` shares of whole panels, of which the last ones may be empty.
fn shares(positions: usize, count: usize) -> Vec<Range<usize>> {
    let len = positions.div_ceil(count).next_multiple_of(PANEL);
    let at = |share: usize| positions.min(share * len);
    (0..count).map(|share| at(share)..at(share + 1)).collect()
}

/// The parts of a share.
fn parts(share: &Range<usize>, part: usize) -> impl Iterator<Item = Range<usize>> {
    let end = share.end;
    share.clone().step_by(part).map(move |start| start..end.min(start + part))
}

/// What there is of a tensor `[positions × features]` for these positions.
fn of<'a>(numbers: &'a [f32], positions: &Range<usize>, features: usize) -> &'a [f32] {
    &numbers[positions.start * features..positions.end * features]
}

/// Cuts a tensor `[positions × features]` into shares, which follow one another.
fn cut<'a>(mut numbers: &'a mut [f32], shares: &[Range<usize>], features: usize) -> Vec<&'a mut [f32]> {
    let mut head = |share: &Range<usize>| {
        let (head, tail) = std::mem::take(&mut numbers).split_at_mut(share.len() * features);
        numbers = tail;
        head
    };
    shares.iter().map(&mut head).collect()
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
    let count = if positions / PANEL >= threads { threads } else { 1 };
    threads::run_shares(py, threads, count, |team| {
        weight.with_scratch(|scratch, _| {
            let active = weight.active_values(values, scratch);
            let part = part_len(rows, width);
            let compute = |share: &Range<usize>, y: &mut [f32]| {
                let [mut x_part, mut y_part] =
                    [width, rows].map(|features| spare::take(features, part.min(share.len())));
                for positions in parts(share, part) {
                    let epilogue = bias.map_or(Epilogue::None, Epilogue::Bias);
                    by_feature(isa, of(x, &positions, width), [positions.len(), width, 1], &mut x_part);
                    spmm(isa, pattern.active(), active, &x_part, epilogue, &mut y_part);
                    let y = &mut y[(positions.start - share.start) * rows..][..positions.len() * rows];
                    by_position(isa, &y_part, [positions.len(), rows, 1], y);
                }
                [x_part, y_part].into_iter().for_each(spare::give);
            };
            let shares = shares(positions, count);
            let ys = cut(y, &shares, rows);
            team.each(shares.into_iter().zip(ys).collect(), |(share, y)| compute(&share, y));
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
    let backward = Backward { isa, weight, values, x, dy, positions };
    threads::run_shares(py, threads, backward.count(), |team| backward.run(team, dx, dvalues, dbias))
}

/// A backward pass that is ready to run.
struct Backward<'a> {
    isa: Isa,
    weight: &'a Weight,
    values: &'a [f32],
    x: &'a [f32],
    dy: &'a [f32],
    positions: usize,
}

/// A share of the positions: its part of dx, and the gradients that it adds to.
struct Portion<'a> {
    positions: Range<usize>,
    dx: Option<&'a mut [f32]>,
    /// Those of A, then those of B∖A, in the kernels' order.
    dvalues: Option<&'a mut [f32]>,
    dbias: Option<&'a mut [f32]>,
}

impl Backward<'_> {
    fn run(
        &self,
        team: Team,
        dx: Option<&mut [f32]>,
        dvalues: Option<&mut [f32]>,
        mut dbias: Option<&mut [f32]>,
    ) {
        dbias.iter_mut().for_each(|dbias| dbias.fill(0.0));
        self.weight.with_scratch(|scratch, gathered| {
            if dx.is_some() {
                let active = self.weight.active_values(self.values, scratch);
                self.weight.pattern().transposed().gather(active, gathered);
            }
            match dvalues {
                None => self.portions(team, dx, None, dbias, gathered),
                Some(dvalues) => self.weight.values_gradient(dvalues, scratch, |dvalues| {
                    dvalues.fill(0.0);
                    self.portions(team, dx, Some(dvalues), dbias, gathered);
                }),
            }
        });
    }

    /// How many portions there are.
    fn count(&self) -> usize {
        let pattern = self.weight.pattern();
        let numbers = self.positions.saturating_mul(pattern.rows() + pattern.width());
        let small = |count: usize| (count - 1).saturating_mul(pattern.backward_len()) <= numbers / OUTWEIGHED;
        let fits = |&count: &usize| count == 1 || count * PANEL <= self.positions && small(count);
        std::iter::successors(Some(PORTIONS), |count| Some(count / 2)).find(fits).unwrap_or(1)
    }

    /// Computes all portions and adds up their gradients.
    fn portions(
        &self,
        team: Team,
        dx: Option<&mut [f32]>,
        mut dvalues: Option<&mut [f32]>,
        mut dbias: Option<&mut [f32]>,
        gathered: &[f32],
    ) {
        let shares = shares(self.positions, self.count());
        let zeros =
            |gradient: &Option<&mut [f32]>| gradient.as_ref().map(|gradient| vec![0.0; gradient.len()]);
        let mut others: Vec<_> = shares[1..].iter().map(|_| (zeros(&dvalues), zeros(&dbias))).collect();
        let first = (dvalues.as_deref_mut(), dbias.as_deref_mut());
        let all = others.iter_mut().map(|(dvalues, dbias)| (dvalues.as_deref_mut(), dbias.as_deref_mut()));
        let mut dxs = dx.map(|dx| cut(dx, &shares, self.weight.pattern().width()).into_iter());
        let portions = std::iter::once(first).chain(all).zip(shares).map(|((dvalues, dbias), positions)| {
            let dx = dxs.as_mut().and_then(Iterator::next);
            Portion { positions, dx, dvalues, dbias }
        });
        team.each(portions.collect(), |portion| self.portion(portion, gathered));
        for (values, bias) in others {
            for (gradient, other) in [(dvalues.as_deref_mut(), values), (dbias.as_deref_mut(), bias)] {
                if let (Some(gradient), Some(other)) = (gradient, other) {
                    gradient.iter_mut().zip(other).for_each(|(gradient, other)| *gradient += other);
                }
            }
        }
    }

    /// Part after part of the positions, of which dy is laid out once for all products.
    fn portion(&self, portion: Portion<'_>, gathered: &[f32]) {
        let Portion { positions: share, mut dx, mut dvalues, mut dbias } = portion;
        let &Self { isa, weight, x, dy, .. } = self;
        let pattern = weight.pattern();
        let (rows, width, border) = (pattern.rows(), pattern.width(), pattern.active().entries());
        let part = part_len(rows, width);
        let take = |features| spare::take(features, part.min(share.len()));
        let [mut dy_part, mut x_part, mut dx_part] = [rows, width, width].map(take);
        let mut sums = vec![0.0; dbias.as_ref().map_or(0, |dbias| dbias.len())];
        for positions in parts(&share, part) {
            let count = positions.len();
            by_feature(isa, of(dy, &positions, rows), [count, rows, 1], &mut dy_part);
            if let Some(dbias) = &mut dbias {
                row_sums(isa, &dy_part, &mut sums);
                dbias.iter_mut().zip(&sums).for_each(|(dbias, sum)| *dbias += sum);
            }
            if let Some(dvalues) = &mut dvalues {
                by_feature(isa, of(x, &positions, width), [count, width, 1], &mut x_part);
                let gradients = dvalues.split_at_mut(border).into();
                sddmm_pair_add(isa, [pattern.active(), pattern.explore()], &dy_part, &x_part, gradients);
            }
            if let Some(dx) = &mut dx {
                spmm(isa, pattern.transposed().csr(), gathered, &dy_part, Epilogue::None, &mut dx_part);
                let dx = &mut dx[(positions.start - share.start) * width..][..count * width];
                by_position(isa, &dx_part, [count, width, 1], dx);
            }
        }
        [dy_part, x_part, dx_part].into_iter().for_each(spare::give);
    }
}
