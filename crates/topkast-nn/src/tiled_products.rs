//! Dense products with the θ⁰ of a sparse weight that has not been started, as SNIP needs them once: θ⁰ goes by in tiles of rows, and
//! nothing of the dense weight's size ever is.

use topkast::SparseWeight;
use topkast_kernels::{Buffer, Isa, Matrix, dense_forward, dense_input_gradient};

/// `y = θ⁰·x`.
pub(crate) fn forward(isa: Isa, weight: &SparseWeight, x: &Matrix, y: &mut Matrix) {
    let (mut theta, mut part) = (Buffer::default(), Matrix::default());
    y.ensure(weight.pattern().rows(), x.positions());
    for rows in weight.tiles() {
        weight.initial_rows(rows.clone(), &mut theta);
        dense_forward(isa, rows.len(), &theta, x, &mut part);
        rows.enumerate().for_each(|(from, to)| y.row_mut(to).copy_from_slice(part.row(from)));
    }
}

/// `dx = θ⁰ᵀ·dy`, tile after tile, so that sums have one order.
pub(crate) fn input_gradient(isa: Isa, weight: &SparseWeight, dy: &Matrix, dx: &mut Matrix) {
    let width = weight.pattern().width();
    let (mut theta, mut some, mut part) = (Buffer::default(), Matrix::default(), Matrix::default());
    dx.reset(width, dy.positions());
    for rows in weight.tiles() {
        weight.initial_rows(rows.clone(), &mut theta);
        some.copy_rows(dy, rows);
        dense_input_gradient(isa, width, &theta, &some, &mut part);
        for row in 0..width {
            dx.row_mut(row).iter_mut().zip(part.row(row)).for_each(|(sum, part)| *sum += part);
        }
    }
}
