//! Learning-rate schedules.

/// How the learning rate goes after warm-up.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Stays.
    Constant,
    /// Is multiplied by `factor` at each of the `milestones`, given as fractions of all steps.
    Step {
        /// Fractions of all steps, in (0, 1).
        milestones: Vec<f64>,
        /// What the rate is multiplied by at each.
        factor: f64,
    },
    /// Falls to 0 along half a cosine.
    Cosine,
}

/// The learning rate of every step.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f64,
    /// Steps over which the rate first rises linearly; the last of them has the peak.
    pub warmup_steps: u64,
    /// From where it rises: the rate of a step before the first.
    pub warmup_from: f64,
    /// Steps in all.
    pub total_steps: u64,
    /// What follows warm-up.
    pub shape: Shape,
}

impl Schedule {
    /// The rate at `step`, counted from 0.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            let done = (step + 1) as f64 / self.warmup_steps as f64;
            return self.warmup_from + (self.peak - self.warmup_from) * done;
        }
        match &self.shape {
            Shape::Constant => self.peak,
            Shape::Step { milestones, factor } => {
                let done = step as f64 / self.total_steps.max(1) as f64;
                let passed = milestones.iter().filter(|&&milestone| done >= milestone).count();
                self.peak * factor.powi(passed as i32)
            }
            Shape::Cosine => {
                let span = self.total_steps.saturating_sub(self.warmup_steps).max(1);
                let done = ((step - self.warmup_steps) as f64 / span as f64).min(1.0);
                self.peak * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_go_where_they_should() {
        let schedule = |shape, warmup_steps| Schedule {
            peak: 2.0,
            warmup_steps,
            warmup_from: 0.0,
            total_steps: 100,
            shape,
        };
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} against {b}");

        near(schedule(Shape::Constant, 0).rate(99), 2.0);
        let step = schedule(Shape::Step { milestones: vec![0.5, 0.75], factor: 0.1 }, 0);
        for (at, rate) in [(0, 2.0), (49, 2.0), (50, 0.2), (75, 0.02), (99, 0.02)] {
            near(step.rate(at), rate);
        }
        let cosine = schedule(Shape::Cosine, 0);
        for (at, rate) in [(0, 2.0), (50, 1.0), (100, 0.0), (200, 0.0)] {
            near(cosine.rate(at), rate);
        }
        let warm = schedule(Shape::Cosine, 20);
        for (at, rate) in [(0, 0.1), (9, 1.0), (19, 2.0), (20, 2.0), (60, 1.0)] {
            near(warm.rate(at), rate);
        }
        let from = Schedule { warmup_from: 1.0, ..schedule(Shape::Cosine, 4) };
        for (at, rate) in [(0, 1.25), (1, 1.5), (3, 2.0), (4, 2.0)] {
            near(from.rate(at), rate);
        }
        near(schedule(Shape::Constant, 100).rate(100), 2.0);
        near(schedule(Shape::Cosine, 100).rate(100), 2.0);
    }
}
