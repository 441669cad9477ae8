//! Times the gathering of batches of CIFAR-10, and the decoding of a folder in ImageNet's layout on one thread.
//!
//! ```text
//! cargo run --release -p topkast-train --example loading -- CIFAR [FOLDER]
//! ```

#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use topkast_kernels::Matrix;
use topkast_train::data::{Augment, Kind, Layout, Normalizer, Order, Views, fill_batch, load};
use topkast_train::{Config, Trainer};

const BATCH: usize = 128;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let cifar = arguments.next().ok_or("name a folder with CIFAR-10")?;
    time_cifar(&cifar)?;
    arguments.next().map_or(Ok(()), |folder| time_folder(&folder))
}

/// The median time of a batch of each kind.
fn time_cifar(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let train = load(Kind::Cifar10, path)?.train;
    println!("{} images read in {:.2} s", train.len(), start.elapsed().as_secs_f64());
    let normalizer = Normalizer::fit(&train);
    let mut order = Order::in_sequence(train.len());
    order.shuffle(1, 0);
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        for layout in [Layout::Features, Layout::Maps] {
            for augment in [Augment::None, Augment::CropFlip] {
                let views = Views::of_epoch(augment, 1, 0);
                let (mut x, mut labels) = (Matrix::default(), Vec::new());
                let mut times: Vec<f64> = (0..order.batches(BATCH) - 1)
                    .map(|batch| {
                        let samples = order.batch(batch, BATCH);
                        let start = Instant::now();
                        pool.install(|| {
                            fill_batch(&train, &normalizer, layout, views, samples, &mut x, &mut labels)
                        });
                        start.elapsed().as_secs_f64() * 1e3
                    })
                    .collect();
                times.sort_by(f64::total_cmp);
                let median = times[times.len() / 2];
                println!("batch of {BATCH}, {layout:?}, {augment:?}, {threads} thread(s): {median:.3} ms");
            }
        }
    }
    Ok(())
}

/// Images a second that one worker decodes, by the time that a run with a network of next to no work takes.
fn time_folder(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let settings = [
        "data.kind=image-folder".to_owned(),
        format!("data.path={}", path.display()),
        "data.workers=1".to_owned(),
        "model.hidden=[1]".to_owned(),
        "sparsity.method=dense".to_owned(),
        "train.batch=64".to_owned(),
        "train.epochs=1".to_owned(),
    ];
    let mut trainer = Trainer::new(Config::load(None, &settings)?)?;
    let (start, mut images) = (Instant::now(), 0);
    for _ in 0..trainer.total_steps() {
        images += trainer.step()?.samples;
    }
    let rate = images as f64 / start.elapsed().as_secs_f64();
    println!("{images} images decoded to 224×224 by one worker: {rate:.0} images/s");
    Ok(())
}
