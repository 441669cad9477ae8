//! Tests of the structure.

use super::*;
use crate::testing::Random;
use proptest::prelude::*;

#[test]
fn each_offence_has_its_error() {
    let new = Csr::new;
    assert_eq!(new(4, vec![], vec![]), Err(CsrError::NoOffsets));
    assert_eq!(new(4, vec![1, 1], vec![0]), Err(CsrError::Offsets { row: 0, entries: 1 }));
    assert_eq!(new(4, vec![0, 2, 1], vec![0, 1]), Err(CsrError::Offsets { row: 1, entries: 2 }));
    assert_eq!(new(4, vec![0, 9], vec![0]), Err(CsrError::Offsets { row: 0, entries: 1 }));
    assert_eq!(new(4, vec![0, 1], vec![0, 1]), Err(CsrError::Offsets { row: 1, entries: 2 }));
    assert_eq!(new(4, vec![0, 1], vec![4]), Err(CsrError::Column { row: 0, column: 4, width: 4 }));
    assert_eq!(new(4, vec![0, 2], vec![2, 1]), Err(CsrError::Order { row: 0, column: 2, next: 1 }));
    assert_eq!(new(4, vec![0, 2], vec![2, 2]), Err(CsrError::Order { row: 0, column: 2, next: 2 }));
}

#[test]
fn columns_widen_past_65536() {
    let csr = Csr::new(1 << 16, vec![0, 1], vec![65535]).unwrap();
    assert!(matches!(csr.columns(), Columns::U16(_)));
    let csr = Csr::new((1 << 16) + 1, vec![0, 1], vec![65536]).unwrap();
    assert!(matches!(csr.columns(), Columns::U32(_)));
    assert_eq!(csr.column(0), 65536);
}

#[test]
fn entries_are_ordered_by_block_then_row_then_column() {
    let row = |step: usize| (0..1000).step_by(step).map(|column| column as u32);
    let columns: Vec<u32> = row(3).chain(row(11)).collect();
    let offsets = vec![0, row(3).len() as u32, row(3).len() as u32, columns.len() as u32];
    let csr = Csr::new(1000, offsets.clone(), columns.clone()).unwrap();
    assert_eq!((csr.block(), csr.blocks(), csr.offsets()), (192, 6, &offsets[..]));
    let mut cells: Vec<_> =
        row(3).map(|column| (0, column)).chain(row(11).map(|column| (2, column))).collect();
    let by_row: Vec<_> = cells.iter().map(|&(row, column)| row * 1000 + u64::from(column)).collect();
    cells.sort_by_key(|&(row, column)| (column / 192, row, column));
    assert!(csr.flat_indices().eq(cells.iter().map(|&(row, column)| row * 1000 + u64::from(column))));
    let flat: Vec<_> = csr.flat_indices().collect();
    assert!(csr.entries_by_row().map(|entry| flat[entry]).eq(by_row));
    assert!(
        csr.row_columns(2).eq(row(11).map(|column| column as usize)) && csr.row_entries(1).next().is_none()
    );
    for (run, ends) in csr.starts().windows(2).enumerate() {
        let run_of = |(row, column): &(u64, u32)| *column as usize / 192 * 3 + *row as usize;
        assert!(cells[ends[0] as usize..ends[1] as usize].iter().all(|cell| run_of(cell) == run));
    }
    assert_eq!(csr.bytes(), 4 * 4 + 2 * columns.len() + 4 * 19);
}

#[test]
fn without_blocks_entries_are_in_row_major_order() {
    for csr in [
        Csr::new(1000, vec![0, 1, 2], vec![900, 5]).unwrap(),
        Csr::new(128, vec![0, 100, 200], (0..100).chain(28..128).collect()).unwrap(),
        Csr::new(1000, vec![0], vec![]).unwrap(),
        Csr::new(0, vec![0; 6], vec![]).unwrap(),
    ] {
        assert_eq!((csr.blocks(), csr.starts()), (1, csr.offsets()));
        assert!(csr.entries_by_row().eq(0..csr.entries()));
        assert!(csr.flat_indices().is_sorted());
    }
}

#[test]
fn transposed_entries_name_theirs_in_the_original() {
    let csr = Random::new(1).csr(700, 900, 0.1);
    let Transposed { csr: turned, order } = csr.transposed();
    assert!(csr.blocks() > 1 && turned.blocks() > 1);
    let original: Vec<_> = csr.flat_indices().map(|index| (index / 900, index % 900)).collect();
    for (index, &entry) in turned.flat_indices().zip(&order) {
        assert_eq!((index % 700, index / 700), original[entry as usize]);
    }
    assert_eq!(turned.transposed().csr, csr);
}

proptest! {
    #[test]
    fn transposing_twice_restores(
        width in 0usize..40,
        cells in prop::collection::btree_set((0usize..20, 0usize..40), 0..200),
    ) {
        let cells: Vec<_> = cells.into_iter().filter(|&(_, column)| column < width).collect();
        let mut offsets = vec![0u32];
        offsets.extend((0..20).map(|row| cells.iter().filter(|cell| cell.0 <= row).count() as u32));
        let csr = Csr::new(width, offsets, cells.iter().map(|cell| cell.1 as u32).collect()).unwrap();
        let once = csr.transposed();
        for column in 0..width {
            let rows: Vec<_> = cells.iter().filter(|cell| cell.1 == column).map(|cell| cell.0).collect();
            prop_assert!(once.csr.row_columns(column).eq(rows));
        }
        for (entry, &original) in once.order.iter().enumerate() {
            prop_assert_eq!(cells[original as usize].0, once.csr.column(entry));
        }
        let twice = once.csr.transposed();
        prop_assert_eq!(twice.csr, csr);
    }
}

#[test]
fn row_major_order_and_back() {
    for (rows, width, density) in [(0, 5, 0.5), (5, 0, 0.5), (7, 30, 0.3), (60, 2000, 0.2), (300, 700, 0.02)]
    {
        let csr = Random::new(9).csr(rows, width, density);
        let by_row: Vec<usize> = csr.entries_by_row().collect();
        let entries: Vec<usize> = (0..csr.entries()).collect();
        let (mut got, mut back) = (entries.clone(), vec![0; csr.entries()]);
        csr.by_row(&entries, &mut got);
        assert_eq!(got, by_row);
        csr.by_entry(&by_row, &mut back);
        assert_eq!(back, entries);
    }
}
