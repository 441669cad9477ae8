//! The walk that the sparse products share: blocks of columns × panels of positions, small enough for the caches.
//!
//! A sparse product reads a row of X for every entry, in an order that no cache foresees, so it runs at the speed of the
//! cache that holds X. So, for each panel of positions and block of columns, the walk copies that piece of X together
//! (rows whose distance is a power of two share a few cache sets and evict one another) and has every row's run of
//! entries in the block visited. The runs of a block follow one another in memory (see [`Csr`](crate::Csr)). Where a copy
//! would not be used often enough, X is read in place.
//!
//! A row's entries are visited in ascending order of columns, so the blocking does not show in any result.

use crate::csr::WIDE;
use crate::simd::Simd;
use crate::{Columns, Csr, Isa, Kernel, Matrix};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Positions in the widest packed panel.
pub(crate) const POSITIONS: usize = 64;

/// Rows of y or dy this far apart, in floats, are fetched ahead: no hardware prefetcher follows a product from page to page.
const FAR: usize = 256;

/// How many rows ahead.
const ROWS_AHEAD: usize = 2;

/// Fetches the panel, `N` vectors wide, of a row of y or dy that will be needed soon, where the one at `panel` is now.
#[inline(always)]
pub(crate) fn fetch_row<S: Simd, const N: usize>(simd: S, panel: *const f32, stride: usize) {
    if stride > FAR {
        for j in 0..N {
            simd.prefetch(panel.wrapping_add(ROWS_AHEAD * stride + j * S::LANES));
        }
    }
}

/// How many rows of X ahead of its copying each is fetched: they are too far apart for the hardware to do so.
pub(crate) const AHEAD: usize = 16;

/// Whether what is read at random of so many bytes is not in the caches near the core, and better fetched ahead of its use.
pub(crate) fn is_far(bytes: usize) -> bool {
    bytes > 1 << 20
}

/// How many entries ahead, there.
const ENTRIES_AHEAD: usize = 24;

/// A column number as stored.
pub(crate) trait Column: Copy + Sync {
    fn index(self) -> usize;

    /// All columns of a structure, if this is how they are stored.
    fn all(columns: &Columns) -> &[Self];
}

impl Column for u16 {
    #[inline(always)]
    fn index(self) -> usize {
        self.into()
    }

    fn all(columns: &Columns) -> &[u16] {
        match columns {
            Columns::U16(columns) => columns,
            Columns::U32(_) => panic!("columns of 32 bits, not 16"),
        }
    }
}

impl Column for u32 {
    #[inline(always)]
    fn index(self) -> usize {
        self as usize
    }

    fn all(columns: &Columns) -> &[u32] {
        match columns {
            Columns::U32(columns) => columns,
            Columns::U16(_) => panic!("columns of 16 bits, not 32"),
        }
    }
}

/// The positions of a matrix cut into panels whose widths differ by at most one vector, so that none is a slow rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panels {
    vectors: usize,
    lanes: usize,
    /// Number of panels.
    pub(crate) count: usize,
}

impl Panels {
    /// Panels of at most `widest` vectors.
    pub(crate) fn new(isa: Isa, positions: usize, widest: usize) -> Self {
        Self::of_vectors(isa.lanes(), positions, widest)
    }

    /// Panels of at most `widest` vectors of `lanes` positions.
    pub(crate) fn of_vectors(lanes: usize, positions: usize, widest: usize) -> Self {
        let vectors = positions.div_ceil(lanes);
        Self { vectors, lanes, count: vectors.div_ceil(widest) }
    }

    /// Where a panel begins, in vectors.
    pub(crate) fn start(&self, panel: usize) -> usize {
        panel * self.vectors / self.count
    }
}

/// Whether to copy pieces of X whose rows are used `uses` times each, on average. Measured: a copied row needs some 8.
pub(crate) fn copies_pay(csr: &Csr, uses: f64) -> bool {
    csr.block() <= WIDE && uses >= 8.0
}

/// A piece of X: a block of its rows (columns of W) and a panel of positions.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    /// Where column 0 would be: not to be read, as only the block's columns are there.
    origin: *const f32,
    stride: usize,
    /// The panel's first position.
    pub(crate) position: usize,
    /// The block's number.
    pub(crate) block: usize,
    /// Whether a row's last columns are in the block.
    pub(crate) last: bool,
    /// Whether its rows are read from beyond the caches near the core.
    pub(crate) far: bool,
}

impl Piece {
    /// Where the panel of one column is: to be read only for a column in the block. `PACKED` is whether the piece is a
    /// copy, `N` vectors wide: the distance is then a constant, and a shift in the innermost loop where a multiplication
    /// would cost 5%.
    #[inline(always)]
    pub(crate) fn column<S: Simd, const N: usize, const PACKED: bool>(&self, column: usize) -> *const f32 {
        self.origin.wrapping_add(column * if PACKED { N * S::LANES } else { self.stride })
    }

    /// Fetches the panels of these columns, if the piece is far.
    #[inline(always)]
    pub(crate) fn fetch<S: Simd, const N: usize, const PACKED: bool>(
        &self,
        simd: S,
        columns: &[impl Column],
    ) {
        if !PACKED && self.far {
            for column in columns {
                let x = self.column::<S, N, PACKED>(column.index());
                (0..N).for_each(|j| simd.prefetch(x.wrapping_add(j * S::LANES)));
            }
        }
    }
}

/// The runs of entries that consecutive rows of W have in one block of columns.
#[derive(Clone, Copy)]
pub(crate) struct Strip<'a, C> {
    /// Where each row's run starts; the last number is where the last one ends.
    starts: &'a [u32],
    columns: &'a [C],
}

impl<'a, C: Column> Strip<'a, C> {
    /// The runs of `rows` in a block of `csr`.
    pub(crate) fn new(csr: &'a Csr, block: usize, rows: &Range<usize>) -> Self {
        let first = block * csr.rows();
        Self { starts: &csr.starts()[first + rows.start..=first + rows.end], columns: C::all(csr.columns()) }
    }

    /// Number of rows.
    #[inline(always)]
    pub(crate) fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// The columns of the entries some way after these: to be fetched where X is far, so that the memory works on many of
    /// its rows at once, where sums of short rows would wait for one after the other.
    #[inline(always)]
    pub(crate) fn ahead(&self, entries: Range<usize>) -> &'a [C] {
        let ahead = entries.start + ENTRIES_AHEAD..(entries.end + ENTRIES_AHEAD).min(self.columns.len());
        self.columns.get(ahead).unwrap_or_default()
    }

    /// Where the run of the strip's `i`-th row starts, and the columns in it.
    ///
    /// # Safety
    /// The strip has more than `i` rows.
    #[inline(always)]
    pub(crate) unsafe fn run(&self, i: usize) -> (usize, &'a [C]) {
        // SAFETY: there is one start more than rows, and `Csr` vouches for where its runs start. Gain: no bounds are
        // checked for each of a product's many short runs.
        unsafe {
            let (from, to) =
                (*self.starts.get_unchecked(i) as usize, *self.starts.get_unchecked(i + 1) as usize);
            (from, self.columns.get_unchecked(from..to))
        }
    }
}

/// What a product does with one piece of X.
pub(crate) trait Visit {
    /// Does its work for the rows that it has in the piece's block. For every column of the block, `N` vectors at
    /// `piece.column(…)` are valid for reading, and so are those at the piece's position in any row of a matrix with
    /// X's positions.
    fn visit<const N: usize, const PACKED: bool>(&mut self, isa: Isa, piece: &Piece);
}

/// How a product walks X: over blocks of columns `block` wide, in place or on packed copies.
#[derive(Clone, Copy)]
pub(crate) struct Walk<'a> {
    isa: Isa,
    x: &'a Matrix,
    block: usize,
    packed: bool,
}

/// A packed piece of X; 128 KiB, on the stack.
#[repr(C, align(64))]
struct Packed([MaybeUninit<f32>; WIDE * POSITIONS]);

impl<'a> Walk<'a> {
    /// For structures with blocks as `csr` has them, each packed row of X being used `uses` times on average.
    ///
    /// # Panics
    /// If X has not one row for each column.
    pub(crate) fn new(isa: Isa, csr: &Csr, uses: f64, x: &'a Matrix) -> Self {
        assert_eq!(x.features(), csr.width(), "x must have one feature for each column of the weight");
        Self { isa, x, block: csr.block(), packed: copies_pay(csr, uses) }
    }

    /// Whether pieces are copies.
    pub(crate) fn is_packed(&self) -> bool {
        self.packed
    }

    /// Has `visitor` visit each of these panels of positions and blocks of columns, panel after panel, as one of them of
    /// all rows of y or dy stays in the L2 cache while block after block needs it.
    pub(crate) fn run(
        &self,
        panels: Panels,
        numbers: Range<usize>,
        blocks: Range<usize>,
        visitor: &mut impl Visit,
    ) {
        let mut packed = Packed([MaybeUninit::uninit(); WIDE * POSITIONS]);
        for panel in numbers {
            let (start, end) = (panels.start(panel), panels.start(panel + 1));
            let position = start * panels.lanes;
            // Fixed widths, so that the accumulators are registers.
            let run = match end - start {
                1 => Self::panel::<1, _>,
                2 => Self::panel::<2, _>,
                3 => Self::panel::<3, _>,
                4 => Self::panel::<4, _>,
                5 => Self::panel::<5, _>,
                6 => Self::panel::<6, _>,
                7 => Self::panel::<7, _>,
                8 => Self::panel::<8, _>,
                width => panic!("a panel of {width} vectors"),
            };
            run(self, position, blocks.clone(), &mut packed, visitor);
        }
    }

    fn panel<const N: usize, V: Visit>(
        &self,
        position: usize,
        blocks: Range<usize>,
        packed: &mut Packed,
        visitor: &mut V,
    ) {
        assert!(position + N * self.isa.lanes() <= self.x.stride() || self.x.features() == 0);
        for number in blocks {
            let from = number * self.block;
            let block = from..self.x.features().min(from.saturating_add(self.block));
            let mut piece = Piece {
                origin: self.x.padded().as_ptr().wrapping_add(position),
                stride: self.x.stride(),
                position,
                block: number,
                last: block.end == self.x.features(),
                far: !self.packed && is_far(size_of::<f32>() * N * self.isa.lanes() * block.len()),
            };
            if self.packed {
                self.isa.run(Pack::<N> { block, piece: &mut piece, packed });
                visitor.visit::<N, true>(self.isa, &piece);
            } else {
                visitor.visit::<N, false>(self.isa, &piece);
            }
        }
    }
}

/// Copies a piece, and makes it the copy.
struct Pack<'a, const N: usize> {
    block: Range<usize>,
    piece: &'a mut Piece,
    packed: &'a mut Packed,
}

impl<const N: usize> Kernel for Pack<'_, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let stride = N * S::LANES;
        assert!(self.block.len() * stride <= self.packed.0.len());
        let to = self.packed.0.as_mut_ptr().cast::<f32>();
        for (i, column) in self.block.clone().enumerate() {
            for lane in (0..stride).step_by(S::LANES) {
                simd.prefetch(self.piece.column::<S, N, false>(column + AHEAD).wrapping_add(lane));
                // SAFETY: the block's rows are in X and N vectors from the piece's position are within its stride, as
                // `panel` asserts; the copy fits as asserted. Gain: whole vectors, both aligned.
                unsafe {
                    simd.store(
                        to.add(i * stride + lane),
                        simd.load(self.piece.column::<S, N, false>(column).add(lane)),
                    );
                }
            }
        }
        self.piece.origin = to.wrapping_sub(self.block.start * stride);
        self.piece.stride = stride;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_cover_all_positions_and_differ_by_at_most_one_vector() {
        for isa in Isa::available() {
            for positions in [0, 1, 15, 16, 17, 64, 65, 100, 128, 1000, 65_536] {
                for widest in 1..=8 {
                    let panels = Panels::new(isa, positions, widest);
                    let widths: Vec<_> = (0..panels.count)
                        .map(|panel| panels.start(panel + 1) - panels.start(panel))
                        .collect();
                    let (least, most) = (widths.iter().min(), widths.iter().max());
                    assert_eq!(widths.iter().sum::<usize>(), positions.div_ceil(isa.lanes()));
                    assert!(
                        positions == 0 || *most.unwrap() <= widest && most.unwrap() - least.unwrap() <= 1
                    );
                }
            }
        }
    }
}
