//! What must hold of a sparse weight after any number of refreshes, whatever the optimizer has made of its values:
//! compared with a dense copy of θ, sorted, and a map from flat index to optimizer state.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use topkast::reservoir::SavedReservoir;
use topkast::{
    Counts, Explore, Hyper, Init, Optimizer, Parameter, Pattern, PenaltyKind, Remap, ReservoirKind, Scale,
    Seed, SparseWeight, Topology,
};
use topkast_kernels::Buffer;

/// First moment, second moment and age of an entry of B.
type Memory = (f32, f32, u32);

/// What the weight should be.
struct Model {
    theta: Vec<f32>,
    active: BTreeSet<u64>,
    backward: BTreeSet<u64>,
    memory: BTreeMap<u64, Memory>,
    /// Every entry that has ever been in B.
    known: BTreeSet<u64>,
}

impl Model {
    /// The model of a weight that is as it should be.
    fn of(weight: &SparseWeight) -> Self {
        let (active, backward) = sets(weight);
        let total = weight.pattern().total();
        let mut theta: Vec<f32> = (0..total).map(|index| weight.reservoir().unwrap().value(index)).collect();
        weight.pattern().for_each_by_index(|index, entry| {
            theta[index as usize] = weight.parameter().values[entry];
        });
        let memory = backward.iter().map(|&index| (index, Memory::default())).collect();
        Self { theta, known: backward.clone(), active, backward, memory }
    }

    /// All flat indices by descending magnitude, ties in ascending order.
    fn ranking(&self) -> Vec<u64> {
        let magnitude = |index: u64| self.theta[index as usize].abs();
        let mut ranking: Vec<u64> = (0..self.theta.len() as u64).collect();
        ranking.sort_by(|&a, &b| magnitude(b).total_cmp(&magnitude(a)).then(a.cmp(&b)));
        ranking
    }

    /// Gives every entry of B a new value and new optimizer state, in the weight too.
    fn train(&mut self, weight: &mut SparseWeight, values: Values, random: &mut ChaCha8Rng) {
        let mut by_index = Vec::new();
        weight.pattern().for_each_by_index(|index, entry| by_index.push((index, entry)));
        let Parameter { values: held, moments, .. } = weight.parameter_mut();
        for (index, entry) in by_index {
            held[entry] = values.change(held[entry], random);
            moments.first[entry] = random.random::<f32>() - 0.5;
            moments.second[entry] = random.random::<f32>();
            moments.age[entry] = random.random_range(1..1000);
            self.theta[index as usize] = held[entry];
            let memory = (moments.first[entry], moments.second[entry], moments.age[entry]);
            self.memory.insert(index, memory);
        }
    }

    /// Follows a refresh: checks the sets chosen and the numbers reported, then takes the sets over.
    fn follow(&mut self, weight: &SparseWeight, explore: Explore, remap: &Remap) {
        let Counts { active: active_len, backward: backward_len } = weight.counts();
        let (active, backward) = sets(weight);
        assert_eq!((active.len(), backward.len()), (active_len, backward_len));
        let ranking = self.ranking();
        assert_eq!(active, ranking[..active_len].iter().copied().collect(), "A");
        assert!(
            ranking[..nearest(explore, weight.counts())].iter().all(|index| backward.contains(index)),
            "B"
        );
        assert!(active.is_subset(&backward));
        assert_eq!(remap.entered(), backward.difference(&self.backward).count(), "entered");
        assert_eq!(remap.newly_active(), active.difference(&self.active).count(), "newly active");
        self.memory.retain(|index, _| backward.contains(index));
        for &index in &backward {
            self.memory.entry(index).or_default();
        }
        self.known.extend(&backward);
        (self.active, self.backward) = (active, backward);
    }

    /// Values and optimizer state are where they belong, in B and in C.
    fn check(&self, weight: &SparseWeight) {
        let Parameter { values, gradient, moments } = weight.parameter();
        let backward = weight.counts().backward;
        let lengths = [values.len(), gradient.len(), moments.first.len(), moments.second.len()];
        assert_eq!((lengths, moments.age.len()), ([backward; 4], backward));
        weight.pattern().for_each_by_index(|index, entry| {
            assert_eq!(values[entry].to_bits(), self.theta[index as usize].to_bits(), "value of {index}");
            let memory = (moments.first[entry], moments.second[entry], moments.age[entry]);
            assert_eq!(memory, self.memory[&index], "moments of {index}");
        });
        let reservoir = weight.reservoir().unwrap();
        for index in (0..self.theta.len() as u64).filter(|index| !self.backward.contains(index)) {
            let kept = reservoir.value(index);
            assert_eq!(kept.to_bits(), self.theta[index as usize].to_bits(), "value of {index} in C");
        }
        assert_eq!(reservoir.dormant(), self.known.difference(&self.backward).count() as u64, "dormant");
    }
}

/// How many entries of B are certain to be the largest, the others of it being drawn at random.
fn nearest(explore: Explore, Counts { active, backward }: Counts) -> usize {
    match explore {
        Explore::Magnitude | Explore::None => backward,
        Explore::Random => active,
        Explore::Mixed => active + (backward - active).div_ceil(2),
    }
}

/// What training does to values.
#[derive(Clone, Copy, Debug)]
enum Values {
    /// They shrink at random, so that entries of C come in, and flip signs.
    Shrunk,
    /// They grow at random, so that entries stay.
    Grown,
    /// They change so little that few entries change sets.
    Nudged,
    /// They become one of very few, so that most are tied.
    Tied,
    /// Some become infinite or NaN, and some of those numbers again.
    Broken,
}

impl Values {
    fn change(self, value: f32, random: &mut ChaCha8Rng) -> f32 {
        match self {
            Self::Shrunk => value * (random.random::<f32>() * 2.0 - 1.0),
            Self::Grown => value * (1.0 + random.random::<f32>()),
            Self::Nudged => value * (1.0 + 0.02 * (random.random::<f32>() - 0.5)),
            Self::Tied => tied(random),
            Self::Broken => match random.random_range(0..20) {
                0 => f32::NAN,
                1 => -f32::NAN,
                2 => f32::INFINITY,
                3 => f32::from_bits(0x7f80_0001),
                4 => 1e-45,
                _ if value.is_finite() => value,
                _ => random.random::<f32>() - 0.5,
            },
        }
    }
}

fn tied(random: &mut ChaCha8Rng) -> f32 {
    [0.5, -0.5, 0.25, -0.25, 0.0, -0.0][random.random_range(0..6)]
}

/// A and B.
fn sets(weight: &SparseWeight) -> (BTreeSet<u64>, BTreeSet<u64>) {
    sets_of(weight.pattern())
}

fn sets_of(pattern: &Pattern) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let active: BTreeSet<u64> = pattern.active().flat_indices().collect();
    let backward = active.iter().copied().chain(pattern.explore().flat_indices()).collect();
    (active, backward)
}

/// A weight and what happens to it.
#[derive(Clone, Debug)]
struct Case {
    shape: (usize, usize),
    counts: Counts,
    explore: Explore,
    scale: Scale,
    reservoir: ReservoirKind,
    seed: u64,
    /// θ⁰ is of tied values, not drawn from a normal distribution; where it is written out.
    tied_start: bool,
    /// The structure by column is in use.
    transposed: bool,
    /// Someone else holds the pattern, which must then stay as it was.
    shared: bool,
    rounds: Vec<Values>,
}

impl Case {
    fn weight(&self) -> SparseWeight {
        let ((rows, width), topology) = (self.shape, Topology::TopKast(self.explore));
        let init = Init::kaiming_normal(self.scale);
        let seed = Seed::new(self.seed);
        SparseWeight::new(rows, width, self.counts, topology, &init, self.reservoir, seed).unwrap()
    }
}

fn cases() -> impl Strategy<Value = Case> {
    // The last are wide enough for several blocks of columns, in the transposed structure too.
    let shapes = [(1, 1), (1, 17), (17, 1), (16, 16), (33, 15), (3, 1100), (600, 4)];
    let with_counts = prop::sample::select(shapes.to_vec()).prop_flat_map(|shape| {
        let total: usize = shape.0 * shape.1;
        let active = prop_oneof![Just(0), Just(1), Just(total), 1..=total, 1..=total.div_ceil(5)];
        let counts = active.prop_flat_map(move |active| {
            let backward = prop_oneof![Just(active), Just(total), active..=total];
            backward.prop_map(move |backward| Counts { active, backward })
        });
        (Just(shape), counts)
    });
    let explore =
        prop::sample::select(vec![Explore::Magnitude, Explore::Random, Explore::Mixed, Explore::None]);
    let scale = prop::sample::select(vec![Scale::Active, Scale::Full]);
    let reservoir = prop::sample::select(vec![ReservoirKind::Implicit, ReservoirKind::Dense]);
    let values = [Values::Shrunk, Values::Grown, Values::Nudged, Values::Tied, Values::Broken];
    let values = prop::sample::select(values.to_vec());
    let rounds = prop::collection::vec(values, 1..8);
    (with_counts, explore, (scale, reservoir), any::<u64>(), any::<[bool; 3]>(), rounds).prop_map(
        |((shape, counts), explore, (scale, reservoir), seed, [tied_start, transposed, shared], rounds)| {
            Case { shape, counts, explore, scale, reservoir, seed, tied_start, transposed, shared, rounds }
        },
    )
}

/// Replaces all of θ by tied values, where the sets are as they were: wrong until the next refresh.
fn start_tied(weight: &mut SparseWeight, random: &mut ChaCha8Rng) {
    let theta: Vec<f32> = (0..weight.pattern().total()).map(|_| tied(random)).collect();
    let pattern = weight.pattern();
    let mut values = Buffer::zeros(pattern.backward_len());
    pattern.for_each_by_index(|index, entry| values[entry] = theta[index as usize]);
    let pattern = Pattern::new(pattern.active().clone(), pattern.explore().clone()).unwrap();
    let dormant = vec![0; theta.len().div_ceil(64)];
    let saved = SavedReservoir::Dense { theta, dormant };
    weight.restore(pattern, Parameter::new(values), Some(saved)).unwrap();
}

fn adam() -> Optimizer {
    let hyper = Hyper::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    Optimizer::new(hyper, PenaltyKind::L2, 1e-4)
}

proptest! {
    #[test]
    fn the_first_sets_are_the_largest(case in cases()) {
        let weight = case.weight();
        let model = Model::of(&weight);
        let Counts { active, backward } = weight.counts();
        prop_assert_eq!((model.active.len(), model.backward.len()), (active, backward));
        let ranking = model.ranking();
        prop_assert_eq!(&model.active, &ranking[..active].iter().copied().collect());
        let nearest = &ranking[..nearest(case.explore, weight.counts())];
        prop_assert!(nearest.iter().all(|index| model.backward.contains(index)));
        let wanted = if case.explore == Explore::None { case.counts.active } else { case.counts.backward };
        prop_assert_eq!((active, backward), (case.counts.active, wanted));
    }

    #[test]
    fn refreshes_choose_the_largest_and_move_everything_with_its_entry(case in cases()) {
        let mut random = ChaCha8Rng::seed_from_u64(case.seed);
        let mut weight = case.weight();
        if case.tied_start && case.reservoir == ReservoirKind::Dense {
            start_tied(&mut weight, &mut random);
        }
        adam().prepare(weight.parameter_mut());
        let mut model = Model::of(&weight);
        for (step, values) in (1..).zip(&case.rounds) {
            model.train(&mut weight, *values, &mut random);
            if case.transposed {
                weight.pattern().transposed();
            }
            let shared = case.shared.then(|| (weight.pattern().clone(), sets(&weight)));
            let remap = weight.refresh(step).unwrap().clone();
            model.follow(&weight, case.explore, &remap);
            model.check(&weight);
            let pattern = weight.pattern();
            prop_assert_eq!(pattern.transposed(), &pattern.active().transposed());
            if let Some((pattern, before)) = shared {
                prop_assert_eq!(sets_of(&pattern), before);
            }
        }
    }

    #[test]
    fn a_second_refresh_without_training_changes_nothing(case in cases()) {
        let drawn = matches!(case.explore, Explore::Random | Explore::Mixed);
        let explore = if drawn { Explore::Magnitude } else { case.explore };
        let mut weight = Case { explore, ..case }.weight();
        adam().prepare(weight.parameter_mut());
        let (pattern, parameter) = (weight.pattern().clone(), weight.parameter().clone());
        let remap = weight.refresh(1).unwrap();
        prop_assert_eq!((remap.entered(), remap.newly_active(), remap.is_identity()), (0, 0, true));
        prop_assert_eq!((weight.pattern(), weight.parameter()), (&pattern, &parameter));
    }

    #[test]
    fn a_static_weight_stays(shape in prop::sample::select(vec![(1, 1), (1, 17), (33, 15)]), seed: u64) {
        let (rows, width) = shape;
        let counts = Counts { active: usize::div_ceil(rows * width, 3), backward: rows * width };
        let mut weight =
            SparseWeight::new(
                rows, width, counts, Topology::Static, &Init::kaiming_normal(Scale::Active), ReservoirKind::Implicit,
                Seed::new(seed),
            )
            .unwrap();
        let pattern = weight.pattern().clone();
        prop_assert_eq!((pattern.active().entries(), pattern.backward_len()), (counts.active, counts.active));
        prop_assert!(weight.refresh(1).is_none() && weight.reservoir().is_none());
        prop_assert_eq!(weight.pattern(), &pattern);
    }
}

/// Entry 0 leaves B with a value that it must have when it returns, but with no momentum.
#[test]
fn an_entry_that_returns_has_kept_its_value() {
    let mut weight = Case {
        shape: (1, 17),
        counts: Counts { active: 1, backward: 2 },
        explore: Explore::Magnitude,
        scale: Scale::Full,
        reservoir: ReservoirKind::Implicit,
        seed: 5,
        tied_start: false,
        transposed: false,
        shared: false,
        rounds: Vec::new(),
    }
    .weight();
    adam().prepare(weight.parameter_mut());
    let first = weight.pattern().active().flat_indices().next().unwrap();
    weight.parameter_mut().values[0] = 1e-3;
    weight.parameter_mut().moments.first[0] = 7.0;
    weight.refresh(1).unwrap();
    assert!(!sets(&weight).1.contains(&first));
    assert_eq!(weight.reservoir().unwrap().value(first), 1e-3);
    // It returns once what is left in C is smaller: all others are trained down, one refresh after another.
    for step in 2..40 {
        weight.parameter_mut().values.fill(1e-4);
        weight.refresh(step).unwrap();
        if sets(&weight).1.contains(&first) {
            break;
        }
    }
    let mut returned = None;
    weight.pattern().for_each_by_index(|index, entry| {
        if index == first {
            returned = Some(entry);
        }
    });
    let entry = returned.expect("all others are smaller");
    assert_eq!(weight.parameter().values[entry], 1e-3);
    assert_eq!(weight.parameter().moments.first[entry], 0.0);
}
