//! Gradients averaged over several batches before an update.

use topkast::Parameter;
use topkast_kernels::Buffer;
use topkast_nn::Network;

/// The sums of gradients so far, one for each parameter: as large again as the gradients, |B| of a sparse weight.
#[derive(Debug, Default)]
pub(crate) struct Accumulated(Vec<Buffer>);

impl Accumulated {
    /// Takes in the gradients of the batch with number `part` of `parts`; with the last one the network's gradients become the mean of all.
    pub(crate) fn add(&mut self, network: &mut Network, part: u64, parts: u64) {
        let (mut number, scale) = (0, 1.0 / parts as f32);
        network.visit(&mut |_, parameter| {
            let Some(Parameter { gradient, .. }) = parameter.trained() else { return };
            if self.0.len() == number {
                self.0.push(Buffer::default());
            }
            let sum = &mut self.0[number];
            number += 1;
            if part == 0 {
                sum.reset(gradient.len());
                sum.copy_from_slice(gradient);
            } else {
                sum.iter_mut().zip(&**gradient).for_each(|(sum, gradient)| *sum += gradient);
            }
            if part + 1 == parts {
                gradient.iter_mut().zip(&**sum).for_each(|(gradient, sum)| *gradient = sum * scale);
            }
        });
    }
}
