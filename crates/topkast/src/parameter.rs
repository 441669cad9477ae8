//! A trained vector: values, their gradient, and what the optimizer remembers of each.

use topkast_kernels::Buffer;

use crate::Remap;

/// Optimizer state, one number an entry; a vector the optimizer does not use stays empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// SGD's momentum, or Adam's first moment.
    pub first: Buffer,
    /// Adam's second moment.
    pub second: Buffer,
    /// How many updates Adam has made to the entry since it entered B: bias correction counts from there.
    pub age: Vec<u32>,
}

/// Values with everything that is as long as they are, kept together so that nothing can fall out of step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameter {
    /// What is trained.
    pub values: Buffer,
    /// The loss's gradient with respect to `values`, written by the backward pass.
    pub gradient: Buffer,
    /// Optimizer state, sized by [`Optimizer::prepare`](crate::Optimizer::prepare).
    pub moments: Moments,
}

impl Parameter {
    /// A parameter that has not been trained.
    pub fn new(values: Buffer) -> Self {
        Self { gradient: Buffer::zeros(values.len()), values, moments: Moments::default() }
    }

    /// Bytes of values, gradient and optimizer state.
    pub fn bytes(&self) -> usize {
        let floats = [&self.values, &self.gradient, &self.moments.first, &self.moments.second];
        floats.iter().map(|buffer| size_of_val(&buffer[..])).sum::<usize>()
            + size_of_val(&self.moments.age[..])
    }

    /// Follows a refresh: values and moments move with their entries; the gradient is that of the old order, and of no
    /// use until the next backward pass.
    pub(crate) fn remap(&mut self, remap: &Remap, spare: &mut Spare) {
        let Self { values, moments: Moments { first, second, age }, .. } = self;
        fn follow<T: Copy + Default>(remap: &Remap, state: &mut [T], spare: &mut Vec<T>) {
            if !state.is_empty() {
                remap.apply(state, spare);
            }
        }
        let Spare { values: of_values, first: of_first, second: of_second, age: of_age } = spare;
        rayon::join(
            || remap.apply_values(values, of_values),
            || {
                follow(remap, first, of_first);
                rayon::join(|| follow(remap, second, of_second), || follow(remap, age, of_age));
            },
        );
    }
}

/// Scratch of [`Parameter::remap`].
#[derive(Default)]
pub(crate) struct Spare {
    values: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    age: Vec<u32>,
}
