//! `topkast inspect`

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};
use topkast_train::config::ModelConfig;
use topkast_train::{LayerSummary, Products, RunDir, layer_summaries, read_metrics};

use crate::failure::{Failure, print_line};
use crate::network::describe;
use crate::table::aligned;
use crate::trained;

/// Show what each layer of a trained network holds
#[derive(Args)]
#[command(after_help = "Example: topkast inspect runs/top-kast-1")]
pub(crate) struct Arguments {
    /// Run directory, checkpoint file or sparse export
    run: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut trained = trained::load(&arguments.run)?;
    let config = trained.config.clone();
    let layers = layer_summaries(&mut trained.network, &config, &trained.state.products);
    if trained.exported {
        return exported(arguments, &config.model, trained.state.step, &layers);
    }
    let metrics = metrics(arguments)?;
    let last = |name| metrics.iter().rev().find_map(|record| record.get(name)?.as_f64());
    let change = last("mask_change");
    let epoch = ["mask_change_min", "mask_change_mean", "mask_change_max"].map(last);
    let used = last("reservoir_used");
    if arguments.json {
        let [least, mean, most] = epoch;
        let report = json!({
            "step": trained.state.step, "layers": layers, "mask_change": change, "mask_change_min": least,
            "mask_change_mean": mean, "mask_change_max": most, "reservoir_used": used,
        });
        return print_line(report);
    }
    let network = describe(&config.model, &layers);
    print_line(format!("after step {}, seed {}: {network}", trained.state.step, config.seed))?;
    print_table(&layers)?;
    match change {
        Some(change) => print_line(format!("the last logged refresh changed {:.2}% of A", change * 100.0))?,
        None => print_line("no refresh has been logged")?,
    }
    if let [Some(least), Some(mean), Some(most)] = epoch.map(|share| share.map(|share| share * 100.0)) {
        print_line(format!("the last epoch changed {mean:.2}% of A ({least:.2}% to {most:.2}% by layer)"))?;
    }
    if let Some(used) = used {
        print_line(format!("{:.2}% of what was outside B at the start has been in B since", used * 100.0))?;
    }
    Ok(())
}

/// What there is to say of an export: it knows nothing of training.
fn exported(
    arguments: &Arguments,
    model: &ModelConfig,
    step: u64,
    layers: &[LayerSummary],
) -> Result<(), Failure> {
    if arguments.json {
        let layer = |layer: &LayerSummary| {
            json!({
                "name": layer.name, "shape": layer.shape, "sparse": layer.sparse, "n": layer.n, "active": layer.active,
            })
        };
        let layers: Vec<Value> = layers.iter().map(layer).collect();
        return print_line(json!({ "step": step, "layers": layers }));
    }
    print_line(format!("export after step {step}: {}", describe(model, layers)))?;
    let mut rows = vec![["layer", "shape", "n", "|A|", "share"].map(str::to_owned).to_vec()];
    rows.extend(layers.iter().map(|layer| {
        let [outputs, inputs] = layer.shape;
        let share = format!("{:.2}%", 100.0 * layer.active as f64 / layer.n as f64);
        [
            layer.name.clone(),
            format!("{outputs}x{inputs}"),
            layer.n.to_string(),
            layer.active.to_string(),
            share,
        ]
        .to_vec()
    }));
    aligned(&rows).iter().try_for_each(print_line)
}

/// What the run has logged, if there is more of it than a checkpoint.
fn metrics(arguments: &Arguments) -> Result<Vec<Map<String, Value>>, Failure> {
    if arguments.run.is_file() {
        return Ok(Vec::new());
    }
    let path = RunDir::open(&arguments.run)?.metrics();
    if !path.exists() {
        return Ok(Vec::new());
    }
    read_metrics(&path).map_err(|error| Failure::BadInput(error.to_string()))
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
