//! How many entries gradual pruning leaves at each step.

/// Zhu and Gupta's cubic schedule (<https://arxiv.org/abs/1710.01878>, §3 (1)) from no sparsity at step 0: at t = ΔT, 2ΔT, …, nΔT a
/// weight comes to the share `1 − (1 − t/(nΔT))³` of its final sparsity, and from then on stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruneSchedule {
    every: u64,
    updates: u64,
}

impl PruneSchedule {
    /// The schedule with `every` steps (ΔT, at least 1) from one update to the next, the last one at step `last` or less than ΔT
    /// before; none where that would be the first step.
    pub fn new(every: u64, last: u64) -> Option<Self> {
        let updates = last / every;
        (updates > 0).then_some(Self { every, updates })
    }

    /// Whether something is to be dropped at `step`, counted from 0.
    pub fn is_due(&self, step: u64) -> bool {
        step > 0 && step.is_multiple_of(self.every) && step <= self.end()
    }

    /// The step of the last update.
    pub fn end(&self) -> u64 {
        self.every * self.updates
    }

    /// How many entries a weight of `total`, which comes to `last` of them, has in `step`, after its update if there is one.
    pub fn kept(&self, step: u64, total: u64, last: u64) -> u64 {
        let done = (step / self.every).min(self.updates);
        if done == self.updates {
            return last;
        }
        let left = 1.0 - done as f64 / self.updates as f64;
        let dropped = (total - last) as f64 * (1.0 - left * left * left);
        total - dropped as u64
    }

    /// The mean over the first `steps` steps of what `of` says of the number of entries in a step.
    pub fn mean(&self, steps: u64, total: u64, last: u64, of: impl Fn(u64) -> f64) -> f64 {
        if steps == 0 {
            return of(total);
        }
        let sums = (0..=self.updates).map(|update| {
            let from = update * self.every;
            let to = if update == self.updates { steps } else { steps.min(from + self.every) };
            to.saturating_sub(from) as f64 * of(self.kept(from, total, last))
        });
        sums.sum::<f64>() / steps as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sparsity_rises_with_the_cube() {
        let schedule = PruneSchedule::new(10, 45).unwrap();
        assert_eq!(schedule.end(), 40);
        // 900 · (1 − (3/4)³), (1 − (1/2)³), (1 − (1/4)³) are dropped: 520.3…, 787.5, 885.9….
        let kept: Vec<u64> =
            [0, 9, 10, 19, 20, 30, 39, 40, 1000].map(|step| schedule.kept(step, 1000, 100)).into();
        assert_eq!(kept, [1000, 1000, 480, 480, 213, 115, 115, 100, 100]);
        let due: Vec<u64> = (0..100).filter(|&step| schedule.is_due(step)).collect();
        assert_eq!(due, [10, 20, 30, 40]);
    }

    #[test]
    fn without_an_update_there_is_no_schedule() {
        assert!(PruneSchedule::new(10, 9).is_none() && PruneSchedule::new(1, 0).is_none());
        assert_eq!(PruneSchedule::new(10, 10).unwrap().kept(10, 7, 3), 3);
    }

    proptest! {
        #[test]
        fn entries_only_go_and_the_last_are_exact(
            every in 1u64..20, last in 0u64..200, total in 1u64..1 << 32, share in 0.0f64..=1.0, steps in 1u64..300,
        ) {
            let wanted = ((total as f64 * share) as u64).min(total);
            let Some(schedule) = PruneSchedule::new(every, last) else { return Ok(()) };
            let kept: Vec<u64> = (0..300).map(|step| schedule.kept(step, total, wanted)).collect();
            prop_assert!(kept.is_sorted_by(|a, b| a >= b));
            prop_assert_eq!((kept[0], kept[schedule.end() as usize]), (total, wanted));
            for step in 1..300 {
                prop_assert!(schedule.is_due(step as u64) || kept[step] == kept[step - 1]);
            }
            let mean = kept[..steps as usize].iter().map(|&kept| kept as f64).sum::<f64>() / steps as f64;
            let got = schedule.mean(steps, total, wanted, |kept| kept as f64);
            prop_assert!((got - mean).abs() <= 1e-9 * mean.max(1.0));
        }
    }
}
