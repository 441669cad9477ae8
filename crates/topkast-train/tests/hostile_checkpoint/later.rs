//! Checkpoints of methods that start later: sizes of layers come from the file.

use super::*;

fn setting(method: &str) -> Setting {
    let method = format!("sparsity.method={method}");
    Setting::with(&["model.hidden=[6]", "sparsity.refresh_every=3", &method])
}

/// Takes the last entry of A, which is in the last row, out of the first layer.
fn drop_last(all: &mut Tensors) {
    edit_u16(all, ACTIVE, |columns| columns.truncate(columns.len() - 1));
    edit_u32(all, "hidden.0.weight.active.offsets", |offsets| {
        let entries = offsets.last().unwrap() - 1;
        offsets.iter_mut().for_each(|offset| *offset = entries.min(*offset));
    });
    for part in ["values", "first"] {
        edit_u32(all, &format!("hidden.0.weight.{part}"), |numbers| numbers.truncate(numbers.len() - 1));
    }
}

#[test]
fn sizes_are_those_of_the_method() {
    setting("snip").open().unwrap();
    setting("pruning").open().unwrap();
    assert_eq!(setting("snip").refusal_with(drop_last), "`hidden.0`: 75 active entries, 76 expected");
    let message = setting("pruning").refusal_with(drop_last);
    assert_eq!(message, "`hidden.0`: 75 active entries, at least 76 expected");
    for method in ["snip", "pruning"] {
        let message = setting(method)
            .refusal_with(|all| edit_u32(all, VALUES, |values| values.truncate(values.len() - 1)));
        assert!(message.starts_with("`hidden.0.weight`: values: "), "{message}");
        // An entry of B∖A, which these methods do not have.
        let message = setting(method).refusal_with(|all| {
            let mut ends = Vec::new();
            edit_u32(all, "hidden.0.weight.active.offsets", |offsets| ends.clone_from(offsets));
            let mut free = 0;
            edit_u16(all, ACTIVE, |columns| {
                free = (0..64).find(|column| !columns[..ends[1] as usize].contains(column)).unwrap();
            });
            edit_u16(all, "hidden.0.weight.explore.columns", |columns| columns.push(free));
            edit_u32(all, "hidden.0.weight.explore.offsets", |offsets| offsets[1..].fill(1));
            for part in ["values", "first"] {
                edit_u32(all, &format!("hidden.0.weight.{part}"), |numbers| numbers.push(0));
            }
        });
        assert!(message.starts_with("`hidden.0.weight`: backward entries: "), "{message}");
    }
}

/// A step that it was not saved at: what a scorer cannot know, a trainer does.
#[test]
fn sizes_of_another_step() {
    let mut setting = setting("pruning");
    rewrite_state(&setting.path, |state| {
        assert!(state.contains("\"step\":12"), "{state}");
        state.replace("\"step\":12", "\"step\":5")
    });
    let message = setting.refusal();
    assert!(message.starts_with("`hidden.0`: 76 active entries, where pruning has "), "{message}");
    assert!(load_trained(&setting.path).is_ok());
}

/// Neither all weights of a network to be pruned, nor θ⁰ of one that SNIP chooses from, is made for a file that holds few.
#[test]
fn a_config_of_a_huge_network() {
    for (method, hidden, forward) in [
        ("snip", "hidden = [300000000]", "0.8"),
        ("pruning", "hidden = [300000000]", "0.8"),
        ("pruning", "hidden = [10000000]", "0.99999999"),
    ] {
        let setting = setting(method);
        rewrite_state(&setting.path, |state| {
            let forward = format!("forward = {forward}");
            let edits = [("hidden = [6]", hidden), ("forward = 0.8", &forward)];
            edits.into_iter().fold(state.to_owned(), |state, (old, new)| {
                assert!(state.contains(old), "no {old} in {state}");
                state.replace(old, new)
            })
        });
        let (loaded, allocated) = allocated_by(|| load_trained(&setting.path).map(drop));
        let message = loaded.unwrap_err().to_string();
        assert!(
            message.contains("too short for the network") || message.contains("all active at first"),
            "{message}"
        );
        assert!(allocated.largest < BOUND, "{allocated:?}");
    }
}
