//! Weights that compute and are not trained.

use topkast_kernels::{Buffer, Csr};

use super::{SparseWeight, WeightError, checked_total};
use crate::{Counts, Moments, Parameter, Pattern, Seed, Topology};

impl SparseWeight {
    /// The weight of which A is `active`, with these values in the order of its entries, and nothing besides is held: no B∖A, no C,
    /// no gradient. To compute with; a backward pass to it panics.
    ///
    /// # Errors
    /// If the shape is empty or overflows, or there is not one value for each entry.
    pub fn fixed(active: Csr, values: Buffer) -> Result<Self, WeightError> {
        let (rows, width, entries) = (active.rows(), active.width(), active.entries());
        let counts = Counts { active: entries, backward: entries };
        checked_total(rows, width, counts)?;
        if values.len() != entries {
            return Err(WeightError::Length { what: "values", got: values.len(), want: entries });
        }
        let none = Csr::new(width, vec![0; rows + 1], Vec::new()).expect("no entries are in any shape");
        let pattern = Pattern::new(active, none)?.into();
        let parameter = Parameter { values, gradient: Buffer::default(), moments: Moments::default() };
        let (topology, seed, refresher) = (Topology::Static, Seed::new(0), Box::default());
        let (together, reservoir, initial) = (None, None, None);
        Ok(Self { pattern, parameter, topology, counts, together, reservoir, initial, seed, refresher })
    }

    /// Whether nothing of it will change, as there is no room for a gradient.
    pub fn is_fixed(&self) -> bool {
        self.parameter.gradient.len() < self.parameter.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_is_held() {
        let csr = Csr::new(4, vec![0, 1, 3], vec![2, 0, 3]).unwrap();
        let weight = SparseWeight::fixed(csr.clone(), Buffer::from(&[1.0, 2.0, 3.0][..])).unwrap();
        assert_eq!(weight.active_values(), [1.0, 2.0, 3.0]);
        assert_eq!((weight.pattern().explore().entries(), weight.parameter().gradient.len()), (0, 0));
        assert!(weight.reservoir().is_none() && weight.is_started() && weight.is_fixed());
        let short = SparseWeight::fixed(csr, Buffer::zeros(2)).unwrap_err();
        assert_eq!(short, WeightError::Length { what: "values", got: 2, want: 3 });
        let empty = SparseWeight::fixed(Csr::new(4, vec![0], vec![]).unwrap(), Buffer::default());
        assert_eq!(empty.unwrap_err(), WeightError::Shape { rows: 0, width: 4 });
    }
}
