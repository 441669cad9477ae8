//! What a refresh changes, as lists of entries: usually few beside |B|.

use topkast_kernels::Cell;

use crate::Entry;

/// An entry that goes out of A or out of B∖A.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaver {
    /// Its number among the entries of B before.
    pub(crate) entry: u32,
    pub(crate) cell: Cell,
    /// Whether it stays in B and so goes from the one to the other; else it goes to C.
    pub(crate) stays: bool,
}

/// Which entries go from where to where. Where a weight's sizes stay, as many go into A as out of it, and into B∖A as out
/// of it.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) from_active: Vec<Leaver>,
    pub(crate) from_explore: Vec<Leaver>,
    /// From C into A.
    pub(crate) into_active: Vec<Entry>,
    /// From C into B∖A.
    pub(crate) into_explore: Vec<Entry>,
}

impl Changes {
    pub(crate) fn clear(&mut self) {
        let Self { from_active, from_explore, into_active, into_explore } = self;
        from_active.clear();
        from_explore.clear();
        into_active.clear();
        into_explore.clear();
    }

    pub(crate) fn are_none(&self) -> bool {
        self.from_active.is_empty() && self.from_explore.is_empty() && self.entered().next().is_none()
    }

    /// Whether as many entries come into A, and into B∖A, as go.
    pub(crate) fn keep_sizes(&self) -> bool {
        self.newly_active() == self.from_active.len()
            && self.demoted().count() + self.into_explore.len() == self.from_explore.len()
    }

    /// How many entries come into A.
    pub(crate) fn newly_active(&self) -> usize {
        self.promoted().count() + self.into_active.len()
    }

    /// From A to B∖A.
    pub(crate) fn demoted(&self) -> impl Iterator<Item = &Leaver> + Clone {
        self.from_active.iter().filter(|leaver| leaver.stays)
    }

    /// From B∖A to A.
    pub(crate) fn promoted(&self) -> impl Iterator<Item = &Leaver> + Clone {
        self.from_explore.iter().filter(|leaver| leaver.stays)
    }

    /// From B to C.
    pub(crate) fn left(&self) -> impl Iterator<Item = &Leaver> + Clone {
        self.from_active.iter().chain(&self.from_explore).filter(|leaver| !leaver.stays)
    }

    /// From C to B.
    pub(crate) fn entered(&self) -> impl Iterator<Item = &Entry> {
        self.into_active.iter().chain(&self.into_explore)
    }
}
