//! Operands of one head and stream as products want them: close together, by feature or by position.

use std::ops::Range;

use crate::simd::{GROUP, Simd};
use crate::{Isa, Kernel};

/// Some columns of some rows of a matrix that lies row by row: all of `data` from where they begin.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) data: &'a [f32],
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl<'a> Part<'a> {
    /// These of the columns.
    pub(super) fn columns(self, columns: Range<usize>) -> Self {
        let data = self.data.get(columns.start..).unwrap_or_default();
        Self { data, columns: columns.len(), ..self }
    }

    pub(super) fn row(&self, row: usize) -> &'a [f32] {
        &self.data[row * self.stride..][..self.columns]
    }
}

/// `to` becomes a copy, with rows `stride` apart.
pub(super) fn copy(from: Part<'_>, to: &mut [f32], stride: usize) {
    for (row, to) in (0..from.rows).zip(to.chunks_mut(stride)) {
        to[..from.columns].copy_from_slice(from.row(row));
    }
}

/// `to` becomes a copy with the columns in reverse, with rows `stride` apart.
pub(super) fn copy_reversed(from: Part<'_>, to: &mut [f32], stride: usize) {
    for (row, to) in (0..from.rows).zip(to.chunks_mut(stride)) {
        to.iter_mut().zip(from.row(row).iter().rev()).for_each(|(to, &from)| *to = from);
    }
}

/// `to = (from + bias) × scale` with the rows' bias, if there is one, with rows `stride` apart.
pub(super) fn copy_biased(
    isa: Isa,
    from: Part<'_>,
    bias: Option<&[f32]>,
    scale: f32,
    to: &mut [f32],
    stride: usize,
) {
    isa.run(CopyBiased { from, bias, scale, to, stride });
}

struct CopyBiased<'a> {
    from: Part<'a>,
    bias: Option<&'a [f32]>,
    scale: f32,
    to: &'a mut [f32],
    stride: usize,
}

impl Kernel for CopyBiased<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for row in 0..self.from.rows {
            let from = self.from.row(row);
            let (bias, to) =
                (self.bias.map_or(0.0, |bias| bias[row]), &mut self.to[row * self.stride..][..from.len()]);
            to.iter_mut().zip(from).for_each(|(to, &from)| *to = (from + bias) * self.scale);
        }
    }
}

/// `b = a + biases[1]` and then `a += biases[0]`, for every row as long as the biases, `stride` apart.
pub(super) fn add_biases(isa: Isa, biases: [&[f32]; 2], a: &mut [f32], b: &mut [f32], stride: usize) {
    isa.run(AddBiases { biases, a, b, stride });
}

struct AddBiases<'a> {
    biases: [&'a [f32]; 2],
    a: &'a mut [f32],
    b: &'a mut [f32],
    stride: usize,
}

impl Kernel for AddBiases<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let [to_a, to_b] = self.biases;
        for (a, b) in self.a.chunks_exact_mut(self.stride).zip(self.b.chunks_exact_mut(self.stride)) {
            for ((a, b), (to_a, to_b)) in a.iter_mut().zip(b).zip(to_a.iter().zip(to_b)) {
                *b = *a + to_b;
                *a += to_a;
            }
        }
    }
}

/// Row `r`, column `c` of `from` becomes row `c`, column `r` of `to`, whose rows are `stride` apart.
pub(super) fn transpose(isa: Isa, from: Part<'_>, to: &mut [f32], stride: usize) {
    isa.run(Transpose { from, to, stride });
}

struct Transpose<'a> {
    from: Part<'a>,
    to: &'a mut [f32],
    stride: usize,
}

impl Kernel for Transpose<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { from, to, stride } = self;
        let (rows, columns) = (from.rows / GROUP * GROUP, from.columns / GROUP * GROUP);
        // Along the rows of the side that is in memory, not in scratch.
        if from.stride > stride {
            for row in (0..rows).step_by(GROUP) {
                for column in (0..columns).step_by(GROUP) {
                    square(s, from, row, column, to, stride);
                }
            }
        } else {
            for column in (0..columns).step_by(GROUP) {
                for row in (0..rows).step_by(GROUP) {
                    square(s, from, row, column, to, stride);
                }
            }
        }
        // What is left of no whole square.
        for row in 0..from.rows {
            let first = if row < rows { columns } else { 0 };
            for (column, &x) in from.row(row).iter().enumerate().skip(first) {
                to[column * stride + row] = x;
            }
        }
    }
}

#[inline(always)]
fn square<S: Simd>(s: S, from: Part<'_>, row: usize, column: usize, to: &mut [f32], stride: usize) {
    let from_stride = from.stride;
    let from = &from.data[row * from_stride + column..];
    let to = &mut to[column * stride + row..];
    let mut rows = [[0.0; GROUP]; GROUP];
    for (r, row) in rows.iter_mut().enumerate() {
        row.copy_from_slice(&from[r * from_stride..][..GROUP]);
    }
    for (c, column) in s.transpose(rows).iter().enumerate() {
        to[c * stride..][..GROUP].copy_from_slice(column);
    }
}
