//! Where the sparse products find X: in the rows of a matrix or, for convolutions, in padded maps that windows slide over.

use crate::Matrix;

/// Columns of X, each a number for every position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    data: &'a [f32],
    place: Columns<'a>,
    lines: Lines,
}

#[derive(Clone, Copy, Debug)]
enum Columns<'a> {
    Rows { count: usize, stride: usize },
    Starts(&'a Reach),
}

/// Positions in lines of equal length: neighbours within a line are neighbours in X, while lines may be further apart there
/// than they are in y, where one follows the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) count: usize,
    /// Positions.
    pub(crate) length: usize,
    /// Floats from one line to the next.
    pub(crate) pitch: usize,
}

/// Where columns start that are not rows, each with the same lines from there on.
///
/// The fields are private: the products' unchecked loads rest on `end` being the largest of the starts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    starts: Vec<u32>,
    lines: Lines,
    /// The largest start.
    last: usize,
}

impl Reach {
    /// With these starts, reusing the storage of what it was.
    ///
    /// # Panics
    /// If a start is not below 2³².
    pub(crate) fn set(&mut self, lines: Lines, starts: impl Iterator<Item = usize>) {
        self.lines = lines;
        self.starts.clear();
        self.starts.extend(starts.map(|start| u32::try_from(start).expect("maps of at most 2^32 numbers")));
        self.last = self.starts.iter().max().map_or(0, |&start| start as usize);
    }

    /// Bytes of storage held.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&self.starts[..])
    }
}

impl<'a> From<&'a Matrix> for Source<'a> {
    fn from(x: &'a Matrix) -> Self {
        let lines = Lines { count: 1, length: x.positions(), pitch: x.stride() };
        Self { data: x.padded(), place: Columns::Rows { count: x.features(), stride: x.stride() }, lines }
    }
}

impl<'a> Source<'a> {
    /// The columns that `reach` tells of in `data`.
    pub(crate) fn reaching(data: &'a [f32], reach: &'a Reach) -> Self {
        Self { data, place: Columns::Starts(reach), lines: reach.lines }
    }

    /// How many columns there are.
    pub(crate) fn columns(&self) -> usize {
        match self.place {
            Columns::Rows { count, .. } => count,
            Columns::Starts(reach) => reach.starts.len(),
        }
    }

    pub(crate) fn lines(&self) -> Lines {
        self.lines
    }

    /// How many positions there are in all lines.
    pub(crate) fn positions(&self) -> usize {
        self.lines.count * self.lines.length
    }

    /// Where each column starts, if they are not rows.
    pub(crate) fn starts(&self) -> Option<&'a [u32]> {
        match self.place {
            Columns::Rows { .. } => None,
            Columns::Starts(reach) => Some(&reach.starts),
        }
    }

    /// The distance of columns that are rows.
    pub(crate) fn stride(&self) -> usize {
        match self.place {
            Columns::Rows { stride, .. } => stride,
            Columns::Starts(_) => 0,
        }
    }

    /// Where a column that started at 0 would have position `start` of a line, with `width` floats there for each column.
    ///
    /// # Panics
    /// If there are not.
    pub(crate) fn origin(&self, line: usize, start: usize, width: usize) -> *const f32 {
        let at = line * self.lines.pitch + start;
        match self.place {
            Columns::Rows { count, stride } => assert!(at + width <= stride || count == 0),
            Columns::Starts(reach) => {
                assert!(reach.last + at + width <= self.data.len() || reach.starts.is_empty())
            }
        }
        self.data.as_ptr().wrapping_add(at)
    }
}
