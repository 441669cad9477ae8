//! Whether an image file has its end.
//!
//! Decoders forgive a missing end; that of JPEG fills missing pixels with grey and reports success. Here that is an
//! error, so the end is looked for by walking over the parts of the file, without decoding them.

/// Whether a PNG file reaches its last chunk, `IEND`, whole.
pub(super) fn png_has_end(bytes: &[u8]) -> bool {
    const SIGNATURE: usize = 8;
    /// Length, type and checksum around the content of a chunk.
    const AROUND: usize = 12;
    let mut rest = bytes.get(SIGNATURE..).unwrap_or_default();
    while let Some((length, _)) = rest.split_first_chunk() {
        let end = (u32::from_be_bytes(*length) as usize).checked_add(AROUND);
        let Some((chunk, after)) = end.and_then(|end| rest.split_at_checked(end)) else { return false };
        if &chunk[4..8] == b"IEND" {
            return true;
        }
        rest = after;
    }
    false
}

/// Whether a JPEG file reaches its last marker, `EOI`.
///
/// A marker is 0xff and a byte that is neither 0xff (filling) nor 0 (a pixel byte that happens to be 0xff). Most are
/// followed by a segment that says how long it is; it is skipped, for a thumbnail in it has an end of its own.
pub(super) fn jpeg_has_end(bytes: &[u8]) -> bool {
    const EOI: u8 = 0xd9;
    let mut rest = bytes;
    while let Some([first, marker]) = rest.first_chunk() {
        let skip = match (*first, *marker) {
            (0xff, EOI) => return true,
            // TEM, RST0 to RST7 and SOI stand alone.
            (0xff, 0x01 | 0xd0..=0xd8) => 2,
            (0xff, marker) if !matches!(marker, 0 | 0xff) => {
                let Some([_, _, high, low]) = rest.first_chunk() else { return false };
                2 + usize::from(u16::from_be_bytes([*high, *low]))
            }
            _ => 1,
        };
        rest = rest.get(skip..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_end_of_a_thumbnail_is_not_the_end() {
        let thumbnail = [0xff, 0xd8, 0xff, 0xe1, 0, 4, 0xff, 0xd9];
        assert!(!jpeg_has_end(&thumbnail));
        assert!(jpeg_has_end(&[&thumbnail[..], &[0xff, 0xd9]].concat()));
    }

    #[test]
    fn pixel_bytes_and_filling_are_not_markers() {
        let scan = [0xff, 0xd8, 0xff, 0xda, 0, 2, 1, 0xff, 0, 0xd9, 0xff, 0xd0, 7, 0xff, 0xff];
        assert!(!jpeg_has_end(&scan));
        assert!(jpeg_has_end(&[&scan[..], &[0xd9]].concat()));
    }

    #[test]
    fn a_chunk_longer_than_the_file_is_no_end() {
        assert!(!png_has_end(b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIEND...."));
        assert!(png_has_end(b"\x89PNG\r\n\x1a\n\0\0\0\x01IHDR.....\0\0\0\0IEND....trailer"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            png_has_end(&bytes);
            jpeg_has_end(&bytes);
        }
    }
}
