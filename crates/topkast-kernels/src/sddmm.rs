//! Sampled dense × dense: the gradient of the weights, for the entries there are and no others.
//!
//! For each row of W a panel of dy stays in registers. Its entries come in groups of [`GROUP`], each with a vector of
//! sums of its own, `sum[e] += dy[j] × x[column(e)][j]`, and one joint horizontal reduction then yields the group's
//! gradients. Every entry is reduced in the same tree, so its gradient does not depend on which others are in its group.

use crate::blocks::{Column, Piece, Strip, Visit, walk};
use crate::share::for_each_share;
use crate::simd::{GROUP, Simd};
use crate::{Csr, Isa, Kernel, Matrix};
use std::ops::Range;

/// `gradient[e] = Σₚ dy[row(e), p] × x[column(e), p]` for every entry `e` of `csr`, overwriting `gradient`; `dy` is
/// `[rows × positions]` and `x` `[width × positions]`.
///
/// Panels of positions are added in ascending order, for any number of threads.
///
/// # Panics
/// If `gradient` has not one number for each entry, `dy` not one feature for each row, `x` not one for each column, or
/// the two differ in positions.
pub fn sddmm(isa: Isa, csr: &Csr, dy: &Matrix, x: &Matrix, gradient: &mut [f32]) {
    assert_eq!(gradient.len(), csr.entries(), "there must be one gradient for each entry");
    assert_eq!(dy.features(), csr.rows(), "dy must have one feature for each row of the weight");
    assert_eq!(x.features(), csr.width(), "x must have one feature for each column of the weight");
    assert_eq!(dy.positions(), x.positions(), "dy and x must have the same positions");
    if x.positions() == 0 {
        return gradient.fill(0.0);
    }
    let starts = csr.starts();
    for_each_share(starts, gradient, &|run| starts[run] as usize, &|runs, gradient| {
        isa.run(Share { csr, dy, x, runs, gradient });
    });
}

/// Consecutive runs of entries, and their gradients.
struct Share<'a> {
    csr: &'a Csr,
    dy: &'a Matrix,
    x: &'a Matrix,
    /// Run `b × rows + r` is row `r` in block `b`.
    runs: Range<usize>,
    gradient: &'a mut [f32],
}

impl Kernel for Share<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let (rows, runs) = (self.csr.rows(), self.runs.clone());
        let within = |run: usize, block: usize| run.saturating_sub(block * rows).min(rows);
        let rows = |block| within(runs.start, block)..within(runs.end, block);
        walk(simd, self.csr, rows, self.x, &mut self);
    }
}

impl<S: Simd> Visit<S> for Share<'_> {
    /// Half a panel of dy, and as many registers or more for the sums.
    const WIDEST: usize = S::PANEL / 2;

    #[inline(always)]
    unsafe fn visit<const N: usize, C: Column>(&mut self, simd: S, strip: &Strip<'_, C>, piece: &Piece) {
        let first = self.csr.starts()[self.runs.start] as usize;
        let stride = self.dy.stride();
        let dy = &self.dy.padded()[strip.rows.start * stride..strip.rows.end * stride];
        assert!(piece.position + N * S::LANES <= stride);
        for i in 0..strip.rows.len() {
            // SAFETY: the strip has this row.
            let (start, columns) = unsafe { strip.run(i) };
            let dy = dy.as_ptr().wrapping_add(i * stride + piece.position);
            let panel = Panel::<S, N> {
                simd,
                // SAFETY: N vectors from the position are in a row, as asserted. Gain: no bounds are checked for each
                // short run.
                dy: std::array::from_fn(|j| unsafe { simd.load(dy.add(j * S::LANES)) }),
                piece: *piece,
            };
            let gradient = &mut self.gradient[start - first..][..columns.len()];
            for (out, columns) in gradient.chunks_mut(GROUP).zip(columns.chunks(GROUP)) {
                // Half a group at the end of a run saves more than choosing it costs.
                // SAFETY: the walk vouches for these columns.
                unsafe {
                    if columns.len() > GROUP / 2 {
                        panel.group::<GROUP, C>(columns, out);
                    } else {
                        panel.group::<{ GROUP / 2 }, C>(columns, out);
                    }
                }
            }
        }
    }
}

/// A row of dy, as far as it meets a piece of X.
struct Panel<S: Simd, const N: usize> {
    simd: S,
    dy: [S::Vector; N],
    piece: Piece,
}

impl<S: Simd, const N: usize> Panel<S, N> {
    /// Adds the panel's share to the gradients `out` of the entries in `columns`, at most `SIZE`, or sets them to it if it
    /// is the first.
    ///
    /// # Safety
    /// `piece.column(…)` is valid for reading `N` vectors for each of `columns`. There is at least one.
    #[inline(always)]
    unsafe fn group<const SIZE: usize, C: Column>(&self, columns: &[C], out: &mut [f32]) {
        let simd = self.simd;
        let last = columns.len() - 1;
        let mut sums = [simd.splat(0.0); GROUP];
        for (i, sum) in sums.iter_mut().enumerate().take(SIZE) {
            // A group that is not full repeats its last entry, whose panel is in the cache: one loop without branches.
            // SAFETY: in range. Gain: no check for each of a handful of multiply-adds.
            let x = self.piece.column(unsafe { *columns.get_unchecked(i.min(last)) });
            for (j, &dy) in self.dy.iter().enumerate() {
                // SAFETY: the caller vouches for the column's N vectors.
                *sum = simd.mul_add(dy, unsafe { simd.load(x.add(j * S::LANES)) }, *sum);
            }
        }
        simd.add_sums(sums, out, self.piece.position == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{Columns, naive};
    use proptest::prelude::*;

    fn check(csr: &Csr, positions: usize, seed: u64) {
        let mut random = Random::new(seed);
        let (dy, x) = (random.matrix(csr.rows(), positions), random.matrix(csr.width(), positions));
        let want = naive::sddmm(csr, &dy, &x);
        let sizes = naive::sddmm(csr, &matrix_magnitudes(&dy), &matrix_magnitudes(&x));
        let mut gradient = random.values(csr.entries());
        for isa in Isa::available() {
            sddmm(isa, csr, &dy, &x, &mut gradient);
            assert_close(&gradient, &want, &sizes, positions);
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
    }

    #[test]
    fn threads_do_not_show() {
        let mut random = Random::new(8);
        for (rows, width, positions) in [(2, 300, 100), (700, 600, 100)] {
            let csr = random.csr(rows, width, 0.05);
            let (dy, x) = (random.matrix(rows, positions), random.matrix(width, positions));
            assert_same_on_any_threads(|isa| {
                let mut gradient = vec![0.0; csr.entries()];
                sddmm(isa, &csr, &dy, &x, &mut gradient);
                gradient
            });
        }
    }

    #[test]
    fn a_gradient_does_not_depend_on_its_neighbours() {
        let mut random = Random::new(9);
        let (dy, x) = (random.matrix(1, 200), random.matrix(40, 200));
        for isa in Isa::available() {
            let mut all = [0.0; 40];
            sddmm(isa, &Csr::new(40, vec![0, 40], (0..40).collect()).unwrap(), &dy, &x, &mut all);
            for (column, all) in all.into_iter().enumerate() {
                let mut alone = [0.0];
                let csr = Csr::new(40, vec![0, 1], vec![column as u32]).unwrap();
                sddmm(isa, &csr, &dy, &x, &mut alone);
                assert_eq!(alone[0].to_bits(), all.to_bits());
            }
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
