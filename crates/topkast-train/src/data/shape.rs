//! What images measure, and how a network reads them.

use std::fmt;

/// Channels, height and width of an image. Pixels are listed channel by channel (a *plane* each), then row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ImageShape {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

impl ImageShape {
    /// Of grey images.
    pub fn grey(height: usize, width: usize) -> Self {
        Self { channels: 1, height, width }
    }

    /// Of red, green and blue planes.
    pub fn rgb(height: usize, width: usize) -> Self {
        Self { channels: 3, height, width }
    }

    /// Pixels of a plane.
    pub fn plane(&self) -> usize {
        self.height * self.width
    }

    /// Numbers of an image, all channels together.
    pub fn features(&self) -> usize {
        self.channels * self.plane()
    }

    /// As [`features`](Self::features), for sizes that nothing vouches for.
    pub fn checked_features(&self) -> Option<usize> {
        self.channels.checked_mul(self.height)?.checked_mul(self.width)
    }
}

/// Channels, height, width.
impl From<ImageShape> for [usize; 3] {
    fn from(ImageShape { channels, height, width }: ImageShape) -> Self {
        [channels, height, width]
    }
}

impl fmt::Display for ImageShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}", self.height, self.width)?;
        if self.channels == 1 { Ok(()) } else { write!(f, " in {} channels", self.channels) }
    }
}

/// How a batch of images lies in the matrix that a network reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `[channels·height·width × images]`: an image is a column of features.
    Features,
    /// `[channels × height·width·images]`: position `(y·width + x)·images + image`, so that neighbours in memory are the same
    /// pixel of neighbouring images, as convolutions read them.
    Maps,
}

impl Layout {
    /// Rows of the matrix, a network's inputs.
    pub fn inputs(self, shape: ImageShape) -> usize {
        match self {
            Self::Features => shape.features(),
            Self::Maps => shape.channels,
        }
    }

    /// Columns of the matrix for so many images.
    pub fn positions(self, shape: ImageShape, images: usize) -> usize {
        match self {
            Self::Features => images,
            Self::Maps => shape.plane() * images,
        }
    }
}
