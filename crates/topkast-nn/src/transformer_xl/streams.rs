//! Columns of several streams of text side by side: position p is `stream · length + time`.

use rayon::prelude::*;
use topkast_kernels::Matrix;

/// Rows of one task.
const ROWS: usize = 16;

/// `joined` becomes, stream by stream, the columns of `before` and then those of `x`.
pub(super) fn join(streams: usize, before: &Matrix, x: &Matrix, joined: &mut Matrix) {
    joined.ensure(x.features(), before.positions() + x.positions());
    let (earlier, own) = (before.positions() / streams, x.positions() / streams);
    for_each_row(joined, |feature, row| {
        let (before, x) = (before.row(feature), x.row(feature));
        for (stream, columns) in row.chunks_exact_mut(earlier + own).enumerate() {
            columns[..earlier].copy_from_slice(&before[stream * earlier..][..earlier]);
            columns[earlier..].copy_from_slice(&x[stream * own..][..own]);
        }
    });
}

/// `last` becomes, stream by stream, the last `count` columns of `x`.
pub(super) fn last_columns(streams: usize, x: &Matrix, count: usize, last: &mut Matrix) {
    last.ensure(x.features(), streams * count);
    let length = x.positions() / streams;
    for_each_row(last, |feature, row| {
        let columns = x.row(feature).chunks_exact(length);
        for (last, columns) in row.chunks_exact_mut(count).zip(columns) {
            last.copy_from_slice(&columns[length - count..]);
        }
    });
}

/// Calls `write` with the number of each row and the row, which is not empty.
fn for_each_row(matrix: &mut Matrix, write: impl Fn(usize, &mut [f32]) + Sync) {
    if matrix.positions() == 0 {
        return;
    }
    matrix.par_row_blocks_mut(ROWS).enumerate().for_each(|(block, mut rows)| {
        (0..rows.features()).for_each(|row| write(block * ROWS + row, rows.row_mut(row)));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_columns_end_in_those_of_x() {
        for (streams, earlier, own) in [(1, 0, 1), (2, 3, 5), (3, 7, 1), (2, 4, 0), (2, 0, 0)] {
            let numbered = |first: usize, length: usize| {
                let values: Vec<f32> = (0..20 * streams * length).map(|at| (first + at) as f32).collect();
                Matrix::from_rows(20, streams * length, &values)
            };
            let (before, x) = (numbered(0, earlier), numbered(10_000, own));
            let (mut joined, mut last) = (Matrix::default(), Matrix::default());
            join(streams, &before, &x, &mut joined);
            for stream in 0..streams {
                for time in 0..earlier + own {
                    let want = |feature| match time.checked_sub(earlier) {
                        None => before.get(feature, stream * earlier + time),
                        Some(time) => x.get(feature, stream * own + time),
                    };
                    let at = stream * (earlier + own) + time;
                    assert!((0..20).all(|feature| joined.get(feature, at) == want(feature)));
                }
            }
            last_columns(streams, &joined, own, &mut last);
            assert_eq!(last, x);
        }
    }
}
