//! Changing training images at random, so that no two epochs show the same.

use serde::{Deserialize, Serialize};
use topkast::Seed;

use super::shape::ImageShape;

/// How training images are changed, as configurations name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Augment {
    /// Not at all.
    None,
    /// As usual for CIFAR: padded by 4 pixels on all sides, cropped back at random, and half of them mirrored.
    CropFlip,
}

/// Pixels of padding on each side. They are the mean: zeros, once normalised.
pub(super) const PADDING: usize = 4;

/// How the images of an epoch are changed: drawn for each sample from seed, epoch and its number, and from nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Views(Option<Seed>);

impl Views {
    /// Images as they are.
    pub const PLAIN: Self = Self(None);

    /// Those of an epoch.
    pub fn of_epoch(augment: Augment, seed: u64, epoch: u64) -> Self {
        match augment {
            Augment::None => Self::PLAIN,
            Augment::CropFlip => Self(Some(Seed::new(seed).named("crop and flip").numbered(epoch))),
        }
    }

    pub(super) fn of_sample(self, sample: u32) -> View {
        let Some(seed) = self.0 else { return View::PLAIN };
        let bits = seed.numbered(sample.into()).key();
        // From bits that nothing else is drawn from; of 2²⁴ values nine are alike but for some millionths.
        let offset = |bits: u64| (((bits & 0xff_ffff) * (2 * PADDING as u64 + 1)) >> 24) as usize;
        View { down: offset(bits), right: offset(bits >> 24), mirrored: bits >> 63 == 1 }
    }
}

/// What is shown of one image: a window into it as padded, from `down` rows and `right` columns on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) down: usize,
    pub(super) right: usize,
    pub(super) mirrored: bool,
}

impl View {
    pub(super) const PLAIN: Self = Self { down: PADDING, right: PADDING, mirrored: false };

    /// Columns `first..first + values.len()` of row `row` of what is shown, each pixel as `table` has it, from a whole `plane` of the image.
    pub(super) fn row_piece(
        self,
        plane: &[u8],
        shape: ImageShape,
        row: usize,
        first: usize,
        table: &[f32; 256],
        values: &mut [f32],
    ) {
        let ImageShape { height, width, .. } = shape;
        let padded_row = row + self.down;
        if !(PADDING..PADDING + height).contains(&padded_row) {
            return values.fill(0.0);
        }
        let pixels = &plane[(padded_row - PADDING) * width..][..width];
        let count = values.len();
        // Which columns of the padded image they are, from left to right: the mirror turns the window, not the image.
        let from = self.right + if self.mirrored { width - first - count } else { first };
        let before = PADDING.saturating_sub(from).min(count);
        let inside = (PADDING + width).saturating_sub(from).clamp(before, count);
        values[..before].fill(0.0);
        values[inside..].fill(0.0);
        if before < inside {
            let pixels = &pixels[from + before - PADDING..from + inside - PADDING];
            for (value, &pixel) in values[before..inside].iter_mut().zip(pixels) {
                *value = table[usize::from(pixel)];
            }
        }
        if self.mirrored {
            values.reverse();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_views_change_nothing() {
        assert_eq!(Views::of_epoch(Augment::None, 1, 2), Views::PLAIN);
        assert_eq!(Views::PLAIN.of_sample(7), View::PLAIN);
    }

    /// Fails where a change would let resumed runs see other images.
    #[test]
    fn views_are_the_same_everywhere() {
        let views = Views::of_epoch(Augment::CropFlip, 1, 2);
        let found: Vec<_> =
            (0..4).map(|sample| views.of_sample(sample)).map(|v| (v.down, v.right, v.mirrored)).collect();
        assert_eq!(found, [(8, 5, true), (0, 7, false), (3, 8, true), (8, 2, true)]);
    }

    #[test]
    fn every_offset_and_side_is_equally_likely() {
        let mut counts = [[0; 9]; 3];
        let views = Views::of_epoch(Augment::CropFlip, 3, 4);
        for sample in 0..90_000 {
            let View { down, right, mirrored } = views.of_sample(sample);
            counts[0][down] += 1;
            counts[1][right] += 1;
            counts[2][usize::from(mirrored)] += 1;
        }
        assert!(counts[..2].iter().flatten().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        assert!(counts[2][..2].iter().all(|count| (44_000..46_000).contains(count)), "{counts:?}");
    }

    #[test]
    fn seeds_epochs_and_samples_draw_for_themselves() {
        let drawn = |seed, epoch| {
            let views = Views::of_epoch(Augment::CropFlip, seed, epoch);
            (0..100).map(|sample| views.of_sample(sample)).collect::<Vec<_>>()
        };
        assert!(drawn(1, 0) != drawn(2, 0) && drawn(1, 0) != drawn(1, 1) && drawn(1, 0) == drawn(1, 0));
    }
}
