//! Sparse × dense: the forward product and, on the transposed structure, the input gradient.
//!
//! For each row of W and panel of positions the sums stay in registers while the row's entries stream by:
//! `sum[j] += value × x[column][j]`, one load for each fused multiply-add. Sums leave the registers only between blocks of
//! columns (see the walk in `blocks`) and, with the epilogue applied, at the end.

use crate::blocks::{HUGE, POSITIONS, Strip, USES, Visit, Walk, copies_pay, fetch_distance, fetch_row};
use crate::chunks::{CHUNK, for_each_chunk};
use crate::epilogue::{Finish, load_kept, store_kept};
use crate::piece::{Column, Piece, Place};
use crate::share::{for_each_share, threads};
use crate::simd::Simd;
use crate::source::Source;
use crate::{Buffer, Columns, Csr, Epilogue, Isa, Kernel, Matrix, Transposed};
use gemm_common::cache::CACHE_INFO;
use std::marker::PhantomData;
use std::ops::Range;

/// Bytes of an L1 cache that is not small.
const ROOMY: usize = 48 << 10;

/// `y = W·x`, `[rows × width] · [width × positions]`, then `epilogue`; `y` takes the shape `[rows × positions]` and is
/// overwritten. `values` holds W's numbers in the order of `csr`'s entries.
///
/// Each output is summed in an order that depends on the shapes and the structure alone, for any number of threads.
///
/// # Panics
/// If `values` has not one number for each entry, `x` not one feature for each column, or what the epilogue refers to
/// not the shape of `y`.
pub fn spmm(isa: Isa, csr: &Csr, values: &[f32], x: &Matrix, epilogue: Epilogue<'_>, y: &mut Matrix) {
    product(isa, csr, values, x.into(), epilogue, y);
}

/// [`spmm`] of an X that need not be a matrix.
///
/// # Panics
/// As [`spmm`].
pub(crate) fn product(
    isa: Isa,
    csr: &Csr,
    values: &[f32],
    x: Source<'_>,
    epilogue: Epilogue<'_>,
    y: &mut Matrix,
) {
    assert_eq!(values.len(), csr.entries(), "there must be one value for each entry");
    assert_eq!(x.columns(), csr.width(), "x must have one feature for each column of the weight");
    let finish = epilogue.finish(csr.rows(), x.positions());
    y.ensure(csr.rows(), x.positions());
    let stride = y.stride();
    let target = Target { y: y.padded_mut().as_mut_ptr(), stride };
    let product = Product { isa, csr, values, x, finish, target };
    product.split(threads());
}

/// `dx = Wᵀ·dy`, `[width × rows] · [rows × positions]`, then `epilogue`; `dx` takes the shape `[width × positions]` and is
/// overwritten.
///
/// `values` are in the order of the structure that `transposed` was made from; they are copied to `gathered` in the
/// transposed order, which costs little beside the product and leaves it streaming.
///
/// # Panics
/// If `values` has not one number for each entry, `dy` not one feature for each row of W, or what the epilogue refers to
/// not the shape of `dx`.
pub fn spmm_transposed(
    isa: Isa,
    transposed: &Transposed,
    values: &[f32],
    dy: &Matrix,
    epilogue: Epilogue<'_>,
    gathered: &mut Buffer,
    dx: &mut Matrix,
) {
    transposed.gather(values, gathered);
    spmm(isa, transposed.csr(), gathered, dy, epilogue, dx);
}

/// `gathered` becomes the values that `order`, made by [`Csr::rearranged`] from a structure of so many `entries`, names.
///
/// # Panics
/// If there is not one value for each entry.
pub(crate) fn gather(order: &[u32], entries: usize, values: &[f32], gathered: &mut Buffer) {
    assert_eq!(values.len(), entries, "there must be one value for each entry");
    if gathered.len() != order.len() {
        gathered.reset(order.len());
    }
    for_each_chunk((&mut gathered[..], order), CHUNK, &|_, (gathered, order)| {
        for (value, &entry) in gathered.iter_mut().zip(order) {
            // SAFETY: the order names entries, and there is a value for each. Gain: 4% of the product.
            *value = unsafe { *values.get_unchecked(entry as usize) };
        }
    });
}

/// Where a product's outputs go: to be split among threads by rows and by panels of positions.
#[derive(Clone, Copy)]
struct Target {
    /// The padded matrix `[rows × stride]`.
    y: *mut f32,
    stride: usize,
}

// SAFETY: a product's shares write to disjoint rows or panels of the matrix, which is borrowed mutably while it runs.
// Gain: panels of one row go to different threads, and none packs the same piece of X as another.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

/// A product that is ready to run.
#[derive(Clone, Copy)]
struct Product<'a> {
    isa: Isa,
    csr: &'a Csr,
    values: &'a [f32],
    x: Source<'a>,
    finish: Finish,
    target: Target,
}

impl Product<'_> {
    /// Runs it in `shares` of about equal work: by rows or, where there are so many positions that shares of them come out even,
    /// by panels, so that no piece of X is copied twice. Shares of few positions lie so close in each row of y that the
    /// cores' prefetchers take lines from each other: measured, 10 to 25% of 128 positions on two threads.
    fn split(self, shares: usize) {
        let copies = |shares: usize| {
            let uses = self.csr.entries() as f64 / self.csr.width().max(1) as f64 / shares as f64;
            copies_pay(self.csr, uses, USES)
        };
        let rows = 0..self.csr.rows();
        let walk = Walk::new(self.isa, self.csr, copies(1), self.x);
        let count = walk.count(self.widest(&walk));
        if shares > 1 && count >= 8 * shares {
            let share = |numbers, ()| self.run(&walk, numbers, rows.clone());
            return for_each_share(0..count, shares, &|_| 0, (), &|(), _, _| ((), ()), &share);
        }
        let walk = Walk::new(self.isa, self.csr, copies(shares), self.x);
        let weight = |row: usize| self.csr.offsets()[row] as usize;
        for_each_share(rows, shares, &weight, (), &|(), _, _| ((), ()), &|rows, ()| {
            self.run(&walk, 0..walk.count(self.widest(&walk)), rows);
        });
    }

    /// Vectors in the widest panel. Half as wide where blocks are wide and the L1 cache is small: 98% sparse products are 15% faster so with
    /// 32 KiB (Zen 4), and 15 to 20% slower with 48 KiB (Intel), as each value then serves half as many multiply-adds.
    fn widest(&self, walk: &Walk<'_>) -> usize {
        let halved = self.csr.block() > POSITIONS * 4 && CACHE_INFO[0].cache_bytes < ROOMY;
        let positions = if halved { POSITIONS / 2 } else { POSITIONS };
        let panel = self.isa.panel();
        if walk.is_packed() { (positions / self.isa.lanes()).min(panel) } else { panel }
    }

    fn run(&self, walk: &Walk<'_>, numbers: Range<usize>, rows: Range<usize>) {
        let blocks = 0..self.csr.blocks();
        walk.run(self.widest(walk), numbers, blocks, &mut Share { product: self, rows });
    }
}

/// Consecutive rows of a product.
struct Share<'a> {
    product: &'a Product<'a>,
    rows: Range<usize>,
}

impl Visit for Share<'_> {
    fn visit<const N: usize, P: Place>(&mut self, isa: Isa, piece: &Piece) {
        match self.product.csr.columns() {
            Columns::U16(_) => isa.run(Sweep::<N, P, u16>::new(self, piece)),
            Columns::U32(_) => isa.run(Sweep::<N, P, u32>::new(self, piece)),
        }
    }
}

/// The rows of a share in one piece of X.
struct Sweep<'a, const N: usize, P, C> {
    place: PhantomData<P>,
    strip: Strip<'a, C>,
    piece: Piece,
    values: &'a [f32],
    finish: Finish,
    first_row: usize,
    y: *mut f32,
    /// Whether y passes the caches by, where its panels are aligned.
    streams: bool,
    /// How far the first row's panel is from the start of y.
    offset: usize,
    stride: usize,
    /// How far ahead of its use a row of y is fetched.
    distance: usize,
}

impl<'a, const N: usize, P: Place, C: Column> Sweep<'a, N, P, C> {
    fn new(share: &Share<'a>, piece: &Piece) -> Self {
        let Product { csr, values, finish, target, .. } = *share.product;
        let offset = share.rows.start * target.stride + piece.position;
        Self {
            place: PhantomData,
            strip: Strip::new(csr, piece.block, &share.rows),
            piece: *piece,
            values,
            finish,
            first_row: share.rows.start,
            y: target.y,
            streams: csr.blocks() == 1 && csr.rows() * target.stride >= HUGE,
            offset,
            stride: target.stride,
            distance: fetch_distance(csr.rows(), target.stride),
        }
    }

    /// Row after row; `LAST` is whether these are the rows' last entries, `STREAM` whether y passes the caches by.
    #[inline(always)]
    fn rows<S: Simd, const LAST: bool, const STREAM: bool>(&self, simd: S) {
        let (mut offset, distance) = (self.offset, self.distance);
        for i in 0..self.strip.rows() {
            // SAFETY: the strip has this row.
            let (start, columns) = unsafe { self.strip.run(i) };
            let ahead = self.strip.ahead(start..start + columns.len());
            // SAFETY: the columns are in the strip.
            unsafe { self.piece.fetch::<S, N, P>(simd, ahead) };
            let y = self.y.wrapping_add(offset);
            if !STREAM {
                fetch_row::<S, N>(simd, y, distance);
            }
            let mut sums = [simd.splat(0.0); N];
            if self.piece.block > 0 {
                for (j, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: y has the strip's rows and, as the walk vouches, N vectors from the piece's position, or what of
                    // them is in the line. No other thread works on them. Gain: no bounds are checked for each short run.
                    *sum = unsafe { load_kept::<S, P>(simd, y, j, self.piece.kept) };
                }
            }
            self.add_run(simd, start, columns, &mut sums);
            // SAFETY: as for the loads of `y`; the epilogue's matrices have y's shape.
            unsafe {
                if LAST {
                    let (row, kept) = (self.first_row + i, self.piece.kept);
                    sums = self.finish.apply::<S, P, N>(simd, row, offset, kept, sums);
                }
                for (j, sum) in sums.into_iter().enumerate() {
                    if STREAM {
                        simd.stream(y.wrapping_add(j * S::LANES), sum);
                    } else {
                        store_kept::<S, P>(simd, y, j, self.piece.kept, sum);
                    }
                }
            }
            offset += self.stride;
        }
        if STREAM {
            simd.end_streams();
        }
    }

    /// Adds the row's run of entries to `sums`.
    #[inline(always)]
    fn add_run<S: Simd>(&self, simd: S, start: usize, columns: &[C], sums: &mut [S::Vector; N]) {
        let mut entry = 0;
        // Not an iterator over both slices: this loop the compiler unrolls eightfold, with the odd ones first.
        while entry < columns.len() {
            // SAFETY: the entry is in range; there is one value for each entry, and the walk vouches for N vectors at each
            // of the block's columns. Gain: no bounds are checked in the innermost loop.
            unsafe {
                let value = simd.splat(*self.values.get_unchecked(start + entry));
                let x = self.piece.column::<S, N, P>(columns.get_unchecked(entry).index());
                for (j, sum) in sums.iter_mut().enumerate() {
                    *sum = simd.mul_add(value, simd.load(x.add(j * S::LANES)), *sum);
                }
            }
            entry += 1;
        }
    }
}

impl<const N: usize, P: Place, C: Column> Kernel for Sweep<'_, N, P, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // Loops of their own, as the epilogue takes registers that the first one needs.
        if !self.piece.last {
            self.rows::<S, false, false>(simd);
        } else if self.streams && !P::LINES {
            self.rows::<S, true, true>(simd);
        } else {
            self.rows::<S, true, false>(simd);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{add, gelu, gelu_gradient, naive, relu_gradient};
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
        let at = random.matrix(csr.rows(), positions);
        for (row, &bias) in bias.iter().enumerate() {
            biased.row_mut(row).iter_mut().for_each(|y| *y += bias);
            relu.row_mut(row).iter_mut().for_each(|y| *y = (*y + bias).max(0.0));
            sizes.row_mut(row).iter_mut().for_each(|size| *size += bias.abs());
        }
        // Wrong numbers everywhere, to see that all are overwritten.
        let mut y = random.matrix(csr.rows(), positions);
        let mut pre = random.matrix(csr.rows(), positions);
        for isa in Isa::available() {
            let mut product = |epilogue, want: &Matrix| {
                spmm(isa, csr, &values, &x, epilogue, &mut y);
                assert_matrix_close(&y, want, &sizes, csr.width());
            };
            product(Epilogue::None, &plain);
            product(Epilogue::Bias(&bias), &biased);
            product(Epilogue::BiasRelu(&bias), &relu);
            // The other epilogues: the same bits as a product and then a pass over the matrix.
            let (mut want, mut want_pre) = (Matrix::default(), Matrix::default());
            spmm(isa, csr, &values, &x, Epilogue::None, &mut want);
            relu_gradient(isa, &at, &mut want);
            spmm(isa, csr, &values, &x, Epilogue::ReluGradient(&at), &mut y);
            assert_eq!(y, want);
            spmm(isa, csr, &values, &x, Epilogue::None, &mut want);
            gelu_gradient(isa, &at, &mut want);
            spmm(isa, csr, &values, &x, Epilogue::GeluGradient(&at), &mut y);
            assert_eq!(y, want);
            spmm(isa, csr, &values, &x, Epilogue::None, &mut want);
            add(isa, &at, &mut want);
            spmm(isa, csr, &values, &x, Epilogue::Add(&at), &mut y);
            assert_eq!(y, want);
            spmm(isa, csr, &values, &x, Epilogue::Bias(&bias), &mut want_pre);
            want.ensure(csr.rows(), positions);
            gelu(isa, &want_pre, &mut want);
            spmm(isa, csr, &values, &x, Epilogue::BiasGelu { bias: &bias, pre: &mut pre }, &mut y);
            assert_eq!((&y, &pre), (&want, &want_pre));
        }

        let transposed = csr.transposed();
        let by_column: Vec<f32> = transposed.order.iter().map(|&entry| values[entry as usize]).collect();
        let dy = random.matrix(csr.rows(), positions);
        plain = naive::spmm(&transposed.csr, &by_column, &dy);
        sizes = naive::spmm(&transposed.csr, &magnitudes(&by_column), &matrix_magnitudes(&dy));
        let (mut gathered, mut dx) = (Buffer::zeros(1), Matrix::default());
        for isa in Isa::available() {
            spmm_transposed(isa, &transposed, &values, &dy, Epilogue::None, &mut gathered, &mut dx);
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
                spmm_transposed(isa, &transposed, &values, &dy, Epilogue::None, &mut gathered, &mut dx);
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

    #[test]
    fn outputs_too_large_for_the_caches() {
        let (rows, positions) = (257, HUGE / 256);
        check(&Random::new(12).csr(rows, 9, 0.3), positions - 5, 13);
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
