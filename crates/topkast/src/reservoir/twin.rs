//! For tests of reservoirs that store no θ: each is a dense reservoir of the same values, whatever happens to it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{DenseReservoir, Reservoir, ReservoirState, SavedReservoir};
use crate::Entry;

/// How much of C is asked for, whether its first entries come into B, which others are exchanged, with values for those that
/// leave (of every fourth value the one it began with), and whether the reservoir is saved and restored.
type Round = (usize, bool, Vec<(u16, i8)>, bool);

pub(super) fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let exchanged = prop::collection::vec(any::<(u16, i8)>(), 0..80);
    prop::collection::vec((0usize..90, any::<bool>(), exchanged, any::<bool>()), 1..12)
}

/// Compares `reservoir`, which begins with `theta`, with a dense one after each round.
pub(super) fn check(
    mut reservoir: Box<dyn Reservoir>,
    theta: Vec<f32>,
    rounds: Vec<Round>,
    value: impl Fn(i8) -> f32,
) {
    let n = theta.len();
    let mut dense = DenseReservoir::new(theta.clone());
    let mut backward = BTreeSet::new();
    for (count, magnitude, exchanged, restore) in rounds {
        let (got, want) = (reservoir.head(count), dense.head(count));
        assert!(got.len() >= count.min(n - backward.len()));
        let common = got.len().min(want.len());
        let bits = |entry: &Entry| (entry.index, entry.value.to_bits());
        assert!(got[..common].iter().map(bits).eq(want[..common].iter().map(bits)));
        // The first of C come in, or any; of B any leave, with any value.
        let (mut left, mut entered) = (Vec::new(), Vec::new());
        if magnitude {
            entered.extend(want.iter().take(count).map(|entry| entry.index));
        }
        for (at, number) in exchanged {
            let index = u64::from(at) % n as u64;
            if backward.remove(&index) {
                let value = if number % 4 == 0 { theta[index as usize] } else { value(number) };
                left.push(Entry { index, value });
            } else if !magnitude && !entered.contains(&index) && left.iter().all(|entry| entry.index != index)
            {
                entered.push(index);
            }
        }
        backward.extend(entered.iter().copied());
        reservoir.exchange(&left, &entered);
        dense.exchange(&left, &entered);
        if restore {
            let ReservoirState::Dormant { indices, values } = reservoir.state() else { unreachable!() };
            let saved = SavedReservoir::Dormant { indices: indices.to_vec(), values: values.to_vec() };
            let backward: Vec<u64> = backward.iter().copied().collect();
            let restored = reservoir.restored(saved, &backward).unwrap();
            assert_eq!(restored.frontier(), reservoir.frontier());
            reservoir = restored;
        }
        assert_eq!(reservoir.dormant(), dense.dormant());
        for index in (0..n as u64).filter(|index| !backward.contains(index)) {
            assert_eq!(reservoir.value(index).to_bits(), dense.value(index).to_bits());
        }
    }
}
