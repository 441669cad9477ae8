//! Where a Transformer-XL drops out: each place has a key of its own, from which the backward pass draws the same mask.

use topkast::Seed;

use crate::Mode;

/// The key and rate of one place; none where nothing is dropped.
pub(super) type Place = Option<(u64, f32)>;

/// Dropout in one forward pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dropout {
    rate: f32,
    seed: Option<Seed>,
}

/// The three places of one layer.
#[derive(Clone, Copy)]
pub(super) struct LayerDropout {
    /// Attention's output, before it is added to its input.
    pub(super) attention: Place,
    /// The hidden units.
    pub(super) hidden: Place,
    /// The feed-forward part's output, before it is added to its input.
    pub(super) feed_forward: Place,
}

impl Dropout {
    pub(super) fn new(rate: f32, mode: Mode) -> Self {
        let seed = match mode {
            Mode::Train(seed) if rate > 0.0 => Some(seed),
            _ => None,
        };
        Self { rate, seed }
    }

    /// After the embedding.
    pub(super) fn embedding(self) -> Place {
        self.place(0)
    }

    pub(super) fn layer(self, number: usize) -> LayerDropout {
        let [attention, hidden, feed_forward] = [1, 2, 3].map(|place| self.place(3 * number as u64 + place));
        LayerDropout { attention, hidden, feed_forward }
    }

    fn place(self, number: u64) -> Place {
        self.seed.map(|seed| (seed.numbered(number).key(), self.rate))
    }
}
