//! The kernels' naive twins: what each computes, in plain loops that sum in `f64`.
//!
//! Tests compare every kernel with them on every instruction set, and benchmarks check a result before timing it, row by
//! row where all rows would take too long.

use crate::{Csr, Matrix};

/// `y = W·x`, with `W` of structure `csr` and `values`.
pub fn spmm(csr: &Csr, values: &[f32], x: &Matrix) -> Matrix {
    let mut y = Matrix::zeros(csr.rows(), x.positions());
    for row in 0..csr.rows() {
        y.row_mut(row).copy_from_slice(&spmm_row(csr, values, x, row));
    }
    y
}

/// One row of [`spmm`].
pub fn spmm_row(csr: &Csr, values: &[f32], x: &Matrix, row: usize) -> Vec<f32> {
    let sum = |position| {
        let products = csr
            .row_entries(row)
            .map(|entry| f64::from(values[entry]) * f64::from(x.get(csr.column(entry), position)));
        products.sum::<f64>() as f32
    };
    (0..x.positions()).map(sum).collect()
}

/// `gradient[e] = Σₚ dy[row(e), p] × x[column(e), p]` for every entry `e` of `csr`.
pub fn sddmm(csr: &Csr, dy: &Matrix, x: &Matrix) -> Vec<f32> {
    let mut gradient = vec![0.0; csr.entries()];
    for row in 0..csr.rows() {
        sddmm_row(csr, dy, x, row).for_each(|(entry, sum)| gradient[entry] = sum);
    }
    gradient
}

/// The entries of one row with their numbers in [`sddmm`].
pub fn sddmm_row<'a>(
    csr: &'a Csr,
    dy: &'a Matrix,
    x: &'a Matrix,
    row: usize,
) -> impl Iterator<Item = (usize, f32)> + 'a {
    csr.row_entries(row).map(move |entry| {
        let pairs = dy.row(row).iter().zip(x.row(csr.column(entry)));
        (entry, pairs.map(|(&dy, &x)| f64::from(dy) * f64::from(x)).sum::<f64>() as f32)
    })
}
