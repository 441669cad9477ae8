//! The number of threads does not change a single bit.

mod common;

use common::{Tensors, Workplace, assert_same, finish, tensors};

/// Trains on `threads` threads and returns the losses and the network.
fn trained(place: &Workplace, threads: usize, overrides: &[&str]) -> (Vec<u64>, Tensors) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let mut trainer = place.trainer(overrides);
        let losses = finish(&mut trainer);
        let path = place.join("end");
        trainer.save(&path, 0.0).unwrap();
        (losses, tensors(&path))
    })
}

/// Layers of some hundred rows, so that every product and update is cut into several pieces.
fn threads_do_not_matter(overrides: &[&str]) {
    let place = Workplace::new();
    let mut settings = vec!["model.hidden=[700, 600]", "train.batch=130", "train.steps=8"];
    settings.extend(["optimizer.clip_norm=1", "model.dropout=0.1"]);
    settings.extend(overrides);
    let (losses, want) = trained(&place, 1, &settings);
    for threads in [2, 3] {
        let (other, got) = trained(&place, threads, &settings);
        assert_eq!(other, losses, "losses on {threads} threads");
        assert_same(&got, &want, &format!("{threads} threads"));
    }
}

#[test]
fn top_kast() {
    threads_do_not_matter(&[]);
}

#[test]
fn top_kast_with_adamw_and_gelu() {
    threads_do_not_matter(&["optimizer.kind=adamw", "optimizer.lr=0.001", "model.activation=gelu"]);
}

#[test]
fn top_kast_with_bf16_weight_gradients() {
    match topkast_kernels::Isa::current().unwrap().bf16() {
        Some(_) => threads_do_not_matter(&["train.weight_gradient=bf16"]),
        None => eprintln!("skipped: no AVX512-BF16 here"),
    }
}

/// The layers take several parts of a search.
#[test]
fn top_kast_from_a_file_of_weights() {
    let place = Workplace::new();
    let weights = place.weights(&["model.hidden=[700, 600]"]);
    threads_do_not_matter(&[&weights, "sparsity.reservoir=mmap", "optimizer.penalty=0.1"]);
}

#[test]
fn one_selection_over_all_layers() {
    let global = ["sparsity.distribution=global", "sparsity.keep_dense=[]"];
    threads_do_not_matter(&global);
    threads_do_not_matter(&[global[0], global[1], "sparsity.explore=random", "optimizer.kind=adamw"]);
    threads_do_not_matter(&[global[0], global[1], "sparsity.method=static"]);
}

#[test]
fn a_static_mask() {
    threads_do_not_matter(&["sparsity.method=static"]);
}

#[test]
fn methods_that_drop_and_grow() {
    for method in ["sparsity.method=set", "sparsity.method=rigl"] {
        threads_do_not_matter(&[method, "sparsity.refresh_every=2", "sparsity.update_until=1"]);
        threads_do_not_matter(&[method, "sparsity.distribution=erk", "optimizer.kind=adamw"]);
    }
}

#[test]
fn snip() {
    threads_do_not_matter(&["sparsity.method=snip"]);
    let global = ["sparsity.method=snip", "sparsity.distribution=global", "sparsity.keep_dense=[]"];
    threads_do_not_matter(&[&global[..], &["model.activation=gelu"]].concat());
}

#[test]
fn pruning() {
    let often = ["sparsity.method=pruning", "sparsity.refresh_every=2", "sparsity.update_until=1"];
    threads_do_not_matter(&often);
    threads_do_not_matter(&[&often[..], &["optimizer.kind=adamw", "sparsity.distribution=erk"]].concat());
}

#[test]
fn a_dense_network() {
    threads_do_not_matter(&["sparsity.method=dense"]);
}
