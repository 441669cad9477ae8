//! What becomes of the entries that exploration brings into A: `cargo run --release -p topkast-train --example exploration -- [KEY=VALUE...]`
//! trains by the built-in recipe with these settings and prints, for each third of the run and over all sparse layers,
//!
//! - how many entries came into A at a refresh, as a share of A, and how many of them were the same N steps before (returned);
//! - how far beyond the boundary of A they were then (1 is the boundary), the median;
//! - of those that had been trained in B∖A, how many turned round in the N steps that followed, the first with effect on the output;
//! - how many were out of A again at the next refresh, and how many are in A at the end of the run;
//!
//! and how far the entries of the last A have moved since they came into B: those that have not are there by their first value alone.

#![allow(clippy::print_stdout)]

use std::collections::{HashMap, HashSet};

use topkast_nn::Network;
use topkast_train::{Config, TrainError, Trainer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let settings: Vec<String> = std::env::args().skip(1).collect();
    let config = Config::load(None, &settings)?;
    let threads = config.train.threads;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    pool.install(|| watch(config))?;
    Ok(())
}

fn watch(config: Config) -> Result<(), TrainError> {
    let every = config.sparsity.refresh_every;
    let mut trainer = Trainer::new(config)?;
    let total = trainer.total_steps();
    let mut layers: Vec<Layer> = snapshots(trainer.network()).into_iter().map(Layer::new).collect();
    while trainer.steps_done() < total {
        if trainer.steps_done() > 0 && trainer.steps_done().is_multiple_of(every) {
            let third = (3 * trainer.steps_done() / total) as usize;
            advance(&mut layers, trainer.network(), third);
        }
        trainer.step()?;
        if (trainer.steps_done() - 1).is_multiple_of(every) {
            for (layer, start) in layers.iter_mut().zip(snapshots(trainer.network())) {
                layer.before = std::mem::replace(&mut layer.start, start);
            }
        }
    }
    advance(&mut layers, trainer.network(), 2);
    println!("test accuracy {:.2}%", 100.0 * trainer.test().unwrap().value());
    println!(
        "{:8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "third", "entered", "returned", "beyond", "turned", "left next", "at the end"
    );
    for third in 0..3 {
        let all: Vec<&Arrival> =
            layers.iter().flat_map(|layer| &layer.arrivals).filter(|one| one.third == third).collect();
        let share = |of: &dyn Fn(&Arrival) -> Option<bool>| {
            let known: Vec<bool> = all.iter().filter_map(|one| of(one)).collect();
            100.0 * known.iter().filter(|&&yes| yes).count() as f64 / known.len() as f64
        };
        let refreshes = (total / every) as f64 / 3.0;
        let active: usize =
            layers.iter().map(|layer| layer.now.values().filter(|one| one.active).count()).sum();
        let beyond = median(all.iter().map(|one| f64::from(one.beyond)).collect());
        println!(
            "{:8} {:8.3}% {:8.1}% {beyond:9.3} {:8.1}% {:8.1}% {:8.1}%",
            third + 1,
            100.0 * all.len() as f64 / refreshes / active as f64,
            share(&|one| Some(one.returned)),
            share(&|one| one.turned),
            share(&|one| one.left),
            share(&|one| Some(one.stayed)),
        );
    }
    let moved: Vec<f64> = layers.iter().flat_map(Layer::moved).collect();
    let little = moved.iter().filter(|&&moved| moved < 0.1).count() as f64 / moved.len() as f64;
    println!(
        "of the last A, {:.1}% have moved by less than a tenth of their first value; median {:.2} of it",
        100.0 * little,
        median(moved)
    );
    Ok(())
}

/// An entry of B.
#[derive(Clone, Copy)]
struct Held {
    value: f32,
    active: bool,
}

type Snapshot = HashMap<u64, Held>;

/// An entry that a refresh brought into A.
struct Arrival {
    index: u64,
    third: usize,
    /// Its magnitude then over the least in A.
    beyond: f32,
    /// Whether it had been in A before.
    returned: bool,
    /// Whether it went back in the N steps that followed; unknown of what came from C.
    turned: Option<bool>,
    /// Whether it was out again at the next refresh.
    left: Option<bool>,
    /// Whether it is in A at the end.
    stayed: bool,
}

struct Layer {
    /// B after the first step since the last refresh but one, and since the last one.
    before: Snapshot,
    start: Snapshot,
    /// B just before the last refresh, and now.
    last: Snapshot,
    now: Snapshot,
    /// The value with which each entry first came into B.
    first: HashMap<u64, f32>,
    /// Which have been in A.
    known: HashSet<u64>,
    arrivals: Vec<Arrival>,
    /// The first of those that came at the last refresh.
    newest: usize,
}

impl Layer {
    fn new(now: Snapshot) -> Self {
        let first = now.iter().map(|(&index, held)| (index, held.value)).collect();
        let known = now.iter().filter(|(_, held)| held.active).map(|(&index, _)| index).collect();
        let (before, start, last, arrivals) = Default::default();
        Self { before, start, last, now, first, known, arrivals, newest: 0 }
    }

    /// `now` is B just before the next refresh: what came into A at the last one has since been trained in it.
    fn advance(&mut self, now: Snapshot, third: usize) {
        self.last = std::mem::replace(&mut self.now, now);
        let is_active = |held: Option<&Held>| held.is_some_and(|held| held.active);
        for arrival in &mut self.arrivals[self.newest..] {
            arrival.left = Some(!is_active(self.now.get(&arrival.index)));
        }
        self.newest = self.arrivals.len();
        let active = || self.now.iter().filter(|(_, held)| held.active);
        let value_then = |index: u64| self.last.get(&index).map(|held: &Held| held.value);
        let least = active()
            .filter_map(|(index, _)| value_then(*index))
            .fold(f32::INFINITY, |least, value| least.min(value.abs()));
        for (&index, held) in active() {
            if is_active(self.last.get(&index)) {
                continue;
            }
            let then = value_then(index);
            let way = |from: Option<&Held>, to: f32| from.map(|from| to - from.value);
            let explored = self.before.get(&index).filter(|held| !held.active);
            let there = then.and_then(|then| way(explored, then));
            let turned =
                there.zip(way(self.start.get(&index), held.value)).map(|(there, since)| there * since < 0.0);
            let returned = !self.known.insert(index);
            let beyond = then.unwrap_or(held.value).abs() / least;
            self.arrivals.push(Arrival { index, third, beyond, returned, turned, left: None, stayed: false });
        }
        for (&index, held) in &self.now {
            self.first.entry(index).or_insert(held.value);
        }
        for arrival in &mut self.arrivals {
            arrival.stayed = is_active(self.now.get(&arrival.index));
        }
    }

    /// How far each entry of A is from where it began, over that.
    fn moved(&self) -> impl Iterator<Item = f64> {
        let active = self.now.iter().filter(|(_, held)| held.active);
        active.map(|(index, held)| {
            f64::from((held.value - self.first[index]).abs() / self.first[index].abs().max(1e-12))
        })
    }
}

fn advance(layers: &mut [Layer], network: &mut Network, third: usize) {
    for (layer, now) in layers.iter_mut().zip(snapshots(network)) {
        layer.advance(now, third);
    }
}

/// B of every sparse layer.
fn snapshots(network: &mut Network) -> Vec<Snapshot> {
    let of_weight = |weight: &mut topkast::SparseWeight| {
        let active = weight.pattern().active().entries();
        let values = &weight.parameter().values;
        let mut all = Snapshot::with_capacity(values.len());
        weight.pattern().for_each_by_index(|index, entry| {
            all.insert(index, Held { value: values[entry], active: entry < active });
        });
        all
    };
    network.sparse_weights().into_iter().map(of_weight).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
