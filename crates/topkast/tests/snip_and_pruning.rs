//! SNIP and gradual pruning against naive models: dense saliencies and sorting; what is dropped, and that values and optimizer
//! state follow their entry.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use topkast::reservoir::DenseReservoir;
use topkast::{
    Counts, DenseGradient, Hyper, Init, Largest, Optimizer, PenaltyKind, ReservoirKind, Scale, Seed,
    SparseWeight, Topology, WeightError,
};
use topkast_kernels::{Buffer, Isa, Matrix};

const NONE: Counts = Counts { active: 0, backward: 0 };

/// A weight that has not been started, of this θ⁰.
fn of(topology: Topology, [rows, width]: [usize; 2], theta: &[f32]) -> SparseWeight {
    let reservoir = Box::new(DenseReservoir::new(theta.to_vec()));
    let weight = SparseWeight::from_theta(rows, width, NONE, topology, reservoir, Seed::new(1)).unwrap();
    assert!(!weight.is_started() && weight.counts() == NONE && weight.reservoir().is_none());
    weight
}

/// Small whole numbers, so that every product and sum is exact, and many are equal.
fn whole(count: usize, random: &mut ChaCha8Rng) -> Vec<f32> {
    (0..count).map(|_| f32::from(random.random_range(-2i8..3))).collect()
}

fn values(weight: &SparseWeight) -> BTreeMap<u64, f32> {
    let mut values = BTreeMap::new();
    weight.pattern().for_each_by_index(|index, entry| {
        values.insert(index, weight.parameter().values[entry]);
    });
    assert_eq!((values.len(), weight.pattern().explore().entries()), (weight.counts().active, 0));
    values
}

fn shapes() -> impl Strategy<Value = [usize; 2]> {
    prop::sample::select(vec![[1, 1], [1, 15], [17, 1], [16, 16], [33, 17], [70, 31], [3, 1500], [140, 1000]])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Two weights chosen for together, with all of θ⁰, the gradient and the saliencies written out and sorted.
    #[test]
    fn the_most_salient_are_those_of_a_dense_model(
        shapes in [shapes(), shapes()], positions in 1usize..20, share in 0.0f64..=1.0, seed: u64,
    ) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let totals = shapes.map(|[rows, width]| rows * width);
        let count = ((totals[0] + totals[1]) as f64 * share) as usize;
        let (mut largest, mut model) = (Largest::new(count), Vec::new());
        let mut thetas = Vec::new();
        for (number, [rows, width]) in shapes.into_iter().enumerate() {
            let start = if number == 0 { 0 } else { totals[0] };
            let theta = whole(rows * width, &mut random);
            let dy = Matrix::from_rows(rows, positions, &whole(rows * positions, &mut random));
            let x = Matrix::from_rows(width, positions, &whole(width * positions, &mut random));
            let weight = of(Topology::Snip, [rows, width], &theta);
            weight.offer_saliencies(
                Isa::current().unwrap(),
                &DenseGradient::of(&dy, &x),
                start as u64,
                &mut largest,
            );
            for (index, theta) in theta.iter().enumerate() {
                let pairs = dy.row(index / width).iter().zip(x.row(index % width));
                let gradient: f64 = pairs.map(|(dy, x)| f64::from(dy * x)).sum();
                model.push(((gradient * f64::from(*theta)).abs(), start + index));
            }
            thetas.push(theta);
        }
        model.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut want: Vec<u64> = model[..count].iter().map(|&(_, number)| number as u64).collect();
        want.sort();
        let chosen = largest.into_indices();
        prop_assert_eq!(&chosen, &want);
        // The first of the two starts with its part.
        let own: Vec<u64> = chosen.into_iter().filter(|&number| number < totals[0] as u64).collect();
        let mut weight = of(Topology::Snip, shapes[0], &thetas[0]);
        weight.start(&own, None);
        let want: BTreeMap<u64, f32> = own.iter().map(|&index| (index, thetas[0][index as usize])).collect();
        prop_assert!(weight.is_started() && weight.counts().backward == own.len());
        prop_assert_eq!(values(&weight), want);
    }

    #[test]
    fn pruning_drops_the_smallest_for_good(
        shape in shapes(), shares in prop::collection::vec((0.0f64..=1.0, any::<bool>()), 1..5), seed: u64, transposed: bool,
    ) {
        let total = shape[0] * shape[1];
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let theta: Vec<f32> = (0..total).map(|_| random.random::<f32>() - 0.5).collect();
        let mut weight = of(Topology::Pruning, shape, &theta);
        weight.start_full();
        prop_assert_eq!(values(&weight), (0..).zip(theta).collect());
        let adam = Hyper::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
        Optimizer::new(adam, PenaltyKind::L2, 0.0).prepare(weight.parameter_mut());
        for (share, tied) in shares {
            let parameter = weight.parameter_mut();
            for (entry, value) in parameter.values.iter_mut().enumerate() {
                let drawn = random.random::<f32>() - 0.5;
                *value = if tied { (drawn * 6.0).round() * 0.5 } else { *value + drawn };
                // Each moment is told from the value, so that whatever does not follow its entry shows.
                parameter.moments.first[entry] = *value * 2.0;
                parameter.moments.second[entry] = *value * 3.0;
                parameter.moments.age[entry] = value.to_bits();
            }
            if transposed {
                weight.pattern().transposed();
            }
            let mut order: Vec<(u64, f32)> = values(&weight).into_iter().collect();
            let keep = (share * order.len() as f64) as usize;
            order.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
            let want: BTreeMap<u64, f32> = order[..keep].iter().copied().collect();
            prop_assert_eq!(weight.prune(keep), Some(order.len() - keep));
            prop_assert_eq!(values(&weight), want);
            prop_assert_eq!(weight.counts(), Counts { active: keep, backward: keep });
            prop_assert_eq!(weight.pattern().transposed(), &weight.pattern().active().transposed());
            let parameter = weight.parameter();
            prop_assert_eq!(parameter.gradient.len(), keep);
            for (entry, value) in parameter.values.iter().enumerate() {
                prop_assert_eq!(parameter.moments.first[entry], value * 2.0);
                prop_assert_eq!(parameter.moments.second[entry], value * 3.0);
                prop_assert_eq!(parameter.moments.age[entry], value.to_bits());
            }
            // Nothing comes back, and nothing more goes.
            prop_assert_eq!(weight.prune(total), Some(0));
        }
    }
}

/// θ⁰ in tiles is what a weight starts with, and its active part gets the variance asked for.
#[test]
fn a_fresh_weight_starts_with_its_own_values() {
    let ([rows, width], counts) = ([300, 700], Counts { active: 9000, backward: 9000 });
    let fresh = || {
        let init = Init::kaiming_normal(Scale::Active);
        let (kind, seed) = (ReservoirKind::Implicit, Seed::new(5));
        SparseWeight::new(rows, width, counts, Topology::Snip, &init, kind, seed).unwrap()
    };
    let mut weight = fresh();
    let (mut theta, mut tile) = (Vec::new(), Buffer::default());
    for rows in weight.tiles() {
        weight.initial_rows(rows, &mut tile);
        theta.extend_from_slice(&tile);
    }
    assert!(theta.len() == rows * width && weight.tiles().len() > 1);
    let deviation = Init::kaiming_normal(Scale::Full).deviation(rows, width);
    let squares = |values: &[f32]| values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
    let whole = deviation.powi(2) * theta.len() as f64;
    // One of each quantile: closer than draws would come.
    assert!((squares(&theta) / whole - 1.0).abs() < 0.01);
    let active: Vec<u64> = (0..(rows * width) as u64).step_by(23).collect();
    weight.start(&active, None);
    let want: BTreeMap<u64, f32> = active.iter().map(|&index| (index, theta[index as usize])).collect();
    assert_eq!(values(&weight), want);
    let mut scaled = fresh();
    scaled.start(&active, Some(deviation));
    assert!((squares(&scaled.parameter().values) / whole - 1.0).abs() < 1e-5);
    // None at all is a weight, too.
    let mut empty = fresh();
    empty.start(&[], Some(deviation));
    assert_eq!(empty.counts(), NONE);
}

#[test]
fn memory_at_most_is_that_of_all_entries() {
    let mut weight = of(Topology::Pruning, [50, 400], &[1.0; 20_000]);
    weight.start_full();
    Optimizer::new(Hyper::Sgd { momentum: 0.9, nesterov: false }, PenaltyKind::L2, 0.0)
        .prepare(weight.parameter_mut());
    let (all, told) = (weight.training_bytes(), weight.most_training_bytes());
    assert!(told <= all && told as f64 > 0.98 * all as f64, "{told} of {all}");
    weight.prune(1000);
    assert_eq!(weight.most_training_bytes(), told);
}

#[test]
fn a_weight_of_another_topology_is_not_pruned() {
    let init = Init::kaiming_normal(Scale::Full);
    let counts = Counts { active: 4, backward: 4 };
    let fixed =
        SparseWeight::new(3, 3, counts, Topology::Static, &init, ReservoirKind::Implicit, Seed::new(1));
    let mut fixed = fixed.unwrap();
    assert!(fixed.is_started() && fixed.prune(2).is_none() && fixed.counts() == counts);
}

/// It would be dense at first.
#[test]
fn a_weight_too_large_to_be_dense_cannot_be_pruned() {
    let init = Init::kaiming_normal(Scale::Full);
    let [pruned, snip] = [Topology::Pruning, Topology::Snip].map(|topology| {
        SparseWeight::new(1 << 20, 1 << 20, NONE, topology, &init, ReservoirKind::Implicit, Seed::new(1))
    });
    assert!(matches!(pruned.unwrap_err(), WeightError::Length { .. }));
    assert!(!snip.unwrap().is_started());
}
