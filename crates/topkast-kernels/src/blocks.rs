//! The walk that the sparse products share: blocks of columns × panels of positions, small enough for the caches.
//!
//! A sparse product reads a row of X for every entry, in an order that no cache foresees, so it runs at the speed of the
//! cache that holds X. So, for each panel of positions and block of columns, the walk copies that piece of X together
//! (rows whose distance is a power of two share a few cache sets and evict one another) and then visits every row's run of
//! entries in the block. The runs of a block follow one another in memory (see [`Csr`]). Where a copy would not be used
//! often enough, X is read in place.
//!
//! A row's entries are visited in ascending order of columns, so the blocking does not show in any result.

use crate::csr::WIDE;
use crate::simd::Simd;
use crate::{Columns, Csr, Matrix};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Positions in a packed panel.
const POSITIONS: usize = 64;

/// A column number as stored.
pub(crate) trait Column: Copy {
    fn index(self) -> usize;
}

impl Column for u16 {
    #[inline(always)]
    fn index(self) -> usize {
        self.into()
    }
}

impl Column for u32 {
    #[inline(always)]
    fn index(self) -> usize {
        self as usize
    }
}

/// A piece of X: a block of its rows (columns of W) and a panel of positions.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    /// Where column 0 would be: not to be read, as only the block's columns are there.
    origin: *const f32,
    stride: usize,
    /// The panel's first position.
    pub(crate) position: usize,
    /// Whether a row's first columns are in the block.
    pub(crate) first: bool,
    /// Whether a row's last columns are in the block.
    pub(crate) last: bool,
}

impl Piece {
    /// Where the panel of one column is: to be read only for a column in the block.
    #[inline(always)]
    pub(crate) fn column(&self, column: impl Column) -> *const f32 {
        self.origin.wrapping_add(column.index() * self.stride)
    }
}

/// The runs of entries that consecutive rows of W have in one block of columns.
pub(crate) struct Strip<'a, C> {
    /// The rows.
    pub(crate) rows: Range<usize>,
    /// Where each row's run starts; the last number is where the last one ends.
    starts: &'a [u32],
    columns: &'a [C],
}

impl<'a, C> Strip<'a, C> {
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
pub(crate) trait Visit<S: Simd> {
    /// Vectors in the widest panel; at most 8.
    const WIDEST: usize;

    /// Does its work for every row of the strip.
    ///
    /// # Safety
    /// The strip is of the structure that is walked, and for every one of its columns, `piece.column(…)` is valid for
    /// reading `N` vectors. `piece.position` and the `N` vectors after it are within X's stride.
    unsafe fn visit<const N: usize, C: Column>(&mut self, simd: S, strip: &Strip<'_, C>, piece: &Piece);
}

/// Has `visitor` visit, for each panel of positions and block of columns, X's padding included, the runs of `rows(block)`.
///
/// Each run and panel is visited once, also where the run is empty, and for each row and panel the blocks ascend. For each
/// entry the positions do. Panels do not depend on the blocking.
///
/// # Panics
/// If X has not one row for each column of the structure.
#[inline(always)]
pub(crate) fn walk<S: Simd>(
    simd: S,
    csr: &Csr,
    rows: impl Fn(usize) -> Range<usize>,
    x: &Matrix,
    visitor: &mut impl Visit<S>,
) {
    assert_eq!(x.features(), csr.width(), "x must have one feature for each column of the weight");
    match csr.columns() {
        Columns::U16(columns) => Walk { simd, csr, columns, x }.run(rows, visitor),
        Columns::U32(columns) => Walk { simd, csr, columns, x }.run(rows, visitor),
    }
}

/// A packed piece of X; 128 KiB, on the stack.
#[repr(C, align(64))]
struct Packed([MaybeUninit<f32>; WIDE * POSITIONS]);

struct Walk<'a, S, C> {
    simd: S,
    csr: &'a Csr,
    columns: &'a [C],
    x: &'a Matrix,
}

impl<S: Simd, C: Column> Walk<'_, S, C> {
    #[inline(always)]
    fn run(&self, rows: impl Fn(usize) -> Range<usize>, visitor: &mut impl Visit<S>) {
        let most = (0..self.csr.blocks()).map(|block| rows(block).len()).max().unwrap_or(0);
        // Two calls, so that the distance between packed rows is a constant in the products' loops.
        if self.is_worth_packing(most) {
            let mut packed = Packed([MaybeUninit::uninit(); WIDE * POSITIONS]);
            self.panels(&rows, Some(&mut packed), visitor);
        } else {
            self.panels(&rows, None, visitor);
        }
    }

    /// Whether to work on copies of X, rather than in place.
    fn is_worth_packing(&self, rows: usize) -> bool {
        let csr = self.csr;
        if csr.block() > WIDE {
            return false;
        }
        let density = csr.entries() as f64 / (csr.rows() as f64 * csr.width() as f64);
        // Measured: a copied row needs some 8 uses. Distant rows (by 2 KiB and more) fall into so few cache sets that
        // packing pays at any density.
        density * rows as f64 >= 8.0 && (density >= 0.03 || self.x.stride() >= 512)
    }

    /// Panel after panel, as one of them of all rows of y or dy stays in the L2 cache while block after block needs it.
    #[inline(always)]
    fn panels<V: Visit<S>>(
        &self,
        rows: &impl Fn(usize) -> Range<usize>,
        mut packed: Option<&mut Packed>,
        visitor: &mut V,
    ) {
        let vectors = self.x.stride() / S::LANES;
        let widest = if packed.is_some() { V::WIDEST.min(POSITIONS / S::LANES) } else { V::WIDEST };
        let mut vector = 0;
        while vector < vectors {
            let position = vector * S::LANES;
            let (packed, visitor) = (packed.as_deref_mut(), &mut *visitor);
            // Fixed widths, so that the accumulators are registers.
            vector += match widest.min(vectors - vector) {
                8.. => self.panel::<8>(rows, position, packed, visitor),
                4..8 => self.panel::<4>(rows, position, packed, visitor),
                2..4 => self.panel::<2>(rows, position, packed, visitor),
                _ => self.panel::<1>(rows, position, packed, visitor),
            };
        }
    }

    #[inline(always)]
    fn panel<const N: usize>(
        &self,
        rows: &impl Fn(usize) -> Range<usize>,
        position: usize,
        mut packed: Option<&mut Packed>,
        visitor: &mut impl Visit<S>,
    ) -> usize {
        let csr = self.csr;
        for number in 0..csr.blocks() {
            let rows = rows(number);
            if rows.is_empty() {
                continue;
            }
            let from = number * csr.block();
            let block = from..csr.width().min(from + csr.block());
            let mut piece = Piece {
                origin: self.x.padded().as_ptr().wrapping_add(position),
                stride: self.x.stride(),
                position,
                first: block.start == 0,
                last: block.end == csr.width(),
            };
            if let Some(packed) = packed.as_deref_mut() {
                self.pack::<N>(block, &mut piece, packed);
            }
            let first = number * csr.rows();
            let starts = &csr.starts()[first + rows.start..=first + rows.end];
            let strip = Strip { rows, starts, columns: self.columns };
            // SAFETY: `Csr` vouches that every column is below its width, which is X's number of rows, and within the
            // block of its run. N vectors are left in a row of X. Gain: no bounds are checked in the products' inner loops.
            unsafe { visitor.visit::<N, C>(self.simd, &strip, &piece) };
        }
        N
    }

    /// Copies the piece, and makes it the copy.
    #[inline(always)]
    fn pack<const N: usize>(&self, block: Range<usize>, piece: &mut Piece, packed: &mut Packed) {
        let stride = N * S::LANES;
        assert!(block.len() * stride <= packed.0.len() && block.end <= self.x.features());
        let to = packed.0.as_mut_ptr().cast::<f32>();
        for (i, column) in block.clone().enumerate() {
            for lane in (0..stride).step_by(S::LANES) {
                // SAFETY: the block's rows are in X and N vectors from the piece's position are within its stride; the
                // copy fits as asserted. Gain: whole vectors, both aligned.
                unsafe {
                    self.simd.store(
                        to.add(i * stride + lane),
                        self.simd.load(piece.column(column as u32).add(lane)),
                    )
                };
            }
        }
        piece.origin = to.wrapping_sub(block.start * stride);
        piece.stride = stride;
    }
}
