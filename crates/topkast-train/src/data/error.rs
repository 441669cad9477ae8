//! What can be wrong with data.

use std::io;
use std::path::PathBuf;

use super::idx::IDX_LIMIT;
use super::shape::ImageShape;
use super::unpack::Packing;
use crate::message::one_line;
use crate::text::TextError;

/// What is wrong with data, where, and what to do about it: one line each.
///
/// The cause of an error is part of its message and not a `source`, so that printing a chain does not say it twice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file of a data set is not there, neither plain nor compressed.
    #[error("there is neither {path} nor {path}.gz; {mend}")]
    Missing {
        /// The file looked for, without `.gz`.
        path: PathBuf,
        /// What to do.
        mend: &'static str,
    },
    /// A file of a data set is not there.
    #[error("there is no {path}; {mend}")]
    MissingFile {
        /// The file looked for.
        path: PathBuf,
        /// What to do.
        mend: &'static str,
    },
    /// The operating system cannot read the file.
    #[error("cannot read {path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The file begins as a compressed one, but does not decompress.
    #[error("{path} is a {packing} file that is cut off or damaged ({cause}); copy or download it again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How it is compressed.
        packing: Packing,
        /// What the decompressor says.
        cause: io::Error,
    },
    /// The file is compressed in a way that is not supported, or holds more than one file.
    #[error(
        "{path} is a {packing} file that cannot be read here: {cause}; unpack it and give the plain file"
    )]
    Packing {
        /// The file.
        path: PathBuf,
        /// How it is compressed.
        packing: Packing,
        /// What is not supported.
        cause: io::Error,
    },
    /// The first two bytes are not zero.
    #[error(
        "{path} is not an IDX file: it begins with the bytes {:02x} {:02x} where 00 00 is expected; \
         give an IDX file, plain or gzip-compressed", found[0], found[1]
    )]
    Magic {
        /// The file.
        path: PathBuf,
        /// Its first two bytes, decompressed.
        found: [u8; 2],
    },
    /// The elements are not unsigned bytes.
    #[error(
        "{path} holds elements of IDX type 0x{found:02x}, but only unsigned bytes (0x08) are supported; \
         convert it to unsigned bytes"
    )]
    ElementType {
        /// The file.
        path: PathBuf,
        /// The type code in its header.
        found: u8,
    },
    /// An image file in place of a label file, or something else again.
    #[error(
        "{path} has {found} dimension(s) where {expected} are expected: images have 3 and labels have 1; \
         check that the file is not mistaken for another"
    )]
    Dimensions {
        /// The file.
        path: PathBuf,
        /// How many dimensions its part in the data set calls for.
        expected: u8,
        /// How many its header declares.
        found: u8,
    },
    /// The images have no pixels.
    #[error("{path} declares images of {height}×{width} pixels; both sizes must be at least 1")]
    NoPixels {
        /// The file.
        path: PathBuf,
        /// The declared height.
        height: u32,
        /// The declared width.
        width: u32,
    },
    /// More data than this program is willing to read.
    #[error(
        "{path} declares sizes {sizes:?}, more than the {} bytes that one file may hold; \
         if that is no mistake, split the file",
        IDX_LIMIT
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The declared sizes.
        sizes: Vec<u32>,
    },
    /// The file ends before its data does.
    #[error(
        "{path} is cut off: {expected} bytes are expected (uncompressed), but it ends after {found}; \
         copy or download it again"
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The bytes that the header, as far as it is there, calls for.
        expected: u64,
        /// The bytes there are.
        found: u64,
    },
    /// The file goes on after its data.
    #[error(
        "{path} is oversized: its header calls for {expected} bytes (uncompressed), but more follow; \
         copy or download it again"
    )]
    Oversized {
        /// The file.
        path: PathBuf,
        /// The bytes that the header calls for.
        expected: u64,
    },
    /// An archive that does not unpack.
    #[error(
        "{path} is not an archive (.tar, .tar.gz), or cut off or damaged ({cause}); copy or download it again"
    )]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        cause: io::Error,
    },
    /// More rows than this program is willing to read.
    #[error("{path} has more than the {limit} images that are read; if that is no mistake, leave some out")]
    Rows {
        /// The file.
        path: PathBuf,
        /// The most rows.
        limit: usize,
    },
    /// A data set without a sample.
    #[error("there are no samples; at least one is needed")]
    Empty,
    /// The pixels do not fill the images.
    #[error("{found} pixels do not make {count} images of {shape}")]
    Pixels {
        /// Number of images.
        count: usize,
        /// What each measures.
        shape: ImageShape,
        /// Number of pixels there are.
        found: usize,
    },
    /// Images and labels do not pair up.
    #[error("there are {images} images but {labels} labels; check that both files belong together")]
    Counts {
        /// Number of images.
        images: usize,
        /// Number of labels.
        labels: usize,
    },
    /// A label that is no class.
    #[error(
        "label out of range: sample {sample} (counted from 0) has label {label}, but labels must be below {classes}"
    )]
    Label {
        /// The first such sample.
        sample: usize,
        /// Its label.
        label: u32,
        /// The number of classes.
        classes: usize,
    },
    /// Images of another size than the network or the rest of the data set has.
    #[error("the images are {found}, but {expected} is expected; {mend}")]
    Shape {
        /// What they should measure.
        expected: ImageShape,
        /// What they measure.
        found: ImageShape,
        /// What to do.
        mend: &'static str,
    },
    /// A split that would leave one of its sides empty.
    #[error("cannot hold out {held_out} of {samples} samples; hold out at least 1 and at most {}", samples - 1)]
    HoldOut {
        /// How many samples there are.
        samples: usize,
        /// How many were to be held out.
        held_out: usize,
    },
    /// A problem of the data in this file.
    #[error("{path}: {problem}")]
    In {
        /// The file.
        path: PathBuf,
        /// What is wrong with its data.
        problem: Box<DataError>,
    },
    /// A normalisation that would not give finite numbers.
    #[error(
        "cannot normalise with mean {mean} and standard deviation {deviation}: \
         the mean must be finite and the deviation positive, finite and not vanishingly small"
    )]
    Moments {
        /// The mean.
        mean: f32,
        /// The standard deviation.
        deviation: f32,
    },
    /// A normalisation that does not say which channels it is of.
    #[error(
        "cannot normalise with {means} means and {deviations} standard deviations: there must be one of each a channel"
    )]
    Channels {
        /// Number of means.
        means: usize,
        /// Number of standard deviations.
        deviations: usize,
    },
    /// A file that is neither PNG nor JPEG.
    #[error("{path} is neither a PNG nor a JPEG image; convert it to one of them")]
    NotAnImage {
        /// The file.
        path: PathBuf,
    },
    /// An image file larger than any image of a supported size needs.
    #[error("{path} is larger than the {limit} bytes that an image file may have; save it smaller")]
    ImageFile {
        /// The file.
        path: PathBuf,
        /// The most bytes it may have.
        limit: u64,
    },
    /// A PNG or JPEG whose end is missing.
    #[error("{path} is cut off: the end of the image is missing; copy or save it again")]
    ImageCut {
        /// The file.
        path: PathBuf,
    },
    /// A PNG or JPEG that does not decode.
    #[error(
        "{path} is damaged or not supported ({}); save it again as an ordinary PNG or JPEG",
        one_line(cause)
    )]
    Image {
        /// The file.
        path: PathBuf,
        /// What the decoder says.
        cause: image::ImageError,
    },
    /// An image without pixels or with too many.
    #[error(
        "{path} claims {width}×{height} pixels, but an image has at least one and at most {limit}; save it smaller"
    )]
    ImageSize {
        /// The file.
        path: PathBuf,
        /// Its width.
        width: usize,
        /// Its height.
        height: usize,
        /// The most pixels.
        limit: u64,
    },
    /// A PNG or JPEG at which the decoder fails.
    #[error("{path} cannot be decoded: the decoder failed; save it again as an ordinary PNG or JPEG")]
    Undecodable {
        /// The file.
        path: PathBuf,
    },
    /// A folder's name that is no text.
    #[error("{path}: the name of the folder, which is a class, is not UTF-8; rename it")]
    ClassName {
        /// The folder.
        path: PathBuf,
    },
    /// A class to measure on that there is none of to train on.
    #[error("{path}: there is no such class to train on; name the folder as in train, or remove it")]
    UnknownClass {
        /// The folder.
        path: PathBuf,
    },
    /// A folder without images, or with too many to count.
    #[error(
        "{path}: there must be at least one image (.jpg, .jpeg, .png) for each class to train on, and at most 2³² in all"
    )]
    NoImages {
        /// The folder.
        path: PathBuf,
    },
    /// More broken images than are put up with.
    #[error(
        "more than data.broken_limit = {limit} broken images, the last: {last}; mend or remove them, or raise the limit"
    )]
    TooManyBroken {
        /// How many are put up with.
        limit: usize,
        /// What is wrong with one more.
        last: Box<DataError>,
    },
    /// Not one image that is not broken.
    #[error("none of the {images} images to train on can be decoded; see above what is wrong with each")]
    AllBroken {
        /// How many there are.
        images: usize,
    },
    /// The operating system gives no thread to decode with.
    #[error("cannot start a thread to decode images: {cause}; choose fewer data.workers")]
    Worker {
        /// What the system says.
        cause: io::Error,
    },
    /// A problem of a text.
    #[error(transparent)]
    Text(#[from] TextError),
}

impl DataError {
    /// Says in which file the problem is.
    pub(crate) fn inside(self, path: PathBuf) -> Self {
        Self::In { path, problem: Box::new(self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_and_name_the_file() {
        let error = DataError::Truncated { path: "a/b".into(), expected: 20, found: 7 };
        assert_eq!(
            error.to_string(),
            "a/b is cut off: 20 bytes are expected (uncompressed), but it ends after 7; copy or download it again"
        );
        let error = DataError::Label { sample: 3, label: 12, classes: 10 }.inside("labels".into());
        assert_eq!(
            error.to_string(),
            "labels: label out of range: sample 3 (counted from 0) has label 12, but labels must be below 10"
        );
    }
}
