//! Training residual networks: every method, resuming, threads, checkpoints that come from elsewhere.

mod common;

use std::path::Path;

use common::{Tensors, Workplace, advance, assert_same, finish, restored, tensors};
use topkast_train::{Config, Trainer, layer_summaries, load_trained};

/// A network of three stages on the workplace's grey images.
fn config(place: &Workplace, overrides: &[&str]) -> Config {
    let path = format!("data.path={}", place.join("").display());
    let base = [
        "data.kind=idx",
        &path,
        "model.kind=resnet",
        "model.depth=8",
        "model.width=8",
        "sparsity.forward=0.8",
        "sparsity.backward=0.6",
        "sparsity.refresh_every=3",
        "sparsity.keep_dense=[\"first\", \"last\"]",
        "train.steps=12",
        "train.batch=64",
    ];
    let all: Vec<String> = base.iter().chain(overrides).map(|&setting| setting.to_owned()).collect();
    Config::load(None, &all).unwrap()
}

fn end(place: &Workplace, trainer: &mut Trainer) -> (Vec<u64>, Tensors) {
    let losses = finish(trainer);
    let path = place.join("end");
    trainer.save(&path, 0.0).unwrap();
    (losses, tensors(&path))
}

#[test]
fn every_method_learns() {
    let place = Workplace::new();
    for method in ["dense", "static", "top-kast", "set", "rigl", "snip", "pruning"] {
        let method = format!("sparsity.method={method}");
        let settings = ["train.steps=60", "sparsity.update_until=0.5", "sparsity.keep_dense=[]", &method];
        let mut trainer = Trainer::new(config(&place, &settings)).unwrap();
        finish(&mut trainer);
        let score = trainer.test().unwrap();
        assert!(score.value() > 0.9, "{method}: {score}");
    }
}

#[test]
fn global_selection_learns() {
    let place = Workplace::new();
    let settings = ["train.steps=60", "sparsity.distribution=global"];
    let mut trainer = Trainer::new(config(&place, &settings)).unwrap();
    finish(&mut trainer);
    assert!(trainer.test().unwrap().value() > 0.9);
}

#[test]
fn resuming_goes_on_as_if_nothing_had_been() {
    let place = Workplace::new();
    for method in ["top-kast", "rigl"] {
        let method = format!("sparsity.method={method}");
        let middle = place.join("middle");
        let mut trainer = Trainer::new(config(&place, &[&method])).unwrap();
        advance(&mut trainer, 7);
        trainer.save(&middle, 0.0).unwrap();
        let whole = end(&place, &mut trainer);
        let mut resumed = restored(config(&place, &[&method]), &middle);
        // Scoring goes by the running statistics, and leaves them.
        resumed.test().unwrap();
        let (losses, got) = end(&place, &mut resumed);
        assert_eq!(losses, whole.0, "{method}");
        assert_same(&got, &whole.1, &method);
        assert!(whole.1.keys().any(|name| name == "layer2.0.downsample.1.running_var.values"));
    }
}

#[test]
fn threads_do_not_matter() {
    let place = Workplace::new();
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| end(&place, &mut Trainer::new(config(&place, &["optimizer.clip_norm=1"])).unwrap()))
    };
    let (losses, want) = on(1);
    for threads in [2, 3] {
        let (other, got) = on(threads);
        assert_eq!(other, losses, "{threads} threads");
        assert_same(&got, &want, &format!("{threads} threads"));
    }
}

#[test]
fn a_trained_network_scores_as_it_did() {
    let place = Workplace::new();
    let path = place.join("checkpoint");
    let mut trainer = Trainer::new(config(&place, &[])).unwrap();
    finish(&mut trainer);
    trainer.save(&path, 0.0).unwrap();
    let mut trained = load_trained(&path).unwrap();
    assert_eq!(trained.score(Path::new(&place.join(""))).unwrap().0, trainer.test().unwrap());
}

/// The index of a convolution's input gradient is counted whether it has been made or not.
#[test]
fn bytes_do_not_depend_on_what_was_computed() {
    let place = Workplace::new();
    let config = config(&place, &["sparsity.keep_dense=[]"]);
    let mut fresh = Trainer::new(config.clone()).unwrap();
    let bytes = |trainer: &mut Trainer| -> Vec<u64> {
        let layers = layer_summaries(trainer.network(), &config, &[]);
        layers.iter().map(|layer| layer.training_bytes).collect()
    };
    let before = bytes(&mut fresh);
    let mut used = Trainer::new(config.clone()).unwrap();
    used.step().unwrap();
    assert_eq!(bytes(&mut used), before);
}

#[test]
fn settings_that_make_no_network_are_refused() {
    let place = Workplace::new();
    for (setting, key) in [
        ("model.depth=19", "model.depth"),
        ("model.depth=2", "model.depth"),
        ("model.widen=0", "model.widen"),
        ("model.width=5000", "model.width"),
        ("model.hidden=[3]", "hidden"),
        ("data.kind=bytes", "data.kind"),
    ] {
        let path = format!("data.path={}", place.join("").display());
        let all = ["data.kind=idx", &path, "model.kind=resnet", setting].map(str::to_owned);
        let error = Config::load(None, &all).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
    // Maps of more numbers than can be addressed.
    let error = Trainer::new(config(&place, &["train.batch=100000000"])).err().unwrap().to_string();
    assert!(error.contains("train.batch") && error.contains("2^32"), "{error}");
}
