//! `topkast bench inference`

use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use topkast_kernels::Isa;
use topkast_nn::{Memory, Mode, Network, Tokens, TransformerXl};
use topkast_train::config::ModelConfig;
use topkast_train::data::{Dataset, Images};
use topkast_train::text::Sampling;
use topkast_train::{Purpose, Trained};

use super::{in_pool, quartiles, random_bytes, timed};
use crate::failure::{Failure, print_line};
use crate::trained;

/// Images, or tokens, at a time where throughput is measured.
const BATCH: usize = 256;

/// Time a trained network's answers: latency of one, throughput of many at a time
///
/// Of images: from pixels to probabilities, and scores of 256 random images. Of texts: the next token after as many as
/// attention sees, and 256 tokens of one stream.
#[derive(Args)]
#[command(after_help = "Example: topkast bench inference network.safetensors --threads 1")]
pub(crate) struct Arguments {
    /// Run directory, checkpoint file or sparse export
    run: PathBuf,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=4096))]
    threads: u32,
    /// How many answers are timed one by one, after a tenth of them that is not; a twentieth as many batches are
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(20..=1_000_000))]
    answers: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    in_pool(arguments.threads, |isa| {
        let mut trained = trained::load(&arguments.run)?;
        let path = trained::checkpoint_of(&arguments.run)?;
        let bytes = fs::metadata(path)?.len();
        trained.config.train.batch = BATCH;
        let singles = times(arguments.answers, one_by_one(&mut trained)?);
        let batches = times(arguments.answers / 20, at_a_time(&mut trained, isa)?);
        report(arguments, isa, bytes, &singles, &batches)
    })
}

/// Sorted milliseconds of so many calls.
fn times(count: u32, mut call: impl FnMut()) -> Vec<f64> {
    (0..count.div_ceil(10)).for_each(|_| call());
    let mut times: Vec<f64> = (0..count).map(|_| timed(&mut call)).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// Each call answers once.
fn one_by_one(trained: &mut Trained) -> Result<Box<dyn FnMut() + '_>, Failure> {
    let seen = match &trained.config.model {
        ModelConfig::TransformerXl(model) => model.evaluation_memory,
        ModelConfig::Mlp(_) | ModelConfig::Resnet(_) => 0,
    };
    Ok(match trained.purpose() {
        Purpose::Classifier(mut network) => {
            let pixels: Vec<u8> = random_bytes(1).take(network.image_shape().features()).collect();
            Box::new(move || drop(network.probabilities(&pixels)))
        }
        Purpose::LanguageModel(network) => {
            let known = network.vocabulary().len() as u32;
            let prompt: Vec<u32> =
                random_bytes(1).map(|byte| u32::from(byte) % known).take(seen + 1).collect();
            let sampling = Sampling::new(0.0, 0, 1.0).map_err(|error| Failure::Failed(error.to_string()))?;
            let mut tokens = network.generate(&prompt, sampling, 1);
            Box::new(move || {
                tokens.next();
            })
        }
    })
}

/// Each call answers [`BATCH`] times at once.
fn at_a_time(trained: &mut Trained, isa: Isa) -> Result<Box<dyn FnMut() + '_>, Failure> {
    let outputs = trained.network.outputs();
    if let Network::TransformerXl(_) = trained.network {
        let Network::TransformerXl(network) = &mut trained.network else { unreachable!("it is one") };
        return Ok(tokens_at_a_time(network, isa));
    }
    let Purpose::Classifier(mut network) = trained.purpose() else {
        unreachable!("a Transformer-XL is what goes on with texts")
    };
    let shape = network.image_shape();
    let pixels = random_bytes(2).take(BATCH * shape.features()).collect();
    let images = Images { count: BATCH, shape, pixels };
    let labels = random_bytes(3).map(|byte| u32::from(byte) % outputs as u32).take(BATCH).collect();
    let images = Dataset::new(images, labels, outputs)?;
    network.score(&images)?;
    Ok(Box::new(move || drop(network.score(&images))))
}

fn tokens_at_a_time(network: &mut TransformerXl, isa: Isa) -> Box<dyn FnMut() + '_> {
    let known = network.vocabulary() as u32;
    let ids: Vec<u32> = random_bytes(2).map(|byte| u32::from(byte) % known).take(BATCH).collect();
    // As long a memory as `generate` left, which is as much as attention sees.
    let (length, span) = (network.memory().length(), network.memory().span());
    network.replace_memory(Memory::empty(length, span));
    let mut logits = Vec::new();
    Box::new(move || {
        network.forward(isa, Tokens { ids: &ids, streams: 1 }, Mode::Evaluate);
        network.logits_at(isa, BATCH - 1, &mut logits);
    })
}

fn report(
    arguments: &Arguments,
    isa: Isa,
    bytes: u64,
    singles: &[f64],
    batches: &[f64],
) -> Result<(), Failure> {
    let [_, median, _] = quartiles(singles.iter().copied());
    let p95 = singles[singles.len() * 95 / 100];
    let [_, batch, _] = quartiles(batches.iter().copied());
    let throughput = BATCH as f64 / batch * 1e3;
    if arguments.json {
        return print_line(json!({
            "file_bytes": bytes, "isa": isa.name(), "threads": rayon::current_num_threads(), "answers": singles.len(),
            "latency_ms_median": median, "latency_ms_p95": p95,
            "batch": BATCH, "batch_ms_median": batch, "answers_per_second": throughput,
        }));
    }
    print_line(format!(
        "{bytes} bytes, {}, {} thread(s): one answer {:.1} us median, {:.1} us at the 95th percentile; {BATCH} at a time {throughput:.0} a \
         second",
        isa.name(),
        rayon::current_num_threads(),
        median * 1e3,
        p95 * 1e3,
    ))
}
