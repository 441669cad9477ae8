//! The walk that the sparse products share: blocks of columns × panels of positions, small enough for the caches.
//!
//! A sparse product reads a row of X for every entry, in an order that no cache foresees, so it runs at the speed of the
//! cache that holds X. The walk takes the rows of W in chunks; for each block of columns and panel of positions it
//! copies that piece of X together (rows whose distance is a power of two share a few cache sets and evict one another)
//! and then visits every row of the chunk with the entries it has in the block. Where the copies would not be
//! used often enough, it visits rows whole and reads X in place.
//!
//! A row's entries are visited in ascending order either way, so the blocking does not show in any result.

use crate::simd::Simd;
use crate::{Columns, Csr, Matrix};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Rows whose places in the structure are remembered from one block of columns to the next, on the stack.
const CHUNK: usize = 1024;
/// Positions in a packed panel.
const POSITIONS: usize = 64;
/// Columns in a block: 256 × 64 floats, about twice the L1 cache, as a row then finds half of what it reads there.
const BLOCK: usize = 256;
/// Columns in a block of a sparser structure, so that a visit still finds enough entries to outweigh its start.
const WIDE_BLOCK: usize = 2 * BLOCK;

/// A column number as stored.
pub(crate) trait Column: Copy + PartialOrd {
    fn index(self) -> usize;
    /// The column number `index`, which must fit.
    fn narrow(index: usize) -> Self;
}

impl Column for u16 {
    #[inline(always)]
    fn index(self) -> usize {
        self.into()
    }

    #[inline(always)]
    fn narrow(index: usize) -> Self {
        index as u16
    }
}

impl Column for u32 {
    #[inline(always)]
    fn index(self) -> usize {
        self as usize
    }

    #[inline(always)]
    fn narrow(index: usize) -> Self {
        index as u32
    }
}

/// A piece of X: a block of its rows (columns of W) and a panel of positions.
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

/// What a product does with one row's entries in one piece of X.
pub(crate) trait Visit<S: Simd> {
    /// Vectors in the widest panel; at most 8.
    const WIDEST: usize;

    /// `entries` are the row's entries in the piece's block, and `columns` their columns.
    ///
    /// # Safety
    /// `row` and `entries` are of the structure that is walked, and for every one of `columns`, `piece.column(…)` is
    /// valid for reading `N` vectors. `piece.position` and the `N` vectors after it are within X's stride.
    unsafe fn visit<const N: usize, C: Column>(
        &mut self,
        simd: S,
        row: usize,
        entries: Range<usize>,
        columns: &[C],
        piece: &Piece,
    );
}

/// Has `visitor` visit every one of `rows` for each block of columns and panel of positions, X's padding included.
///
/// Each pair of a row and a panel is visited at least once, without entries if the row has none, and for such a pair the
/// entries ascend from visit to visit. For each entry the positions do. Panels do not depend on the blocking.
///
/// # Panics
/// If X has not one row for each column of the structure.
#[inline(always)]
pub(crate) fn walk<S: Simd>(simd: S, csr: &Csr, rows: Range<usize>, x: &Matrix, visitor: &mut impl Visit<S>) {
    assert_eq!(x.features(), csr.width(), "x must have one feature for each column of the weight");
    match csr.columns() {
        Columns::U16(columns) => Walk { simd, csr, columns, x }.run(rows, visitor),
        Columns::U32(columns) => Walk { simd, csr, columns, x }.run(rows, visitor),
    }
}

/// A packed piece of X; 128 KiB, on the stack.
#[repr(C, align(64))]
struct Packed([MaybeUninit<f32>; WIDE_BLOCK * POSITIONS]);

struct Walk<'a, S, C> {
    simd: S,
    csr: &'a Csr,
    columns: &'a [C],
    x: &'a Matrix,
}

impl<S: Simd, C: Column> Walk<'_, S, C> {
    /// Columns in a block to be packed; none if it is better to read X in place.
    fn block(&self, rows: usize) -> Option<usize> {
        let cells = self.csr.rows() as f64 * self.csr.width() as f64;
        let density = self.csr.entries() as f64 / cells.max(1.0);
        // Measured: a visit needs some 16 entries to be worth a block, and a copied row some 8 uses. Distant rows (by
        // 2 KiB and more) fall into so few cache sets that packing pays at any density.
        let worth_it = density >= 0.03 || self.x.stride() >= 512;
        let used = density * rows.min(CHUNK) as f64 >= 8.0;
        (worth_it && used).then_some(if density * BLOCK as f64 >= 16.0 { BLOCK } else { WIDE_BLOCK })
    }

    #[inline(always)]
    fn run(&self, rows: Range<usize>, visitor: &mut impl Visit<S>) {
        let mut packed = Packed([MaybeUninit::uninit(); WIDE_BLOCK * POSITIONS]);
        let mut bounds = [[0; 2]; CHUNK];
        let width = self.csr.width();
        let block = self.block(rows.len());
        let offsets = &self.csr.offsets()[rows.start..=rows.end];
        for first in (0..rows.len()).step_by(CHUNK) {
            let offsets = &offsets[first..=rows.len().min(first + CHUNK)];
            let bounds = &mut bounds[..offsets.len() - 1];
            for (bound, &offset) in bounds.iter_mut().zip(offsets) {
                bound[1] = offset;
            }
            let mut from = 0;
            loop {
                let to = width.min(from + block.unwrap_or(width));
                for (bound, &end) in bounds.iter_mut().zip(&offsets[1..]) {
                    *bound = [bound[1], if to == width { end } else { self.seek(bound[1], end, to) }];
                }
                let packed = block.map(|_| &mut packed);
                self.panels(rows.start + first, bounds, from..to, packed, visitor);
                if to == width {
                    break;
                }
                from = to;
            }
        }
    }

    /// The first of the row's entries `from..end` whose column is not below `limit`.
    #[inline(always)]
    fn seek(&self, from: u32, end: u32, limit: usize) -> u32 {
        let limit = C::narrow(limit);
        let mut at = from;
        // Columns ascend, so counting those below finds the place, and does so without a branch for each.
        for some in self.columns[from as usize..end as usize].chunks(32) {
            let below = match some.first_chunk::<32>() {
                Some(all) => all.iter().map(|&column| u8::from(column < limit)).sum::<u8>(),
                None => some.iter().map(|&column| u8::from(column < limit)).sum(),
            };
            at += u32::from(below);
            if below < 32 {
                break;
            }
        }
        at
    }

    #[inline(always)]
    fn panels<V: Visit<S>>(
        &self,
        first_row: usize,
        bounds: &[[u32; 2]],
        block: Range<usize>,
        mut packed: Option<&mut Packed>,
        visitor: &mut V,
    ) {
        let vectors = self.x.stride() / S::LANES;
        let widest = if packed.is_some() { V::WIDEST.min(POSITIONS / S::LANES) } else { V::WIDEST };
        let mut vector = 0;
        while vector < vectors {
            let position = vector * S::LANES;
            let mut piece = Piece {
                origin: self.x.padded().as_ptr().wrapping_add(position),
                stride: self.x.stride(),
                position,
                first: block.start == 0,
                last: block.end == self.csr.width(),
            };
            let packed = packed.as_deref_mut();
            let (block, visitor) = (block.clone(), &mut *visitor);
            // Fixed widths, so that the accumulators are registers.
            vector += match widest.min(vectors - vector) {
                8.. => self.panel::<8>(first_row, bounds, block, &mut piece, packed, visitor),
                4..8 => self.panel::<4>(first_row, bounds, block, &mut piece, packed, visitor),
                2..4 => self.panel::<2>(first_row, bounds, block, &mut piece, packed, visitor),
                _ => self.panel::<1>(first_row, bounds, block, &mut piece, packed, visitor),
            };
        }
    }

    #[inline(always)]
    fn panel<const N: usize>(
        &self,
        first_row: usize,
        bounds: &[[u32; 2]],
        block: Range<usize>,
        piece: &mut Piece,
        packed: Option<&mut Packed>,
        visitor: &mut impl Visit<S>,
    ) -> usize {
        if let Some(packed) = packed {
            self.pack::<N>(block, piece, packed);
        }
        for (i, &[from, to]) in bounds.iter().enumerate() {
            let entries = from as usize..to as usize;
            // SAFETY: `Csr` vouches that its entries are within `columns` and that every column is below its width, which
            // is X's number of rows; `seek` has chosen those within the block. N vectors are left in a row of X.
            // Gain: no bounds are checked in the products' inner loops.
            unsafe {
                let columns = self.columns.get_unchecked(entries.clone());
                visitor.visit::<N, C>(self.simd, first_row + i, entries, columns, piece);
            }
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
