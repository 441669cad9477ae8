//! When methods that drop and grow do so, and how much.

/// Every so many steps the fraction `f(t) = α/2 · (1 + cos(π·t / T_end))` of A is dropped and as much grown, and nothing from
/// T_end on (Evci et al. 2020, <https://arxiv.org/abs/1911.11134>, §3 (2), for SET as well).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropSchedule {
    /// α, the fraction that the first steps would drop.
    pub alpha: f64,
    /// ΔT, the steps from one update of A to the next; at least 1.
    pub every: u64,
    /// T_end, the step from which on A stays.
    pub end: u64,
}

impl DropSchedule {
    /// f(t) where A is to be updated at `step`, counted from 0. The first A is the initialisation's, so at step 0 it is not.
    pub fn fraction(&self, step: u64) -> Option<f64> {
        let due = step > 0 && step < self.end && step.is_multiple_of(self.every);
        let done = step as f64 / self.end as f64;
        due.then(|| self.alpha / 2.0 * (1.0 + (std::f64::consts::PI * done).cos()))
    }

    /// How many updates of A there are in all.
    pub fn updates(&self) -> u64 {
        self.end.saturating_sub(1) / self.every
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fraction_falls_along_half_a_cosine_to_the_end() {
        let schedule = DropSchedule { alpha: 0.3, every: 10, end: 40 };
        let due: Vec<(u64, f64)> =
            (0..100).filter_map(|step| Some((step, schedule.fraction(step)?))).collect();
        let steps: Vec<u64> = due.iter().map(|&(step, _)| step).collect();
        assert_eq!(steps, [10, 20, 30]);
        let half = 0.5f64.sqrt();
        for ((_, got), want) in due.into_iter().zip([0.15 * (1.0 + half), 0.15, 0.15 * (1.0 - half)]) {
            assert!((got - want).abs() < 1e-12, "{got} against {want}");
        }
    }

    #[test]
    fn updates_are_counted() {
        for (every, end) in [(1, 0), (1, 1), (1, 5), (3, 9), (3, 10), (7, 3)] {
            let schedule = DropSchedule { alpha: 1.0, every, end };
            let due = (0..100).filter(|&step| schedule.fraction(step).is_some()).count() as u64;
            assert_eq!(schedule.updates(), due, "every {every} until {end}");
        }
    }
}
