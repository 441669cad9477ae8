//! Ascending indices as gaps: how many places are skipped before each, in the type that takes the fewest bytes.
//!
//! A type's largest number skips as many places, and no index follows.

use safetensors::Dtype;

/// The gaps of some indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gaps {
    /// U8, U16 or U32.
    pub(super) dtype: Dtype,
    /// Numbers of that type, little-endian.
    pub(super) bytes: Vec<u8>,
}

const TYPES: [Dtype; 3] = [Dtype::U8, Dtype::U16, Dtype::U32];

/// Bytes of a number.
fn size(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::U8 => Some(1),
        Dtype::U16 => Some(2),
        Dtype::U32 => Some(4),
        _ => None,
    }
}

/// The largest number of so many bytes.
fn largest(size: usize) -> u64 {
    u64::MAX >> (64 - 8 * size)
}

impl Gaps {
    /// Of the indices that `indices` goes through whenever it is called; they ascend.
    pub(super) fn of<I: Iterator<Item = u64>>(indices: impl Fn() -> I) -> Self {
        let bytes = |dtype| {
            let size = size(dtype).expect("one of the types");
            let numbers = gaps(indices()).map(|gap| 1 + gap / largest(size));
            numbers.fold(0, |sum: u64, count| sum.saturating_add(count * size as u64))
        };
        let (dtype, length) =
            TYPES.map(|dtype| (dtype, bytes(dtype))).into_iter().min_by_key(|it| it.1).expect("three types");
        let size = size(dtype).expect("one of the types");
        let mut bytes = Vec::with_capacity(length as usize);
        for gap in gaps(indices()) {
            for _ in 0..gap / largest(size) {
                bytes.extend_from_slice(&u64::MAX.to_le_bytes()[..size]);
            }
            bytes.extend_from_slice(&(gap % largest(size)).to_le_bytes()[..size]);
        }
        Self { dtype, bytes }
    }
}

/// Places skipped before each index.
fn gaps(indices: impl Iterator<Item = u64>) -> impl Iterator<Item = u64> {
    let mut next = 0;
    indices.map(move |index| index - std::mem::replace(&mut next, index + 1))
}

/// The row offsets and columns of the `count` entries that gaps tell of in a weight `[rows × width]`.
///
/// # Errors
/// If they are of another type, tell of another number of entries, or of one beyond the weight.
pub(super) fn read(
    dtype: Dtype,
    bytes: &[u8],
    count: usize,
    [rows, width]: [usize; 2],
) -> Result<(Vec<u32>, Vec<u32>), String> {
    let size = size(dtype).ok_or_else(|| format!("must be U8, U16 or U32, not {dtype}"))?;
    // Counted first, so that what is allocated follows from what the file holds.
    let numbers = || {
        bytes.chunks_exact(size).map(|number| {
            let mut wide = [0; 8];
            wide[..size].copy_from_slice(number);
            u64::from_le_bytes(wide)
        })
    };
    let entries = numbers().filter(|&gap| gap < largest(size)).count();
    if entries != count || u32::try_from(entries).is_err() {
        return Err(format!("tells of {entries} entries, but there are {count} values"));
    }
    let total = rows as u64 * width as u64;
    let mut offsets = Vec::with_capacity(rows + 1);
    let mut columns = Vec::with_capacity(entries);
    let mut next = 0_u64;
    for gap in numbers() {
        next = next.saturating_add(gap);
        if next > total || (gap < largest(size) && next == total) {
            return Err(format!("goes beyond the {total} entries of the weight"));
        }
        if gap < largest(size) {
            let row = (next / width as u64) as usize;
            offsets.resize(offsets.len().max(row + 1), columns.len() as u32);
            columns.push((next % width as u64) as u32);
            next += 1;
        }
    }
    offsets.resize(rows + 1, columns.len() as u32);
    Ok((offsets, columns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(indices: &[u64], shape: [usize; 2]) -> Gaps {
        let gaps = Gaps::of(|| indices.iter().copied());
        let (offsets, columns) = read(gaps.dtype, &gaps.bytes, indices.len(), shape).unwrap();
        let rows = offsets
            .windows(2)
            .enumerate()
            .flat_map(|(row, ends)| (ends[0]..ends[1]).map(move |entry| (row, entry as usize)));
        let back: Vec<u64> =
            rows.map(|(row, entry)| row as u64 * shape[1] as u64 + u64::from(columns[entry])).collect();
        assert_eq!((back.as_slice(), offsets.len()), (indices, shape[0] + 1));
        gaps
    }

    #[test]
    fn the_narrowest_type_is_taken() {
        assert_eq!(check(&[], [2, 3]), Gaps { dtype: Dtype::U8, bytes: vec![] });
        assert_eq!(check(&[0, 5], [2, 3]), Gaps { dtype: Dtype::U8, bytes: vec![0, 4] });
        let far = check(&[254, 255, 511, 1023], [2, 512]);
        assert_eq!(far, Gaps { dtype: Dtype::U8, bytes: vec![254, 0, 255, 0, 255, 255, 1] });
        assert_eq!(check(&[9_999, 19_999], [2, 10_000]).dtype, Dtype::U16);
        let wide = check(&[65_534 * 70_000, 65_535 * 70_000 + 69_999], [65_536, 70_000]);
        assert_eq!((wide.dtype, wide.bytes.len()), (Dtype::U32, 12));
    }

    #[test]
    fn what_is_no_such_set_is_told() {
        for (dtype, bytes, count, want) in [
            (Dtype::F32, &[0, 0, 0, 0][..], 1, "must be U8, U16 or U32, not F32"),
            (Dtype::U8, &[0, 0], 1, "tells of 2 entries, but there are 1 values"),
            (Dtype::U8, &[0, 255], 2, "tells of 1 entries, but there are 2 values"),
            (Dtype::U8, &[5, 0], 2, "goes beyond the 6 entries of the weight"),
            (Dtype::U8, &[255], 0, "goes beyond the 6 entries of the weight"),
            (Dtype::U32, &[254, 255, 255, 255], 1, "goes beyond the 6 entries of the weight"),
        ] {
            assert_eq!(read(dtype, bytes, count, [2, 3]).unwrap_err(), want);
        }
    }

    proptest! {
        #[test]
        fn every_set_comes_back(
            rows in 1usize..40,
            width in prop_oneof![1usize..40, 60_000usize..140_000],
            draws in prop::collection::btree_set(any::<u64>(), 0..60),
        ) {
            let total = (rows * width) as u64;
            let mut indices: Vec<u64> = draws.into_iter().map(|draw| draw % total).collect();
            indices.sort_unstable();
            indices.dedup();
            check(&indices, [rows, width]);
        }

        #[test]
        fn any_bytes_end_in_entries_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60), at in 0usize..3) {
            let bytes = &bytes[..bytes.len() / 4 * 4];
            for count in 0..bytes.len() {
                let _ = read(TYPES[at], bytes, count, [7, 100]);
            }
        }
    }
}
