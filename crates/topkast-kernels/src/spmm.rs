//! Sparse × dense: the forward product and, on the transposed structure, the input gradient.
//!
//! For each row of W and panel of positions the sums stay in registers while the row's entries stream by:
//! `sum[j] += value × x[column][j]`, one load for each fused multiply-add. Sums leave the registers only between blocks of
//! columns (see the walk in `blocks`) and, with the epilogue applied, at the end.

use crate::blocks::{Column, Piece, Strip, Visit, walk};
use crate::share::for_each_share;
use crate::simd::Simd;
use crate::{Buffer, Csr, Isa, Kernel, Matrix, Transposed};
use std::ops::Range;

/// What happens to each output in the store that completes it, which saves a pass over the matrix.
#[derive(Clone, Copy, Debug)]
pub enum Epilogue<'a> {
    /// Nothing.
    None,
    /// The row's bias is added; one number for each row of the weight.
    Bias(&'a [f32]),
    /// The row's bias is added, then negative sums become zero; NaN stays.
    BiasRelu(&'a [f32]),
}

impl Epilogue<'_> {
    fn bias(&self) -> Option<&[f32]> {
        match self {
            Self::None => None,
            Self::Bias(bias) | Self::BiasRelu(bias) => Some(bias),
        }
    }

    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, row: usize, sum: S::Vector) -> S::Vector {
        match self {
            Self::None => sum,
            Self::Bias(bias) => simd.add(sum, simd.splat(bias[row])),
            Self::BiasRelu(bias) => simd.max(simd.splat(0.0), simd.add(sum, simd.splat(bias[row]))),
        }
    }
}

/// `y = W·x`, `[rows × width] · [width × positions]`, then `epilogue`; `y` takes the shape `[rows × positions]` and is
/// overwritten. `values` holds W's numbers in the order of `csr`'s entries.
///
/// Each output is summed in the order of its row's entries, for any number of threads.
///
/// # Panics
/// If `values` has not one number for each entry, `x` not one feature for each column, or a bias not one number for each
/// row.
pub fn spmm(isa: Isa, csr: &Csr, values: &[f32], x: &Matrix, epilogue: Epilogue<'_>, y: &mut Matrix) {
    assert_eq!(values.len(), csr.entries(), "there must be one value for each entry");
    assert_eq!(x.features(), csr.width(), "x must have one feature for each column of the weight");
    if let Some(bias) = epilogue.bias() {
        assert_eq!(bias.len(), csr.rows(), "there must be one bias for each row of the weight");
    }
    y.ensure(csr.rows(), x.positions());
    let stride = y.stride();
    for_each_share(csr.offsets(), y.padded_mut(), &|row| row * stride, &|rows, y| {
        isa.run(Share { csr, values, x, epilogue, rows, y });
    });
}

/// `dx = Wᵀ·dy`, `[width × rows] · [rows × positions]`; `dx` takes the shape `[width × positions]` and is overwritten.
///
/// `values` are in the order of the structure that `transposed` was made from; they are copied to `gathered` in the
/// transposed order, which costs little beside the product and leaves it streaming.
///
/// # Panics
/// If `values` has not one number for each entry, `dy` not one feature for each row of W, or `transposed.order` names
/// entries that do not exist.
pub fn spmm_transposed(
    isa: Isa,
    transposed: &Transposed,
    values: &[f32],
    dy: &Matrix,
    gathered: &mut Buffer,
    dx: &mut Matrix,
) {
    let Transposed { csr, order } = transposed;
    assert_eq!(values.len(), csr.entries(), "there must be one value for each entry");
    assert_eq!(order.len(), csr.entries(), "the order must name one entry for each entry");
    if gathered.len() != values.len() {
        gathered.reset(values.len());
    }
    let starts = csr.starts();
    for_each_share(starts, gathered, &|run| starts[run] as usize, &|runs, gathered| {
        let order = &order[starts[runs.start] as usize..][..gathered.len()];
        for (value, &entry) in gathered.iter_mut().zip(order) {
            *value = values[entry as usize];
        }
    });
    spmm(isa, csr, gathered, dy, Epilogue::None, dx);
}

/// Consecutive rows of W and of y.
struct Share<'a> {
    csr: &'a Csr,
    values: &'a [f32],
    x: &'a Matrix,
    epilogue: Epilogue<'a>,
    rows: Range<usize>,
    y: &'a mut [f32],
}

impl Kernel for Share<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        assert_eq!(self.y.len(), self.rows.len() * self.x.stride());
        let rows = self.rows.clone();
        walk(simd, self.csr, |_| rows.clone(), self.x, &mut self);
    }
}

impl<S: Simd> Visit<S> for Share<'_> {
    const WIDEST: usize = S::PANEL;

    #[inline(always)]
    unsafe fn visit<const N: usize, C: Column>(&mut self, simd: S, strip: &Strip<'_, C>, piece: &Piece) {
        let Self { values, epilogue, .. } = *self;
        let stride = self.x.stride();
        let positions = self.x.positions().saturating_sub(piece.position);
        assert!(self.y.len() == strip.rows.len() * stride && piece.position + N * S::LANES <= stride);
        let y = self.y.as_mut_ptr().wrapping_add(piece.position);
        for i in 0..strip.rows.len() {
            // SAFETY: the strip has this row.
            let (start, columns) = unsafe { strip.run(i) };
            let out = y.wrapping_add(i * stride);
            // SAFETY: there is one value for each entry. Gain: as in the walk.
            let values = unsafe { values.get_unchecked(start..start + columns.len()) };
            let mut sums = [simd.splat(0.0); N];
            if !piece.first {
                for (j, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: there is a row of y for each of the strip's, with room for N vectors at the position, as
                    // asserted. Gain: no bounds are checked for each short run.
                    *sum = unsafe { simd.load(out.add(j * S::LANES)) };
                }
            }
            for (&value, &column) in values.iter().zip(columns) {
                let (value, x) = (simd.splat(value), piece.column(column));
                for (j, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: the walk vouches for N vectors at each of these columns.
                    *sum = simd.mul_add(value, unsafe { simd.load(x.add(j * S::LANES)) }, *sum);
                }
            }
            if piece.last {
                for (j, sum) in sums.iter_mut().enumerate() {
                    *sum = epilogue.apply(simd, strip.rows.start + i, *sum);
                    if positions < N * S::LANES {
                        // A bias, or an infinite value, must not get into the padding.
                        *sum = simd.keep_first(*sum, positions.saturating_sub(j * S::LANES));
                    }
                }
            }
            for (j, &sum) in sums.iter().enumerate() {
                // SAFETY: as for the loads of `out`.
                unsafe { simd.store(out.add(j * S::LANES), sum) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{Columns, naive};
    use proptest::prelude::*;

    /// Checks every epilogue and the transposed product on every instruction set.
    fn check(csr: &Csr, positions: usize, seed: u64) {
        let mut random = Random::new(seed);
        let values = random.values(csr.entries());
        let bias = random.values(csr.rows());
        let x = random.matrix(csr.width(), positions);
        let mut plain = naive::spmm(csr, &values, &x);
        let mut sizes = naive::spmm(csr, &magnitudes(&values), &matrix_magnitudes(&x));
        let mut biased = plain.clone();
        let mut relu = plain.clone();
        for (row, &bias) in bias.iter().enumerate() {
            biased.row_mut(row).iter_mut().for_each(|y| *y += bias);
            relu.row_mut(row).iter_mut().for_each(|y| *y = (*y + bias).max(0.0));
            sizes.row_mut(row).iter_mut().for_each(|size| *size += bias.abs());
        }
        // Wrong numbers everywhere, to see that all are overwritten.
        let mut y = random.matrix(csr.rows(), positions);
        for isa in Isa::available() {
            for (epilogue, want) in [
                (Epilogue::None, &plain),
                (Epilogue::Bias(&bias), &biased),
                (Epilogue::BiasRelu(&bias), &relu),
            ] {
                spmm(isa, csr, &values, &x, epilogue, &mut y);
                assert_matrix_close(&y, want, &sizes, csr.width());
            }
        }

        let transposed = csr.transposed();
        let by_column: Vec<f32> = transposed.order.iter().map(|&entry| values[entry as usize]).collect();
        let dy = random.matrix(csr.rows(), positions);
        plain = naive::spmm(&transposed.csr, &by_column, &dy);
        sizes = naive::spmm(&transposed.csr, &magnitudes(&by_column), &matrix_magnitudes(&dy));
        let (mut gathered, mut dx) = (Buffer::zeros(1), Matrix::default());
        for isa in Isa::available() {
            spmm_transposed(isa, &transposed, &values, &dy, &mut gathered, &mut dx);
            assert_matrix_close(&dx, &plain, &sizes, csr.rows());
        }
    }

    #[test]
    fn odd_shapes() {
        for_odd_shapes(|csr, positions| check(csr, positions, 2));
    }

    #[test]
    fn blocks_of_columns_and_chunks_of_rows() {
        for_blocked_shapes(|csr, positions| check(csr, positions, 4));
    }

    #[test]
    fn wide_columns() {
        let csr = Random::new(5).csr(7, 70_000, 0.001);
        assert!(matches!(csr.columns(), Columns::U32(_)));
        check(&csr, 17, 6);
        check(&csr.transposed().csr, 3, 7);
    }

    #[test]
    fn threads_do_not_show() {
        let mut random = Random::new(8);
        for (rows, width, positions) in [(2, 300, 100), (700, 600, 100)] {
            let csr = random.csr(rows, width, 0.05);
            let transposed = csr.transposed();
            let values = random.values(csr.entries());
            let (x, dy) = (random.matrix(width, positions), random.matrix(rows, positions));
            assert_same_on_any_threads(|isa| {
                let (mut y, mut dx, mut gathered) = Default::default();
                spmm(isa, &csr, &values, &x, Epilogue::None, &mut y);
                spmm_transposed(isa, &transposed, &values, &dy, &mut gathered, &mut dx);
                [y.padded(), dx.padded()].concat()
            });
        }
    }

    #[test]
    fn infinities_stay_out_of_the_padding_and_nan_passes_relu() {
        let csr = Csr::new(1, vec![0, 1, 2], vec![0, 0]).unwrap();
        let x = Matrix::from_rows(1, 3, &[1.0; 3]);
        let mut y = Matrix::default();
        for isa in Isa::available() {
            spmm(isa, &csr, &[f32::INFINITY, f32::NAN], &x, Epilogue::BiasRelu(&[1.0, 1.0]), &mut y);
            assert_eq!(y.row(0), [f32::INFINITY; 3]);
            assert!(y.row(1).iter().all(|y| y.is_nan()));
            assert!([3, 15, 19, 31].iter().all(|&at| y.padded()[at] == 0.0));
        }
    }

    proptest! {
        #[test]
        fn any_shape((csr, positions, seed) in any_structure()) {
            check(&csr, positions, seed);
        }

        #[test]
        fn any_number_of_blocks((csr, positions, seed) in any_blocked_structure(), threads in 1usize..4) {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| check(&csr, positions, seed));
        }
    }
}
