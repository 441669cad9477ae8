//! Files of weights that a network starts from, left in their file or read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use topkast_fuzz::{check_message, file_of};
use topkast_train::data::{Dataset, ImageShape, Images, Split};
use topkast_train::{Config, Trainer};

fuzz_target!(|bytes: &[u8]| {
    let path = file_of(bytes);
    for reservoir in ["mmap", "dense"] {
        let overrides = [
            "data.kind=idx".to_owned(),
            "model.hidden=[6]".to_owned(),
            "train.batch=4".to_owned(),
            "train.steps=2".to_owned(),
            "sparsity.refresh_every=1".to_owned(),
            format!("sparsity.reservoir={reservoir}"),
            format!("model.weights={}", path.display()),
        ];
        let config = Config::load(None, &overrides).expect("a valid config");
        match Trainer::with_data(config, Split { train: images(), test: images() }) {
            // It may diverge, but says so.
            Ok(mut trainer) => while trainer.steps_done() < 2 && trainer.step().is_ok() {},
            Err(error) => check_message(&error),
        }
    }
});

/// Four images of 2×3 pixels in two classes.
fn images() -> Dataset {
    let images = Images { count: 4, shape: ImageShape::grey(2, 3), pixels: (0..24).map(|at| at * 10).collect() };
    Dataset::new(images, vec![0, 1, 0, 1], 2).expect("they pair up")
}
