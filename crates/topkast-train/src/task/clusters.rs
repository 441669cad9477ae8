//! How often an adaptive table's layers compute, which follows from how frequent the tokens of each cluster are.

use std::ops::Range;

use crate::text::Ids;

/// The share of each cluster's tokens in a text; of none where the table is not adaptive.
#[derive(Debug, Default)]
pub(crate) struct ClusterShares(Vec<f64>);

impl ClusterShares {
    /// Of clusters with these tokens, which are all that there are, and are so wide.
    pub(super) fn of(clusters: &[(Range<u32>, usize)], ids: &Ids) -> Self {
        if clusters.is_empty() {
            return Self::default();
        }
        let ends: Vec<u32> = clusters.iter().map(|(tokens, _)| tokens.end).collect();
        let mut counts = vec![0_u64; ends.len()];
        let mut count = |id| counts[ends.partition_point(|&end| end <= id)] += 1;
        match ids {
            Ids::Bytes(ids) => ids.iter().for_each(|&id| count(id.into())),
            Ids::Words(ids) => ids.iter().for_each(|&id| count(id)),
        }
        Self(counts.into_iter().map(|count| count as f64 / ids.len() as f64).collect())
    }

    /// For how many positions the layer of this name computes, as a fraction of all: the first cluster's table for the output of all,
    /// that of others for the output of their own, and each projection once more, for the input of its own. Layers that are in no
    /// cluster compute for all.
    pub(crate) fn positions(&self, layer: &str) -> f64 {
        let number = layer.strip_prefix("embedding.").unwrap_or_default();
        let table = number.strip_suffix(".projection").unwrap_or(number);
        let Some((cluster, share)) = table.parse().ok().and_then(|at: usize| Some((at, self.0.get(at)?)))
        else {
            return 1.0;
        };
        let output = if cluster == 0 { 1.0 } else { *share };
        if table == number { output } else { output + share }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_compute_for_the_positions_of_their_cluster() {
        let clusters = [(0..2, 8), (2..3, 4), (3..5, 2), (5..7, 1)];
        for ids in [Ids::Bytes(vec![0, 1, 0, 2, 3, 4, 4, 1]), Ids::Words(vec![0, 1, 0, 2, 3, 4, 4, 1])] {
            let shares = ClusterShares::of(&clusters, &ids);
            let names = ["0", "0.projection", "1", "1.projection", "2", "2.projection", "3", "3.projection"];
            let got = names.map(|name| shares.positions(&format!("embedding.{name}")));
            assert_eq!(got, [1.0, 1.5, 0.125, 0.25, 0.375, 0.75, 0.0, 0.0]);
            assert_eq!(shares.positions("layers.0.attention.query"), 1.0);
        }
        let none = ClusterShares::of(&[], &Ids::Bytes(vec![0, 1]));
        assert_eq!([none.positions("embedding"), none.positions("embedding.0")], [1.0; 2]);
    }
}
