//! Several weights whose sets are chosen together: compared, after any number of refreshes, with all of θ of all of them
//! written out and sorted, and with maps from entry to optimizer state.

mod model;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use topkast::reservoir::{DenseReservoir, ReservoirState, SavedReservoir};
use topkast::{
    Counts, Entry, Explore, Global, Init, Reservoir, ReservoirKind, Scale, Seed, SparseWeight, Topology,
    WeightError, random_counts,
};
use topkast_kernels::Isa;

use model::{Model, Place, Values, adam, sets, tied};

/// Before sets are chosen together.
const NONE: Counts = Counts { active: 0, backward: 0 };

/// Weights and what happens to them.
#[derive(Clone, Debug)]
struct Case {
    shapes: Vec<(usize, usize)>,
    counts: Counts,
    explore: Explore,
    seed: u64,
    tied_start: bool,
    rounds: Vec<Values>,
}

impl Case {
    /// The weights, with their first sets.
    fn start(&self) -> (Vec<SparseWeight>, Global) {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let (seed, topology) = (Seed::new(self.seed), Topology::TopKast(self.explore));
        let init = Init::kaiming_normal(Scale::Full);
        let kind = [ReservoirKind::Implicit, ReservoirKind::Dense][self.seed as usize % 2];
        let weight = |(number, &(rows, width)): (u64, &(usize, usize))| {
            let seed = seed.numbered(number);
            let mut weight = SparseWeight::new(rows, width, NONE, topology, &init, kind, seed).unwrap();
            if self.tied_start {
                let theta = (0..rows * width).map(|_| tied(&mut random)).collect();
                set_reservoir(&mut weight, Box::new(DenseReservoir::new(theta)));
            }
            weight
        };
        let mut weights: Vec<SparseWeight> = (0..).zip(&self.shapes).map(weight).collect();
        let mut global = Global::new(self.counts, self.explore, seed.named("global"));
        global.start(&mut weights.iter_mut().collect::<Vec<_>>()).unwrap();
        (weights, global)
    }

    /// What is left after all rounds, having been checked after each.
    fn run(&self) -> Vec<SparseWeight> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed + 1);
        let (mut weights, mut global) = self.start();
        let mut model = Model::of(&weights);
        for (step, values) in (1..).zip(&self.rounds) {
            model.train(&mut weights, *values, &mut random);
            let changed = global.refresh(&mut weights.iter_mut().collect::<Vec<_>>(), step);
            model.follow(&weights, self, changed);
            model.check(&weights);
        }
        weights
    }
}

/// Gives a weight with no entries in B another θ.
fn set_reservoir(weight: &mut SparseWeight, reservoir: Box<dyn Reservoir>) {
    let (rows, width) = (weight.pattern().rows(), weight.pattern().width());
    *weight =
        SparseWeight::from_theta(rows, width, NONE, weight.topology(), reservoir, Seed::new(0)).unwrap();
}

fn cases() -> impl Strategy<Value = Case> {
    // The last are wide enough for several blocks of columns, in the transposed structure too.
    let shapes = [(1, 1), (1, 17), (17, 1), (16, 16), (33, 15), (3, 1100), (600, 4)];
    let shapes = prop::collection::vec(prop::sample::select(shapes.to_vec()), 1..5);
    let with_counts = shapes.prop_flat_map(|shapes| {
        let total: usize = shapes.iter().map(|(rows, width)| rows * width).sum();
        let active = prop_oneof![Just(0), Just(1), Just(total), 1..=total, 1..=total.div_ceil(5)];
        let counts = active.prop_flat_map(move |active| {
            let backward = prop_oneof![Just(active), Just(total), active..=total];
            backward.prop_map(move |backward| Counts { active, backward })
        });
        (Just(shapes), counts)
    });
    let explore =
        prop::sample::select(vec![Explore::Magnitude, Explore::Random, Explore::Mixed, Explore::None]);
    let fixed = [Values::Shrunk, Values::Nudged, Values::Tied, Values::Zero, Values::Broken];
    let values = prop_oneof![prop::sample::select(fixed.to_vec()), (0usize..3).prop_map(Values::Emptied)];
    let rounds = prop::collection::vec(values, 1..10);
    (with_counts, explore, any::<u32>(), any::<bool>(), rounds).prop_map(
        |((shapes, counts), explore, seed, tied_start, rounds)| {
            let seed = u64::from(seed);
            Case { shapes, counts, explore, seed, tied_start, rounds }
        },
    )
}

proptest! {
    #[test]
    fn the_first_sets_are_the_largest_of_all_layers(case in cases()) {
        let (weights, _) = case.start();
        let model = Model::of(&weights);
        let Counts { active, backward } = case.counts;
        prop_assert_eq!(&model.active, &model.largest(active));
        match case.explore {
            Explore::Random => prop_assert_eq!(model.backward.len(), backward),
            Explore::Mixed => {
                prop_assert_eq!(model.backward.len(), backward);
                let near = model.largest(active + (backward - active).div_ceil(2));
                prop_assert!(near.is_subset(&model.backward));
            }
            Explore::Magnitude => prop_assert_eq!(&model.backward, &model.largest(backward)),
            Explore::None => prop_assert_eq!(&model.backward, &model.active),
        }
        model.check(&weights);
    }

    #[test]
    fn refreshes_choose_the_largest_of_all_layers_and_move_everything_with_its_entry(case in cases()) {
        case.run();
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn threads_do_not_matter(case in cases()) {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| case.run())
        };
        for (one, other) in on(1).iter().zip(on(3)) {
            let bits = |weight: &SparseWeight| -> Vec<u32> {
                weight.parameter().values.iter().map(|value| value.to_bits()).collect()
            };
            prop_assert_eq!((one.pattern(), bits(one)), (other.pattern(), bits(&other)));
        }
    }
}

fn two_layers(explore: Explore, counts: Counts) -> Case {
    let (shapes, rounds) = (vec![(6, 5), (4, 7)], Vec::new());
    Case { shapes, counts, explore, seed: 3, tied_start: false, rounds }
}

/// The second layer loses all its entries, so that it has no optimizer state either, and gets some again.
#[test]
fn a_layer_that_was_empty_is_trained_when_it_fills_again() {
    let case = two_layers(Explore::Magnitude, Counts { active: 8, backward: 12 });
    let (mut weights, mut global) = case.start();
    let mut refresh = |weights: &mut Vec<SparseWeight>, step| {
        global.refresh(&mut weights.iter_mut().collect::<Vec<_>>(), step);
    };
    let mut model = Model::of(&weights);
    let mut random = ChaCha8Rng::seed_from_u64(1);
    // Refresh by refresh what comes in from C is put out again.
    for step in 1..20 {
        model.train(&mut weights, Values::Emptied(1), &mut random);
        refresh(&mut weights, step);
    }
    assert_eq!(weights[1].counts(), Counts { active: 0, backward: 0 });
    assert_eq!(weights[0].counts(), case.counts);
    let isa = Isa::current().unwrap();
    weights.iter_mut().for_each(|weight| assert!(weight.update(&adam(), isa, 0.1, 1.0, true)));
    // Entries of the second are around 1e-10 at most by now.
    for step in 20..40 {
        weights[0].parameter_mut().values.fill(1e-20);
        refresh(&mut weights, step);
    }
    assert_eq!(weights[1].counts(), case.counts);
    let before = weights[1].parameter().values.clone();
    weights[1].parameter_mut().gradient.fill(1.0);
    weights[1].update(&adam(), isa, 0.1, 1.0, true);
    assert_eq!(weights[1].parameter().moments.age, [1; 12]);
    assert!(before.iter().zip(&weights[1].parameter().values[..]).all(|(before, after)| after < before));
}

#[test]
fn ties_go_to_the_earlier_layer() {
    let case = two_layers(Explore::Magnitude, Counts { active: 31, backward: 33 });
    let (mut weights, _) = two_layers(Explore::Magnitude, NONE).start();
    weights.iter_mut().for_each(|weight| {
        let total = weight.pattern().total() as usize;
        set_reservoir(weight, Box::new(DenseReservoir::new(vec![-0.5; total])));
    });
    let mut global = Global::new(case.counts, case.explore, Seed::new(1));
    global.start(&mut weights.iter_mut().collect::<Vec<_>>()).unwrap();
    assert_eq!(weights[0].counts(), Counts { active: 30, backward: 30 });
    assert_eq!(weights[1].counts(), Counts { active: 1, backward: 3 });
    assert_eq!(weights[1].pattern().explore().flat_indices().collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn the_density_is_that_of_all_layers() {
    let (mut weights, mut global) =
        two_layers(Explore::Magnitude, Counts { active: 29, backward: 40 }).start();
    let mut model = Model::of(&weights);
    model.train(&mut weights, Values::Emptied(0), &mut ChaCha8Rng::seed_from_u64(1));
    global.refresh(&mut weights.iter_mut().collect::<Vec<_>>(), 1);
    assert_ne!(weights[0].counts().active, weights[1].counts().active);
    assert!(weights.iter().all(|weight| weight.density() == 0.5));
}

/// B∖A is drawn from what is outside A in all layers alike, and anew at every refresh.
#[test]
fn random_exploration_spreads_over_layers_by_what_they_have() {
    let case = two_layers(Explore::Random, Counts { active: 10, backward: 16 });
    let (mut weights, mut global) = case.start();
    let mut hits: BTreeMap<Place, u32> = BTreeMap::new();
    for step in 1..=4800 {
        global.refresh(&mut weights.iter_mut().collect::<Vec<_>>(), step);
        let (active, backward) = sets(&weights);
        backward.difference(&active).for_each(|&place| *hits.entry(place).or_default() += 1);
    }
    assert_eq!(hits.len(), 48);
    // 600 expected, with a deviation of 23.
    assert!(hits.values().all(|hits| (490..710).contains(hits)), "{hits:?}");
}

#[test]
fn random_counts_are_exact_and_in_proportion() {
    let sizes = [600, 1, 0, 399];
    let mut sum = [0; 4];
    for number in 0..100 {
        let counts = random_counts(&sizes, 50, Seed::new(number));
        assert_eq!(counts.iter().sum::<usize>(), 50);
        assert!(counts.iter().zip(sizes).all(|(&count, size)| count as u64 <= size));
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    assert!((2850..3150).contains(&sum[0]) && sum[2] == 0, "{sum:?}");
    assert_eq!(random_counts(&sizes, 1000, Seed::new(1)), [600, 1, 0, 399]);
}

#[test]
fn more_than_there_is_is_refused() {
    let (mut weights, _) = two_layers(Explore::Magnitude, NONE).start();
    for (active, backward) in [(1, 59), (4, 3)] {
        let mut global = Global::new(Counts { active, backward }, Explore::Magnitude, Seed::new(1));
        assert!(global.start(&mut weights.iter_mut().collect::<Vec<_>>()).is_err());
    }
    assert!(weights.iter().all(|weight| weight.counts().backward == 0));
}

/// A reservoir that notes how much was asked of it.
struct Noting {
    reservoir: DenseReservoir,
    most: Arc<AtomicUsize>,
}

impl Reservoir for Noting {
    fn head(&mut self, count: usize) -> &[Entry] {
        self.most.fetch_max(count, Ordering::Relaxed);
        self.reservoir.head(count)
    }

    fn value(&self, index: u64) -> f32 {
        self.reservoir.value(index)
    }

    fn exchange(&mut self, left: &[Entry], entered: &[u64]) {
        self.reservoir.exchange(left, entered);
    }

    fn entries(&self) -> u64 {
        self.reservoir.entries()
    }

    fn dormant(&self) -> u64 {
        self.reservoir.dormant()
    }

    fn bytes(&self) -> usize {
        self.reservoir.bytes()
    }

    fn state(&self) -> ReservoirState<'_> {
        self.reservoir.state()
    }

    fn restored(&self, saved: SavedReservoir, backward: &[u64]) -> Result<Box<dyn Reservoir>, WeightError> {
        self.reservoir.restored(saved, backward)
    }
}

/// A refresh looks at about as much of C as comes into B.
#[test]
fn reservoirs_are_asked_for_little() {
    let most = Arc::new(AtomicUsize::new(0));
    let none = two_layers(Explore::Magnitude, NONE);
    let mut weights = Case { shapes: vec![(200, 300), (400, 100)], ..none }.start().0;
    for weight in &mut weights {
        let total = weight.pattern().total();
        let theta = (0..total).map(|index| weight.reservoir().unwrap().value(index)).collect();
        let reservoir = DenseReservoir::new(theta);
        set_reservoir(weight, Box::new(Noting { reservoir, most: most.clone() }));
    }
    let mut global = Global::new(Counts { active: 4000, backward: 8000 }, Explore::Magnitude, Seed::new(1));
    global.start(&mut weights.iter_mut().collect::<Vec<_>>()).unwrap();
    assert!(most.load(Ordering::Relaxed) <= 2 * 8000);
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for step in 1..20 {
        for weight in &mut weights {
            let values = &mut weight.parameter_mut().values;
            values.iter_mut().for_each(|value| *value *= 1.0 + 0.01 * (random.random::<f32>() - 0.5));
        }
        most.store(0, Ordering::Relaxed);
        let changed = global.refresh(&mut weights.iter_mut().collect::<Vec<_>>(), step);
        let most = most.load(Ordering::Relaxed) as u64;
        assert!(most <= 2 * changed.entered + 64, "{most} asked for {changed:?}");
    }
}
