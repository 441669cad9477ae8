//! The passes of convolutions with all their weights: for the layers that stay dense, and to measure against.
//!
//! Outputs are computed in tiles of [`ROWS`] channels and a panel of positions, in registers: each vector of x then serves several
//! channels, and x is read in place as the sparse products read it. The weight gradient has tiles of a few output channels and
//! [`GROUP`] columns, which a stretch of a line is summed into before one joint reduction.

use std::marker::PhantomData;
use std::ops::Range;

use crate::blocks::{Visit, Walk};
use crate::chunks::for_each_chunk;
use crate::epilogue::load_kept;
use crate::piece::{self, Piece};
use crate::share::{for_each_share, threads};
use crate::simd::{GROUP, Simd};
use crate::source::{Part, Place, Source, Zeros, at_edge};
use crate::{Buffer, Isa, Kernel, Matrix};

/// Rows of a tile.
const ROWS: usize = 6;
/// Columns whose panels fit the L1 cache.
const COLUMNS: usize = 192;
/// Positions of a line that the weight gradient sums before it reduces.
const STRETCH: usize = Zeros::COUNT;

/// Weights as [`product`] reads them: for each [`ROWS`] rows, column after column of them. Rows that are missing are zeros.
///
/// # Panics
/// If `packed` would exceed the memory's size.
pub(super) fn pack(
    [rows, columns]: [usize; 2],
    value: impl Fn(usize, usize) -> f32 + Sync,
    packed: &mut Buffer,
) {
    let block = columns * ROWS;
    let len = rows.div_ceil(ROWS) * block;
    if packed.len() != len {
        packed.reset(len);
    }
    if block == 0 {
        return;
    }
    for_each_chunk(&mut packed[..], block, &|start, part| {
        let first = start / block * ROWS;
        for (column, numbers) in part.chunks_exact_mut(ROWS).enumerate() {
            for (row, number) in numbers.iter_mut().enumerate() {
                *number = if first + row < rows { value(first + row, column) } else { 0.0 };
            }
        }
    });
}

/// `y = W·x` for `packed` weights of so many rows; `y` takes its shape and is overwritten.
///
/// # Panics
/// If the weights are not of that many rows and as many columns as `x` has.
pub(super) fn product(isa: Isa, rows: usize, packed: &[f32], x: Source<'_>, y: &mut Matrix) {
    assert_eq!(packed.len(), rows.div_ceil(ROWS) * ROWS * x.columns(), "weights of the convolution's shape");
    y.ensure(rows, x.positions());
    if x.columns() == 0 {
        return y.reset(rows, x.positions());
    }
    let stride = y.stride();
    let target = Target { y: y.padded_mut().as_mut_ptr(), stride };
    let walk = Walk::in_blocks(isa, COLUMNS, x);
    // With 6 rows: 24 sums in 32 registers, or 12 in 16.
    let widest = if isa.lanes() == 16 { 4 } else { 2 };
    let blocks = 0..x.columns().div_ceil(COLUMNS);
    let share = |numbers: Range<usize>, ()| {
        let mut tiles = Tiles { rows, columns: x.columns(), packed, target };
        walk.run(widest, numbers, blocks.clone(), &mut tiles);
    };
    let shares = threads();
    for_each_share(0..walk.count(widest), shares, &|_| 0, (), &|(), _, _| ((), ()), &share);
}

/// Where outputs go.
#[derive(Clone, Copy)]
struct Target {
    y: *mut f32,
    stride: usize,
}

// SAFETY: shares write to disjoint panels of the matrix, which is borrowed mutably while they run. Gain: panels of one row go
// to different threads.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

/// The tiles of all rows.
struct Tiles<'a> {
    rows: usize,
    columns: usize,
    packed: &'a [f32],
    target: Target,
}

impl Visit for Tiles<'_> {
    fn visit<const N: usize, P: piece::Place>(&mut self, isa: Isa, piece: &Piece) {
        let columns = piece.block * COLUMNS..self.columns.min((piece.block + 1) * COLUMNS);
        for first in (0..self.rows).step_by(ROWS) {
            let weights = &self.packed[first * self.columns..][..ROWS * self.columns];
            isa.run(Tile::<N, P> {
                place: PhantomData,
                piece: *piece,
                columns: columns.clone(),
                weights: &weights[columns.start * ROWS..columns.end * ROWS],
                y: self.target.y.wrapping_add(first * self.target.stride + piece.position),
                stride: self.target.stride,
                rows: ROWS.min(self.rows - first),
            });
        }
    }
}

/// Some rows of y in one piece of X.
struct Tile<'a, const N: usize, P> {
    place: PhantomData<P>,
    piece: Piece,
    columns: Range<usize>,
    /// [`ROWS`] for each column.
    weights: &'a [f32],
    y: *mut f32,
    stride: usize,
    rows: usize,
}

impl<const N: usize, P: piece::Place> Kernel for Tile<'_, N, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { piece, columns, weights, y, stride, rows, .. } = self;
        let kept = |j: usize| piece.kept.saturating_sub(j * S::LANES);
        let at = |row: usize, j: usize| y.wrapping_add(row * stride + j * S::LANES);
        let mut sums = [[simd.splat(0.0); N]; ROWS];
        if piece.block > 0 {
            for (row, sums) in sums.iter_mut().enumerate().take(rows) {
                for (j, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: y has these rows and, as the walk vouches, N vectors from the piece's position, or what of them
                    // is in the line; no other thread works on them. Gain: no bounds are checked for each vector.
                    *sum = unsafe { load_kept::<S, P>(simd, at(row, 0), j, piece.kept) };
                }
            }
        }
        for (column, weights) in columns.zip(weights.chunks_exact(ROWS)) {
            // SAFETY: the column is one of the block, of which the walk vouches for N vectors. Gain: as above.
            let x: [S::Vector; N] = unsafe {
                let x = piece.column::<S, N, P>(column);
                let mut vectors = [simd.splat(0.0); N];
                for (j, vector) in vectors.iter_mut().enumerate() {
                    *vector = simd.load(x.add(j * S::LANES));
                }
                vectors
            };
            for (sums, &weight) in sums.iter_mut().zip(weights) {
                let weight = simd.splat(weight);
                for (sum, &x) in sums.iter_mut().zip(&x) {
                    *sum = simd.mul_add(weight, x, *sum);
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate().take(rows) {
            for (j, sum) in sums.into_iter().enumerate() {
                // SAFETY: as for the loads.
                unsafe {
                    if kept(j) < S::LANES {
                        simd.store_first(at(row, j), sum, kept(j));
                    } else {
                        simd.store(at(row, j), sum);
                    }
                }
            }
        }
    }
}

/// `dw = dy·xᵀ`, row by row, overwriting `dw`.
///
/// # Panics
/// If `dw` has not a number for each row of `dy` and column of `x`, or the two differ in positions.
pub(super) fn weight_gradient(isa: Isa, dy: &Matrix, x: Source<'_>, dw: &mut [f32]) {
    let columns = x.columns();
    assert_eq!(dw.len(), dy.features() * columns, "dw must be outputs × (inputs × taps)");
    assert_eq!(dy.positions(), x.positions(), "dy and x must have the same positions");
    if x.positions() == 0 || columns == 0 {
        return dw.fill(0.0);
    }
    let cut = |dw, from: usize, at: usize| <[f32]>::split_at_mut(dw, (at - from) * columns);
    let shares = threads();
    for_each_share(0..dy.features(), shares, &|_| 0, dw, &cut, &|rows, dw| {
        let mut first = true;
        for part in x.parts() {
            let lines = part.lines();
            for line in 0..lines.count {
                for start in (0..lines.length).step_by(STRETCH) {
                    let count = STRETCH.min(lines.length - start);
                    isa.run(Stretch { dy, part, columns, rows: rows.clone(), line, start, count, first, dw });
                    first = false;
                }
            }
        }
    });
}

/// What a stretch of a line adds to the gradients of some rows.
struct Stretch<'a> {
    dy: &'a Matrix,
    /// Where it finds x.
    part: Part<'a>,
    columns: usize,
    rows: Range<usize>,
    line: usize,
    /// Its first position in the line.
    start: usize,
    count: usize,
    /// Whether there is nothing to add to.
    first: bool,
    dw: &'a mut [f32],
}

impl Kernel for Stretch<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        // 24 sums in 32 registers, or 8 in 16.
        if S::LANES == 16 { self.rows_of::<S, 3>(simd) } else { self.rows_of::<S, 1>(simd) }
    }
}

impl Stretch<'_> {
    #[inline(always)]
    fn rows_of<S: Simd, const R: usize>(&mut self, simd: S) {
        let columns = self.columns;
        let width = self.count.next_multiple_of(S::LANES);
        let origin = self.part.origin(self.line, self.start, width);
        let place = |column: usize| match self.part.columns() {
            Place::Rows(stride) => origin.wrapping_add(column * stride),
            Place::Starts(starts) => origin.wrapping_add(starts[column] as usize),
            Place::Edge(starts) => at_edge(origin, starts[column]),
        };
        let dy = &self.dy.padded()[..self.dy.features() * self.dy.stride()];
        for first in (0..columns).step_by(GROUP) {
            let count = GROUP.min(columns - first);
            // A group that is not full repeats its last column.
            let x: [*const f32; GROUP] = std::array::from_fn(|i| place(first + i.min(count - 1)));
            let mut row = self.rows.start;
            while row < self.rows.end {
                let whole = row + R <= self.rows.end;
                let out = |row: usize| (row - self.rows.start) * columns + first;
                if whole {
                    let sums = self.tile::<S, R>(simd, dy, row, &x);
                    for (i, sums) in sums.into_iter().enumerate() {
                        simd.add_sums(sums, &mut self.dw[out(row + i)..][..count], self.first);
                    }
                    row += R;
                } else {
                    let [sums] = self.tile::<S, 1>(simd, dy, row, &x);
                    simd.add_sums(sums, &mut self.dw[out(row)..][..count], self.first);
                    row += 1;
                }
            }
        }
    }

    /// The sums of the stretch for `R` rows and a group of columns.
    #[inline(always)]
    fn tile<S: Simd, const R: usize>(
        &self,
        simd: S,
        dy: &[f32],
        row: usize,
        x: &[*const f32; GROUP],
    ) -> [[S::Vector; GROUP]; R] {
        let mut sums = [[simd.splat(0.0); GROUP]; R];
        let (stride, position) = (self.dy.stride(), self.part.position(self.line, self.start));
        let rows: [&[f32]; R] = std::array::from_fn(|i| &dy[(row + i) * stride + position..][..self.count]);
        for at in (0..self.count).step_by(S::LANES) {
            let left = self.count - at;
            let mut dys = [simd.splat(0.0); R];
            for (dy, row) in dys.iter_mut().zip(&rows) {
                // SAFETY: the row holds `left` numbers from there on. Gain: whole vectors without checks.
                *dy = unsafe {
                    if left < S::LANES {
                        simd.load_first(row.as_ptr().add(at), left)
                    } else {
                        simd.load(row.as_ptr().add(at))
                    }
                };
            }
            for (i, x) in x.iter().enumerate() {
                // SAFETY: `origin` saw that each column has `count` numbers there, rounded up to vectors. Gain: as above.
                let x = unsafe { simd.load(x.add(at)) };
                for (sums, &dy) in sums.iter_mut().zip(&dys) {
                    sums[i] = simd.mul_add(dy, x, sums[i]);
                }
            }
        }
        sums
    }
}
