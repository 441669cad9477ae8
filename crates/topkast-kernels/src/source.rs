//! Where the sparse products find X: in the rows of a matrix or, for convolutions, in maps that windows slide over.

use std::ops::Range;

use crate::Matrix;

/// Columns of X, each a number for every position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    data: &'a [f32],
    place: Columns<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Columns<'a> {
    Rows { count: usize, stride: usize, positions: usize },
    Starts(&'a Reach),
}

/// Positions in lines of equal length: neighbours within a line are neighbours in X and in y, while from line to line either may have a
/// distance of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) count: usize,
    /// Positions.
    pub(crate) length: usize,
    /// Floats from one line to the next in X.
    pub(crate) pitch: usize,
    /// The first line's position in y.
    pub(crate) first: usize,
    /// Positions from one line to the next in y.
    pub(crate) step: usize,
}

/// Where columns start that are not rows, for one region of the positions after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    columns: usize,
    regions: Vec<Region>,
}

/// Positions that find their columns at the same distances.
///
/// The fields are private: the products' unchecked loads rest on `range` being that of the starts.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    lines: Lines,
    /// Where the first line would find a column that starts at 0; before the data, where none does.
    base: isize,
    /// Where each column starts, or [`NOWHERE`].
    starts: Vec<u32>,
    /// From the least of the starts to the largest.
    range: Option<[usize; 2]>,
    /// Whether some columns are nowhere.
    edge: bool,
}

/// The start of a column that is zero in a region.
const NOWHERE: u32 = u32::MAX;

/// Numbers of a column that is nowhere.
#[repr(align(64))]
pub(crate) struct Zeros([f32; Self::COUNT]);

impl Zeros {
    /// As many of them as anyone reads from one place.
    pub(crate) const COUNT: usize = 512;
}

static ZEROS: Zeros = Zeros([0.0; Zeros::COUNT]);

/// Where a column of a region at the edge is, from the region's origin on: at its start, or among as many as [`Zeros::COUNT`] zeros.
#[inline(always)]
pub(crate) fn at_edge(origin: *const f32, start: u32) -> *const f32 {
    if start == NOWHERE { ZEROS.0.as_ptr() } else { origin.wrapping_add(start as usize) }
}

impl Reach {
    /// Of so many columns, for no positions yet.
    pub(crate) fn new(columns: usize) -> Self {
        Self { columns, regions: Vec::new() }
    }

    /// Adds positions in `lines`, of which the first would find a column that starts at 0 at `base`. Columns without a start are zero.
    ///
    /// # Panics
    /// If there is not a start for each column, or one is not below 2³² − 1.
    pub(crate) fn add(&mut self, lines: Lines, base: isize, starts: impl Iterator<Item = Option<usize>>) {
        let mut range = None;
        let mut edge = false;
        let number = |start: Option<usize>| {
            let Some(start) = start else {
                edge = true;
                return NOWHERE;
            };
            let [least, most] = range.unwrap_or([start; 2]);
            range = Some([least.min(start), most.max(start)]);
            let number = u32::try_from(start).ok().filter(|&number| number != NOWHERE);
            number.expect("maps of less than 2^32 - 1 numbers")
        };
        let starts: Vec<u32> = starts.map(number).collect();
        assert_eq!(starts.len(), self.columns, "there must be a start for each column");
        self.regions.push(Region { lines, base, starts, range, edge });
    }

    /// How many regions there are.
    #[cfg(test)]
    pub(crate) fn regions(&self) -> usize {
        self.regions.len()
    }

    /// Bytes of storage held.
    pub(crate) fn bytes(&self) -> usize {
        self.regions.iter().map(|region| size_of_val(&region.starts[..])).sum()
    }
}

impl<'a> From<&'a Matrix> for Source<'a> {
    fn from(x: &'a Matrix) -> Self {
        Self::rows(x.padded(), x.features(), x.stride(), x.positions())
    }
}

impl<'a> Source<'a> {
    /// As many rows of `data`, `stride` apart, of which what follows the positions up to a whole line is zero.
    pub(crate) fn rows(data: &'a [f32], count: usize, stride: usize, positions: usize) -> Self {
        Self { data, place: Columns::Rows { count, stride, positions } }
    }

    /// The columns that `reach` tells of in `data`.
    pub(crate) fn reaching(data: &'a [f32], reach: &'a Reach) -> Self {
        Self { data, place: Columns::Starts(reach) }
    }

    /// How many columns there are.
    pub(crate) fn columns(&self) -> usize {
        match self.place {
            Columns::Rows { count, .. } => count,
            Columns::Starts(reach) => reach.columns,
        }
    }

    /// How many positions there are.
    pub(crate) fn positions(&self) -> usize {
        self.parts().map(|part| part.lines().count * part.lines().length).sum()
    }

    /// Whether columns are the rows of a matrix.
    pub(crate) fn is_rows(&self) -> bool {
        matches!(self.place, Columns::Rows { .. })
    }

    /// The positions, region by region; those of a matrix are all in one.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part<'a>> + use<'a> {
        let (rows, regions) = match self.place {
            Columns::Rows { count, stride, positions } => (Some((count, stride, positions)), &[][..]),
            Columns::Starts(reach) => (None, &reach.regions[..]),
        };
        let data = self.data;
        let rows = rows.into_iter().map(move |(count, stride, positions)| {
            let lines = Lines { count: 1, length: positions, pitch: stride, first: 0, step: 0 };
            let range = (count > 0).then(|| [0, (count - 1) * stride]);
            Part { data, lines, base: 0, range, columns: Place::Rows(stride) }
        });
        rows.chain(regions.iter().map(move |region| {
            let Region { lines, base, range, edge, .. } = *region;
            let columns = if edge { Place::Edge(&region.starts) } else { Place::Starts(&region.starts) };
            Part { data, lines, base, range, columns }
        }))
    }
}

/// A region of X.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    data: &'a [f32],
    lines: Lines,
    base: isize,
    range: Option<[usize; 2]>,
    columns: Place<'a>,
}

/// Where a part's columns are, from its origin on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// So far apart.
    Rows(usize),
    /// There.
    Starts(&'a [u32]),
    /// There, or [`NOWHERE`].
    Edge(&'a [u32]),
}

impl<'a> Part<'a> {
    pub(crate) fn lines(&self) -> Lines {
        self.lines
    }

    /// Where its columns are.
    pub(crate) fn columns(&self) -> Place<'a> {
        self.columns
    }

    /// The position in y of position `start` of a line.
    pub(crate) fn position(&self, line: usize, start: usize) -> usize {
        self.lines.first + line * self.lines.step + start
    }

    /// Where a column that started at 0 would have position `start` of a line, with `width` floats there for each column that is
    /// somewhere.
    ///
    /// # Panics
    /// If there are not.
    pub(crate) fn origin(&self, line: usize, start: usize, width: usize) -> *const f32 {
        let at = self.base + (line * self.lines.pitch + start) as isize;
        if let Some([least, most]) = self.range {
            let reached: Range<isize> = at + least as isize..at + (most + width) as isize;
            assert!(reached.start >= 0 && reached.end <= self.data.len() as isize, "columns are in X");
        }
        self.data.as_ptr().wrapping_offset(at)
    }
}
