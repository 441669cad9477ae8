//! A weight whose sets change size: structure, values and optimizer state made anew, in one walk over B.

use std::iter::Peekable;
use std::slice;

use topkast_kernels::Buffer;

use crate::changes::Changes;
use crate::pattern::CsrBuilder;
use crate::{Entry, Moments, Parameter, Pattern};

/// Where an entry of the new B comes from.
#[derive(Clone, Copy)]
enum Source {
    /// The number it had.
    Old(u32),
    /// C, where it had this value.
    New(f32),
}

/// A or B∖A in the making, row by row.
struct Part<'a> {
    builder: CsrBuilder,
    sources: Vec<Source>,
    /// What comes from C.
    entering: Peekable<slice::Iter<'a, Entry>>,
}

impl<'a> Part<'a> {
    fn of(pattern: &Pattern, entering: &'a mut [Entry]) -> Self {
        entering.sort_unstable_by_key(|entry| entry.index);
        let builder = CsrBuilder::new(pattern.rows(), pattern.width(), entering.len());
        Self { builder, sources: Vec::new(), entering: entering.iter().peekable() }
    }

    fn push(&mut self, index: u64, source: Source) {
        self.builder.push(index);
        self.sources.push(source);
    }

    /// Takes in what comes from C and is before `end`.
    fn enter_before(&mut self, end: u64) {
        while let Some(entry) = self.entering.next_if(|entry| entry.index < end) {
            self.push(entry.index, Source::New(entry.value));
        }
    }
}

/// The pattern that `changes` lead to, and what then has one element for each of its entries: moments follow their entry and are
/// zero where one enters. Of `changes` only the order is changed.
pub(super) fn rebuilt(
    pattern: &Pattern,
    parameter: &Parameter,
    changes: &mut Changes,
) -> (Pattern, Parameter) {
    let fates = fates(pattern, changes);
    let mut parts = [&mut changes.into_active, &mut changes.into_explore].map(|from| Part::of(pattern, from));
    pattern.for_each_by_index(|index, entry| {
        parts.iter_mut().for_each(|part| part.enter_before(index));
        if let Some(part) = fates[entry] {
            parts[part as usize].push(index, Source::Old(entry as u32));
        }
    });
    let mut sources = Vec::with_capacity(parts.iter().map(|part| part.sources.len()).sum());
    let [active, explore] = parts.map(|mut part| {
        part.enter_before(u64::MAX);
        sources.append(&mut part.sources);
        part.builder.finish().expect("indices ascend, and are of this weight")
    });
    let new =
        Pattern::new(active, explore).expect("no entry is in both, nor are there more than before in all");
    let by_row = sources.clone();
    new.entries_by_row().zip(by_row).for_each(|(entry, source)| sources[entry] = source);
    (new, gathered(parameter, &sources))
}

/// Where each entry of B goes: to A (`0`), to B∖A (`1`), or to C.
fn fates(pattern: &Pattern, changes: &Changes) -> Vec<Option<u8>> {
    let mut fates = vec![Some(0); pattern.active().entries()];
    fates.resize(pattern.backward_len(), Some(1));
    for (leavers, other) in [(&changes.from_active, 1), (&changes.from_explore, 0)] {
        leavers.iter().for_each(|leaver| fates[leaver.entry as usize] = leaver.stays.then_some(other));
    }
    fates
}

/// The parameter with one element from each of `sources`.
fn gathered(parameter: &Parameter, sources: &[Source]) -> Parameter {
    fn gather<T: Copy>(old: &[T], sources: &[Source], new: impl Fn(f32) -> T, slots: &mut [T]) {
        for (slot, source) in slots.iter_mut().zip(sources) {
            *slot = match *source {
                Source::Old(entry) => old[entry as usize],
                Source::New(value) => new(value),
            };
        }
    }
    let Parameter { values: old, moments: Moments { first, second, age }, .. } = parameter;
    let mut values = Buffer::zeros(sources.len());
    gather(old, sources, |value| value, &mut values);
    let mut made = Parameter::new(values);
    for (old, new) in [(first, &mut made.moments.first), (second, &mut made.moments.second)] {
        // What the optimizer does not use, or has not used of a weight that was empty, stays empty.
        if !old.is_empty() {
            new.reset(sources.len());
            gather(old, sources, |_| 0.0, new);
        }
    }
    if !age.is_empty() {
        made.moments.age.resize(sources.len(), 0);
        gather(age, sources, |_| 0, &mut made.moments.age);
    }
    made
}
