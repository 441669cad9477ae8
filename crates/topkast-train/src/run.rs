//! A whole run: the loop around [`Trainer::step`], checkpoints and summary.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::checkpoint::{Checkpoint, Saver};
use crate::config::TrainConfig;
use crate::lock::Lock;
use crate::metrics::MetricsLog;
use crate::products::LayerProducts;
use crate::pull::Pull;
use crate::report::{RefreshReport, StepReport};
use crate::run_dir::RunDir;
use crate::score::{Metric, Score};
use crate::summary::{Summary, layer_summaries, median, share};
use crate::time_split::PhaseSeconds;
use crate::trainer::Trainer;
use crate::{Config, TrainError, files, machine};

/// What happens in a run, for whoever watches.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Event {
    /// Training begins, after `done` of `total` steps.
    Started { done: u64, total: u64, threads: usize, isa: &'static str },
    /// A sparse layer for which dense products are faster, and what it computes with nevertheless or therefore.
    DenseIsFaster(LayerProducts),
    /// Pruning, which begins with all weights: at dense cost, until so many of them are active after this step.
    StartsDense { active: u64, end: u64 },
    /// A layer in which the penalty empties B∖A between refreshes.
    StrongPenalty(Pull),
    /// An image of the data is broken, and replaced (in training) or left out (in evaluation): which one and why.
    BrokenImage(String),
    /// A step was made; it took `ms`.
    Step { report: StepReport, ms: f64 },
    /// A step was left out: this was not finite.
    LeftOut { step: u64, what: String },
    /// After so many epochs it was scored.
    Scored { epoch: f64, on: &'static str, score: Score },
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// All steps were made.
    Finished(Box<Summary>),
    /// It was asked to stop; a checkpoint was written after this many steps.
    Interrupted(u64),
}

/// Trains in `dir` until all steps are made or `stop` is set, from the checkpoint there is or from the start.
/// `watch` is told what happens.
///
/// # Errors
/// If the data, config or checkpoint is not usable, another process trains in `dir`, a file cannot be written, or
/// training diverges.
pub fn run(
    config: Config,
    dir: &RunDir,
    stop: &AtomicBool,
    watch: &mut (dyn FnMut(Event) + Send),
) -> Result<Outcome, TrainError> {
    let threads = config.train.threads;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| TrainError::Threads { threads, message: error.to_string() })?;
    // Inside the pool, so that splitting work over it needs no hand-over and allocates nothing.
    pool.install(|| {
        let mut run = Run::start(config, dir)?;
        if let Some(summary) = run.finished_before() {
            return Ok(Outcome::Finished(Box::new(summary)));
        }
        let result = run.train(stop, watch);
        result.map_err(|error| run.explain(error))
    })
}

struct Run<'a> {
    dir: &'a RunDir,
    trainer: Trainer,
    metrics: MetricsLog,
    started: Instant,
    seconds_before: f64,
    saver: Saver,
    step_ms: Vec<f32>,
    refresh_ms: Vec<f32>,
    phase_seconds: PhaseSeconds,
    /// The newest refresh that no logged step has told of yet.
    refresh: Option<RefreshReport>,
    /// The newest scores.
    scores: Scores,
    /// Given back when the run ends, however it ends.
    _lock: Lock,
}

/// What scoring gave, for as long as no step is made.
#[derive(Default)]
struct Scores {
    validation: Option<Score>,
    test: Option<Score>,
}

impl<'a> Run<'a> {
    fn start(config: Config, dir: &'a RunDir) -> Result<Self, TrainError> {
        let path = dir.checkpoint();
        // Of a run that there is, before its checkpoint is read; a new one's directory is made once it is known to be able to start.
        let lock = dir.config().exists().then(|| dir.take_lock()).transpose()?;
        let checkpoint = path.exists().then(|| Checkpoint::read(&path)).transpose()?;
        let trainer = match &checkpoint {
            Some(checkpoint) => Trainer::resumed(config, checkpoint, &path)?,
            None => Trainer::new(config)?,
        };
        fs::create_dir_all(dir.path().join("checkpoint")).map_err(TrainError::write(dir.path()))?;
        let lock = lock.map_or_else(|| dir.take_lock(), Ok)?;
        let seconds_before = checkpoint.as_ref().map_or(0.0, |checkpoint| checkpoint.state.seconds);
        let saved = checkpoint.map(|checkpoint| checkpoint.state.step);
        let saver = Saver::new(dir, trainer.config().train.keep_checkpoints, saved);
        if trainer.best().is_some_and(|best| Some(best.step) == saved) {
            saver.call_best()?;
        }
        let config_path = dir.config();
        files::replace_text(&config_path, &trainer.config().to_text())
            .map_err(TrainError::write(&config_path))?;
        let metrics_path = dir.metrics();
        let metrics = MetricsLog::open(&metrics_path, trainer.steps_done())
            .map_err(TrainError::write(&metrics_path))?;
        // Room for all times now, so that the loop does not allocate.
        let steps = trainer.total_steps().min(1 << 24);
        let refreshes = steps / trainer.config().sparsity.refresh_every;
        Ok(Self {
            dir,
            trainer,
            metrics,
            started: Instant::now(),
            seconds_before,
            saver,
            step_ms: Vec::with_capacity(steps as usize),
            refresh_ms: Vec::with_capacity(refreshes as usize),
            phase_seconds: PhaseSeconds::default(),
            refresh: None,
            scores: Scores::default(),
            _lock: lock,
        })
    }

    /// The summary of a run that has nothing left to do: its timings are of the steps made then, and stay.
    fn finished_before(&self) -> Option<Summary> {
        let done = self.trainer.steps_done() == self.trainer.total_steps();
        let text = fs::read_to_string(self.dir.summary()).ok().filter(|_| done)?;
        serde_json::from_str(&text).ok()
    }

    fn train(
        &mut self,
        stop: &AtomicBool,
        watch: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Outcome, TrainError> {
        self.trainer.measure_products();
        let (total, epoch) = (self.trainer.total_steps(), self.trainer.steps_per_epoch());
        let TrainConfig { log_every, checkpoint_every, evaluate_every, .. } = self.trainer.config().train;
        let evaluate_every = if evaluate_every > 0 { evaluate_every } else { epoch };
        let is_multiple = |step: u64, every: u64| every > 0 && step.is_multiple_of(every);
        watch(Event::Started {
            done: self.trainer.steps_done(),
            total,
            threads: rayon::current_num_threads(),
            isa: self.trainer.isa().name(),
        });
        let told = |layer: &&LayerProducts| layer.dense_ms < layer.sparse_ms;
        self.trainer
            .products()
            .iter()
            .filter(told)
            .for_each(|layer| watch(Event::DenseIsFaster(layer.clone())));
        if let Some((active, end)) = self.trainer.pruning_ahead() {
            watch(Event::StartsDense { active, end });
        }
        self.trainer.strong_pulls().into_iter().for_each(|pull| watch(Event::StrongPenalty(pull)));
        while self.trainer.steps_done() < total {
            if stop.load(Ordering::Relaxed) {
                self.save()?;
                self.saver.wait()?;
                return Ok(Outcome::Interrupted(self.trainer.steps_done()));
            }
            let stepped = self.step();
            self.tell_broken(watch);
            let (report, ms) = stepped?;
            let done = report.step;
            if done.is_multiple_of(log_every) || done == total || report.left_out {
                self.log_step(&report, ms)?;
            }
            if report.left_out {
                watch(Event::LeftOut { step: done, what: self.trainer.why_left_out().to_owned() });
            } else {
                watch(Event::Step { report, ms });
            }
            if is_multiple(done, evaluate_every) {
                self.score(watch)?;
            }
            if [epoch, evaluate_every, checkpoint_every].iter().any(|&every| is_multiple(done, every)) {
                self.save()?;
            }
        }
        self.save()?;
        let summary = self.summary(watch)?;
        self.saver.wait()?;
        let path = self.dir.summary();
        let text = serde_json::to_string_pretty(&summary).expect("a summary is plain data") + "\n";
        files::replace_text(&path, &text).map_err(TrainError::write(&path))?;
        Ok(Outcome::Finished(Box::new(summary)))
    }

    fn step(&mut self) -> Result<(StepReport, f64), TrainError> {
        let start = Instant::now();
        let report = self.trainer.step()?;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        self.step_ms.push(ms as f32);
        self.phase_seconds.add(&report.phases);
        self.scores = Scores::default();
        if let Some(refresh) = report.refresh {
            self.refresh_ms.push(refresh.time.as_secs_f32() * 1e3);
            self.refresh = Some(refresh);
        }
        Ok((report, ms))
    }

    fn log_step(&mut self, report: &StepReport, ms: f64) -> Result<(), TrainError> {
        let mut values = vec![
            ("lr", report.lr),
            ("step_ms", ms),
            ("samples_per_second", report.samples as f64 / ms * 1e3),
        ];
        if report.left_out {
            values.push(("left_out", 1.0));
        } else {
            values.push(("loss", report.loss));
            values.extend(report.accuracy.map(|accuracy| ("accuracy", accuracy)));
        }
        if let Some(refresh) = self.refresh.take() {
            values.push(("mask_change", refresh.newly_active as f64 / refresh.active.max(1) as f64));
            values.push(("entered", refresh.entered as f64));
            values.push(("dormant", refresh.dormant as f64));
        }
        self.record(&values)
    }

    fn score(&mut self, watch: &mut (dyn FnMut(Event) + Send)) -> Result<(), TrainError> {
        let start = Instant::now();
        self.scores.validation = self.trainer.validate();
        let (on, score) = match self.scores.validation {
            Some(score) => ("validation", score),
            None => ("test", self.test(watch)?),
        };
        let [loss, accuracy, metric] =
            ["loss", "accuracy", score.metric.name()].map(|what| format!("{on}_{what}"));
        self.trainer.scored(&score);
        self.phase_seconds.add_evaluation(start.elapsed());
        let mut values = vec![(loss.as_str(), score.loss), ("seconds", self.seconds())];
        values.extend(score.accuracy.map(|share| (accuracy.as_str(), share)));
        if score.metric != Metric::Accuracy {
            values.push((&metric, score.value()));
        }
        if let Some(dynamics) = self.trainer.end_epoch() {
            values.push(("mask_change_min", dynamics.change_min));
            values.push(("mask_change_mean", dynamics.change_mean));
            values.push(("mask_change_max", dynamics.change_max));
            values.extend(dynamics.reservoir_used.map(|share| ("reservoir_used", share)));
        }
        self.record(&values)?;
        watch(Event::Scored { epoch: self.epoch(), on, score });
        Ok(())
    }

    fn test(&mut self, watch: &mut (dyn FnMut(Event) + Send)) -> Result<Score, TrainError> {
        let scored = self.trainer.test();
        self.tell_broken(watch);
        Ok(*self.scores.test.insert(scored?))
    }

    fn tell_broken(&self, watch: &mut (dyn FnMut(Event) + Send)) {
        self.trainer.broken_images().into_iter().for_each(|image| watch(Event::BrokenImage(image)));
    }

    fn record(&mut self, values: &[(&str, f64)]) -> Result<(), TrainError> {
        let step = self.trainer.steps_done();
        self.metrics.record(step, self.epoch(), values).map_err(TrainError::write(&self.dir.metrics()))
    }

    fn epoch(&self) -> f64 {
        self.trainer.steps_done() as f64 / self.trainer.steps_per_epoch() as f64
    }

    /// Begins to write a checkpoint.
    fn save(&mut self) -> Result<(), TrainError> {
        let seconds = self.seconds();
        self.saver.save(&mut self.trainer, seconds)
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    fn summary(&mut self, watch: &mut (dyn FnMut(Event) + Send)) -> Result<Summary, TrainError> {
        let seconds = self.seconds();
        let start = Instant::now();
        // Most runs end with an epoch, which has just been scored.
        let Scores { validation, test } = self.scores;
        let validation = validation.or_else(|| self.trainer.validate());
        let test = test.map_or_else(|| self.test(watch), Ok)?;
        self.phase_seconds.add_evaluation(start.elapsed());
        let config = self.trainer.config().clone();
        let products = self.trainer.products().to_vec();
        let layers = layer_summaries(self.trainer.network(), &config, &products);
        let flops = self.trainer.flops(&layers);
        let sparse = || layers.iter().filter(|layer| layer.sparse);
        Ok(Summary {
            task_metric: format!("test_{}", test.metric.name()),
            test_bpc: test.of(Metric::BitsPerCharacter),
            test_perplexity: test.of(Metric::Perplexity),
            validation_bpc: validation.and_then(|score| score.of(Metric::BitsPerCharacter)),
            validation_perplexity: validation.and_then(|score| score.of(Metric::Perplexity)),
            test_accuracy: test.accuracy,
            test_loss: test.loss,
            validation_accuracy: validation.and_then(|score| score.accuracy),
            validation_loss: validation.map(|score| score.loss),
            steps: self.trainer.steps_done(),
            seconds,
            step_ms_median: median(&mut self.step_ms),
            refresh_ms_median: median(&mut self.refresh_ms),
            refresh_share: share(&self.refresh_ms, &self.step_ms),
            peak_rss_bytes: machine::peak_rss_bytes(),
            parameters: sparse().map(|layer| layer.n).sum(),
            active: sparse().map(|layer| layer.active).sum(),
            backward: sparse().map(|layer| layer.backward).sum(),
            training_bytes: layers.iter().map(|layer| layer.training_bytes).sum(),
            dense_training_bytes: layers.iter().map(|layer| layer.dense_training_bytes).sum(),
            reservoir_bytes: layers.iter().map(|layer| layer.reservoir_bytes).sum(),
            train_flops_ratio: flops.total(),
            flops,
            phase_seconds: self.phase_seconds,
            isa: self.trainer.isa().name().to_owned(),
            threads: rayon::current_num_threads(),
            layers,
        })
    }

    /// Says of a run that diverged or cannot be saved what is left of it.
    fn explain(&mut self, error: TrainError) -> TrainError {
        // An error of writing is reported already, or comes after what ended the run.
        let _ = self.saver.wait();
        let kept = match self.saver.newest() {
            Some(saved) => {
                format!("the checkpoint of step {saved} is kept in {}", self.dir.checkpoint().display())
            }
            None => "there is no checkpoint yet".to_owned(),
        };
        match error {
            TrainError::Diverged { what, step, .. } => TrainError::Diverged { what, step, kept },
            TrainError::Write { path, source } => TrainError::Stopped { path, source, kept },
            other => other,
        }
    }
}
