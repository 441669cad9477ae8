//! Single pictures, to be classified.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::error::DataError;
use super::whole_image::{jpeg_has_end, png_has_end};

/// The most bytes that an image file may have.
const FILE_LIMIT: u64 = 64 << 20;

/// The most bytes that decoding may take.
const MEMORY_LIMIT: u64 = 256 << 20;

/// Reads a PNG or JPEG image of exactly `height × width` as 8-bit grey, row by row. What it is shows in its first
/// bytes, not in its name. Colours become their luminance; transparency is ignored.
///
/// # Errors
/// If the file cannot be read, is cut off or damaged, or the image has another size; a wrong size is found before
/// any pixel is decoded.
pub fn read_image(path: &Path, height: usize, width: usize) -> Result<Vec<u8>, DataError> {
    let bytes = read_file(path)?;
    let damaged = |cause| DataError::Image { path: path.into(), cause };
    let format = match image::guess_format(&bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
        _ => return Err(DataError::NotAnImage { path: path.into() }),
    };
    let mut reader = ImageReader::with_format(Cursor::new(&bytes), format);
    reader.limits(limits());
    let decoder = reader.into_decoder().map_err(damaged)?;
    let (found_width, found_height) = decoder.dimensions();
    let found = (found_height as usize, found_width as usize);
    if found != (height, width) {
        let mend = "crop or scale it to the size of the images that the network was trained on";
        return Err(DataError::Shape { expected: (height, width), found, mend }.inside(path.into()));
    }
    let whole = if format == ImageFormat::Png { png_has_end(&bytes) } else { jpeg_has_end(&bytes) };
    if !whole {
        return Err(DataError::ImageCut { path: path.into() });
    }
    Ok(DynamicImage::from_decoder(decoder).map_err(damaged)?.into_luma8().into_raw())
}

fn read_file(path: &Path) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_LIMIT + 1).read_to_end(&mut bytes))
        .map_err(|cause| DataError::Io { path: path.into(), cause })?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(DataError::ImageFile { path: path.into(), limit: FILE_LIMIT });
    }
    Ok(bytes)
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    // No more than a JPEG can have; the size that is demanded is checked, with a better message, before decoding.
    limits.max_image_width = Some(u32::from(u16::MAX));
    limits.max_image_height = Some(u32::from(u16::MAX));
    limits.max_alloc = Some(MEMORY_LIMIT);
    limits
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::{GrayImage, RgbImage};
    use proptest::prelude::*;

    use super::*;

    const FORMATS: [ImageFormat; 2] = [ImageFormat::Png, ImageFormat::Jpeg];

    /// Height 4, width 6.
    fn gradient() -> GrayImage {
        GrayImage::from_fn(6, 4, |x, y| image::Luma([(40 * x + 10 * y) as u8]))
    }

    fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn read(bytes: &[u8], height: usize, width: usize) -> Result<Vec<u8>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("the-file");
        fs::write(&path, bytes).unwrap();
        read_image(&path, height, width)
    }

    #[test]
    fn grey_png_is_exact() {
        assert_eq!(read(&encode(gradient(), ImageFormat::Png), 4, 6).unwrap(), gradient().into_raw());
    }

    #[test]
    fn grey_jpeg_is_close() {
        let pixels = read(&encode(gradient(), ImageFormat::Jpeg), 4, 6).unwrap();
        assert!(pixels.iter().zip(gradient().as_raw()).all(|(a, b)| a.abs_diff(*b) < 20), "{pixels:?}");
    }

    #[test]
    fn colours_become_grey() {
        let red = RgbImage::from_pixel(3, 2, image::Rgb([255, 0, 0]));
        let pixels = read(&encode(red, ImageFormat::Png), 2, 3).unwrap();
        assert!(pixels.len() == 6 && pixels.iter().all(|&pixel| (50..80).contains(&pixel)), "{pixels:?}");
    }

    #[test]
    fn another_size_is_named_with_the_expected_one() {
        for format in FORMATS {
            let error = read(&encode(gradient(), format), 28, 28).unwrap_err().to_string();
            assert!(
                error.contains("the-file") && error.contains("4×6") && error.contains("28×28"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_huge_claim_is_another_size() {
        let mut bytes = encode(gradient(), ImageFormat::Jpeg);
        let frame = bytes.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
        bytes[frame + 5..frame + 9].fill(0xff);
        assert!(matches!(read(&bytes, 4, 6), Err(DataError::In { .. })));
    }

    #[test]
    fn truncation_anywhere_is_an_error() {
        for format in FORMATS {
            let bytes = encode(gradient(), format);
            for end in 0..bytes.len() {
                let result = read(&bytes[..end], 4, 6);
                assert!(result.is_err(), "{format:?} after {end} of {} bytes", bytes.len());
            }
        }
    }

    #[test]
    fn corrupt_images_are_errors() {
        let mut png = encode(gradient(), ImageFormat::Png);
        let data = png.windows(4).position(|name| name == b"IDAT").unwrap() + 8;
        png[data] ^= 0xff;
        assert!(matches!(read(&png, 4, 6), Err(DataError::Image { .. })));
        let mut jpeg = encode(gradient(), ImageFormat::Jpeg);
        let table = jpeg.windows(2).position(|marker| marker == [0xff, 0xc4]).unwrap() + 5;
        jpeg[table..table + 16].fill(0xff);
        assert!(matches!(read(&jpeg, 4, 6), Err(DataError::Image { .. })));
    }

    #[test]
    fn other_files_are_not_images() {
        for bytes in [&b""[..], b"GIF89a", b"just text"] {
            assert!(matches!(read(bytes, 4, 6), Err(DataError::NotAnImage { .. })));
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_image(Path::new("no/such.png"), 4, 6).unwrap_err().to_string();
        assert!(error.contains("no/such.png"), "{error}");
    }

    proptest! {
        #[test]
        fn flipped_bits_never_panic(at: prop::sample::Index, bit in 0u32..8) {
            for format in FORMATS {
                let mut bytes = encode(gradient(), format);
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
                let _ = read(&bytes, 4, 6);
            }
        }
    }
}
