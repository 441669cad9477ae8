//! Exchanging some of a structure's entries for as many others, in place: what lies between them moves as it is.
//!
//! ```text
//! before   a b c d e f g h i        remove c and g; insert x between a and b, y between e and f
//! moves      └┴→       └┴→          b goes one to the right; f goes one to the right; what is shifted by none stays
//! after    a x b d e y f h i
//! ```
//! Everything that has one element for each entry follows by [`CsrEdit::apply`], so that a change costs what moves, by
//! `memmove`, and allocates nothing once the lists have their size.

use std::iter::Sum;

use super::{Columns, Csr, Transposed};
use crate::moves::{Moves, gallop};

/// Where an entry is in the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Cell {
    pub row: u32,
    pub column: u32,
}

impl Cell {
    fn transposed(self) -> Self {
        Self { row: self.column, column: self.row }
    }
}

/// What [`Csr::exchange`] did to the order of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsrEdit {
    entries: usize,
    /// In the order of the entries.
    removed: Vec<Removed>,
    /// In the order of the entries.
    inserted: Vec<Inserted>,
    moves: Moves,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Removed {
    place: Place,
    /// Its number before.
    entry: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inserted {
    place: Place,
    /// How manieth it was in the list given.
    number: u32,
    /// Its number now; while planning, that of the old entry that it comes before.
    entry: u32,
}

/// A place in the order of entries: the run, and in the lower half the column. One number, for places are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u64);

impl Place {
    fn new(run: u32, column: u32) -> Self {
        Self(u64::from(run) << 32 | u64::from(column))
    }

    fn run(self) -> usize {
        (self.0 >> 32) as usize
    }

    fn column(self) -> u32 {
        self.0 as u32
    }
}

impl CsrEdit {
    /// Moves one element per entry as the entries moved. `inserted` has the elements of the entries that were inserted,
    /// in the order in which these were given.
    ///
    /// # Panics
    /// If the lengths are not those of the structure and of the list given.
    pub fn apply<T: Copy>(&self, elements: &mut [T], inserted: &[T]) {
        assert_eq!((elements.len(), inserted.len()), (self.entries, self.inserted.len()));
        self.moves.apply(elements);
        for (entry, number) in self.inserted() {
            elements[entry] = inserted[number];
        }
    }

    /// How many entries were exchanged.
    pub fn len(&self) -> usize {
        self.inserted.len()
    }

    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.inserted.is_empty()
    }

    /// The number of each inserted entry, ascending, and its place in the list that was given.
    pub fn inserted(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.inserted.iter().map(|inserted| (inserted.entry as usize, inserted.number as usize))
    }

    /// Becomes the edit that changes nothing of a structure of `entries`.
    pub fn reset(&mut self, entries: usize) {
        self.entries = entries;
        self.removed.clear();
        self.inserted.clear();
        self.moves.clear();
    }

    fn plan(&mut self, csr: &Csr, removed: impl Iterator<Item = Cell>, inserted: impl Iterator<Item = Cell>) {
        self.reset(csr.entries());
        self.removed.extend(removed.map(|cell| Removed { place: csr.place(cell), entry: 0 }));
        self.removed.sort_unstable_by_key(|removed| removed.place);
        for removed in &mut self.removed {
            let (entry, there) = csr.find(removed.place);
            assert!(there, "an entry that is to be removed is there");
            removed.entry = entry;
        }
        self.inserted.extend(inserted.zip(0..).map(|(cell, number)| Inserted {
            place: csr.place(cell),
            number,
            entry: 0,
        }));
        self.inserted.sort_unstable_by_key(|inserted| inserted.place);
        for inserted in &mut self.inserted {
            let (entry, there) = csr.find(inserted.place);
            assert!(!there, "an entry that is to be inserted is not there");
            inserted.entry = entry;
        }
        assert_eq!(self.removed.len(), self.inserted.len(), "the number of entries stays");
        assert!(self.removed.is_sorted_by(|a, b| a.place < b.place), "each is removed once");
        assert!(self.inserted.is_sorted_by(|a, b| a.place < b.place), "each is inserted once");
        self.plan_moves();
    }

    /// Finds what lies between the entries removed and inserted, and gives the inserted ones their numbers.
    fn plan_moves(&mut self) {
        let (mut from, mut to) = (0, 0);
        let mut removed = self.removed.iter().map(|removed| removed.entry).peekable();
        let mut inserted = self.inserted.iter_mut().peekable();
        loop {
            // Of an inserted entry and the one it comes before, the inserted is first.
            let next = match (inserted.peek(), removed.peek()) {
                (Some(new), Some(&old)) => new.entry.min(old),
                (Some(new), None) => new.entry,
                (None, Some(&old)) => old,
                (None, None) => break,
            };
            self.moves.push(from as usize, to as usize, (next - from) as usize);
            to += next - from;
            from = next;
            if let Some(new) = inserted.next_if(|new| new.entry == next) {
                new.entry = to;
                to += 1;
            } else {
                removed.next();
                from += 1;
            }
        }
        self.moves.finish();
    }

    /// Shifts where runs start by how many entries came before them and went.
    fn shift_starts(&self, starts: &mut [u32]) {
        let mut removed = self.removed.iter().map(|removed| removed.place.run()).peekable();
        let mut inserted = self.inserted.iter().map(|inserted| inserted.place.run()).peekable();
        let mut shift = 0;
        let mut run = 0;
        while let Some(next) = [removed.peek(), inserted.peek()].into_iter().flatten().min().copied() {
            if shift != 0 {
                starts[run + 1..=next].iter_mut().for_each(|start| *start = start.wrapping_add_signed(shift));
            }
            run = next;
            while removed.next_if_eq(&run).is_some() {
                shift -= 1;
            }
            while inserted.next_if_eq(&run).is_some() {
                shift += 1;
            }
        }
        debug_assert_eq!(shift, 0);
    }

    /// Writes the new number of every entry that stays.
    fn renumbered(&self, numbers: &mut Vec<u32>) {
        numbers.clear();
        numbers.extend(0..self.entries as u32);
        for (from, to, len) in self.moves.iter() {
            let moved = &mut numbers[from..from + len];
            moved.iter_mut().zip(to as u32..).for_each(|(number, new)| *number = new);
        }
    }
}

impl Csr {
    /// Exchanges the entries at `removed` for ones at `inserted`, both in any order, and tells in `edit` where the
    /// others went.
    ///
    /// # Panics
    /// If one that is to be removed is not there, one that is to be inserted is there before, or the two are not equally
    /// many.
    pub fn exchange(
        &mut self,
        removed: impl Iterator<Item = Cell>,
        inserted: impl Iterator<Item = Cell>,
        edit: &mut CsrEdit,
    ) {
        edit.plan(self, removed, inserted);
        let new = edit.inserted.iter().map(|new| (new.entry as usize, new.place.column()));
        match &mut self.columns {
            Columns::U16(columns) => {
                edit.moves.apply(columns);
                // Lossless: the place was found in this structure.
                new.for_each(|(entry, column)| columns[entry] = column as u16);
            }
            Columns::U32(columns) => {
                edit.moves.apply(columns);
                new.for_each(|(entry, column)| columns[entry] = column);
            }
        }
        if self.starts.is_empty() {
            edit.shift_starts(&mut self.offsets);
        } else {
            edit.shift_starts(&mut self.starts);
            self.count_rows();
        }
    }

    /// `offsets` from `starts`.
    fn count_rows(&mut self) {
        let rows = self.rows();
        self.offsets.fill(0);
        for starts in self.starts.windows(rows + 1).step_by(rows) {
            let ends = self.offsets[1..].iter_mut().zip(starts.windows(2));
            ends.for_each(|(count, ends)| *count += ends[1] - ends[0]);
        }
        for row in 0..rows {
            self.offsets[row + 1] += self.offsets[row];
        }
    }

    fn place(&self, Cell { row, column }: Cell) -> Place {
        let inside = (row as usize) < self.rows() && (column as usize) < self.width;
        assert!(inside, "row {row}, column {column} is outside the matrix");
        // There are fewer runs than 2³², for each has several entries on average, or there is one for each row.
        Place::new(column / self.block as u32 * self.rows() as u32 + row, column)
    }

    /// The first entry that does not come before `place`, and whether it is there.
    fn find(&self, place: Place) -> (u32, bool) {
        let (run, column) = (place.run(), place.column());
        let (start, end) = (self.starts()[run], self.starts()[run + 1]);
        let run = start as usize..end as usize;
        let (before, there) = match &self.columns {
            // Lossless: the place is in this structure.
            Columns::U16(columns) => rank_of(&columns[run], column as u16),
            Columns::U32(columns) => rank_of(&columns[run], column),
        };
        (start + before as u32, there)
    }

    /// The cells of `entries`, which ascend.
    pub fn cells(&self, entries: impl Iterator<Item = usize>) -> impl Iterator<Item = Cell> {
        let (rows, starts) = (self.rows(), self.starts());
        let mut run = 0;
        entries.map(move |entry| {
            run += gallop(&starts[run + 1..], |&end| end as usize <= entry);
            Cell { row: (run % rows) as u32, column: self.column(entry) as u32 }
        })
    }
}

impl Transposed {
    /// Follows [`Csr::exchange`] of the original, which left `original`; `edit` tells what happened here. `numbers` is
    /// scratch.
    ///
    /// # Panics
    /// As [`Csr::exchange`] does, and if `original` is of another structure.
    pub fn exchange(
        &mut self,
        removed: impl Iterator<Item = Cell>,
        inserted: impl Iterator<Item = Cell>,
        original: &CsrEdit,
        edit: &mut CsrEdit,
        numbers: &mut Vec<u32>,
    ) {
        // The products' unchecked gather rests on it: no number may be beyond the entries.
        assert_eq!(
            original.entries,
            self.order.len(),
            "the edit is of the structure that this is the transposed of"
        );
        self.csr.exchange(removed.map(Cell::transposed), inserted.map(Cell::transposed), edit);
        original.renumbered(numbers);
        self.order.iter_mut().for_each(|entry| *entry = numbers[*entry as usize]);
        numbers.truncate(original.len());
        original.inserted().for_each(|(entry, number)| numbers[number] = entry as u32);
        edit.apply(&mut self.order, numbers);
    }
}

/// How many of the ascending `columns` are less than `column`, and whether it is among them.
fn rank_of<T: Copy + Ord + From<bool> + Sum + Into<u32>>(columns: &[T], column: T) -> (usize, bool) {
    // Most runs are so short that to compare with all of them, by vectors, is faster than to guess at half of them; and
    // to count in their own type spares the vectors widening.
    let before = if columns.len() <= 128 {
        columns.iter().map(|&other| T::from(other < column)).sum::<T>().into() as usize
    } else {
        columns.partition_point(|&other| other < column)
    };
    (before, columns.get(before) == Some(&column))
}

#[cfg(test)]
mod tests;
