//! All of θ in memory: for networks that start from given dense weights, and the oracle for other reservoirs.

use super::{Reservoir, ReservoirState};
use crate::selection::select_largest;
use crate::{Entry, WeightError};

/// θ written out, 4 bytes an entry, and a bit an entry for whether it has been in B and left.
///
/// The slots of entries in B are stale until the next selection writes the held values back.
pub struct DenseReservoir {
    theta: Vec<f32>,
    dormant: Vec<u64>,
}

impl DenseReservoir {
    /// A reservoir that starts with all of θ.
    pub fn new(theta: Vec<f32>) -> Self {
        let dormant = vec![0; theta.len().div_ceil(64)];
        Self { theta, dormant }
    }

    /// A reservoir as a checkpoint stored it.
    ///
    /// # Errors
    /// If `dormant` does not have one bit per entry of `theta`.
    pub fn from_state(theta: Vec<f32>, dormant: Vec<u64>) -> Result<Self, WeightError> {
        if dormant.len() != theta.len().div_ceil(64) {
            return Err(WeightError::Length {
                what: "dormant bits",
                got: dormant.len(),
                want: theta.len().div_ceil(64),
            });
        }
        Ok(Self { theta, dormant })
    }

    /// Multiplies all of θ; for scaling an initialisation once its active set is known.
    pub(crate) fn scale(&mut self, factor: f32) {
        self.theta.iter_mut().for_each(|value| *value *= factor);
    }
}

impl Reservoir for DenseReservoir {
    fn largest(&mut self, held: &[Entry], count: usize, out: &mut Vec<Entry>) {
        for entry in held {
            self.theta[entry.index as usize] = entry.value;
        }
        select_largest(&|| self.theta.iter().copied(), count, |position, value| {
            out.push(Entry { index: position as u64, value });
        });
    }

    fn value(&self, index: u64) -> f32 {
        self.theta[index as usize]
    }

    fn exchange(&mut self, left: &[Entry], entered: &[u64]) {
        for entry in left {
            self.theta[entry.index as usize] = entry.value;
            self.dormant[entry.index as usize / 64] |= 1 << (entry.index % 64);
        }
        for &index in entered {
            self.dormant[index as usize / 64] &= !(1 << (index % 64));
        }
    }

    fn entries(&self) -> u64 {
        self.theta.len() as u64
    }

    fn dormant(&self) -> u64 {
        self.dormant.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    fn bytes(&self) -> usize {
        size_of_val(&self.theta[..]) + size_of_val(&self.dormant[..])
    }

    fn state(&self) -> ReservoirState<'_> {
        ReservoirState::Dense { theta: &self.theta, dormant: &self.dormant }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_values_decide_and_those_that_leave_are_kept() {
        let mut reservoir = DenseReservoir::new(vec![5.0, 1.0, 2.0, 3.0]);
        let held = [Entry { index: 0, value: 0.5 }, Entry { index: 3, value: -4.0 }];
        let mut out = Vec::new();
        reservoir.largest(&held, 2, &mut out);
        assert_eq!(out, [Entry { index: 2, value: 2.0 }, Entry { index: 3, value: -4.0 }]);
        reservoir.exchange(&held[..1], &[2]);
        assert_eq!(reservoir.value(0), 0.5);
        assert_eq!(reservoir.dormant(), 1);
        reservoir.exchange(&[], &[0]);
        assert_eq!(reservoir.dormant(), 0);
    }

    #[test]
    fn dormant_bits_must_fit() {
        assert!(DenseReservoir::from_state(vec![0.0; 65], vec![0; 1]).is_err());
        assert!(DenseReservoir::from_state(vec![0.0; 65], vec![0; 2]).is_ok());
    }
}
