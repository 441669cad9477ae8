//! Numbers that stop being finite in the middle of training: the step says where, and may be left out.

mod common;

use common::{Workplace, advance, assert_same, finish, restored, tensors};
use topkast_nn::ParameterMut;
use topkast_train::Trainer;

/// Multiplies the values of the parameters whose names begin so.
fn scale(trainer: &mut Trainer, factors: &[(&str, f32)]) {
    trainer.network().visit(&mut |name, parameter| {
        let values = match parameter {
            ParameterMut::Sparse(weight) => &mut weight.parameter_mut().values,
            ParameterMut::Weight { parameter, .. } | ParameterMut::Bias(parameter) => &mut parameter.values,
            ParameterMut::Statistic(values) => values,
        };
        for (_, factor) in factors.iter().filter(|(prefix, _)| name.starts_with(prefix)) {
            values.iter_mut().for_each(|value| *value *= factor);
        }
    });
}

/// What the next step says.
fn refusal(trainer: &mut Trainer) -> String {
    trainer.step().unwrap_err().to_string()
}

/// Tiny activations let the loss be finite while the gradient, which comes from the other side, is not.
const GRADIENT: [(&str, f32); 4] =
    [("hidden.0", 1e-20), ("hidden.1.weight", 1e15), ("hidden.1.bias", 0.0), ("output.weight", 1e25)];

#[test]
fn the_layer_is_named() {
    let place = Workplace::new();
    for optimizer in ["sgd", "adam"] {
        let kind = format!("optimizer.kind={optimizer}");
        for (factors, overrides, what) in [
            (
                &[("hidden.0", 1e30), ("hidden.1", 1e30)][..],
                &[][..],
                "the loss, from the output of hidden.1 on,",
            ),
            (&GRADIENT, &[], "the gradient of hidden.0."),
            (&GRADIENT, &["optimizer.clip_norm=1"], "the gradient of hidden.0."),
            (&GRADIENT, &["train.accumulate=2", "train.weight_gradient=f32"], "the gradient of hidden.0."),
        ] {
            let mut trainer = place.trainer(&[&[&*kind], overrides].concat());
            advance(&mut trainer, 4);
            scale(&mut trainer, factors);
            let message = refusal(&mut trainer);
            assert!(
                message.starts_with(what) && message.contains(" is not a finite number at step 5; "),
                "{message}"
            );
        }
    }
}

/// A gradient that is finite, but whose square is not, would leave Adam's second moment infinite for ever.
#[test]
fn a_second_moment_that_overflows_is_told() {
    let place = Workplace::new();
    let mut trainer = place.trainer(&["optimizer.kind=adamw"]);
    advance(&mut trainer, 4);
    scale(&mut trainer, &[("output", 1e25)]);
    let message = refusal(&mut trainer);
    assert!(
        message.starts_with("hidden.") && message.contains(" is not a finite number at step 5; "),
        "{message}"
    );
    let path = place.join("broken");
    let message = trainer.save(&path, 0.0).unwrap_err().to_string();
    assert!(message.starts_with("hidden.") && !path.exists(), "{message}");
}

#[test]
fn a_step_that_is_left_out_changes_nothing() {
    let place = Workplace::new();
    for factors in [&[("hidden.1", 1e38), ("hidden.0", 1e38)][..], &GRADIENT] {
        let overrides = ["train.skip_nonfinite=2", "sparsity.refresh_every=100"];
        let mut trainer = place.trainer(&overrides);
        advance(&mut trainer, 4);
        let path = place.join("before");
        scale(&mut trainer, factors);
        trainer.save(&path, 0.0).unwrap();
        let before = tensors(&path);
        for step in [5, 6] {
            let report = trainer.step().unwrap();
            assert!(report.left_out && report.step == step, "{report:?}");
            assert!(trainer.why_left_out().starts_with("the "), "{}", trainer.why_left_out());
            trainer.save(&path, 0.0).unwrap();
            assert_same(&tensors(&path), &before, "left out");
        }
        // As many as may be, also for a run that resumes.
        let mut resumed = restored(place.config(&overrides), &path);
        for trainer in [&mut trainer, &mut resumed] {
            let message = refusal(trainer);
            assert!(message.contains(" is not a finite number at step 7; "), "{message}");
        }
    }
}

/// Steps that are left out count only if they follow one another, and a run with good steps only is what it is without the option.
#[test]
fn good_steps_are_as_ever() {
    let place = Workplace::new();
    let finished = |overrides: &[&str]| {
        let mut trainer = place.trainer(overrides);
        finish(&mut trainer);
        let path = place.join("good");
        trainer.save(&path, 0.0).unwrap();
        tensors(&path)
    };
    assert_same(&finished(&["train.skip_nonfinite=1"]), &finished(&[]), "good");
    let mut trainer = place.trainer(&["train.skip_nonfinite=1", "sparsity.refresh_every=100"]);
    for _ in 0..3 {
        advance(&mut trainer, 1);
        scale(&mut trainer, &[("output", 1e30), ("hidden.1", 1e30)]);
        assert!(trainer.step().unwrap().left_out);
        scale(&mut trainer, &[("output", 1e-30), ("hidden.1", 1e-30)]);
        assert!(!trainer.step().unwrap().left_out);
    }
}
