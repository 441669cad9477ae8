//! Single pictures, to be classified.

use std::fs::File;
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::error::DataError;
use super::shape::ImageShape;
use super::whole_image::{jpeg_has_end, png_has_end};

/// The most bytes that an image file may have.
const FILE_LIMIT: u64 = 64 << 20;

/// The most bytes that decoding may take.
const MEMORY_LIMIT: u64 = 256 << 20;

/// The most pixels of an image whose size is not known beforehand: 8192×8192. A progressive JPEG takes nine bytes a pixel to decode.
const PIXEL_LIMIT: u64 = 1 << 26;

/// Reads a PNG or JPEG image of exactly this height and width as 8-bit grey, row by row: colours become their luminance. What
/// it is shows in its first bytes, not in its name; transparency is ignored.
///
/// # Errors
/// If the file cannot be read, is cut off or damaged, or the image has another size; a wrong size is found before
/// any pixel is decoded.
pub fn read_grey_image(path: &Path, height: usize, width: usize) -> Result<Vec<u8>, DataError> {
    let bytes = read_file(path)?;
    let file = ImageFile::open(&bytes, path)?;
    let (expected, found) = (ImageShape::grey(height, width), ImageShape::grey(file.height, file.width));
    if found != expected {
        let mend = "crop or scale it to the size of the images that the network was trained on";
        return Err(DataError::Shape { expected, found, mend }.inside(path.into()));
    }
    Ok(file.decode()?.into_luma8().into_raw())
}

/// Reads a PNG or JPEG image of any size: its width, and its pixels, red, green and blue side by side. Grey and CMYK become that, too.
///
/// # Errors
/// If the file cannot be read, is cut off or damaged, or the image has more than 2²⁶ pixels, or none.
pub(crate) fn read_rgb_image(path: &Path) -> Result<(usize, Vec<u8>), DataError> {
    let bytes = read_file(path)?;
    let file = ImageFile::open(&bytes, path)?;
    let (width, height) = (file.width, file.height);
    if width as u64 * height as u64 > PIXEL_LIMIT || width == 0 || height == 0 {
        return Err(DataError::ImageSize { path: path.into(), width, height, limit: PIXEL_LIMIT });
    }
    Ok((width, file.decode()?.into_rgb8().into_raw()))
}

/// An image file whose header has been read.
struct ImageFile<'a> {
    bytes: &'a [u8],
    path: &'a Path,
    format: ImageFormat,
    decoder: Box<dyn ImageDecoder + 'a>,
    width: usize,
    height: usize,
}

impl<'a> ImageFile<'a> {
    fn open(bytes: &'a [u8], path: &'a Path) -> Result<Self, DataError> {
        let format = match image::guess_format(bytes) {
            Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
            _ => return Err(DataError::NotAnImage { path: path.into() }),
        };
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        reader.limits(limits());
        let decoder = reader.into_decoder().map_err(|cause| DataError::Image { path: path.into(), cause })?;
        let (width, height) = decoder.dimensions();
        let (width, height) = (width as usize, height as usize);
        Ok(Self { bytes, path, format, decoder: Box::new(decoder), width, height })
    }

    /// Decodes the pixels; the caller has seen to it that there are not too many.
    fn decode(self) -> Result<DynamicImage, DataError> {
        let Self { bytes, path, format, decoder, .. } = self;
        let whole = if format == ImageFormat::Png { png_has_end(bytes) } else { jpeg_has_end(bytes) };
        if !whole {
            return Err(DataError::ImageCut { path: path.into() });
        }
        // Decoders are others' code: should one give up on a file by panicking, that is the file's problem, not the program's.
        catch_unwind(AssertUnwindSafe(|| DynamicImage::from_decoder(decoder)))
            .map_err(|_| DataError::Undecodable { path: path.into() })?
            .map_err(|cause| DataError::Image { path: path.into(), cause })
    }
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

    /// Found by fuzzing: the decoder's own message ends its line.
    #[test]
    fn a_jpeg_that_ends_within_a_segment_is_told_of_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut");
        let start = b"\xff\xd8\xff\xe0\x00\x10\x4a\x46\x49\x46\x00\xff\xd8\xff\xe0\x00\x10\x4a\xff\xda\x00\x08\x01\x01\x00\x01\x05\x02\x7f\xff\xc4\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xdb\x00\x43\x00\x00\x7a\x14";
        fs::write(&path, start).unwrap();
        let message = read_grey_image(&path, 5, 7).unwrap_err().to_string();
        assert!(message.contains("Not enough bytes") && !message.contains('\n'), "{message:?}");
    }

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
        read_grey_image(&path, height, width)
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
                let Err(error) = read(&bytes[..end], 4, 6) else {
                    panic!("{format:?} after {end} of {} bytes", bytes.len());
                };
                assert!(!error.to_string().contains('\n'), "{error}");
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
        let error = read_grey_image(Path::new("no/such.png"), 4, 6).unwrap_err().to_string();
        assert!(error.contains("no/such.png"), "{error}");
    }

    fn read_rgb(bytes: &[u8]) -> Result<(usize, Vec<u8>), DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("the-file");
        fs::write(&path, bytes).unwrap();
        read_rgb_image(&path)
    }

    #[test]
    fn grey_images_become_rgb() {
        for format in FORMATS {
            let (width, pixels) = read_rgb(&encode(gradient(), format)).unwrap();
            assert!(
                width == 6
                    && pixels.len() == 3 * 24
                    && pixels.chunks(3).all(|rgb| rgb[0] == rgb[1] && rgb[1] == rgb[2])
            );
        }
    }

    /// Made by Pillow: its left half is (0, 255, 255, 0) in CMYK, its right half (255, 0, 0, 51).
    #[test]
    fn cmyk_images_become_rgb() {
        let (width, pixels) = read_rgb(include_bytes!("../../tests/fixtures/cmyk.jpg")).unwrap();
        assert_eq!((width, pixels.len()), (24, 3 * 24 * 16));
        for (column, want) in [(3, [255, 0, 0]), (20, [0, 204, 204])] {
            let found = &pixels[3 * (24 * 8 + column)..][..3];
            assert!(
                found.iter().zip(want).all(|(a, b): (&u8, u8)| a.abs_diff(b) < 12),
                "{found:?} for {want:?}"
            );
        }
    }

    #[test]
    fn absurd_sizes_are_refused_before_decoding() {
        let mut bytes = encode(gradient(), ImageFormat::Jpeg);
        let frame = bytes.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
        bytes[frame + 5..frame + 9].fill(0xff);
        assert!(matches!(read_rgb(&bytes), Err(DataError::ImageSize { width: 65535, height: 65535, .. })));
        let mut bytes = encode(gradient(), ImageFormat::Png);
        bytes[16..24].fill(0x7f);
        assert!(read_rgb(&bytes).is_err());
    }

    #[test]
    fn images_of_any_size_that_are_cut_off_are_errors() {
        for format in FORMATS {
            let bytes = encode(gradient(), format);
            assert!((0..bytes.len()).all(|end| read_rgb(&bytes[..end]).is_err()), "{format:?}");
        }
    }

    proptest! {
        #[test]
        fn flipped_bits_never_panic(at: prop::sample::Index, bit in 0u32..8) {
            for format in FORMATS {
                let mut bytes = encode(gradient(), format);
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
                let _ = read(&bytes, 4, 6);
                let _ = read_rgb(&bytes);
            }
        }
    }
}
