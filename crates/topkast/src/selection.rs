//! Exact top-k by magnitude in linear time: find the k-th magnitude by counting, then take in index order.
//!
//! ```text
//! threshold:  histogram the magnitudes by their 11 leading bits; in the bucket that holds the k-th largest, by the
//!             next 10; then by the last 10. Three counting passes give the k-th magnitude exactly.
//! take:       in ascending index order, everything above the threshold, and of those equal to it the first few
//!             that make up k: ties go to the lower flat index.
//! ```
//! Nothing is sorted, nothing of the input's size is allocated, and what is taken comes out in index order, as the
//! row-major structure wants it.

/// One weight: its flat index `row × width + column` in the dense matrix, and its value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// Flat index.
    pub index: u64,
    /// Value of θ there.
    pub value: f32,
}

/// Bit pattern of |value|: ordered as magnitudes are (NaN above infinity, so that the order is total).
#[inline]
fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

/// The k-th largest magnitude, and how many entries of exactly that magnitude belong to the k largest.
struct Threshold {
    magnitude: u32,
    ties: usize,
}

/// Shift and width in bits of the digit that each counting pass looks at: together the 31 bits of a magnitude.
const DIGITS: [(u32, u32); 3] = [(20, 11), (10, 10), (0, 10)];

fn threshold<I>(values: &(impl Fn() -> I + ?Sized), k: usize) -> Threshold
where
    I: Iterator<Item = f32>,
{
    let mut wanted = k;
    let mut prefix = 0;
    for (shift, width) in DIGITS {
        let mut histogram = [0usize; 1 << 11];
        let above = shift + width;
        for bits in values().map(magnitude) {
            if above == 31 || bits >> above == prefix >> above {
                histogram[(bits >> shift) as usize & ((1 << width) - 1)] += 1;
            }
        }
        let mut digit = (1 << width) - 1;
        while histogram[digit] < wanted {
            wanted -= histogram[digit];
            digit -= 1;
        }
        prefix |= (digit as u32) << shift;
    }
    Threshold { magnitude: prefix, ties: wanted }
}

/// Calls `take(position, value)`, in ascending order of position, for the `k` values largest in magnitude of those
/// that `values` yields; ties go to the lower position. `values` is called four times and must yield the same.
///
/// # Panics
/// If `values` yields fewer than `k`.
pub fn select_largest<I>(values: &(impl Fn() -> I + ?Sized), k: usize, mut take: impl FnMut(usize, f32))
where
    I: Iterator<Item = f32>,
{
    if k == 0 {
        return;
    }
    let Threshold { magnitude: lowest, mut ties } = threshold(values, k);
    for (position, value) in values().enumerate() {
        let bits = magnitude(value);
        if bits > lowest {
            take(position, value);
        } else if bits == lowest && ties > 0 {
            ties -= 1;
            take(position, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn selected(values: &[f32], k: usize) -> Vec<usize> {
        let mut out = Vec::new();
        select_largest(&|| values.iter().copied(), k, |position, value| {
            assert_eq!(values[position].to_bits(), value.to_bits());
            out.push(position);
        });
        out
    }

    fn by_sorting(values: &[f32], k: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(magnitude(values[i])), i));
        order.truncate(k);
        order.sort_unstable();
        order
    }

    #[test]
    fn ties_go_to_the_lower_index() {
        assert_eq!(selected(&[1.0, -2.0, 2.0, -1.0, 2.0], 2), [1, 2]);
        assert_eq!(selected(&[0.0, -0.0, 0.0], 2), [0, 1]);
        assert_eq!(selected(&[1.0; 40], 17), (0..17).collect::<Vec<_>>());
    }

    #[test]
    fn extremes_are_ordered() {
        let values = [f32::MIN_POSITIVE, 1e-45, f32::INFINITY, f32::MAX, 0.0, f32::NEG_INFINITY];
        for k in 0..=values.len() {
            assert_eq!(selected(&values, k), by_sorting(&values, k));
        }
    }

    proptest! {
        #[test]
        fn equals_sorting(
            values in prop::collection::vec(prop_oneof![
                any::<f32>(),
                (-4i8..4).prop_map(|x| f32::from(x) * 0.25),
                (0u32..64).prop_map(|low| f32::from_bits(0x3f80_0000 + low)),
            ], 0..300),
            share in 0.0f64..=1.0,
        ) {
            let k = (values.len() as f64 * share) as usize;
            prop_assert_eq!(selected(&values, k), by_sorting(&values, k));
        }
    }
}
