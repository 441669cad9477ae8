//! The kernels' naive twins: what each computes, in plain loops that sum in `f64`.
//!
//! Tests compare every kernel with them on every instruction set, and benchmarks check a result before timing it, row by
//! row where all rows would take too long.

mod attention;
mod convolution;

pub use attention::{AttentionOperands, attention, attention_gradient, numbers};
pub use convolution::{convolution, convolution_input_gradient, convolution_weight_gradient};

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

/// The matrix with every number rounded to the nearest bf16, ties to even, and subnormal ones to zero: what
/// [`sddmm_bf16`](crate::sddmm_bf16) computes with, so that [`sddmm`] of two such matrices is its twin.
pub fn rounded_to_bf16(matrix: &Matrix) -> Matrix {
    let mut rounded = matrix.clone();
    for feature in 0..rounded.features() {
        rounded.row_mut(feature).iter_mut().for_each(|x| *x = bf16(*x));
    }
    rounded
}

fn bf16(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    if x.is_subnormal() {
        return 0.0_f32.copysign(x);
    }
    // A half of the last place that stays, a bit less where that is even: what carries over rounds up.
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
}

#[cfg(test)]
mod tests {
    use super::bf16;

    #[test]
    fn rounds_to_the_nearest_bf16_and_ties_to_even() {
        let last = 2.0_f32.powi(-7);
        for (x, want) in [
            (0.0, 0.0),
            (1.0 + 0.5 * last, 1.0),
            (1.0 + 0.501 * last, 1.0 + last),
            (1.0 + 1.5 * last, 1.0 + 2.0 * last),
            (-1.0 - 0.75 * last, -1.0 - last),
            (2.0 - 0.25 * last, 2.0),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
            (f32::MIN_POSITIVE, f32::MIN_POSITIVE),
            (f32::MIN_POSITIVE / 2.0, 0.0),
        ] {
            assert_eq!(bf16(x), want, "{x}");
        }
        assert!(bf16(f32::NAN).is_nan());
    }
}
