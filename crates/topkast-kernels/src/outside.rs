//! Finding the few values whose magnitude is outside a range: what a refresh has to look at twice.

use std::ops::Range;

use crate::simd::Simd;
use crate::{Isa, Kernel};

/// How many values are looked at together: enough to do it by vectors, so few that most groups have none to be found.
const GROUP: usize = 16;

/// Appends to `found` the numbers, ascending, of those of `values` whose magnitude is not in `sure`. A magnitude is the bit pattern
/// of |value|, which orders as the numbers do, with NaN above infinity.
///
/// # Panics
/// If there are more than 2³² values.
pub fn outside(isa: Isa, values: &[f32], sure: Range<u32>, found: &mut Vec<u32>) {
    assert!(values.len() as u64 <= 1 << 32, "numbers of 32 bits are not enough for {} values", values.len());
    isa.run(Outside { values, sure, found });
}

struct Outside<'a> {
    values: &'a [f32],
    sure: Range<u32>,
    found: &'a mut Vec<u32>,
}

impl Kernel for Outside<'_> {
    type Output = ();

    /// Plain comparisons of integers, which the compiler makes vectors of, as wide as the instruction set has them.
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { values, sure, found } = self;
        // As signed numbers, which any vectors can compare: magnitudes have no sign bit, and −1 is below all.
        let (below, last) = (sure.start.wrapping_sub(1) as i32, sure.end.wrapping_sub(1) as i32);
        let mut start = 0;
        for group in values.chunks(GROUP) {
            let mut any = false;
            for value in group {
                any |= is_outside(*value, below, last);
            }
            if any {
                for (value, number) in group.iter().zip(start..) {
                    if is_outside(*value, below, last) {
                        found.push(number);
                    }
                }
            }
            start = start.wrapping_add(GROUP as u32);
        }
    }
}

#[inline(always)]
fn is_outside(value: f32, below: i32, last: i32) -> bool {
    let magnitude = (value.to_bits() & 0x7fff_ffff) as i32;
    (magnitude <= below) | (magnitude > last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Above every magnitude.
    const TOP: u32 = 1 << 31;

    proptest! {
        #[test]
        fn finds_what_is_not_sure(
            values in prop::collection::vec(prop_oneof![any::<f32>(), (-3i8..3).prop_map(f32::from)], 0..70),
            bounds in prop::collection::vec(prop_oneof![Just(0), Just(TOP), 0..=TOP], 2),
            number in 0usize..70,
        ) {
            let magnitude = |value: &f32| value.abs().to_bits();
            let exact = values.get(number).map_or(bounds[1], magnitude);
            for sure in [bounds[0]..bounds[1], bounds[0]..exact, exact..TOP, exact..exact] {
                let all = values.iter().zip(0..);
                let mut wanted = vec![7];
                wanted.extend(all.filter(|(value, _)| !sure.contains(&magnitude(value))).map(|(_, number)| number));
                for isa in Isa::available() {
                    let mut found = vec![7];
                    outside(isa, &values, sure.clone(), &mut found);
                    prop_assert_eq!(&found, &wanted);
                }
            }
        }
    }
}
