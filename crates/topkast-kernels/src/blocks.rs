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
use crate::piece::{AtEdge, AtStarts, Column, Copied, InRows, Piece, Place};
use crate::simd::Simd;
use crate::source::{self, Source};
use crate::{Csr, Isa, Kernel};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Positions in the widest packed panel, usually.
pub(crate) const POSITIONS: usize = 64;

/// And at most.
const MOST: usize = 2 * POSITIONS;

/// Rows of y or dy this far apart, in floats, are fetched ahead: no hardware prefetcher follows a product from page to page.
const FAR: usize = 256;

/// Floats from which on a matrix is too large for the caches to hold it from one pass to the next: 16 MiB.
pub(crate) const HUGE: usize = 4 << 20;

/// How far ahead of its use each row of a padded matrix is fetched, in floats; 0 where that is not worth it. Two rows ahead where they
/// come from a cache, twelve where they come from memory.
pub(crate) fn fetch_distance(rows: usize, stride: usize) -> usize {
    match stride {
        0..=FAR => 0,
        _ if rows * stride < HUGE => 2 * stride,
        _ => 12 * stride,
    }
}

/// Fetches the panel, `N` vectors wide, of a row of y or dy that will be needed soon, where the one at `panel` is now.
#[inline(always)]
pub(crate) fn fetch_row<S: Simd, const N: usize>(simd: S, panel: *const f32, distance: usize) {
    if distance > 0 {
        for j in 0..N {
            simd.prefetch(panel.wrapping_add(distance + j * S::LANES));
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

/// How often a copied row of X must be used for the copy to pay. Measured.
pub(crate) const USES: f64 = 8.0;

/// Whether to copy pieces of X whose rows are used `uses` times each, on average, where that pays from `least` on.
pub(crate) fn copies_pay(csr: &Csr, uses: f64, least: f64) -> bool {
    csr.block() <= WIDE && uses >= least
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
    /// X's positions; where [`Place::LINES`], only as far as positions are the line's ([`Piece::kept`]).
    fn visit<const N: usize, P: Place>(&mut self, isa: Isa, piece: &Piece);
}

/// How a product walks X: over blocks of columns `block` wide, in place or on packed copies.
#[derive(Clone, Copy)]
pub(crate) struct Walk<'a> {
    isa: Isa,
    x: Source<'a>,
    block: usize,
    packed: bool,
}

/// A packed piece of X; 256 KiB, on the stack.
#[repr(C, align(64))]
struct Packed([MaybeUninit<f32>; WIDE * MOST]);

impl<'a> Walk<'a> {
    /// For structures with blocks as `csr` has them, on copies of X where it is rows and `copies` says so.
    ///
    /// # Panics
    /// If X has not as many columns.
    pub(crate) fn new(isa: Isa, csr: &Csr, copies: bool, x: Source<'a>) -> Self {
        assert_eq!(x.columns(), csr.width(), "x must have one feature for each column of the weight");
        // Columns at starts overlap, so that copies take more room in the caches than they.
        Self { isa, x, block: csr.block(), packed: x.is_rows() && copies }
    }

    /// Over blocks of so many columns, on copies where they are rows.
    pub(crate) fn in_blocks(isa: Isa, block: usize, x: Source<'a>) -> Self {
        assert!(block <= WIDE, "a copy has room for {WIDE} columns");
        Self { isa, x, block, packed: x.is_rows() }
    }

    /// Whether pieces are copies.
    pub(crate) fn is_packed(&self) -> bool {
        self.packed
    }

    /// The lines of a part cut into panels of at most `widest` vectors.
    fn panels(&self, part: &source::Part<'_>, widest: usize) -> Panels {
        Panels::new(self.isa, part.lines().length, widest)
    }

    /// How many panels of at most `widest` vectors there are.
    pub(crate) fn count(&self, widest: usize) -> usize {
        self.x.parts().map(|part| part.lines().count * self.panels(&part, widest).count).sum()
    }

    /// Has `visitor` visit each panel of at most `widest` vectors whose number is among these, and each of these blocks of columns: panel
    /// after panel, as one of them of all rows of y or dy stays in the L2 cache while block after block needs it.
    pub(crate) fn run(
        &self,
        widest: usize,
        numbers: Range<usize>,
        blocks: Range<usize>,
        visitor: &mut impl Visit,
    ) {
        let mut packed = Packed([MaybeUninit::uninit(); WIDE * MOST]);
        let mut before = 0;
        for part in self.x.parts() {
            let panels = self.panels(&part, widest);
            let count = part.lines().count * panels.count;
            let own = numbers.start.clamp(before, before + count)..numbers.end.clamp(before, before + count);
            for number in own {
                let (line, panel) = ((number - before) / panels.count, (number - before) % panels.count);
                let (start, end) = (panels.start(panel), panels.start(panel + 1));
                let place =
                    Panel { part: &part, line, start: start * panels.lanes, first: number == numbers.start };
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
                run(self, place, blocks.clone(), &mut packed, visitor);
            }
            before += count;
        }
    }

    fn panel<const N: usize, V: Visit>(
        &self,
        Panel { part, line, start, first }: Panel<'_>,
        blocks: Range<usize>,
        packed: &mut Packed,
        visitor: &mut V,
    ) {
        let origin = part.origin(line, start, N * self.isa.lanes());
        let (stride, starts) = match part.columns() {
            source::Place::Rows(stride) => (stride, std::ptr::null()),
            source::Place::Starts(starts) | source::Place::Edge(starts) => (0, starts.as_ptr()),
        };
        for number in blocks {
            let from = number * self.block;
            let block = from..self.x.columns().min(from.saturating_add(self.block));
            let mut piece = Piece {
                origin,
                stride,
                starts,
                position: part.position(line, start),
                kept: part.lines().length - start,
                first,
                block: number,
                last: block.end == self.x.columns(),
                far: is_far(size_of::<f32>() * N * self.isa.lanes() * block.len()),
            };
            match part.columns() {
                source::Place::Rows(_) if self.packed => {
                    self.isa.run(Pack::<N> { block, piece: &mut piece, packed });
                    visitor.visit::<N, Copied>(self.isa, &piece);
                }
                source::Place::Rows(_) => visitor.visit::<N, InRows>(self.isa, &piece),
                source::Place::Starts(_) => visitor.visit::<N, AtStarts>(self.isa, &piece),
                source::Place::Edge(_) => visitor.visit::<N, AtEdge>(self.isa, &piece),
            }
        }
    }
}

/// Where a panel begins: in which line, and how many positions after its first.
struct Panel<'a> {
    part: &'a source::Part<'a>,
    line: usize,
    start: usize,
    /// Whether it is the first that is walked.
    first: bool,
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
        // A copy, as the compiler would read the piece again after every store.
        let piece = *self.piece;
        for (i, at) in self.block.clone().enumerate() {
            // SAFETY: the block's columns are rows of X, of which the piece has N vectors; the copy fits as asserted; what is
            // not in X is only fetched. Gain: whole vectors, both aligned.
            unsafe {
                let (from, to) = (piece.column::<S, N, InRows>(at), to.add(i * stride));
                let ahead = from.wrapping_add(AHEAD * piece.stride);
                for lane in (0..stride).step_by(S::LANES) {
                    simd.prefetch(ahead.wrapping_add(lane));
                    simd.store(to.add(lane), simd.load(from.add(lane)));
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
