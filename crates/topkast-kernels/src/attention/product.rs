//! Products of small matrices with operands as they lie.
//!
//! Eight rows of the result, two vectors wide, are summed in registers. Nothing is packed: of the left operand single
//! numbers are read, at any distances, and so a tile of scores is also its transposed, and with a distance between rows that is
//! one more, the tile by distances instead of keys.

use crate::lanes::{read, write};
use crate::simd::Simd;
use crate::{Isa, Kernel};

/// Rows of the result that are computed at once.
pub(super) const ROWS: usize = 8;

/// The left operand: its element of row `i` and term `k` is at `i × row + k × term`.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) data: &'a [f32],
    pub(super) row: usize,
    pub(super) term: usize,
}

/// The right operand, a row of which belongs to a term.
#[derive(Clone, Copy)]
pub(super) struct Right<'a> {
    pub(super) data: &'a [f32],
    pub(super) stride: usize,
}

/// [`ROWS`] rows of the result.
pub(super) struct Rows<'a> {
    pub(super) data: &'a mut [f32],
    pub(super) stride: usize,
    /// Numbers of each row, rounded up to whole vectors.
    pub(super) columns: usize,
}

/// `out = left·right`, or with `add` that added to it, for sums of so many `terms`. One distance of `left` is 1.
pub(super) fn product(isa: Isa, left: Left<'_>, terms: usize, right: Right<'_>, out: Rows<'_>, add: bool) {
    isa.run(Product { left, terms, right, out, add });
}

struct Product<'a> {
    left: Left<'a>,
    terms: usize,
    right: Right<'a>,
    out: Rows<'a>,
    add: bool,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if self.left.row == 1 {
            self.walk::<S, true>(s);
        } else {
            self.walk::<S, false>(s);
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn walk<S: Simd, const TERM_BY_TERM: bool>(mut self, s: S) {
        let vectors = self.out.columns.div_ceil(S::LANES);
        let mut vector = 0;
        while vector < vectors {
            let column = vector * S::LANES;
            vector += if vectors - vector >= 2 {
                self.sweep::<S, 2, TERM_BY_TERM>(s, column)
            } else {
                self.sweep::<S, 1, TERM_BY_TERM>(s, column)
            };
        }
    }

    /// All rows of `N` vectors, in halves where there are few registers.
    #[inline(always)]
    fn sweep<S: Simd, const N: usize, const TERM_BY_TERM: bool>(&mut self, s: S, column: usize) -> usize {
        if S::LANES == 16 {
            self.strip::<S, ROWS, N, TERM_BY_TERM>(s, 0, column);
        } else {
            self.strip::<S, 4, N, TERM_BY_TERM>(s, 0, column);
            self.strip::<S, 4, N, TERM_BY_TERM>(s, 4, column);
        }
        N
    }

    #[inline(always)]
    fn strip<S: Simd, const R: usize, const N: usize, const TERM_BY_TERM: bool>(
        &mut self,
        s: S,
        first: usize,
        column: usize,
    ) {
        let Left { data: left, row, term } = self.left;
        let left = &left[first * row..];
        let mut sums = [[s.splat(0.0); N]; R];
        let right = &self.right.data[column.min(self.right.data.len())..];
        if TERM_BY_TERM {
            for k in 0..self.terms {
                let left: &[f32; R] = left[k * term..].first_chunk().expect("left holds every term");
                step(s, |r| left[r], &right[k * self.right.stride..], &mut sums);
            }
        } else {
            let rows: [&[f32]; R] = std::array::from_fn(|r| &left[r * row..][..self.terms]);
            for k in 0..self.terms {
                step(s, |r| rows[r][k], &right[k * self.right.stride..], &mut sums);
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            let out = &mut self.out.data[(first + r) * self.out.stride + column..][..N * S::LANES];
            for (out, sum) in out.chunks_exact_mut(S::LANES).zip(sums) {
                let sum = if self.add { s.add(read(s, out), sum) } else { sum };
                write(s, out, sum);
            }
        }
    }
}

/// One term: `sums[r] += left(r) × right`.
#[inline(always)]
fn step<S: Simd, const R: usize, const N: usize>(
    s: S,
    left: impl Fn(usize) -> f32,
    right: &[f32],
    sums: &mut [[S::Vector; N]; R],
) {
    let right = &right[..N * S::LANES];
    let right: [S::Vector; N] = std::array::from_fn(|n| read(s, &right[n * S::LANES..]));
    for (r, sums) in sums.iter_mut().enumerate() {
        let left = s.splat(left(r));
        for (sum, right) in sums.iter_mut().zip(right) {
            *sum = s.mul_add(left, right, *sum);
        }
    }
}
