//! Where a sparse weight's entries are: the structure of A and of B∖A. It is shared, and whoever holds it sees no refresh change it.

use std::sync::OnceLock;

use thiserror::Error;
use topkast_kernels::{Cell, Convolution, Csr, CsrEdit, CsrError, Transposed, Turned};

use crate::Remap;
use crate::changes::Changes;

/// The sets A and B of one weight `[rows × width]`.
///
/// Everything of length |B| (values, gradients, optimizer moments) lists the entries of A first, then those of B∖A,
/// either in the order of its [`Csr`]. So the forward pass, the penalty's two coefficients, and a weight without exploration
/// each work on one contiguous slice.
#[derive(Clone, Debug)]
pub struct Pattern {
    active: Csr,
    explore: Csr,
    transposed: OnceLock<Transposed>,
    turned: OnceLock<Turned>,
}

/// Scratch of [`Pattern::exchange_transposed`].
#[derive(Default)]
pub(crate) struct Spare {
    edit: CsrEdit,
    numbers: Vec<u32>,
}

/// Why two sets of entries do not make a pattern.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PatternError {
    #[error("active set: {0}")]
    Active(CsrError),
    #[error("exploration set: {0}")]
    Explore(CsrError),
    #[error("the active set is of a {0}x{1} weight, but the exploration set of a {2}x{3} one")]
    Shapes(usize, usize, usize, usize),
    #[error("row {row}, column {column} is both in A and in B\\A")]
    Overlap { row: usize, column: usize },
    #[error("A and B\\A together hold {0} entries; a layer can hold at most 2^32 - 1")]
    TooLarge(usize),
}

impl Pattern {
    /// Puts A and B∖A together.
    ///
    /// # Errors
    /// If their shapes differ, they share an entry, or together exceed 2³² − 1 entries.
    pub fn new(active: Csr, explore: Csr) -> Result<Self, PatternError> {
        let shape = |csr: &Csr| (csr.rows(), csr.width());
        if shape(&active) != shape(&explore) {
            let ((a, b), (c, d)) = (shape(&active), shape(&explore));
            return Err(PatternError::Shapes(a, b, c, d));
        }
        if active.entries() + explore.entries() > u32::MAX as usize {
            return Err(PatternError::TooLarge(active.entries() + explore.entries()));
        }
        for row in 0..active.rows() {
            let mut theirs = explore.row_columns(row).peekable();
            for column in active.row_columns(row) {
                while theirs.next_if(|&other| other < column).is_some() {}
                if theirs.peek() == Some(&column) {
                    return Err(PatternError::Overlap { row, column });
                }
            }
        }
        Ok(Self { active, explore, transposed: OnceLock::new(), turned: OnceLock::new() })
    }

    /// Number of outputs.
    pub fn rows(&self) -> usize {
        self.active.rows()
    }

    /// Number of inputs.
    pub fn width(&self) -> usize {
        self.active.width()
    }

    /// n, the entries of the dense weight.
    pub fn total(&self) -> u64 {
        self.rows() as u64 * self.width() as u64
    }

    /// A: entries `0..|A|`.
    pub fn active(&self) -> &Csr {
        &self.active
    }

    /// B∖A: entries `|A|..|B|`.
    pub fn explore(&self) -> &Csr {
        &self.explore
    }

    /// |B|.
    pub fn backward_len(&self) -> usize {
        self.active.entries() + self.explore.entries()
    }

    /// A by column, for the input gradient; made when first asked for.
    pub fn transposed(&self) -> &Transposed {
        self.transposed.get_or_init(|| self.active.transposed())
    }

    /// A by input channel, for the input gradient of a convolution; made when first asked for, and again after every change of A.
    ///
    /// # Panics
    /// If the weight is not one of such a convolution.
    pub fn turned(&self, convolution: &Convolution) -> &Turned {
        self.turned.get_or_init(|| convolution.turned(&self.active))
    }

    /// All entries: A's in row-major order, then those of B∖A in row-major order, as a checkpoint lists them.
    pub fn entries_by_row(&self) -> impl Iterator<Item = usize> + '_ {
        let explored = self.active.entries();
        self.active.entries_by_row().chain(self.explore.entries_by_row().map(move |entry| explored + entry))
    }

    /// `to`, in the pattern's order, is overwritten with `from`, which lists entries as [`entries_by_row`](Self::entries_by_row) does.
    ///
    /// # Panics
    /// If either has not one number for each entry of B.
    pub fn by_entry<T: Copy + Send + Sync>(&self, from: &[T], to: &mut [T]) {
        let border = self.active.entries();
        let ([from, rest], [to, others]) =
            (<[_; 2]>::from(from.split_at(border)), to.split_at_mut(border).into());
        self.active.by_entry(from, to);
        self.explore.by_entry(rest, others);
    }

    /// `to`, which lists entries as [`entries_by_row`](Self::entries_by_row) does, is overwritten with `from`, in the pattern's order.
    ///
    /// # Panics
    /// If either has not one number for each entry of B.
    pub fn by_row<T: Copy + Send + Sync>(&self, from: &[T], to: &mut [T]) {
        let border = self.active.entries();
        let ([from, rest], [to, others]) =
            (<[_; 2]>::from(from.split_at(border)), to.split_at_mut(border).into());
        self.active.by_row(from, to);
        self.explore.by_row(rest, others);
    }

    /// A and B∖A from flat indices, each of them ascending.
    ///
    /// # Errors
    /// If they do not ascend, are not of such a weight, are shared, or too many.
    pub fn from_indices(
        rows: usize,
        width: usize,
        active: impl ExactSizeIterator<Item = u64>,
        explore: impl ExactSizeIterator<Item = u64>,
    ) -> Result<Self, PatternError> {
        let active = csr_of(rows, width, active).map_err(PatternError::Active)?;
        Self::new(active, csr_of(rows, width, explore).map_err(PatternError::Explore)?)
    }

    /// Calls `visit(flat index, entry)` for all of B in ascending order of flat index.
    pub fn for_each_by_index(&self, mut visit: impl FnMut(u64, usize)) {
        let explored = self.active.entries();
        for row in 0..self.rows() {
            let start = row as u64 * self.width() as u64;
            let a = self.active.row_entries(row).map(|entry| (self.active.column(entry), entry));
            let b = self.explore.row_entries(row).map(|entry| (self.explore.column(entry), explored + entry));
            let (mut a, mut b) = (a.peekable(), b.peekable());
            loop {
                let take_a = match (a.peek(), b.peek()) {
                    (Some((in_a, _)), Some((in_b, _))) => in_a < in_b,
                    (in_a, _) => in_a.is_some(),
                };
                let next = if take_a { a.next() } else { b.next() };
                let Some((column, entry)) = next else { break };
                visit(start + column as u64, entry);
            }
        }
    }

    /// The cells of `entries`, which ascend.
    pub(crate) fn cells(&self, entries: impl Iterator<Item = usize> + Clone) -> impl Iterator<Item = Cell> {
        let explored = self.active.entries();
        let of_active = entries.clone().take_while(move |&entry| entry < explored);
        let of_explore =
            entries.skip_while(move |&entry| entry < explored).map(move |entry| entry - explored);
        self.active.cells(of_active).chain(self.explore.cells(of_explore))
    }

    /// The flat index of a cell.
    pub(crate) fn index(&self, cell: Cell) -> u64 {
        u64::from(cell.row) * self.width() as u64 + u64::from(cell.column)
    }

    /// The cell of a flat index.
    pub(crate) fn cell(&self, index: u64) -> Cell {
        cell(self.width() as u64, index)
    }

    /// Makes `changes` to A and B∖A, in place, and tells in the edits of `remap` where entries went.
    pub(crate) fn exchange(&mut self, changes: &Changes, remap: &mut Remap) {
        let width = self.width() as u64;
        let demoted = changes.demoted().map(|leaver| leaver.cell);
        // In the order in which `Remap` lists what comes with them.
        let into_explore = demoted.chain(changes.into_explore.iter().map(|entry| cell(width, entry.index)));
        let from_explore = changes.from_explore.iter().map(|leaver| leaver.cell);
        self.turned.take();
        let Self { active, explore, .. } = self;
        let Remap { active: edit, explore: explore_edit, .. } = remap;
        rayon::join(
            || active.exchange(from_active(changes), into_active(changes, width), edit),
            || explore.exchange(from_explore, into_explore, explore_edit),
        );
    }

    /// Makes the same changes to the transposed A, where there is one, after [`exchange`](Self::exchange).
    pub(crate) fn exchange_transposed(&mut self, changes: &Changes, remap: &Remap, spare: &mut Spare) {
        let width = self.width() as u64;
        if let Some(transposed) = self.transposed.get_mut() {
            let Spare { edit, numbers } = spare;
            let inserted = into_active(changes, width);
            transposed.exchange(from_active(changes), inserted, &remap.active, edit, numbers);
        }
    }

    /// Bytes of the structure, with what the input gradient needs where that has been made.
    pub fn bytes(&self) -> usize {
        let transposed = self.transposed.get().map_or(0, Transposed::bytes);
        let turned = self.turned.get().map_or(0, Turned::bytes);
        self.active.bytes() + self.explore.bytes() + transposed + turned
    }
}

fn cell(width: u64, index: u64) -> Cell {
    Cell { row: (index / width) as u32, column: (index % width) as u32 }
}

fn from_active(changes: &Changes) -> impl Iterator<Item = Cell> {
    changes.from_active.iter().map(|leaver| leaver.cell)
}

/// In the order in which [`Remap`] lists what comes with them.
fn into_active(changes: &Changes, width: u64) -> impl Iterator<Item = Cell> {
    let promoted = changes.promoted().map(|leaver| leaver.cell);
    promoted.chain(changes.into_active.iter().map(move |entry| cell(width, entry.index)))
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.active == other.active && self.explore == other.explore
    }
}

/// The structure of these entries, whatever they are.
fn csr_of(rows: usize, width: usize, indices: impl ExactSizeIterator<Item = u64>) -> Result<Csr, CsrError> {
    let mut builder = CsrBuilder::new(rows, width, indices.len());
    let (total, mut next) = (rows as u64 * width as u64, 0);
    for index in indices {
        if index >= total {
            return Err(CsrError::Column { row: rows, column: (index - total) as usize, width });
        }
        if index < next {
            let row = (index / width as u64) as usize;
            let column = |index: u64| (index % width as u64) as usize;
            return Err(CsrError::Order { row, column: column(next - 1), next: column(index) });
        }
        next = index + 1;
        builder.push(index);
    }
    builder.finish()
}

/// Builds the [`Csr`] of entries given in ascending order of flat index.
pub(crate) struct CsrBuilder {
    rows: usize,
    width: usize,
    offsets: Vec<u32>,
    columns: Vec<u32>,
}

impl CsrBuilder {
    pub(crate) fn new(rows: usize, width: usize, entries: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { rows, width, offsets, columns: Vec::with_capacity(entries) }
    }

    pub(crate) fn push(&mut self, index: u64) {
        let row = (index / self.width as u64) as usize;
        while self.offsets.len() <= row {
            self.offsets.push(self.columns.len() as u32);
        }
        self.columns.push((index - row as u64 * self.width as u64) as u32);
    }

    pub(crate) fn finish(mut self) -> Result<Csr, CsrError> {
        self.offsets.resize(self.rows + 1, self.columns.len() as u32);
        Csr::new(self.width, self.offsets, self.columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::ops::Range;

    fn csr(rows: usize, width: usize, indices: impl IntoIterator<Item = u64>) -> Csr {
        let mut builder = CsrBuilder::new(rows, width, 0);
        indices.into_iter().for_each(|index| builder.push(index));
        builder.finish().unwrap()
    }

    /// Shapes, and indices for A and for B of which those in range count.
    fn sets(
        rows: Range<usize>,
        width: Range<usize>,
        most: usize,
    ) -> impl Strategy<Value = (usize, usize, BTreeSet<u64>, BTreeSet<u64>)> {
        let indices = prop::collection::btree_set(0..(rows.end * width.end) as u64, 0..most);
        (rows, width, indices.clone(), indices)
    }

    #[test]
    fn sets_that_share_an_entry_are_refused() {
        let overlap = Pattern::new(csr(2, 5, [1, 7]), csr(2, 5, [0, 7, 8]));
        assert_eq!(overlap.unwrap_err(), PatternError::Overlap { row: 1, column: 2 });
        let shapes = Pattern::new(csr(2, 5, [1]), csr(5, 2, [1]));
        assert_eq!(shapes.unwrap_err(), PatternError::Shapes(2, 5, 5, 2));
    }

    #[test]
    fn entries_by_row_are_those_of_a_then_the_others() {
        // Wide and dense enough for several blocks of columns, where entries are not in row-major order.
        let cells = |remainder: u64| (0..2 * 2000).filter(move |index| index % 7 == remainder);
        let pattern = Pattern::new(csr(2, 2000, cells(3)), csr(2, 2000, cells(5))).unwrap();
        let flat: Vec<u64> =
            pattern.active().flat_indices().chain(pattern.explore().flat_indices()).collect();
        assert!(!flat.is_sorted());
        let by_row = pattern.entries_by_row().map(|entry| flat[entry]);
        assert!(by_row.eq(cells(3).chain(cells(5))));
    }

    proptest! {
        #[test]
        fn visits_all_of_b_by_index(
            (rows, width, active, explore) in prop_oneof![
                sets(1usize..9, 1usize..20, 60),
                sets(1usize..4, 500usize..1500, 900),
            ],
        ) {
            let total = (rows * width) as u64;
            let active: BTreeSet<u64> = active.into_iter().filter(|&i| i < total).collect();
            let explore: BTreeSet<u64> =
                explore.into_iter().filter(|&i| i < total && !active.contains(&i)).collect();
            let pattern = Pattern::new(
                csr(rows, width, active.iter().copied()),
                csr(rows, width, explore.iter().copied()),
            ).unwrap();
            let by_entry: Vec<u64> =
                pattern.active().flat_indices().chain(pattern.explore().flat_indices()).collect();
            let mut visited = Vec::new();
            pattern.for_each_by_index(|index, entry| {
                assert_eq!(by_entry[entry], index);
                visited.push(index);
            });
            let union: Vec<u64> = active.union(&explore).copied().collect();
            prop_assert_eq!(visited, union);
            prop_assert_eq!(pattern.backward_len(), by_entry.len());
        }
    }
}
