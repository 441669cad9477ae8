//! Sparse layers of networks that are no longer trained, given one position at a time.

use topkast::SparseWeight;
use topkast_kernels::{Buffer, Isa, Matrix, Single, gelu};

use crate::Activation;

/// A fixed weight laid out for one position, from the first time that it is given one.
#[derive(Debug, Default)]
pub(crate) struct SinglePosition {
    /// None within where such a layout does not pay.
    layout: Option<Option<Single>>,
    packed: Buffer,
}

impl SinglePosition {
    /// `y = activation(W·x + b)` of one position, for GELU with the sum in `pre`; or false, and nothing is done, where the weight is
    /// trained or its layout does not pay.
    #[allow(clippy::too_many_arguments, reason = "a layer's forward pass and what it computes with")]
    pub(crate) fn forward(
        &mut self,
        isa: Isa,
        weight: &SparseWeight,
        x: &Matrix,
        bias: &[f32],
        activation: Activation,
        pre: &mut Matrix,
        y: &mut Matrix,
    ) -> bool {
        if !weight.is_fixed() {
            return false;
        }
        let Self { layout, packed } = self;
        let make = || Single::new(isa, weight.pattern().active(), weight.active_values());
        let Some(single) = layout.get_or_insert_with(make) else { return false };
        match activation {
            Activation::Identity => single.product(x, bias, false, packed, y),
            Activation::Relu => single.product(x, bias, true, packed, y),
            Activation::Gelu => {
                single.product(x, bias, false, packed, pre);
                y.ensure(pre.features(), pre.positions());
                gelu(isa, pre, y);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use topkast_kernels::Csr;

    use super::*;
    use crate::{Linear, SparseLinear};

    /// A layer of 40 outputs and 50 inputs of which every third weight is active.
    fn layer() -> Linear {
        let (rows, width) = (40, 50);
        let columns: Vec<u32> =
            (0..rows * width).filter(|index| index % 3 == 0).map(|index| index % width).collect();
        let offsets = (0..=rows).map(|row| (row * width).div_ceil(3)).collect();
        let csr = Csr::new(width as usize, offsets, columns).unwrap();
        let values: Vec<f32> = (0..csr.entries()).map(|entry| (entry as f32).sin()).collect();
        let weight = SparseWeight::fixed(csr, Buffer::from(&values[..])).unwrap();
        let bias: Vec<f32> = (0..rows).map(|row| (row as f32).cos()).collect();
        Linear::Sparse(SparseLinear::new(weight, Buffer::from(&bias[..])))
    }

    #[test]
    fn one_position_is_as_one_of_several() {
        for isa in Isa::available() {
            for activation in [Activation::Identity, Activation::Relu, Activation::Gelu] {
                let numbers: Vec<f32> = (0..100).map(|at| (at as f32 * 0.7).sin()).collect();
                let two = Matrix::from_rows(50, 2, &numbers);
                let one: Vec<f32> = (0..50).map(|row| two.get(row, 1)).collect();
                let one = Matrix::from_rows(50, 1, &one);
                let (mut layer, mut pre) = (layer(), Matrix::default());
                let (mut want, mut got) = (Matrix::default(), Matrix::default());
                layer.forward(isa, &two, activation, &mut pre, &mut want);
                layer.forward(isa, &one, activation, &mut pre, &mut got);
                let Linear::Sparse(sparse) = &layer else { unreachable!() };
                assert!(matches!(sparse.single().layout, Some(Some(_))), "it is laid out");
                for row in 0..40 {
                    assert!((got.get(row, 0) - want.get(row, 1)).abs() < 1e-5);
                }
            }
        }
    }
}
