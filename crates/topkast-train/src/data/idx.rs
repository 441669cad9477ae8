//! The IDX format of MNIST and its kin, plain or compressed.
//!
//! Two zero bytes, a type byte (0x08: unsigned bytes, the only one read here), the number of dimensions, each size as
//! a big-endian `u32`, then the elements.

use std::io::Read;
use std::path::Path;

use super::dataset::Images;
use super::error::DataError;
use super::shape::ImageShape;
use super::unpack::{Unpacked, open};

/// The most elements that one file may declare, in bytes: 2 GiB.
pub const IDX_LIMIT: u64 = 1 << 31;

const UNSIGNED_BYTE: u8 = 0x08;

/// Storage set aside on the strength of a header alone; beyond it, memory grows with what is really read.
const TRUSTED: u64 = 1 << 16;

/// Reads an IDX file of grey images, `count × height × width`. There may be none, but each has at least one pixel.
///
/// # Errors
/// If the file cannot be read or is not exactly such a file.
pub fn read_images(path: &Path) -> Result<Images, DataError> {
    images_from(open(path)?, path)
}

/// Reads an IDX file of labels.
///
/// # Errors
/// If the file cannot be read or is not exactly such a file.
pub fn read_labels(path: &Path) -> Result<Vec<u8>, DataError> {
    labels_from(open(path)?, path)
}

/// As [`read_images`], from any reader; `name` is what errors call it.
///
/// # Errors
/// As [`read_images`].
pub fn images_from(reader: impl Read, name: &Path) -> Result<Images, DataError> {
    let mut source = Source::new(reader, name)?;
    let [count, height, width] = source.sizes()?;
    if height == 0 || width == 0 {
        return Err(DataError::NoPixels { path: name.into(), height, width });
    }
    let pixels = source.elements(&[count, height, width])?;
    Ok(Images { count: count as usize, shape: ImageShape::grey(height as usize, width as usize), pixels })
}

/// As [`read_labels`], from any reader; `name` is what errors call it.
///
/// # Errors
/// As [`read_labels`].
pub fn labels_from(reader: impl Read, name: &Path) -> Result<Vec<u8>, DataError> {
    let mut source = Source::new(reader, name)?;
    let sizes: [u32; 1] = source.sizes()?;
    source.elements(&sizes)
}

/// The uncompressed bytes of a file.
struct Source<'a> {
    bytes: Unpacked<'a>,
    path: &'a Path,
    /// Bytes delivered so far.
    position: u64,
}

impl<'a> Source<'a> {
    fn new(reader: impl Read + 'a, path: &'a Path) -> Result<Self, DataError> {
        Ok(Self { bytes: Unpacked::new(reader, path)?, path, position: 0 })
    }

    /// Up to `most` bytes; fewer only at the end.
    fn read(&mut self, most: u64) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::with_capacity(most.min(TRUSTED) as usize);
        let read = self.bytes.by_ref().take(most).read_to_end(&mut bytes);
        self.position += bytes.len() as u64;
        read.map_err(|cause| self.bytes.error(cause))?;
        Ok(bytes)
    }

    /// The next `N` bytes of the header.
    fn header<const N: usize>(&mut self) -> Result<[u8; N], DataError> {
        let expected = self.position + N as u64;
        let bytes = self.read(N as u64)?;
        bytes.try_into().map_err(|_| self.truncated(expected))
    }

    /// Reads the header of a file that must have `D` dimensions.
    fn sizes<const D: usize>(&mut self) -> Result<[u32; D], DataError> {
        let path = || self.path.into();
        let [first, second, element, dimensions] = self.header()?;
        if [first, second] != [0, 0] {
            return Err(DataError::Magic { path: path(), found: [first, second] });
        }
        if element != UNSIGNED_BYTE {
            return Err(DataError::ElementType { path: path(), found: element });
        }
        if usize::from(dimensions) != D {
            return Err(DataError::Dimensions { path: path(), expected: D as u8, found: dimensions });
        }
        let mut sizes = [0; D];
        for size in &mut sizes {
            *size = u32::from_be_bytes(self.header()?);
        }
        Ok(sizes)
    }

    /// Reads the elements, which must be all that is left.
    fn elements(&mut self, sizes: &[u32]) -> Result<Vec<u8>, DataError> {
        // A size of zero must not excuse the others from the limit: later arithmetic multiplies them alone.
        let bound = sizes.iter().try_fold(1u64, |product, &size| product.checked_mul(u64::from(size.max(1))));
        if bound.is_none_or(|bound| bound > IDX_LIMIT) {
            return Err(DataError::TooLarge { path: self.path.into(), sizes: sizes.to_vec() });
        }
        let count = sizes.iter().map(|&size| u64::from(size)).product::<u64>();
        let expected = self.position + count;
        // One byte more than there should be: it finds what is oversized, and it takes the decompressor to the end
        // of its stream, where the checksum is.
        let elements = self.read(count + 1)?;
        match (elements.len() as u64).cmp(&count) {
            std::cmp::Ordering::Less => Err(self.truncated(expected)),
            std::cmp::Ordering::Equal => Ok(elements),
            std::cmp::Ordering::Greater => Err(DataError::Oversized { path: self.path.into(), expected }),
        }
    }

    fn truncated(&self, expected: u64) -> DataError {
        DataError::Truncated { path: self.path.into(), expected, found: self.position }
    }
}

#[cfg(test)]
mod tests;
