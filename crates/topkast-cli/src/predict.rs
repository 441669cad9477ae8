//! `topkast predict`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use topkast_train::data::{self, DataError};
use topkast_train::{Classifier, Purpose};

use crate::failure::{Failure, print_line};
use crate::trained;

/// Classify images with a trained network
///
/// Tells the likeliest class of grey images, and the five likeliest of those in colour.
#[derive(Args)]
#[command(after_help = "Example: topkast predict runs/top-kast-1 boot.png")]
pub(crate) struct Arguments {
    /// Run directory, checkpoint file or sparse export
    run: PathBuf,
    /// PNG or JPEG files: of any size for networks on images in colour, of the network's input size for those on grey ones, which
    /// take IDX files of images, too (also gzipped)
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// Print JSON, one object a line, with the probability of every class
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut trained = trained::load(&arguments.run)?;
    let Purpose::Classifier(mut network) = trained.purpose() else {
        let run = arguments.run.display();
        return Err(Failure::BadInput(format!(
            "{run} goes on with texts: topkast generate {run} --prompt TEXT"
        )));
    };
    for path in &arguments.inputs {
        for (label, pixels) in images(path, &network)? {
            let probabilities = network.probabilities(&pixels);
            let names = |class| network.class_name(class);
            if arguments.json {
                print_line(record(&label, &probabilities, names))?;
            } else {
                print_line(text(&label, &probabilities, names, network.image_shape().channels > 1))?;
            }
        }
    }
    Ok(())
}

/// How many classes are told of an image in colour.
const TOP: usize = 5;

fn record<'a>(label: &str, probabilities: &[f64], name: impl Fn(usize) -> Option<&'a str>) -> Value {
    let classes = largest(probabilities, TOP);
    let top = classes
        .iter()
        .map(|&class| json!({ "class": class, "name": name(class), "probability": probabilities[class] }));
    json!({
        "input": label, "class": classes[0], "name": name(classes[0]), "top": top.collect::<Vec<_>>(),
        "probabilities": probabilities
    })
}

/// The likeliest class, and with `all` a line for each of the next ones.
fn text<'a>(
    label: &str,
    probabilities: &[f64],
    name: impl Fn(usize) -> Option<&'a str>,
    all: bool,
) -> String {
    let classes = largest(probabilities, if all { TOP } else { 1 });
    let lines = classes.into_iter().map(|class| {
        let shown = name(class).map_or_else(|| class.to_string(), |name| format!("{class} ({name})"));
        format!("{shown}, probability {:.3}", probabilities[class])
    });
    format!("{label}: {}", lines.collect::<Vec<_>>().join("\n  "))
}

/// Every image of a file with a name for it.
fn images(path: &Path, network: &Classifier<'_>) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let (name, shape) = (path.display().to_string(), network.image_shape());
    let images = match network.read_image(path) {
        Ok(pixels) => return Ok(vec![(name, pixels)]),
        Err(DataError::NotAnImage { .. }) if shape.channels == 1 => data::read_images(path)?,
        Err(error) => return Err(error.into()),
    };
    if images.shape != shape {
        let mend = "give images of the size the network was trained on";
        return Err(DataError::Shape { expected: shape, found: images.shape, mend }.into());
    }
    let numbered = images.pixels.chunks_exact(shape.features()).enumerate();
    Ok(numbered.map(|(number, image)| (format!("{name}[{number}]"), image.to_vec())).collect())
}

/// The likeliest classes, at least one and at most `count`, of equal ones the first.
fn largest(probabilities: &[f64], count: usize) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..probabilities.len()).collect();
    classes.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
    classes.truncate(count);
    classes
}
