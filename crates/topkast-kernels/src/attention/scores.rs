//! The scores of eight queries with the keys of a tile, and what is computed row by row of them.

use std::ops::Range;

use super::band::Band;
use super::product::{Left, ROWS, Right, Rows, product};
use crate::lanes::{read, write};
use crate::simd::Simd;
use crate::{Isa, Kernel};

/// Floats on either side of a row of scores: products round what they compute up to whole vectors, and a row shifted by up to
/// seven keys still has to read zeros.
pub(super) const MARGIN: usize = 32;

/// Numbers for some queries and the keys of a tile; key 0 is at column [`MARGIN`].
pub(super) struct Grid<'a> {
    pub(super) data: &'a mut [f32],
    pub(super) stride: usize,
}

/// The stride of a grid for so many keys: an odd number of cache lines, so that columns do not share a few cache sets.
pub(super) fn stride(keys: usize) -> usize {
    (keys + 2 * MARGIN).next_multiple_of(32) + 16
}

impl Grid<'_> {
    pub(super) fn at(&self, query: usize, key: usize) -> usize {
        query * self.stride + MARGIN + key
    }

    /// The vectors that hold what a query sees, all of them with zeros around.
    pub(super) fn row(&mut self, query: usize, seen: &Range<usize>) -> &mut [f32] {
        let whole = whole(seen);
        let (start, end) = (self.at(query, whole.start), self.at(query, whole.end));
        &mut self.data[start..end]
    }

    /// Zeros where products read beyond what the query sees.
    pub(super) fn clear_around(&mut self, query: usize, seen: &Range<usize>) {
        let whole = whole(seen);
        let (start, end) = (self.at(query, whole.start), self.at(query, whole.end));
        self.data[start - 16..start].fill(0.0);
        self.data[end..end + 16].fill(0.0);
    }
}

/// Extended to whole vectors.
fn whole(keys: &Range<usize>) -> Range<usize> {
    keys.start / 16 * 16..keys.end.next_multiple_of(16)
}

/// Queries and keys by feature, and distances from the far end.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    /// (q + u)/√d_head, and (q + w)/√d_head, of all queries of the band.
    pub(super) content_query: &'a [f32],
    pub(super) position_query: &'a [f32],
    pub(super) query_stride: usize,
    pub(super) key: Right<'a>,
    /// Place `c` is column `c + MARGIN`.
    pub(super) position: Right<'a>,
    pub(super) features: usize,
}

/// The scores of [`ROWS`] queries from `first` on, in the rows of the grid that begin at row `at`; −∞ for keys that are not
/// seen, in the vectors that hold some that are.
pub(super) fn scores(
    isa: Isa,
    operands: Operands<'_>,
    band: &Band,
    first: usize,
    grid: &mut Grid,
    at: usize,
) {
    let queries = first..(first + ROWS).min(band.queries);
    let queries = clip(queries, band.seeing());
    let seen = band.seen_by(queries.clone());
    let places = band.places(queries.clone());
    let left = |data| Left { data, row: 1, term: operands.query_stride };
    // By place: query `first` has this place at this key, or before the first one; each next query one key on.
    let start = at * grid.stride + MARGIN + places.start + first - band.place_of(0, 0);
    let columns = places.len();
    let out = Rows { data: &mut grid.data[start..], stride: grid.stride + 1, columns };
    let position = Right { data: &operands.position.data[MARGIN + places.start..], ..operands.position };
    product(isa, left(&operands.position_query[first..]), operands.features, position, out, false);
    let keys = whole(&seen);
    let start = grid.at(at, keys.start);
    let out = Rows { data: &mut grid.data[start..], stride: grid.stride, columns: keys.len() };
    let key = Right { data: &operands.key.data[keys.start..], ..operands.key };
    product(isa, left(&operands.content_query[first..]), operands.features, key, out, true);
    for query in queries {
        let seen = band.seen(query);
        let row = grid.row(at + query - first, &seen);
        let before = seen.start % 16;
        let after = row.len() - (seen.len() + before);
        row[..before].fill(f32::NEG_INFINITY);
        let end = row.len();
        row[end - after..].fill(f32::NEG_INFINITY);
    }
}

fn clip(range: Range<usize>, bounds: Range<usize>) -> Range<usize> {
    range.start.max(bounds.start)..range.end.min(bounds.end)
}
