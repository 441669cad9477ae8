//! Between the order of a structure's entries and row-major order, for what is kept by those who know nothing of blocks.

use super::Csr;
use crate::share::join;

impl Csr {
    /// Whether entries are in row-major order.
    pub fn is_row_major(&self) -> bool {
        self.blocks() == 1
    }

    /// `to`, in the order of the entries, is overwritten with `from`, in row-major order.
    ///
    /// # Panics
    /// If either has not one number for each entry.
    pub fn by_entry<T: Copy + Send + Sync>(&self, from: &[T], to: &mut [T]) {
        self.check_lengths(from, to);
        if self.is_row_major() {
            return to.copy_from_slice(from);
        }
        let (rows, starts) = (self.rows(), self.starts());
        // Where the next run of each row begins.
        let mut next: Vec<u32> = self.offsets[..rows].to_vec();
        let mut rest = to;
        for run in 0..self.blocks() * rows {
            let len = (starts[run + 1] - starts[run]) as usize;
            let at = &mut next[run % rows];
            let (now, later) = rest.split_at_mut(len);
            now.copy_from_slice(&from[*at as usize..][..len]);
            *at += len as u32;
            rest = later;
        }
    }

    /// `to`, in row-major order, is overwritten with `from`, in the order of the entries.
    ///
    /// # Panics
    /// If either has not one number for each entry.
    pub fn by_row<T: Copy + Send + Sync>(&self, from: &[T], to: &mut [T]) {
        self.check_lengths(from, to);
        if self.is_row_major() {
            return to.copy_from_slice(from);
        }
        self.fill_rows(0, self.rows(), from, to);
    }

    /// The rows from `first` to `last`, which are all of `to`.
    fn fill_rows<T: Copy + Send + Sync>(&self, first: usize, last: usize, from: &[T], to: &mut [T]) {
        /// Numbers that are worth a task.
        const PART: usize = 1 << 14;
        if to.len() > PART && last - first > 1 {
            let middle = first + (last - first) / 2;
            let (head, tail) = to.split_at_mut((self.offsets[middle] - self.offsets[first]) as usize);
            join(|| self.fill_rows(first, middle, from, head), || self.fill_rows(middle, last, from, tail));
            return;
        }
        let (rows, starts) = (self.rows(), self.starts());
        let mut rest = to;
        for row in first..last {
            for block in 0..self.blocks() {
                let at = block * rows + row;
                let run = &from[starts[at] as usize..starts[at + 1] as usize];
                let (now, later) = rest.split_at_mut(run.len());
                now.copy_from_slice(run);
                rest = later;
            }
        }
    }

    fn check_lengths<T>(&self, from: &[T], to: &[T]) {
        let lengths = [from.len(), to.len()];
        assert_eq!(lengths, [self.entries(); 2], "there must be one number for each entry");
    }
}
