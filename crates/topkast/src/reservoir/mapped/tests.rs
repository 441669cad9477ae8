use super::*;
use crate::reservoir::twin;
use proptest::prelude::*;

fn reservoir(theta: &[f32]) -> MappedReservoir {
    MappedReservoir::new(Arc::new(theta.to_vec()))
}

#[test]
fn the_values_given_are_not_written() {
    let theta: Arc<Vec<f32>> = Arc::new(vec![5.0, 1.0, -2.0, 3.0]);
    let mut reservoir = MappedReservoir::new(theta.clone());
    reservoir.exchange(&[], &[3, 0]);
    assert_eq!(reservoir.head(1)[0], Entry { index: 2, value: -2.0 });
    reservoir.exchange(&[Entry { index: 0, value: -1.0 }], &[2]);
    assert_eq!((reservoir.value(0), reservoir.value(1), reservoir.dormant()), (-1.0, 1.0, 1));
    // Of two that are tied, one dormant and one never touched, the first by index comes first.
    let tied = [Entry { index: 0, value: -1.0 }, Entry { index: 1, value: 1.0 }];
    assert_eq!(reservoir.head(5), tied);
    assert_eq!(theta[..], [5.0, 1.0, -2.0, 3.0]);
}

#[test]
fn what_is_saved_must_be_of_this_kind_and_fit() {
    let reservoir = reservoir(&[1.0; 10]);
    let saved = SavedReservoir::Dense { theta: vec![0.0; 10], dormant: vec![0] };
    assert_eq!(reservoir.restored(saved, &[]).err(), Some(WeightError::OtherReservoir));
    let saved = |index| SavedReservoir::Dormant { indices: vec![index], values: vec![0.5] };
    assert!(reservoir.restored(saved(3), &[3]).is_err());
    assert!(reservoir.restored(saved(10), &[3]).is_err());
    let restored = reservoir.restored(saved(3), &[4]).unwrap();
    assert_eq!((restored.value(3), restored.value(5), restored.dormant()), (0.5, 1.0, 1));
}

#[test]
fn without_values_it_keeps_what_a_checkpoint_has() {
    let mut absent = MappedReservoir::without_values(1 << 40);
    assert_eq!((absent.entries(), absent.head(3)[2]), (1 << 40, Entry { index: 2, value: 0.0 }));
    absent.exchange(&[], &[0, 2]);
    let saved = SavedReservoir::Dormant { indices: vec![1, 1 << 39], values: vec![0.0, -2.0] };
    let mut restored = absent.restored(saved, &[0, 2]).unwrap();
    let [first, second] = [(1 << 39, -2.0), (1, 0.0)].map(|(index, value)| Entry { index, value });
    assert_eq!(restored.head(3)[..3], [first, second, Entry { index: 3, value: 0.0 }]);
    assert_eq!((restored.dormant(), restored.value(1 << 39), restored.frontier()), (2, -2.0, None));
    assert!(restored.bytes() < 1 << 20);
}

/// Values that hardly ever are equal, or mostly are.
fn values() -> impl Strategy<Value = Vec<f32>> {
    prop_oneof![
        prop::collection::vec(-1.0f32..1.0, 1..1500),
        prop::collection::vec((-3i8..4).prop_map(f32::from), 1..1500),
        prop::collection::vec(Just(0.0f32), 1..300),
    ]
}

proptest! {
    #[test]
    fn is_a_dense_reservoir_of_the_same_values(
        theta in values(),
        rounds in twin::rounds(),
    ) {
        twin::check(Box::new(reservoir(&theta)), theta, rounds, |value| f32::from(value / 32));
    }
}
