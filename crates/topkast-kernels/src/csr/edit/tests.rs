use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::testing::Random;

type Cells = BTreeSet<(u32, u32)>;

fn cells_of(csr: &Csr) -> Cells {
    csr.cells(0..csr.entries()).map(|cell| (cell.row, cell.column)).collect()
}

fn csr_of(rows: usize, width: usize, cells: &Cells) -> Csr {
    let mut offsets = vec![0u32; rows + 1];
    cells.iter().for_each(|&(row, _)| offsets[row as usize + 1] += 1);
    (0..rows).for_each(|row| offsets[row + 1] += offsets[row]);
    Csr::new(width, offsets, cells.iter().map(|&(_, column)| column).collect()).unwrap()
}

fn cell(&(row, column): &(u32, u32)) -> Cell {
    Cell { row, column }
}

/// Exchanges about `share` of `csr`'s entries for others, and compares with what the new set of cells gives from scratch.
fn check(mut csr: Csr, share: f32, random: &mut Random) {
    let (rows, width) = (csr.rows(), csr.width());
    let mut turned = csr.transposed();
    let mut elements: Vec<_> = csr.cells(0..csr.entries()).collect();
    let before = cells_of(&csr);
    let (mut edit, mut turned_edit, mut numbers) = (CsrEdit::default(), CsrEdit::default(), Vec::new());

    let mut free: Vec<_> = (0..rows as u32)
        .flat_map(|row| (0..width as u32).map(move |column| (row, column)))
        .filter(|cell| !before.contains(cell))
        .collect();
    let mut removed: Vec<_> = before.iter().copied().filter(|_| random.unit() < share).collect();
    removed.truncate(free.len());
    // In no order, as a list of choices may be.
    let (taken, all) = (removed.len(), free.len());
    for at in 0..taken {
        removed.swap(at, (random.unit() * taken as f32) as usize % taken);
        free.swap(at, at + (random.unit() * (all - at) as f32) as usize % (all - at));
    }
    free.truncate(removed.len());

    csr.exchange(removed.iter().map(cell), free.iter().map(cell), &mut edit);
    let (left, entered) = (removed.iter().map(cell), free.iter().map(cell));
    turned.exchange(left, entered, &edit, &mut turned_edit, &mut numbers);
    edit.apply(&mut elements, &free.iter().map(cell).collect::<Vec<_>>());

    let gone: Cells = removed.into_iter().collect();
    let after: Cells = before.difference(&gone).copied().chain(free).collect();
    assert_eq!(csr, csr_of(rows, width, &after));
    assert_eq!(turned, csr.transposed());
    assert!(csr.cells(0..csr.entries()).eq(elements));
}

#[test]
fn nothing_changes_when_nothing_is_exchanged() {
    check(Random::new(1).csr(20, 30, 0.2), 0.0, &mut Random::new(2));
    check(csr_of(0, 5, &Cells::new()), 1.0, &mut Random::new(2));
    check(csr_of(5, 0, &Cells::new()), 1.0, &mut Random::new(2));
}

#[test]
fn wide_columns_follow() {
    let cells: Cells = (0..200).map(|number| (number % 3, number * 400)).collect();
    let mut csr = csr_of(3, 80_000, &cells);
    let mut edit = CsrEdit::default();
    let (removed, inserted) = ([(1, 400), (2, 800)], [(0, 79_999), (0, 1)]);
    csr.exchange(removed.iter().map(cell), inserted.iter().map(cell), &mut edit);
    let after = cells.iter().copied().filter(|cell| !removed.contains(cell)).chain(inserted).collect();
    assert_eq!(csr, csr_of(3, 80_000, &after));
    assert_eq!(edit.inserted().map(|(_, number)| number).collect::<Vec<_>>(), [1, 0]);
}

#[test]
#[should_panic(expected = "is not there")]
fn what_is_there_is_not_inserted() {
    let mut csr = csr_of(2, 5, &Cells::from([(0, 1), (1, 3)]));
    csr.exchange([(0, 1)].iter().map(cell), [(1, 3)].iter().map(cell), &mut CsrEdit::default());
}

#[test]
#[should_panic(expected = "is there")]
fn what_is_not_there_is_not_removed() {
    let mut csr = csr_of(2, 5, &Cells::from([(0, 1), (1, 3)]));
    csr.exchange([(0, 2)].iter().map(cell), [(1, 4)].iter().map(cell), &mut CsrEdit::default());
}

#[test]
#[should_panic(expected = "outside the matrix")]
fn cells_outside_are_refused() {
    let mut csr = csr_of(2, 5, &Cells::from([(0, 1), (1, 3)]));
    csr.exchange([(0, 1)].iter().map(cell), [(0, 5)].iter().map(cell), &mut CsrEdit::default());
}

proptest! {
    #[test]
    fn an_exchange_gives_the_structure_of_the_new_cells(
        rows in 1usize..30, width in 1usize..60, density in 0.0f32..1.0, share in 0.0f32..1.0, seed: u64,
    ) {
        let random = &mut Random::new(seed);
        check(random.csr(rows, width, density * density), share * share, random);
    }

    #[test]
    fn so_it_does_with_several_blocks(
        rows in 1usize..40, width in 300usize..1300, density in 0.02f32..0.3, share in 0.0f32..0.3, seed: u64,
    ) {
        let random = &mut Random::new(seed);
        check(random.csr(rows, width, density), share * share, random);
    }
}

#[test]
#[should_panic(expected = "the edit is of the structure")]
fn an_edit_of_another_structure_does_not_get_into_a_transposed_one() {
    let mut large = Csr::new(9, vec![0, 5], vec![0, 2, 4, 6, 8]).unwrap();
    let mut transposed = Csr::new(3, vec![0, 2], vec![0, 2]).unwrap().transposed();
    let (mut original, mut edit, mut numbers) = (CsrEdit::default(), CsrEdit::default(), Vec::new());
    let cell = |column| std::iter::once(Cell { row: 0, column });
    large.exchange(cell(8), cell(1), &mut original);
    transposed.exchange(cell(0), cell(1), &original, &mut edit, &mut numbers);
}
