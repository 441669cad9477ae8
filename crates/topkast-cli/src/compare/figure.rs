//! A sweep as a drawing (SVG): accuracy against level, a line for each method.

use super::plan::Plan;
use super::results::CellResults;
use super::tables::metric;

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

/// The drawing; `None` where no method with levels has results.
pub(super) fn figure(plan: &Plan, results: &[CellResults]) -> Option<String> {
    let drawn = |cell: &&CellResults| cell.accuracy.n() > 0;
    if !results.iter().filter(drawn).any(|cell| cell.cell.level.is_some()) {
        return None;
    }
    let ends = results.iter().filter(drawn).flat_map(|cell| {
        let (mean, error) = mean_and_error(cell);
        [mean - error, mean + error]
    });
    let (low, high) =
        ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), end| (low.min(end), high.max(end)));
    let step = tick((high - low).max(0.01));
    let (low, high) = ((low / step).floor() * step, (high / step).floor() * step + step);
    let y = |accuracy: f64| TOP + (high - accuracy) / (high - low) * HEIGHT;
    let levels = &plan.sweep.levels;
    let x = |level: usize, method: usize| {
        // Methods stand a little beside each other, so that error bars do not hide one another.
        let aside = (method as f64 + 0.5) / plan.sweep.methods.len() as f64 - 0.5;
        LEFT + (level as f64 + 0.5 + 0.3 * aside) / levels.len() as f64 * WIDTH
    };
    let height = TOP + BOTTOM + HEIGHT.max(LINE * plan.sweep.methods.len() as f64);
    let width = LEFT + WIDTH + LEGEND;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}: {} (%)</text>\n",
        escaped(&plan.sweep.title),
        metric(plan)
    );
    for number in 0..=((high - low) / step).round() as usize {
        let accuracy = low + number as f64 * step;
        let (at, right) = (y(accuracy), LEFT + WIDTH);
        svg += &format!("<path d=\"M{LEFT},{at:.1}H{right}\" stroke=\"#dddddd\"/>\n");
        svg += &format!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{accuracy:.2}</text>\n",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for (level, about) in levels.iter().enumerate() {
        let (at, below) = (LEFT + (level as f64 + 0.5) / levels.len() as f64 * WIDTH, TOP + HEIGHT + 20.0);
        svg += &format!(
            "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{}</text>\n",
            escaped(&about.name)
        );
    }
    for (method, about) in plan.sweep.methods.iter().enumerate() {
        let (colour, mark) = (COLOURS[method % COLOURS.len()], MARKS[method % MARKS.len()]);
        let draw =
            |d: &str| format!("<path d=\"{d}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n");
        let put = |x: f64, y: f64| {
            format!(
                "<path transform=\"translate({x:.1},{y:.1})\" d=\"{mark}\" fill=\"{colour}\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n"
            )
        };
        let mut line = String::new();
        for cell in results.iter().filter(drawn).filter(|cell| cell.cell.method == method) {
            let (mean, error) = mean_and_error(cell);
            let Some(level) = cell.cell.level else {
                // Without levels it is the same everywhere.
                svg += &draw(&format!("M{LEFT},{:.1}h{WIDTH}", y(mean)));
                continue;
            };
            let at = x(level, method);
            line += &format!("{}{at:.1},{:.1}", if line.is_empty() { 'M' } else { 'L' }, y(mean));
            svg += &draw(&format!("M{at:.1},{:.1}V{:.1}", y(mean - error), y(mean + error)));
            svg += &put(at, y(mean));
        }
        if !line.is_empty() {
            svg += &draw(&line);
        }
        let (left, at) = (LEFT + WIDTH + 20.0, TOP + LINE * (method as f64 + 0.5));
        svg += &draw(&format!("M{},{at:.1}h20", left - 10.0));
        svg += &put(left, at);
        svg +=
            &format!("<text x=\"{}\" y=\"{:.1}\">{}</text>\n", left + 16.0, at + 4.0, escaped(&about.name));
    }
    Some(svg + "</svg>\n")
}

fn mean_and_error(cell: &CellResults) -> (f64, f64) {
    let mean = cell.accuracy.mean().expect("a cell with results");
    (mean, cell.accuracy.standard_error().unwrap_or(0.0))
}

/// A round distance, so that four to ten of them make up `range`.
fn tick(range: f64) -> f64 {
    let power = 10f64.powf((range / 4.0).log10().floor());
    let fits = [5.0, 2.0, 1.0].into_iter().find(|factor| factor * power * 4.0 <= range);
    fits.unwrap_or(1.0) * power
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
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
