//! Which part of an image a network sees.

use rand::{Rng, RngExt};
use topkast::Seed;

/// A part of an image, in its pixels; borders may lie within pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Window {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    /// Whether it is shown from right to left.
    pub(super) mirrored: bool,
}

/// Smallest and largest share of the image's area, and smallest and largest ratio of width to height, of a training crop (Szegedy et
/// al. 2015).
const AREA: (f64, f64) = (0.08, 1.0);
const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);

/// Draws until the crop fits into the image.
const TRIES: usize = 10;

impl Window {
    /// The centre, a square: what `size × size` pixels of the image scaled so that its shorter side is `side` show.
    ///
    /// # Panics
    /// If the image has no pixels, or `size` is more than `side`.
    pub(crate) fn centre(width: usize, height: usize, size: usize, side: usize) -> Self {
        assert!(width > 0 && height > 0 && size <= side, "a window into an image");
        let shorter = width.min(height) as f64;
        let length = shorter * size as f64 / side as f64;
        let (left, top) = ((width as f64 - length) / 2.0, (height as f64 - length) / 2.0);
        Self { left, top, width: length, height: length, mirrored: false }
    }

    /// A random part of random area and proportions, half of the time mirrored, as `seed` draws it. Where the image is so narrow that no
    /// draw fits, it is the largest centre of allowed proportions.
    pub(super) fn random(width: usize, height: usize, seed: Seed) -> Self {
        let mut random = seed.generator();
        let area = (width * height) as f64;
        let (least, most) = (libm::log(RATIO.0), libm::log(RATIO.1));
        let mirrored = random.next_u32() & 1 == 1;
        for _ in 0..TRIES {
            let target = area * (AREA.0 + (AREA.1 - AREA.0) * unit(&mut random));
            let ratio = libm::exp(least + (most - least) * unit(&mut random));
            let (across, down) = ((target * ratio).sqrt().round(), (target / ratio).sqrt().round());
            if across >= 1.0 && down >= 1.0 && across <= width as f64 && down <= height as f64 {
                let left = random.random_range(0..=width as u32 - across as u32);
                let top = random.random_range(0..=height as u32 - down as u32);
                return Self { left: left.into(), top: top.into(), width: across, height: down, mirrored };
            }
        }
        let (all_across, all_down) = (width as f64, height as f64);
        let across = all_across.min(all_down * RATIO.1);
        let down = all_down.min(all_across / RATIO.0);
        let (left, top) = ((all_across - across) / 2.0, (all_down - down) / 2.0);
        Self { left, top, width: across, height: down, mirrored }
    }
}

/// A number from 0 to below 1.
fn unit(random: &mut impl Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_centre_is_that_of_the_scaled_image() {
        let window = Window::centre(512, 256, 224, 256);
        assert_eq!(window, Window { left: 144.0, top: 16.0, width: 224.0, height: 224.0, mirrored: false });
        let whole = Window::centre(32, 32, 32, 32);
        assert_eq!((whole.left, whole.top, whole.width), (0.0, 0.0, 32.0));
    }

    #[test]
    fn areas_and_sides_are_spread_evenly() {
        let (mut area, mut mirrored, mut wide) = (0.0, 0, 0);
        for number in 0..10_000 {
            let window = Window::random(500, 400, Seed::new(1).numbered(number));
            area += window.width * window.height / 200_000.0;
            mirrored += usize::from(window.mirrored);
            wide += usize::from(window.width > window.height);
        }
        // Crops near the whole area are drawn again where they do not fit, so the mean is below that of all areas, 0.54.
        assert!((0.45..0.54).contains(&(area / 10_000.0)), "{area}");
        assert!((4_800..5_200).contains(&mirrored) && (4_800..5_800).contains(&wide), "{mirrored} {wide}");
    }

    proptest! {
        #[test]
        fn windows_are_within_their_image(width in 1usize..3000, height in 1usize..3000, seed: u64) {
            for window in [Window::random(width, height, Seed::new(seed)), Window::centre(width, height, 224, 256)] {
                let Window { left, top, width: across, height: down, .. } = window;
                prop_assert!(left >= 0.0 && top >= 0.0 && across > 0.0 && down > 0.0, "{:?}", window);
                prop_assert!(left + across <= width as f64 + 1e-9 && top + down <= height as f64 + 1e-9, "{:?}", window);
            }
        }

        #[test]
        fn proportions_are_within_bounds(width in 50usize..3000, height in 50usize..3000, seed: u64) {
            let Window { width: across, height: down, .. } = Window::random(width, height, Seed::new(seed));
            // Rounding to whole pixels may pass them a little.
            prop_assert!((0.7..1.43).contains(&(across / down)), "{across}×{down}");
        }
    }
}
