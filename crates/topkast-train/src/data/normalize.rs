//! Pixels to numbers of mean 0 and deviation 1.

use serde::{Deserialize, Serialize};

use super::dataset::Dataset;
use super::error::DataError;

/// Maps a pixel `p` to `(p / 255 − mean) / deviation`, by a table of all 256 answers.
///
/// It serialises as its two numbers, and checks them when it is read back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Normalizer {
    mean: f32,
    deviation: f32,
    table: [f32; 256],
}

/// What of a [`Normalizer`] is kept in files.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    mean: f32,
    deviation: f32,
}

impl Normalizer {
    /// The mean and standard deviation over all pixels of all images, on the scale where white is 1. Constant data
    /// gets deviation 1, so that it becomes zeros.
    pub fn fit(train: &Dataset) -> Self {
        // Sums of integers are exact and the same in any order, hence the same bits on every machine.
        let mut histogram = [0u64; 256];
        for &pixel in train.pixels() {
            histogram[usize::from(pixel)] += 1;
        }
        let counts = || (0u128..).zip(histogram.map(u128::from));
        let sum: u128 = counts().map(|(pixel, count)| pixel * count).sum();
        let squares: u128 = counts().map(|(pixel, count)| pixel * pixel * count).sum();
        let pixels = train.pixels().len() as u128;
        let spread = pixels * squares - sum * sum;
        let white = 255.0 * pixels as f64;
        let deviation = if spread == 0 { 1.0 } else { (spread as f64).sqrt() / white };
        Self::from_parts((sum as f64 / white) as f32, deviation as f32)
            .expect("pixels that differ do so by at least 1 in 255")
    }

    /// A normaliser with a known mean and standard deviation.
    ///
    /// # Errors
    /// If the mean is not finite, or the deviation is not positive and finite or so small that a pixel would
    /// overflow.
    pub fn from_parts(mean: f32, deviation: f32) -> Result<Self, DataError> {
        let table =
            std::array::from_fn(|p| ((p as f64 / 255.0 - f64::from(mean)) / f64::from(deviation)) as f32);
        let sound =
            deviation > 0.0 && deviation.is_finite() && table.iter().all(|value: &f32| value.is_finite());
        if sound { Ok(Self { mean, deviation, table }) } else { Err(DataError::Moments { mean, deviation }) }
    }

    /// The mean, on the scale where white is 1.
    pub fn mean(&self) -> f32 {
        self.mean
    }

    /// The standard deviation, on the scale where white is 1.
    pub fn deviation(&self) -> f32 {
        self.deviation
    }

    /// What each pixel value becomes.
    pub fn table(&self) -> &[f32; 256] {
        &self.table
    }
}

impl TryFrom<Parts> for Normalizer {
    type Error = DataError;

    fn try_from(Parts { mean, deviation }: Parts) -> Result<Self, DataError> {
        Self::from_parts(mean, deviation)
    }
}

impl From<Normalizer> for Parts {
    fn from(normalizer: Normalizer) -> Self {
        Self { mean: normalizer.mean, deviation: normalizer.deviation }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::idx::Images;
    use super::*;

    fn fit(pixels: Vec<u8>) -> Normalizer {
        let images = Images { count: 1, height: 1, width: pixels.len(), pixels };
        Normalizer::fit(&Dataset::new(images, vec![0], 1).unwrap())
    }

    #[test]
    fn black_and_white() {
        let normalizer = fit(vec![0, 255, 0, 255]);
        assert_eq!((normalizer.mean(), normalizer.deviation()), (0.5, 0.5));
        assert_eq!((normalizer.table()[0], normalizer.table()[255]), (-1.0, 1.0));
    }

    #[test]
    fn constant_data_becomes_zeros() {
        let normalizer = fit(vec![51; 9]);
        assert_eq!(normalizer.deviation(), 1.0);
        assert!(normalizer.table()[51].abs() < 1e-7);
    }

    #[test]
    fn impossible_moments_are_refused() {
        let (nan, infinite) = (f32::NAN, f32::INFINITY);
        for (mean, deviation) in
            [(nan, 1.0), (infinite, 1.0), (0.0, nan), (0.0, infinite), (0.0, 0.0), (0.0, -1.0), (0.0, 1e-45)]
        {
            assert!(Normalizer::from_parts(mean, deviation).is_err(), "{mean} {deviation}");
        }
        assert!(serde_json::from_str::<Normalizer>(r#"{"mean": 0.5, "deviation": 0}"#).is_err());
    }

    proptest! {
        #[test]
        fn normalised_data_has_mean_0_and_deviation_1(pixels in prop::collection::vec(any::<u8>(), 1..300)) {
            let normalizer = fit(pixels.clone());
            let values = || pixels.iter().map(|&pixel| f64::from(normalizer.table()[usize::from(pixel)]));
            let mean = values().sum::<f64>() / pixels.len() as f64;
            let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / pixels.len() as f64;
            prop_assert!(mean.abs() < 1e-4, "mean {mean}");
            let constant = pixels.iter().all(|&pixel| pixel == pixels[0]);
            prop_assert!((variance - if constant { 0.0 } else { 1.0 }).abs() < 1e-4, "variance {variance}");
        }

        #[test]
        fn it_is_the_same_from_a_file(pixels in prop::collection::vec(any::<u8>(), 1..300)) {
            let normalizer = fit(pixels);
            let json = serde_json::to_string(&normalizer).unwrap();
            prop_assert_eq!(serde_json::from_str::<Normalizer>(&json).unwrap(), normalizer);
        }
    }
}
