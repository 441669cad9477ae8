//! One selection over several weights (the paper's footnote 1): A is the largest entries of all of them together.
//!
//! ```text
//! number   every entry has one, layer after layer, so that ties go to the earlier layer, then to the lower flat index
//! floor    the largest magnitude of any C: entries of B above it stay in B, and outrank all of C
//! cut      the last of the k largest: among what is above the floor, or else among the rest of B and the heads of the
//!          reservoirs, each of which is asked for more until it ends below the cut
//! layers   each finds by itself what the cuts change, so its sizes follow
//! ```

use rayon::prelude::*;

use super::choice::{outside, with_drawn};
use super::refresh::{Cuts, State, first};
use super::*;
use crate::selection::{Cut, NO_MAGNITUDE, magnitude};

/// Chooses A and B of several weights together: |A| and |B| are exact in total, and any one weight may have none.
///
/// A weight chosen for in this way is refreshed here and no longer by [`SparseWeight::refresh`].
#[derive(Debug)]
pub struct Global {
    counts: Counts,
    explore: Explore,
    seed: Seed,
    scratch: Scratch,
}

/// What a selection changed in all weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// How many entries came into A.
    pub newly_active: u64,
    /// How many entries came into B.
    pub entered: u64,
}

/// Lists that a selection fills and the next one reuses.
#[derive(Debug, Default)]
struct Scratch {
    low: Vec<u32>,
    magnitudes: Vec<u32>,
    numbers: Vec<u64>,
}

impl Global {
    /// Will choose `counts` entries in all, with random draws from `seed`.
    pub fn new(counts: Counts, explore: Explore, seed: Seed) -> Self {
        let backward = if explore == Explore::None { counts.active } else { counts.backward };
        Self { counts: Counts { backward, ..counts }, explore, seed, scratch: Scratch::default() }
    }

    /// Chooses for the first time: `weights` are new ones with no entries in B, each with its θ⁰ in its reservoir.
    ///
    /// # Errors
    /// If they have fewer entries than are to be chosen, or more than can be counted.
    ///
    /// # Panics
    /// If a weight has no reservoir.
    pub fn start(&mut self, weights: &mut [&mut SparseWeight]) -> Result<(), WeightError> {
        let sum = |sum: u64, weight: &&mut SparseWeight| sum.checked_add(weight.pattern.total());
        let total = weights.iter().try_fold(0, sum).unwrap_or(0);
        let Counts { active, backward } = self.counts;
        if backward as u64 > total.min(u64::from(u32::MAX)) || active > backward {
            return Err(WeightError::Length { what: "backward set", got: backward, want: total as usize });
        }
        // The penalty on B∖A is then the same in all of them, and finite where A is empty.
        weights.iter_mut().for_each(|weight| weight.together = Some(active as f64 / total as f64));
        self.choose(weights, self.seed);
        Ok(())
    }

    /// Chooses A and B of the same weights, in the same order, again, as [`SparseWeight::refresh`] does for one.
    ///
    /// # Panics
    /// If a weight has no reservoir, or together they have fewer entries than are to be chosen.
    pub fn refresh(&mut self, weights: &mut [&mut SparseWeight], step: u64) -> Changed {
        self.choose(weights, self.seed.numbered(step))
    }

    fn choose(&mut self, weights: &mut [&mut SparseWeight], seed: Seed) -> Changed {
        let mut layers = Layer::all(weights);
        let Counts { active, backward } = self.counts;
        let floor = layers.iter_mut().map(Layer::floor).max().unwrap_or(0);
        // First the one that asks more of the reservoirs.
        let near = active + self.explore.nearest(backward - active);
        let near_cut = self.scratch.cut(&mut layers, floor, near);
        let cut = if near == active { near_cut } else { self.scratch.cut(&mut layers, floor, active) };
        if near < backward {
            draw(&mut layers, cut, near_cut, backward, seed.named("explore"));
        } else {
            let cuts = Cuts { active: cut, backward: near_cut };
            layers.par_iter_mut().for_each(|layer| layer.list(cuts));
        }
        let changed = layers.into_par_iter().map(|layer| layer.weight.make_changes());
        changed.reduce(Changed::default, Changed::and)
    }
}

impl Changed {
    fn and(self, other: Self) -> Self {
        Self { newly_active: self.newly_active + other.newly_active, entered: self.entered + other.entered }
    }
}

/// How many of `count` entries, drawn at random from all that weights of these sizes have together, each weight gets.
///
/// # Panics
/// If they have fewer.
pub fn random_counts(sizes: &[u64], count: usize, seed: Seed) -> Vec<usize> {
    let drawn = outside(&[], sizes.iter().sum(), count, seed);
    let mut start = 0;
    let of_one = |&size: &u64| {
        let own = within(&drawn, start, size).len();
        start += size;
        own
    };
    sizes.iter().map(of_one).collect()
}

/// Those of the ascending `numbers` that belong to the `size` entries from `start` on.
fn within(numbers: &[u64], start: u64, size: u64) -> &[u64] {
    let [from, to] = [start, start + size].map(|end| numbers.partition_point(|&number| number < end));
    &numbers[from..to]
}

/// A weight among those chosen for together.
struct Layer<'a> {
    weight: &'a mut SparseWeight,
    /// The number of its first entry.
    start: u64,
    /// How many first of its C are looked at.
    asked: usize,
}

impl<'a> Layer<'a> {
    fn all(weights: &'a mut [&mut SparseWeight]) -> Vec<Self> {
        let mut next = 0;
        let layer = |weight: &'a mut &mut SparseWeight| {
            let start = next;
            next += weight.pattern.total();
            weight.refresher.changes.clear();
            Self { weight, start, asked: 1 }
        };
        weights.iter_mut().map(layer).collect()
    }

    fn parts(&mut self) -> (State<'_>, &mut Refresher) {
        let SparseWeight { pattern, parameter, reservoir, refresher, .. } = &mut *self.weight;
        let reservoir = reservoir.as_deref_mut().expect("only weights with a reservoir are chosen for");
        (State { pattern, values: &parameter.values, reservoir }, refresher)
    }

    /// The magnitudes of B.
    fn magnitudes(&self) -> impl Iterator<Item = u32> {
        self.weight.parameter.values.iter().map(|&value| magnitude(value))
    }

    /// The first of C, as many as are looked at or all.
    fn head(&mut self) -> &[Entry] {
        let asked = self.asked;
        first(self.parts().0.reservoir.head(asked), asked)
    }

    /// Above all of C.
    fn floor(&mut self) -> u32 {
        self.head().first().map_or(0, |entry| magnitude(entry.value) + 1)
    }

    /// Looks at more of C if more of it may be within `cut` and among the first `most`; returns whether.
    fn grow(&mut self, cut: u32, most: usize) -> bool {
        let asked = self.asked;
        let head = self.head();
        let ends = head.len() < asked || head.last().is_some_and(|entry| magnitude(entry.value) < cut);
        if ends || asked >= most {
            return false;
        }
        self.asked = (2 * asked).min(most);
        true
    }

    /// Appends the numbers of all that is looked at and has this magnitude.
    fn list_tied(&mut self, tied: u32, numbers: &mut Vec<u64>) {
        let start = self.start;
        let pattern = &self.weight.pattern;
        let entries = self.magnitudes().enumerate().filter(|&(_, magnitude)| magnitude == tied);
        // `cells` walks them twice.
        let entries: Vec<usize> = entries.map(|(entry, _)| entry).collect();
        numbers.extend(pattern.cells(entries.iter().copied()).map(|cell| start + pattern.index(cell)));
        let head = self.head().iter().filter(|entry| magnitude(entry.value) == tied);
        numbers.extend(head.map(|entry| start + entry.index));
    }

    /// Lists what changes in this weight.
    fn list(&mut self, cuts: Cuts) {
        let (start, asked) = (self.start, self.asked);
        let (mut state, refresher) = self.parts();
        refresher.list_by(&mut state, cuts.counted_from(start), asked);
    }

    /// The numbers of what `cut` takes, ascending.
    fn taken(&mut self, cut: Cut) -> Vec<u64> {
        let (start, asked) = (self.start, self.asked);
        let mut taken = self.parts().0.taken(cut.counted_from(start), asked);
        taken.iter_mut().for_each(|index| *index += start);
        taken
    }

    /// Lists what changes where B becomes these numbers of all layers, and A those of them that `active` takes.
    fn list_backward(&mut self, active: Cut, backward: &[u64]) {
        let start = self.start;
        let own = within(backward, start, self.weight.pattern.total()).iter().map(|number| number - start);
        let asked = self.asked;
        let (mut state, refresher) = self.parts();
        refresher.list_backward(&mut state, active.counted_from(start), asked, own);
    }
}

/// Lists what changes where B is the `count` entries that `near` takes or that are drawn at random besides.
fn draw(layers: &mut [Layer<'_>], active: Cut, near: Cut, count: usize, seed: Seed) {
    let total = layers.iter().map(|layer| layer.weight.pattern.total()).sum();
    let taken: Vec<Vec<u64>> = layers.par_iter_mut().map(|layer| layer.taken(near)).collect();
    let backward = with_drawn(taken.concat(), total, count, seed);
    layers.par_iter_mut().for_each(|layer| layer.list_backward(active, &backward));
}

impl Scratch {
    /// The cut that takes the `k` largest entries of all layers, by number; no C reaches beyond what its layer then looks
    /// at. All of C is below `floor`.
    fn cut(&mut self, layers: &mut [Layer<'_>], floor: u32, k: usize) -> Cut {
        if k == 0 {
            return Cut::from(NO_MAGNITUDE);
        }
        let Self { low, magnitudes, numbers } = self;
        low.clear();
        magnitudes.clear();
        for magnitude in layers.iter().flat_map(Layer::magnitudes) {
            (if magnitude < floor { &mut *low } else { &mut *magnitudes }).push(magnitude);
        }
        let mut wanted = k;
        if k > magnitudes.len() {
            wanted -= magnitudes.len();
            // Far fewer come from C than may, and no layer is likely to give them all.
            let share = wanted / (8 * layers.len()) + 1;
            layers.iter_mut().for_each(|layer| layer.asked = layer.asked.max(share));
            refill(magnitudes, low, layers);
        }
        loop {
            let cut = (magnitudes.len() >= wanted).then(|| {
                Cut::of(magnitudes, wanted, numbers, |tied, numbers| {
                    layers.iter_mut().for_each(|layer| layer.list_tied(tied, numbers));
                })
            });
            let lowest = cut.map_or(0, |cut| cut.magnitude);
            let mut grown = false;
            layers.iter_mut().for_each(|layer| grown |= layer.grow(lowest, k));
            if !grown {
                return cut.expect("there are at least as many entries as are to be chosen");
            }
            refill(magnitudes, low, layers);
        }
    }
}

/// Lists what may be chosen below the floor: what is there of B, and what is looked at of C.
fn refill(magnitudes: &mut Vec<u32>, low: &[u32], layers: &mut [Layer<'_>]) {
    magnitudes.clear();
    magnitudes.extend_from_slice(low);
    for layer in layers {
        magnitudes.extend(layer.head().iter().map(|entry| magnitude(entry.value)));
    }
}
