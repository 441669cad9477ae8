//! The kernels' naive twins: what each computes, in plain loops that sum in `f64`.
//!
//! Tests compare every kernel with them on every instruction set, and benchmarks check a result before timing it.

use crate::{Csr, Matrix};

/// `y = W·x`, with `W` of structure `csr` and `values`.
pub fn spmm(csr: &Csr, values: &[f32], x: &Matrix) -> Matrix {
    let mut y = Matrix::zeros(csr.rows(), x.positions());
    for row in 0..csr.rows() {
        for position in 0..x.positions() {
            let products = csr
                .row_entries(row)
                .map(|entry| f64::from(values[entry]) * f64::from(x.get(csr.column(entry), position)));
            y.row_mut(row)[position] = products.sum::<f64>() as f32;
        }
    }
    y
}

/// `gradient[e] = Σₚ dy[row(e), p] × x[column(e), p]` for every entry `e` of `csr`.
pub fn sddmm(csr: &Csr, dy: &Matrix, x: &Matrix) -> Vec<f32> {
    let dot = |row: usize, column: usize| {
        let products = (0..x.positions()).map(|p| f64::from(dy.get(row, p)) * f64::from(x.get(column, p)));
        products.sum::<f64>() as f32
    };
    let mut gradient = vec![0.0; csr.entries()];
    for row in 0..csr.rows() {
        csr.row_entries(row).for_each(|entry| gradient[entry] = dot(row, csr.column(entry)));
    }
    gradient
}
