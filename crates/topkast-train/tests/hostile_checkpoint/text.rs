//! Checkpoints of language models with an adaptive table.

use topkast_train::Config;

use super::*;

/// The message with which a checkpoint is refused whose clusters begin at `cutoffs`.
fn refusal(cutoffs: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let [text, path] = ["text", "state"].map(|name| dir.path().join(name));
    fs::write(&text, "To be, or not to be. ".repeat(50)).unwrap();
    let settings = [
        "data.kind=bytes",
        &format!("data.path={}", text.display()),
        "model.kind=transformer-xl",
        "model.layers=1",
        "model.width=12",
        "model.feed_forward=8",
        "model.adaptive_cutoffs=[100]",
        "model.adaptive_div_value=1",
        "train.batch=1",
        "train.steps=1",
    ];
    let config = Config::load(None, &settings.map(str::to_owned)).unwrap();
    Trainer::new(config).unwrap().save(&path, 0.0).unwrap();
    load_trained(&path).map(drop).unwrap();
    rewrite_state(&path, |state| {
        assert!(state.contains("[100]"), "{state}");
        state.replace("[100]", cutoffs)
    });
    let (loaded, allocated) = allocated_by(|| load_trained(&path).map(drop));
    assert!(allocated.largest < BOUND, "{cutoffs}: {allocated:?}");
    loaded.unwrap_err().to_string()
}

#[test]
fn clusters_that_the_file_does_not_hold() {
    let every: Vec<usize> = (1..256).collect();
    let message = refusal(&format!("{every:?}"));
    assert!(message.contains("too short for the network that its config describes"), "{message}");
    let message = refusal("[90]");
    assert!(message.contains("tensor `embedding.0.weight.values` has 1212 elements"), "{message}");
    let message = refusal("[100, 100]");
    assert!(
        message.contains("model.adaptive_cutoffs = [100, 100]: cut-off 100 must be above 100"),
        "{message}"
    );
}
