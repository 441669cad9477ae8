//! When SET and RigL update A in a run, and what else happens in those steps.

mod common;

use std::collections::BTreeMap;

use common::{Workplace, advance, finish, restored};
use topkast_nn::ParameterMut;
use topkast_train::{LayerProducts, Products, Trainer};

/// Values by parameter and, of a sparse weight, by flat index.
fn values(trainer: &mut Trainer) -> BTreeMap<String, BTreeMap<u64, u32>> {
    let mut all = BTreeMap::new();
    trainer.network().visit(&mut |name, parameter| {
        let mut values = BTreeMap::new();
        match parameter {
            ParameterMut::Sparse(weight) => weight.pattern().for_each_by_index(|index, entry| {
                values.insert(index, weight.parameter().values[entry].to_bits());
            }),
            ParameterMut::Weight { parameter, .. } | ParameterMut::Bias(parameter) => {
                values.extend((0..).zip(parameter.values.iter().map(|value| value.to_bits())));
            }
            ParameterMut::Statistic(_) => {}
        }
        all.insert(name.to_owned(), values);
    });
    all
}

/// T_end is 9 of 12 steps: A is updated in the steps 3 and 6, of which each weight drops the 0.3-th of the cosine.
fn updates(method: &str) -> Vec<(u64, u64)> {
    let place = Workplace::new();
    let mut trainer = place.trainer(&[method, "optimizer.lr=0.01"]);
    let mut updates = Vec::new();
    for step in 0..12 {
        let before = values(&mut trainer);
        let report = trainer.step().unwrap().refresh;
        let after = values(&mut trainer);
        updates.extend(report.map(|report| (step, report.newly_active)));
        let mut grown = 0;
        for (name, before) in &before {
            let after = &after[name];
            assert_eq!(after.len(), before.len());
            let stayed = after.iter().filter(|(index, value)| before.get(index) == Some(value)).count();
            let new: Vec<&u32> = after
                .iter()
                .filter(|(index, _)| !before.contains_key(index))
                .map(|(_, value)| value)
                .collect();
            grown += new.len() as u64;
            if method.ends_with("rigl") && report.is_some() {
                assert_eq!(
                    stayed + new.len(),
                    after.len(),
                    "{name}: what was there is not trained in step {step}"
                );
                assert!(new.into_iter().all(|&value| value == 0), "{name}: new entries are zero");
            } else {
                assert!(stayed < after.len(), "{name}: step {step} trains");
            }
        }
        assert_eq!(grown, report.map_or(0, |report| report.newly_active), "step {step}");
    }
    updates
}

#[test]
fn set_updates_a_before_the_step() {
    // ⌊0.3/2·(1 + cos(π/3))·|A|⌋ and ⌊0.3/2·(1 + cos(2π/3))·|A|⌋ of the 307 and 76 entries.
    assert_eq!(updates("sparsity.method=set"), [(3, 69 + 17), (6, 23 + 5)]);
}

#[test]
fn rigl_updates_a_in_place_of_the_weights() {
    let updates = updates("sparsity.method=rigl");
    assert_eq!(updates.iter().map(|&(step, _)| step).collect::<Vec<_>>(), [3, 6]);
    // Some of those dropped may grow again.
    assert!((1..=69 + 17).contains(&updates[0].1) && (1..=23 + 5).contains(&updates[1].1), "{updates:?}");
}

#[test]
fn only_rigl_computes_dense_gradients() {
    let place = Workplace::new();
    let share = |settings: &[&str]| place.trainer(settings).dense_gradient_share();
    assert_eq!(share(&["sparsity.method=rigl"]), 2.0 / 12.0);
    assert_eq!(share(&["sparsity.method=rigl", "sparsity.update_until=1"]), 3.0 / 12.0);
    assert_eq!(share(&["sparsity.method=rigl", "sparsity.update_until=0"]), 0.0);
    assert_eq!(share(&["sparsity.method=set"]), 0.0);
    assert_eq!(share(&[]), 0.0);
}

/// Nothing dropped is a static mask, but for RigL's steps without an update of the weights.
#[test]
fn without_updates_all_are_a_static_mask() {
    let place = Workplace::new();
    let losses = |settings: &[&str]| finish(&mut place.trainer(settings));
    let fixed = losses(&["sparsity.method=static"]);
    assert_eq!(losses(&["sparsity.method=set", "sparsity.drop_fraction=0"]), fixed);
    assert_eq!(losses(&["sparsity.method=set", "sparsity.update_until=0"]), fixed);
    assert_eq!(losses(&["sparsity.method=rigl", "sparsity.update_until=0"]), fixed);
    assert_ne!(losses(&["sparsity.method=set"]), fixed);
    assert_ne!(losses(&["sparsity.method=rigl"]), fixed);
}

/// From given weights, and with dense products of one of the layers.
#[test]
fn other_combinations_resume() {
    let place = Workplace::new();
    let weights = place.weights(&[]);
    for method in ["sparsity.method=set", "sparsity.method=rigl"] {
        let settings = [method, &weights, "sparsity.products=auto"];
        let mut trainer = place.trainer(&settings);
        let layer = |(name, products): (&str, _)| LayerProducts {
            name: name.to_owned(),
            sparse_ms: 2.0,
            dense_ms: 1.0,
            products,
        };
        trainer.use_products(
            [("hidden.0", Products::Dense), ("hidden.1", Products::Sparse)].map(layer).to_vec(),
        );
        advance(&mut trainer, 5);
        trainer.save(&place.join("middle"), 0.0).unwrap();
        let mut resumed = restored(place.config(&settings), &place.join("middle"));
        assert_eq!(finish(&mut resumed), finish(&mut trainer));
        assert_eq!(values(&mut resumed), values(&mut trainer));
    }
}
