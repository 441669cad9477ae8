//! As `tiled_products`, of convolutions: each tile of θ⁰ is a convolution to fewer channels.

use std::ops::Range;

use topkast::SparseWeight;
use topkast_kernels::{Buffer, Convolution, Isa, Matrix};

use crate::linear::{ConvolutionScratch, convolution};

/// `y = θ⁰ ∗ x`.
pub(crate) fn forward(
    isa: Isa,
    weight: &SparseWeight,
    whole: &Convolution,
    x: &Matrix,
    scratch: &mut ConvolutionScratch,
    y: &mut Matrix,
) {
    let (mut theta, mut part) = (Buffer::default(), Matrix::default());
    y.ensure(weight.pattern().rows(), whole.output().positions());
    for rows in weight.tiles() {
        weight.initial_rows(rows.clone(), &mut theta);
        convolution::forward(isa, &of_rows(whole, &rows), &theta, x, scratch, &mut part);
        rows.enumerate().for_each(|(from, to)| y.row_mut(to).copy_from_slice(part.row(from)));
    }
}

/// `dx = θ⁰ᵀ ∗ dy`, tile after tile, so that sums have one order.
pub(crate) fn input_gradient(
    isa: Isa,
    weight: &SparseWeight,
    whole: &Convolution,
    dy: &Matrix,
    scratch: &mut ConvolutionScratch,
    dx: &mut Matrix,
) {
    let (mut theta, mut some, mut part) = (Buffer::default(), Matrix::default(), Matrix::default());
    dx.reset(whole.channels()[1], whole.input().positions());
    for rows in weight.tiles() {
        weight.initial_rows(rows.clone(), &mut theta);
        some.copy_rows(dy, rows.clone());
        convolution::input_gradient(isa, &of_rows(whole, &rows), &theta, &some, scratch, &mut part);
        for row in 0..dx.features() {
            dx.row_mut(row).iter_mut().zip(part.row(row)).for_each(|(sum, part)| *sum += part);
        }
    }
}

/// The convolution to some of the output channels.
fn of_rows(whole: &Convolution, rows: &Range<usize>) -> Convolution {
    let channels = [rows.len(), whole.channels()[1]];
    Convolution::new(whole.window(), channels, whole.input()).expect("a window that fits the maps already")
}
