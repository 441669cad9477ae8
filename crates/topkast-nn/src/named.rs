//! Parameters with the names that checkpoints and reports know them by.

use std::ops::{Deref, DerefMut};

use topkast::Parameter;
use topkast_kernels::Buffer;

use crate::{Linear, ParameterMut};

/// A linear layer of a network.
#[derive(Debug)]
pub(crate) struct NamedLinear {
    linear: Linear,
    weight_name: String,
    bias_name: String,
}

impl NamedLinear {
    /// `linear`, which must be of this size, as `name`.
    pub(crate) fn new(name: &str, size: [usize; 2], linear: Linear) -> Self {
        assert_eq!(linear.shape(), size, "the size of {name}");
        Self { linear, weight_name: format!("{name}.weight"), bias_name: format!("{name}.bias") }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        name_of(&self.weight_name)
    }

    /// Its name and itself.
    pub(crate) fn named(&mut self) -> (&str, &mut Linear) {
        (name_of(&self.weight_name), &mut self.linear)
    }

    /// Calls `visit` with the weight, then the bias.
    pub(crate) fn visit<'a>(&'a mut self, visit: &mut dyn FnMut(&'a str, ParameterMut<'a>)) {
        let [weight, bias] = self.linear.parameters();
        visit(&self.weight_name, weight);
        visit(&self.bias_name, bias);
    }
}

fn name_of(weight_name: &str) -> &str {
    weight_name.strip_suffix(".weight").expect("named so by new")
}

impl Deref for NamedLinear {
    type Target = Linear;

    fn deref(&self) -> &Linear {
        &self.linear
    }
}

impl DerefMut for NamedLinear {
    fn deref_mut(&mut self) -> &mut Linear {
        &mut self.linear
    }
}

/// A vector of which there is one number for each feature.
#[derive(Debug)]
pub(crate) struct NamedVector {
    pub(crate) parameter: Parameter,
    name: String,
}

impl NamedVector {
    /// `len` times `value`, as `name`.
    pub(crate) fn filled(name: String, len: usize, value: f32) -> Self {
        let mut values = Buffer::zeros(len);
        values.fill(value);
        Self { parameter: Parameter::new(values), name }
    }

    /// Calls `visit` with it.
    pub(crate) fn visit<'a>(&'a mut self, visit: &mut dyn FnMut(&'a str, ParameterMut<'a>)) {
        visit(&self.name, ParameterMut::Bias(&mut self.parameter));
    }
}
