//! `topkast bench block`

use clap::Args;
use serde_json::json;
use topkast_train::text::{Ids, Text, Vocabulary};
use topkast_train::{Config, TrainError, Trainer};

use super::sides::{Report, Side};
use super::turns::{LARGEST_DENSE, Turns, size};
use super::{Machine, in_pool, random_bytes};
use crate::failure::Failure;

/// Time whole training steps of one Transformer-XL block, sparse and dense
///
/// A language model of bytes with one layer: embedding, attention, a feed-forward part with GELU, norms, the output tied to the
/// embedding, clipping and Adam. Both networks train on random text and take turns, a turn of the sparse one lasting from one
/// refresh to the next. The time is also told by part of the network: linear layers, attention, all else.
#[derive(Args, Clone)]
#[command(
    after_help = "Example: topkast bench block --width 512 --feed-forward 2048 --forward 0.98 --backward 0.95"
)]
pub(crate) struct Arguments {
    /// Features of a position
    #[arg(long, default_value_t = 512, value_parser = size())]
    width: u32,
    /// Hidden units of the feed-forward part
    #[arg(long, default_value_t = 2048, value_parser = size())]
    feed_forward: u32,
    /// Attention heads
    #[arg(long, default_value_t = 8, value_parser = size())]
    heads: u32,
    /// Streams of text side by side
    #[arg(long, default_value_t = 8, value_parser = size())]
    streams: u32,
    /// Tokens of each stream a step
    #[arg(long, default_value_t = 128, value_parser = size())]
    segment: u32,
    /// Tokens before them that attention sees
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    memory: u32,
    #[command(flatten)]
    turns: Turns,
}

/// Different bytes.
const VOCABULARY: u32 = 256;
/// Bytes of the text, where steps do not take more: enough that it rarely begins again, and memory with it.
const TEXT: usize = 1 << 24;
/// Steps on one segment in which the loss must have fallen.
const CHECKED_STEPS: u32 = 5;
/// Tokens of that segment.
const CHECKED_SEGMENT: u32 = 64;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    arguments.check_sizes()?;
    in_pool(arguments.turns.threads, |isa| {
        let fits = arguments.weights() <= LARGEST_DENSE;
        for method in if fits { &["top-kast", "dense"][..] } else { &["top-kast"] } {
            arguments.checked().check_learning(method)?;
        }
        let machine = Machine::measure(isa);
        let side = |method: &str| {
            let text = arguments.text(TEXT.max(arguments.tokens() + 1));
            Side::new(Trainer::with_text(arguments.config(method)?, text), arguments.warm_up())
        };
        let dense = if fits { Some(side("dense")?) } else { None };
        let Arguments { width, feed_forward, heads, streams, segment, memory, turns } = *arguments;
        let sizes = json!({
            "width": width, "feed_forward": feed_forward, "heads": heads,
            "streams": streams, "segment": segment, "memory": memory,
        });
        let title = format!(
            "width {width}, feed-forward {feed_forward}, {heads} head(s), {streams}x{segment} tokens, memory {memory}"
        );
        Report::measure(turns, side("top-kast")?, dense)?.show(&machine, &title, sizes)
    })
}

impl Arguments {
    /// Entries of the dense weights of the linear layers: query, key, value, position, output and two of the feed-forward part.
    fn weights(&self) -> u64 {
        let (width, feed_forward) = (u64::from(self.width), u64::from(self.feed_forward));
        width * (5 * width + 2 * feed_forward)
    }

    fn check_sizes(&self) -> Result<(), Failure> {
        // What is of each position's width: about two dozen matrices, with gradients; of the hidden units four.
        let features =
            24 * u64::from(self.width) + 4 * u64::from(self.feed_forward) + 2 * u64::from(VOCABULARY);
        let positions = u64::from(self.streams) * (u64::from(self.segment) + u64::from(self.memory));
        let activations = features as f64 * positions as f64;
        self.turns.check_memory(self.weights(), activations, "fewer or shorter streams")
    }

    /// Tokens of a step.
    fn tokens(&self) -> usize {
        self.streams as usize * self.segment as usize
    }

    /// Steps before the first turn: every buffer gets its size, and memory its tokens.
    fn warm_up(&self) -> u64 {
        2 + u64::from(self.memory.div_ceil(self.segment))
    }

    /// The same network on fewer tokens.
    fn checked(&self) -> Self {
        Self { streams: 1, segment: self.segment.min(CHECKED_SEGMENT), ..self.clone() }
    }

    /// Fails where the loss of a text of one segment does not fall.
    fn check_learning(&self, method: &str) -> Result<(), Failure> {
        let mut trainer = Trainer::with_text(self.config(method)?, self.text(self.tokens() + 1))?;
        let first = trainer.step()?.loss;
        let mut last = first;
        for _ in 1..CHECKED_STEPS {
            last = trainer.step()?.loss;
        }
        if last < first {
            return Ok(());
        }
        let message = format!(
            "{method}: {CHECKED_STEPS} steps on one text take the loss from {first} to {last}; nothing was timed"
        );
        Err(Failure::Failed(message))
    }

    fn config(&self, method: &str) -> Result<Config, Failure> {
        let mut settings = self.turns.settings(method, self.warm_up());
        let fixed = [
            "data.kind=bytes",
            "model.kind=transformer-xl",
            "model.layers=1",
            "model.activation=gelu",
            "sparsity.keep_dense=[]",
            "optimizer.kind=adam",
            "optimizer.schedule=constant",
            "optimizer.clip_norm=0.25",
        ];
        settings.extend(fixed.map(str::to_owned));
        settings.extend([
            format!("model.width={}", self.width),
            format!("model.feed_forward={}", self.feed_forward),
            format!("model.heads={}", self.heads),
            format!("model.segment={}", self.segment),
            format!("model.memory={}", self.memory),
            format!("train.batch={}", self.streams),
            // Adam moves every weight by as much, so what a unit of many inputs is moved by grows with them.
            format!("optimizer.lr={:e}", 1e-3f64.min(0.5 / f64::from(self.width))),
        ]);
        Ok(Config::load(None, &settings).map_err(TrainError::from)?)
    }

    /// Random bytes.
    fn text(&self, tokens: usize) -> Text {
        let part = |seed, tokens| Ids::Bytes(random_bytes(seed).take(tokens).collect());
        Text {
            train: part(0, tokens),
            validation: part(1, 2),
            test: part(2, 2),
            vocabulary: Vocabulary::Bytes,
        }
    }
}
