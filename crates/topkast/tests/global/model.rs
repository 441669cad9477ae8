//! What the weights should be.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use topkast::{Changed, Counts, Explore, Hyper, Optimizer, Parameter, Pattern, PenaltyKind, SparseWeight};
use topkast_kernels::Csr;

use crate::Case;

/// First moment, second moment and age of an entry of B.
type Memory = (f32, f32, u32);

/// A layer and a flat index in it: ordered as ties are broken.
pub(crate) type Place = (usize, u64);

/// What the weights should be.
pub(crate) struct Model {
    theta: Vec<Vec<f32>>,
    pub(crate) active: BTreeSet<Place>,
    pub(crate) backward: BTreeSet<Place>,
    memory: BTreeMap<Place, Memory>,
    known: BTreeSet<Place>,
}

impl Model {
    /// The model of weights that are as they should be.
    pub(crate) fn of(weights: &[SparseWeight]) -> Self {
        let (active, backward) = sets(weights);
        let theta_of = |weight: &SparseWeight| {
            let outside = |index| weight.reservoir().unwrap().value(index);
            let mut theta: Vec<f32> = (0..weight.pattern().total()).map(outside).collect();
            weight.pattern().for_each_by_index(|index, entry| {
                theta[index as usize] = weight.parameter().values[entry];
            });
            theta
        };
        let theta = weights.iter().map(theta_of).collect();
        let memory = backward.iter().map(|&place| (place, Memory::default())).collect();
        Self { theta, known: backward.clone(), active, backward, memory }
    }

    /// All places, layer after layer.
    fn places(&self) -> impl Iterator<Item = Place> {
        let layers = self.theta.iter().enumerate();
        layers.flat_map(|(layer, theta)| (0..theta.len() as u64).map(move |index| (layer, index)))
    }

    fn value(&self, (layer, index): Place) -> f32 {
        self.theta[layer][index as usize]
    }

    /// The first `count` places by descending magnitude, ties in ascending order.
    pub(crate) fn largest(&self, count: usize) -> BTreeSet<Place> {
        let mut ranking: Vec<Place> = self.places().collect();
        let magnitude = |&place: &Place| self.value(place).abs();
        ranking.sort_by(|a, b| magnitude(b).total_cmp(&magnitude(a)));
        ranking.into_iter().take(count).collect()
    }

    /// Gives every entry of B a new value and new optimizer state, in the weights too.
    pub(crate) fn train(&mut self, weights: &mut [SparseWeight], values: Values, random: &mut ChaCha8Rng) {
        for (layer, weight) in weights.iter_mut().enumerate() {
            adam().prepare(weight.parameter_mut());
            let pattern = weight.pattern().clone();
            let Parameter { values: held, moments, .. } = weight.parameter_mut();
            pattern.for_each_by_index(|index, entry| {
                held[entry] = values.change(held[entry], layer, random);
                moments.first[entry] = random.random::<f32>() - 0.5;
                moments.second[entry] = random.random::<f32>();
                moments.age[entry] = random.random_range(1..1000);
                self.theta[layer][index as usize] = held[entry];
                let memory = (moments.first[entry], moments.second[entry], moments.age[entry]);
                self.memory.insert((layer, index), memory);
            });
        }
    }

    /// Follows a selection: checks the sets chosen and the numbers reported, then takes the sets over.
    pub(crate) fn follow(&mut self, weights: &[SparseWeight], case: &Case, changed: Changed) {
        let Counts { active: active_len, backward: backward_len } = case.counts;
        let (active, backward) = sets(weights);
        assert_eq!(active, self.largest(active_len), "A");
        match case.explore {
            Explore::Random => {
                assert_eq!(backward.len(), backward_len);
                assert!(active.is_subset(&backward));
            }
            Explore::Mixed => {
                assert_eq!(backward.len(), backward_len);
                let near = active_len + (backward_len - active_len).div_ceil(2);
                assert!(self.largest(near).is_subset(&backward));
            }
            Explore::Magnitude => assert_eq!(backward, self.largest(backward_len), "B"),
            Explore::None => assert_eq!(backward, active, "B"),
        }
        let entered = backward.difference(&self.backward).count() as u64;
        let newly_active = active.difference(&self.active).count() as u64;
        assert_eq!(changed, Changed { newly_active, entered });
        self.memory.retain(|place, _| backward.contains(place));
        for &place in &backward {
            self.memory.entry(place).or_default();
        }
        self.known.extend(&backward);
        (self.active, self.backward) = (active, backward);
    }

    /// Values and optimizer state are where they belong, in B and in C, and structures as if made from scratch.
    pub(crate) fn check(&self, weights: &[SparseWeight]) {
        for (layer, weight) in weights.iter().enumerate() {
            let Parameter { values, gradient, moments } = weight.parameter();
            let backward = weight.counts().backward;
            assert_eq!((values.len(), gradient.len()), (backward, backward));
            let lengths = [moments.first.len(), moments.second.len(), moments.age.len()];
            // None where a weight that had no entries got its first: all zero, once the optimizer has made room.
            let none_yet = lengths == [0; 3];
            assert!(none_yet || lengths == [backward; 3], "{lengths:?} of {backward}");
            weight.pattern().for_each_by_index(|index, entry| {
                let place = (layer, index);
                assert_eq!(values[entry].to_bits(), self.value(place).to_bits(), "value of {place:?}");
                let memory = match none_yet {
                    true => Memory::default(),
                    false => (moments.first[entry], moments.second[entry], moments.age[entry]),
                };
                assert_eq!(memory, self.memory[&place], "moments of {place:?}");
            });
            let reservoir = weight.reservoir().unwrap();
            for place in self.places().filter(|place| place.0 == layer && !self.backward.contains(place)) {
                let kept = reservoir.value(place.1);
                assert_eq!(kept.to_bits(), self.value(place).to_bits(), "value of {place:?} in C");
            }
            let dormant = self.known.difference(&self.backward).filter(|place| place.0 == layer).count();
            assert_eq!(reservoir.dormant(), dormant as u64, "dormant");
            let pattern = weight.pattern();
            let (active, explore) = (from_scratch(pattern.active()), from_scratch(pattern.explore()));
            assert_eq!(**pattern, Pattern::new(active, explore).unwrap());
            assert_eq!(pattern.transposed(), &pattern.active().transposed());
        }
    }
}

fn from_scratch(csr: &Csr) -> Csr {
    let columns = (0..csr.rows()).flat_map(|row| csr.row_columns(row)).map(|column| column as u32);
    Csr::new(csr.width(), csr.offsets().to_vec(), columns.collect()).unwrap()
}

/// What training does to values.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Values {
    /// They shrink at random and flip signs.
    Shrunk,
    /// They change so little that few entries change sets, and sizes often stay.
    Nudged,
    /// They become one of very few, so that most are tied, also across layers.
    Tied,
    /// They become zero, all of them.
    Zero,
    /// Those of one layer (the remainder) all but vanish, so that it has no entries left where others do.
    Emptied(usize),
    /// Some become infinite or NaN, and some of those numbers again.
    Broken,
}

impl Values {
    fn change(self, value: f32, layer: usize, random: &mut ChaCha8Rng) -> f32 {
        match self {
            Self::Shrunk => value * (random.random::<f32>() * 2.0 - 1.0),
            Self::Nudged => value * (1.0 + 0.02 * (random.random::<f32>() - 0.5)),
            Self::Tied => tied(random),
            Self::Zero => 0.0,
            Self::Emptied(number) if layer % 3 == number % 3 => value * 1e-9,
            Self::Emptied(_) => value,
            Self::Broken => match random.random_range(0..20) {
                0 => f32::NAN,
                1 => f32::INFINITY,
                2 => 1e-45,
                _ if value.is_finite() => value,
                _ => random.random::<f32>() - 0.5,
            },
        }
    }
}

pub(crate) fn tied(random: &mut ChaCha8Rng) -> f32 {
    [0.5, -0.5, 0.25, -0.25, 0.0, -0.0][random.random_range(0..6)]
}

/// A and B of all weights.
pub(crate) fn sets(weights: &[SparseWeight]) -> (BTreeSet<Place>, BTreeSet<Place>) {
    let (mut active, mut backward) = (BTreeSet::new(), BTreeSet::new());
    for (layer, weight) in weights.iter().enumerate() {
        let (a, explore) = (weight.pattern().active(), weight.pattern().explore());
        assert_eq!(weight.counts().active, a.entries());
        assert_eq!(weight.counts().backward, a.entries() + explore.entries());
        assert_eq!(weight.active_values().len(), a.entries());
        active.extend(a.flat_indices().map(|index| (layer, index)));
        backward.extend(a.flat_indices().chain(explore.flat_indices()).map(|index| (layer, index)));
    }
    (active, backward)
}

pub(crate) fn adam() -> Optimizer {
    let hyper = Hyper::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    Optimizer::new(hyper, PenaltyKind::L2, 1e-4)
}
