//! The structure of a sparse matrix: checked once, shared by every kernel, never changed.

use crate::Buffer;
use thiserror::Error;

mod edit;
mod order;

pub use edit::{Cell, CsrEdit};

/// Column numbers, in the narrowest type that holds them: half the index traffic for layers up to 65,536 inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Columns {
    /// For matrices of at most 65,536 columns.
    U16(Vec<u16>),
    /// For wider ones.
    U32(Vec<u32>),
}

impl Columns {
    fn narrowest(columns: Vec<u32>, width: usize) -> Self {
        if width <= 1 << 16 {
            // Lossless: every column was checked to be below `width`.
            Self::U16(columns.into_iter().map(|c| c as u16).collect())
        } else {
            Self::U32(columns)
        }
    }

    fn get(&self, entry: usize) -> usize {
        match self {
            Self::U16(columns) => columns[entry] as usize,
            Self::U32(columns) => columns[entry] as usize,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::U16(columns) => size_of_val(&columns[..]),
            Self::U32(columns) => size_of_val(&columns[..]),
        }
    }
}

/// Compressed sparse rows without values: which columns each row holds, strictly ascending within the row.
///
/// *Entry* `e` is the `e`-th non-zero in the order (block of columns, row, column); values, gradients and optimizer
/// moments are slices indexed by entry. The products work on one block of columns at a time, and so stream through
/// entries, where rows cut into blocks would have them jump from one short run to the next. A structure too small or
/// too sparse for blocks has one, and its entries are in row-major order.
///
/// The fields are private and checked by [`Csr::new`]: runs ascend from 0 to the number of entries and every column is
/// in range and in its run's block, and the kernels' unchecked loads rest on exactly that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Csr {
    width: usize,
    offsets: Vec<u32>,
    columns: Columns,
    /// Columns in a block; the last may have fewer.
    block: usize,
    /// Where the run of row `r` in block `b` starts, at `b × rows + r`, and last the number of entries. Empty where
    /// there is one block: `offsets` says it then.
    starts: Vec<u32>,
}

/// The same structure by column, made by [`Csr::transposed`].
///
/// The fields are private: every entry of the original is named once, and unchecked loads rest on that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transposed {
    pub(crate) csr: Csr,
    pub(crate) order: Vec<u32>,
}

impl Transposed {
    /// The structure with rows and columns exchanged.
    pub fn csr(&self) -> &Csr {
        &self.csr
    }

    /// For each entry of [`csr`](Self::csr), in its order, the entry in the original: each of them once.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// `gathered` becomes the original's `values` in the order of [`csr`](Self::csr)'s entries.
    ///
    /// # Panics
    /// If there is not one value for each entry.
    pub fn gather(&self, values: &[f32], gathered: &mut Buffer) {
        crate::spmm::gather(&self.order, self.csr.entries(), values, gathered);
    }

    /// Bytes of storage held.
    pub fn bytes(&self) -> usize {
        self.csr.bytes() + size_of_val(&self.order[..])
    }
}

/// Columns in a block at most: 64 positions of them are 128 KiB, which leaves the L2 cache room for the rest.
pub(crate) const WIDE: usize = 512;

/// Columns in a block, and the entries that a run must have on average for it. Measured: the narrower, the better X fits
/// the L1 cache; but a run moves a panel of y through the cache twice, and shorter runs pay more for that than their
/// block saves.
const BLOCKS: [(usize, f64); 4] = [(128, 20.0), (192, 16.0), (256, 16.0), (WIDE, 6.0)];

/// Why offsets and columns do not describe a sparse matrix.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CsrError {
    #[error("a sparse matrix of {rows} rows and {entries} entries exceeds the limit of 2^32 - 1")]
    TooLarge { rows: usize, entries: usize },
    #[error("row offsets must hold one number more than there are rows, but are empty")]
    NoOffsets,
    #[error("row offsets must ascend from 0 to the number of entries, {entries}, but do not at row {row}")]
    Offsets { row: usize, entries: usize },
    #[error("row {row} names column {column}, but there are {width}")]
    Column { row: usize, column: usize, width: usize },
    #[error("row {row} must list its columns strictly ascending, but {next} follows {column}")]
    Order { row: usize, column: usize, next: usize },
}

impl Csr {
    /// Checks `offsets` (rows + 1 of them) and `columns` against a matrix `width` columns wide.
    ///
    /// # Errors
    /// A [`CsrError`] that names the first offence.
    pub fn new(width: usize, offsets: Vec<u32>, columns: Vec<u32>) -> Result<Self, CsrError> {
        let entries = columns.len();
        let rows = offsets.len().checked_sub(1).ok_or(CsrError::NoOffsets)?;
        if entries > u32::MAX as usize || rows > u32::MAX as usize || width > 1 << 32 {
            return Err(CsrError::TooLarge { rows: rows.max(width), entries });
        }
        if offsets[0] != 0 {
            return Err(CsrError::Offsets { row: 0, entries });
        }
        for (row, ends) in offsets.windows(2).enumerate() {
            if ends[0] > ends[1] || ends[1] as usize > entries {
                return Err(CsrError::Offsets { row, entries });
            }
            check_row(row, &columns[ends[0] as usize..ends[1] as usize], width)?;
        }
        if offsets[rows] as usize != entries {
            return Err(CsrError::Offsets { row: rows, entries });
        }
        Ok(Self::checked(width, offsets, columns))
    }

    /// From parts that satisfy [`Csr::new`].
    fn checked(width: usize, offsets: Vec<u32>, columns: Vec<u32>) -> Self {
        let block = block_width(offsets.len() - 1, width, columns.len());
        if width <= block {
            return Self {
                width,
                offsets,
                columns: Columns::narrowest(columns, width),
                block,
                starts: Vec::new(),
            };
        }
        let (starts, columns) = arranged(width.div_ceil(block), block, &offsets, &columns);
        Self { width, offsets, columns: Columns::narrowest(columns, width), block, starts }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of entries (non-zeros).
    pub fn entries(&self) -> usize {
        self.offsets[self.rows()] as usize
    }

    /// How many entries the rows before each row hold; the last number is [`entries`](Self::entries).
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// The column of each entry.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The entries of one row, by ascending column.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row_entries(&self, row: usize) -> impl Iterator<Item = usize> + '_ {
        let (rows, starts) = (self.rows(), self.starts());
        assert!(row < rows, "row {row} of {rows}");
        (0..self.blocks()).flat_map(move |block| {
            let run = block * rows + row;
            starts[run] as usize..starts[run + 1] as usize
        })
    }

    /// All entries in row-major order: by row, then by column.
    pub fn entries_by_row(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.rows()).flat_map(|row| self.row_entries(row))
    }

    /// The column of one entry.
    pub fn column(&self, entry: usize) -> usize {
        self.columns.get(entry)
    }

    /// The columns of one row, ascending.
    pub fn row_columns(&self, row: usize) -> impl Iterator<Item = usize> + '_ {
        self.row_entries(row).map(|entry| self.column(entry))
    }

    /// Every entry's flat index `row × width + column`, in the order of the entries: not ascending where there are
    /// several blocks.
    pub fn flat_indices(&self) -> impl Iterator<Item = u64> + '_ {
        let (rows, starts) = (self.rows(), self.starts());
        starts.windows(2).enumerate().flat_map(move |(run, ends)| {
            let start = (run % rows) as u64 * self.width as u64;
            (ends[0] as usize..ends[1] as usize).map(move |entry| start + self.column(entry) as u64)
        })
    }

    /// Columns in a block; the last block may have fewer.
    pub(crate) fn block(&self) -> usize {
        self.block
    }

    /// Number of blocks, at least one.
    pub(crate) fn blocks(&self) -> usize {
        if self.starts.is_empty() { 1 } else { self.width.div_ceil(self.block) }
    }

    /// Where the run of row `r` in block `b` starts, at `b × rows + r`, and last the number of entries.
    pub(crate) fn starts(&self) -> &[u32] {
        if self.starts.is_empty() { &self.offsets } else { &self.starts }
    }

    /// Bytes of storage held.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.offsets[..]) + self.columns.bytes() + size_of_val(&self.starts[..])
    }

    /// The same entries by column: linear in entries + columns.
    pub fn transposed(&self) -> Transposed {
        let (csr, order) = self.rearranged([self.width, self.rows()], |row, column| Some([column, row]));
        Transposed { csr, order }
    }

    /// The entries in a matrix of another shape, in which `place(row, column)` gives each a row and a column, or leaves it out; and
    /// for each entry there, in its order, the entry here. Going through the entries row by row, each new row's columns must
    /// ascend. A counting sort: linear in entries + new rows.
    pub(crate) fn rearranged(
        &self,
        [rows, width]: [usize; 2],
        place: impl Fn(usize, usize) -> Option<[usize; 2]>,
    ) -> (Self, Vec<u32>) {
        let cells = || {
            (0..self.rows())
                .flat_map(|row| self.row_entries(row).map(move |entry| (row, entry)))
                .filter_map(|(row, entry)| place(row, self.column(entry)).map(|cell| (cell, entry)))
        };
        let mut offsets = vec![0u32; rows + 1];
        cells().for_each(|([row, _], _)| offsets[row + 1] += 1);
        for row in 0..rows {
            offsets[row + 1] += offsets[row];
        }
        let mut next = offsets.clone();
        let mut columns = vec![0u32; offsets[rows] as usize];
        let mut by_row = columns.clone();
        for ([row, column], entry) in cells() {
            let slot = &mut next[row];
            columns[*slot as usize] = column as u32;
            by_row[*slot as usize] = entry as u32;
            *slot += 1;
        }
        debug_assert!(offsets.windows(2).all(|ends| {
            let row = &columns[ends[0] as usize..ends[1] as usize];
            check_row(0, row, width).is_ok()
        }));
        let csr = Self::checked(width, offsets, columns);
        let mut order = by_row.clone();
        csr.entries_by_row().zip(by_row).for_each(|(entry, original)| order[entry] = original);
        (csr, order)
    }
}

/// Columns in a block: at least `width`, so that there is one block, where blocks would hold too few entries.
fn block_width(rows: usize, width: usize, entries: usize) -> usize {
    let per_column = entries as f64 / (rows as f64 * width as f64);
    let fits = |&(block, least): &(usize, f64)| per_column * block as f64 >= least;
    BLOCKS.into_iter().find(fits).map_or(width.max(1), |(block, _)| block)
}

/// Where the runs of entries start in `count` blocks of `block` columns, and the columns in that order; from row-major
/// ones. A counting sort: linear in entries + runs.
fn arranged(count: usize, block: usize, offsets: &[u32], columns: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let rows = offsets.len() - 1;
    let mut starts = vec![0u32; count * rows + 1];
    for row in 0..rows {
        for &column in &columns[offsets[row] as usize..offsets[row + 1] as usize] {
            starts[column as usize / block * rows + row + 1] += 1;
        }
    }
    for run in 0..count * rows {
        starts[run + 1] += starts[run];
    }
    let mut by_entry = vec![0u32; columns.len()];
    let mut rest = columns;
    for row in 0..rows {
        for run in (row..count * rows).step_by(rows) {
            let entries = starts[run] as usize..starts[run + 1] as usize;
            let (these, others) = rest.split_at(entries.len());
            by_entry[entries].copy_from_slice(these);
            rest = others;
        }
    }
    (starts, by_entry)
}

fn check_row(row: usize, columns: &[u32], width: usize) -> Result<(), CsrError> {
    if let Some(pair) = columns.windows(2).find(|pair| pair[0] >= pair[1]) {
        return Err(CsrError::Order { row, column: pair[0] as usize, next: pair[1] as usize });
    }
    match columns.last() {
        Some(&column) if column as usize >= width => {
            Err(CsrError::Column { row, column: column as usize, width })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
