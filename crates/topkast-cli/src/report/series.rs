//! Curves of several runs as one.

/// What several runs have at the same place of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) mean: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Point {
    /// Of one point of each run; none without any.
    pub(super) fn of(points: impl Iterator<Item = (f64, f64)>) -> Option<Self> {
        let (mut count, mut x, mut sum) = (0.0, 0.0, 0.0);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for (at, y) in points {
            count += 1.0;
            x += at;
            sum += y;
            low = low.min(y);
            high = high.max(y);
        }
        (count > 0.0).then(|| Self { x: x / count, mean: sum / count, low, high })
    }
}

/// The curves of runs that log at the same steps, as one of at most `most` points: the n-th points of all of them together, then as many
/// neighbours as it takes.
pub(super) fn together(runs: &[Vec<(f64, f64)>], most: usize) -> Vec<Point> {
    let longest = runs.iter().map(Vec::len).max().unwrap_or(0);
    let points: Vec<Point> =
        (0..longest).filter_map(|at| Point::of(runs.iter().filter_map(|run| run.get(at).copied()))).collect();
    thinned(&points, most)
}

fn thinned(points: &[Point], most: usize) -> Vec<Point> {
    let mean =
        |points: &[Point], of: fn(&Point) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    points
        .chunks(points.len().div_ceil(most).max(1))
        .map(|near| Point {
            x: mean(near, |point| point.x),
            mean: mean(near, |point| point.mean),
            low: mean(near, |point| point.low),
            high: mean(near, |point| point.high),
        })
        .collect()
}

/// Each value replaced by the mean of those from two before to two after.
pub(super) fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let near = |at: usize| &points[at.saturating_sub(2)..(at + 3).min(points.len())];
    let mean = |near: &[(f64, f64)]| near.iter().map(|(_, y)| y).sum::<f64>() / near.len() as f64;
    points.iter().enumerate().map(|(at, &(x, _))| (x, mean(near(at)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_one_curve_also_where_one_is_shorter() {
        let runs = [vec![(1.0, 2.0), (2.0, 4.0)], vec![(1.0, 4.0)], vec![]];
        let want = [
            Point { x: 1.0, mean: 3.0, low: 2.0, high: 4.0 },
            Point { x: 2.0, mean: 4.0, low: 4.0, high: 4.0 },
        ];
        assert_eq!(together(&runs, 10), want);
        let thin = together(&runs, 1);
        assert_eq!(thin, [Point { x: 1.5, mean: 3.5, low: 3.0, high: 4.0 }]);
        assert_eq!(together(&[], 10), []);
        let long = [(0..1001).map(|x| (f64::from(x), 1.0)).collect::<Vec<_>>()];
        assert!((150..=200).contains(&together(&long, 200).len()));
    }

    #[test]
    fn smoothing_takes_neighbours_in() {
        let points: Vec<_> = [0.0, 10.0, 0.0, 0.0, 0.0, 0.0].into_iter().map(|y| (1.0, y)).collect();
        let smooth: Vec<f64> = smoothed(&points).into_iter().map(|(_, y)| y).collect();
        assert_eq!(smooth, [10.0 / 3.0, 2.5, 2.0, 2.0, 0.0, 0.0]);
    }
}
