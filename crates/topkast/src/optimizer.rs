//! SGD and Adam on compact vectors, with the exploration penalty in the same pass.

use std::ops::Range;

use topkast_kernels::{Adam, Corrections, Isa, Penalty, Sgd, adam, sgd};

use crate::{Moments, Parameter};

/// An update rule and its numbers, with PyTorch's meanings.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Hyper {
    /// Stochastic gradient descent; the penalty's gradient is added to the loss's.
    Sgd { momentum: f32, nesterov: bool },
    /// Adam (Kingma and Ba 2015); the penalty's gradient is added to the loss's.
    Adam { beta1: f64, beta2: f64, epsilon: f32 },
    /// AdamW (Loshchilov and Hutter 2019): the penalty acts on the values directly.
    AdamW { beta1: f64, beta2: f64, epsilon: f32 },
}

impl Hyper {
    /// Whether the rule keeps a first moment of each entry, and whether a second.
    pub fn moments(self) -> [bool; 2] {
        match self {
            Self::Sgd { momentum, .. } => [momentum != 0.0, false],
            Self::Adam { .. } | Self::AdamW { .. } => [true; 2],
        }
    }
}

/// The exploration penalty's form (paper §2.3; printed with |θ|, called L2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PenaltyKind {
    /// Gradient `c·θ`.
    L2,
    /// Gradient `c·sign(θ)`.
    L1,
}

/// Updates [`Parameter`]s.
#[derive(Clone, Debug)]
pub struct Optimizer {
    hyper: Hyper,
    corrections: Option<Corrections>,
    penalty_kind: PenaltyKind,
    penalty: f32,
}

impl Optimizer {
    /// An optimizer with penalty coefficient λ = `penalty` on A (see [`SparseWeight::update`](crate::SparseWeight::update)
    /// for B∖A).
    pub fn new(hyper: Hyper, penalty_kind: PenaltyKind, penalty: f32) -> Self {
        let corrections = match hyper {
            Hyper::Sgd { .. } => None,
            Hyper::Adam { beta1, beta2, .. } | Hyper::AdamW { beta1, beta2, .. } => {
                Some(Corrections::new(beta1, beta2))
            }
        };
        Self { hyper, corrections, penalty_kind, penalty }
    }

    /// λ.
    pub fn penalty(&self) -> f32 {
        self.penalty
    }

    /// Gives `parameter` the moments this optimizer needs, zero where it had none.
    pub fn prepare(&self, parameter: &mut Parameter) {
        let len = parameter.values.len();
        let Moments { first, second, age } = &mut parameter.moments;
        let [first_len, second_len] = self.hyper.moments().map(|kept| if kept { len } else { 0 });
        if first.len() != first_len {
            first.reset(first_len);
        }
        if second.len() != second_len {
            second.reset(second_len);
            age.clear();
            age.resize(second_len, 0);
        }
    }

    /// Updates the entries `part` of `parameter` with its gradient times `gradient_scale` and a penalty with
    /// coefficient `coefficient`. Returns whether what it wrote is finite: it is not where the gradient was not.
    ///
    /// # Panics
    /// If `part` is out of range, or [`prepare`](Self::prepare) was not called for this parameter.
    pub fn update(
        &self,
        isa: Isa,
        lr: f32,
        gradient_scale: f32,
        parameter: &mut Parameter,
        part: Range<usize>,
        coefficient: f32,
    ) -> bool {
        let penalty = match self.penalty_kind {
            _ if coefficient == 0.0 => Penalty::None,
            PenaltyKind::L2 => Penalty::L2(coefficient),
            PenaltyKind::L1 => Penalty::L1(coefficient),
        };
        let Parameter { values, gradient, moments: Moments { first, second, age } } = parameter;
        let (values, gradient) = (&mut values[part.clone()], &gradient[part.clone()]);
        match self.hyper {
            Hyper::Sgd { momentum, nesterov } => {
                let first = if momentum == 0.0 { &mut [] } else { &mut first[part] };
                sgd(isa, &Sgd { lr, momentum, nesterov, gradient_scale, penalty }, values, gradient, first)
            }
            Hyper::Adam { epsilon, .. } | Hyper::AdamW { epsilon, .. } => {
                let step = Adam {
                    lr,
                    epsilon,
                    decoupled: matches!(self.hyper, Hyper::AdamW { .. }),
                    gradient_scale,
                    penalty,
                    corrections: self.corrections.as_ref().expect("Adam was made with its corrections"),
                };
                adam(
                    isa,
                    &step,
                    values,
                    gradient,
                    &mut first[part.clone()],
                    &mut second[part.clone()],
                    &mut age[part],
                )
            }
        }
    }
}
