//! A piece of X as products read it: a block of columns, a panel of positions, and where each column's numbers are.

use crate::Columns;
use crate::simd::Simd;
use crate::source::{Zeros, at_edge};

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

/// How a product finds a column's numbers in a [`Piece`].
pub(crate) trait Place: 'static {
    /// Whether columns may be far.
    const FAR: bool;
    /// Whether panels may end within a vector in the midst of a row of y, whose next floats are not padding.
    const LINES: bool;

    /// Where a column's panel is.
    ///
    /// # Safety
    /// The column is one of W's.
    unsafe fn column<S: Simd, const N: usize>(piece: &Piece, column: usize) -> *const f32;
}

/// A copy of the piece, `N` vectors wide: the distance is then a constant, and a shift in the innermost loop where a
/// multiplication would cost 5%.
pub(crate) enum Copied {}

/// A row of a matrix for each column.
pub(crate) enum InRows {}

/// Anywhere; for convolutions.
pub(crate) enum AtStarts {}

/// Anywhere or, where a convolution's window is partly beyond the edge of the maps, nowhere: zeros.
pub(crate) enum AtEdge {}

impl Place for Copied {
    const FAR: bool = false;
    const LINES: bool = false;

    #[inline(always)]
    unsafe fn column<S: Simd, const N: usize>(piece: &Piece, column: usize) -> *const f32 {
        piece.origin.wrapping_add(column * (N * S::LANES))
    }
}

impl Place for InRows {
    const FAR: bool = true;
    const LINES: bool = false;

    #[inline(always)]
    unsafe fn column<S: Simd, const N: usize>(piece: &Piece, column: usize) -> *const f32 {
        piece.origin.wrapping_add(column * piece.stride)
    }
}

impl Place for AtStarts {
    // They overlap, so that the caches hold them.
    const FAR: bool = false;
    const LINES: bool = true;

    #[inline(always)]
    unsafe fn column<S: Simd, const N: usize>(piece: &Piece, column: usize) -> *const f32 {
        // SAFETY: the walk saw that there is a start for each column. Gain: no bounds are checked in the innermost loop.
        piece.origin.wrapping_add(unsafe { *piece.starts.add(column) as usize })
    }
}

impl Place for AtEdge {
    const FAR: bool = false;
    const LINES: bool = true;

    #[inline(always)]
    unsafe fn column<S: Simd, const N: usize>(piece: &Piece, column: usize) -> *const f32 {
        const { assert!(N * S::LANES <= Zeros::COUNT) };
        // SAFETY: as for `AtStarts`.
        at_edge(piece.origin, unsafe { *piece.starts.add(column) })
    }
}

/// A piece of X: a block of its columns (columns of W) and a panel of positions.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    /// Where column 0 would be: not to be read, as only the block's columns are there.
    pub(crate) origin: *const f32,
    /// The distance of columns, where they are rows.
    pub(crate) stride: usize,
    /// The starts of columns, where they are anywhere.
    pub(crate) starts: *const u32,
    /// The panel's first position.
    pub(crate) position: usize,
    /// Positions from there on to the end of the line: what follows is padding, or another line's.
    pub(crate) kept: usize,
    /// Whether it is in the first panel that is walked.
    pub(crate) first: bool,
    /// The block's number.
    pub(crate) block: usize,
    /// Whether a row's last columns are in the block.
    pub(crate) last: bool,
    /// Whether its rows are read from beyond the caches near the core.
    pub(crate) far: bool,
}

impl Piece {
    /// Where the panel of one column is: to be read only for a column in the block.
    ///
    /// # Safety
    /// The column is one of W's.
    #[inline(always)]
    pub(crate) unsafe fn column<S: Simd, const N: usize, P: Place>(&self, column: usize) -> *const f32 {
        // SAFETY: as demanded.
        unsafe { P::column::<S, N>(self, column) }
    }

    /// Fetches the panels of these columns of W, if the piece is far.
    ///
    /// # Safety
    /// The columns are W's.
    #[inline(always)]
    pub(crate) unsafe fn fetch<S: Simd, const N: usize, P: Place>(&self, simd: S, columns: &[impl Column]) {
        if P::FAR && self.far {
            for column in columns {
                // SAFETY: as demanded.
                let x = unsafe { self.column::<S, N, P>(column.index()) };
                (0..N).for_each(|j| simd.prefetch(x.wrapping_add(j * S::LANES)));
            }
        }
    }
}
