use std::io::Write;

use flate2::write::{DeflateEncoder, GzEncoder};
use flate2::{Compression, Crc};
use lzma_rust2::{XzOptions, XzWriter};
use proptest::prelude::*;

use super::*;

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = XzWriter::new(Vec::new(), XzOptions::with_preset(6)).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An archive of files that are all called `t`.
pub(crate) fn zip(files: &[&[u8]]) -> Vec<u8> {
    let deflate = |bytes: &[u8]| {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    zip_of(8, &files.iter().map(|&bytes| (bytes, deflate(bytes))).collect::<Vec<_>>())
}

fn stored(files: &[&[u8]]) -> Vec<u8> {
    zip_of(0, &files.iter().map(|&bytes| (bytes, bytes.to_vec())).collect::<Vec<_>>())
}

fn zip_of(method: u8, files: &[(&[u8], Vec<u8>)]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (bytes, content) in files {
        let mut crc = Crc::new();
        crc.update(bytes);
        let mut common = vec![20, 0, 0, 0, method, 0, 0, 0, 0, 0];
        for number in [crc.sum(), content.len() as u32, bytes.len() as u32, 1] {
            common.extend(number.to_le_bytes());
        }
        let at = (archive.len() as u32).to_le_bytes();
        directory.extend([b"PK\x01\x02\x14\0", &common[..], &[0; 10], &at, b"t"].concat());
        archive.extend([b"PK\x03\x04", &common[..], b"t", content].concat());
    }
    let count = (files.len() as u16).to_le_bytes();
    let (size, at) = ((directory.len() as u32).to_le_bytes(), (archive.len() as u32).to_le_bytes());
    [archive, directory, [b"PK\x05\x06\0\0\0\0", &count[..], &count, &size, &at, &[0, 0]].concat()].concat()
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, DataError> {
    let path = Path::new("the-file");
    let mut source = Unpacked::new(bytes, path)?;
    let mut unpacked = Vec::new();
    let read = source.read_to_end(&mut unpacked);
    read.map_err(|cause| source.error(cause))?;
    Ok(unpacked)
}

/// Bytes that compress to more than headers.
fn sample() -> Vec<u8> {
    (0..3000u32).flat_map(|i| (i * i).to_string().into_bytes()).collect()
}

/// Every way in which a file may be compressed.
fn packed(bytes: &[u8]) -> [Vec<u8>; 4] {
    [gzip(bytes), xz(bytes), zip(&[bytes]), stored(&[bytes])]
}

fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn what_is_packed_unpacks() {
    for bytes in [vec![], vec![0], sample(), vec![7; 1 << 20]] {
        for packed in packed(&bytes) {
            assert_eq!(unpack(&packed).unwrap(), bytes);
        }
    }
    assert_eq!(unpack(&sample()).unwrap(), sample());
    assert_eq!(unpack(b"PK").unwrap(), b"PK");
}

/// Python's `zipfile` to a file and to a pipe, then Info-ZIP's `zip - -`, `zip -fz - t | cat` and `zip -fz a.zip t`: descriptors of both
/// sizes, extra fields, and the end of an archive of more than 4 GiB.
#[test]
fn archives_of_others_unpack() {
    for hex in [
        "504b0304140000000800000021003c50abf117000000220000000100000074f3cc5328c94855484a4dcfcccbcbcc4b57f04413e0\
         0200504b01021403140000000800000021003c50abf1170000002200000001000000000000000000000080010000000074504b05\
         0600000000010001002f000000360000000000",
        "504b0304140008000800000021000000000000000000000000000100000074f3cc5328c94855484a4dcfcccbcbcc4b57f04413e0\
         0200504b07083c50abf11700000022000000504b01021403140008000800000021003c50abf11700000022000000010000000000\
         00000000000080010000000074504b050600000000010001002f000000460000000000",
        "504b03042d0008000800560e775d00000000ffffffffffffffff010014002d0100100000000000000000000000000000000000f3\
         cc5328c94855484a4dcfcccbcbcc4b57f04413e00200504b07083c50abf117000000000000002200000000000000504b01021e03\
         2d0008000800560e775d3c50abf117000000220000000100000000000000010000008011000000002d504b050600000000010001\
         002f000000620000000000",
        "504b03042d0008000800560e775d00000000ffffffffffffffff01003000745554090003f49b036bf49b036b75780b0001040000\
         000004000000000100100022000000000000000000000000000000f3cc5328c94855484a4dcfcccbcbcc4b57f04413e00200504b\
         07083c50abf117000000000000002200000000000000504b01021e032d0008000800560e775d3c50abf117000000ffffffff0100\
         24000000000001000000a48100000000745554050003f49b036b75780b0001040000000004000000000100080022000000000000\
         00504b0506000000000100010053000000ffffffff0000",
        "504b03042d0000000800560e775d3c50abf1ffffffffffffffff01003000745554090003f49b036bf49b036b75780b0001040000\
         000004000000000100100022000000000000001700000000000000f3cc5328c94855484a4dcfcccbcbcc4b57f04413e00200504b\
         01021e032d0000000800560e775d3c50abf117000000ffffffff010024000000000001000000a48100000000745554050003f49b\
         036b75780b000104000000000400000000010008002200000000000000504b06062c000000000000001e032d0000000000000000\
         000100000000000000010000000000000053000000000000006600000000000000504b060700000000b900000000000000010000\
         00504b0506000000000100010053000000ffffffff0000",
    ] {
        let archive = from_hex(hex);
        assert_eq!(unpack(&archive).unwrap(), b"In the beginning In the beginning\n");
        for end in 1..archive.len() {
            assert!(unpack(&archive[..end]).is_err() || end < 4, "{end} of {} bytes", archive.len());
        }
    }
}

#[test]
fn parts_of_gzip_and_xz_are_one_file() {
    let bytes = sample();
    let (start, end) = bytes.split_at(1000);
    for pack in [gzip, xz] {
        assert_eq!(unpack(&[pack(start), pack(end)].concat()).unwrap(), bytes);
    }
}

#[test]
fn truncation_anywhere_is_an_error() {
    let (short, long) = (b"a text, and little of it".to_vec(), sample());
    for (bytes, step) in [(short, 1), (long, 37)] {
        for packed in packed(&bytes) {
            for end in (Packing::MAGIC as usize..packed.len()).step_by(step).chain([packed.len() - 1]) {
                let result = unpack(&packed[..end]);
                let damaged = matches!(result, Err(DataError::Damaged { .. }));
                assert!(damaged, "{result:?} after {end} of {} bytes", packed.len());
            }
        }
    }
}

#[test]
fn rubbish_at_the_end_is_an_error() {
    for packed in packed(&sample()) {
        for rubbish in [&b"x"[..], b"rubbish, and not a little", &[1; 100_000]] {
            let result = unpack(&[&packed, rubbish].concat());
            assert!(matches!(result, Err(DataError::Damaged { .. })), "{result:?}");
        }
    }
}

#[test]
fn a_wrong_checksum_is_an_error() {
    for (mut packed, at) in [(gzip(b"text"), 16), (zip(&[b"text"]), 53), (stored(&[b"text"]), 32)] {
        packed[at] ^= 1;
        let error = unpack(&packed).unwrap_err();
        assert!(matches!(error, DataError::Damaged { .. }), "{error}");
    }
    // A byte of the text, as it cannot be compressed.
    let mut packed = xz(b"text");
    let at = packed.windows(4).position(|bytes| bytes == b"text").unwrap();
    packed[at] ^= 1;
    assert!(matches!(unpack(&packed), Err(DataError::Damaged { packing: Packing::Xz, .. })));
}

#[test]
fn an_archive_of_several_files_is_refused() {
    let files: Vec<&[u8]> = vec![b"text"; 1000];
    for archive in [zip(&files), stored(&files), zip(&files[..2]), zip(&[])] {
        let error = unpack(&archive).unwrap_err();
        assert!(matches!(error, DataError::Packing { .. }), "{error}");
    }
    let error = unpack(&zip(&files)).unwrap_err().to_string();
    assert_eq!(
        error,
        "the-file is a zip file that cannot be read here: it holds more than one file; unpack it and give the plain file"
    );
}

#[test]
fn what_is_not_supported_is_named() {
    let (deflated, stored) = (zip(&[b"text"]), stored(&[b"text"]));
    for (archive, at, value, expected) in
        [(&deflated, 6, 1, "encrypted"), (&deflated, 8, 12, "method 12"), (&stored, 6, 8, "without a size")]
    {
        let mut archive = archive.clone();
        archive[at] = value;
        let error = unpack(&archive).unwrap_err();
        let named = error.to_string().contains(expected) && error.to_string().contains("the-file");
        assert!(matches!(error, DataError::Packing { packing: Packing::Zip, .. }) && named, "{error}");
    }
}

/// A dictionary of nearly 4 GiB, in a block header with its right checksum.
#[test]
fn a_huge_dictionary_is_refused_before_it_is_made() {
    let mut packed = xz(b"text");
    // Stream header 12, block header: size, flags, filter id, size of its properties, dictionary.
    assert_eq!(packed[12..16], [2, 0, 0x21, 1]);
    packed[16] = 40;
    let mut crc = Crc::new();
    crc.update(&packed[12..20]);
    packed[20..24].copy_from_slice(&crc.sum().to_le_bytes());
    assert!(matches!(unpack(&packed), Err(DataError::Packing { packing: Packing::Xz, .. })));
}

proptest! {
    #[test]
    fn flipped_bits_never_go_unnoticed(at: prop::sample::Index, bit in 0u32..8) {
        let bytes = sample();
        for mut packed in packed(&bytes) {
            let at = at.index(packed.len());
            packed[at] ^= 1 << bit;
            // What does not matter may change (names and times), the text may not; and without its magic bytes a file
            // is a plain one.
            match unpack(&packed) {
                Ok(unpacked) => prop_assert!(unpacked == bytes || at < 6),
                Err(error) => prop_assert!(!matches!(error, DataError::Io { .. }), "{error}"),
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, packing in 0usize..4, keep in 0usize..80) {
        let packed = &packed(b"a text, and little of it")[packing];
        let _ = unpack(&bytes);
        let _ = unpack(&[&packed[..keep.min(packed.len())], &bytes].concat());
    }
}
