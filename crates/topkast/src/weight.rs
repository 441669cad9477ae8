//! A sparse weight: pattern, values, and the one path by which its sets change.

use std::sync::Arc;

use thiserror::Error;
use topkast_kernels::Isa;

use crate::init::active_scale;
use crate::pattern::CsrBuilder;
use crate::reservoir::{DenseReservoir, ImplicitReservoir, MappedReservoir, SavedReservoir};
use crate::{
    Counts, Entry, Init, Moments, Optimizer, Parameter, Pattern, PatternError, Remap, Reservoir,
    ReservoirKind, Scale, Seed,
};

mod choice;
mod drop_and_grow;
mod fixed;
mod global;
mod largest;
mod pruning;
mod rebuild;
mod refresh;
mod rigl;
mod set;
mod snip;
mod start;
mod tiles;
mod topology;
mod window;
use choice::Choice;
pub use global::{Changed, Global, random_counts};
pub use largest::Largest;
use refresh::{Refresher, State};
pub use tiles::{DenseGradient, GradientTile};
pub use topology::{Explore, Topology};

/// A weight `[rows × width]` of which only the entries in B are held, see [`Pattern`] for their order.
pub struct SparseWeight {
    pattern: Arc<Pattern>,
    parameter: Parameter,
    topology: Topology,
    counts: Counts,
    /// The forward density of all weights chosen for together, where this is one of them: then |A| and |B| may change.
    together: Option<f64>,
    reservoir: Option<Box<dyn Reservoir>>,
    /// θ⁰, as long as A is still to be given.
    initial: Option<Box<dyn Reservoir>>,
    seed: Seed,
    /// On the heap, for it is large beside what else a layer holds.
    refresher: Box<Refresher>,
}

/// Why the parts of a weight do not fit together.
#[derive(Clone, Debug, Error, PartialEq)]
#[allow(missing_docs)]
pub enum WeightError {
    #[error("{what}: {got} given, {want} expected")]
    Length { what: &'static str, got: usize, want: usize },
    #[error("a {rows}x{width} weight has no entries or too many to index")]
    Shape { rows: usize, width: usize },
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error("dormant entry {index} {problem}")]
    Dormant { index: u64, problem: &'static str },
    #[error("the reservoir is of another kind than this weight's")]
    OtherReservoir,
}

impl SparseWeight {
    /// A fresh weight: θ⁰ as `init` has it, kept as `kind` says; A and B follow from it (or, not top-kast, from the seed). One that
    /// starts later ([`Topology::starts_later`]) has no entries yet, whatever `counts` are, and θ⁰ with the variance of a dense weight.
    ///
    /// # Errors
    /// If the shape is empty or overflows, or `counts` does not fit in it.
    pub fn new(
        rows: usize,
        width: usize,
        counts: Counts,
        topology: Topology,
        init: &Init,
        kind: ReservoirKind,
        seed: Seed,
    ) -> Result<Self, WeightError> {
        let total = checked_total(rows, width, counts)?;
        let active = counts.active;
        if topology.starts_later() {
            let init = Init { scale: Scale::Full, ..*init };
            let theta = ImplicitReservoir::new(rows, width, &init, active, seed.named("theta"))?;
            return Self::from_theta(rows, width, counts, topology, Box::new(theta), seed);
        }
        if !topology.has_reservoir() {
            let choice = Choice::random(total, active, seed, |indices| {
                let deviation = init.deviation(rows, width)
                    * match init.scale {
                        Scale::Active => (total as f64 / active as f64).sqrt(),
                        Scale::Full => 1.0,
                    };
                init.draws(seed.named("theta"), indices.len(), deviation).collect()
            });
            return Self::of(choice, [rows, width], topology, None, seed);
        }
        let reservoir: Box<dyn Reservoir> = match kind {
            ReservoirKind::Implicit => {
                Box::new(ImplicitReservoir::new(rows, width, init, active, seed.named("theta"))?)
            }
            ReservoirKind::Dense => {
                let deviation = init.deviation(rows, width);
                let draws = init.draws(seed.named("theta"), total as usize, deviation);
                let mut reservoir = DenseReservoir::new(draws.collect());
                if init.scale == Scale::Active {
                    let squares = active_squares(&mut reservoir, active);
                    reservoir.scale(active_scale(squares, total, deviation) as f32);
                }
                Box::new(reservoir)
            }
            ReservoirKind::Absent => Box::new(MappedReservoir::without_values(total)),
        };
        Self::from_theta(rows, width, counts, topology, reservoir, seed)
    }

    /// A weight whose θ is given: all of it is in `reservoir`, and A and B are chosen from it, if it does not start later.
    ///
    /// # Errors
    /// If the shape is empty, overflows or is not the reservoir's, or `counts` does not fit in it.
    pub fn from_theta(
        rows: usize,
        width: usize,
        counts: Counts,
        topology: Topology,
        mut reservoir: Box<dyn Reservoir>,
        seed: Seed,
    ) -> Result<Self, WeightError> {
        let total = checked_total(rows, width, counts)?;
        let (got, want) = (reservoir.entries() as usize, total as usize);
        if got != want {
            return Err(WeightError::Length { what: "values", got, want });
        }
        if topology.starts_later() {
            if topology == Topology::Pruning && total > u64::from(u32::MAX) {
                return Err(WeightError::Length {
                    what: "entries, all active at first",
                    got,
                    want: u32::MAX as usize,
                });
            }
            let made = Self::of(Choice::of(Vec::new()), [rows, width], topology, None, seed)?;
            return Ok(Self { initial: Some(reservoir), ..made });
        }
        let Topology::TopKast(explore) = topology else {
            let values = |indices: &[u64]| indices.iter().map(|&index| reservoir.value(index)).collect();
            let choice = Choice::random(total, counts.active, seed, values);
            return Self::of(choice, [rows, width], topology, None, seed);
        };
        let counts = match explore {
            Explore::Magnitude | Explore::Random | Explore::Mixed => counts,
            Explore::None => Counts { backward: counts.active, ..counts },
        };
        let choice = Choice::top_kast(reservoir.as_mut(), total, counts, explore, seed);
        let entered: Vec<u64> = choice.entries().map(|entry| entry.index).collect();
        reservoir.exchange(&[], &entered);
        Self::of(choice, [rows, width], topology, Some(reservoir), seed)
    }

    fn of(
        choice: Choice,
        [rows, width]: [usize; 2],
        topology: Topology,
        reservoir: Option<Box<dyn Reservoir>>,
        seed: Seed,
    ) -> Result<Self, WeightError> {
        let pattern = Arc::new(choice.pattern(rows, width)?);
        let parameter = Parameter::new(choice.values(&pattern));
        let (counts, together, refresher) = (counts_of(&pattern), None, Box::default());
        let initial = None;
        Ok(Self { pattern, parameter, topology, counts, together, reservoir, initial, seed, refresher })
    }

    /// Becomes what a checkpoint holds: sets, values, optimizer state and reservoir of a weight made with the same
    /// arguments, which may not have been started. One chosen for together with others ([`Global`]) takes sets of any size, and one
    /// that starts later any A = B: that sizes are right is for the caller to check.
    ///
    /// # Errors
    /// If the parts do not fit this weight or each other; the weight is then unchanged.
    pub fn restore(
        &mut self,
        pattern: Pattern,
        parameter: Parameter,
        reservoir: Option<SavedReservoir>,
    ) -> Result<(), WeightError> {
        let (rows, width) = (self.pattern.rows(), self.pattern.width());
        let counts = match self.together {
            Some(_) => counts_of(&pattern),
            None if self.topology.starts_later() => {
                let active = pattern.active().entries();
                Counts { active, backward: active }
            }
            None => self.counts,
        };
        let Counts { active, backward } = counts;
        let Moments { first, second, age } = &parameter.moments;
        for (what, got, want) in [
            ("rows", pattern.rows(), rows),
            ("columns", pattern.width(), width),
            ("active entries", pattern.active().entries(), active),
            ("backward entries", pattern.backward_len(), backward),
            ("values", parameter.values.len(), backward),
            ("gradients", parameter.gradient.len(), backward),
            ("first moments", first.len(), if first.is_empty() { 0 } else { backward }),
            ("second moments", second.len(), if second.is_empty() { 0 } else { backward }),
            ("ages", age.len(), second.len()),
        ] {
            if got != want {
                return Err(WeightError::Length { what, got, want });
            }
        }
        let reservoir = match (&self.reservoir, reservoir) {
            (Some(own), Some(saved)) => {
                let mut backward = Vec::with_capacity(pattern.backward_len());
                pattern.for_each_by_index(|index, _| backward.push(index));
                Some(own.restored(saved, &backward)?)
            }
            (None, None) => None,
            _ => return Err(WeightError::OtherReservoir),
        };
        self.pattern = Arc::new(pattern);
        self.counts = counts;
        self.parameter = parameter;
        self.reservoir = reservoir;
        self.initial = None;
        *self.refresher = Refresher::default();
        Ok(())
    }

    /// Where the entries are.
    pub fn pattern(&self) -> &Arc<Pattern> {
        &self.pattern
    }

    /// Values, gradient and optimizer state, in the pattern's order.
    pub fn parameter(&self) -> &Parameter {
        &self.parameter
    }

    /// As [`parameter`](Self::parameter); lengths must stay as they are.
    pub fn parameter_mut(&mut self) -> &mut Parameter {
        &mut self.parameter
    }

    /// α: the values of A, what the network computes with (paper §2.1, eq. 1).
    pub fn active_values(&self) -> &[f32] {
        &self.parameter.values[..self.counts.active]
    }

    /// What decides A and B.
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// |A| and |B|.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Where C is kept; only top-kast has a C that could return.
    pub fn reservoir(&self) -> Option<&dyn Reservoir> {
        self.reservoir.as_deref()
    }

    /// D, the forward density; that of all weights together where they are chosen for together.
    pub fn density(&self) -> f64 {
        self.together.unwrap_or_else(|| self.counts.active as f64 / self.pattern.total() as f64)
    }

    /// Bytes of values, gradient, optimizer state and indices, without the reservoir.
    pub fn training_bytes(&self) -> usize {
        self.parameter.bytes() + self.pattern.bytes()
    }

    /// One optimizer step: A with the penalty λ, B∖A with λ/D (paper §2.3) unless `explore` is false, which leaves
    /// B∖A as it is. Returns whether what it wrote is finite: it is not where the gradient was not.
    pub fn update(
        &mut self,
        optimizer: &Optimizer,
        isa: Isa,
        lr: f32,
        gradient_scale: f32,
        explore: bool,
    ) -> bool {
        let Counts { active, backward } = self.counts;
        // A weight that had no entries had no state either.
        optimizer.prepare(&mut self.parameter);
        let penalty = optimizer.penalty();
        let mut finite = optimizer.update(isa, lr, gradient_scale, &mut self.parameter, 0..active, penalty);
        if explore && backward > active {
            let penalty = (f64::from(penalty) / self.density()) as f32;
            finite &=
                optimizer.update(isa, lr, gradient_scale, &mut self.parameter, active..backward, penalty);
        }
        finite
    }

    /// Chooses A and B again from θ (paper §2.1): the only way they change under top-kast, unless by [`Global`]. |A| and |B| stay; values
    /// stay with their entries; optimizer state follows them, is dropped where an entry leaves B, and is zero where one
    /// enters. The gradient is of no use until the next backward pass.
    ///
    /// `step` tells random draws of different refreshes apart. Under another topology the weight is left as it is and returns `None`.
    pub fn refresh(&mut self, step: u64) -> Option<&Remap> {
        let Self { pattern, parameter, reservoir, refresher, .. } = self;
        let (Topology::TopKast(explore), Some(reservoir)) = (self.topology, reservoir) else {
            return None;
        };
        let mut state = State { pattern, values: &parameter.values, reservoir: reservoir.as_mut() };
        refresher.choose(&mut state, explore, self.seed.numbered(step));
        Some(refresher.apply(pattern, parameter, Some(reservoir.as_mut())))
    }

    /// Makes the changes that the refresher lists, whatever sizes they lead to.
    fn make_changes(&mut self) -> Changed {
        let Self { pattern, parameter, reservoir, refresher, .. } = self;
        let (changes, reservoir) =
            (&refresher.changes, reservoir.as_mut().expect("changes need a reservoir"));
        let changed = Changed {
            newly_active: changes.newly_active() as u64,
            entered: changes.entered().count() as u64,
        };
        refresher.apply_any(pattern, parameter, Some(reservoir.as_mut()));
        self.counts = counts_of(&self.pattern);
        changed
    }
}

impl std::fmt::Debug for SparseWeight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SparseWeight")
            .field("rows", &self.pattern.rows())
            .field("width", &self.pattern.width())
            .field("topology", &self.topology)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

fn counts_of(pattern: &Pattern) -> Counts {
    Counts { active: pattern.active().entries(), backward: pattern.backward_len() }
}

fn checked_total(rows: usize, width: usize, counts: Counts) -> Result<u64, WeightError> {
    let total = rows
        .checked_mul(width)
        .filter(|&total| total > 0 && rows < u32::MAX as usize && width < u32::MAX as usize)
        .ok_or(WeightError::Shape { rows, width })? as u64;
    if counts.active as u64 > total || counts.backward as u64 > total || counts.active > counts.backward {
        return Err(WeightError::Length { what: "backward set", got: counts.backward, want: total as usize });
    }
    Ok(total)
}

fn active_squares(reservoir: &mut DenseReservoir, active: usize) -> f64 {
    let mut chosen = reservoir.head(active)[..active].to_vec();
    // In the order of θ, so that the sum is the same however the largest are found.
    chosen.sort_unstable_by_key(|entry| entry.index);
    chosen.iter().map(|entry| f64::from(entry.value).powi(2)).sum()
}
