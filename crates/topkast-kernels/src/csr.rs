//! The structure of a sparse matrix: checked once, shared by every kernel, never changed.

use thiserror::Error;

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
/// *Entry* `e` is the `e`-th non-zero in row order; values, gradients and optimizer moments are slices indexed by
/// entry. The fields are private and checked by [`Csr::new`]: offsets ascend from 0 to the number of entries and
/// every column is in range, and the kernels' unchecked loads rest on exactly that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Csr {
    width: usize,
    offsets: Vec<u32>,
    columns: Columns,
    blocks: Option<Blocks>,
}

/// Where each row's entries cross from one block of columns to the next: the products work block by block so that what
/// they read of X stays in the caches, and would otherwise have to search for these places in every call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// Columns in a block; the last may have fewer.
    pub(crate) columns: usize,
    /// Blocks in a row.
    pub(crate) count: usize,
    /// The first entry of block `b` of row `r`, at `r × count + b`; the last number is that of the entries.
    pub(crate) starts: Vec<u32>,
}

/// The same structure by column, made by [`Csr::transposed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transposed {
    /// Rows and columns exchanged.
    pub csr: Csr,
    /// For each entry of `csr`, its entry in the original.
    pub order: Vec<u32>,
}

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
        let blocks = Blocks::of(width, &offsets, &columns);
        Self { width, offsets, columns: Columns::narrowest(columns, width), blocks }
    }

    /// A structure with no entries.
    ///
    /// # Panics
    /// If `rows` is `usize::MAX`.
    pub fn empty(rows: usize, width: usize) -> Self {
        Self::checked(width, vec![0; rows + 1], Vec::new())
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

    /// Where each row's entries start; the last number is [`entries`](Self::entries).
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// The column of each entry.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The entries of one row.
    pub fn row_entries(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    /// The column of one entry.
    pub fn column(&self, entry: usize) -> usize {
        self.columns.get(entry)
    }

    /// The columns of one row, ascending.
    pub fn row_columns(&self, row: usize) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.row_entries(row).map(|entry| self.column(entry))
    }

    /// Every entry's flat index `row × width + column`, ascending.
    pub fn flat_indices(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.rows()).flat_map(move |row| {
            let start = row as u64 * self.width as u64;
            self.row_columns(row).map(move |column| start + column as u64)
        })
    }

    /// Where rows cross from block to block; `None` where blocks would hold too few entries to be worth visiting.
    pub(crate) fn blocks(&self) -> Option<&Blocks> {
        self.blocks.as_ref()
    }

    /// Bytes of storage held.
    pub fn bytes(&self) -> usize {
        let blocks = self.blocks.as_ref().map_or(0, |blocks| size_of_val(&blocks.starts[..]));
        size_of_val(&self.offsets[..]) + self.columns.bytes() + blocks
    }

    /// The same entries by column: a counting sort, linear in entries + columns.
    pub fn transposed(&self) -> Transposed {
        let mut offsets = vec![0u32; self.width + 1];
        for entry in 0..self.entries() {
            offsets[self.column(entry) + 1] += 1;
        }
        for column in 0..self.width {
            offsets[column + 1] += offsets[column];
        }
        let mut next = offsets.clone();
        let mut rows = vec![0u32; self.entries()];
        let mut order = vec![0u32; self.entries()];
        for row in 0..self.rows() {
            for entry in self.row_entries(row) {
                let slot = &mut next[self.column(entry)];
                rows[*slot as usize] = row as u32;
                order[*slot as usize] = entry as u32;
                *slot += 1;
            }
        }
        Transposed { csr: Self::checked(self.rows(), offsets, rows), order }
    }
}

impl Blocks {
    /// Columns in a block: 64 positions of them are 64 KiB, twice the L1 cache; measured best where rows are dense
    /// enough (docs/benchmarks).
    pub(crate) const NARROW: usize = 256;
    /// The same for sparser rows.
    pub(crate) const WIDE: usize = 512;

    fn of(width: usize, offsets: &[u32], columns: &[u32]) -> Option<Self> {
        let rows = offsets.len() - 1;
        let per_column = columns.len() as f64 / (rows as f64 * width as f64);
        // Measured: a visit needs some 16 entries to outweigh its start, 8 where it saves distant reads.
        let block = if per_column * Self::NARROW as f64 >= 16.0 { Self::NARROW } else { Self::WIDE };
        if width <= block || per_column * (block as f64) < 8.0 {
            return None;
        }
        let count = width.div_ceil(block);
        let mut starts = Vec::with_capacity(rows * count + 1);
        for ends in offsets.windows(2) {
            let row = &columns[ends[0] as usize..ends[1] as usize];
            let mut within = 0;
            for number in 0..count {
                within += row[within..].partition_point(|&column| (column as usize) < number * block);
                starts.push(ends[0] + within as u32);
            }
        }
        starts.push(columns.len() as u32);
        Some(Self { columns: block, count, starts })
    }
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_offence_has_its_error() {
        let new = Csr::new;
        assert_eq!(new(4, vec![], vec![]), Err(CsrError::NoOffsets));
        assert_eq!(new(4, vec![1, 1], vec![0]), Err(CsrError::Offsets { row: 0, entries: 1 }));
        assert_eq!(new(4, vec![0, 2, 1], vec![0, 1]), Err(CsrError::Offsets { row: 1, entries: 2 }));
        assert_eq!(new(4, vec![0, 9], vec![0]), Err(CsrError::Offsets { row: 0, entries: 1 }));
        assert_eq!(new(4, vec![0, 1], vec![0, 1]), Err(CsrError::Offsets { row: 1, entries: 2 }));
        assert_eq!(new(4, vec![0, 1], vec![4]), Err(CsrError::Column { row: 0, column: 4, width: 4 }));
        assert_eq!(new(4, vec![0, 2], vec![2, 1]), Err(CsrError::Order { row: 0, column: 2, next: 1 }));
        assert_eq!(new(4, vec![0, 2], vec![2, 2]), Err(CsrError::Order { row: 0, column: 2, next: 2 }));
    }

    #[test]
    fn columns_widen_past_65536() {
        let csr = Csr::new(1 << 16, vec![0, 1], vec![65535]).unwrap();
        assert!(matches!(csr.columns(), Columns::U16(_)));
        let csr = Csr::new((1 << 16) + 1, vec![0, 1], vec![65536]).unwrap();
        assert!(matches!(csr.columns(), Columns::U32(_)));
        assert_eq!(csr.column(0), 65536);
    }

    #[test]
    fn blocks_cut_rows_where_columns_cross() {
        let row = |step: usize| (0..1000).step_by(step).map(|column| column as u32);
        let columns: Vec<u32> = row(3).chain(row(7)).collect();
        let lengths = [row(3).len() as u32, columns.len() as u32];
        let csr = Csr::new(1000, vec![0, lengths[0], lengths[1]], columns).unwrap();
        let blocks = csr.blocks().unwrap();
        assert_eq!((blocks.columns, blocks.count), (256, 4));
        for row in 0..2 {
            for block in 0..4 {
                let at = row * 4 + block;
                let entries = blocks.starts[at] as usize..blocks.starts[at + 1] as usize;
                assert!(entries.clone().all(|entry| csr.column(entry) / 256 == block));
                assert!(csr.row_entries(row).contains(&entries.start));
            }
        }
        assert_eq!(Csr::new(1000, vec![0, 1], vec![5]).unwrap().blocks(), None);
    }

    proptest! {
        #[test]
        fn transposing_twice_restores(
            width in 0usize..40,
            cells in prop::collection::btree_set((0usize..20, 0usize..40), 0..200),
        ) {
            let cells: Vec<_> = cells.into_iter().filter(|&(_, column)| column < width).collect();
            let mut offsets = vec![0u32];
            offsets.extend((0..20).map(|row| cells.iter().filter(|cell| cell.0 <= row).count() as u32));
            let csr = Csr::new(width, offsets, cells.iter().map(|cell| cell.1 as u32).collect()).unwrap();
            let once = csr.transposed();
            for column in 0..width {
                let rows: Vec<_> = cells.iter().filter(|cell| cell.1 == column).map(|cell| cell.0).collect();
                prop_assert!(once.csr.row_columns(column).eq(rows));
            }
            for (entry, &original) in once.order.iter().enumerate() {
                prop_assert_eq!(cells[original as usize].0, once.csr.column(entry));
            }
            let twice = once.csr.transposed();
            prop_assert_eq!(twice.csr, csr);
        }
    }
}
