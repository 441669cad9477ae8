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
        Ok(Self { width, offsets, columns: Columns::narrowest(columns, width) })
    }

    /// A structure with no entries.
    ///
    /// # Panics
    /// If `rows` is `usize::MAX`.
    pub fn empty(rows: usize, width: usize) -> Self {
        Self { width, offsets: vec![0; rows + 1], columns: Columns::narrowest(Vec::new(), width) }
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

    /// Bytes of storage held.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.offsets[..]) + self.columns.bytes()
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
        let columns = Columns::narrowest(rows, self.rows());
        Transposed { csr: Self { width: self.rows(), offsets, columns }, order }
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
