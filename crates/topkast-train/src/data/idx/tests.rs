use std::io;

use proptest::prelude::*;

use super::super::unpack::tests::{gzip, xz, zip};
use super::*;

const GZIP: [u8; 2] = [0x1f, 0x8b];

fn header(sizes: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0, 0, UNSIGNED_BYTE, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes
}

fn idx(sizes: &[u32], elements: &[u8]) -> Vec<u8> {
    [&header(sizes), elements].concat()
}

fn images(bytes: &[u8]) -> Result<Images, DataError> {
    images_from(bytes, Path::new("the-file"))
}

fn labels(bytes: &[u8]) -> Result<Vec<u8>, DataError> {
    labels_from(bytes, Path::new("the-file"))
}

/// Two images of 2×3.
fn valid() -> Vec<u8> {
    idx(&[2, 2, 3], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
}

macro_rules! assert_error {
    ($result:expr, $pattern:pat) => {
        let error = $result.unwrap_err();
        assert!(matches!(error, $pattern), "{error:?}");
        assert!(error.to_string().contains("the-file"), "{error}");
    };
}

#[test]
fn plain_and_compressed_files_read_alike() {
    let expected = Images { count: 2, shape: ImageShape::grey(2, 3), pixels: (1..=12).collect() };
    assert_eq!(images(&valid()).unwrap(), expected);
    for packed in [gzip(&valid()), xz(&valid()), zip(&[&valid()])] {
        assert_eq!(images(&packed).unwrap(), expected);
    }
}

#[test]
fn concatenated_gzip_members_are_one_file() {
    let bytes = valid();
    let (start, end) = bytes.split_at(13);
    assert_eq!(images(&[gzip(start), gzip(end)].concat()).unwrap(), images(&bytes).unwrap());
}

#[test]
fn no_labels_are_labels() {
    assert!(labels(&idx(&[0], &[])).unwrap().is_empty());
}

#[test]
fn missing_file() {
    assert_error!(read_images(Path::new("no/such/the-file")), DataError::Io { .. });
}

#[test]
fn directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("the-file");
    std::fs::create_dir(&path).unwrap();
    assert_error!(read_labels(&path), DataError::Io { .. });
}

#[test]
fn empty_file() {
    assert_error!(images(&[]), DataError::Truncated { expected: 4, found: 0, .. });
}

#[test]
fn truncated_sizes() {
    assert_error!(images(&valid()[..10]), DataError::Truncated { expected: 12, found: 10, .. });
}

#[test]
fn truncated_elements() {
    assert_error!(images(&valid()[..27]), DataError::Truncated { expected: 28, found: 27, .. });
}

#[test]
fn trailing_bytes() {
    let bytes = [valid(), vec![0]].concat();
    assert_error!(images(&bytes), DataError::Oversized { expected: 28, .. });
    assert_error!(images(&gzip(&bytes)), DataError::Oversized { expected: 28, .. });
}

#[test]
fn wrong_magic() {
    assert_error!(images(b"\x89PNG\r\n"), DataError::Magic { found: [0x89, b'P'], .. });
}

#[test]
fn wrong_element_type() {
    let mut bytes = valid();
    bytes[2] = 0x0d;
    assert_error!(images(&bytes), DataError::ElementType { found: 0x0d, .. });
}

#[test]
fn wrong_number_of_dimensions() {
    assert_error!(labels(&valid()), DataError::Dimensions { expected: 1, found: 3, .. });
    assert_error!(images(&idx(&[2], &[0, 1])), DataError::Dimensions { expected: 3, found: 1, .. });
}

#[test]
fn images_without_height_or_width() {
    assert_error!(images(&idx(&[2, 0, 3], &[])), DataError::NoPixels { height: 0, width: 3, .. });
    assert_error!(images(&idx(&[2, 3, 0], &[])), DataError::NoPixels { height: 3, width: 0, .. });
}

#[test]
fn sizes_whose_product_overflows() {
    assert_error!(images(&idx(&[u32::MAX; 3], &[])), DataError::TooLarge { .. });
}

#[test]
fn sizes_over_the_limit() {
    assert_error!(labels(&idx(&[(IDX_LIMIT + 1) as u32], &[])), DataError::TooLarge { .. });
    assert_error!(images(&idx(&[0, u32::MAX, u32::MAX], &[])), DataError::TooLarge { .. });
}

#[test]
fn a_large_claim_without_the_data_is_truncated_at_once() {
    let bytes = header(&[IDX_LIMIT as u32]);
    assert_error!(labels(&bytes), DataError::Truncated { found: 8, .. });
}

#[test]
fn truncated_gzip() {
    let bytes = gzip(&valid());
    assert_error!(images(&bytes[..20]), DataError::Damaged { .. });
    // The elements are all there, but their checksum is not.
    assert_error!(images(&bytes[..bytes.len() - 1]), DataError::Damaged { .. });
}

#[test]
fn corrupt_gzip() {
    let mut bytes = gzip(&valid());
    let checksum = bytes.len() - 8;
    bytes[checksum] ^= 1;
    assert_error!(images(&bytes), DataError::Damaged { .. });
    assert_error!(images(&[GZIP.to_vec(), vec![0xff; 20]].concat()), DataError::Damaged { .. });
}

#[test]
fn rubbish_after_gzip() {
    assert_error!(
        images(&[&gzip(&valid())[..], b"rubbish, and not a little"].concat()),
        DataError::Damaged { .. }
    );
}

#[test]
fn gzip_bomb_is_read_no_further_than_its_header_says() {
    let bomb = gzip(&[valid(), vec![0; 1 << 26]].concat());
    assert!(bomb.len() < 1 << 17);
    assert_error!(images(&bomb), DataError::Oversized { .. });
}

#[test]
fn endless_input_is_read_no_further_than_its_header_says() {
    let bytes = valid();
    let endless = bytes.chain(io::repeat(0));
    assert_error!(images_from(endless, Path::new("the-file")), DataError::Oversized { .. });
}

#[test]
fn failing_reader() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("unplugged"))
        }
    }
    assert_error!(images_from(valid()[..9].chain(Failing), Path::new("the-file")), DataError::Io { .. });
    let compressed = gzip(&valid());
    assert_error!(images_from(compressed[..9].chain(Failing), Path::new("the-file")), DataError::Io { .. });
}

#[test]
fn truncation_anywhere_is_an_error() {
    for bytes in [valid(), gzip(&valid())] {
        for end in 0..bytes.len() {
            assert!(images(&bytes[..end]).is_err(), "{end} of {} bytes", bytes.len());
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = images(&bytes);
        let _ = labels(&bytes);
        let _ = images(&[&GZIP[..], &bytes].concat());
    }

    #[test]
    fn arbitrary_sizes_never_panic(sizes: [u32; 3], elements: Vec<u8>) {
        let _ = images(&idx(&sizes, &elements));
        let _ = labels(&idx(&sizes[..1], &elements));
    }

    #[test]
    fn flipped_bits_never_panic(at in 0usize..28, bit in 0u32..8) {
        for mut bytes in [valid(), gzip(&valid())] {
            bytes[at] ^= 1 << bit;
            let _ = images(&bytes);
        }
    }

    #[test]
    fn files_read_back(count in 0u32..5, height in 1u32..5, width in 1u32..5, seed: u8, compressed: bool) {
        let pixels: Vec<u8> = (0..count * height * width).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect();
        let mut bytes = idx(&[count, height, width], &pixels);
        if compressed {
            bytes = gzip(&bytes);
        }
        let (count, height, width) = (count as usize, height as usize, width as usize);
        prop_assert_eq!(images(&bytes).unwrap(), Images { count, shape: ImageShape::grey(height, width), pixels });
    }

    #[test]
    fn labels_read_back(values: Vec<u8>) {
        let bytes = idx(&[values.len() as u32], &values);
        prop_assert_eq!(labels(&bytes).unwrap(), values.clone());
        prop_assert_eq!(labels(&gzip(&bytes)).unwrap(), values);
    }
}
