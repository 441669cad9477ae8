//! `topkast inspect`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use topkast_train::{LayerSummary, Products, RunDir, layer_summaries, read_metrics};

use crate::failure::{Failure, print_line};
use crate::table::aligned;
use crate::trained;

/// Show what each layer of a trained network holds
#[derive(Args)]
#[command(after_help = "Example: topkast inspect runs/top-kast-1")]
pub(crate) struct Arguments {
    /// Run directory or checkpoint file
    run: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut trained = trained::load(&arguments.run)?;
    let config = trained.config.clone();
    let layers = layer_summaries(&mut trained.network, &config, &trained.state.products);
    let change = last_mask_change(arguments)?;
    if arguments.json {
        let report = json!({ "step": trained.state.step, "layers": layers, "mask_change": change });
        return print_line(report);
    }
    print_line(format!("after step {}, seed {}", trained.state.step, config.seed))?;
    print_table(&layers)?;
    match change {
        Some(change) => print_line(format!("the last logged refresh changed {:.2}% of A", change * 100.0)),
        None => print_line("no refresh has been logged"),
    }
}

/// The fraction of A that the last logged refresh changed.
fn last_mask_change(arguments: &Arguments) -> Result<Option<f64>, Failure> {
    if arguments.run.is_file() {
        return Ok(None);
    }
    let path = RunDir::open(&arguments.run)?.metrics();
    if !path.exists() {
        return Ok(None);
    }
    let records = read_metrics(&path).map_err(|error| Failure::BadInput(error.to_string()))?;
    Ok(records.iter().rev().find_map(|record| record.get("mask_change")?.as_f64()))
}

fn print_table(layers: &[LayerSummary]) -> Result<(), Failure> {
    let header = [
        "layer",
        "shape",
        "n",
        "|A|",
        "|B|",
        "touched",
        "dormant",
        "frontier",
        "bytes",
        "dense",
        "share",
        "reservoir",
        "products",
        "sparse ms",
        "dense ms",
    ];
    let ms = |time: Option<f64>| time.map_or("-".to_owned(), |ms| format!("{ms:.3}"));
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(layers.iter().map(|layer| {
        let [outputs, inputs] = layer.shape;
        [
            layer.name.clone(),
            format!("{outputs}x{inputs}"),
            layer.n.to_string(),
            layer.active.to_string(),
            layer.backward.to_string(),
            layer.touched.to_string(),
            layer.dormant.to_string(),
            layer.frontier.map_or("-".to_owned(), |rank| rank.to_string()),
            layer.training_bytes.to_string(),
            layer.dense_training_bytes.to_string(),
            format!("{:.1}%", 100.0 * layer.training_bytes as f64 / layer.dense_training_bytes as f64),
            layer.reservoir_bytes.to_string(),
            match layer.products {
                Products::Sparse => "sparse".to_owned(),
                Products::Dense => "dense".to_owned(),
            },
            ms(layer.sparse_ms),
            ms(layer.dense_ms),
        ]
        .to_vec()
    }));
    aligned(&rows).iter().try_for_each(print_line)
}
