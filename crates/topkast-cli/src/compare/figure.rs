//! A sweep as a drawing (SVG): score against level, a line for each method.

use topkast_train::Metric;

use super::plan::Plan;
use super::results::CellResults;
use super::tables::{metric, shown};

/// Colours that the colour-blind tell apart (Okabe and Ito 2008); marks differ as well.
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"];
/// Paths around the origin: circle, square, triangle, diamond, cross. Five and seven have no common factor, so that 35 methods
/// have pairs of their own.
const MARKS: [&str; 5] = [
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0",
    "M-4,-4h8v8h-8z",
    "M0,-5l5,9h-10z",
    "M0,-5l5,5l-5,5l-5,-5z",
    "M-4,-4l8,8M-4,4l8,-8",
];
/// The plot's size.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 360.0;
/// What is around it: numbers, title, levels, and names of methods, a line each.
const LEFT: f64 = 60.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const LEGEND: f64 = 330.0;
const LINE: f64 = 18.0;

/// The drawing; `None` where no method with levels has results. Cells with at most half as many runs as others are left out.
pub(super) fn figure(plan: &Plan, results: &[CellResults]) -> Option<String> {
    // Of a cell most of whose runs failed, what is left says little, and may be so far off that it hides all others.
    let most = results.iter().map(|cell| cell.scores.n()).max().unwrap_or(0);
    let drawn = |cell: &&CellResults| cell.scores.n() * 2 > most;
    let cells: Vec<&CellResults> = results.iter().filter(drawn).collect();
    cells.iter().find(|cell| cell.cell.level.is_some())?;
    let axes = Axes::new(plan, &cells);
    let height = TOP + BOTTOM + HEIGHT.max(LINE * plan.sweep.methods.len() as f64);
    let width = LEFT + WIDTH + LEGEND;
    let unit = if plan.metric == Metric::Accuracy { " (%)" } else { "" };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n{}{}",
        text(LEFT, 20.0, "start", &format!("{}: {}{unit}", plan.sweep.title, metric(plan))),
        axes.draw(plan)
    );
    for (method, about) in plan.sweep.methods.iter().enumerate() {
        let pen = Pen::of(method);
        let own = cells.iter().filter(|cell| cell.cell.method == method);
        svg += &axes.series(&pen, own);
        let (left, at) = (LEFT + WIDTH + 20.0, TOP + LINE * (method as f64 + 0.5));
        svg += &pen.line(&format!("M{},{at:.1}h20", left - 10.0));
        svg += &pen.mark(left, at);
        svg += &text(left + 16.0, at + 4.0, "start", &about.name);
    }
    Some(svg + "</svg>\n")
}

/// Where what is drawn.
struct Axes {
    low: f64,
    high: f64,
    tick: f64,
    levels: usize,
    methods: usize,
}

impl Axes {
    fn new(plan: &Plan, cells: &[&CellResults]) -> Self {
        let ends = cells.iter().flat_map(|cell| {
            let (mean, error) = mean_and_error(cell);
            [mean - error, mean + error]
        });
        let widest = |(low, high): (f64, f64), end| (low.min(end), high.max(end));
        let (low, high) = ends.fold((f64::INFINITY, f64::NEG_INFINITY), widest);
        let tick = tick((high - low).max(0.01));
        let (low, high) = ((low / tick).floor() * tick, ((high / tick).floor() + 1.0) * tick);
        Self { low, high, tick, levels: plan.sweep.levels.len(), methods: plan.sweep.methods.len() }
    }

    fn y(&self, score: f64) -> f64 {
        TOP + (self.high - score) / (self.high - self.low) * HEIGHT
    }

    /// Methods stand a little beside each other, so that error bars do not hide one another; `None` is the middle.
    fn x(&self, level: usize, method: Option<usize>) -> f64 {
        let aside = method.map_or(0.0, |method| (method as f64 + 0.5) / self.methods as f64 - 0.5);
        LEFT + (level as f64 + 0.5 + 0.3 * aside) / self.levels as f64 * WIDTH
    }

    fn draw(&self, plan: &Plan) -> String {
        let mut svg = String::new();
        for number in 0..=((self.high - self.low) / self.tick).round() as usize {
            let score = self.low + number as f64 * self.tick;
            let (at, right) = (self.y(score), LEFT + WIDTH);
            svg += &format!("<path d=\"M{LEFT},{at:.1}H{right}\" stroke=\"#dddddd\"/>\n");
            svg += &text(LEFT - 6.0, at + 4.0, "end", &shown(plan.metric, score));
        }
        for (level, about) in plan.sweep.levels.iter().enumerate() {
            svg += &text(self.x(level, None), TOP + HEIGHT + 20.0, "middle", &about.name);
        }
        svg
    }

    /// A method's means and standard errors. Without levels it is the same everywhere.
    fn series<'a>(&self, pen: &Pen, cells: impl Iterator<Item = &'a &'a CellResults>) -> String {
        let (mut svg, mut line) = (String::new(), String::new());
        for cell in cells {
            let (mean, error) = mean_and_error(cell);
            let at = self.y(mean);
            let Some(level) = cell.cell.level else {
                svg += &pen.line(&format!("M{LEFT},{at:.1}h{WIDTH}"));
                continue;
            };
            let x = self.x(level, Some(cell.cell.method));
            line += &format!("{}{x:.1},{at:.1}", if line.is_empty() { 'M' } else { 'L' });
            svg += &pen.line(&format!("M{x:.1},{:.1}V{:.1}", self.y(mean - error), self.y(mean + error)));
            svg += &pen.mark(x, at);
        }
        if line.is_empty() { svg } else { svg + &pen.line(&line) }
    }
}

/// What a method is drawn with.
struct Pen {
    colour: &'static str,
    mark: &'static str,
}

impl Pen {
    fn of(method: usize) -> Self {
        Self { colour: COLOURS[method % COLOURS.len()], mark: MARKS[method % MARKS.len()] }
    }

    fn line(&self, d: &str) -> String {
        format!("<path d=\"{d}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>\n", self.colour)
    }

    fn mark(&self, x: f64, y: f64) -> String {
        let Self { colour, mark } = self;
        format!(
            "<path transform=\"translate({x:.1},{y:.1})\" d=\"{mark}\" fill=\"{colour}\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n"
        )
    }
}

fn text(x: f64, y: f64, anchor: &str, what: &str) -> String {
    let what = what.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{what}</text>\n")
}

fn mean_and_error(cell: &CellResults) -> (f64, f64) {
    let mean = cell.scores.mean().expect("a cell with results");
    (mean, cell.scores.standard_error().unwrap_or(0.0))
}

/// A round distance, so that four to ten of them make up `range`.
fn tick(range: f64) -> f64 {
    let power = 10f64.powf((range / 4.0).log10().floor());
    let fits = [5.0, 2.0, 1.0].into_iter().find(|factor| factor * power * 4.0 <= range);
    fits.unwrap_or(1.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        for (range, expected) in
            [(1.0, 0.2), (0.9, 0.2), (4.0, 1.0), (7.9, 1.0), (8.0, 2.0), (30.0, 5.0), (0.05, 0.01)]
        {
            assert!((tick(range) - expected).abs() < 1e-12, "{range}: {}", tick(range));
        }
    }
}
