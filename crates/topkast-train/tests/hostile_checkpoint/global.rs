//! Checkpoints of layers that are chosen for together: their sizes come from the file, but not in total.

use super::*;

/// With two sparse layers.
fn setting() -> Setting {
    Setting::with(&[&SMALL[..], &["sparsity.distribution=global", "sparsity.keep_dense=[]"]].concat())
}

/// Takes the last entry of B∖A, in the last row, out of the first layer.
fn drop_last(all: &mut Tensors) {
    edit_u16(all, "hidden.0.weight.explore.columns", |columns| columns.truncate(columns.len() - 1));
    let rows = "hidden.0.weight.explore.offsets";
    edit_u32(all, rows, |offsets| {
        let entries = offsets.last().unwrap() - 1;
        offsets.iter_mut().for_each(|offset| *offset = entries.min(*offset));
    });
    for part in ["values", "first", "second", "age"] {
        edit_u32(all, &format!("hidden.0.weight.{part}"), |numbers| numbers.truncate(numbers.len() - 1));
    }
}

#[test]
fn layers_chosen_for_together_may_have_any_size_but_not_in_total() {
    setting().open().unwrap();
    assert_eq!(
        setting().refusal_with(drop_last),
        "all sparse layers together: 162 backward entries, 163 expected"
    );
    // All of A of the first layer is gone.
    let message = setting().refusal_with(|all| {
        let (_, shape, _) = &all["hidden.0.weight.active.columns"];
        let entries = shape[0];
        edit_u16(all, ACTIVE, |columns| columns.clear());
        edit_u32(all, "hidden.0.weight.active.offsets", |offsets| offsets.fill(0));
        for part in ["values", "first", "second", "age"] {
            edit_u32(all, &format!("hidden.0.weight.{part}"), |numbers| drop(numbers.drain(..entries)));
        }
    });
    assert!(
        message.starts_with("all sparse layers together: ") && message.ends_with(" 81 expected"),
        "{message}"
    );
    let message =
        setting().refusal_with(|all| edit_u32(all, VALUES, |values| values.truncate(values.len() - 1)));
    assert!(message.starts_with("`hidden.0.weight`: values: "), "{message}");
}

#[test]
fn a_config_of_a_huge_network_of_layers_chosen_for_together() {
    for (method, forward) in [("static", "0.9"), ("static", "0.99999999"), ("top-kast", "0.99999999")] {
        let setting = setting();
        rewrite_state(&setting.path, |state| {
            let state = state.replace("hidden = [6]", "hidden = [300000000]");
            let state = state.replace("method = \\\"top-kast", &format!("method = \\\"{method}"));
            state.replace("forward = 0.8", &format!("forward = {forward}"))
        });
        let (loaded, allocated) = allocated_by(|| load_trained(&setting.path).map(drop));
        let message = loaded.unwrap_err().to_string();
        assert!(
            message.contains("too short for the network") || message.contains("at most 2^32"),
            "{message}"
        );
        assert!(allocated.largest < BOUND, "{allocated:?}");
    }
}
