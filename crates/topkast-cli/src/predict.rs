//! `topkast predict`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use topkast_train::data::{self, DataError};

use crate::failure::{Failure, print_line};
use crate::trained;

/// Classify images with a trained network
#[derive(Args)]
#[command(after_help = "Example: topkast predict runs/top-kast-1 boot.png")]
pub(crate) struct Arguments {
    /// Run directory or checkpoint file
    run: PathBuf,
    /// PNG or JPEG files of the network's input size, or IDX files of images (also gzipped)
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// Print JSON, one object a line, with the probability of every class
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut trained = trained::load(&arguments.run)?;
    let names = data::class_names(trained.config.data.kind);
    for path in &arguments.inputs {
        for (label, pixels) in images(path, trained.image_size())? {
            let probabilities = trained.probabilities(&pixels);
            let class = largest(&probabilities);
            let name = names.and_then(|names| names.get(class).copied());
            if arguments.json {
                let record = json!({
                    "input": label, "class": class, "name": name, "probabilities": probabilities
                });
                print_line(record)?;
            } else {
                let shown = name.map_or_else(|| class.to_string(), |name| format!("{class} ({name})"));
                print_line(format!("{label}: {shown}, probability {:.3}", probabilities[class]))?;
            }
        }
    }
    Ok(())
}

/// Every image of a file with a name for it.
fn images(path: &Path, (height, width): (usize, usize)) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let name = path.display().to_string();
    let pixels = match data::read_image(path, height, width) {
        Ok(pixels) => return Ok(vec![(name, pixels)]),
        Err(DataError::NotAnImage { .. }) => data::read_images(path)?,
        Err(error) => return Err(error.into()),
    };
    let found = (pixels.height, pixels.width);
    if found != (height, width) {
        let mend = "give images of the size the network was trained on";
        return Err(DataError::Shape { expected: (height, width), found, mend }.into());
    }
    let numbered = pixels.pixels.chunks_exact(height * width).enumerate();
    Ok(numbered.map(|(number, image)| (format!("{name}[{number}]"), image.to_vec())).collect())
}

fn largest(probabilities: &[f64]) -> usize {
    (0..probabilities.len()).rev().max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b])).unwrap_or(0)
}
