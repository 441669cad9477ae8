//! The scores of eight queries with the keys of a tile.

use std::ops::Range;

use super::band::Band;
use super::product::{Left, ROWS, Right, Rows, product};
use crate::Isa;
use crate::buffer::LINE;

/// Floats on either side of a row of scores, and of what lies by place: products round what they compute up to whole vectors, and
/// a row shifted by up to seven keys still has to read zeros.
pub(super) const MARGIN: usize = 32;

/// Numbers for some queries and the keys of a tile, key 0 at column [`MARGIN`].
pub(super) struct Grid<'a> {
    pub(super) data: &'a mut [f32],
    pub(super) stride: usize,
}

/// The distance between rows that hold so much and margins: an odd number of cache lines, as with an even one the numbers of a
/// column would share a few cache sets.
pub(super) fn stride(columns: usize) -> usize {
    (columns + 2 * MARGIN).next_multiple_of(2 * LINE) + LINE
}

/// The keys extended to whole cache lines, and so to whole vectors.
pub(super) fn whole(keys: &Range<usize>) -> Range<usize> {
    keys.start / LINE * LINE..keys.end.next_multiple_of(LINE)
}

impl Grid<'_> {
    pub(super) fn at(&self, query: usize, key: usize) -> usize {
        query * self.stride + MARGIN + key
    }

    /// The whole vectors that hold what a query sees.
    pub(super) fn row(&mut self, query: usize, seen: &Range<usize>) -> &mut [f32] {
        let whole = whole(seen);
        let start = self.at(query, whole.start);
        &mut self.data[start..][..whole.len()]
    }

    /// Puts zeros beside [`row`](Self::row), where products read that begin and end where other queries of the eight do.
    pub(super) fn clear_beside(&mut self, query: usize, seen: &Range<usize>) {
        let whole = whole(seen);
        let (start, end) = (self.at(query, whole.start), self.at(query, whole.end));
        self.data[start - LINE..start].fill(0.0);
        self.data[end..end + LINE].fill(0.0);
    }
}

/// What scores are computed from, by feature.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    /// (q + u)/√d_head of the band's queries.
    pub(super) content_query: &'a [f32],
    pub(super) query_stride: usize,
    pub(super) key: Right<'a>,
    pub(super) distances: Option<Distances<'a>>,
    pub(super) features: usize,
}

/// What scores have of distances.
#[derive(Clone, Copy)]
pub(super) struct Distances<'a> {
    /// (q + w)/√d_head of the band's queries.
    pub(super) query: &'a [f32],
    /// r: place `c` is column `c + MARGIN`.
    pub(super) position: Right<'a>,
}

/// The scores of [`ROWS`] queries from `first` on, one of which sees some key, in the rows of the grid from `at` on: for each
/// query the [`row`](Grid::row) of what it sees, with −∞ where it does not see a key.
pub(super) fn scores(
    isa: Isa,
    operands: Operands<'_>,
    band: &Band,
    first: usize,
    grid: &mut Grid,
    at: usize,
) {
    let queries = first..(first + ROWS).min(band.queries);
    let left = |data| Left { data, row: 1, term: operands.query_stride };
    if let Some(Distances { query, position }) = operands.distances {
        let places = band.places(queries.clone());
        let position = Right { data: &position.data[MARGIN + places.start..], ..position };
        // A place is one key further on for each next query.
        let start = grid.at(at, places.start + first) - band.place_of(0, 0);
        let out = Rows { data: &mut grid.data[start..], stride: grid.stride + 1, columns: places.len() };
        product(isa, left(&query[first..]), operands.features, position, out, false);
    }

    let keys = whole(&band.seen_by(queries.clone()));
    let key = Right { data: &operands.key.data[keys.start..], ..operands.key };
    let start = grid.at(at, keys.start);
    let out = Rows { data: &mut grid.data[start..], stride: grid.stride, columns: keys.len() };
    product(
        isa,
        left(&operands.content_query[first..]),
        operands.features,
        key,
        out,
        operands.distances.is_some(),
    );

    for query in queries {
        let seen = band.seen(query);
        let row = grid.row(at + query - first, &seen);
        let (before, end) = (seen.start % LINE, seen.start % LINE + seen.len());
        row[..before].fill(f32::NEG_INFINITY);
        row[end..].fill(f32::NEG_INFINITY);
    }
}
