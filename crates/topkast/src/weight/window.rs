//! Which entries of B a refresh has to look at twice: those near the boundary of a set.

use std::ops::Range;

use topkast_kernels::{Isa, outside};

use crate::selection::{NO_MAGNITUDE, magnitude};

/// An entry of B that may have to change sets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) entry: u32,
    pub(super) magnitude: u32,
}

/// Magnitudes between which the boundary between A and the rest is looked for. What is above stays in A or must come in,
/// what is below stays out or must go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Entries of B∖A below this cannot come into A.
    pub(super) low: u32,
    /// Entries of A from this on cannot go.
    pub(super) high: u32,
}

impl Window {
    /// Leaves every entry of A in A and no other.
    pub(super) const CLOSED: Self = Self { low: NO_MAGNITUDE, high: 0 };

    /// Finds the boundary where it is this magnitude.
    pub(super) fn at(magnitude: u32) -> Self {
        Self { low: magnitude, high: magnitude + 1 }
    }
}

/// The magnitude at the boundary at the last refresh, and how far from it the next one is expected. Magnitudes are bit
/// patterns, so the reach is relative.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guess {
    boundary: u32,
    reach: u32,
}

impl Guess {
    /// Without any experience: within a part in a thousand.
    pub(super) fn first(boundary: u32) -> Self {
        Self { boundary, reach: 1 << 13 }
    }

    pub(super) fn window(&self) -> Window {
        let Self { boundary, reach } = *self;
        Window { low: boundary.saturating_sub(reach), high: boundary + reach + 1 }
    }

    /// The next one, after the boundary was found: expects up to twice the way that it went of late.
    pub(super) fn next(&self, boundary: u32) -> Self {
        let way = boundary.abs_diff(self.boundary).min(NO_MAGNITUDE / 4);
        Self { boundary, reach: (2 * way).max(self.reach - self.reach / 8) }
    }
}

/// Appends those of `values`, the first of which is entry `first`, whose magnitude is not in `sure`; `found` is scratch.
pub(super) fn collect(
    values: &[f32],
    first: usize,
    sure: Range<u32>,
    found: &mut Vec<u32>,
    out: &mut Vec<Candidate>,
) {
    // Where a wrong one is asked for, there is no training; and which it is does not show.
    let isa = Isa::current().unwrap_or_else(|_| Isa::portable());
    found.clear();
    outside(isa, values, sure, found);
    out.extend(found.iter().map(|&number| Candidate {
        entry: first as u32 + number,
        magnitude: magnitude(values[number as usize]),
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn collects_what_is_not_sure(
            values in prop::collection::vec(any::<f32>(), 0..70),
            sure in (0..=NO_MAGNITUDE, 0..=NO_MAGNITUDE),
        ) {
            let (sure, mut out) = (sure.0..sure.1, Vec::new());
            collect(&values, 5, sure.clone(), &mut vec![7], &mut out);
            let all = values.iter().zip(5..);
            let all = all.map(|(&value, entry)| Candidate { entry, magnitude: magnitude(value) });
            let wanted: Vec<_> = all.filter(|one| !sure.contains(&one.magnitude)).collect();
            prop_assert_eq!(out, wanted);
        }

        #[test]
        fn the_window_holds_a_boundary_that_moves_as_before(
            boundaries in prop::collection::vec(prop_oneof![Just(0), 0..NO_MAGNITUDE], 2..9),
        ) {
            let mut guess = Guess::first(boundaries[0]);
            for pair in boundaries.windows(2) {
                guess = guess.next(pair[1]);
                let Window { low, high } = guess.window();
                let again = pair[1].saturating_add_signed(pair[1] as i32 - pair[0] as i32).min(NO_MAGNITUDE);
                let way = pair[0].abs_diff(pair[1]) < NO_MAGNITUDE / 4;
                prop_assert!(low <= pair[1] && pair[1] < high);
                prop_assert!(!way || low <= again && again < high);
            }
        }
    }
}
