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
    let (tall, wide) = (("hidden = [300000000]", [8, 8]), ("hidden = [6]", [30_000, 30_000]));
    for ((hidden, input), method, forward) in [
        (tall, "static", "0.9"),
        (tall, "top-kast", "0.99999999"),
        (wide, "static", "0.999"),
        (wide, "top-kast", "0.999"),
    ] {
        let setting = setting();
        rewrite_state(&setting.path, |state| {
            let [height, width] = input;
            let edits = [
                ("hidden = [6]", hidden),
                ("\"input\":[8,8]", &format!("\"input\":[{height},{width}]")),
                ("method = \\\"top-kast", &format!("method = \\\"{method}")),
                ("forward = 0.8", &format!("forward = {forward}")),
            ];
            edits.into_iter().fold(state.to_owned(), |state, (old, new)| {
                assert!(state.contains(old), "no {old} in {state}");
                state.replace(old, new)
            })
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
