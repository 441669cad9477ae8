//! A sparse and a dense network in training that take turns, and what their steps came to.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use topkast_train::{Phases, StepReport, TrainError, Trainer, layer_summaries};

use super::turns::{TURN, Turns};
use super::{Machine, median, quartiles};
use crate::failure::{Failure, print_line};

/// One of the two networks, and the steps it has made that count.
pub(super) struct Side {
    trainer: Trainer,
    steps: Vec<(f64, StepReport)>,
}

impl Side {
    /// `warm_up` steps are made first, in which every buffer gets its size.
    pub(super) fn new(trainer: Result<Trainer, TrainError>, warm_up: u64) -> Result<Self, Failure> {
        let mut trainer = trainer?;
        for _ in 0..warm_up {
            trainer.step()?;
        }
        Ok(Self { trainer, steps: Vec::new() })
    }

    fn turn(&mut self, steps: u64) -> Result<(), Failure> {
        self.trainer.step()?;
        for _ in 0..steps {
            let start = Instant::now();
            let report = self.trainer.step()?;
            self.steps.push((milliseconds(start.elapsed()), report));
        }
        Ok(())
    }

    fn bytes(&mut self) -> Bytes {
        let config = self.trainer.config().clone();
        let layers = layer_summaries(self.trainer.network(), &config, &[]);
        Bytes {
            sparse: layers.iter().map(|layer| layer.training_bytes).sum(),
            dense: layers.iter().map(|layer| layer.dense_training_bytes).sum(),
            reservoir: layers.iter().map(|layer| layer.reservoir_bytes).sum(),
        }
    }

    /// The steps' times. A refresh costs its step more than its own time, as what is made of a pattern when first asked
    /// for is made in that step: so its cost is what steps with a refresh take longer than others.
    fn times(&self, refresh_every: f64) -> Times {
        let of =
            |refreshed: bool| self.steps.iter().filter(move |(_, step)| step.refresh.is_some() == refreshed);
        let plain = quartiles(of(false).map(|(ms, _)| *ms));
        let refreshing = quartiles(of(true).map(|(ms, _)| *ms));
        let middle = |read: &dyn Fn(&(f64, StepReport)) -> f64| {
            // Where every step refreshes there are no others.
            let steps = of(of(false).next().is_none());
            median(steps.map(read))
        };
        let phase = |read: fn(&Phases) -> Duration| middle(&|(_, step)| milliseconds(read(&step.phases)));
        let step = match (of(true).next(), of(false).next()) {
            (None, _) => plain,
            (Some(_), None) => refreshing,
            (Some(_), Some(_)) => plain.map(|ms| ms + (refreshing[1] - plain[1]) / refresh_every),
        };
        let refresh = median(of(true).map(|(_, report)| milliseconds(report.phases.refresh)));
        let phases = [
            ("load", phase(|phases| phases.load)),
            ("forward", phase(|phases| phases.forward)),
            ("loss", phase(|phases| phases.loss)),
            ("input_gradient", phase(|phases| phases.input_gradient)),
            ("weight_gradient", phase(|phases| phases.weight_gradient)),
            ("update", phase(|phases| phases.update)),
            ("refresh", refresh / refresh_every),
        ];
        let parts = [
            ("linear", middle(&|(_, step)| milliseconds(step.parts.linear))),
            ("attention", middle(&|(_, step)| milliseconds(step.parts.attention))),
            (
                "other",
                middle(&|(ms, step)| {
                    ms - milliseconds(step.parts.linear + step.parts.attention + step.phases.refresh)
                }),
            ),
        ];
        Times { step, refresh, phases, parts, steps: self.steps.len() }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Milliseconds of a side's steps.
struct Times {
    /// Quartiles of a step, with its share of a refresh.
    step: [f64; 3],
    /// A refresh.
    refresh: f64,
    /// What a step spends its time on: medians, for the refresh a step's share.
    phases: [(&'static str, f64); 7],
    /// The same time, but for the refresh, by part of the network: medians.
    parts: [(&'static str, f64); 3],
    steps: usize,
}

/// What training takes.
struct Bytes {
    sparse: u64,
    dense: u64,
    reservoir: u64,
}

/// What is to be told of the two.
pub(super) struct Report {
    turns: Turns,
    sparse: Times,
    /// None where the network would not fit.
    dense: Option<Times>,
    bytes: Bytes,
}

impl Report {
    /// Lets the two take turns, a turn of the sparse one lasting from one refresh to the next.
    pub(super) fn measure(turns: Turns, mut sparse: Side, mut dense: Option<Side>) -> Result<Self, Failure> {
        for _ in 0..turns.rounds {
            sparse.turn(turns.turn())?;
            dense.as_mut().map_or(Ok(()), |dense| dense.turn(TURN))?;
        }
        let refresh_every = f64::from(turns.refresh_every);
        Ok(Self {
            turns,
            bytes: sparse.bytes(),
            sparse: sparse.times(refresh_every),
            dense: dense.map(|dense| dense.times(refresh_every)),
        })
    }

    /// Prints everything, under a title that names the `network`; or as JSON, together with its `sizes`.
    pub(super) fn show(&self, machine: &Machine, network: &str, sizes: Value) -> Result<(), Failure> {
        if self.turns.json {
            let mut report = sizes;
            self.add_to(&mut report);
            machine.add_to(&mut report);
            return print_line(report);
        }
        let (forward, backward) = (self.turns.forward * 100.0, self.turns.backward * 100.0);
        print_line(format!("{network}, {forward}% forward, {backward}% backward"))?;
        print_line(machine)?;
        self.print()
    }

    fn add_to(&self, report: &mut Value) {
        let Turns { forward, backward, refresh_every, .. } = self.turns;
        let times = json!({
            "forward": forward, "backward": backward, "refresh_every": refresh_every,
            "refresh_ms": self.sparse.refresh, "load_ms": self.sparse.phases[0].1,
            "training_bytes": self.bytes.sparse, "dense_training_bytes": self.bytes.dense,
            "reservoir_bytes": self.bytes.reservoir,
        });
        let all = report.as_object_mut().expect("sizes are named");
        let Value::Object(times) = times else { unreachable!("it is written as one") };
        all.extend(times);
        for (prefix, times) in [("", Some(&self.sparse)), ("dense_", self.dense.as_ref())] {
            let phases = |times: &Times| -> Value {
                times.phases.iter().map(|&(name, ms)| (name.to_owned(), json!(ms))).collect()
            };
            let mut put = |name: &str, value: Value| all.insert(format!("{prefix}{name}"), value);
            put("steps", json!(times.map(|times| times.steps)));
            put("step_ms", json!(times.map(|times| times.step[1])));
            put("step_ms_spread", json!(times.map(|times| [times.step[0], times.step[2]])));
            put("phases_ms", json!(times.map(phases)));
            for (number, (name, _)) in self.sparse.parts.iter().enumerate() {
                put(&format!("{name}_ms"), json!(times.map(|times| times.parts[number].1)));
            }
        }
    }

    fn print(&self) -> Result<(), Failure> {
        print_line(format!("{:<16} {:>10} {:>10} {:>8}", "", "sparse ms", "dense ms", "faster"))?;
        let line = |name: &str, sparse: f64, dense: Option<f64>, faster: &str| {
            let dense = dense.map_or("-".to_owned(), |ms| format!("{ms:.3}"));
            print_line(format!("{:<16} {sparse:>10.3} {dense:>10} {faster:>8}", name.replace('_', " ")))
        };
        for (number, &(name, sparse)) in self.sparse.phases.iter().enumerate() {
            line(name, sparse, self.dense.as_ref().map(|dense| dense.phases[number].1), "")?;
        }
        let [low, step, high] = self.sparse.step;
        let spread = |[low, _, high]: [f64; 3]| format!("{low:.2} to {high:.2} ms");
        match &self.dense {
            Some(dense) => {
                line("step", step, Some(dense.step[1]), &format!("{:.1}x", dense.step[1] / step))?;
                let (sparse, dense) = (spread([low, step, high]), spread(dense.step));
                print_line(format!("half of all steps take {sparse} sparse, {dense} dense"))?;
            }
            None => {
                line("step", step, None, "")?;
                print_line(format!("half of all steps take {}", spread([low, step, high])))?;
                print_line(
                    "dense it would need more than 4 GiB for weights and optimizer state, so it was not timed",
                )?;
            }
        }
        let parts = |times: &Times| {
            let all = times.parts.iter().filter(|(_, ms)| *ms > 0.0);
            all.map(|(name, ms)| format!("{name} {ms:.2}")).collect::<Vec<_>>().join(", ")
        };
        print_line(format!("by part of the network, ms: {}", parts(&self.sparse)))?;
        if let Some(dense) = &self.dense {
            print_line(format!("the same, dense: {}", parts(dense)))?;
        }
        print_line(format!(
            "a refresh takes {:.2} ms, every {} step(s)",
            self.sparse.refresh, self.turns.refresh_every
        ))?;
        if self.dense.as_ref().is_some_and(|dense| step > dense.step[1]) {
            print_line(
                "sparse is slower than dense here: choose higher --forward and --backward sparsities",
            )?;
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        print_line(format!(
            "training memory {:.1} MiB against {:.1} MiB dense, reservoir {:.1} MiB",
            mib(self.bytes.sparse),
            mib(self.bytes.dense),
            mib(self.bytes.reservoir)
        ))
    }
}
