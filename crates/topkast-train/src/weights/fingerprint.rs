//! What tells one file of weights from another without reading all of it.

use serde::{Deserialize, Serialize};

/// A file's size, and checksums of its header and of values spread evenly over it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    bytes: u64,
    layout: u32,
    samples: u32,
}

/// How many places are sampled, and bytes at each.
const PLACES: usize = 1024;
const SAMPLE: usize = 64;

impl Fingerprint {
    /// That of the `file` whose tensors begin at `start`.
    pub(super) fn of(file: &[u8], start: usize) -> Self {
        let (header, data) = file.split_at(start);
        let samples = if data.len() <= PLACES * SAMPLE {
            crc32c::crc32c(data)
        } else {
            let last = (data.len() - SAMPLE) as u128;
            let place = |number: usize| (last * number as u128 / (PLACES as u128 - 1)) as usize;
            (0..PLACES).map(place).fold(0, |sum, at| crc32c::crc32c_append(sum, &data[at..at + SAMPLE]))
        };
        Self { bytes: file.len() as u64, layout: crc32c::crc32c(header), samples }
    }

    /// What is not the same in `other`, the first of size, layout of the tensors, and values.
    pub(crate) fn difference(&self, other: &Self) -> Option<&'static str> {
        let differ = [
            (self.bytes != other.bytes, "size"),
            (self.layout != other.layout, "tensors"),
            (self.samples != other.samples, "values"),
        ];
        differ.into_iter().find_map(|(differs, what)| differs.then_some(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_differ_in_anything_sampled_differ() {
        for len in [0, 1, 100, PLACES * SAMPLE, PLACES * SAMPLE + 1, 1 << 20] {
            let file: Vec<u8> = (0..8 + len).map(|at| (at * 7 % 251) as u8).collect();
            let own = Fingerprint::of(&file, 8);
            assert_eq!(own.difference(&Fingerprint::of(&file, 8)), None);
            let with = |at: usize| {
                let mut other = file.clone();
                other[at] ^= 1;
                own.difference(&Fingerprint::of(&other, 8))
            };
            assert_eq!(with(3), Some("tensors"));
            if len > 0 {
                assert_eq!((with(8), with(7 + len)), (Some("values"), Some("values")), "{len}");
            }
            assert_eq!(own.difference(&Fingerprint::of(&[&file[..], &[0]].concat(), 8)), Some("size"));
        }
    }
}
