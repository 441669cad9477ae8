//! What a network's answers come to.

use std::ops::AddAssign;

use topkast_kernels::{Isa, LossSums, Matrix, softmax_cross_entropy};

/// Sums over positions: divide by their number for means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// The sum of the positions' cross-entropies, in nats.
    pub sum: f64,
    /// At how many positions the target is the likeliest answer; none where that is not known, as of adaptive softmax.
    pub correct: Option<usize>,
}

impl Loss {
    /// Of no positions.
    pub const ZERO: Self = Self { sum: 0.0, correct: Some(0) };
}

/// Positions besides.
impl AddAssign for Loss {
    fn add_assign(&mut self, others: Self) {
        self.sum += others.sum;
        self.correct = self.correct.zip(others.correct).map(|(correct, more)| correct + more);
    }
}

impl From<LossSums> for Loss {
    fn from(LossSums { loss, correct }: LossSums) -> Self {
        Self { sum: loss, correct: Some(correct) }
    }
}

/// The loss of `logits`. If that is wanted, `gradient` takes their shape and is overwritten with the gradient of the mean loss.
pub(crate) fn softmax_loss(
    isa: Isa,
    logits: &Matrix,
    targets: &[u32],
    label_smoothing: f32,
    with_gradient: bool,
    gradient: &mut Matrix,
) -> Loss {
    let gradient = with_gradient.then(|| {
        gradient.ensure(logits.features(), logits.positions());
        gradient
    });
    softmax_cross_entropy(isa, logits, targets, label_smoothing, gradient).into()
}

/// The logits of one position into `numbers`.
pub(crate) fn column(logits: &Matrix, position: usize, numbers: &mut Vec<f32>) {
    numbers.clear();
    numbers.extend((0..logits.features()).map(|row| logits.get(row, position)));
}
