//! A sweep as a drawing (SVG): score against level and against seconds of training, a line for each method.

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
/// A plot's size.
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
    let legend = LINE * plan.sweep.methods.len() as f64;
    let panels = [Panel::against_level(plan, &cells), Panel::against_seconds(&cells, TOP + HEIGHT + BOTTOM)];
    let height = (TOP + legend).max(2.0 * HEIGHT + TOP + BOTTOM) + BOTTOM;
    let width = LEFT + WIDTH + LEGEND;
    let unit = if plan.metric == Metric::Accuracy { " (%)" } else { "" };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n{}",
        text(LEFT, 20.0, "start", &format!("{}: {}{unit}", plan.sweep.title, metric(plan))),
    );
    for panel in &panels {
        svg += &panel.axes(plan);
    }
    for (method, about) in plan.sweep.methods.iter().enumerate() {
        let pen = Pen::of(method);
        let own: Vec<&CellResults> =
            cells.iter().copied().filter(|cell| cell.cell.method == method).collect();
        for panel in &panels {
            svg += &panel.series(&pen, &own);
        }
        let (left, at) = (LEFT + WIDTH + 20.0, TOP + LINE * (method as f64 + 0.5));
        svg += &pen.line(&format!("M{},{at:.1}h20", left - 10.0));
        svg += &pen.mark(left, at);
        svg += &text(left + 16.0, at + 4.0, "start", &about.name);
    }
    Some(svg + "</svg>\n")
}

/// Scores against something.
struct Panel {
    top: f64,
    y: Scale,
    x: Across,
}

enum Across {
    Levels {
        levels: usize,
        methods: usize,
    },
    /// Of training; the middle run's.
    Seconds(Scale),
}

impl Panel {
    fn against_level(plan: &Plan, cells: &[&CellResults]) -> Self {
        let (levels, methods) = (plan.sweep.levels.len(), plan.sweep.methods.len());
        Self { top: TOP, y: scores(cells), x: Across::Levels { levels, methods } }
    }

    fn against_seconds(cells: &[&CellResults], top: f64) -> Self {
        let seconds = Scale::of(cells.iter().filter_map(|cell| seconds(cell)).chain([0.0]));
        Self { top, y: scores(cells), x: Across::Seconds(seconds) }
    }

    fn y(&self, score: f64) -> f64 {
        self.top + (1.0 - self.y.at(score)) * HEIGHT
    }

    /// `None` where a method without levels would be: it is the same at all.
    fn x(&self, cell: &CellResults) -> Option<f64> {
        let at = match &self.x {
            // Methods stand a little beside each other, so that error bars do not hide one another.
            Across::Levels { levels, methods } => {
                let aside = (cell.cell.method as f64 + 0.5) / *methods as f64 - 0.5;
                (cell.cell.level? as f64 + 0.5 + 0.3 * aside) / *levels as f64
            }
            Across::Seconds(scale) => scale.at(seconds(cell)?),
        };
        Some(LEFT + at * WIDTH)
    }

    fn axes(&self, plan: &Plan) -> String {
        let mut svg = String::new();
        for score in self.y.ticks() {
            let (at, right) = (self.y(score), LEFT + WIDTH);
            svg += &format!("<path d=\"M{LEFT},{at:.1}H{right}\" stroke=\"#dddddd\"/>\n");
            svg += &text(LEFT - 6.0, at + 4.0, "end", &shown(plan.metric, score));
        }
        let under = self.top + HEIGHT + 20.0;
        match &self.x {
            Across::Levels { levels, .. } => {
                for (level, about) in plan.sweep.levels.iter().enumerate() {
                    let middle = LEFT + (level as f64 + 0.5) / *levels as f64 * WIDTH;
                    svg += &text(middle, under, "middle", &about.name);
                }
            }
            Across::Seconds(scale) => {
                for tick in scale.ticks() {
                    svg += &text(LEFT + scale.at(tick) * WIDTH, under, "middle", &scale.label(tick));
                }
                svg += &text(LEFT + WIDTH / 2.0, under + 20.0, "middle", "seconds of training");
            }
        }
        svg
    }

    /// A method's means and standard errors.
    fn series(&self, pen: &Pen, cells: &[&CellResults]) -> String {
        let (mut svg, mut line) = (String::new(), String::new());
        for cell in cells {
            let (mean, error) = mean_and_error(cell);
            let at = self.y(mean);
            let Some(x) = self.x(cell) else {
                svg += &pen.line(&format!("M{LEFT},{at:.1}h{WIDTH}"));
                continue;
            };
            line += &format!("{}{x:.1},{at:.1}", if line.is_empty() { 'M' } else { 'L' });
            svg += &pen.line(&format!("M{x:.1},{:.1}V{:.1}", self.y(mean - error), self.y(mean + error)));
            svg += &pen.mark(x, at);
        }
        if line.is_empty() { svg } else { svg + &pen.line(&line) }
    }
}

/// From the least value to the largest, in round steps.
struct Scale {
    low: f64,
    high: f64,
    tick: f64,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let widest = |(low, high): (f64, f64), value| (low.min(value), high.max(value));
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), widest);
        let tick = tick((high - low).max(0.01));
        Self { low: (low / tick).floor() * tick, high: ((high / tick).floor() + 1.0) * tick, tick }
    }

    /// Where `value` lies, from 0 to 1.
    fn at(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let steps = ((self.high - self.low) / self.tick).round() as usize;
        (0..=steps).map(|step| self.low + step as f64 * self.tick)
    }

    fn label(&self, tick: f64) -> String {
        let decimals = (-self.tick.log10().floor()).max(0.0) as usize;
        format!("{tick:.decimals$}")
    }
}

fn scores(cells: &[&CellResults]) -> Scale {
    Scale::of(cells.iter().flat_map(|cell| {
        let (mean, error) = mean_and_error(cell);
        [mean - error, mean + error]
    }))
}

fn seconds(cell: &CellResults) -> Option<f64> {
    cell.median(|summary| Some(summary.seconds))
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
