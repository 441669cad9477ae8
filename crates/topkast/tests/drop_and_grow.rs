//! SET and RigL against naive models, over rounds: which entries are dropped and which grow, and that values and optimizer
//! state follow their entry.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use topkast::{
    Counts, DenseGradient, Hyper, Init, Moments, Optimizer, Parameter, PenaltyKind, ReservoirKind, Scale,
    Seed, SparseWeight, Topology,
};
use topkast_kernels::{Isa, Matrix};

/// Bits of the value, first moment, second moment, age.
type Held = (u32, f32, f32, u32);

fn weight(topology: Topology, [rows, width]: [usize; 2], active: usize, seed: u64) -> SparseWeight {
    let counts = Counts { active, backward: active };
    let init = Init::kaiming_normal(Scale::Active);
    let seed = Seed::new(seed);
    let made = SparseWeight::new(rows, width, counts, topology, &init, ReservoirKind::Implicit, seed);
    let mut weight = made.unwrap();
    let adam = Hyper::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    Optimizer::new(adam, PenaltyKind::L2, 0.0).prepare(weight.parameter_mut());
    weight
}

/// What an entry of A has, by flat index.
fn held(weight: &SparseWeight) -> BTreeMap<u64, Held> {
    let Parameter { values, gradient, moments: Moments { first, second, age } } = weight.parameter();
    let active = weight.counts().active;
    assert_eq!([values.len(), gradient.len(), first.len(), second.len(), age.len()], [active; 5]);
    let mut held = BTreeMap::new();
    weight.pattern().for_each_by_index(|index, entry| {
        held.insert(index, (values[entry].to_bits(), first[entry], second[entry], age[entry]));
    });
    assert_eq!((held.len(), weight.pattern().explore().entries()), (active, 0));
    held
}

/// Gives every entry new values, one of few where `tied`, and optimizer state.
fn train(weight: &mut SparseWeight, tied: bool, random: &mut ChaCha8Rng) {
    let Parameter { values, moments, .. } = weight.parameter_mut();
    for (entry, value) in values.iter_mut().enumerate() {
        let drawn = random.random::<f32>() - 0.5;
        *value = if tied { (drawn * 6.0).round() * 0.5 } else { *value + drawn };
        moments.first[entry] = drawn;
        moments.second[entry] = random.random();
        moments.age[entry] = random.random_range(1..1000);
    }
}

/// What stays of A when its `count` smallest are dropped; ties stay by lower index.
fn kept(held: &BTreeMap<u64, Held>, count: usize) -> BTreeSet<u64> {
    let mut order: Vec<(u64, f32)> =
        held.iter().map(|(&index, held)| (index, f32::from_bits(held.0).abs())).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    order[..order.len() - count].iter().map(|&(index, _)| index).collect()
}

/// What was in A before has kept what it had, and what is new has nothing.
fn check_held(before: &BTreeMap<u64, Held>, after: &BTreeMap<u64, Held>) {
    for (index, held) in after {
        assert_eq!(held, before.get(index).unwrap_or(&(0, 0.0, 0.0, 0)), "entry {index}");
    }
}

/// Small whole numbers, so that every sum of products is exact, and many are equal.
fn whole(features: usize, positions: usize, random: &mut ChaCha8Rng) -> Matrix {
    let values: Vec<f32> =
        (0..features * positions).map(|_| f32::from(random.random_range(-2i8..3))).collect();
    Matrix::from_rows(features, positions, &values)
}

/// The `count` entries outside `kept` with the largest gradients.
fn largest_gradients(dy: &Matrix, x: &Matrix, kept: &BTreeSet<u64>, count: usize) -> BTreeSet<u64> {
    let mut gradients = Vec::new();
    for row in 0..dy.features() {
        for column in 0..x.features() {
            let index = (row * x.features() + column) as u64;
            let sum: f32 = dy.row(row).iter().zip(x.row(column)).map(|(dy, x)| dy * x).sum();
            if !kept.contains(&index) {
                gradients.push((sum.abs(), index));
            }
        }
    }
    gradients.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    gradients[..count].iter().map(|&(_, index)| index).collect()
}

fn shapes() -> impl Strategy<Value = [usize; 2]> {
    prop::sample::select(vec![[1, 1], [1, 15], [17, 1], [16, 16], [33, 17], [70, 31], [3, 1500]])
}

/// Fractions of A dropped in each round, with whether values are tied.
fn rounds() -> impl Strategy<Value = Vec<(f64, bool)>> {
    let fraction = prop_oneof![Just(0.0), Just(1.0), 0.0f64..1.0];
    prop::collection::vec((fraction, any::<bool>()), 1..5)
}

proptest! {
    #[test]
    fn set_drops_the_smallest_and_grows_outside_a(
        shape in shapes(), share in 0.0f64..=1.0, rounds in rounds(), seed: u64, transposed: bool,
    ) {
        let total = shape[0] * shape[1];
        let active = (share * total as f64) as usize;
        let mut weight = weight(Topology::Set, shape, active, seed);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for (step, (fraction, tied)) in rounds.into_iter().enumerate() {
            train(&mut weight, tied, &mut random);
            if transposed {
                weight.pattern().transposed();
            }
            let before = held(&weight);
            let count = ((active as f64 * fraction) as usize).min(total - active);
            let newly = weight.set(fraction, step as u64).unwrap().newly_active();
            let after = held(&weight);
            check_held(&before, &after);
            prop_assert_eq!(newly, count);
            let stayed: BTreeSet<u64> = before.keys().filter(|index| after.contains_key(index)).copied().collect();
            prop_assert_eq!(stayed, kept(&before, count));
            prop_assert_eq!(weight.pattern().transposed(), &weight.pattern().active().transposed());
        }
        prop_assert!(weight.refresh(1).is_none() && weight.reservoir().is_none());
    }

    #[test]
    fn rigl_drops_the_smallest_and_grows_the_largest_gradients(
        shape in shapes(), share in 0.0f64..=1.0, rounds in rounds(), seed: u64,
        positions in prop::sample::select(vec![1usize, 15, 16, 17, 40]), threads in 1usize..4,
    ) {
        let active = (share * (shape[0] * shape[1]) as f64) as usize;
        let mut weight = weight(Topology::Rigl, shape, active, seed);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for (fraction, tied) in rounds {
            train(&mut weight, tied, &mut random);
            let [dy, x] = [shape[0], shape[1]].map(|features| whole(features, positions, &mut random));
            for isa in Isa::available() {
                check_rigl(&mut weight, fraction, isa, &dy, &x, &pool);
            }
        }
    }
}

fn check_rigl(
    weight: &mut SparseWeight,
    fraction: f64,
    isa: Isa,
    dy: &Matrix,
    x: &Matrix,
    pool: &rayon::ThreadPool,
) {
    let before = held(weight);
    let count = (before.len() as f64 * fraction) as usize;
    let mut want = kept(&before, count);
    let grown = largest_gradients(dy, x, &want, count);
    want.extend(grown);
    let newly =
        pool.install(|| weight.rigl(fraction, isa, &DenseGradient::of(dy, x)).unwrap().newly_active());
    let after = held(weight);
    assert!(
        after.keys().eq(&want),
        "{:?}",
        after.keys().collect::<BTreeSet<_>>().symmetric_difference(&want.iter().collect())
    );
    assert_eq!(newly, want.iter().filter(|index| !before.contains_key(index)).count());
    check_held(&before, &after);
    assert_eq!(weight.pattern().transposed(), &weight.pattern().active().transposed());
}

/// Several tiles: of one row each, and of many, the last of which has few.
#[test]
fn rigl_takes_the_largest_of_all_tiles() {
    for shape in [[5, 140_000], [300, 1000]] {
        for threads in 1..4 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut random = ChaCha8Rng::seed_from_u64(threads as u64);
            let mut weight = weight(Topology::Rigl, shape, 20_000, 1);
            train(&mut weight, false, &mut random);
            let [dy, x] = shape.map(|features| whole(features, 20, &mut random));
            check_rigl(&mut weight, 0.3, Isa::current().unwrap(), &dy, &x, &pool);
        }
    }
}

#[test]
fn rigl_does_not_depend_on_threads() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let shape = [700, 900];
    let [dy, x] = shape.map(|features| {
        let values: Vec<f32> = (0..features * 33).map(|_| random.random::<f32>() - 0.5).collect();
        Matrix::from_rows(features, 33, &values)
    });
    let on = |threads| {
        let mut weight = weight(Topology::Rigl, shape, 9000, 1);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            weight.rigl(0.5, Isa::current().unwrap(), &DenseGradient::of(&dy, &x)).unwrap().newly_active()
        });
        held(&weight)
    };
    let want = on(1);
    assert!((2..6).all(|threads| on(threads) == want));
}

/// Every entry that is free grows about as often.
#[test]
fn set_grows_uniformly() {
    let mut hits = [0u32; 30];
    let rounds = 6000;
    for seed in 0..rounds {
        let mut weight = weight(Topology::Set, [5, 6], 10, 7);
        weight.parameter_mut().values.fill(1.0);
        let before = held(&weight);
        weight.set(0.5, seed).unwrap();
        held(&weight)
            .keys()
            .filter(|index| !before.contains_key(index))
            .for_each(|&index| hits[index as usize] += 1);
    }
    // 5 of 20 each time.
    let free: Vec<u32> = hits.into_iter().filter(|&hits| hits > 0).collect();
    assert_eq!(free.len(), 20);
    assert!(free.iter().all(|&hits| (1350..1650).contains(&hits)), "{free:?}");
}

#[test]
fn a_weight_of_another_topology_stays() {
    let x = Matrix::zeros(3, 1);
    let mut fixed = weight(Topology::Static, [3, 3], 4, 1);
    assert!(
        fixed.set(0.5, 1).is_none() && fixed.rigl(0.5, Isa::portable(), &DenseGradient::of(&x, &x)).is_none()
    );
    let mut set = weight(Topology::Set, [3, 3], 4, 1);
    assert!(set.rigl(0.5, Isa::portable(), &DenseGradient::of(&x, &x)).is_none());
    let mut rigl = weight(Topology::Rigl, [3, 3], 4, 1);
    assert!(rigl.set(0.5, 1).is_none());
}
