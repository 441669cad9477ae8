//! Pixels to numbers of mean 0 and deviation 1.

use serde::{Deserialize, Serialize};

use super::dataset::Dataset;
use super::error::DataError;

/// Maps a pixel `p` of a channel to `(p / 255 − mean) / deviation` of that channel, by a table of all 256 answers.
///
/// It serialises as its numbers (one channel's without a list around them), and checks them when it is read back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Normalizer {
    channels: Vec<Channel>,
}

#[derive(Clone, Debug, PartialEq)]
struct Channel {
    mean: f32,
    deviation: f32,
    table: [f32; 256],
}

/// What of a [`Normalizer`] is kept in files.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    mean: Numbers,
    deviation: Numbers,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Numbers {
    One(f32),
    ByChannel(Vec<f32>),
}

impl Normalizer {
    /// The mean and standard deviation of each channel over all its pixels of all images, on the scale where white is 1.
    /// Constant data get deviation 1, so that they become zeros.
    pub fn fit(train: &Dataset) -> Self {
        let channels = train.shape().channels;
        // Sums of integers are exact and the same in any order, hence the same bits on every machine.
        let mut histograms = vec![[0u64; 256]; channels];
        for (number, plane) in train.pixels().chunks_exact(train.shape().plane()).enumerate() {
            let histogram = &mut histograms[number % channels];
            plane.iter().for_each(|&pixel| histogram[usize::from(pixel)] += 1);
        }
        let parts: Vec<(f32, f32)> = histograms.iter().map(moments).collect();
        Self::from_parts(&parts).expect("pixels that differ do so by at least 1 in 255")
    }

    /// A normaliser with known means and standard deviations, `(mean, deviation)` of each channel.
    ///
    /// # Errors
    /// If a mean is not finite, or a deviation is not positive and finite or so small that a pixel would overflow.
    pub fn from_parts(parts: &[(f32, f32)]) -> Result<Self, DataError> {
        let channel = |&(mean, deviation): &(f32, f32)| {
            let table =
                std::array::from_fn(|p| ((p as f64 / 255.0 - f64::from(mean)) / f64::from(deviation)) as f32);
            let sound =
                deviation > 0.0 && deviation.is_finite() && table.iter().all(|value: &f32| value.is_finite());
            let channel = Channel { mean, deviation, table };
            sound.then_some(channel).ok_or(DataError::Moments { mean, deviation })
        };
        Ok(Self { channels: parts.iter().map(channel).collect::<Result<_, _>>()? })
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// A channel's mean, on the scale where white is 1.
    ///
    /// # Panics
    /// If there is no such channel, as the others.
    pub fn mean(&self, channel: usize) -> f32 {
        self.channels[channel].mean
    }

    /// A channel's standard deviation, on the scale where white is 1.
    pub fn deviation(&self, channel: usize) -> f32 {
        self.channels[channel].deviation
    }

    /// What each pixel value of a channel becomes.
    pub fn table(&self, channel: usize) -> &[f32; 256] {
        &self.channels[channel].table
    }
}

/// Mean and standard deviation of so many pixels of each value.
fn moments(histogram: &[u64; 256]) -> (f32, f32) {
    let counts = || (0u128..).zip(histogram.map(u128::from));
    let pixels: u128 = counts().map(|(_, count)| count).sum();
    let sum: u128 = counts().map(|(pixel, count)| pixel * count).sum();
    let squares: u128 = counts().map(|(pixel, count)| pixel * pixel * count).sum();
    let spread = pixels * squares - sum * sum;
    let white = 255.0 * pixels as f64;
    let deviation = if spread == 0 { 1.0 } else { (spread as f64).sqrt() / white };
    ((sum as f64 / white) as f32, deviation as f32)
}

impl TryFrom<Parts> for Normalizer {
    type Error = DataError;

    fn try_from(Parts { mean, deviation }: Parts) -> Result<Self, DataError> {
        let list = |numbers| match numbers {
            Numbers::One(number) => vec![number],
            Numbers::ByChannel(numbers) => numbers,
        };
        let (means, deviations) = (list(mean), list(deviation));
        if means.is_empty() || means.len() != deviations.len() {
            return Err(DataError::Channels { means: means.len(), deviations: deviations.len() });
        }
        Self::from_parts(&means.into_iter().zip(deviations).collect::<Vec<_>>())
    }
}

impl From<Normalizer> for Parts {
    fn from(normalizer: Normalizer) -> Self {
        let numbers = |of: fn(&Channel) -> f32| match &normalizer.channels[..] {
            [channel] => Numbers::One(of(channel)),
            channels => Numbers::ByChannel(channels.iter().map(of).collect()),
        };
        Self { mean: numbers(|channel| channel.mean), deviation: numbers(|channel| channel.deviation) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::dataset::Images;
    use super::super::shape::ImageShape;
    use super::*;

    fn fit(pixels: Vec<u8>) -> Normalizer {
        let images = Images { count: 1, shape: ImageShape::grey(1, pixels.len()), pixels };
        Normalizer::fit(&Dataset::new(images, vec![0], 1).unwrap())
    }

    #[test]
    fn black_and_white() {
        let normalizer = fit(vec![0, 255, 0, 255]);
        assert_eq!((normalizer.mean(0), normalizer.deviation(0)), (0.5, 0.5));
        assert_eq!((normalizer.table(0)[0], normalizer.table(0)[255]), (-1.0, 1.0));
    }

    #[test]
    fn every_channel_is_fitted_alone() {
        let shape = ImageShape { channels: 2, height: 1, width: 2 };
        let images = Images { count: 2, shape, pixels: vec![0, 255, 51, 51, 255, 0, 51, 51] };
        let normalizer = Normalizer::fit(&Dataset::new(images, vec![0, 0], 1).unwrap());
        assert_eq!((normalizer.channels(), normalizer.mean(0), normalizer.deviation(0)), (2, 0.5, 0.5));
        assert_eq!((normalizer.mean(1), normalizer.deviation(1)), (0.2, 1.0));
        let json = serde_json::to_string(&normalizer).unwrap();
        assert_eq!(json, r#"{"mean":[0.5,0.2],"deviation":[0.5,1.0]}"#);
        assert_eq!(serde_json::from_str::<Normalizer>(&json).unwrap(), normalizer);
    }

    #[test]
    fn one_channel_is_written_as_it_always_was() {
        let normalizer = Normalizer::from_parts(&[(0.5, 0.25)]).unwrap();
        assert_eq!(serde_json::to_string(&normalizer).unwrap(), r#"{"mean":0.5,"deviation":0.25}"#);
    }

    #[test]
    fn constant_data_becomes_zeros() {
        let normalizer = fit(vec![51; 9]);
        assert_eq!(normalizer.deviation(0), 1.0);
        assert!(normalizer.table(0)[51].abs() < 1e-7);
    }

    #[test]
    fn impossible_moments_are_refused() {
        let (nan, infinite) = (f32::NAN, f32::INFINITY);
        for (mean, deviation) in
            [(nan, 1.0), (infinite, 1.0), (0.0, nan), (0.0, infinite), (0.0, 0.0), (0.0, -1.0), (0.0, 1e-45)]
        {
            assert!(Normalizer::from_parts(&[(mean, deviation)]).is_err(), "{mean} {deviation}");
        }
        for json in [
            r#"{"mean": 0.5, "deviation": 0}"#,
            r#"{"mean": [0.5, 0.5], "deviation": [1, 0]}"#,
            r#"{"mean": [0.5, 0.5], "deviation": 1}"#,
            r#"{"mean": [], "deviation": []}"#,
        ] {
            assert!(serde_json::from_str::<Normalizer>(json).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn normalised_data_has_mean_0_and_deviation_1(pixels in prop::collection::vec(any::<u8>(), 1..300)) {
            let normalizer = fit(pixels.clone());
            let values = || pixels.iter().map(|&pixel| f64::from(normalizer.table(0)[usize::from(pixel)]));
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
