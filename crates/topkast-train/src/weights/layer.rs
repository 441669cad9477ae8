//! From given values to a layer.

use std::sync::Arc;

use topkast::reservoir::{DenseReservoir, MappedReservoir};
use topkast::{Reservoir, ReservoirKind, Seed, SparseWeight, Topology, WeightError};
use topkast_kernels::Buffer;
use topkast_nn::{DenseLinear, LayerPlan, Linear, SparseLinear};

use super::MappedTensor;

/// What a file has for a layer.
pub(super) struct GivenLayer {
    pub(super) weight: MappedTensor,
    pub(super) bias: Option<MappedTensor>,
}

impl GivenLayer {
    /// The layer that starts from these values. A sparse one never has all of them in memory, but with a dense reservoir.
    ///
    /// # Errors
    /// If the plan's counts do not fit the shape, or the weight has too many entries to index.
    pub(super) fn linear(
        &self,
        [outputs, inputs]: [usize; 2],
        plan: &LayerPlan,
        seed: Seed,
    ) -> Result<Linear, WeightError> {
        let weight = self.weight.as_ref();
        let bias = self.bias.as_ref().map_or_else(|| Buffer::zeros(outputs), |bias| bias.as_ref().into());
        let (counts, topology, kind) = match *plan {
            LayerPlan::Dense { .. } => return Ok(Linear::Dense(DenseLinear::new(weight.into(), bias))),
            LayerPlan::Sparse { counts, topology, reservoir, .. } => (counts, topology, reservoir),
        };
        let reservoir: Box<dyn Reservoir> = match (topology, kind) {
            (Topology::TopKast(_), ReservoirKind::Dense) => Box::new(DenseReservoir::new(weight.to_vec())),
            // A static mask looks up its own entries and is done.
            _ => Box::new(MappedReservoir::new(Arc::new(self.weight.clone()))),
        };
        let weight = SparseWeight::from_theta(outputs, inputs, counts, topology, reservoir, seed)?;
        Ok(Linear::Sparse(SparseLinear::new(weight, bias)))
    }
}
