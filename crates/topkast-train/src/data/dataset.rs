//! Labelled images in memory.

use super::error::DataError;
use super::shape::ImageShape;

/// Images of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Number of images.
    pub count: usize,
    /// What each measures.
    pub shape: ImageShape,
    /// `count × channels × height × width` pixels, image by image, channel by channel and row by row.
    pub pixels: Vec<u8>,
}

/// Labelled images of one size. There is at least one, and every label is below [`classes`](Self::classes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    pixels: Vec<u8>,
    labels: Vec<u32>,
    classes: usize,
    shape: ImageShape,
}

/// A data set in its two parts: same shape, same classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// What to learn from.
    pub train: Dataset,
    /// What to measure on.
    pub test: Dataset,
}

impl Dataset {
    /// Pairs images with labels.
    ///
    /// # Errors
    /// If there are no images, the pixels do not fill them, they have no pixels, there is not one label for each,
    /// or a label is not below `classes`.
    pub fn new(images: Images, labels: Vec<u32>, classes: usize) -> Result<Self, DataError> {
        let Images { count, shape, pixels } = images;
        let filled = shape.checked_features().and_then(|features| features.checked_mul(count));
        if filled != Some(pixels.len()) || (count > 0 && pixels.is_empty()) {
            return Err(DataError::Pixels { count, shape, found: pixels.len() });
        }
        if count != labels.len() {
            return Err(DataError::Counts { images: count, labels: labels.len() });
        }
        if count == 0 {
            return Err(DataError::Empty);
        }
        if let Some(sample) = labels.iter().position(|&label| label as usize >= classes) {
            return Err(DataError::Label { sample, label: labels[sample], classes });
        }
        Ok(Self { pixels, labels, classes, shape })
    }

    /// Number of samples, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Numbers of a sample, all channels together, at least 1.
    pub fn features(&self) -> usize {
        self.shape.features()
    }

    /// What a sample measures.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// All pixels, `len × features`, sample by sample.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The label of each sample.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The pixels of one sample, channel by channel and row by row.
    ///
    /// # Panics
    /// If there is no such sample.
    pub fn image(&self, sample: usize) -> &[u8] {
        &self.pixels[sample * self.features()..][..self.features()]
    }

    /// Holds out the last `count` samples, for validation: `(the rest, those held out)`.
    ///
    /// # Errors
    /// If either part would be empty.
    pub fn hold_out(mut self, count: usize) -> Result<(Self, Self), DataError> {
        let samples = self.len();
        if count == 0 || count >= samples {
            return Err(DataError::HoldOut { samples, held_out: count });
        }
        let kept = samples - count;
        let held_out = Self {
            pixels: self.pixels.split_off(kept * self.features()),
            labels: self.labels.split_off(kept),
            ..self
        };
        Ok((self, held_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(count: usize) -> Images {
        Images { count, shape: ImageShape::grey(1, 2), pixels: (0..2 * count as u8).collect() }
    }

    #[test]
    fn samples_keep_their_pixels_and_labels() {
        let dataset = Dataset::new(images(3), vec![2, 0, 1], 3).unwrap();
        assert_eq!(
            (dataset.len(), dataset.features(), dataset.shape(), dataset.classes()),
            (3, 2, ImageShape::grey(1, 2), 3)
        );
        assert_eq!(dataset.image(1), [2, 3]);
        assert_eq!(dataset.labels(), [2, 0, 1]);
    }

    #[test]
    fn counts_must_agree() {
        let error = Dataset::new(images(3), vec![0, 0], 1).unwrap_err();
        assert!(matches!(error, DataError::Counts { images: 3, labels: 2 }));
    }

    #[test]
    fn pixels_must_fill_the_images() {
        for (count, channels, height, width) in
            [(3, 1, 1, 3), (4, 1, 1, 2), (3, 3, 1, 2), (usize::MAX, 1, 2, 2), (1, usize::MAX, 2, 2)]
        {
            let shape = ImageShape { channels, height, width };
            let images = Images { count, shape, pixels: vec![0; 6] };
            assert!(matches!(Dataset::new(images, vec![0; 3], 1), Err(DataError::Pixels { .. })));
        }
        let images = Images { count: 1, shape: ImageShape::grey(0, 2), pixels: vec![] };
        assert!(matches!(Dataset::new(images, vec![0], 1), Err(DataError::Pixels { .. })));
    }

    #[test]
    fn a_label_out_of_range_is_named() {
        let error = Dataset::new(images(3), vec![2, 3, 4], 3).unwrap_err();
        assert!(matches!(error, DataError::Label { sample: 1, label: 3, classes: 3 }));
    }

    #[test]
    fn there_must_be_a_sample() {
        assert!(matches!(Dataset::new(images(0), vec![], 3), Err(DataError::Empty)));
    }

    #[test]
    fn the_tail_is_held_out() {
        let (train, validation) = Dataset::new(images(3), vec![0, 1, 2], 3).unwrap().hold_out(1).unwrap();
        assert_eq!((train.labels(), train.pixels()), (&[0, 1][..], &[0, 1, 2, 3][..]));
        assert_eq!((validation.labels(), validation.pixels()), (&[2][..], &[4, 5][..]));
        assert_eq!((validation.classes(), validation.shape()), (3, ImageShape::grey(1, 2)));
    }

    #[test]
    fn neither_part_may_be_empty() {
        for count in [0, 3, 4, usize::MAX] {
            let error = Dataset::new(images(3), vec![0; 3], 1).unwrap().hold_out(count).unwrap_err();
            assert!(matches!(error, DataError::HoldOut { samples: 3, .. }));
        }
    }
}
