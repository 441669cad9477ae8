//! C where θ⁰ lies elsewhere, as in a file that is mapped into memory, and is only read.
//!
//! ```text
//! θ⁰       a slice that someone else holds
//! touched  indices of entries that have been in B: that slice no longer tells what they are
//! dormant  those of them in C, with the values they left B with                                     Dormant
//! C        dormant, and what has not been touched
//! ```
//! C's first entries are kept in order, a quarter to all of |B|. When these are used up, one pass over θ⁰ finds the next: all
//! else follows from the entries exchanged, and nothing here grows with n.

use std::sync::Arc;

use super::dormant::{Dormant, insert_ascending};
use super::head::Head;
use super::search::list_first;
use super::{Reservoir, ReservoirState, SavedReservoir};
use crate::{Entry, WeightError};

/// θ⁰, shared with whoever holds it; it must not change.
pub type SharedValues = Arc<dyn AsRef<[f32]> + Send + Sync>;

/// Initial values that are looked up and never written, and those that differ from them by now. What it holds follows from |B| and
/// how much has been in B, not from n.
pub struct MappedReservoir {
    initial: Initial,
    touched: Vec<u64>,
    dormant: Dormant,
    head: Head,
    spare: Vec<Entry>,
    entered: Vec<u64>,
    sample: Vec<u32>,
}

#[derive(Clone)]
enum Initial {
    Values(SharedValues),
    /// As many zeros.
    Zeros(u64),
}

impl MappedReservoir {
    /// A reservoir that starts with all of θ⁰.
    pub fn new(values: SharedValues) -> Self {
        Self::of(Initial::Values(values))
    }

    /// One of `n` zeros, which take no memory: for a weight that a checkpoint will replace and that is then only computed with, so
    /// that nobody has to have θ⁰.
    pub fn without_values(n: u64) -> Self {
        Self::of(Initial::Zeros(n))
    }

    fn of(initial: Initial) -> Self {
        Self {
            initial,
            touched: Vec::new(),
            dormant: Dormant::default(),
            head: Head::unknown(),
            spare: Vec::new(),
            entered: Vec::new(),
            sample: Vec::new(),
        }
    }

    /// |B|.
    fn backward(&self) -> usize {
        self.touched.len() - self.dormant.len()
    }

    /// How many entries of C are worth keeping in order beside those asked for: so many that θ⁰ is rarely looked through.
    fn usual(&self) -> usize {
        self.backward() / 4 + 64
    }

    /// Lists at least the first `count` of C.
    fn search(&mut self, count: usize) {
        // Who asks for many may soon ask for twice as many; but not at the start, for all of B.
        let usual = self.usual();
        let more = usual + (count / 4).max(count.min(2 * usual));
        let wanted = count.saturating_add(more);
        let untouched = (self.entries() - self.touched.len() as u64) as usize;
        let wanted = wanted.min(untouched);
        let Self { initial, touched, dormant, head, spare, sample, .. } = self;
        let outside = |start| {
            let mut rest = &touched[touched.partition_point(|&index| index < start)..];
            move |index| {
                while rest.first().is_some_and(|&other| other < index) {
                    rest = &rest[1..];
                }
                rest.first() != Some(&index)
            }
        };
        head.fill(wanted, dormant.entries(), spare, |out| {
            match initial {
                Initial::Values(values) => list_first((**values).as_ref(), wanted, outside, sample, out),
                Initial::Zeros(n) => {
                    let mut outside = outside(0);
                    let indices = (0..*n).filter(|&index| outside(index)).take(wanted);
                    out.extend(indices.map(|index| Entry { index, value: 0.0 }));
                }
            }
            out.len() < untouched
        });
    }
}

impl Reservoir for MappedReservoir {
    fn head(&mut self, count: usize) -> &[Entry] {
        if !self.head.suffices(count) {
            self.search(count);
        }
        self.head.entries()
    }

    fn value(&self, index: u64) -> f32 {
        self.dormant.value(index).unwrap_or_else(|| match &self.initial {
            Initial::Values(values) => (**values).as_ref()[index as usize],
            Initial::Zeros(_) => 0.0,
        })
    }

    fn exchange(&mut self, left: &[Entry], entered: &[u64]) {
        self.entered.clear();
        self.entered.extend_from_slice(entered);
        self.entered.sort_unstable();
        if entered.len() as u64 > self.entries() / 64 {
            // To look up so many takes longer than a pass.
            self.head = Head::unknown();
            self.spare = Vec::new();
        } else {
            let went = |index| self.entered.binary_search(&index).is_ok();
            self.head.exchange(left, entered.len(), went, &mut self.spare);
        }
        self.dormant.exchange(left, &mut self.entered, &mut self.spare);
        insert_ascending(&mut self.touched, &self.entered);
        let usual = self.usual();
        if self.head.entries().len() > 4 * usual {
            self.head.truncate(2 * usual);
        }
        if entered.len() > 2 * usual {
            // As at the start: there was room for all of B.
            self.head.shrink();
            self.spare = Vec::new();
            self.entered = Vec::new();
        }
    }

    fn entries(&self) -> u64 {
        match &self.initial {
            Initial::Values(values) => (**values).as_ref().len() as u64,
            Initial::Zeros(n) => *n,
        }
    }

    fn dormant(&self) -> u64 {
        self.dormant.len() as u64
    }

    fn bytes(&self) -> usize {
        // The head and its scratch as they usually are, so that the number does not change from step to step.
        let head = 2 * self.usual() * size_of::<Entry>();
        self.dormant.bytes() + size_of_val(&self.touched[..]) + head
    }

    fn state(&self) -> ReservoirState<'_> {
        ReservoirState::Dormant { indices: self.dormant.indices(), values: self.dormant.values() }
    }

    fn restored(&self, saved: SavedReservoir, backward: &[u64]) -> Result<Box<dyn Reservoir>, WeightError> {
        let SavedReservoir::Dormant { indices, values } = saved else {
            return Err(WeightError::OtherReservoir);
        };
        let mut restored = Self::of(self.initial.clone());
        restored.dormant = Dormant::from_saved(indices, values, self.entries(), backward)?;
        restored.touched = backward.to_vec();
        insert_ascending(&mut restored.touched, restored.dormant.indices());
        Ok(Box::new(restored))
    }
}

#[cfg(test)]
mod tests;
