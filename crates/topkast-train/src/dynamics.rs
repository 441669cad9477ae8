//! How A and B wander in the course of training: what the paper's figure 3 shows.

use topkast::{Reservoir, SparseWeight};
use topkast_kernels::Csr;
use topkast_nn::Network;

/// What has become of A and C by the end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskDynamics {
    /// The share of A that was not in A at the end of the epoch before: in the layer where it is smallest,
    pub change_min: f64,
    /// on average over the sparse layers,
    pub change_mean: f64,
    /// and in the one where it is largest.
    pub change_max: f64,
    /// The share of the entries not in B at the start that have been in B since, over all sparse layers; none where no reservoir knows.
    pub reservoir_used: Option<f64>,
}

/// A of every sparse layer at the end of the last epoch, to compare with: 2 or 4 bytes an entry and 4 a row.
pub(crate) struct Masks(Vec<Csr>);

impl Masks {
    /// Those of now.
    pub(crate) fn of(network: &mut Network) -> Self {
        Self(network.sparse_weights().into_iter().map(|weight| weight.pattern().active().clone()).collect())
    }

    /// Those of an earlier time, layer by layer.
    pub(crate) fn earlier(layers: Vec<Csr>) -> Self {
        Self(layers)
    }

    /// A layer's, the first sparse layer's first.
    pub(crate) fn layers(&self) -> &[Csr] {
        &self.0
    }

    /// What has changed since; from here on it is what changes after now. None without sparse layers.
    pub(crate) fn advance(&mut self, network: &mut Network) -> Option<MaskDynamics> {
        let weights = network.sparse_weights();
        let changes: Vec<f64> = self
            .0
            .iter()
            .zip(&weights)
            .map(|(before, weight)| change(before, weight.pattern().active()))
            .collect();
        let reservoir_used = reservoir_used(&weights);
        *self = Self::of(network);
        let sum: f64 = changes.iter().sum();
        (!changes.is_empty()).then(|| MaskDynamics {
            change_min: changes.iter().copied().fold(f64::INFINITY, f64::min),
            change_mean: sum / changes.len() as f64,
            change_max: changes.iter().copied().fold(0.0, f64::max),
            reservoir_used,
        })
    }
}

/// The share of `after` that is not in `before`; 0 of an empty set.
fn change(before: &Csr, after: &Csr) -> f64 {
    let mut entered = 0u64;
    for row in 0..after.rows() {
        let mut earlier = before.row_columns(row).peekable();
        for column in after.row_columns(row) {
            while earlier.next_if(|&other| other < column).is_some() {}
            entered += u64::from(earlier.next_if_eq(&column).is_none());
        }
    }
    entered as f64 / after.entries().max(1) as f64
}

/// |B| stays in total, so as many entries of the first C have been in B as there are dormant ones now.
fn reservoir_used(weights: &[&mut SparseWeight]) -> Option<f64> {
    let (mut dormant, mut outside) = (0, 0);
    for weight in weights {
        dormant += weight.reservoir().map(Reservoir::dormant)?;
        outside += weight.pattern().total() - weight.counts().backward as u64;
    }
    (outside > 0).then(|| dormant as f64 / outside as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_there_before_is_counted() {
        let csr =
            |offsets: [u32; 3], columns: &[u32]| Csr::new(10, offsets.to_vec(), columns.to_vec()).unwrap();
        let before = csr([0, 3, 5], &[1, 4, 9, 0, 2]);
        for (offsets, columns, want) in [
            ([0, 3, 5], &[1, 4, 9, 0, 2][..], 0.0),
            ([0, 3, 5], &[0, 4, 8, 0, 2], 0.4),
            ([0, 2, 5], &[0, 2, 1, 4, 9], 1.0),
            ([0, 0, 4], &[0, 1, 2, 3], 0.5),
            ([0, 0, 0], &[], 0.0),
        ] {
            assert_eq!(change(&before, &csr(offsets, columns)), want, "{columns:?}");
        }
    }
}
