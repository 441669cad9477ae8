//! The optimizers, one entry at a time.

use topkast_train::config::{OptimizerConfig, OptimizerKind, PenaltyName, ScheduleKind};

/// What an optimizer remembers of an entry; all zero when the entry enters B.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Memory {
    pub(crate) first: f64,
    pub(crate) second: f64,
    pub(crate) age: i32,
}

/// Updates `value` by its gradient and a penalty with coefficient `coefficient`.
pub(crate) fn update(
    config: &OptimizerConfig,
    lr: f64,
    value: &mut f64,
    gradient: f64,
    coefficient: f64,
    memory: &mut Memory,
) {
    let pull = match config.penalty_kind {
        PenaltyName::L2 => coefficient * *value,
        PenaltyName::L1 if *value == 0.0 => 0.0,
        PenaltyName::L1 => coefficient * value.signum(),
    };
    match config.kind {
        OptimizerKind::Sgd => *value -= lr * sgd(config, gradient + pull, memory),
        OptimizerKind::Adam => *value -= lr * adam(config, gradient + pull, memory),
        OptimizerKind::AdamW => *value -= lr * pull + lr * adam(config, gradient, memory),
    }
}

fn sgd(config: &OptimizerConfig, gradient: f64, memory: &mut Memory) -> f64 {
    memory.first = config.momentum * memory.first + gradient;
    if config.nesterov { gradient + config.momentum * memory.first } else { memory.first }
}

fn adam(config: &OptimizerConfig, gradient: f64, memory: &mut Memory) -> f64 {
    let OptimizerConfig { beta1, beta2, epsilon, .. } = *config;
    memory.age += 1;
    memory.first = beta1 * memory.first + (1.0 - beta1) * gradient;
    memory.second = beta2 * memory.second + (1.0 - beta2) * gradient * gradient;
    let mean = memory.first / (1.0 - beta1.powi(memory.age));
    let square = memory.second / (1.0 - beta2.powi(memory.age));
    mean / (square.sqrt() + epsilon)
}

/// The learning rate of a step.
pub(crate) fn rate(config: &OptimizerConfig, step: u64, steps: u64) -> f64 {
    match config.schedule {
        ScheduleKind::Constant => config.lr,
        ScheduleKind::Cosine => {
            config.lr * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos()) / 2.0
        }
        ScheduleKind::Step => panic!("the oracle does not know this schedule"),
    }
}
