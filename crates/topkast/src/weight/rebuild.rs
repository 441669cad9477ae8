//! A weight whose sets change size: structure, values and optimizer state made anew.

use topkast_kernels::{Buffer, Csr};

use crate::changes::{Changes, Leaver};
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

/// The pattern that `changes` lead to, and what then has one element for each of its entries: moments follow their entry and
/// are zero where one enters.
pub(super) fn rebuilt(pattern: &Pattern, parameter: &Parameter, changes: &Changes) -> (Pattern, Parameter) {
    let mut goes = vec![false; pattern.backward_len()];
    let leavers = changes.from_active.iter().chain(&changes.from_explore);
    leavers.for_each(|leaver| goes[leaver.entry as usize] = true);
    let (of_active, of_explore) = goes.split_at(pattern.active().entries());
    let comes = |leavers: &mut dyn Iterator<Item = &Leaver>, entered: &[Entry]| {
        let mut comes: Vec<(u64, Source)> =
            leavers.map(|leaver| (pattern.index(leaver.cell), Source::Old(leaver.entry))).collect();
        comes.extend(entered.iter().map(|entry| (entry.index, Source::New(entry.value))));
        comes.sort_unstable_by_key(|&(index, _)| index);
        comes
    };
    let ((active, mut sources), (explore, more)) = rayon::join(
        || set(pattern.active(), 0, of_active, comes(&mut changes.promoted(), &changes.into_active)),
        || {
            let comes = comes(&mut changes.demoted(), &changes.into_explore);
            set(pattern.explore(), of_active.len(), of_explore, comes)
        },
    );
    let new =
        Pattern::new(active, explore).expect("no entry is in both, nor are there more than before in all");
    sources.extend(more);
    let by_row = sources.clone();
    new.entries_by_row().zip(by_row).for_each(|(entry, source)| sources[entry] = source);
    (new, gathered(parameter, &sources))
}

/// A or B∖A, the first entry of which had the number `first`, without what `goes` and with what `comes`; and where its entries
/// come from, row by row.
fn set(old: &Csr, first: usize, goes: &[bool], comes: Vec<(u64, Source)>) -> (Csr, Vec<Source>) {
    let most = old.entries() + comes.len();
    let mut builder = CsrBuilder::new(old.rows(), old.width(), most);
    let mut sources = Vec::with_capacity(most);
    let mut push = |(index, source)| {
        builder.push(index);
        sources.push(source);
    };
    let mut comes = comes.into_iter().peekable();
    for row in 0..old.rows() {
        for entry in old.row_entries(row) {
            let index = row as u64 * old.width() as u64 + old.column(entry) as u64;
            while let Some(new) = comes.next_if(|&(other, _)| other < index) {
                push(new);
            }
            if !goes[entry] {
                push((index, Source::Old((first + entry) as u32)));
            }
        }
    }
    comes.for_each(push);
    (builder.finish().expect("indices ascend, and are of this weight"), sources)
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
